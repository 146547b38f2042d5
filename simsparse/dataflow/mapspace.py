"""The space of mappings: loop orders that a dataflow allows, and the ways to split each dimension over their loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from simsparse.dataflow._arrays import Floats, Ints, LoopColumn, LoopKind, Stored
from simsparse.dataflow.architecture import ActionKind, Architecture, Compute, Storage
from simsparse.dataflow.dataflows import Dataflow, Spread
from simsparse.dataflow.density import FixedStructured
from simsparse.dataflow.mapping import LevelMapping, Loop, Mapping
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.roles import BATCH, Roles, roles_of

MOST_SPLITS = 20_000  # of one dimension; beyond, those that use little of the array are left out
SMOOTH = (2, 3, 5, 7)


@dataclass(frozen=True, eq=False)
class Order:
    """Loops of a mapping without their factors.

    Attributes
    ----------
    flow : Dataflow
    extents : tuple of int
        Of the dimensions, padded where that fills the array.
    loops : (n, 3) ndarray
        `LoopColumn`.
    stored : (L, T) ndarray
        `Stored`.
    limits : tuple of float
        Largest factor of each loop.
    """

    flow: Dataflow
    extents: tuple[int, ...]
    loops: Ints
    stored: Ints
    limits: tuple[float, ...]

    @cached_property
    def ways(self) -> tuple[Floats, ...]:
        """For each dimension the ways to split it over its loops, shape (loops of the dimension, ways)."""
        return tuple(
            split(extent, tuple(self.limits[i] for i in self.loops_of(d))) for d, extent in enumerate(self.extents)
        )

    def loops_of(self, dim: int) -> tuple[int, ...]:
        """Loops over a dimension."""
        return tuple(int(i) for i in np.flatnonzero(self.loops[:, LoopColumn.DIM] == dim))

    @cached_property
    def splits(self) -> Floats:
        """Factors of each loop under each way to split its dimension, shape (n, ways); padded with 1."""
        table = np.ones((len(self.loops), max(ways.shape[1] for ways in self.ways)))
        for d, ways in enumerate(self.ways):
            table[list(self.loops_of(d)), : ways.shape[1]] = ways
        return table

    @property
    def sizes(self) -> tuple[int, ...]:
        """Ways of each dimension."""
        return tuple(ways.shape[1] for ways in self.ways)

    @property
    def space(self) -> int:
        """Mappings of this order."""
        return math.prod(self.sizes)

    def mapping(self, picks: Ints, problem: Problem, architecture: Architecture) -> Mapping:
        """One mapping, from the way that each dimension takes."""
        factors = [int(self.splits[i, picks[self.loops[i, LoopColumn.DIM]]]) for i in range(len(self.loops))]
        parts = []
        for at, level in enumerate(architecture.levels):
            loops = [
                Loop(problem.dim_names[dim], factor, LoopKind(kind))
                for (where, dim, kind), factor in zip(self.loops.tolist(), factors, strict=True)
                if where == at and factor > 1
            ]
            kept, streamed = (
                tuple(name for t, name in enumerate(problem.names) if self.stored[at, t] == way)
                for way in (Stored.KEPT, Stored.STREAMED)
            )
            temporal = tuple(loop for loop in loops if loop.kind is LoopKind.TEMPORAL)
            spatial = tuple(loop for loop in loops if loop.kind is not LoopKind.TEMPORAL)
            parts.append(LevelMapping(level.name, kept, temporal, spatial, streamed))
        padded = self.extents != tuple(extent for _, extent in problem.dims)
        return Mapping(tuple(parts), imperfect=padded)


@lru_cache(maxsize=4096)
def split(extent: int, limits: tuple[float, ...]) -> Floats:
    """All ways to write an extent as a product of factors, one for each limit and at most that, shape (k, ways)."""
    last = len(limits) - 1

    def ways(rest: int, at: int) -> Iterator[tuple[int, ...]]:
        if at == last:
            if rest <= limits[at]:
                yield (rest,)
            return
        for factor in divisors(rest):
            if factor > limits[at]:
                break
            for tail in ways(rest // factor, at + 1):
                yield (factor, *tail)

    found = np.array(list(ways(extent, 0)), np.float64).reshape(-1, len(limits))
    if len(found) > MOST_SPLITS:
        spread = np.prod(found[:, np.isfinite(limits)], axis=1)
        found = found[np.argsort(-spread, kind="stable")[:MOST_SPLITS]]
    return np.ascontiguousarray(found.T)


@lru_cache(maxsize=65536)
def divisors(number: int) -> tuple[int, ...]:
    """All divisors, ascending."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return (*small, *(number // d for d in reversed(small) if d * d != number))


def orders(problem: Problem, architecture: Architecture, flow: Dataflow, *, padding: bool = True) -> tuple[Order, ...]:
    """The loop orders of a dataflow that differ in what they reuse."""
    roles = roles_of(problem)
    stored = _stored(problem, architecture, flow)
    in_time = [_orders_in_time(problem, architecture, flow, roles, at) for at in range(len(architecture.levels))]
    all_times = list(itertools.product(*in_time))
    found = []
    for spreads in itertools.product(*(_spreads(architecture, flow, at) for at in range(len(architecture.levels)))):
        fans = [_fan(problem, architecture, spread, roles, at) for at, spread in enumerate(spreads)]
        rooms = _rooms(problem, fans)
        plain = tuple(extent for _, extent in problem.dims)
        grown = tuple(_padded(extent, rooms[d]) for d, extent in enumerate(plain))
        for extents, times in itertools.product(dict.fromkeys((plain, grown if padding else plain)), all_times):
            rows, limits = [], []
            for at, (dims_in_time, fan) in enumerate(zip(times, fans, strict=True)):
                rows += [(at, d, 0) for d in dims_in_time] + [(at, d, kind) for d, kind, _ in fan]
                limits += [math.inf] * len(dims_in_time) + [most for _, _, most in fan]
            found.append(Order(flow, extents, np.array(rows, np.int64), stored, tuple(limits)))
    return tuple(found)


def _stored(problem: Problem, architecture: Architecture, flow: Dataflow) -> Ints:
    stored = np.zeros((len(architecture.levels), len(problem.names)), np.int64)
    for at, level in enumerate(architecture.levels):
        keep = flow.keeps.get(level.name, problem.names if level.capacity_words > 0 else ())
        for t, name in enumerate(problem.names):
            if name in keep:
                stored[at, t] = Stored.KEPT
            elif name in flow.streams.get(level.name, ()):
                stored[at, t] = Stored.STREAMED
    return stored


def _orders_in_time(
    problem: Problem, architecture: Architecture, flow: Dataflow, roles: Roles, at: int
) -> tuple[tuple[int, ...], ...]:
    """Orders of the dimensions at a level, outermost first, that differ in the tensor that stays inside.

    A tensor stays while loops over dimensions that do not index it run innermost; any other order reuses no more.
    """
    index = {dim: d for d, dim in enumerate(problem.dim_names)}
    level = architecture.levels[at]
    holding = [i for i, part in enumerate(architecture.levels) if part.capacity_words > 0]
    if level.name in flow.loops:
        named = [index[dim] for role in flow.loops[level.name] for dim in roles[role]]
        rest = [d for d in range(len(index)) if d not in named]
        return ((*rest, *named),) if at == 0 else (tuple(named),)
    if level.capacity_words == 0 and at > 0:
        return ((),)
    if at == holding[-1] and len(holding) > 1:
        allowed = flow.inside or tuple(roles)
        return (tuple(index[dim] for role in roles if role in allowed for dim in roles[role]),)
    feeds = len(holding) > 1 and at == holding[-2]
    names = (flow.stays,) if flow.stays and feeds else problem.names
    batch = [index[dim] for dim in roles[BATCH]]
    found: dict[tuple[int, ...], None] = {}
    for name in names:
        relevant = [index[dim] for dim in problem.dim_names if dim in problem.tensor(name).dims]
        outer = [d for d in relevant if d not in batch]
        inner = [d for d in range(len(index)) if d not in relevant and d not in batch]
        found[(*batch, *outer, *inner)] = None
    return tuple(found)


def _spreads(architecture: Architecture, flow: Dataflow, at: int) -> tuple[Spread, ...]:
    """Ways to lay roles along the axes of the fan-out inside a level."""
    level = architecture.levels[at]
    if level.name in flow.fans:
        return (flow.fans[level.name],)
    axes = [axis for axis in (LoopKind.X, LoopKind.Y) if _room(architecture, at, axis) > 1]
    if not axes:
        return ((),)
    if flow.spread:
        cut = {tuple(part for part in spread if part[1] in axes): None for spread in flow.spread}
        return tuple(cut)
    return tuple(
        tuple(zip(chosen, axes, strict=True)) for chosen in itertools.product(("M", "N", "K"), repeat=len(axes))
    )


def _room(architecture: Architecture, at: int, axis: LoopKind) -> int:
    """Instances along an axis for each instance outside."""
    parts: tuple[Storage | Compute, ...] = (*architecture.levels, architecture.compute)
    if axis is LoopKind.X:
        return parts[at + 1].mesh_x // parts[at].mesh_x
    return parts[at + 1].mesh_y // parts[at].mesh_y


def _fan(
    problem: Problem, architecture: Architecture, spread: Spread, roles: Roles, at: int
) -> list[tuple[int, LoopKind, float]]:
    """Loops over a fan-out: the longest dimension of each role, axis, and the largest factor."""
    extents = dict(problem.dims)
    return [
        (
            problem.dim_names.index(max(roles[role], key=lambda dim: extents[dim])),
            axis,
            _room(architecture, at, axis) * _stretch(problem, architecture, at, role),
        )
        for role, axis in spread
        if roles[role]
    ]


def _stretch(problem: Problem, architecture: Architecture, at: int, role: str) -> float:
    """How many positions an instance stands for, where instances over zeros of a structured A are left out."""
    density = problem.tensor(problem.names[0]).density
    skips = any(action.kind is ActionKind.SPATIAL_SKIPPING for action in architecture.levels[at].actions)
    return 1.0 / density.mean if skips and role == "K" and isinstance(density, FixedStructured) else 1.0


def _rooms(problem: Problem, fans: list[list[tuple[int, LoopKind, float]]]) -> list[int]:
    rooms = [1] * len(problem.dims)
    for d, _, most in itertools.chain.from_iterable(fans):
        rooms[d] *= int(most + 1e-9)
    return rooms


def _padded(extent: int, room: int) -> int:
    """The extent, or a little more that fills the instances along it and can be split further."""
    if extent <= room:
        return extent
    rounds = -(-extent // room)
    if extent % room == 0 and _smooth(rounds):
        return extent
    padded = next(n for n in itertools.count(rounds) if _smooth(n))
    return padded * room if padded * room <= extent * 1.1 or rounds * room == extent else rounds * room


@lru_cache(maxsize=65536)
def _smooth(number: int) -> bool:
    for prime in SMOOTH:
        while number % prime == 0:
            number //= prime
    return number < 64
