"""Which ops of a workload one kernel may cover: the sites that lowering finds kernels for.

Two fusions exist in real libraries and are offered here: an elementwise chain inside the kernel that makes its input
(epilogue), and score, softmax and value of one attention (flash attention). A machine says which of them it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simsparse.ops import Contraction, ContractionKind, Op, Stream, StreamKind, Tensor
from simsparse.plan import Floats
from simsparse.problems import attention_problem, problem_of, with_epilogue
from simsparse.workload import Phase, Workload


@dataclass(frozen=True)
class Site:
    """Ops that one kernel call covers, and the problem they pose."""

    ops: tuple[Op, ...]
    problem: Floats


@dataclass(frozen=True)
class Fusions:
    """What a machine's kernels can fuse: streams of some `kinds` into contractions of some, the ops of an attention."""

    epilogue: bool = False
    attention: bool = False
    kinds: frozenset[StreamKind] = frozenset(StreamKind)
    contractions: frozenset[ContractionKind] = frozenset(ContractionKind)


# The ops that read a tensor, by its name.
Readers = dict[str, list[Op]]
# The ways to cover a stretch of ops: each way is a list of sites, and lowering takes the fastest.
Ways = tuple[tuple[Site, ...], ...]


def cover(workload: Workload, fusions: Fusions) -> list[Ways]:
    """Cut a workload into stretches, each with the ways in which kernels may cover it, in order of execution."""
    training = workload.phase is Phase.TRAIN
    readers: Readers = {}
    for op in workload.ops:
        for name in {t.name for t in op.inputs}:
            readers.setdefault(name, []).append(op)
    stretches: list[Ways] = []
    index = 0
    while index < len(workload.ops):
        found = _attention(workload.ops, index, training) if fusions.attention else None
        if found is not None:
            ops, problem = found
            taken = len(ops)
            apart = tuple(Site((op,), problem_of(op, training=training)) for op in ops)
            stretches.append(((Site(ops, problem),), apart))
        else:
            taken = _chain(workload.ops, index, fusions) if fusions.epilogue else 1
            stretches.append(((_fused(workload.ops[index : index + taken], readers, training),),))
        index += taken
    return stretches


def _attention(ops: Sequence[Op], index: int, training: bool) -> tuple[tuple[Op, ...], Floats] | None:
    """The attention that starts at `index`, forward or backward, with its problem; None if none starts there."""
    first = ops[index]
    if not isinstance(first, Contraction) or first.kind not in (ContractionKind.SCORE, ContractionKind.VALUE):
        return None
    # The backward pass starts with the gradient of the values and makes those of scores, keys and queries.
    products = 2 if first.kind is ContractionKind.SCORE else 4
    taken: list[Op] = []
    found: list[Contraction] = []
    for op in ops[index : index + 3 * products]:
        if op.layers != first.layers:
            return None
        taken.append(op)
        if isinstance(op, Contraction):
            found.append(op)
        if len(found) == products:
            break
    kinds = [op.kind for op in found]
    score, value = ContractionKind.SCORE, ContractionKind.VALUE
    if kinds == [score, value]:
        return tuple(taken), attention_problem(found[0], found[1], training=training)
    if kinds == [value, score, value, value]:
        return tuple(taken), attention_problem(found[1], found[2], training=training)
    return None


def _chain(ops: Sequence[Op], index: int, fusions: Fusions) -> int:
    """How many ops from `index` on are one kernel: the op and the epilogue streams of some kinds on its output."""
    head = ops[index]
    if not isinstance(head, (Contraction, Stream)) or not head.outputs:
        return 1
    if isinstance(head, Contraction) and head.kind not in fusions.contractions:
        return 1
    made, end = {t.name for t in head.outputs}, index + 1
    while end < len(ops):
        op = ops[end]
        if not (isinstance(op, Stream) and op.epilogue and op.kind in fusions.kinds and op.layers == head.layers):
            break
        if not any(t.name in made for t in op.reads):
            break
        made.update(t.name for t in op.writes)
        end += 1
    return end - index


def _fused(ops: Sequence[Op], readers: Readers, training: bool) -> Site:
    row = problem_of(ops[0], training=training)
    if len(ops) > 1:
        streams = [op for op in ops[1:] if isinstance(op, Stream)]
        inside = {t.name for op in streams for t in op.reads}
        kept = frozenset(name for name in inside if any(_reads_too(op, ops) for op in readers[name]))
        row = with_epilogue(row, streams, _produced(ops[0]), kept)
    return Site(tuple(ops), row)


def _reads_too(reader: Op, chain: Sequence[Op]) -> bool:
    """Whether a reader of a chain's tensor stands outside of it, in a layer that the chain runs in."""
    if any(reader is op for op in chain):
        return False
    layers = chain[0].layers
    return not layers or not reader.layers or reader.layers == layers or not set(layers).isdisjoint(reader.layers)


def _produced(op: Op) -> Tensor:
    return op.outputs[0]


def problems(sites: Sequence[Site]) -> Floats:
    """Their problem rows, shape (len(sites), PROBLEM_WIDTH)."""
    return np.stack([site.problem for site in sites])
