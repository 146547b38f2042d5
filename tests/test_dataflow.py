"""The dataflow engine: physics that must hold, densities, explanations, files, and one sentence for bad input."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
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
from simsparse.dataflow.density import DENSE, ActualData, Banded, Density, FixedStructured, UniformRandom, empty_table
from simsparse.dataflow.energies import ComputeEnergies, StorageEnergies
from simsparse.dataflow.mapping import LevelMapping, Loop, LoopKind, Mapping
from simsparse.dataflow.measured import hypergeometric
from simsparse.dataflow.problem import Operand, Problem
from simsparse.errors import InputError, UnknownNameError, UnsupportedError

BITMASK = TensorFormat((Rank(RankFormat.UNCOMPRESSED), Rank(RankFormat.BITMASK, 1)))
COORDINATE = TensorFormat((Rank(RankFormat.UNCOMPRESSED), Rank(RankFormat.COORDINATE, 8)))

COMPRESSED_ROWS = TensorFormat((Rank(RankFormat.UNCOMPRESSED, payload_bits=8), Rank(RankFormat.COORDINATE, 4)))


def machine(
    layout: TensorFormat | None = None, actions: tuple[Action, ...] = (), capacity_words: float = 512
) -> Architecture:
    """DRAM, a buffer, a row of 8 MACs."""
    formats = {"A": layout} if layout else {}
    far, near = (StorageEnergies({"read": price, "write": price}) for price in (100.0, 1.0))
    outer = Storage(
        "DRAM", block_words=8, energies=far, formats=formats, metadata_width_bits=8, read_words_per_cycle=4,
        write_words_per_cycle=4,
    )  # fmt: skip
    inner = Storage(
        "Buffer", capacity_words=capacity_words, energies=near, formats=formats, metadata_width_bits=8, actions=actions
    )
    return Architecture((outer, inner), Compute(instances=8, mesh_x=8, energies=ComputeEnergies({"mac_random": 0.5})))


def tiled(m: int = 4, n: int = 4, k: int = 4) -> Mapping:
    """16³ in two levels with K over 4 lanes."""
    outer = (Loop("M", 16 // m), Loop("N", 16 // n), Loop("K", 16 // k))
    inner = (Loop("M", m), Loop("N", n), Loop("K", k // 4))
    return Mapping((
        LevelMapping("DRAM", ("A", "B", "C"), outer),
        LevelMapping("Buffer", ("A", "B", "C"), inner, (Loop("K", 4, LoopKind.X),)),
    ))  # fmt: skip


def run(a: Density = DENSE, layout: TensorFormat | None = None, actions: tuple[Action, ...] = ()) -> Analysis:
    return analyze(Problem.gemm(16, 16, 16, a=a), machine(layout, actions), tiled())


def skip_b() -> tuple[Action, ...]:
    return (Action(ActionKind.SKIPPING, (Option("B", ("A",)),)),)


def test_traffic_balances() -> None:
    """Reads times multicast are fills below and operand uses; what is written back is what was computed."""
    analysis = run()
    for tensor in ("A", "B"):
        assert analysis.count("DRAM", tensor, Count.READS) == analysis.count("Buffer", tensor, Count.FILLS)
        assert analysis.count("Buffer", tensor, Count.READS) == 16**3
    assert analysis.count("Buffer", "C", Count.UPDATES) == 16**3 / 4  # four lanes add up to one update
    # K is innermost, so that sums stay in the buffer until they are done.
    assert analysis.count("DRAM", "C", Count.UPDATES) == 16 * 16
    assert analysis.count("DRAM", "C", Count.READS) == 0


def test_parts_add_up() -> None:
    analysis = run(UniformRandom(0.3), BITMASK, skip_b())
    assert sum(analysis.energies_j().values()) == pytest.approx(analysis.energy_j)
    assert analysis.cycles == max(analysis.level_cycles("DRAM"), analysis.level_cycles("Buffer"))
    assert analysis.bound == "DRAM"
    for tensor, action in itertools.product("ABC", range(3)):
        dense = analysis.count("Buffer", tensor, Count(Count.READS + action))
        states = [analysis.count("Buffer", tensor, Count(Count.ACTUAL_READS + action + 3 * s)) for s in range(3)]
        assert sum(states) <= dense + 1e-9


@settings(max_examples=25, deadline=None)
@given(first=st.floats(0.05, 0.95), second=st.floats(0.05, 0.95))
def test_fewer_nonzeros_never_cost_more(first: float, second: float) -> None:
    low, high = sorted((first, second))
    for layout, actions in ((BITMASK, ()), (COORDINATE, ()), (COORDINATE, skip_b())):
        sparse, dense = (run(UniformRandom(density), layout, actions) for density in (low, high))
        assert sparse.energy_j <= dense.energy_j * (1 + 1e-12)
        assert sparse.cycles <= dense.cycles * (1 + 1e-12)
        assert sparse.total(Total.ACTUAL) <= dense.total(Total.ACTUAL) * (1 + 1e-12)


def test_skipping_saves_cycles_and_gating_does_not() -> None:
    gate = (Action(ActionKind.GATING, (Option("B", ("A",)),)),)
    skipped, gated = (run(FixedStructured(0.25), COORDINATE, actions) for actions in (skip_b(), gate))
    for analysis, word in ((skipped, "SKIPPED"), (gated, "GATED")):
        assert analysis.count("Buffer", "B", Count[f"{word}_READS"]) == 0.75 * 16**3
        assert analysis.count("Buffer", "B", Count.ACTUAL_READS) == 0.25 * 16**3
    assert gated.count("Buffer", "B", Count.READ_WORDS) == 16**3
    assert skipped.count("Buffer", "B", Count.READ_WORDS) == 0.25 * 16**3


def test_traffic_falls_with_the_size_of_the_tile() -> None:
    """A larger buffer lets larger tiles in, and DRAM sees it."""
    problem = Problem.gemm(16, 16, 16)
    reads = []
    for side in (4, 8, 16):
        analysis = analyze(problem, machine(), tiled(side, side, side))
        reads.append(sum(analysis.count("DRAM", tensor, Count.READS) for tensor in "AB"))
    assert reads == [2 * 4 * 256, 2 * 2 * 256, 2 * 256]


def test_overflow_names_level_tensor_and_words() -> None:
    mapping = tiled(16, 16, 4)
    fits, overflows = (analyze(GEMM, machine(capacity_words=words), mapping).overflows() for words in (384, 300))
    assert fits == ()
    assert [str(overflow) for overflow in overflows] == [
        "level Buffer would hold 384 words of 300, 84 too many, most of them of tensor C"
    ]


def test_worst_case_and_mean_of_a_compressed_tile() -> None:
    analysis = run(UniformRandom(0.25), COORDINATE)
    # A tile of 16 words of which a quarter is nonzero on average; all may be.
    assert analysis.count("Buffer", "A", Count.OCCUPANCY_MAX) == 16
    assert analysis.count("Buffer", "A", Count.OCCUPANCY_MEAN) == pytest.approx(4, rel=0.01)
    structured = run(FixedStructured(0.25), COORDINATE)
    assert structured.count("Buffer", "A", Count.OCCUPANCY_MAX) == 4


def held(layout: TensorFormat, density: Density, **changes: float) -> Analysis:
    """Tiles of 4 x 4: 16 words of B and of C, and A in a format, in a buffer of words of 8 bits."""
    base = machine(layout)
    levels = (base.levels[0], replace(base.levels[1], **changes))
    return analyze(Problem.gemm(16, 16, 16, a=density), replace(base, levels=levels), tiled())


@pytest.mark.parametrize(
    ("layout", "density", "most", "mean"),
    [
        (BITMASK, FixedStructured(0.25), 16, 16),  # a bit for each word
        (COORDINATE, FixedStructured(0.25), 4 * 8, 4 * 8),
        (COORDINATE, UniformRandom(0.25), 16 * 8, 4 * 8),  # all may be nonzero, a quarter is
        (COMPRESSED_ROWS, FixedStructured(0.25), (4 + 1) * 8 + 4 * 4, (4 + 1) * 8 + 4 * 4),
        (COMPRESSED_ROWS, UniformRandom(0.25), (4 + 1) * 8 + 16 * 4, (4 + 1) * 8 + 4 * 4),
    ],
)
def test_metadata_of_the_fullest_and_the_mean_tile(
    layout: TensorFormat, density: Density, most: float, mean: float
) -> None:
    analysis = held(layout, density)
    assert analysis.count("Buffer", "A", Count.METADATA_MAX_BITS) == most
    assert analysis.count("Buffer", "A", Count.METADATA_MEAN_BITS) == pytest.approx(mean, rel=0.01)


def test_metadata_takes_room_beside_the_data() -> None:
    """4 words of A and 16 bits of its mask, 16 words of B and of C: 38 words of 8 bits."""
    assert held(BITMASK, FixedStructured(0.25), capacity_words=38).overflows() == ()
    (short,) = held(BITMASK, FixedStructured(0.25), capacity_words=37).overflows()
    assert str(short) == (
        "level Buffer would hold 38 words of 37 (2 of them metadata), 1 too many, most of them of tensor B"
    )


def test_metadata_in_a_store_of_its_own() -> None:
    assert held(BITMASK, FixedStructured(0.25), capacity_words=36, metadata_capacity_bits=16).overflows() == ()
    short = held(BITMASK, FixedStructured(0.25), capacity_words=35, metadata_capacity_bits=15).overflows()
    assert [str(each) for each in short] == [
        "level Buffer would hold 36 words of 35, 1 too many, most of them of tensor B",
        "level Buffer would hold 16 bits of metadata of 15, 1 too many, most of them of tensor A",
    ]
    with pytest.raises(InputError, match=r"^metadata capacity of level L is 0, expected above 0 bits"):
        Storage("L", metadata_capacity_bits=0)


@given(units=st.integers(1, 40), data=st.data())
def test_empty_table_is_the_hypergeometric_one(units: int, data: st.DataObject) -> None:
    nonzero = data.draw(st.integers(0, units))
    table = empty_table(units, nonzero)
    for drawn in range(units + 1):
        exact = math.comb(units - nonzero, drawn) / math.comb(units, drawn)
        assert (table[drawn] if drawn < len(table) else 0.0) == pytest.approx(exact, abs=1e-12)
        counts, odds = hypergeometric(units, nonzero, drawn)
        assert odds[counts == 0].sum() == pytest.approx(exact, abs=1e-9)
        assert odds @ counts == pytest.approx(drawn * nonzero / units, abs=1e-9)


def test_random_blocks_leave_more_tiles_empty() -> None:
    """The same density in blocks of 4 × 4 sends fewer tiles."""
    single, blocks = (run(UniformRandom(0.25, block), COORDINATE) for block in ((), (4, 4)))
    assert blocks.count("Buffer", "A", Count.INSTANCES_MEAN) == 0.25
    assert single.count("Buffer", "A", Count.INSTANCES_MEAN) > 0.9


def test_a_band_is_its_mask() -> None:
    band = Banded(2, (16, 16))
    as_band, as_mask = (run(density, BITMASK, skip_b()) for density in (band, ActualData(band.mask)))
    assert np.array_equal(as_band.result.counts, as_mask.result.counts)
    assert as_band.count("Buffer", "A", Count.INSTANCES_MEAN) < 1


def test_position_skipping_packs_nonzeros_into_lanes() -> None:
    """By hand: a column of 8 with 3 nonzeros in 4 lanes takes one round of two."""
    mask = np.zeros((8, 1), bool)
    mask[[0, 3, 5]] = True
    level = Storage("L", formats={"A": COORDINATE}, actions=(Action(ActionKind.POSITION_SKIPPING, (Option("A"),)),))
    nest = LevelMapping("L", ("A", "B", "C"), (Loop("M", 2),), (Loop("M", 4, LoopKind.X),))
    problem = Problem.gemm(8, 1, 1, a=ActualData(mask))
    analysis = analyze(problem, Architecture((level,), Compute(instances=4, mesh_x=4)), Mapping((nest,)))
    assert analysis.total(Total.ACTUAL) == 3
    assert analysis.total(Total.INSTANCES_MEAN) == 3
    assert analysis.cycles == 1


def test_sparseloop_rounds_and_exact_does_not() -> None:
    problem = Problem.gemm(16, 16, 16, a=UniformRandom(0.3))
    exact, rounded = (analyze(problem, machine(COORDINATE), tiled(), mode) for mode in ("exact", "sparseloop"))
    assert exact.count("DRAM", "A", Count.ACTUAL_READS) == pytest.approx(0.3 * 4 * 256)
    assert rounded.count("DRAM", "A", Count.ACTUAL_READS) == 308  # ⌈0.3 · 256⌉ / 256 of 1024
    assert rounded.energy_j == pytest.approx(exact.energy_j, rel=0.02)


def test_imperfect_factors_pad() -> None:
    """13 rows in tiles of 4 are 16: the padding is moved and computed, zeros of a mask are left out as ever."""
    mask = np.zeros((13, 16), bool)
    mask[:, ::2] = True
    small = Problem.gemm(13, 16, 16, a=ActualData(mask))
    padded = analyze(small, machine(COORDINATE), replace(tiled(), imperfect=True))
    whole = run(ActualData(np.pad(mask, [(0, 3), (0, 0)])), COORDINATE)
    assert np.array_equal(padded.result.counts, whole.result.counts)
    assert padded.count("DRAM", "A", Count.ACTUAL_READS) == 4 * 13 * 8
    with pytest.raises(InputError, match="factors of dimension M multiply to 16, expected its bound 13"):
        analyze(small, machine(), tiled())
    with pytest.raises(InputError, match="factors of dimension M multiply to 16, expected its bound 17 or more"):
        analyze(Problem.gemm(17, 16, 16), machine(), replace(tiled(), imperfect=True))


def test_the_same_input_gives_the_same_output() -> None:
    first, second = (run(UniformRandom(0.3), BITMASK, skip_b()) for _ in range(2))
    assert np.array_equal(first.result.counts, second.result.counts)
    assert np.array_equal(first.result.totals, second.result.totals)


def test_an_explanation_reads_well() -> None:
    tile = str(run().explain("Buffer", "A", Count.TILE)).splitlines()
    assert tile[0] == "A at Buffer: 16 words of a tile"
    lines = str(run().explain("DRAM", "A", Count.READS)).splitlines()
    assert lines[0] == "A at DRAM: 1,024 reads per instance"
    assert [line.split(maxsplit=2)[1:] for line in lines[1:]] == [
        ["16", "words of a tile of Buffer"], ["4", "K in 4 at DRAM"], ["4", "N in 4 at DRAM"], ["4", "M in 4 at DRAM"],
    ]  # fmt: skip


def test_lanes_over_zeros_are_left_out() -> None:
    """By hand: of 4 lanes over K, two hold nonzeros of a 2:4 row; the others are not there, and rows take two lanes."""
    level = Storage(
        "L", formats={"A": COORDINATE}, actions=(Action(ActionKind.SPATIAL_SKIPPING, (Option("B", ("A",)),)),)
    )
    nest = LevelMapping("L", ("A", "B", "C"), (Loop("M", 8),), (Loop("K", 4, LoopKind.X),))
    architecture = Architecture((level,), Compute(instances=2, mesh_x=2))
    for density in (FixedStructured(0.5), ActualData(np.tile([True, False, False, True], (8, 1)))):
        analysis = analyze(Problem.gemm(8, 1, 4, a=density), architecture, Mapping((nest,)))
        assert analysis.total(Total.INSTANCES_MAX) == 2
        assert analysis.total(Total.ACTUAL) == 16
        assert analysis.cycles == 8
        assert analysis.utilisation == 1


def _with(at: int, **changes: object) -> Mapping:
    levels = list(tiled().levels)
    levels[at] = replace(levels[at], **changes)
    return Mapping(tuple(levels))


GEMM = Problem.gemm(16, 16, 16)
BAD = [
    (
        GEMM, machine(), _with(0, temporal=(Loop("M", 3),)),
        "factors of dimension M multiply to 12, expected its bound 16",
    ),
    (
        GEMM, machine(), _with(1, temporal=(Loop("Q", 3),)),
        "dimension of a loop at level Buffer is 'Q', expected one of M, N, K",
    ),
    (GEMM, machine(), _with(1, keep=()), "level Buffer keeps nothing"),
    (GEMM, machine(), _with(1, keep=("D",)), "tensor at level Buffer is 'D', expected one of A, B, C"),
    (
        GEMM, machine(), Mapping(tuple(replace(part, keep=("B", "C")) for part in tiled().levels)),
        "tensor A is kept by no level, expected one of DRAM, Buffer to keep it",
    ),
    (GEMM, machine(capacity_words=0), tiled(), "level Buffer has a capacity of 0 words, expected room for tensor A"),
    (GEMM, machine(), _with(0, level="SRAM"), "levels of the mapping is 'SRAM, Buffer', expected DRAM, Buffer"),
    (
        GEMM, machine(None, (Action(ActionKind.GATING, (Option("B", ("D",)),)),)), tiled(),
        "condition of tensor B at level Buffer is 'D', expected one of A, B, C",
    ),
    (
        GEMM, machine(TensorFormat((Rank(RankFormat.COORDINATE, 4, dims=frozenset("Q")),))), tiled(),
        "dimension of rank 0 of tensor A at level DRAM is 'Q', expected one of M, N, K",
    ),
    (
        GEMM, machine(),
        _with(1, spatial=(Loop("K", 4, LoopKind.X), Loop("M", 4, LoopKind.X)), temporal=(Loop("N", 4),)),
        "instances of MAC that the mapping uses is 16.0, expected at most 8",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "architecture", "mapping", "message"), BAD)
def test_bad_input_is_one_sentence(
    problem: Problem, architecture: Architecture, mapping: Mapping, message: str
) -> None:
    with pytest.raises(InputError) as error:
        analyze(problem, architecture, mapping)
    assert str(error.value).startswith(message)


def test_bad_parts_are_refused() -> None:
    with pytest.raises(InputError, match=r"rank 0 .CP. of tensor A at level L has no metadata width"):
        Storage("L", formats={"A": TensorFormat((Rank(RankFormat.COORDINATE),))})
    with pytest.raises(InputError, match=r"shape of the mask of tensor A is .2, 2., expected .16, 16."):
        Problem.gemm(16, 16, 16, a=ActualData(np.ones((2, 2), bool)))
    with pytest.raises(InputError, match=r"density is 1.5, expected a fraction from 0 to 1"):
        UniformRandom(1.5)
    with pytest.raises(InputError, match="axis of tensor A is 'Q', expected one of M"):
        Problem((("M", 2),), (Operand("A", ((("Q", 1),),)),), "A")
    with pytest.raises(InputError, match="rounding is 'up', expected exact or sparseloop"):
        analyze(GEMM, machine(), tiled(), "up")
    with pytest.raises(InputError, match="count to explain is 'ENERGY_PJ', expected one of words, accesses"):
        run().explain("DRAM", "A", Count.ENERGY_PJ)
    with pytest.raises(UnknownNameError, match="no level is named 'SRAM'"):
        run().count("SRAM", "A", Count.READS)


def test_contractions_of_workloads_become_problems() -> None:
    from simsparse.dtypes import dtype
    from simsparse.ops import Role, Tensor, linear
    from simsparse.sparsity import parse

    weight = Tensor("w", (8, 16), dtype("fp16"), Role.WEIGHT, parse("2:4"))
    x, out = (Tensor(name, (4, size), dtype("fp16"), Role.ACTIVATION) for name, size in (("x", 16), ("y", 8)))
    problem = Problem.from_contraction(linear("layer", weight, x, out, tokens=4))
    assert problem.operations == 8 * 4 * 16
    assert problem.tensor("A").density == FixedStructured(0.5)
    assert problem.shape("B") == (4, 16)
    with pytest.raises(UnsupportedError, match="has no density model"):
        Problem.from_contraction(linear("layer", replace(weight, pattern=parse("rows:0.5")), x, out, tokens=4))
