"""Factors that multiply to more than an extent: edges are clipped, as a walk over the clipped loop nest counts it."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsparse.dataflow import (
    Architecture,
    Compute,
    LevelMapping,
    Loop,
    LoopKind,
    Mapping,
    Problem,
    Storage,
    analyze,
)
from simsparse.dataflow._arrays import Count, Total
from simsparse.dataflow.analysis import Analysis

LEVELS = ("DRAM", "SRAM", "PE")
MACHINE = Architecture(
    (Storage("DRAM"), Storage("SRAM"), Storage("PE", 256, 16, 16)),
    Compute(instances=256, mesh_x=16, mesh_y=16),
)


@dataclass(frozen=True)
class Walk:
    """All iterations of a clipped loop nest, one by one."""

    mapping: Mapping
    extents: dict[str, int]

    def start(self, level: int) -> int:
        """First loop at a level or inside."""
        return sum(at < level for at, _ in self.mapping.nest)

    def step(self, i: int) -> int:
        """What an advance of a loop adds to its dimension."""
        nest = self.mapping.nest
        return math.prod(loop.factor for _, loop in nest[i + 1 :] if loop.dim == nest[i][1].dim)

    def tile(self, level: int, dim: str) -> int:
        """Nominal extent of a tile."""
        return math.prod(loop.factor for at, loop in self.mapping.nest if at >= level and loop.dim == dim)

    def iterations(self, chosen: Iterable[int]) -> Iterator[tuple[tuple[int, ...], Counter[str]]]:
        """Indices of the chosen loops and offsets of dimensions, of those iterations that are not empty."""
        chosen = list(chosen)
        nest = self.mapping.nest
        for index in itertools.product(*(range(nest[i][1].factor) for i in chosen)):
            offset: Counter[str] = Counter()
            for i, at in zip(chosen, index, strict=True):
                offset[nest[i][1].dim] += at * self.step(i)
            if all(offset[dim] < extent for dim, extent in self.extents.items()):
                yield index, offset

    def words(self, dims: frozenset[str], level: int, offset: Counter[str]) -> int:
        """Words of a tile at an offset."""
        return math.prod(min(self.tile(level, dim), self.extents[dim] - offset[dim]) for dim in dims)

    def turns(self, i: int) -> int:
        """Times that a loop advances at most, plus one."""
        dim, step = self.mapping.nest[i][1].dim, self.step(i)
        return min(self.mapping.nest[i][1].factor, -(-self.extents[dim] // step))

    def sent(self, dims: frozenset[str], source: int, child: int) -> tuple[list[int], list[int]]:
        """Loops outside of a child that each bring a tile to it from a source, and those that do not."""
        nest, end = self.mapping.nest, self.start(child)
        moving = [
            i for i, (_, loop) in enumerate(nest[:end]) if loop.kind is LoopKind.TEMPORAL and loop.dim in dims
            and self.turns(i) > 1
        ]  # fmt: skip
        last = len(nest) if child == len(LEVELS) else max(moving, default=-1)
        brings = [
            i for i, (at, loop) in enumerate(nest[:end])
            if (i <= last if loop.kind is LoopKind.TEMPORAL else at < source or loop.dim in dims)
        ]  # fmt: skip
        return brings, [i for i in range(end) if i not in brings]

    def mixed(self, dims: frozenset[str], brings: list[int], others: list[int]) -> bool:
        """Whether a clipped dimension that does not index the tensor has a loop that brings nothing around one that
        brings something: the analysis takes the mean trips of the inner one, here it runs in full."""
        dim_of = [loop.dim for _, loop in self.mapping.nest]
        return any(
            dim_of[i] == dim_of[j] and dim_of[i] not in dims
            and self.mapping.extent(dim_of[i]) > self.extents[dim_of[i]]
            for i in others for j in brings if i < j
        )  # fmt: skip


def check(analysis: Analysis, mapping: Mapping, problem: Problem) -> None:
    walk = Walk(mapping, dict(problem.dims))
    for tensor, source in itertools.product(problem.tensors, range(len(LEVELS))):
        if tensor.name not in mapping.levels[source].keep:
            continue

        def total(which: Count, level: int, name: str = tensor.name) -> float:
            return analysis.count(LEVELS[level], name, which) * analysis.count(
                LEVELS[level], name, Count.INSTANCES_MEAN
            )

        inside = (at for at in range(source + 1, len(LEVELS)) if tensor.name in mapping.levels[at].keep)
        child = next(inside, len(LEVELS))
        brings, others = walk.sent(tensor.dims, source, child)
        if not walk.mixed(tensor.dims, brings, others):
            moved = sum(walk.words(tensor.dims, child, offset) for _, offset in walk.iterations(brings))
            which = Count.UPDATES if tensor.name == problem.output else Count.READS
            assert total(which, source) == pytest.approx(moved, rel=1e-9)
        brings, others = walk.sent(tensor.dims, child, child)
        if child < len(LEVELS) and not walk.mixed(tensor.dims, brings, others):
            filled = sum(walk.words(tensor.dims, child, offset) for _, offset in walk.iterations(brings))
            assert total(Count.FILLS, child) == pytest.approx(filled, rel=1e-9)
    assert analysis.total(Total.COMPUTES) == pytest.approx(problem.operations, rel=1e-9)
    work: Counter[tuple[int, ...]] = Counter()
    spatial = [i for i, (_, loop) in enumerate(mapping.nest) if loop.kind is not LoopKind.TEMPORAL]
    for index, _ in walk.iterations(range(len(mapping.nest))):
        work[tuple(index[i] for i in spatial)] += 1
    assert analysis.total(Total.COMPUTE_CYCLES) == pytest.approx(max(work.values()), rel=1e-9)


@st.composite
def mappings(draw: st.DrawFn) -> tuple[Problem, Mapping]:
    extents = {dim: draw(st.integers(1, 9)) for dim in "MNK"}
    left = dict(extents)
    parts: list[LevelMapping] = []
    spreads = draw(st.lists(st.sampled_from("MNK"), max_size=2))
    for level in reversed(LEVELS):
        axes = zip(spreads, (LoopKind.X, LoopKind.Y), strict=False) if level == "SRAM" else ()
        spatial = [Loop(dim, draw(st.integers(1, 3)), axis) for dim, axis in axes]
        for loop in spatial:
            left[loop.dim] = -(-left[loop.dim] // loop.factor)
        temporal = []
        for dim in draw(st.permutations("MNK")):
            factor = left[dim] if level == "DRAM" else draw(st.integers(1, 3))
            left[dim] = -(-left[dim] // factor)
            temporal.append(Loop(dim, factor))
        keep = "ABC" if level == "DRAM" else draw(st.sampled_from(("ABC", "AB", "AC", "BC", "C")))
        parts.insert(0, LevelMapping(level, tuple(keep), tuple(temporal), tuple(spatial)))
    return Problem.gemm(*extents.values()), Mapping(tuple(parts), imperfect=True)


@settings(max_examples=200, deadline=None)
@given(mappings())
def test_counts_are_those_of_a_walk_over_the_clipped_nest(drawn: tuple[Problem, Mapping]) -> None:
    problem, mapping = drawn
    check(analyze(problem, MACHINE, mapping), mapping, problem)


def busiest(walk: Walk, dims: frozenset[str], source: int, level: int) -> float:
    """Most words of a tensor that an instance of the source sends to the tiles of a level."""
    nest = walk.mapping.nest
    brings, _ = walk.sent(dims, source, level)
    outer = [k for k, i in enumerate(brings) if nest[i][0] < source and nest[i][1].kind is not LoopKind.TEMPORAL]
    words: Counter[tuple[int, ...]] = Counter()
    for index, offset in walk.iterations(brings):
        words[tuple(index[k] for k in outer)] += walk.words(dims, level, offset)
    return max(words.values())


@settings(max_examples=200, deadline=None)
@given(mappings(), st.sampled_from("AB"))
def test_levels_keep_pace_with_their_busiest_instance(drawn: tuple[Problem, Mapping], name: str) -> None:
    """Words that go to the compute: exactly; those that go to tiles: never less, the most that operations stretch."""
    problem, mapping = drawn
    walk, tensor = Walk(mapping, dict(problem.dims)), problem.tensor(name)
    analysis = analyze(problem, MACHINE, mapping)
    for source in range(len(LEVELS)):
        if name not in mapping.levels[source].keep:
            continue
        inside = (at for at in range(source + 1, len(LEVELS)) if name in mapping.levels[at].keep)
        child = next(inside, len(LEVELS))
        brings, others = walk.sent(tensor.dims, source, child)
        if walk.mixed(tensor.dims, brings, others):
            continue
        ours = analysis.count(LEVELS[source], name, Count.READ_WORDS) * analysis.stretch(LEVELS[source])
        most = busiest(walk, tensor.dims, source, child)
        if child == len(LEVELS):
            assert ours == pytest.approx(most, rel=1e-9), (source, child)
        assert ours >= most * (1 - 1e-9), (source, child)


@settings(max_examples=50, deadline=None)
@given(mappings())
def test_factors_multiply_to_clipped_counts(drawn: tuple[Problem, Mapping]) -> None:
    problem, mapping = drawn
    analysis = analyze(problem, MACHINE, mapping)
    for part, count in itertools.product(mapping.levels, set(Count) - {Count.ENERGY_PJ}):
        for tensor in part.keep:
            steps = analysis.explain(part.level, tensor, count).steps
            value = analysis.count(part.level, tensor, count)
            assert math.prod(step.factor for step in steps) == pytest.approx(value), (part.level, tensor, count.name)
