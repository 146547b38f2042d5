"""Energy per action against the tables it comes from, against physics, and against the power of whole cards."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models.gpu.spec import GpuSpec
from simsparse.energy import InstructionKind, energy_table
from simsparse.errors import InputError, UnknownNameError
from simsparse.specs import checked, read_toml

FOLDER = Path(__file__).parents[1] / "accel_models" / "gpu" / "machines"
MACHINES = [path for path in sorted(FOLDER.glob("*.toml")) if "base" not in read_toml(path)]
TABLE = energy_table()
TYPES = sorted(TABLE.multiply_pj)
NODES = st.floats(3, 90)
TILE, WARP_TILE = 128, 64


@dataclass(frozen=True)
class Gemm:
    """Energy of a dense-equivalent multiply-accumulate of an 8192³ fp16 GEMM in tiles of 128 x 128, in J."""

    core_j: float
    moved_j: float

    @property
    def total_j(self) -> float:
        return self.core_j + self.moved_j


def gemm(spec: GpuSpec, weight_stored: float = 1.0, executed: float = 1.0) -> Gemm:
    """Operands pass shared memory once a warp tile, L2 once a tile, DRAM once a wave of as many tiles as SMs."""
    nm = spec.process_nm.value
    operands = 2.0 * (weight_stored + 1.0)
    wave = TILE * math.sqrt(spec.sm_count.value)
    moved = operands / WARP_TILE * TABLE.cache_j_per_byte(spec.smem_bytes_per_sm.value, nm)
    moved += operands / TILE * TABLE.cache_j_per_byte(spec.l2_bytes.value, nm)
    moved += (operands / wave + 2.0 / 8192) * TABLE.dram_j_per_byte(spec.dram_kind.value)
    return Gemm(executed * TABLE.mac_j("fp16", 32, nm), moved)


def card(name: str) -> GpuSpec:
    path = next(path for path in MACHINES if path.stem == name)
    return checked(GpuSpec, read_toml(path), where=path.name)


@pytest.fixture(scope="module")
def rows(evidence: Path) -> dict[tuple[str, str], float]:
    """Values of energy.csv by device and operation."""
    with (evidence / "published" / "energy.csv").open(encoding="utf-8") as file:
        return {(row["device"], row["op"]): float(row["value"]) for row in csv.DictReader(file) if row["value"]}


@pytest.mark.parametrize(
    ("kind", "process_nm", "row"),
    [
        ("fp16", 7, ("7 nm", "FP16 multiply + FP32 add (MAC)")),
        ("bf16", 7, ("7 nm", "bf16 multiply + FP32 add (MAC)")),
        ("int8", 7, ("7 nm", "int8 multiply + int32 add (MAC)")),
        ("fp32", 7, ("7 nm", "FP32 multiply + FP32 add (MAC)")),
        ("fp16", 45, ("45 nm, 0.9 V", "FP16 multiply + FP32 add (MAC)")),
        ("int8", 45, ("45 nm, 0.9 V", "int8 multiply + int32 add (MAC)")),
        ("fp32", 45, ("45 nm, 0.9 V", "FP32 multiply + FP32 add (MAC)")),
    ],
)
def test_arithmetic_equals_the_published_sums(
    kind: str, process_nm: float, row: tuple[str, str], rows: dict[tuple[str, str], float]
) -> None:
    assert TABLE.arithmetic_j(kind, 32, process_nm) == pytest.approx(rows[row] * 1e-12, rel=1e-9)


def test_memories_equal_the_published_figures(rows: dict[tuple[str, str], float]) -> None:
    old, new = "45 nm, 0.9 V", "7 nm"
    assert TABLE.sram_j_per_byte(8192, 45) == pytest.approx(rows[old, "32-bit SRAM cache (8 KB) read"] / 4 * 1e-12)
    assert TABLE.sram_j_per_byte(2**20, 45) == pytest.approx(rows[old, "MB-scale SRAM read, 32-bit"] / 4 * 1e-12)
    assert TABLE.sram_j_per_byte(32768, 7) == pytest.approx(rows[new, "32 KB SRAM 64-bit read"] / 8 * 1e-12)
    assert TABLE.dram_j_per_byte("GDDR6") == pytest.approx(rows["memory device average", "GDDR6 device"] * 1e-12)
    assert TABLE.dram_j_per_byte("HBM2e") == pytest.approx(rows["memory device average", "HBM2E device"] * 1e-12)
    assert TABLE.dram_j_per_byte("HBM2") == pytest.approx(rows["28 nm DRAM model", "HBM2 total"] * 8e-12)


def test_small_memories_by_the_square_root_agree_with_cacti(rows: dict[tuple[str, str], float]) -> None:
    """CACTI's figures for 128 and 512 bytes are no input: the rule that comes down from 8 KiB must find them."""
    for size in (128, 512):
        both = [rows["45 nm", f"SRAM {size} B {action}"] * 8e-12 for action in ("read", "write")]
        assert min(both) * 0.85 <= TABLE.sram_j_per_byte(size, 45) <= max(both)


def test_a_tensor_instruction_agrees_with_dally(rows: dict[tuple[str, str], float]) -> None:
    hmma = rows["45 nm, 0.9 V", "HMMA instruction total"] * 1e-12 / 64
    assert TABLE.arithmetic_j("fp16", 32, 45) == pytest.approx(hmma, rel=0.2)


@given(process_nm=NODES, smaller=NODES)
def test_a_smaller_node_never_costs_more(process_nm: float, smaller: float) -> None:
    smaller, process_nm = sorted((smaller, process_nm))
    for kind in TYPES:
        assert TABLE.mac_j(kind, 32, smaller) <= TABLE.mac_j(kind, 32, process_nm) * (1 + 1e-12)
    assert TABLE.sram_j_per_byte(2**16, smaller) <= TABLE.sram_j_per_byte(2**16, process_nm) * (1 + 1e-12)
    assert TABLE.register_j_per_byte(smaller) <= TABLE.register_j_per_byte(process_nm) * (1 + 1e-12)


@given(process_nm=NODES)
def test_narrower_types_and_smaller_memories_cost_less(process_nm: float) -> None:
    order = ("int4", "int8", "fp16", "fp32", "fp64")
    energies = [TABLE.arithmetic_j(kind, 64 if kind == "fp64" else 32, process_nm) for kind in order]
    assert energies == sorted(energies)
    assert TABLE.arithmetic_j("fp16", 16, process_nm) < TABLE.arithmetic_j("fp16", 32, process_nm)
    sizes = [2.0**power for power in range(5, 30)]
    levels = [TABLE.sram_j_per_byte(size, process_nm) for size in sizes]
    assert levels == sorted(levels)
    assert TABLE.register_j_per_byte(process_nm) < TABLE.sram_j_per_byte(8192, process_nm)
    assert TABLE.cache_j_per_byte(40 * 2**20, 7) < TABLE.dram_j_per_byte("HBM2e")


@given(size=st.floats(64, 2**28))
def test_capacity_has_no_jumps(size: float) -> None:
    assert TABLE.sram_j_per_byte(size * 1.001, 7) / TABLE.sram_j_per_byte(size, 7) < 1.002


def test_past_the_newest_node_memories_of_all_sizes_shrink_alike() -> None:
    ratios = [TABLE.sram_j_per_byte(size, 4) / TABLE.sram_j_per_byte(size, 7) for size in (2**13, 2**15, 2**20, 2**26)]
    assert ratios == pytest.approx([(4 / 7) ** (math.log(1.25 / 0.9375) / math.log(45 / 7))] * 4)


def test_banks_pay_the_overhead_and_wires_do_not() -> None:
    assert TABLE.cache_j_per_byte(2**15, 7) == pytest.approx(1.0625e-12 * 1.8)
    assert TABLE.cache_j_per_byte(2**24, 7) == pytest.approx(1.75e-12 * (4 + 0.8))


def test_overheads_go_down_with_wider_instructions() -> None:
    lane = TABLE.core_mac_j("fp32", 32, 7, InstructionKind.GPU_LANE, 1)
    vector = TABLE.core_mac_j("fp32", 32, 7, InstructionKind.CPU_WIDE, 16)
    assert lane == pytest.approx((1.69 + 9) * 1.8e-12)
    assert vector == pytest.approx((1.69 + 250 / 16) * 1.8e-12)
    assert TABLE.mac_j("fp16", 32, 7) == pytest.approx((0.72 + 9 / 64) * 1.8e-12)
    assert TABLE.mac_j("int8", 32, 7) == pytest.approx((0.1 + 9 / 128) * 1.8e-12)


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_power_of_a_peak_gemm_before_the_cap_is_near_the_limit(path: Path) -> None:
    """At the accumulator that draws most: GeForce cards run fp32 accumulation at half the rate, far below the limit."""
    spec = card(path.stem)
    nm, found = spec.process_nm.value, gemm(spec)
    watts = [spec.peak_macs_per_s("fp16") * found.total_j]
    if spec.rate("fp16_acc16"):
        half_j = found.total_j + TABLE.mac_j("fp16", 16, nm) - TABLE.mac_j("fp16", 32, nm)
        watts.append(spec.peak_macs_per_s("fp16_acc16") * half_j)
    assert 0.4 <= (spec.idle_w.value + max(watts)) / spec.tdp_w.value <= 2.5


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_two_of_four_takes_between_half_and_all_of_the_dynamic_energy(path: Path) -> None:
    spec = card(path.stem)
    assert 0.5 <= gemm(spec, weight_stored=0.5625, executed=0.5).total_j / gemm(spec).total_j < 1


@pytest.mark.parametrize(
    ("name", "row", "tolerance"),
    [
        ("a100-sxm-80gb", ("A100, 400 W", "fp16 GEMM, random data"), 0.15),
        ("rtx-pro-6000-blackwell", ("RTX PRO 6000 Blackwell, 600 W", "bf16 GEMM"), 0.15),
        ("l4", ("L4, 72 W", "fp16 GEMM, fp32 accumulate"), 0.6),
    ],
)
def test_whole_cards_at_their_power_limit(
    name: str, row: tuple[str, str], tolerance: float, rows: dict[tuple[str, str], float]
) -> None:
    """Measured energy per FLOP of the whole board: the GEMM's, and idle power over the rate that the limit allows."""
    spec = card(name)
    flops_per_s = spec.tdp_w.value / (rows[row] * 1e-12)
    predicted = gemm(spec).total_j / 2 + spec.idle_w.value / flops_per_s
    assert predicted == pytest.approx(rows[row] * 1e-12, rel=tolerance)


def test_every_figure_has_a_source_and_weak_ones_are_listed() -> None:
    assert all(figure.source for _, figure in TABLE.figures())
    assert "multiply_pj.fp16.nm7" in TABLE.unverified()
    assert "core.overhead" in TABLE.assumed()
    assert "dram_pj_per_bit.HBM2" not in TABLE.unverified() + TABLE.assumed()


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(UnknownNameError, match="no type is named 'fp15'"):
        TABLE.mac_j("fp15", 32, 7)
    with pytest.raises(UnknownNameError, match="no sum type is named 'fp24'"):
        TABLE.mac_j("fp16", 24, 7)
    with pytest.raises(UnknownNameError, match="no kind of memory is named 'HBM9'"):
        TABLE.dram_j_per_byte("HBM9")
    with pytest.raises(InputError, match=r"process_nm is 0, expected 1 to 250"):
        TABLE.mac_j("fp16", 32, 0)
    with pytest.raises(InputError, match=r"capacity_bytes is -1, expected more than 0"):
        TABLE.sram_j_per_byte(-1, 7)
    with pytest.raises(InputError, match=r"accumulate_bits is 0, expected 1 to 64"):
        TABLE.arithmetic_j("int8", 0, 7)
