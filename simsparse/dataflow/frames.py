"""Ways to spread the array: which loops there are and how dimensions may be split over them, whatever the order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simsparse.dataflow._arrays import Floats, Ints, LoopKind
from simsparse.dataflow.dataflows import Dataflow
from simsparse.dataflow.fanout import Fan, shared
from simsparse.dataflow.loop_orders import Blocks
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.ways import Ways, exact_ways, padded_ways


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
    ways : tuple of Ways
        Of each dimension.
    """

    flow: Dataflow
    loops: tuple[tuple[tuple[int, LoopKind], ...], ...]
    fans: tuple[tuple[int, int], ...]
    shared: tuple[tuple[tuple[tuple[int, int], ...], float], ...]
    ways: tuple[Ways, ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Ways of each dimension."""
        return tuple(len(ways) for ways in self.ways)

    @property
    def space(self) -> int:
        """Mappings of one order."""
        return math.prod(self.sizes)

    @cached_property
    def firsts(self) -> tuple[int, ...]:
        """Row of the table where the loops of each dimension begin."""
        return tuple(itertools.accumulate(map(len, self.loops), initial=0))

    @cached_property
    def table(self) -> Floats:
        """Factors of all loops, dimension by dimension, under each way to split their dimension; padded with 1."""
        table = np.ones((self.firsts[-1], max(self.sizes)))
        for first, ways in zip(self.firsts, self.ways, strict=False):
            table[first : first + len(ways.factors), : len(ways)] = ways.factors
        return table

    def fits(self, picks: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Whether loops that share an axis of the mesh have room on it, by mapping."""
        found = np.ones(picks.shape[1], np.bool_)
        for members, limit in self.shared:
            product = np.ones(picks.shape[1])
            for d, place in members:
                product *= self.ways[d].factors[place, picks[d]]
            found &= product <= limit * (1.0 + 1e-9)
        return found

    @cached_property
    def _padded(self) -> tuple[tuple[int, Ints, int], ...]:
        """Dimensions that may be padded, with the number of the total of each way, and how many totals there are."""
        return tuple((d, ways.which, len(ways.by_total)) for d, ways in enumerate(self.ways) if ways.which.any())

    def padded(self, picks: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Whether loops cover more than they must, by mapping."""
        found = np.zeros(picks.shape[1], np.bool_)
        for d, which, _ in self._padded:
            found |= which[picks[d]] > 0
        return found

    def by_extents(self, picks: Ints) -> Iterator[tuple[tuple[int, ...], Ints]]:
        """Extents after padding, and the mappings that have them."""
        code = np.zeros(picks.shape[1], np.int64)
        for d, which, count in self._padded:
            code = code * count + which[picks[d]]
        if (code == code[0]).all():
            groups = [np.arange(len(code))]
        else:
            order = np.argsort(code, kind="stable")
            groups = np.split(order, 1 + np.flatnonzero(np.diff(code[order])))
        for group in groups:
            yield (
                tuple(int(ways.totals[pick]) for ways, pick in zip(self.ways, picks[:, group[0]], strict=False)),
                group,
            )

    def filled(self, first: int | None = None) -> Ints:
        """Picks that fill the array and leave the rest of every dimension to the outermost loop, shape (D,).

        The longest dimensions come first, or before them the one that is named.
        """
        picks = np.zeros(len(self.ways), np.int64)
        longest = sorted(range(len(self.ways)), key=lambda d: (d != first, -int(self.ways[d].totals.min()), d))
        used: dict[int, float] = dict.fromkeys(range(len(self.shared)), 1.0)
        for d in longest:
            ways, loops = self.ways[d].factors, self.loops[d]
            if not loops:
                continue
            inner = [place for place, (_, kind) in enumerate(loops) if place and kind is LoopKind.TEMPORAL]
            usable = np.all(ways[inner] == 1.0, axis=0)
            for index, (members, limit) in enumerate(self.shared):
                own = [place for e, place in members if e == d]
                usable &= used[index] * np.prod(ways[own], axis=0) <= limit * (1.0 + 1e-9)
            chosen = np.lexsort((self.ways[d].totals, ways[0], ~usable))[0]
            picks[d] = chosen
            for index, (members, _) in enumerate(self.shared):
                used[index] *= float(np.prod([ways[place, chosen] for e, place in members if e == d]))
        return picks

    @property
    def sharing(self) -> tuple[int, ...]:
        """Dimensions that share an axis of the mesh with others."""
        return tuple(sorted({d for members, _ in self.shared for d, _ in members}))


def frame_of(
    problem: Problem, flow: Dataflow, blocks: tuple[Blocks, ...], spread: tuple[Fan, ...], padding: bool
) -> Frame:
    """The frame of loops over the fan-outs, and of loops in time over the dimensions that each level has."""
    loops, ways = [], []
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
            ways.append(padded_ways(extent, tuple(limits), _rooms(problem, spread, d)))
        else:
            ways.append(exact_ways(extent, tuple(limits)))
    together = tuple((tuple(place[fan] for fan in members), limit) for members, limit in shared(spread))
    return Frame(flow, tuple(loops), tuple(place[fan] for fan in spread), together, tuple(ways))


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
