"""GPUs: physics by properties, known measurements, and the arithmetic of a call."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.gpu import FAMILY
from accel_models.gpu.columns import Map, Term
from accel_models.gpu.fitted import Constants
from accel_models.gpu.machine import GpuMachine
from accel_models.gpu.spec import GpuSpec
from simsparse import estimate_gemm, load_machine, simulate
from simsparse.errors import InputError, UnsupportedError
from simsparse.plan import Floats, Prices
from simsparse.problems import gemm_problems
from simsparse.registry import load_workload
from simsparse.sparsity import Unstructured
from simsparse.transforms import put_patterns

CARDS = sorted(FAMILY.files)
EXTENT = st.integers(1, 512).map(lambda x: 16 * x)
PATTERNS = ["dense", "2:4", "1:4", "vnm64:2:8", "unstructured:0.9", "block32x32:0.8", "vector8:0.9", "rows:0.25"]


def card(name: str, fitted: Constants | None = None) -> GpuMachine:
    spec = FAMILY.spec(FAMILY.files[name])
    assert isinstance(spec, GpuSpec)
    return GpuMachine(spec, fitted)


def priced(machine: GpuMachine, problem: Floats, kernel: str = "best") -> Prices:
    return machine.price(machine.lower_problems(problem, kernel=kernel))


@pytest.mark.parametrize("name", CARDS)
def test_every_card_prices_a_product_in_every_type_it_has(name: str) -> None:
    machine = card(name)
    for key in machine.spec.mac_rate:
        kind = key.removesuffix("_acc16")
        prices = priced(machine, gemm_problems(4096, 4096, 4096, a_dtype=kind))
        reached = prices.flops[0] / prices.latency_s[0] / machine.peak_flops_per_s(kind)
        assert 0.05 < reached < 1.0, (key, reached)


@settings(max_examples=60, deadline=None)
@given(m=EXTENT, n=st.integers(1, 8192), k=EXTENT, pattern=st.sampled_from(PATTERNS), name=st.sampled_from(CARDS))
def test_nothing_beats_its_roofline_and_parts_add_up(m: int, n: int, k: int, pattern: str, name: str) -> None:
    prices = priced(card(name), gemm_problems(m, n, k, pattern=pattern))
    assert prices.latency_s[0] >= prices.roofline_s[0] > 0
    np.testing.assert_allclose(prices.energy_terms_j.sum(axis=1), prices.energy_j, rtol=1e-12)
    assert np.all(prices.terms_s >= 0)
    assert prices.level_bytes[0, 0] <= prices.level_bytes[0, 1] * 1.001 or pattern != "dense"


def test_the_rule_that_combines_terms() -> None:
    """latency = launch + ((core + tail + imbalance + fill)⁴ + dram⁴)^¼ + power, with core as the engine's text says."""
    prices = priced(card("a100-sxm-80gb"), gemm_problems([128, 4096, 11008], [1, 512, 8192], 4096, pattern="2:4"))
    t = {term: prices.terms_s[:, term] for term in Term}
    core = np.linalg.norm([t[Term.COMPUTE], t[Term.SMEM], t[Term.L2], t[Term.ISSUE]], axis=0)
    on_sms = core + t[Term.TAIL] + t[Term.IMBALANCE] + t[Term.FILL]
    expected = t[Term.LAUNCH] + (on_sms**4 + t[Term.DRAM] ** 4) ** 0.25 + t[Term.POWER]
    np.testing.assert_allclose(prices.latency_s, expected, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(st.tuples(EXTENT, st.integers(1, 4096), EXTENT), min_size=2, max_size=6),
    pattern=st.sampled_from(PATTERNS),
)
def test_an_array_equals_its_rows_bit_for_bit(shapes: list[tuple[int, int, int]], pattern: str) -> None:
    m, n, k = (np.array(x) for x in zip(*shapes, strict=True))
    whole = estimate_gemm("a100-sxm-80gb", m, n, k, pattern=pattern)
    for i, (a, b, c) in enumerate(shapes):
        one = estimate_gemm("a100-sxm-80gb", a, b, c, pattern=pattern)
        assert one.latency_s[0] == whole.latency_s[i]
        assert one.energy_j[0] == whole.energy_j[i]
        assert one.kernel[0] == whole.kernel[i]


def test_chunks_do_not_change_a_price() -> None:
    n = np.arange(1, 5001)
    whole = estimate_gemm("rtx-3090", 4096, n, 4096, pattern="2:4")
    part = estimate_gemm("rtx-3090", 4096, n[2500:2600], 4096, pattern="2:4")
    np.testing.assert_array_equal(part.latency_s, whole.latency_s[2500:2600])


@pytest.mark.parametrize("kernel", ["spatha", "sputnik", "flash-llm", "bsr", "nm-spmm"])
def test_more_sparsity_costs_no_more_arithmetic(kernel: str) -> None:
    families = {
        "spatha": [f"vnm64:2:{m}" for m in (4, 8, 16, 32)],
        "sputnik": [f"unstructured:{s}" for s in (0.5, 0.7, 0.9, 0.98)],
        "flash-llm": [f"unstructured:{s}" for s in (0.5, 0.7, 0.9, 0.98)],
        "bsr": [f"block32x32:{s}" for s in (0.3, 0.6, 0.9)],
        "nm-spmm": [f"nmv32:{n}:32" for n in (16, 12, 8, 4)],
    }
    dtype = "fp32" if kernel == "nm-spmm" else "fp16"
    runs = [
        estimate_gemm("rtx-3090", 4096, 1024, 4096, pattern=p, kernel=kernel, dtype=dtype) for p in families[kernel]
    ]
    times = [float(run.latency_s[0]) for run in runs]
    moved = [float(run.prices.level_bytes[0, 0]) for run in runs]
    assert times == sorted(times, reverse=True)
    # In between, another tile may be faster that reads an operand more often.
    assert moved[-1] < moved[0]


def test_24_moves_half_and_an_eighth_of_the_weight() -> None:
    dense = estimate_gemm("a100-sxm-80gb", 8192, 1, 8192)
    sparse = estimate_gemm("a100-sxm-80gb", 8192, 1, 8192, pattern="2:4", kernel="cusparselt")
    vectors = 2 * (8192 + 8192)
    weight = 2 * 8192 * 8192
    assert dense.prices.level_bytes[0, 0] == pytest.approx(weight + vectors)
    assert sparse.prices.level_bytes[0, 0] == pytest.approx(0.5625 * weight + vectors)


def test_geforce_halves_the_rate_with_fp32_accumulators() -> None:
    full = estimate_gemm("rtx-3090", 8192, 8192, 8192, accumulate_bits=16)
    half = estimate_gemm("rtx-3090", 8192, 8192, 8192, accumulate_bits=32)
    assert 1.5 < half.latency_s[0] / full.latency_s[0] < 2.0
    np.testing.assert_allclose(
        estimate_gemm("a100-sxm-80gb", 8192, 8192, 8192, accumulate_bits=16).latency_s,
        estimate_gemm("a100-sxm-80gb", 8192, 8192, 8192, accumulate_bits=32).latency_s,
    )


def test_unstructured_loses_to_dense_where_it_does_and_the_row_says_so() -> None:
    estimate = estimate_gemm("a100-sxm-80gb", 4096, 4096, 4096, pattern="unstructured:0.6")
    assert estimate.kernel[0] == "cublas"
    assert estimate.speedup[0] == 1.0
    forced = estimate_gemm("a100-sxm-80gb", 4096, 4096, 4096, pattern="unstructured:0.6", kernel="sputnik")
    assert forced.speedup[0] < 0.5
    result = simulate("opt-125m", "a100-sxm-80gb", phase="prefill", sparsity={"*.mlp.*": "unstructured:0.6"})
    call = next(call for call in result.plan.calls if "fc1" in call.ops[0])
    tried = {a.kernel: a for a in call.alternatives}
    assert tried["sputnik"].latency_s is not None
    assert tried["cusparselt"].latency_s is None
    assert "2:4" in tried["cusparselt"].reason


def test_a_pattern_runs_on_the_kernels_it_implies() -> None:
    for pattern in ("2:4", "1:4", "2:8"):
        assert estimate_gemm("a100-sxm-80gb", 4096, 4096, 4096, pattern=pattern, kernel="cusparselt").speedup[0] > 1.2
    with pytest.raises(UnsupportedError, match="does not imply 2:4"):
        estimate_gemm("a100-sxm-80gb", 4096, 4096, 4096, pattern="4:8", kernel="cusparselt")
    with pytest.raises(UnsupportedError, match="no sparse tensor cores"):
        estimate_gemm("v100-sxm2", 4096, 4096, 4096, pattern="2:4", kernel="cusparselt")


def test_the_power_limit_lowers_the_clock_until_it_fits() -> None:
    machine = load_machine("a100-sxm-80gb", {"tdp_w": 120.0})
    free = estimate_gemm("a100-sxm-80gb", 8192, 8192, 8192)
    capped = estimate_gemm(machine, 8192, 8192, 8192)
    assert capped.latency_s[0] > 1.2 * free.latency_s[0]
    assert capped.energy_j[0] / capped.latency_s[0] == pytest.approx(120.0, rel=0.02)
    assert capped.prices.terms_s[0, Term.POWER] > 0
    assert capped.bound[0] == "power"
    assert free.bound[0] != "power"


@settings(max_examples=60, deadline=None)
@given(
    m=EXTENT, n=st.integers(1, 16384), k=EXTENT, name=st.sampled_from(CARDS),
    pattern=st.sampled_from(PATTERNS), dtype=st.sampled_from(["fp16", "fp32"]),
)  # fmt: skip
def test_no_call_takes_more_than_the_card_may(m: int, n: int, k: int, name: str, pattern: str, dtype: str) -> None:
    machine = card(name)
    prices = priced(machine, gemm_problems(m, n, k, pattern=pattern, a_dtype=dtype))
    assert prices.energy_j[0] / prices.latency_s[0] <= 1.001 * machine.spec.tdp_w.value


@settings(max_examples=60, deadline=None)
@given(
    m=EXTENT, n=st.integers(1, 4096), k=EXTENT, name=st.sampled_from(CARDS), zero=st.sampled_from([0.01, 0.3, 0.5]),
    dtype=st.sampled_from(["fp16", "fp32"]),
)  # fmt: skip
def test_a_few_random_zeros_buy_no_more_than_they_save(
    m: int, n: int, k: int, name: str, zero: float, dtype: str
) -> None:
    estimate = estimate_gemm(card(name), m, n, k, pattern=f"unstructured:{zero}", dtype=dtype)
    assert 1.0 <= estimate.speedup[0] <= 1.02 / (1.0 - zero)


def test_rows_that_gather_by_themselves_find_in_l1_what_their_neighbours_fetched() -> None:
    """Warps of an SM meet in the same columns: with half as many, each fetches more of B from L2 by itself."""
    problem = gemm_problems(8192, 4096, 2048, pattern="unstructured:0.5", a_dtype="fp32")
    for name, warps in (("rtx-3090", 48.0), ("a100-sxm-80gb", 64.0), ("t4", 32.0)):
        machine = card(name)
        plan = machine.lower_problems(problem, kernel="sputnik")
        assert plan.mapping[0, Map.AT_ONCE] == warps
        fewer = plan.mapping.copy()
        fewer[0, Map.AT_ONCE] = warps / 2
        l2 = [machine.price_rows(problem, mapping, plan.kernel).level_bytes[0, 1] for mapping in (plan.mapping, fewer)]
        assert l2[0] < l2[1]


def test_the_ends_of_a_row_of_vectors_cost_the_same_however_long_it_is() -> None:
    """`row_cycles` of every row and 64 columns, dealt out to the SMs; twice the columns take twice of it."""
    machine = card("rtx-3090")
    fitted = machine.constants.of("clasp")
    without = machine.refitted(machine.constants.changed("clasp", {"row_cycles": 0.0}))
    problem = gemm_problems(4096, [4096, 4096, 8192], [1024, 4096, 1024], pattern="vector8:0.9")
    fill_s = [priced(each, problem, "clasp").terms_s[:, Term.FILL] for each in (machine, without)]
    rows, tiles = 4096 / 8, np.array([4096, 4096, 8192]) / 64
    expected = fitted.row_cycles * rows * tiles / (machine.spec.sm_count.value * machine.clock_hz)
    np.testing.assert_allclose(fill_s[0] - fill_s[1], expected, rtol=1e-9)


def test_types_without_hardware_are_refused() -> None:
    for name, dtype in (("a100-sxm-80gb", "fp8"), ("v100-sxm2", "bf16"), ("h100-sxm-80gb", "int4")):
        with pytest.raises(UnsupportedError, match="for this type"):
            estimate_gemm(name, 4096, 4096, 4096, dtype=dtype)


def test_odd_extents_are_slower() -> None:
    even, odd = estimate_gemm("a100-sxm-80gb", 4096, 4096, [4096, 4095]).latency_s
    assert odd > 1.3 * even


def test_depthwise_convolutions_are_bound_by_bytes() -> None:
    mobile = simulate("mobilenet-v2", "a100-sxm-80gb", batch=64)
    calls = [i for i, call in enumerate(mobile.plan.calls) if call.kernel == "depthwise"]
    assert len(calls) > 10
    assert mobile.latency_s < simulate("resnet-50", "a100-sxm-80gb", batch=64).latency_s * 2


def test_fused_attention_is_chosen_and_cheaper_than_its_parts() -> None:
    work = load_workload("llama-2-7b", phase="prefill", seq=8192)
    result = simulate(work, "a100-sxm-80gb")
    fused = next(i for i, call in enumerate(result.plan.calls) if call.kernel == "flash-attention")
    assert len(result.plan.calls[fused].ops) == 3
    sparse = simulate(work, "a100-sxm-80gb", sparsity={"*.self_attn.*": "attn-block64:0.9"})
    call = next(i for i, c in enumerate(sparse.plan.calls) if c.kernel == "block-attention")
    assert sparse.prices.latency_s[call] < 0.5 * result.prices.latency_s[fused]


def test_layers_told_apart_by_their_masks_cost_what_they_cost_together() -> None:
    work = load_workload("bert-base", seq=128)
    masks = iter(range(1000))
    apart = put_patterns(work, lambda tensor, op: Unstructured(0.1 + 1e-4 * next(masks)), "masks that differ")
    assert len(apart.ops) > 3 * len(work.ops)
    together, split = simulate(work, "a100-sxm-80gb"), simulate(apart, "a100-sxm-80gb")
    assert split.latency_s == pytest.approx(together.latency_s, rel=1e-9)


def test_bigger_hypothetical_cards_are_faster() -> None:
    more = load_machine("a100-sxm-80gb", {"sm_count": 160})
    assert (
        estimate_gemm(more, 8192, 8192, 8192).latency_s[0]
        < estimate_gemm("a100-sxm-80gb", 8192, 8192, 8192).latency_s[0]
    )


@pytest.mark.parametrize("capability", ["6.1", "11.0", "new"])
def test_architectures_that_nothing_is_known_of_are_refused(capability: str) -> None:
    with pytest.raises(InputError, match=r"compute_capability\.value is '"):
        load_machine("a100-sxm-80gb", {"compute_capability": capability})


def test_the_tile_search_finds_what_trying_all_tiles_finds() -> None:
    from accel_models.gpu.engine import SPLITS, TILES, WORK_WIDTH, choose_tiles, product_terms, resident_blocks

    machine = card("a100-sxm-80gb")
    problem = gemm_problems([64, 1000, 4096, 11008], [1, 77, 2048, 300], [4096, 512, 8192, 4096])
    mapping = machine.kernels[machine.kernel_index("cublas")].map(problem)
    times = choose_tiles(mapping, machine.card, np.full(4, np.inf))
    for row, found in zip(mapping.copy(), times, strict=True):
        best = np.inf
        for tile_m, tile_n, menu in TILES:
            oversized = (tile_m >= 2 * row[Map.M] and tile_m > 16) or (tile_n >= 2 * row[Map.N] and tile_n > 16)
            if menu != row[Map.MENU] or oversized:
                continue
            blocks = np.ceil(row[Map.M] / tile_m) * np.ceil(row[Map.N] / tile_n)
            for split in SPLITS:
                if split > 1 and (blocks * split > 4 * 108 or row[Map.K] < split * 256):
                    continue
                row[[Map.TILE_M, Map.TILE_N, Map.SPLIT_K]] = tile_m, tile_n, split
                row[Map.RESIDENT] = resident_blocks(tile_m, tile_n, row[Map.K], machine.card)
                best = min(best, product_terms(row, machine.card, np.empty(WORK_WIDTH), np.inf))
        assert found == best
