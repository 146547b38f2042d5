"""Prices of the FPGA family: rooflines, what never costs time, bounds that are reached, parts that add up."""

from __future__ import annotations

import numpy as np
import pytest
from fpga_tools import (
    FREE_MEMORY,
    SMALL,
    built,
    extents,
    nm_texts,
    priced,
    quick,
    small_machines,
    trained,
)
from hypothesis import given
from hypothesis import strategies as st

from accel_models.fpga.machine import SatMachine
from accel_models.fpga.pricing import Term, price
from accel_models.fpga.resources import needed
from accel_models.fpga.schemes import Scheme
from simsparse.plan import ProblemColumn, concatenate
from simsparse.problems import gemm_problems
from simsparse.registry import load_workload


@quick
@given(small_machines, extents, nm_texts | st.just("dense"), st.integers(1, 4))
def test_nothing_beats_its_roofline(target: SatMachine, mnk: tuple[int, int, int], pattern: str, batch: int) -> None:
    found = priced(target, trained(gemm_problems(*mnk, pattern=pattern, batch=batch)))
    assert (found.latency_s >= found.roofline_s * (1 - 1e-12)).all()


@pytest.mark.parametrize("network", ["resnet-50", "mobilenet-v2"])
def test_no_call_of_a_network_beats_its_roofline(network: str) -> None:
    """With strided 1 x 1 and depthwise convolutions, fused epilogues and updates."""
    plan = built().lower(Scheme.BDWP(load_workload(network, phase="train", batch=2), "2:4"))
    found = built().price(plan)
    assert (found.latency_s >= found.roofline_s * (1 - 1e-12)).all()
    assert np.isfinite(plan.mapping).all()


@quick
@given(small_machines, extents, st.sampled_from([(1, 4), (2, 4), (1, 8), (3, 8), (6, 8)]))
def test_fewer_kept_never_take_longer(target: SatMachine, mnk: tuple[int, int, int], nm: tuple[int, int]) -> None:
    exact = built(**{name: figure.value for name, figure in target.spec.figures()} | {"traffic_share": 0.0})
    n, m = nm
    sparser = priced(exact, trained(gemm_problems(*mnk, pattern=f"{n}:{m}")), "sat-nm")
    denser = priced(exact, trained(gemm_problems(*mnk, pattern=f"{n + 1}:{m}")), "sat-nm")
    assert sparser.latency_s[0] <= denser.latency_s[0] * (1 + 1e-12)


@quick
@given(extents, nm_texts, st.sampled_from(["interleave", "pregeneration", "double_buffering"]))
def test_each_feature_never_costs_time(mnk: tuple[int, int, int], pattern: str, feature: str) -> None:
    rows = trained(gemm_problems(*mnk, pattern=pattern))
    buffers = {"activation_buffer_bytes": 2**15, "weight_buffer_bytes": 2**14, "output_buffer_bytes": 2**13}
    on = built(**(SMALL | buffers), traffic_share=0.0)
    # Without double buffering the same tiles need half the buffer.
    halves = {name: size / 2 for name, size in buffers.items()} if feature == "double_buffering" else {}
    off = built(**(SMALL | buffers | halves), traffic_share=0.0, **{feature: False})
    # The sums of all turns leave at once at the end, where those of one turn had left before.
    at_end = SMALL["array_rows"] * SMALL["mac_pipeline_depth"] / 200e6 if feature == "interleave" else 0.0
    assert priced(on, rows).latency_s[0] <= priced(off, rows).latency_s[0] * (1 + 1e-12) + at_end


@quick
@given(extents, nm_texts)
def test_a_free_choice_of_dataflow_is_the_better_of_both(mnk: tuple[int, int, int], pattern: str) -> None:
    rows = gemm_problems(*mnk, pattern=pattern)
    each = [priced(built(traffic_share=0.0, dataflow=name), rows).latency_s[0] for name in ("ws", "os", "best")]
    assert each[2] == min(each)


@pytest.mark.parametrize(("pattern", "bound"), [("2:4", 1.5), ("2:8", 2.0), ("2:16", 2.4)])
def test_three_equal_products_reach_the_arithmetic_bound(pattern: str, bound: float) -> None:
    """Forward and input gradient N:M, weight gradient dense, on memory that costs nothing."""
    # The update takes no time then, so that the reduction engine has to keep up with its lanes.
    target = built(**FREE_MEMORY, reduction_lanes=64)
    speedups = []
    for size in (256, 1024, 8192):
        dense = priced(target, gemm_problems(size, size, size)).latency_s[0]
        sparse = priced(target, trained(gemm_problems(size, size, size, pattern=pattern))).latency_s[0]
        speedups.append(3 * dense / (2 * sparse + dense))
    assert speedups == sorted(speedups)
    assert speedups[-1] < bound
    assert speedups[-1] == pytest.approx(bound, rel=1e-3)


def test_an_array_of_products_is_priced_as_each_alone() -> None:
    rng = np.random.default_rng(1)
    m, n, k = (rng.integers(1, 5000, 40) for _ in range(3))
    target = built()
    together = priced(target, gemm_problems(m, n, k, pattern="2:8"))
    for row in range(len(m)):
        alone = priced(target, gemm_problems(m[row], n[row], k[row], pattern="2:8"))
        assert alone.latency_s[0] == together.latency_s[row]
        assert alone.energy_j[0] == together.energy_j[row]
        assert alone.terms_s[0].tolist() == together.terms_s[row].tolist()


def test_designs_are_priced_side_by_side_as_each_alone() -> None:
    """A sweep over designs has a row of hardware for each call."""
    work = Scheme.BDWP(load_workload("resnet-9", phase="train", batch=2), "2:8")
    designs = [built(), built(reduction_lanes=8, update_lanes=4), built(double_buffering=False, pregeneration=False)]
    plans = [design.lower(work) for design in designs]
    hardware = np.concatenate(
        [np.repeat(d.hardware, len(p.problem), axis=0) for d, p in zip(designs, plans, strict=True)]
    )
    problem, mapping = (np.concatenate([getattr(p, name) for p in plans]) for name in ("problem", "mapping"))
    together = price(hardware, problem, mapping)
    alone = concatenate([design.price(plan) for design, plan in zip(designs, plans, strict=True)])
    for name in ("latency_s", "energy_j", "terms_s", "level_bytes", "bound"):
        assert getattr(together, name).tolist() == getattr(alone, name).tolist(), name


@quick
@given(small_machines, extents, nm_texts)
def test_parts_add_up(target: SatMachine, mnk: tuple[int, int, int], pattern: str) -> None:
    rows = trained(gemm_problems(*mnk, pattern=pattern))
    rows[:, ProblemColumn.STREAM_FLOPS] = 5000.0
    found = priced(target, rows)
    assert found.energy_terms_j.sum(axis=1) == pytest.approx(found.energy_j)
    # What burns whether it works or not: the card, and every flip-flop each cycle.
    idle_w = 15.0 + needed(target.spec).ff * target.spec.clock_hz.value * 24e-15
    assert found.dynamic_j[0] == pytest.approx(found.energy_j[0] - idle_w * found.latency_s[0])
    t = found.terms_s[0]
    chain, beside = t[Term.COMPUTE : Term.DRAM].sum(), t[Term.DRAM : Term.ONLINE]
    apart = not target.spec.double_buffering.value
    body = chain + beside.sum() if apart else max(chain, *beside)
    assert found.latency_s[0] == pytest.approx(body + t[Term.ONLINE])
    assert (t >= 0).all()
    held_up = not apart and max(beside) > t[: Term.HEAD].sum()
    candidates = [*beside, t[Term.ONLINE]] if held_up else t if apart else [*t[: Term.DRAM], t[Term.ONLINE]]
    assert t[found.bound[0]] == max(candidates)


def test_half_the_work_takes_half_to_all_of_the_dynamic_energy() -> None:
    dense, half = (priced(built(), gemm_problems(4096, 4096, 4096, pattern=p)).dynamic_j[0] for p in ("dense", "2:4"))
    assert 0.5 * dense <= half <= dense
