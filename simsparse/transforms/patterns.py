"""Transforms: functions from Workload to Workload. Each leaves a line in `Workload.transforms`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import translate
from itertools import takewhile

from simsparse.errors import UnknownNameError
from simsparse.ops import Contraction, ContractionKind, Op, Role, Stream, Tensor
from simsparse.sparsity import AttentionBlock, AttentionToken, Pattern, parse
from simsparse.workload import Weight, Workload

# From the name of a tensor (layer index filled in) and of the op that reads it to the pattern it gets; None keeps it.
Choice = Callable[[str, str], Pattern | None]
_ON_SCORES = (AttentionBlock, AttentionToken)


def with_sparsity(
    workload: Workload, patterns: Mapping[str, str | Pattern], *, backward: bool = True, seed: int = 0
) -> Workload:
    """Put patterns on the tensors that globs name.

    Parameters
    ----------
    patterns : mapping of glob to pattern
        A glob matches names of ops or of their weights (`*.mlp.*`, `layers.0.*`, `lm_head`). Later globs win. Attention
        patterns go on the scores of the attention ops they match, all others on weights.
    backward : bool
        Whether the transposed weight of an input-gradient product follows N:M as well, as bidirectional (BDWP) and
        transposable masks do; otherwise it keeps what transposing leaves, often just a density.
    seed : int
        Kept for patterns that sample; part of the record.

    Raises
    ------
    UnknownNameError
        If a glob matches nothing that can take its pattern, with near names.
    """
    rules = [(glob, re.compile(translate(glob)), parse(pattern)) for glob, pattern in patterns.items()]
    for glob, compiled, pattern in rules:
        if not any(_matches(compiled, *names) for names in _targets(workload, pattern)):
            known = sorted({op for op, _ in _targets(workload, pattern)})
            raise UnknownNameError.near(f"op that takes {pattern.text}", glob, known)

    def choose(tensor_name: str, op_name: str, on_scores: bool) -> Pattern | None:
        chosen = None
        for _, compiled, pattern in rules:
            if isinstance(pattern, _ON_SCORES) == on_scores and _matches(compiled, op_name, tensor_name):
                chosen = pattern
        return chosen

    changed = _put(workload, choose, backward)
    how = ", ".join(f"{glob}={parse(pattern).text}" for glob, pattern in patterns.items())
    return changed.transformed(f"sparsity {how}" + (f" (seed {seed})" if seed else ""))


def put_patterns(workload: Workload, choose: Choice, how: str, *, backward: bool = True) -> Workload:
    """Put on each weight the pattern `choose(tensor name, op name)` answers, splitting layers that now differ."""

    def on_weights(tensor_name: str, op_name: str, on_scores: bool) -> Pattern | None:
        return None if on_scores else choose(tensor_name, op_name)

    return _put(workload, on_weights, backward).transformed(how)


def _put(workload: Workload, choose: Callable[[str, str, bool], Pattern | None], backward: bool) -> Workload:
    ops: list[Op] = []
    index = 0
    while index < len(workload.ops):
        op = workload.ops[index]
        parts = list(_split(op, choose, backward)) if isinstance(op, Contraction) else [op]
        followers = _followers(workload.ops, index) if len(parts) > 1 else ()
        for part in parts:
            ops.append(part)
            for follower in (replace(f, layers=part.layers) for f in followers):
                ops.extend(_split(follower, choose, backward) if isinstance(follower, Contraction) else [follower])
        index += 1 + len(followers)
    weights = [part for weight in workload.weights for part in _split_weight(weight, choose)]
    return replace(workload, ops=tuple(ops), weights=tuple(weights))


def _followers(ops: Sequence[Op], index: int) -> Sequence[Op]:
    """What a kernel may fuse to the op at `index`, and so has to be split with it: its epilogue, or its attention."""
    head = ops[index]
    following = list(takewhile(lambda op: op.layers == head.layers, ops[index + 1 :]))
    if isinstance(head, Contraction) and head.kind is ContractionKind.SCORE:
        for end, op in enumerate(following):
            if isinstance(op, Contraction):
                return following[: end + 1] if op.kind is ContractionKind.VALUE else ()
        return ()
    return list(takewhile(lambda op: isinstance(op, Stream) and op.epilogue, following))


def _split(op: Contraction, choose: Callable[[str, str, bool], Pattern | None], backward: bool) -> Iterator[Op]:
    """The op once for each pattern its layers get."""
    target = _target(op)
    if target is None:
        yield op
        return
    by_pattern: dict[Pattern, list[int]] = {}
    for layer, op_name in op.instances():
        tensor_name = _filled(target.name, layer) if op.layers else target.name
        pattern = choose(tensor_name, _forward_name(op_name), target.role is Role.SCORE)
        if pattern is None:
            pattern = target.pattern
        elif target.transposed and not backward:
            pattern = pattern.transposed()
        by_pattern.setdefault(pattern, []).append(layer)
    for pattern, layers in by_pattern.items():
        part = op if len(by_pattern) == 1 else replace(op, layers=tuple(layers))
        yield _with_pattern(part, target, pattern)


def _split_weight(weight: Weight, choose: Callable[[str, str, bool], Pattern | None]) -> Iterator[Weight]:
    """The stored tensor once for each pattern its layers get."""
    by_pattern: dict[Pattern, list[int]] = {}
    owner = weight.tensor.name.rpartition(".")[0]
    if not weight.tensor.name.endswith(".weight") or len(weight.tensor.shape) < 2:
        yield weight
        return
    for layer in weight.layers or (0,):
        name, op = (_filled(text, layer) if weight.layers else text for text in (weight.tensor.name, owner))
        pattern = choose(name, op, False) or weight.tensor.pattern
        by_pattern.setdefault(pattern, []).append(layer)
    for pattern, layers in by_pattern.items():
        kept = weight.layers if len(by_pattern) == 1 else tuple(layers)
        yield Weight(replace(weight.tensor, pattern=pattern), kept)


def _target(op: Contraction) -> Tensor | None:
    """The tensor of an op that a pattern may go on: its weight, or the scores of an attention product."""
    if op.kind is ContractionKind.SCORE:
        return op.out
    if op.kind is ContractionKind.VALUE:
        return op.b
    return op.weight


def _with_pattern(op: Contraction, target: Tensor, pattern: Pattern) -> Contraction:
    if target.pattern == pattern:
        return op
    tensor = replace(target, pattern=pattern)
    names = [label for label in ("a", "b", "out") if getattr(op, label) is target]
    return op.with_tensors(**dict.fromkeys(names, tensor))


def _targets(workload: Workload, pattern: Pattern) -> Iterable[tuple[str, str]]:
    """Op and tensor names, with and without layer index, of everything that could take the pattern."""
    on_scores = isinstance(pattern, _ON_SCORES)
    for op in workload.contractions():
        target = _target(op)
        if target is None or (target.role is Role.SCORE) != on_scores:
            continue
        yield op.name, target.name
        if op.layers:
            yield from ((_forward_name(name), _filled(target.name, layer)) for layer, name in op.instances())


def _matches(compiled: re.Pattern[str], *names: str) -> bool:
    return any(compiled.match(name) for name in names)


def _filled(name: str, layer: int) -> str:
    return name.replace("*", str(layer), 1)


def _forward_name(op_name: str) -> str:
    """A training product answers to the name of its forward op."""
    return op_name.removesuffix(".grad_input").removesuffix(".grad_weight")
