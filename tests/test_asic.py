"""Described architectures as machines: physics, modes, what is tried, swept and kept."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from asic_designs import UNLIMITED, design, machine, product

from accel_models.asic import FAMILY
from accel_models.asic.product import COMPUTE_S, LATENCY_S, WAIT_S
from simsparse.dataflow.store import content_key, remembered
from simsparse.errors import SimsparseError
from simsparse.plan import ProblemColumn as C
from simsparse.plan import ProblemKind
from simsparse.problems import gemm_problems
from simsparse.registry import load_workload
from simsparse.simulate import compare, estimate_gemm, simulate
from simsparse.transforms import apply_method

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("name", sorted(FAMILY.files))
def test_physics(name: str) -> None:
    """Terms give the latency, parts the energy; no roofline is beaten; more zeros never cost more arithmetic."""
    on = machine(name)
    row = np.concatenate([gemm_problems(96, 64, 96, pattern=text, a_dtype="int8") for text in ("dense", "1:4", "2:8")])
    plan = on.lower_problems(row)
    prices = on.price(plan)
    assert prices.latency_s == pytest.approx(prices.terms_s[:, :-1].max(axis=1) + prices.terms_s[:, -1])
    assert prices.energy_j == pytest.approx(prices.energy_terms_j.sum(axis=1))
    assert bool(np.all(prices.latency_s >= prices.roofline_s * (1 - 1e-9)))
    assert bool(np.all(prices.terms_s[1:, 0] <= prices.terms_s[0, 0] * (1 + 1e-9)))
    distinct = np.array([96 * 64 + 64 * 96 + 96 * 96]) * on.spec.levels["DRAM"].word_bits.value / 8
    assert prices.level_bytes[0, 0] >= distinct[0] * (1 - 1e-9)


def test_2_to_4_halves_and_what_implies_it_runs_as_it() -> None:
    stc = machine("stc")
    dense = product(stc, 512, 256, 1024)
    half = product(stc, 512, 256, 1024, "2:4")
    assert dense[0] == 512 * 256 * 1024 / 1024
    assert half[0] == dense[0] / 2
    assert product(stc, 512, 256, 1024, "1:4") == half
    # 4:8 does not hold 2:4, neither do random zeros: they are multiplied.
    assert product(stc, 512, 256, 1024, "4:8") == dense == product(stc, 512, 256, 1024, "unstructured:0.9")
    with pytest.raises(SimsparseError, match=r"does not hold 2:4 along the reduction"):
        product(stc, 512, 256, 1024, "4:8", kernel="2:4")
    # The flexible one goes further, until shared memory is the limit (as in Sparseloop's figure 15).
    flexible = machine("stc-flexible")
    assert product(flexible, 512, 256, 1024, "2:8")[0] < half[0]
    assert estimate_gemm(flexible, 512, 256, 1024, pattern="2:8", dtype="int8").bound[0] == "smem"


def test_any_shape_maps() -> None:
    stc = machine("stc")
    for m, n, k in ((1, 1, 1), (17, 3, 29), (64, 1, 11008), (1000, 127, 33)):
        cycles, energy = product(stc, m, n, k, "2:4")
        assert m * n * k / 2 / 1024 <= cycles < math.inf
        assert energy > 0


def test_wider_values_take_the_words_they_need() -> None:
    """16-bit values on 8-bit multipliers: four multiplications, two words."""
    stc = machine("stc", dict(UNLIMITED))
    assert product(stc, 512, 256, 1024, dtype="fp16")[0] == pytest.approx(4 * product(stc, 512, 256, 1024)[0])


def test_dual_sides() -> None:
    """Both operands pay, as the product of their densities but for what does not fill the lanes."""
    dstc = machine("dstc-paper")
    dense = product(dstc, 512, 512, 512)[0]
    half, both = (
        product(dstc, 512, 512, 512, "unstructured:0.5")[0],
        product(dstc, 512, 512, 512, "unstructured:0.5", 0.5)[0],
    )
    assert dense / 2.2 <= half < dense
    assert dense / 4.4 <= both < half


def test_waiting_is_counted_once() -> None:
    """Line buffers that fill slowly: what fills them while all else waits takes no time beside it."""
    dstc = machine("dstc-paper", {"levels.GLB.read_words_per_cycle": 2.0})
    plan = dstc.lower_problems(gemm_problems(256, 256, 256, pattern="unstructured:0.9"))
    assert plan.mapping[0, WAIT_S] > plan.mapping[0, COMPUTE_S]
    assert dstc.price(plan).latency_s == pytest.approx(plan.mapping[:, LATENCY_S], rel=1e-12)


def test_eyeriss_compresses_inputs_and_gates_their_zeros() -> None:
    eyeriss = machine("eyeriss")
    rows = gemm_problems([96, 96], 256, 363, a_dtype="fp16")
    rows[1, C.B_DENSITY] = 0.4
    prices = eyeriss.price(eyeriss.lower_problems(rows))
    assert prices.energy_j[1] < 0.8 * prices.energy_j[0]
    assert prices.level_bytes[1, 0] < prices.level_bytes[0, 0]


def test_patterns_of_neurons_are_zeros_of_inputs() -> None:
    row = gemm_problems(96, 64, 256, pattern="act:0.6", a_dtype="fp16")
    plain = gemm_problems(96, 64, 256, a_dtype="fp16")
    plain[:, C.B_DENSITY] = 0.4
    eyeriss = machine("eyeriss")
    ours, same = (eyeriss.price(eyeriss.lower_problems(rows)) for rows in (row, plain))
    assert ours.energy_j == pytest.approx(same.energy_j)
    assert ours.energy_j[0] < product(eyeriss, 96, 64, 256, dtype="fp16")[1]


def test_a_network_with_convolutions_runs_beside_a_gpu() -> None:
    workload = load_workload("resnet-9", dtype="int8")
    stc, gpu = compare(workload, ["stc", "a100-sxm-80gb"], ["2:4"])
    assert stc.speedup > 1.2
    assert stc.latency_s > gpu.latency_s
    kinds = set(stc.plan.problem[:, C.KIND])
    assert kinds == {ProblemKind.GEMM, ProblemKind.STREAM}
    streams = stc.plan.problem[:, C.KIND] == ProblemKind.STREAM
    moved = stc.prices.level_bytes[streams, 0]
    assert moved == pytest.approx(stc.plan.problem[streams][:, [C.READ_BYTES, C.WRITE_BYTES]].sum(axis=1))


def test_rows_say_what_else_was_tried() -> None:
    result = simulate("llama-2-7b", "stc", seq=16, dtype="int8", sparsity={"*": "2:4"})
    call = next(call for call in result.plan.calls if call.ops == ("layers.*.mlp.up_proj",))
    assert call.kernel == "2:4"
    assert [(other.kernel, other.reason) for other in call.alternatives] == [("dense", "slower")]
    split = apply_method(load_workload("llama-2-7b", seq=16), "tp:2")
    with pytest.raises(SimsparseError, match="no links to other chips"):
        simulate(split, "stc")


def test_every_field_can_be_swept() -> None:
    """Array, buffer, bandwidth, format and actions; area goes with them where the file has it."""
    base = machine("stc")
    half, wide = machine("stc", {"levels.SMEM.capacity_words": 131072}), machine("stc", {"levels.LRF.fanout_x": 32})
    assert base.area_mm2 is not None
    assert half.area_mm2 is not None
    assert wide.area_mm2 is not None
    assert base.area_mm2 - half.area_mm2 == pytest.approx(2604256e-6 / 2)
    assert wide.area_mm2 - base.area_mm2 == pytest.approx(1024 * (95.68 + 332.25) * 1e-6)
    dense = product(base, 512, 256, 1024)
    slow = machine("stc", {"levels.DRAM.read_words_per_cycle": 1.0})
    assert product(slow, 512, 256, 1024)[0] > 2 * dense[0]
    runs = machine("stc", {"levels.SMEM.formats.A": "uop uop uop uop cp:8"})
    assert product(runs, 512, 256, 1024, "2:4")[1] > product(base, 512, 256, 1024, "2:4")[1]
    still = machine("stc", {"levels.RF.actions": "none"})
    assert product(still, 512, 256, 1024, "2:4")[0] == dense[0]
    assert product(half, 4096, 64, 4096)[1] != product(base, 4096, 64, 4096)[1]


def test_dram_traffic_responds_to_the_size_of_the_buffer() -> None:
    def traffic(words: int) -> float:
        on = machine("stc", {"levels.SMEM.capacity_words": words})
        prices = on.price(on.lower_problems(gemm_problems(1024, 1024, 1024, a_dtype="int8")))
        return float(prices.level_bytes[0, 0])

    small, middle, large = (traffic(2**k) for k in (16, 20, 22))
    assert small > middle > large >= 3 * 1024**2


def test_mappings_are_kept_by_content_and_a_broken_one_is_made_again(tmp_path: Path) -> None:
    made = []

    def compute() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        made.append(1)
        return np.array([1.5, 0.1])

    key = content_key(design("stc").architecture(), {"b": 1, "a": 2.0}, (1, None))
    assert key == content_key(design("stc").architecture(), {"a": 2.0, "b": 1}, [1, None])
    assert key != content_key(design("stc").architecture(sparse=False), {"b": 1, "a": 2.0}, (1, None))
    for _ in range(2):
        assert remembered(key, 2, compute, tmp_path).tolist() == [1.5, 0.1]
    assert len(made) == 1
    (path,) = tmp_path.rglob("*.json")
    good = path.read_text()
    for broken in ("", "[]", good[:-9], good.replace("0x1.8", "0x1.9"), '{"values": 3, "check": ""}'):
        path.write_text(broken)
        assert remembered(key, 2, compute, tmp_path).tolist() == [1.5, 0.1]
        assert path.read_text() == good
    assert len(made) == 6


def test_an_edited_energy_table_is_never_ignored() -> None:
    """Also an action that the file has no energy of, and a format where there was none."""
    priced = {
        field: product(machine("stc", {field: value} if field else None), 512, 256, 1024, "2:4")
        for field, value in (
            ("", 0), ("levels.SMEM.energy_pj.read", 600), ("compute.energy_pj.mac_random", 5.0),
            ("levels.RF.formats.C", "b"), ("levels.DRAM.energy_pj.metadata_read", 512),
        )
    }  # fmt: skip
    base = priced.pop("")
    for field, (latency_s, energy_j) in priced.items():
        assert latency_s == base[0]
        assert field == "levels.RF.formats.C" or energy_j > base[1], field


def test_a_search_that_finds_nothing_says_which_level_lacks_what() -> None:
    with pytest.raises(SimsparseError, match=r"level SMEM would hold [\d,]+ words of 1, [\d,]+ too many, most of them"):
        product(machine("stc", {"levels.SMEM.capacity_words": 1}), 64, 64, 64)
