"""CPUs: energy and the power limit."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_machines import machine, priced
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.cpu import FAMILY
from accel_models.cpu.columns import ENERGY_NAMES, TERM_NAMES, MapColumn, Term
from accel_models.cpu.spec import CpuSpec
from simsparse.problems import gemm_problems
from simsparse.simulate import estimate_problems

M = MapColumn
sizes = st.integers(1, 6000)
names = st.sampled_from(sorted(FAMILY.files))
types = st.sampled_from(["fp32", "fp16", "bf16", "int8"])


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
