"""The analysis against the executor: exact for dense and actual data, in the mean over masks for random densities.

What is not exact for one mask, by design, and is bounded here:

- Room for metadata of an actual mask is that of the fullest tile however its nonzeros lie, and where windows overlap,
  as if all were occupied.
- Gating and skipping by an actual mask: metadata of the accesses that are saved is that of mean ones, and so are the
  first writes of outputs, which need no read. Exact in the mean over masks.
- Words of an actual mask that haloed tiles share in time or space count as those of mean tiles.
- Compute cycles are those of the mean instance; the busiest takes longer where instances skip on their own.
- Waiting takes the slower of all sending and all writing; step by step the slower one may change.
- Lanes and rounds of packed nonzeros, and what they move, take operands for independent: exact in the mean. Not even so
  where an action saves accesses inside lanes that the same zeros have left out: both savings multiply.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import dataflow_clock as clock
import numpy as np
import pytest
from dataflow_cases import Case, Features, cases, masks_of
from dataflow_executor import Executor, Room, Rooms
from dataflow_figures import Figures, analysed, energy_pj, level_cycles, mean, unlike, walked
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsparse.dataflow._arrays import Count, Total
from simsparse.dataflow.analysis import Analysis, analyze
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
from simsparse.dataflow.density import ActualData, FixedStructured, UniformRandom
from simsparse.dataflow.mapping import LevelMapping, Loop, LoopKind, Mapping
from simsparse.dataflow.problem import Operand, Problem

COORDINATES = Rank(RankFormat.COORDINATE, 2)
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much]


def _drawn(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=SLOW)


def _compare(analysis: Analysis, theirs: Figures, skip: tuple[object, ...] = ()) -> None:
    """All figures; waiting within its bounds, and the time and energy that follow from the walk's counts."""
    assert not unlike(analysed(analysis), theirs, ("wait", *skip))
    ours, steps = analysis.total(Total.WAIT_CYCLES), theirs["wait",]
    assert ours == pytest.approx(steps) if _one_pace(analysis) else ours <= steps * (1 + 1e-9) <= 2 * ours * (1 + 1e-6)
    if not skip:
        assert analysis.energy_j * 1e12 == pytest.approx(energy_pj(analysis, theirs))
        longest = analysis.total(Total.COMPUTE_CYCLES)
        for level in range(len(analysis.mapping.levels)):
            expected = max(analysis.total(Total.COMPUTE_CYCLES), level_cycles(analysis, theirs, level))
            assert analysis.result.levels[level, 0] == pytest.approx(expected)
            longest = max(longest, expected)
        assert analysis.cycles == pytest.approx(longest + ours)


def _one_pace(analysis: Analysis) -> bool:
    """Whether only sending or only writing takes time where a level waits."""
    storages = analysis.architecture.levels
    waiting = [level for level, storage in enumerate(storages) if not storage.loads_ahead]
    return all(
        np.isinf(storages[level].write_words_per_cycle)
        or all(np.isinf(outer.read_words_per_cycle) for outer in storages[:level])
        for level in waiting
    )


def _compare_busiest(analysis: Analysis, walk: Executor) -> None:
    """No instance is slower than the mean one says, and none faster where all do the same."""
    busiest, cycles = max(walk.busy.values()), analysis.total(Total.COMPUTE_CYCLES)
    assert cycles <= busiest + 1e-9
    if len(walk.busy) == 1 or sum(walk.busy.values()) == analysis.problem.operations:
        assert cycles == pytest.approx(busiest)


@_drawn(100)
@given(case=cases(Features(sparse=False)))
def test_dense_counts_equal_the_walk(case: Case) -> None:
    """Halos, bypass, streaming, multicast, reduction over space, waiting: to the word, the cycle, the picojoule."""
    analysis = analyze(case.problem, case.architecture, case.mapping)
    walk = Executor(case.problem, case.architecture, case.mapping, {})
    _compare(analysis, walked(walk))
    _compare_busiest(analysis, walk)


@_drawn(100)
@given(case=cases(Features()), seed=st.integers(0, 2**32 - 1))
def test_formats_of_actual_data_equal_the_walk(case: Case, seed: int) -> None:
    """Compression of any ranks, metadata, fullest tiles, halos among them, over a real mask."""
    analysis, walk = _on_masks(case, seed)
    # Only haloed tiles share words.
    assert all(len(axis) > 1 for _, name in walk.shares for axis in case.problem.tensor(name).axes[-1:])
    if not walk.shares:
        _compare(analysis, walked(walk, _room(analysis, [walk])))
        _compare_busiest(analysis, walk)
        return
    ours, theirs = analysed(analysis), walked(walk, _room(analysis, [walk]))
    different = unlike(ours, theirs, ("wait",))
    assert all(key[:2] in walk.shares for key in different)
    assert not any("fullest" in key or "algorithmic" in key for key in different)
    for level, name in walk.shares:
        for access in ("reads", "fills"):
            counted = (level, name, access, "actual"), (level, name, access, "algorithmic")
            assert abs(ours[counted[0]] - theirs[counted[0]]) <= SHARED_HALO * theirs[counted[1]]


SHARED_HALO = 0.5


@_drawn(100)
@given(case=cases(Features(acting=True)), seed=st.integers(0, 2**32 - 1))
def test_actions_on_actual_data_equal_the_walk(case: Case, seed: int) -> None:
    """Gating and skipping over a real mask, to the access; what is left to the mean is said above."""
    analysis, walk = _on_masks(case, seed)
    ours, theirs = analysed(analysis), walked(walk, _room(analysis, [walk]))
    different = unlike(ours, theirs, ("wait", "metadata", "payload", "read words", "written words"))
    assert all(key[1:3] == ("C", "reads") for key in different)
    for level, name in {key[:2] for key in different}:
        kinds = [(level, name, "reads", state) for state in ("actual", "gated", "skipped")]
        updates = sum(theirs[level, name, "updates", state] for state in ("actual", "gated", "skipped"))
        assert sum(ours[kind] for kind in kinds) <= updates + 1e-6
        assert all(0.0 <= ours[kind] <= theirs[level, name, "reads", "algorithmic"] for kind in kinds)
    _compare_busiest(analysis, walk)


def _on_masks(case: Case, seed: int) -> tuple[Analysis, Executor]:
    masks = masks_of(case.problem, seed)
    problem = case.problem.with_densities({name: ActualData(mask) for name, mask in masks.items()})
    analysis = analyze(problem, case.architecture, case.mapping)
    return analysis, Executor(problem, case.architecture, case.mapping, masks)


def _room(analysis: Analysis, walks: list[Executor], *, every: bool = False) -> Rooms:
    """For the fullest tile of all walks, and enough for metadata: no more than needed if they are of every mask."""
    room: Rooms = {}
    for level, name in walks[0].seen:
        tiles = [walk.seen[level, name].fullest for walk in walks]
        words, needed = max(tile.words for tile in tiles), max(tile.bits for tile in tiles)
        bits = analysis.count(analysis.architecture.level_names[level], name, Count.METADATA_MAX_BITS)
        assert needed <= bits + 1e-9
        haloed = any(len(axis) > 1 for axis in analysis.problem.tensor(name).axes)
        room[level, name] = Room(words, needed if every and not haloed else bits)
    return room


def _all_masks(shape: tuple[int, ...], nonzeros: int) -> list[np.ndarray]:
    words = int(np.prod(shape))
    masks = []
    for chosen in itertools.combinations(range(words), nonzeros):
        mask = np.zeros(words, bool)
        mask[list(chosen)] = True
        masks.append(mask.reshape(shape))
    return masks


@pytest.mark.parametrize(
    ("features", "examples"),
    [
        (Features(), 25),
        (Features(acting=True), 25),
        (Features(lanes=True), 30),
        (Features(positions=True, acting=True), 30),
    ],
    ids=["formats", "actions", "lanes", "positions"],
)
def test_random_densities_equal_the_mean_over_all_masks(features: Features, examples: int) -> None:
    """Hypergeometric expectations against every mask there is: every figure, metadata, energy and time among them."""

    @_drawn(examples)
    @given(case=cases(features, small=True), counts=st.tuples(st.integers(1, 2), st.integers(1, 2)))
    def compare(case: Case, counts: tuple[int, int]) -> None:
        words = {name: int(np.prod(case.problem.shape(name))) for name in ("A", "B")}
        nonzeros = {name: min(count, words[name]) for name, count in zip(words, counts, strict=True)}
        densities = {name: UniformRandom(nonzeros[name] / words[name]) for name in words}
        analysis = analyze(case.problem.with_densities(densities), case.architecture, case.mapping)
        walks = [
            Executor(case.problem, case.architecture, case.mapping, {"A": a, "B": b})
            for a in _all_masks(case.problem.shape("A"), nonzeros["A"])
            for b in _all_masks(case.problem.shape("B"), nonzeros["B"])
        ]
        _compare(analysis, mean(walks, _room(analysis, walks, every=True)))
        assert max(_most_there(walk) for walk in walks) <= analysis.total(Total.INSTANCES_MAX) + 1e-9

    compare()


def _most_there(walk: Executor) -> int:
    """Lanes that are there at once; packed ones are all there."""
    if any(action.kind is ActionKind.POSITION_SKIPPING for action in walk.architecture.levels[-1].actions):
        return 0
    return max(Counter(each.time for each in walk.done if each.there).values(), default=0)


def test_a_walk_by_hand() -> None:
    """Two by two by two, output-stationary, A compressed, B read only where A is nonzero: what anybody can count."""
    mask = np.array([[1, 0], [0, 0]], bool)
    mapping = Mapping((LevelMapping("L0", ("A", "B", "C"), (Loop("M", 2), Loop("N", 2), Loop("K", 2))),))
    one = Rank(RankFormat.COORDINATE, 4)
    skip = Action(ActionKind.SKIPPING, (Option("B", ("A",)),))
    architecture = Architecture((Storage("L0", formats={"A": TensorFormat((one, one))}, actions=(skip,)),))
    analysis = analyze(Problem.gemm(2, 2, 2, a=ActualData(mask)), architecture, mapping)
    # A[0,0] meets two columns of B; all other products have a zero from A.
    assert analysis.count("L0", "A", Count.ACTUAL_READS) == 2
    assert analysis.count("L0", "B", Count.ACTUAL_READS) == 2
    assert analysis.count("L0", "B", Count.SKIPPED_READS) == 6
    assert analysis.count("L0", "C", Count.UPDATES) == 8
    assert analysis.count("L0", "C", Count.READS) == 4
    assert analysis.total(Total.ACTUAL) == 2
    assert analysis.cycles == 2
    walk = Executor(Problem.gemm(2, 2, 2), architecture, mapping, {"A": mask})
    assert not unlike(analysed(analysis), walked(walk))


def test_lines_for_one_pair_of_vectors_make_the_array_wait() -> None:
    """What DSTC does for each step of the reduction: load a column and a row, then multiply in whole rounds."""
    mask = np.array([[1, 1], [1, 0], [0, 0], [1, 0]], bool)  # columns with three nonzeros and with one
    packs = (Action(ActionKind.POSITION_SKIPPING, (Option("A", ("A",)),)),)
    formats = {"A": TensorFormat((Rank(RankFormat.COORDINATE, 0.0),))}
    lines = Storage("lines", 1, 1, 1, 6.0, formats=formats, actions=packs, loads_ahead=False)
    memory = Storage("memory", read_words_per_cycle=2.0, formats=formats)
    architecture = Architecture((memory, lines), Compute(instances=2, mesh_x=2))
    loops = LevelMapping("lines", ("A", "B"), (Loop("M", 2), Loop("N", 2)), (Loop("M", 2, LoopKind.X),))
    mapping = Mapping((LevelMapping("memory", ("A", "B", "C"), (Loop("K", 2),)), loops))
    walk = Executor(Problem.gemm(4, 2, 2), architecture, mapping, {"A": mask})
    assert clock.log(walk) == [
        (0.0, "load lines", 2.5),  # three words of A and two of B, two a cycle
        (2.5, "work", 4.0),  # two rounds for each column of B
        (6.5, "load lines", 1.5),
        (8.0, "work", 2.0),
    ]
    analysis = analyze(Problem.gemm(4, 2, 2, a=ActualData(mask)), architecture, mapping)
    assert analysis.total(Total.WAIT_CYCLES) == 4.0
    assert analysis.cycles == pytest.approx(10.0)


def test_lanes_share_the_words_of_halos() -> None:
    """Lanes for p and r, two of each, read the words p + r: three of them."""
    inputs, weights = Operand("B", ((("P", 1), ("R", 1)),)), Operand("A", ((("R", 1),),))
    problem = Problem((("P", 2), ("R", 2)), (weights, inputs, Operand("C", ((("P", 1),),))), "C")
    lanes = (Loop("P", 2, LoopKind.X), Loop("R", 2, LoopKind.Y))
    architecture = Architecture((Storage("L0"),), Compute(instances=4, mesh_x=2, mesh_y=2))
    mapping = Mapping((LevelMapping("L0", problem.names, (), lanes),))
    analysis = analyze(problem, architecture, mapping)
    assert analysis.count("L0", "B", Count.READS) == 3
    assert not unlike(analysed(analysis), walked(Executor(problem, architecture, mapping, {})))


def test_lanes_in_lanes_over_zeros() -> None:
    """Two nonzeros of four: two lanes are there, in one group of lanes or in two."""
    lanes, formats = Action(ActionKind.SPATIAL_SKIPPING, (Option("C", ("A",)),)), {"A": TensorFormat((COORDINATES,))}
    outer = Storage("L0", formats=formats, actions=(lanes,))
    inner = replace(outer, name="L1", instances=2, mesh_x=2)
    architecture = Architecture((outer, inner), Compute(instances=4, mesh_x=2, mesh_y=2))
    spread = [(Loop("M", 2, LoopKind.X),), (Loop("M", 2, LoopKind.Y),)]
    mapping = Mapping(tuple(LevelMapping(f"L{i}", ("A", "B", "C"), (), loops) for i, loops in enumerate(spread)))
    problem = Problem.gemm(4, 1, 1)
    analysis = analyze(problem.with_densities({"A": UniformRandom(0.5)}), architecture, mapping)
    assert analysis.total(Total.INSTANCES_MEAN) == pytest.approx(2.0)
    walks = [Executor(problem, architecture, mapping, {"A": mask}) for mask in _all_masks((4, 1), 2)]
    assert not unlike(analysed(analysis), mean(walks, _room(analysis, walks, every=True)))


def test_lanes_over_zeros_are_not_there() -> None:
    """Two of four: two lanes do the work of four positions, always."""
    mask = np.array([[1, 0, 1, 0], [0, 1, 1, 0]], bool)
    lanes = (Action(ActionKind.SPATIAL_SKIPPING, (Option("C", ("A",)),)),)
    level = Storage("L0", formats={"A": TensorFormat((COORDINATES,))}, actions=lanes)
    architecture = Architecture((level,), Compute(instances=2, mesh_x=2))
    spread = LevelMapping("L0", ("A", "B", "C"), (Loop("M", 2), Loop("N", 3)), (Loop("K", 4, LoopKind.X),))
    walk = Executor(Problem.gemm(2, 3, 4), architecture, Mapping((spread,)), {"A": mask})
    for density in (FixedStructured(0.5), ActualData(mask)):
        analysis = analyze(Problem.gemm(2, 3, 4, a=density), architecture, Mapping((spread,)))
        assert analysis.total(Total.INSTANCES_MAX) == _most_there(walk) == 2
        assert analysis.total(Total.COMPUTE_CYCLES) == walk.steps_in_time == 6
