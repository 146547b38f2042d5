"""The CPU family: specs against the evidence, physics as properties, known facts, energy, and measured encoders."""

from __future__ import annotations

import csv
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accel_models.cpu import FAMILY
from accel_models.cpu.chip import INT8
from accel_models.cpu.columns import ENERGY_NAMES, TERM_NAMES, MapColumn, Term
from accel_models.cpu.constants import constants
from accel_models.cpu.fit import STAGES, Stage, Target, fit_stage, prediction
from accel_models.cpu.kernels.spmm import Block4x1
from accel_models.cpu.machine import CpuMachine
from accel_models.cpu.spec import CpuSpec
from simsparse.dtypes import dtype
from simsparse.errors import InputError, UnsupportedError
from simsparse.measurements import read_measurements
from simsparse.ops import Role, Tensor, Transfer, TransferKind
from simsparse.plan import Floats, Prices, pattern_column
from simsparse.problems import gemm_problems, problem_of
from simsparse.simulate import estimate_problems
from simsparse.sparsity import PatternColumn

M = MapColumn


@lru_cache
def machine(name: str = "xeon-8375c", **changes: object) -> CpuMachine:
    spec = FAMILY.spec(FAMILY.files[name])
    built = FAMILY.build(spec.with_figures(changes) if changes else spec)
    assert isinstance(built, CpuMachine)
    return built


def priced(problem: Floats, kernel: str = "best", on: CpuMachine | None = None) -> Prices:
    target = on or machine()
    return target.price(target.lower_problems(problem, kernel=kernel))


# Specs


def test_specs_are_named_after_their_files_and_build() -> None:
    for name in FAMILY.files:
        spec = machine(name).spec
        assert spec.name == name
        assert machine(name).memory_bytes > 0


def test_importing_the_family_loads_no_compiler() -> None:
    code = "import sys, accel_models.cpu; sys.exit('numba' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_specs_agree_with_the_figures_of_the_evidence(evidence: Path) -> None:
    """Every CPU of devices.csv is a machine, and figures that need no choice are those of the file."""
    by_alias = {alias: machine(name).spec for name in FAMILY.files for alias in machine(name).spec.aliases}
    same = {
        "mem_bw_GBps": lambda s: s.dram_bandwidth_bytes_per_s.value / 1e9,
        "l2_KB_per_core": lambda s: s.l2.capacity_bytes.value / 1024,
        "l1d_KB_per_core": lambda s: s.l1d_bytes.value / 1024,
        "process_nm": lambda s: s.process_nm.value,
        "vcpu": lambda s: s.threads.value,
        "int8_macs_per_cycle_per_core": lambda s: s.macs_per_cycle["int8"].value,
        "fp32_flops_per_cycle_per_core": lambda s: 2 * s.macs_per_cycle["fp32"].value,
    }
    # What the CPU can draw of a memory that it shares with a GPU.
    chosen = {("Apple M2 Max", "mem_bw_GBps")}
    checked = 0
    with (evidence / "published" / "devices.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    cpus = {row["device"] for row in rows if row["metric"] in ("simd", "vcpu")}
    assert cpus <= set(by_alias)
    for row in rows:
        if row["device"] in cpus and row["metric"] in same and (row["device"], row["metric"]) not in chosen:
            assert same[row["metric"]](by_alias[row["device"]]) == pytest.approx(float(row["value"]), rel=1e-3), row
            checked += 1
    assert checked > 60


def test_threads_and_instances_are_refused_beyond_the_hardware() -> None:
    expected = r"expected threads_used times instances of at most cores \(32\), one thread a core$"
    with pytest.raises(InputError, match=f"^machine 'xeon-8375c': {expected}"):
        machine("xeon-8375c", threads_used=16, instances=3)
    with pytest.raises(InputError, match=expected):
        machine("xeon-8375c", threads_used=64)  # hyperthreads add no SIMD units


def test_threads_default_to_the_cores_of_an_instance() -> None:
    assert machine("c6i-12xlarge").chip.threads == 24
    assert machine("c6i-12xlarge", instances=6).chip.threads == 4
    assert machine("c6i-12xlarge", threads_used=2).chip.threads == 2


# Properties

sizes = st.integers(1, 6000)
names = st.sampled_from(sorted(FAMILY.files))
patterns = st.sampled_from([
    "dense", "unstructured:0.7", "block4x1:0.9", "block4x1:0.5", "2:4", "1:8", "act:0.5", "rows:0.25", "slice:0.5",
])  # fmt: skip
types = st.sampled_from(["fp32", "fp16", "bf16", "int8"])


@given(names, sizes, sizes, sizes, patterns, types)
@settings(max_examples=60, deadline=None)
def test_no_estimate_beats_its_roofline(name: str, m: int, n: int, k: int, pattern: str, kind: str) -> None:
    target = machine(name)
    problem = gemm_problems(m, n, k, pattern=pattern, a_dtype=kind)
    plan = target.lower_problems(problem)
    prices = target.price(plan)
    assert prices.latency_s[0] >= prices.roofline_s[0]
    # Nor that of its nonzeros at peak rate, whatever the kernel (a row or slice more or less for rounding).
    density = pattern_column(problem, PatternColumn.DENSITY)[0]
    nonzeros = max(density * m * k - max(m, k), 0.0)
    peak = max(target.peak_flops_per_s(kind), target.peak_flops_per_s("fp32"))
    assert 2 * nonzeros * n / prices.latency_s[0] <= peak
    assert prices.level_bytes[0, 0] >= prices.level_bytes[0, 1] >= 0


@given(sizes, sizes, sizes, st.sampled_from(["fp32", "int8"]), st.integers(1, 31))
@settings(max_examples=60, deadline=None)
def test_another_thread_is_never_slower(m: int, n: int, k: int, kind: str, threads: int) -> None:
    problem = gemm_problems(m, n, k, a_dtype=kind)
    fewer = priced(problem, on=machine("xeon-8375c", threads_used=threads)).latency_s[0]
    more = priced(problem, on=machine("xeon-8375c", threads_used=threads + 1)).latency_s[0]
    assert more <= fewer * (1 + 1e-12)


@given(
    st.sampled_from([
        ("spmm-4x1-int8", "int8", "block4x1"), ("spmm-1x1", "fp32", "unstructured"),
        ("spmm-4x1", "fp32", "unstructured"), ("spmm-csr", "fp32", "unstructured"), ("gemv-skip", "fp32", "act"),
        ("gemv-compressed", "fp32", "unstructured"),
        ("spmm-generated", "fp32", "unstructured"),
    ]),
    st.integers(16, 3000), st.integers(16, 600), st.integers(64, 3000), st.integers(40, 98),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_more_zeros_never_cost_more(kernel: tuple[str, str, str], m: int, n: int, k: int, percent: int) -> None:
    name, kind, pattern = kernel
    plans = [
        machine().lower_problems(gemm_problems(m, n, k, a_dtype=kind, pattern=f"{pattern}:{p / 100}"), kernel=name)
        for p in (percent, percent + 1)
    ]
    less, more = (plan.mapping[0] for plan in plans)
    for column in (M.MACS, M.CORE_CYCLES, M.DRAM_BYTES, M.WEIGHT_BYTES):
        assert more[column] <= less[column] * (1 + 1e-9), column
    # Blocks executed may stay as many while the fullest thread's share of the nonzeros grows.
    slack = 1.05 if "4x1" in name else 1.0
    assert machine().price(plans[1]).latency_s[0] <= machine().price(plans[0]).latency_s[0] * slack


@given(
    names, st.integers(1500, 5000), st.integers(384, 3000), st.integers(1500, 5000),
    st.sampled_from(["unstructured", "block4x1", "vector8", "rows", "slice", "act"]), st.integers(5, 97), types,
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_no_pattern_gains_more_than_the_arithmetic_it_saves(
    name: str, m: int, n: int, k: int, pattern: str, percent: int, kind: str
) -> None:
    """A sparse loop is no more efficient than the dense one for each multiplication it makes."""
    problem = gemm_problems(m, n, k, pattern=f"{pattern}:{percent / 100}", a_dtype=kind)
    estimate = estimate_problems(machine(name), problem)
    assume(TERM_NAMES[estimate.dense_prices.bound[0]] in ("compute", "power"))
    rounding = (1 + 1 / min(m, k)) ** 2 + 1 / (1 - percent / 100) / min(m, k)
    # Padding of narrow remainders is all that a sparse kernel may avoid.
    assert estimate.speedup[0] <= rounding / (1 - percent / 100) * 1.02


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "1:8"])
@pytest.mark.parametrize("kind", ["fp32", "fp16", "int8"])
def test_n_of_m_gains_no_more_than_m_over_n(pattern: str, kind: str) -> None:
    n, m = map(int, pattern.split(":"))
    for name in FAMILY.files:
        estimate = estimate_problems(machine(name), gemm_problems(4096, 512, 4096, a_dtype=kind, pattern=pattern))
        assert estimate.speedup[0] <= m / n, name


@given(st.lists(st.tuples(sizes, sizes, sizes), min_size=2, max_size=6), patterns, types)
@settings(max_examples=15, deadline=None)
def test_a_batch_of_one_equals_the_array_bit_for_bit(
    shapes: list[tuple[int, int, int]], pattern: str, kind: str
) -> None:
    m, n, k = np.array(shapes).T
    together = priced(gemm_problems(m, n, k, pattern=pattern, a_dtype=kind))
    for i, (rows, columns, depth) in enumerate(shapes):
        alone = priced(gemm_problems(rows, columns, depth, pattern=pattern, a_dtype=kind))
        assert alone.latency_s[0] == together.latency_s[i]
        assert alone.energy_j[0] == together.energy_j[i]
        assert (alone.terms_s[0] == together.terms_s[i]).all()


def twin(rows: Floats, on: CpuMachine) -> tuple[Floats, Floats]:
    """The pricing rule in numpy: latency and dynamic energy, straight from the spec."""
    chip, c, spec = on.chip, on.constants, on.spec
    units, threads, clock = rows[:, M.UNITS], chip.threads, chip.clock_hz
    cores = np.minimum(units, threads)
    work = (rows[:, M.CORE_CYCLES] + rows[:, M.INDEX_CYCLES]) / clock
    busy = work * np.ceil(units / threads) / units * rows[:, M.UNEVEN]
    l2 = rows[:, M.L2_BYTES] / (chip.l2_bytes_per_s * cores)
    l3 = rows[:, M.L3_BYTES] / (chip.l3_bytes_per_s * cores) if chip.has_l3 else np.zeros(len(rows))
    achieved = c.dram_fraction.value * chip.dram_bytes_per_s / chip.instances
    dram = rows[:, M.DRAM_BYTES] / np.minimum(chip.dram_core_bytes_per_s * cores, achieved)
    levels = np.stack([busy, l2, l3])
    within = levels.max(axis=0) + c.exposed.value * (levels.sum(axis=0) - levels.max(axis=0))
    longer, shorter = np.maximum(within, dram), np.minimum(within, dram)
    latency = rows[:, M.OVERHEAD_CYCLES] / clock + longer + c.dram_exposed.value * shorter
    instruction, l2_j, l3_j, dram_j, *macs_j = on.parameters[12:]
    dynamic = (
        rows[:, M.MACS] * np.array(macs_j)[rows[:, M.TYPE].astype(int)]
        + rows[:, M.INSTRUCTIONS] * instruction
        + rows[:, M.L2_BYTES] * l2_j + rows[:, M.L3_BYTES] * l3_j + rows[:, M.DRAM_BYTES] * dram_j
    )  # fmt: skip
    limit = (spec.tdp_w.value - spec.idle_w.value) / chip.instances
    return np.maximum(latency, dynamic / limit), dynamic


@pytest.mark.parametrize("name", ["xeon-8375c", "snapdragon-835", "epyc-7763", "c6i-12xlarge"])
def test_compiled_price_equals_its_numpy_twin(name: str) -> None:
    target = machine(name, instances=2)
    rng = np.random.default_rng(1)
    m, n, k = rng.integers(1, 5000, (3, 300))
    plan = target.lower_problems(gemm_problems(m, n, k, a_dtype="fp32", pattern="unstructured:0.8"))
    prices = target.price(plan)
    latency, dynamic = twin(plan.mapping, target)
    np.testing.assert_allclose(prices.latency_s, latency, rtol=1e-12)
    np.testing.assert_allclose(prices.dynamic_j, dynamic, rtol=1e-12)


# Known facts


def test_a_gemv_is_bound_by_memory_and_no_faster_than_it() -> None:
    prices = priced(gemm_problems(4096, 1, 4096, a_dtype="fp32"))
    floor = 4096 * 4096 * 4 / 204.8e9
    assert TERM_NAMES[prices.bound[0]] == "dram"
    assert floor < prices.latency_s[0] < 2 * floor


def test_a_large_gemm_comes_near_peak() -> None:
    prices = priced(gemm_problems(4096, 4096, 4096, a_dtype="fp32"))
    fraction = prices.flops[0] / prices.latency_s[0] / machine().peak_flops_per_s("fp32")
    assert 0.5 < fraction <= 1.0


@pytest.mark.parametrize(("m", "n", "k"), [(1024, 1024, 1024), (4096, 512, 1024), (768, 384, 3072)])
def test_int8_blocks_at_90_percent_gain_4_to_6_fold_at_best(m: int, n: int, k: int) -> None:
    estimate = estimate_problems(machine(), gemm_problems(m, n, k, a_dtype="int8", pattern="block4x1:0.9"))
    assert estimate.kernel[0] == "spmm-4x1-int8"
    assert 2.0 < estimate.speedup[0] < 6.0


def test_blocks_of_two_outputs_lose_a_third_of_the_throughput() -> None:
    """A claim of ITREX: about 1/3 less when the tile falls from 4 outputs to 2."""

    class TwoOutputs(Block4x1):
        height = 2

    chip = machine().chip
    problem = gemm_problems(4096, 512, 4096, a_dtype="int8", pattern="block4x1:0.8")
    four, two = (kernel(chip).map(problem)[0] for kernel in (Block4x1, TwoOutputs))
    assert four[M.TYPE] == INT8
    assert 0.6 < four[M.CORE_CYCLES] / two[M.CORE_CYCLES] < 0.75


def test_a_sparse_kernel_that_loses_is_not_taken() -> None:
    estimate = estimate_problems(machine(), gemm_problems(2048, 2048, 2048, a_dtype="fp32", pattern="2:4"))
    assert estimate.speedup[0] >= 1.0
    forced = priced(gemm_problems(2048, 2048, 2048, a_dtype="fp32", pattern="2:4"), kernel="gemm-n:m")
    assert forced.latency_s[0] > estimate.latency_s[0]


def test_bytes_fall_with_the_density_but_expansion_does_not() -> None:
    """The decompression floor of a compressed GEMV: at one thread expansion takes over from memory."""
    one = machine("xeon-8375c", threads_used=1)
    bounds = [
        TERM_NAMES[priced(gemm_problems(4096, 1, 4096, a_dtype="fp32", pattern=f"unstructured:{s}"),
                          kernel="gemv-compressed", on=one).bound[0]]
        for s in (0.5, 0.98)
    ]  # fmt: skip
    assert bounds == ["dram", "index"]


@pytest.mark.parametrize("name", ["i9-12900k", "xeon-8375c"])
def test_tokens_that_skip_by_themselves_share_no_weights(name: str) -> None:
    """A GEMV each: one token gains, a batch re-reads what a dense kernel reads once."""
    gains = [
        estimate_problems(machine(name), gemm_problems(4096, tokens, 4096, a_dtype="fp32", pattern="act:0.9")).speedup[
            0
        ]
        for tokens in (1, 4, 512)
    ]
    assert 5 < gains[0] < 10
    assert 1.5 < gains[1] < 4
    assert gains[2] == 1.0


@pytest.mark.parametrize("name", sorted(set(FAMILY.files) - {"c6i-large"}))
def test_fewer_bits_of_weights_never_slow_decoding(name: str) -> None:
    """Weight-only int8 and int4 (llama.cpp) against half types, and int4 against int8, one token at a time."""
    half, int8, int4 = (
        priced(gemm_problems(11008, 1, 4096, a_dtype=a, b_dtype="fp16"), on=machine(name)).latency_s[0]
        for a in ("fp16", "int8", "int4")
    )
    assert half > int8 > int4
    whole = [priced(gemm_problems(11008, 1, 4096, a_dtype=a), on=machine(name)).latency_s[0] for a in ("int8", "int4")]
    assert whole[0] > whole[1]


def test_unpacking_four_bits_takes_a_fraction_of_an_instruction_a_value() -> None:
    problem = gemm_problems(4096, 1, 4096, a_dtype="int4", b_dtype="fp16")
    row = machine("m2-max").lower_problems(problem, kernel="gemm-dot").mapping[0]
    assert row[M.INSTRUCTIONS] / 4096**2 < 0.5


def test_matrix_units_reach_what_their_libraries_do() -> None:
    """Accelerate on two of Apple's units 1.5 to 2.5 TFLOP/s in fp32, oneDNN less than half of AMX's peak."""
    for name, kind, low, high in (("m2-max", "fp32", 1.5e12, 2.5e12), ("xeon-8480plus", "bf16", 25e12, 60e12)):
        prices = priced(gemm_problems(4096, 4096, 4096, a_dtype=kind), on=machine(name))
        assert low < prices.flops[0] / prices.latency_s[0] < high


def test_instances_share_memory() -> None:
    problem = gemm_problems(8192, 1, 8192, a_dtype="fp32")
    one, four = (priced(problem, on=machine("xeon-8375c", threads_used=8, instances=i)).latency_s[0] for i in (1, 4))
    assert four > 1.9 * one


@pytest.mark.parametrize(
    ("name", "problem", "kernel", "reason"),
    [
        ("xeon-8375c", {"pattern": "block4x1:0.9", "a_dtype": "fp32"}, "spmm-4x1-int8", "multiplies int8 by int8"),
        ("epyc-7763", {"pattern": "block4x1:0.9", "a_dtype": "int8"}, "spmm-4x1-int8", "needs AVX-512 VNNI"),
        ("xeon-8375c", {"a_dtype": "bf16"}, "gemm-amx", "no multiply-add for the type"),
        ("graviton-3", {"pattern": "unstructured:0.9", "a_dtype": "fp32"}, "spmm-generated", "engine is for x86"),
        ("xeon-8375c", {"pattern": "unstructured:0.2", "a_dtype": "fp32"}, "gemv-compressed", "dense below 40%"),
        ("xeon-8375c", {"a_dtype": "fp32"}, "spmm-csr", "no zeros known beforehand"),
    ],
)
def test_refusals_say_why(name: str, problem: dict[str, str], kernel: str, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        machine(name).lower_problems(gemm_problems(256, 64, 256, **problem), kernel=kernel)  # type: ignore[arg-type]


def test_transfers_are_refused_with_the_reason() -> None:
    moved = Tensor("x", (16, 16), dtype("fp32"), Role.ACTIVATION)
    row = problem_of(Transfer("send", TransferKind.ALL_REDUCE, moved))[None]
    with pytest.raises(UnsupportedError, match="no other device to send data to"):
        machine().lower_problems(row)


# Energy


@given(names, sizes, sizes, sizes, types)
@settings(max_examples=30, deadline=None)
def test_energy_is_the_sum_of_its_parts_within_the_power_limit(name: str, m: int, n: int, k: int, kind: str) -> None:
    target = machine(name)
    prices = priced(gemm_problems(m, n, k, a_dtype=kind), on=target)
    parts = prices.energy_terms_j[0]
    assert prices.energy_j[0] == pytest.approx(parts.sum(), rel=1e-12)
    assert prices.dynamic_j[0] == pytest.approx(parts[:-1].sum(), rel=1e-12)
    assert ENERGY_NAMES[-1] == "idle"
    assert parts[-1] == pytest.approx(target.spec.idle_w.value * prices.latency_s[0])
    assert prices.energy_j[0] / prices.latency_s[0] <= target.spec.tdp_w.value * (1 + 1e-9)


def test_a_peak_dense_gemm_takes_about_the_power_limit_where_that_is_sourced() -> None:
    checked = 0
    for name in FAMILY.files:
        spec = machine(name).spec
        assert isinstance(spec, CpuSpec)
        if spec.tdp_w.assumed:
            continue
        for kind in ("fp32", "int8"):
            prices = priced(gemm_problems(4096, 4096, 4096, a_dtype=kind), on=machine(name))
            uncapped_s = prices.latency_s[0] - prices.terms_s[0, Term.POWER]
            watts = prices.dynamic_j[0] / uncapped_s + spec.idle_w.value
            assert 0.4 < watts / spec.tdp_w.value < 2.5, (name, kind, watts)
            checked += 1
    assert checked >= 10


def test_energy_goes_with_the_square_of_the_voltage() -> None:
    problem = gemm_problems(4096, 4096, 4096, a_dtype="fp32")
    low, high = (priced(problem, on=machine("i9-12900k", core_v=v)).energy_terms_j[0] for v in (0.9, 1.35))
    core = [ENERGY_NAMES.index(part) for part in ("arithmetic", "instructions", "l2")]
    np.testing.assert_allclose(high[core] / low[core], 1.5**2)


@pytest.mark.parametrize("name", ["i9-12900k", "ryzen-7950x", "m2-max", "graviton-3", "raspberry-pi-5"])
def test_a_peak_dense_gemm_takes_about_an_assumed_power_limit_too(name: str) -> None:
    prices = priced(gemm_problems(4096, 4096, 4096, a_dtype="fp32"), on=machine(name))
    uncapped_s = prices.latency_s[0] - prices.terms_s[0, Term.POWER]
    watts = prices.dynamic_j[0] / uncapped_s + machine(name).spec.idle_w.value
    assert 0.4 < watts / machine(name).spec.tdp_w.value < 2.5


def test_a_low_power_limit_slows_the_clock_and_says_so() -> None:
    problem = gemm_problems(4096, 4096, 4096, a_dtype="fp32")
    free, capped = priced(problem), priced(problem, on=machine("xeon-8375c", tdp_w=150))
    assert TERM_NAMES[capped.bound[0]] == "power"
    assert capped.latency_s[0] > free.latency_s[0]
    assert capped.energy_j[0] / capped.latency_s[0] == pytest.approx(150)


def test_dynamic_energy_of_2_of_4_lies_between_half_and_all_of_dense() -> None:
    """Where bytes decide it falls with them; where the dense kernel stays the fastest it is the same."""
    for tokens in (1, 512):
        estimate = estimate_problems(machine(), gemm_problems(4096, tokens, 4096, a_dtype="fp32", pattern="2:4"))
        ratio = estimate.prices.dynamic_j[0] / estimate.dense_prices.dynamic_j[0]
        assert 0.5 <= ratio <= 1.0


# Measured


def targets_of(stage: Stage, evidence: Path) -> list[Target]:
    rows = read_measurements(evidence / "published" / "cpu.csv")
    return stage.targets(rows)


@pytest.mark.parametrize(("stage", "median", "p90"), [(1, 0.06, 0.16), (2, 0.05, 0.12), (3, 0.05, 0.25)])
def test_predicted_encoders_and_networks_come_near_the_measured_ones(
    evidence: Path, stage: int, median: float, p90: float
) -> None:
    """ITREX encoders (every third row), Fast Sparse ConvNets and ONNX Runtime, with the constants that ship."""
    targets = targets_of(STAGES[stage], evidence)[:: 3 if stage == 1 else 1]
    error = np.abs(prediction(targets)(constants()) / [target.measured for target in targets] - 1)
    assert len(targets) >= 5
    assert np.median(error) <= median
    assert np.quantile(error, 0.9) <= p90


def test_the_shipped_constants_are_what_the_fit_finds(evidence: Path) -> None:
    stage = STAGES[-1]
    targets = targets_of(stage, evidence)
    (name,) = stage.names
    again = fit_stage(stage, targets, constants())
    assert getattr(again, name).value == pytest.approx(getattr(constants(), name).value, rel=0.02)
    assert getattr(again, name).n == len(targets) == 5
