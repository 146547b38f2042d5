"""Orders of the loops in time of a level: those a dataflow allows, those a search starts from, and their neighbours."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from simsparse.dataflow._arrays import Ints
from simsparse.dataflow.architecture import Architecture
from simsparse.dataflow.dataflows import Dataflow
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.roles import BATCH, Roles

Dims = tuple[int, ...]  # outermost first
Blocks = tuple[Dims, ...]  # dimensions change places within a block, blocks do not


def blocks_of(problem: Problem, architecture: Architecture, flow: Dataflow, roles: Roles, at: int) -> Blocks:
    """Dimensions that a level loops over in time, in blocks; those of a batch index all tensors and come first."""
    index = {dim: d for d, dim in enumerate(problem.dim_names)}
    level = architecture.levels[at]
    if level.name in flow.loops:
        named = tuple(tuple(index[dim] for dim in roles[role]) for role in flow.loops[level.name])
        rest = tuple(d for d in range(len(index)) if not any(d in block for block in named))
        return (rest, *named) if at == 0 else named
    if level.capacity_words == 0 and at > 0:
        return ()
    batch = tuple(index[dim] for dim in roles[BATCH])
    holding = _holding(architecture)
    if at == holding[-1] and len(holding) > 1:
        allowed = flow.inside or tuple(roles)
        return tuple(tuple(index[dim] for dim in roles[role]) for role in roles if role in allowed)
    others = tuple(d for d in range(len(index)) if d not in batch)
    if flow.stays and len(holding) > 1 and at == holding[-2]:
        return (batch, *_around(problem, flow.stays, others))
    return batch, others


def starts_of(
    problem: Problem, architecture: Architecture, flow: Dataflow, blocks: Blocks, at: int
) -> tuple[Dims, ...]:
    """Orders of a level that differ in the tensor that stays inside.

    A tensor stays while loops over dimensions that do not index it run innermost; where tiles do not overlap and
    formats take loops of all dimensions together, any other order reuses no more.
    """
    holding = _holding(architecture)
    fixed = architecture.levels[at].name in flow.loops or len(blocks) != 2 or (at == holding[-1] and len(holding) > 1)
    if fixed:
        return (tuple(itertools.chain.from_iterable(blocks)),)
    batch, others = blocks
    orders = ((*batch, *itertools.chain.from_iterable(_around(problem, name, others))) for name in problem.names)
    return tuple(dict.fromkeys(orders))


def _around(problem: Problem, name: str, dims: Dims) -> tuple[Dims, Dims]:
    """Dimensions that index a tensor, and those that do not, which run inside."""
    relevant = tuple(d for d in dims if problem.dim_names[d] in problem.tensor(name).dims)
    return relevant, tuple(d for d in dims if d not in relevant)


def _holding(architecture: Architecture) -> list[int]:
    return [i for i, part in enumerate(architecture.levels) if part.capacity_words > 0]


def only_stays_matter(problem: Problem, architecture: Architecture) -> bool:
    """Whether of an order only matters which tensor stays: no tiles overlap, formats take all loops together."""
    halos = any(len(axis) > 1 for tensor in problem.tensors for axis in tensor.axes)
    ranks = (rank for level in architecture.levels for layout in level.formats.values() for rank in layout.ranks)
    return not halos and all(rank.dims for rank in ranks)


def matters(stored: Ints, at: int) -> bool:
    """Whether the order of a level's loops can matter: something is stored inside."""
    return bool(stored[at + 1 :].any())


def arrangements(blocks: Blocks, active: frozenset[int]) -> Iterator[Dims]:
    """All orders of the dimensions that are active; the others stand first in their block."""
    choices = []
    for block in blocks:
        idle = tuple(d for d in block if d not in active)
        choices.append([(*idle, *order) for order in itertools.permutations(d for d in block if d in active)])
    for parts in itertools.product(*choices):
        yield tuple(itertools.chain.from_iterable(parts))


def count_arrangements(blocks: Blocks, active: frozenset[int]) -> int:
    """How many these are."""
    return math.prod(math.factorial(len(active.intersection(block))) for block in blocks)


def moved(order: Dims, blocks: Blocks, active: frozenset[int]) -> Iterator[Dims]:
    """Orders with one active dimension at another place among those of its block."""
    for block in blocks:
        places = [at for at, d in enumerate(order) if d in block and d in active]
        for a, b in itertools.permutations(range(len(places)), 2):
            if b == a + 1:
                continue  # the same as the other way round
            dims = [order[at] for at in places]
            dims.insert(b, dims.pop(a))
            found = list(order)
            for at, d in zip(places, dims, strict=True):
                found[at] = d
            yield tuple(found)
