"""CPUs: specs against the evidence, physics as properties, batches bit for bit, the compiled price against numpy."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cpu_machines import machine, priced
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accel_models.cpu import FAMILY
from accel_models.cpu.columns import TERM_NAMES, MapColumn
from accel_models.cpu.kernels.spmm import FEWEST_TOKENS
from accel_models.cpu.machine import CpuMachine
from simsparse.errors import InputError
from simsparse.plan import Floats, pattern_column
from simsparse.problems import gemm_problems
from simsparse.simulate import estimate_problems
from simsparse.sparsity import PatternColumn

M = MapColumn


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
    assume(name != "spmm-generated" or n >= FEWEST_TOKENS)
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
    past_l3 = np.maximum(rows[:, M.L3_BYTES] - rows[:, M.DRAM_BYTES], 0.0)
    l3 = past_l3 / (chip.l3_bytes_per_s * cores) if chip.has_l3 else np.zeros(len(rows))
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
