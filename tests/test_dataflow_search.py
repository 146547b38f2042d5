"""The search finds what exhaustive enumeration finds, agrees bit for bit with `analyze`, and says why nothing fits."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from simsparse.dataflow import (
    Action,
    ActionKind,
    ActualData,
    Architecture,
    Compute,
    Constraints,
    LevelMapping,
    Loop,
    LoopKind,
    Mapping,
    Objective,
    Operand,
    Option,
    Problem,
    Rank,
    RankFormat,
    Storage,
    TensorFormat,
    UniformRandom,
    analyze,
    dataflow,
)
from simsparse.dataflow import map as find
from simsparse.dataflow.analysis import Analysis
from simsparse.dataflow.dataflows import NAMED
from simsparse.dataflow.energies import ComputeEnergies, StorageEnergies
from simsparse.dataflow.mapspace import orders
from simsparse.dataflow.prepared import prepare
from simsparse.dataflow.splits import divisors, split
from simsparse.errors import InputError, UnknownNameError, UnsupportedError


def machine(sparse: bool = False, sram: float = 160, side: int = 2, pe: float = 12, rate: float = 2) -> Architecture:
    layout = {"A": TensorFormat((Rank(RankFormat.BITMASK, 1.0, 0.0, frozenset("MK")),))} if sparse else {}
    skips = (Action(ActionKind.SKIPPING, (Option("B", ("A",)), Option("C", ("A",)))),) if sparse else ()

    def pj(energy: float) -> StorageEnergies:
        return StorageEnergies({"read": energy, "write": energy})

    levels = (
        Storage("DRAM", read_words_per_cycle=rate, write_words_per_cycle=rate, energies=pj(100.0), formats=layout),
        Storage("SRAM", 1, 1, 1, sram, 8, 1, 4 * rate, 4 * rate, energies=pj(2.0), formats=layout),
        Storage("PE", side * side, side, side, pe, energies=pj(0.1), formats=layout, actions=skips),
    )  # fmt: skip
    multiply = ComputeEnergies({"mac_random": 1.0})
    return Architecture(levels, Compute("MAC", side * side, side, side, skipping=sparse, energies=multiply))


def every_mapping(problem: Problem) -> Iterator[Mapping]:
    """All perfect factors in all orders of loops, with one role on each mesh axis; written without the mapspace."""
    keep = ("A", "B", "C")
    extents = dict(problem.dims)
    for x, y in itertools.product("MNK", repeat=2):
        for factors in itertools.product(
            *(list(_factors(extents[dim], 3 + (dim == x) + (dim == y), (dim == x) + (dim == y))) for dim in "MNK")
        ):
            table = dict(zip("MNK", factors, strict=True))
            spread = {dim: list(table[dim][3:]) for dim in "MNK"}
            fan = (Loop(x, spread[x].pop(), LoopKind.X), Loop(y, spread[y].pop(), LoopKind.Y))
            for outer, inner in itertools.product(itertools.permutations("MNK"), repeat=2):
                yield Mapping(
                    (
                        LevelMapping("DRAM", keep, tuple(Loop(dim, table[dim][0]) for dim in outer)),
                        LevelMapping("SRAM", keep, tuple(Loop(dim, table[dim][1]) for dim in inner), fan),
                        LevelMapping("PE", keep, tuple(Loop(dim, table[dim][2]) for dim in "MNK")),
                    )
                )


def _factors(extent: int, count: int, spatial: int) -> Iterator[tuple[int, ...]]:
    for chosen in itertools.product(divisors(extent), repeat=count):
        if math.prod(chosen) == extent and all(factor <= 2 for factor in chosen[count - spatial :]):
            yield chosen


def least(problem: Problem, built: Architecture, mappings: Iterable[Mapping]) -> tuple[float, float]:
    """Least cycles and least energy of the mappings that fit."""
    prepared, fitting = prepare(problem, built), []
    for mapping in mappings:
        analysis = Analysis(mapping, prepared, prepared.run(*mapping.arrays(problem)))
        if not analysis.overflows():
            fitting.append((analysis.cycles, analysis.energy_j))
    return min(cycles for cycles, _ in fitting), min(energy for _, energy in fitting)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_optimum_of_all_mappings_in_all_orders(sparse: bool) -> None:
    """Also when the budget is far below the space."""
    problem = Problem.gemm(2, 4, 2)
    if sparse:
        problem = problem.with_densities({"A": UniformRandom(0.5)})
    tight = machine(sparse, sram=12, pe=6)
    distinct = {(mapping.nest, mapping.levels[1].spatial): mapping for mapping in every_mapping(problem)}
    fastest, thriftiest = least(problem, tight, distinct.values())
    for budget in (10**7, 20_000):
        limits = Constraints(padding=False)
        assert find(problem, tight, constraints=limits, budget=budget).best.cycles == fastest
        found = find(problem, tight, Objective.ENERGY, limits, budget=budget)
        assert found.best.energy_j == pytest.approx(thriftiest, rel=1e-12)
        assert not found.best.overflows()


def convolution() -> Problem:
    """Two filters of 2 channels and 2 taps, over 3 pixels: tiles of the input overlap."""
    axes = {"A": ("m", "c", "r"), "B": ("c", "p r"), "C": ("m", "p")}
    operands = tuple(
        Operand(name, tuple(tuple((dim, 1) for dim in axis.split()) for axis in sums)) for name, sums in axes.items()
    )
    return Problem((("m", 2), ("c", 2), ("p", 3), ("r", 2)), operands, "C")


def two_levels(may_bypass: tuple[str, ...] = ("A", "B")) -> Architecture:
    """A small buffer that costs nearly as much as the memory outside."""
    pj = [StorageEnergies({"read": energy, "write": energy}) for energy in (10.0, 8.0)]
    outer = Storage("DRAM", read_words_per_cycle=0.75, write_words_per_cycle=0.75, energies=pj[0])
    inner = Storage("BUF", capacity_words=7, energies=pj[1], may_bypass=may_bypass)
    return Architecture((outer, inner), Compute("MAC", 2, 2, 1, energies=ComputeEnergies({"mac_random": 1.0})))


def every_convolution(problem: Problem, built: Architecture) -> Iterator[Mapping]:
    """All perfect factors, orders and choices of bypass, with the dimensions of one role on the axis."""
    kept = [("A", "B", "C"), ("B", "C"), ("A", "C"), ("C",)]
    for lanes in ("m", "p", "cr"):
        splits = []
        for dim, extent in problem.dims:
            ways = itertools.product(divisors(extent), repeat=3)
            splits.append([way for way in ways if math.prod(way) == extent and (dim in lanes or way[2] == 1)])
        for ways in itertools.product(*splits):
            if math.prod(way[2] for way in ways) > built.compute.instances:
                continue
            outer, inner, across = (dict(zip("mcpr", factors, strict=True)) for factors in zip(*ways, strict=True))
            fan = tuple(Loop(dim, across[dim], LoopKind.X) for dim in "mcpr" if across[dim] > 1)
            within = tuple(Loop(dim, inner[dim]) for dim in "mcpr")
            for order in itertools.permutations(dim for dim in "mcpr" if outer[dim] > 1):
                loops = tuple(Loop(dim, outer[dim]) for dim in order)
                for keep in kept:
                    buffer = LevelMapping("BUF", keep, within, fan)
                    yield Mapping((LevelMapping("DRAM", ("A", "B", "C"), loops), buffer))


def test_the_optimum_of_a_convolution_with_halos_and_a_choice_of_bypass() -> None:
    """Orders of loops that slide over an input differ in more than the tensor that stays."""
    problem, built = convolution(), two_levels()
    fastest, thriftiest = least(problem, built, every_convolution(problem, built))
    limits = Constraints(padding=False)
    for budget, exhaustive in ((10**6, True), (6000, False)):
        fast = find(problem, built, constraints=limits, budget=budget)
        thrifty = find(problem, built, Objective.ENERGY, limits, budget=budget)
        assert fast.exhaustive is thrifty.exhaustive is exhaustive
        assert fast.best.cycles == fastest
        assert thrifty.best.energy_j == pytest.approx(thriftiest, rel=1e-12)
        assert max(fast.evaluated, thrifty.evaluated) <= budget
    held = find(problem, two_levels(()), Objective.ENERGY, limits, budget=10**6)
    assert set(held.best.mapping.levels[1].keep) == {"A", "B", "C"}
    assert held.best.energy_j > thrifty.best.energy_j


@pytest.mark.parametrize("density", [None, UniformRandom(0.3), "mask"])
def test_arrays_of_mappings_agree_with_analyze_bit_for_bit(density: UniformRandom | str | None) -> None:
    from simsparse.dataflow import _batch
    from simsparse.dataflow._batch import Outcome
    from simsparse.dataflow._kernel import Kernel

    rng = np.random.default_rng(3)
    problem = Problem.gemm(16, 12, 8)
    if density is not None:
        given = ActualData(rng.random((16, 8)) < 0.4) if isinstance(density, str) else density
        problem = problem.with_densities({"A": given})
    built = machine(density is not None)
    if isinstance(_batch.evaluate_many, Kernel):
        _batch.evaluate_many.compile()
    room, available = np.full(3, np.inf), np.array([1.0, 1.0, 4.0, 4.0])
    prepared = prepare(problem, built)
    for order in orders(problem, built, dataflow("any"), padding=False)[::13]:
        picks = np.stack([rng.integers(0, size, 150) for size in order.sizes])
        outcomes = np.empty((len(Outcome), 150))
        while True:
            asked = prepared.asked(1000)
            _batch.evaluate_many(
                *prepared.spec, *asked, order.loops, order.stored, order.splits, picks, room, available, 0, outcomes
            )
            if asked.n_missing[0] == 0:
                break
            prepared.answers.add(asked.missing[: asked.n_missing[0]])
        for lane in (0, 1, 127, 128, 149):
            one = analyze(problem, built, order.mapping(picks[:, lane], problem, built))
            assert (one.cycles, one.energy_j) == (outcomes[Outcome.CYCLES, lane], outcomes[1, lane] * 1e-12)


def test_same_seed_same_mapping_and_cores_do_not_matter() -> None:
    problem, built = Problem.gemm(256, 512, 128), machine(sram=4096, side=8, pe=32)
    one, again, two = (find(problem, built, Objective.EDP, budget=30_000, cores=cores) for cores in (1, 1, 2))
    assert one.best.mapping == again.best.mapping == two.best.mapping
    assert one.pareto == two.pareto
    assert not one.exhaustive
    assert one.evaluated >= 1000


def test_dataflows_together_find_what_each_finds_alone() -> None:
    """With equal budgets, energies of mappings that take the same time included."""
    problem, built = Problem.gemm(96, 256, 128), machine(sram=4096, side=8, pe=32)
    flows = tuple(NAMED.values())
    together = find(problem, built, constraints=Constraints(flows), budget=3000 * len(flows))
    alone = [find(problem, built, constraints=Constraints((flow,)), budget=3000) for flow in flows]
    assert together.evaluated == sum(found.evaluated for found in alone)
    best = min(alone, key=lambda found: (found.best.cycles, found.best.energy_j))
    assert (together.best.mapping, together.dataflow) == (best.best.mapping, best.dataflow)


def test_pareto_front_falls_and_holds_the_best_of_both() -> None:
    problem, built = Problem.gemm(8, 8, 4), machine(sram=48)
    found = find(problem, built, budget=10**7, constraints=Constraints(padding=False))
    cycles, energies = [p.cycles for p in found.pareto], [p.energy_j for p in found.pareto]
    assert cycles == sorted(cycles)
    assert energies == sorted(energies, reverse=True)
    assert cycles[0] == found.best.cycles
    thrifty = find(problem, built, Objective.ENERGY, Constraints(padding=False), budget=10**7)
    assert energies[-1] == pytest.approx(thrifty.best.energy_j, rel=1e-12)
    blend = find(problem, built, Objective.blend(0.5), Constraints(padding=False), budget=10**7)
    assert found.best.cycles <= blend.best.cycles
    assert thrifty.best.energy_j <= blend.best.energy_j * (1 + 1e-9)


def test_dram_traffic_responds_to_sram() -> None:
    energies = [
        find(Problem.gemm(64, 64, 64), machine(sram=sram), Objective.ENERGY, budget=20_000).best.energies_j()["DRAM"]
        for sram in (64, 512, 4096)
    ]
    assert energies[0] > energies[1] > energies[2]


def test_nothing_fits_says_level_tensor_and_words() -> None:
    with pytest.raises(
        UnsupportedError, match=r"level SRAM would hold 3 words of 2, 1 too many, most of them of tensor"
    ):
        find(Problem.gemm(8, 8, 8), machine(), constraints=Constraints(capacity_words={"SRAM": 2}))
    with pytest.raises(UnsupportedError, match=r"keeps 90% of the array busy, the best one keeps \d+\.\d%"):
        find(Problem.gemm(7, 1, 1), machine(), constraints=Constraints(least_utilisation=0.9, padding=False))


def test_the_mean_fits_where_the_worst_case_does_not() -> None:
    problem = Problem.gemm(16, 1, 16).with_densities({"A": UniformRandom(0.25)})
    small = machine(sparse=True, sram=40, pe=8)
    strict = find(problem, small, budget=10**6)
    loose = find(problem, small, constraints=Constraints(mean_occupancy=True), budget=10**6)
    assert not strict.best.overflows()
    assert loose.best.overflows()
    assert not loose.best.overflows(mean=True)
    assert loose.best.cycles <= strict.best.cycles


def test_metadata_counts_in_the_room_that_a_search_has() -> None:
    """Elements of 3 words hold one of each tensor, but not the bit that says whether A's is there."""
    problem = Problem.gemm(4, 1, 4).with_densities({"A": UniformRandom(0.25)})
    shared = machine(sparse=True, sram=40, pe=3)
    apart = replace(shared, levels=tuple(replace(level, metadata_capacity_bits=math.inf) for level in shared.levels))
    none = replace(apart, levels=(*apart.levels[:2], replace(apart.levels[2], metadata_capacity_bits=0.5)))
    assert not find(problem, apart).best.overflows()
    for short, what in (
        (shared, "3.125 words of 3 (0.125 of them metadata), 0.125"),
        (none, "1 bits of metadata of 0.5, 0.5"),
    ):
        with pytest.raises(UnsupportedError, match=re.escape(f"level PE would hold {what} too many, most of them")):
            find(problem, short)


def test_named_dataflows_keep_their_tensor() -> None:
    """The loop right outside the elements does not index what stays, in every mapping of the dataflow."""
    problem = Problem.gemm(32, 32, 32)
    for name, tensor in (("weight-stationary", "A"), ("output-stationary", "C"), ("input-stationary", "B")):
        found = find(problem, machine(sram=2048), constraints=Constraints((dataflow(name),)), budget=20_000)
        loops = found.best.mapping.levels[1].temporal
        relevant = problem.tensor(tensor).dims
        seen = [loop.dim in relevant for loop in loops]
        assert seen == sorted(seen, reverse=True)
        assert found.dataflow == name
    row = find(problem, machine(sram=2048), constraints=Constraints((dataflow("row-stationary"),)), budget=20_000)
    assert all(loop.dim == "K" for loop in row.best.mapping.levels[2].temporal)
    every = find(problem, machine(sram=2048), constraints=Constraints(tuple(NAMED.values())), budget=80_000)
    assert all(flow in every.why for flow in NAMED)


def test_an_extent_that_does_not_divide_is_padded() -> None:
    """67 rows on 32 lanes, of which perfect factors use one."""
    built, problem = machine(sram=8192, side=32, pe=64, rate=1000), Problem.gemm(67, 67, 67)
    padded = find(problem, built, budget=20_000)
    perfect = find(problem, built, constraints=Constraints(padding=False), budget=20_000)
    assert padded.best.mapping.imperfect
    assert padded.best.cycles < perfect.best.cycles


def test_splits_are_all_factorisations() -> None:
    found = split(24, (math.inf, 4.0, math.inf))
    every = {t for t in itertools.product(divisors(24), repeat=3) if math.prod(t) == 24 and t[1] <= 4}
    assert {tuple(int(f) for f in way) for way in found.T} == every


def test_bad_input_is_one_sentence() -> None:
    problem, built = Problem.gemm(4, 4, 4), machine()
    with pytest.raises(UnknownNameError, match="weight-stationary"):
        dataflow("weight-stationery")
    with pytest.raises(UnknownNameError, match="level"):
        find(problem, built, constraints=Constraints(capacity_words={"SRAN": 2}))
    with pytest.raises(InputError, match="objective"):
        Objective(0.0, 0.0)
    with pytest.raises(InputError, match="budget"):
        find(problem, built, budget=0)
