"""The analysis against the executor: exact for dense and actual data, in the mean for random densities."""

from __future__ import annotations

import copy
import itertools
import random
from collections import Counter

import numpy as np
import pytest
from dataflow_executor import Executor, Seen
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from simsparse.dataflow._arrays import Count, Total
from simsparse.dataflow.analysis import Access, Analysis, Part, State, analyze
from simsparse.dataflow.architecture import (
    Action,
    ActionKind,
    Architecture,
    Compute,
    Option,
    Rank,
    RankFormat,
    Storage,
    TensorFormat,
)
from simsparse.dataflow.density import ActualData, Density, UniformRandom
from simsparse.dataflow.mapping import LevelMapping, Loop, LoopKind, Mapping
from simsparse.dataflow.problem import Operand, Problem

COMPRESSED = (RankFormat.BITMASK, RankFormat.COORDINATE, RankFormat.RUN_LENGTH)


def _gemm(rng: random.Random) -> Problem:
    return Problem.gemm(*(rng.choice((1, 2, 3, 4, 6)) for _ in range(3)))


def _conv(rng: random.Random) -> Problem:
    """One row of a convolution, with stride and dilation, or two axes of it."""
    stride, dilation = rng.choice((1, 2, 3)), rng.choice((1, 2))
    dims = {"M": rng.choice((1, 2, 4)), "C": rng.choice((1, 2)), "P": rng.choice((2, 4, 6)), "R": rng.choice((1, 2, 3))}
    weights = Operand("W", ((("M", 1),), (("C", 1),), (("R", 1),)))
    inputs = Operand("I", ((("C", 1),), (("P", stride), ("R", dilation))))
    return Problem(tuple(dims.items()), (weights, inputs, Operand("O", ((("M", 1),), (("P", 1),)))), "O")


def _split(rng: random.Random, extent: int, parts: int) -> list[int]:
    """Factors of an extent, one for each part."""
    factors = [1] * parts
    for prime in (2, 3):
        while extent % prime == 0:
            factors[rng.randrange(parts)] *= prime
            extent //= prime
    return factors


def _mapping(rng: random.Random, problem: Problem, levels: int) -> Mapping:
    temporal: list[list[Loop]] = [[] for _ in range(levels)]
    spatial: list[list[Loop]] = [[] for _ in range(levels)]
    for dim, extent in problem.dims:
        for slot, factor in enumerate(_split(rng, extent, 2 * levels)):
            level = slot // 2
            if slot % 2 and rng.random() < 0.6:
                spatial[level].append(Loop(dim, factor, rng.choice((LoopKind.X, LoopKind.Y))))
            else:
                temporal[level].append(Loop(dim, factor))
    for loops in temporal + spatial:
        rng.shuffle(loops)
    keep = [problem.names]
    for _ in range(1, levels):
        kept = tuple(name for name in problem.names if rng.random() < 0.65)
        keep.append(kept or (rng.choice(problem.names),))
    return Mapping(
        tuple(
            LevelMapping(f"L{level}", keep[level], tuple(temporal[level]), tuple(spatial[level]))
            for level in range(levels)
        )
    )


def _architecture(levels: list[Storage] | int, compute: Compute | None = None) -> Architecture:
    if isinstance(levels, int):
        levels = [Storage(f"L{level}", 4096, 64, 64) for level in range(levels)]
    return Architecture(tuple(levels), compute or Compute(instances=4096, mesh_x=64, mesh_y=64))


def _masks(rng: random.Random, problem: Problem, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(rng.randrange(2**32))
    return {name: generator.random(problem.shape(name)) < rng.choice((0.2, 0.5, 0.8)) for name in names}


def _totals(analysis: Analysis, level: str, tensor: str, first: Count) -> float:
    """Of all instances."""
    return analysis.count(level, tensor, first) * analysis.count(level, tensor, Count.INSTANCES_MEAN)


def _compare(analysis: Analysis, walked: Executor, *, outputs_reads: bool = True) -> None:
    output = analysis.problem.output
    for part in analysis.mapping.levels:
        for tensor in part.keep:
            seen = walked.seen[part.level, tensor]
            for noun, counter in (("READS", seen.reads), ("FILLS", seen.fills), ("UPDATES", seen.updates)):
                dense = analysis.count(part.level, tensor, Count[noun])
                dense *= analysis.count(part.level, tensor, Count.INSTANCES_MAX)
                assert dense == pytest.approx(counter["algorithmic"]), (part.level, tensor, noun)
                if noun == "READS" and tensor == output and not outputs_reads:
                    continue
                for state in ("ACTUAL", "GATED", "SKIPPED"):
                    found = _totals(analysis, part.level, tensor, Count[f"{state}_{noun}"])
                    where = (part.level, tensor, state, noun)
                    assert found == pytest.approx(counter[state.lower()], abs=1e-6), where
    counts = {name: analysis.total(Total[name.upper()]) for name in ("actual", "gated", "skipped")}
    assert counts == pytest.approx({name: walked.operations[name] for name in counts}, abs=1e-6)


def _compare_metadata(analysis: Analysis, walked: Executor) -> None:
    for level in analysis.architecture.levels:
        for tensor, layout in level.formats.items():
            instances = analysis.count(level.name, tensor, Count.INSTANCES_MEAN)
            found = walked.seen[level.name, tensor].metadata_fills
            for rank in range(len(layout.ranks)):
                for part in Part:
                    ours = analysis.metadata(level.name, tensor, rank, State.ACTUAL, Access.FILLS, part) * instances
                    where = (level.name, tensor, layout.text, rank, part)
                    assert ours == pytest.approx(found[rank][part.value], abs=1e-6), where


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(rng=st.randoms(use_true_random=False), convolution=st.booleans(), levels=st.integers(1, 4))
def test_dense_counts_equal_the_walk(rng: random.Random, convolution: bool, levels: int) -> None:
    """Halos, bypass, multicast, spatial reduction: reads, fills and updates of every level, to the word."""
    problem = _conv(rng) if convolution else _gemm(rng)
    mapping = _mapping(rng, problem, levels)
    analysis = analyze(problem, _architecture(levels), mapping)
    _compare(analysis, Executor(problem, _architecture(levels), mapping, {}))


def _format(rng: random.Random, problem: Problem, mapping: Mapping, level: int, tensor: str) -> TensorFormat:
    """A rank for each loop over the tensor at the level and inside; zeros are left out at least in the innermost."""
    dims = problem.tensor(tensor).dims
    loops = sum(loop.dim in dims for at, loop in mapping.nest if at >= level)
    upper = (Rank(rng.choice(list(RankFormat)), 4, 4) for _ in range(loops - 1))
    return TensorFormat((*upper, Rank(rng.choice(COMPRESSED), 4, 4)))


def _windows_are_boxes(mapping: Mapping) -> bool:
    """No lane strides over what a loop in time inside of it walks through."""
    return not any(
        outer.dim == inner.dim and outer.kind is not LoopKind.TEMPORAL and inner.kind is LoopKind.TEMPORAL
        for i, (_, outer) in enumerate(mapping.nest)
        for _, inner in mapping.nest[i + 1 :]
    )


def _sparse_levels(rng: random.Random, problem: Problem, mapping: Mapping, acting: bool) -> list[Storage]:
    """Formats at and inside a random level for each input, and at most one action for each tensor."""
    inputs = [name for name in problem.names if name != problem.output]
    outermost = {name: rng.randrange(len(mapping.levels) + 1) for name in inputs}
    actor = {name: rng.randrange(len(mapping.levels)) for name in problem.names}
    condition = {name: tuple(other for other in inputs if other != name) for name in problem.names}
    storages = []
    for level, part in enumerate(mapping.levels):
        formats = {
            name: _format(rng, problem, mapping, level, name)
            for name in part.keep
            if name in inputs and level >= outermost[name]
        }
        actions = tuple(
            Action(rng.choice((ActionKind.GATING, ActionKind.SKIPPING)), (Option(name, condition[name]),))
            for name in part.keep
            # A format inside an acting level that holds zeros would mix both: exact in the mean only.
            if acting and actor[name] == level and not level < outermost.get(name, 0) < len(mapping.levels)
        )  # fmt: skip
        storages.append(Storage(part.level, 4096, 64, 64, formats=formats, actions=actions))
    return storages


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(rng=st.randoms(use_true_random=False), levels=st.integers(1, 3), acting=st.booleans())
def test_actual_data_equals_the_walk(rng: random.Random, levels: int, acting: bool) -> None:
    """Compression, metadata, gating and skipping over a real mask."""
    problem = _gemm(rng)
    masks = _masks(rng, problem, ("A", "B"))
    problem = problem.with_densities({name: ActualData(mask) for name, mask in masks.items()})
    mapping = _mapping(rng, problem, levels)
    assume(_windows_are_boxes(mapping) or not acting)
    compute = Compute(instances=4096, mesh_x=64, mesh_y=64, gating=rng.random() < 0.5, skipping=rng.random() < 0.5)
    architecture = _architecture(_sparse_levels(rng, problem, mapping, acting), compute)
    analysis = analyze(problem, architecture, mapping)
    walked = Executor(problem, architecture, mapping, masks)
    # The first write of a word needs no read; which words that spares depends on the mask: outputs' reads in the mean.
    _compare(analysis, walked, outputs_reads=not acting)
    if not acting:
        _compare_metadata(analysis, walked)


def _all_masks(shape: tuple[int, ...], nonzeros: int) -> list[np.ndarray]:
    words = int(np.prod(shape))
    masks = []
    for chosen in itertools.combinations(range(words), nonzeros):
        mask = np.zeros(words, bool)
        mask[list(chosen)] = True
        masks.append(mask.reshape(shape))
    return masks


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(rng=st.randoms(use_true_random=False), levels=st.integers(1, 3), acting=st.booleans())
def test_random_densities_equal_the_mean_over_all_masks(rng: random.Random, levels: int, acting: bool) -> None:
    """Hypergeometric expectations against every mask there is, outputs' reads and metadata among them."""
    problem = Problem.gemm(2, rng.choice((1, 2)), rng.choice((2, 3)))
    mapping = _mapping(rng, problem, levels)
    assume(_windows_are_boxes(mapping) or not acting)
    compute = Compute(instances=4096, mesh_x=64, mesh_y=64, gating=rng.random() < 0.5, skipping=rng.random() < 0.5)
    architecture = _architecture(_sparse_levels(rng, problem, mapping, acting), compute)
    nonzeros = {"A": rng.choice((1, 2)), "B": rng.choice((1, 2))}
    densities: dict[str, Density] = {
        name: UniformRandom(count / int(np.prod(problem.shape(name)))) for name, count in nonzeros.items()
    }
    analysis = analyze(problem.with_densities(densities), architecture, mapping)
    walks = [
        Executor(problem, architecture, mapping, {"A": a, "B": b})
        for a in _all_masks(problem.shape("A"), nonzeros["A"])
        for b in _all_masks(problem.shape("B"), nonzeros["B"])
    ]
    _compare(analysis, _mean(walks, mapping))


def _mean(walks: list[Executor], mapping: Mapping) -> Executor:
    """The first walk with every counter replaced by its mean over all of them."""
    mean = copy.copy(walks[0])
    mean.seen = {
        (part.level, tensor): Seen(
            *(
                _average([getattr(walk.seen[part.level, tensor], noun) for walk in walks])
                for noun in ("reads", "fills", "updates")
            )
        )
        for part in mapping.levels
        for tensor in part.keep
    }
    mean.operations = _average([walk.operations for walk in walks])
    return mean


def _average(counters: list[Counter[str]]) -> Counter[str]:
    keys = set().union(*counters)
    return Counter({key: sum(counter[key] for counter in counters) / len(counters) for key in keys})  # type: ignore[misc]


def test_a_walk_by_hand() -> None:
    """Two by two by two, output-stationary, A compressed, B read only where A is nonzero: what anybody can count."""
    problem = Problem.gemm(2, 2, 2)
    mask = np.array([[1, 0], [0, 0]], bool)
    mapping = Mapping((LevelMapping("L0", ("A", "B", "C"), (Loop("M", 2), Loop("N", 2), Loop("K", 2))),))
    one = Rank(RankFormat.COORDINATE, 4)
    skip = Action(ActionKind.SKIPPING, (Option("B", ("A",)),))
    level = Storage("L0", formats={"A": TensorFormat((one, one))}, actions=(skip,))
    architecture = Architecture((level,))
    analysis = analyze(problem.with_densities({"A": ActualData(mask)}), architecture, mapping)
    # A[0,0] meets two columns of B; all other products have a zero from A.
    assert analysis.count("L0", "A", Count.ACTUAL_READS) == 2
    assert analysis.count("L0", "B", Count.ACTUAL_READS) == 2
    assert analysis.count("L0", "B", Count.SKIPPED_READS) == 6
    assert analysis.count("L0", "C", Count.UPDATES) == 8
    assert analysis.count("L0", "C", Count.READS) == 4
    assert analysis.total(Total.ACTUAL) == 2
    assert analysis.cycles == 2
    _compare(analysis, Executor(problem, architecture, mapping, {"A": mask}))
