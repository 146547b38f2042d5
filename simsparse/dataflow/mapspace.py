"""The space of mappings of a dataflow: what levels hold, how the array is spread, orders of loops, ways to split."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simsparse.dataflow._arrays import Floats, Ints, LoopKind, Stored
from simsparse.dataflow.architecture import Architecture
from simsparse.dataflow.dataflows import Dataflow
from simsparse.dataflow.fanout import Fan, fans, shared, spreads
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
from simsparse.dataflow.splits import padded_splits, split

Times = tuple[Dims, ...]  # dimensions that each level loops over in time
MOST_ARRANGED = 24  # orders of a level that are all tried at once


@dataclass(frozen=True, eq=False)
class Frame:
    """A way to spread the array: which loops there are, whatever their order in time, and how to split over them.

    Attributes
    ----------
    flow : Dataflow
    loops : tuple of tuple of (level, kind)
        Of each dimension, outermost first; none of a dimension of extent 1.
    fans : tuple of (dimension, place among its loops)
        Loops over the mesh, as the dataflow names them.
    shared : tuple of (loops, limit)
        Loops, as (dimension, place among its loops), whose factors multiply to at most a limit.
    ways : tuple of ndarray
        For each dimension the ways to split it, shape (its loops, ways).
    totals : tuple of ndarray
        What the factors of each way multiply to: the extent, or more.
    """

    flow: Dataflow
    loops: tuple[tuple[tuple[int, LoopKind], ...], ...]
    fans: tuple[tuple[int, int], ...]
    shared: tuple[tuple[tuple[tuple[int, int], ...], float], ...]
    ways: tuple[Floats, ...]
    totals: tuple[Ints, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Ways of each dimension."""
        return tuple(len(totals) for totals in self.totals)

    @property
    def space(self) -> int:
        """Mappings of one order."""
        return math.prod(self.sizes)

    def fits(self, picks: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Whether loops that share an axis of the mesh have room on it, by mapping."""
        found = np.ones(picks.shape[1], np.bool_)
        for members, limit in self.shared:
            product = np.ones(picks.shape[1])
            for d, place in members:
                product *= self.ways[d][place, picks[d]]
            found &= product <= limit * (1.0 + 1e-9)
        return found

    @cached_property
    def _variants(self) -> tuple[tuple[int, Ints], ...]:
        """Dimensions that may be padded, with the number of the total of each way."""
        numbered = [np.unique(totals, return_inverse=True) for totals in self.totals]
        return tuple((d, which) for d, (values, which) in enumerate(numbered) if len(values) > 1)

    def by_extents(self, picks: Ints) -> Iterator[tuple[tuple[int, ...], Ints]]:
        """Extents after padding, and the mappings that have them."""
        if not self._variants:
            yield tuple(int(totals[0]) for totals in self.totals), np.arange(picks.shape[1])
            return
        code = np.zeros(picks.shape[1], np.int64)
        for d, which in self._variants:
            code = code * (1 + which.max()) + which[picks[d]]
        _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
        groups = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
        for at, group in zip(first, groups, strict=True):
            yield tuple(int(totals[picks[d, at]]) for d, totals in enumerate(self.totals)), group

    def filled(self, first: int | None = None) -> Ints:
        """Picks that fill the array and leave the rest of every dimension to the outermost loop, shape (D,).

        The longest dimensions come first, or before them the one that is named.
        """
        picks = np.zeros(len(self.ways), np.int64)
        longest = sorted(range(len(self.ways)), key=lambda d: (d != first, -int(self.totals[d].min()), d))
        used: dict[int, float] = dict.fromkeys(range(len(self.shared)), 1.0)
        for d in longest:
            ways, loops = self.ways[d], self.loops[d]
            if not loops:
                continue
            inner = [place for place, (_, kind) in enumerate(loops) if place and kind is LoopKind.TEMPORAL]
            usable = np.all(ways[inner] == 1.0, axis=0)
            for index, (members, limit) in enumerate(self.shared):
                own = [place for e, place in members if e == d]
                usable &= used[index] * np.prod(ways[own], axis=0) <= limit * (1.0 + 1e-9)
            chosen = np.lexsort((self.totals[d], ways[0], ~usable))[0]
            picks[d] = chosen
            for index, (members, _) in enumerate(self.shared):
                used[index] *= float(np.prod([ways[place, chosen] for e, place in members if e == d]))
        return picks

    @property
    def sharing(self) -> tuple[int, ...]:
        """Dimensions that share an axis of the mesh with others."""
        return tuple(sorted({d for members, _ in self.shared for d, _ in members}))


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
    def _rows(self) -> tuple[tuple[int, int, int, int], ...]:
        """Level, dimension, kind and place among the loops of the dimension of each loop, outermost first."""
        rows = []
        for at, dims in enumerate(self.times):
            in_time = ((d, place) for d in dims for place, loop in enumerate(self.frame.loops[d]) if loop == (at, 0))
            across = ((d, place) for d, place in self.frame.fans if self.frame.loops[d][place][0] == at)
            rows += [(at, d, int(self.frame.loops[d][place][1]), place) for d, place in (*in_time, *across)]
        return tuple(rows)

    @cached_property
    def loops(self) -> Ints:
        """`LoopColumn`, shape (n, 3)."""
        return np.array([row[:3] for row in self._rows], np.int64).reshape(-1, 3)

    @cached_property
    def splits(self) -> Floats:
        """Factors of each loop under each way to split its dimension, shape (n, ways); padded with 1."""
        table = np.ones((len(self._rows), max(self.sizes)))
        for i, (_, d, _, place) in enumerate(self._rows):
            table[i, : self.sizes[d]] = self.frame.ways[d][place]
        return table

    def factors(self, picks: Ints) -> Floats:
        """Factors of the loops of one mapping, shape (n,)."""
        return np.array([self.frame.ways[d][place, picks[d]] for _, d, _, place in self._rows])

    def mapping(self, picks: Ints, problem: Problem, architecture: Architecture) -> Mapping:
        """One mapping, from the way that each dimension takes."""
        factors = self.factors(picks).astype(int).tolist()
        parts = []
        for at, level in enumerate(architecture.levels):
            loops = [
                Loop(problem.dim_names[dim], factor, LoopKind(kind))
                for (where, dim, kind, _), factor in zip(self._rows, factors, strict=True)
                if where == at and factor > 1
            ]
            kept, streamed = (
                tuple(name for t, name in enumerate(problem.names) if self.stored[at, t] == way)
                for way in (Stored.KEPT, Stored.STREAMED)
            )
            temporal = tuple(loop for loop in loops if loop.kind is LoopKind.TEMPORAL)
            spatial = tuple(loop for loop in loops if loop.kind is not LoopKind.TEMPORAL)
            parts.append(LevelMapping(level.name, kept, temporal, spatial, streamed))
        padded = any(totals[way] != extent for totals, way, (_, extent) in zip(
            self.frame.totals, picks, problem.dims, strict=False))  # fmt: skip
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
            yield Order(frame, times, stored)

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

    def siblings(self, order: Order, picks: Ints) -> Iterator[Order]:
        """Orders that differ from one in the loops of a level, or in what is stored; the array is spread alike."""
        factors = order.factors(picks)
        for at, blocks in enumerate(self.blocks):
            if not matters(order.stored, at):
                continue
            rows = zip(order.loops.tolist(), factors, strict=True)
            active = frozenset(d for (level, d, kind), factor in rows if level == at and not kind and factor > 1)
            if self._stays_suffice:
                others: Iterable[Dims] = self._starts[at]
            elif count_arrangements(blocks, active) <= MOST_ARRANGED:
                others = arrangements(blocks, active)
            else:
                others = moved(order.times[at], blocks, active)
            for dims in others:
                if dims == order.times[at]:
                    continue
                yield Order(order.frame, (*order.times[:at], dims, *order.times[at + 1 :]), order.stored)
        for stored in self.holdings:
            if stored is not order.stored:
                yield Order(order.frame, order.times, stored)


def space_of(problem: Problem, architecture: Architecture, flow: Dataflow, *, padding: bool = True) -> Space:
    """The mappings of a problem that follow a dataflow."""
    roles = roles_of(problem)
    levels = range(len(architecture.levels))
    blocks = tuple(blocks_of(problem, architecture, flow, roles, at) for at in levels)
    frames = []
    for chosen in itertools.product(*(spreads(architecture, flow, at) for at in levels)):
        loops = [fan for at, spread in enumerate(chosen) for fan in fans(problem, architecture, spread, roles, at)]
        frames.append(_frame(problem, flow, blocks, tuple(loops), padding))
    return Space(problem, architecture, flow, blocks, tuple(frames), _holdings(problem, architecture))


def orders(problem: Problem, architecture: Architecture, flow: Dataflow, *, padding: bool = True) -> tuple[Order, ...]:
    """The loop orders that a search of a dataflow starts from."""
    return tuple(space_of(problem, architecture, flow, padding=padding).starts())


def _frame(
    problem: Problem, flow: Dataflow, blocks: tuple[Blocks, ...], spread: tuple[Fan, ...], padding: bool
) -> Frame:
    loops, ways, totals = [], [], []
    place: dict[Fan, tuple[int, int]] = {}
    for d, (_, extent) in enumerate(problem.dims):
        own: list[tuple[int, LoopKind]] = []
        limits = []
        for at, level in enumerate(blocks) if extent > 1 else ():
            if any(d in block for block in level):
                own.append((at, LoopKind.TEMPORAL))
                limits.append(math.inf)
            for fan in spread:
                if fan.level == at and fan.dim == d:
                    place[fan] = (d, len(own))
                    own.append((at, fan.axis))
                    limits.append(fan.limit)
        loops.append(tuple(own))
        if padding and len(own) > 1:
            found = padded_splits(extent, tuple(limits), _rooms(problem, spread, d))
        else:
            exact = split(extent, tuple(limits))
            found = exact, np.full(exact.shape[1], extent)
        ways.append(found[0])
        totals.append(found[1])
    together = tuple((tuple(place[fan] for fan in members), limit) for members, limit in shared(spread))
    return Frame(flow, tuple(loops), tuple(place[fan] for fan in spread), together, tuple(ways), tuple(totals))


def _rooms(problem: Problem, spread: tuple[Fan, ...], dim: int) -> tuple[int, ...]:
    """Room that other dimensions leave a dimension on the axes that they share, where they are spread wholly."""
    found = set()
    for members, limit in shared(spread):
        others = sorted({fan.dim for fan in members} - {dim})
        if len(others) < len({fan.dim for fan in members}):
            for some in itertools.chain.from_iterable(
                itertools.combinations(others, n) for n in range(len(others) + 1)
            ):
                found.add(int(limit) // math.prod(problem.dims[d][1] for d in some))
    return tuple(sorted(found - {0, 1}))


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
