"""The space of mappings of a dataflow: what levels hold, how the array is spread, orders of loops, ways to split."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from simsparse.dataflow._arrays import Floats, Ints, LoopColumn, LoopKind, Stored
from simsparse.dataflow.architecture import Architecture
from simsparse.dataflow.dataflows import Dataflow
from simsparse.dataflow.fanout import fans, spreads
from simsparse.dataflow.frames import Frame, frame_of
from simsparse.dataflow.loop_orders import (
    Blocks,
    Dims,
    arrangements,
    blocks_of,
    count_arrangements,
    matters,
    moved,
    only_stays_matter,
    starts_of,
)
from simsparse.dataflow.mapping import LevelMapping, Loop, Mapping
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.roles import roles_of

Times = tuple[Dims, ...]  # dimensions that each level loops over in time
MOST_ARRANGED = 24  # orders of a level that are all tried at once


@dataclass(frozen=True, eq=False)
class Order:
    """Loops of a mapping without their factors.

    Attributes
    ----------
    frame : Frame
    times : tuple of tuple of int
        Dimensions that each level loops over in time, outermost first.
    stored : (L, T) ndarray
        `Stored`.
    """

    frame: Frame
    times: Times
    stored: Ints

    @property
    def flow(self) -> Dataflow:
        """The dataflow it belongs to."""
        return self.frame.flow

    @property
    def sizes(self) -> tuple[int, ...]:
        """Ways of each dimension."""
        return self.frame.sizes

    @cached_property
    def _rows(self) -> Ints:
        """`LoopColumn` of each loop and its row in the table of the frame, outermost loop first, shape (n, 4)."""
        rows = []
        for at, dims in enumerate(self.times):
            in_time = ((d, place) for d in dims for place, loop in enumerate(self.frame.loops[d]) if loop == (at, 0))
            across = ((d, place) for d, place in self.frame.fans if self.frame.loops[d][place][0] == at)
            for d, place in (*in_time, *across):
                rows.append((at, d, int(self.frame.loops[d][place][1]), self.frame.firsts[d] + place))
        return np.array(rows, np.int64).reshape(-1, 4)

    @cached_property
    def loops(self) -> Ints:
        """`LoopColumn`, shape (n, 3)."""
        return np.ascontiguousarray(self._rows[:, :3])

    @property
    def splits(self) -> Floats:
        """Factors of each loop under each way to split its dimension, shape (n, ways); padded with 1."""
        return self.frame.table[self._rows[:, 3]]

    def factors(self, picks: Ints) -> Floats:
        """Factors of the loops of mappings, shape (n, m)."""
        return self.frame.table[self._rows[:, 3:], picks[self._rows[:, 1]]]

    def mapping(self, picks: Ints, problem: Problem, architecture: Architecture) -> Mapping:
        """One mapping, from the way that each dimension takes."""
        factors = self.factors(picks[:, np.newaxis])[:, 0].astype(int).tolist()
        parts = []
        for at, level in enumerate(architecture.levels):
            loops = [
                Loop(problem.dim_names[dim], factor, LoopKind(kind))
                for (where, dim, kind, _), factor in zip(self._rows.tolist(), factors, strict=True)
                if where == at and factor > 1
            ]
            kept, streamed = (
                tuple(name for t, name in enumerate(problem.names) if self.stored[at, t] == way)
                for way in (Stored.KEPT, Stored.STREAMED)
            )
            temporal = tuple(loop for loop in loops if loop.kind is LoopKind.TEMPORAL)
            spatial = tuple(loop for loop in loops if loop.kind is not LoopKind.TEMPORAL)
            parts.append(LevelMapping(level.name, kept, temporal, spatial, streamed))
        padded = any(
            ways.totals[way] != extent
            for ways, way, (_, extent) in zip(self.frame.ways, picks, problem.dims, strict=False)
        )
        return Mapping(tuple(parts), imperfect=padded)


@dataclass(frozen=True, eq=False)
class Space:
    """All mappings of one dataflow.

    Attributes
    ----------
    blocks : tuple
        For each level the dimensions it loops over in time, in blocks whose order is fixed.
    frames : tuple of Frame
    holdings : tuple of (L, T) ndarray
        What levels may store, the architecture's own choice first.
    """

    problem: Problem
    architecture: Architecture
    flow: Dataflow
    blocks: tuple[Blocks, ...]
    frames: tuple[Frame, ...]
    holdings: tuple[Ints, ...]
    _met: dict[tuple[int, Times, int], Order] = field(default_factory=dict, repr=False)

    def order(self, frame: Frame, times: Times, stored: Ints) -> Order:
        """The order of loops, made once."""
        key = id(frame), times, id(stored)
        if key not in self._met:
            self._met[key] = Order(frame, times, stored)
        return self._met[key]

    @cached_property
    def _starts(self) -> tuple[tuple[Dims, ...], ...]:
        return tuple(
            starts_of(self.problem, self.architecture, self.flow, blocks, at) for at, blocks in enumerate(self.blocks)
        )

    @cached_property
    def _long(self) -> frozenset[int]:
        return frozenset(d for d, (_, extent) in enumerate(self.problem.dims) if extent > 1)

    @cached_property
    def _stays_suffice(self) -> bool:
        return only_stays_matter(self.problem, self.architecture)

    def _orders_matter(self, stored: Ints, at: int) -> bool:
        """Whether orders of a level differ in more than the tensor that stays."""
        return not self._stays_suffice and matters(stored, at)

    def starts(self) -> Iterator[Order]:
        """Orders that differ in the tensor that stays inside each level."""
        for frame, stored, times in itertools.product(self.frames, self.holdings, itertools.product(*self._starts)):
            yield self.order(frame, times, stored)

    @property
    def size(self) -> int:
        """Mappings in all."""
        orders = 0
        for stored in self.holdings:
            orders += math.prod(
                count_arrangements(blocks, self._long) if self._orders_matter(stored, at) else len(self._starts[at])
                for at, blocks in enumerate(self.blocks)
            )
        return orders * sum(frame.space for frame in self.frames)

    def every(self) -> Iterator[Order]:
        """All orders that differ in anything."""
        for stored in self.holdings:
            levels = (
                tuple(arrangements(blocks, self._long)) if self._orders_matter(stored, at) else self._starts[at]
                for at, blocks in enumerate(self.blocks)
            )
            for frame, times in itertools.product(self.frames, list(itertools.product(*levels))):
                yield Order(frame, times, stored)

    def siblings(self, order: Order, picks: Ints) -> tuple[Order, ...]:
        """Orders that differ from one in the loops of a level, or in what is stored; the array is spread alike."""
        running = order.factors(picks[:, np.newaxis])[:, 0] > 1
        running &= order.loops[:, LoopColumn.KIND] == LoopKind.TEMPORAL
        found = []
        for at, blocks in enumerate(self.blocks):
            if not matters(order.stored, at):
                continue
            active = frozenset(order.loops[running & (order.loops[:, LoopColumn.LEVEL] == at), LoopColumn.DIM].tolist())
            met = {tuple(d for d in order.times[at] if d in active)}
            for dims in self._others(order.times[at], blocks, active, at):
                run = tuple(d for d in dims if d in active)
                if run not in met:
                    met.add(run)
                    times = (*order.times[:at], dims, *order.times[at + 1 :])
                    found.append(self.order(order.frame, times, order.stored))
        others = (stored for stored in self.holdings if stored is not order.stored)
        return (*found, *(self.order(order.frame, order.times, stored) for stored in others))

    def _others(self, dims: Dims, blocks: Blocks, active: frozenset[int], at: int) -> Iterable[Dims]:
        """Orders of a level to try beside one."""
        if self._stays_suffice:
            return self._starts[at]
        if count_arrangements(blocks, active) <= MOST_ARRANGED:
            return arrangements(blocks, active)
        return moved(dims, blocks, active)


def space_of(problem: Problem, architecture: Architecture, flow: Dataflow, *, padding: bool = True) -> Space:
    """The mappings of a problem that follow a dataflow."""
    roles = roles_of(problem)
    levels = range(len(architecture.levels))
    blocks = tuple(blocks_of(problem, architecture, flow, roles, at) for at in levels)
    frames = []
    for chosen in itertools.product(*(spreads(architecture, flow, at) for at in levels)):
        loops = [fan for at, spread in enumerate(chosen) for fan in fans(problem, architecture, spread, roles, at)]
        frames.append(frame_of(problem, flow, blocks, tuple(loops), padding))
    return Space(problem, architecture, flow, blocks, tuple(frames), _holdings(problem, architecture))


def orders(problem: Problem, architecture: Architecture, flow: Dataflow, *, padding: bool = True) -> tuple[Order, ...]:
    """The loop orders that a search of a dataflow starts from."""
    return tuple(space_of(problem, architecture, flow, padding=padding).starts())


def _holdings(problem: Problem, architecture: Architecture) -> tuple[Ints, ...]:
    """What levels may store, all that they keep first."""
    levels, names = architecture.levels, problem.names
    stored = np.zeros((len(levels), len(names)), np.int64)
    free = []
    for at, level in enumerate(levels):
        for name in level.streams:
            stored[at, names.index(name)] = Stored.STREAMED
        for name in level.keeps(names):
            stored[at, names.index(name)] = Stored.KEPT
        free += [(at, names.index(name)) for name in level.may_bypass]
    found = []
    for bypassed in itertools.chain.from_iterable(itertools.combinations(free, n) for n in range(len(free) + 1)):
        choice = stored.copy()
        for at, t in bypassed:
            choice[at, t] = Stored.BYPASSED
        idle = [at for at, level in enumerate(levels) if level.capacity_words > 0 and not choice[at].any()]
        if not bypassed or (not idle and bool((choice == Stored.KEPT).any(axis=0).all())):
            found.append(choice)
    return tuple(found)
