"""The FPGA family: its array and schedule against plain loops, its physics, its devices, and the published bounds."""

from __future__ import annotations

import csv
import importlib.util
import math
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.fpga import FAMILY, _schedule
from accel_models.fpga.columns import Mapping, Product
from accel_models.fpga.kernels import executed_nm, products
from accel_models.fpga.machine import SatMachine, Term
from accel_models.fpga.resources import available, fabric_figures, needed
from accel_models.fpga.spec import Fabric, Hardware, SatSpec
from accel_models.fpga.tiles import STREAM_BYTES
from accel_models.fpga.training import ablated, ablation_table, average, bidirectional, table, training_speedups
from simsparse.dtypes import dtype
from simsparse.errors import InputError, UnsupportedError
from simsparse.machine import KernelMachine
from simsparse.ops import Role, Stream, StreamKind, Tensor, linear
from simsparse.plan import (
    Floats,
    HasRooflines,
    Prices,
    ProblemColumn,
    ProblemKind,
    Roofs,
    TrainStage,
    roofs,
)
from simsparse.problems import gemm_problems, problem_of
from simsparse.registry import load_workload
from simsparse.sparsity import PatternColumn, parse
from simsparse.tiles import tiles_of
from simsparse.workload import Phase, Workload

FREE_MEMORY = {"dram_bytes_per_s_per_channel": 1e30}
SMALL = {
    "array_rows": 4, "array_cols": 4, "mac_pipeline_depth": 4, "nm_max_m": 8, "weight_buffer_bytes": 2**13,
    "activation_buffer_bytes": 2**13, "output_buffer_bytes": 2**12,
}  # fmt: skip


def spec(name: str = "sat-vcu1525", **changes: object) -> SatSpec:
    found = FAMILY.spec(FAMILY.files[name]).with_figures(changes)
    assert isinstance(found, SatSpec)
    return found


@lru_cache
def machine(name: str = "sat-vcu1525", *changes: tuple[str, object]) -> SatMachine:
    return SatMachine(spec(name, **dict(changes)))


def built(**changes: object) -> SatMachine:
    return machine("sat-vcu1525", *changes.items())


def trained(rows: Floats) -> Floats:
    """The same products in a training step, where N:M weights are made."""
    rows[:, ProblemColumn.TRAIN_STAGE] = TrainStage.FORWARD
    return rows


def priced(target: KernelMachine, rows: Floats, kernel: str = "best") -> Prices:
    return target.price(target.lower_problems(rows, kernel=kernel))


small_machines = st.builds(
    lambda **changes: built(**(SMALL | changes)),
    array_rows=st.integers(1, 6),
    array_cols=st.integers(1, 6),
    interleave=st.booleans(),
    dataflow=st.sampled_from(["ws", "os", "best"]),
    pregeneration=st.booleans(),
    double_buffering=st.booleans(),
    dram_channels=st.sampled_from([1, 64]),
    traffic_share=st.sampled_from([0.0, 0.02]),
    activation_buffer_bytes=st.just(2**15),
    weight_buffer_bytes=st.just(2**14),
    output_buffer_bytes=st.just(2**13),
)
extents = st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
nm_texts = st.sampled_from(["1:4", "2:4", "3:4", "1:8", "2:8", "5:8"])
quick = settings(max_examples=40, deadline=None)


# --- the schedule against plain Python -------------------------------------------------------------------------------


@lru_cache
def plain_schedule() -> ModuleType:
    """The compiled module once more, as plain Python."""
    location = importlib.util.spec_from_file_location("plain_schedule", _schedule.__file__)
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba, "njit", lambda **_: lambda function: function)
        location.loader.exec_module(module)
    return module


def chosen(target: SatMachine, m: int, n: int, k: int, pattern: str, batch: int = 1) -> tuple[Floats, Floats]:
    """The product row and its mapping row."""
    rows = trained(gemm_problems(m, n, k, pattern=pattern, batch=batch))
    kept, group = executed_nm(rows, target.spec.nm_max_m.value)
    product = products(rows, kept, group, target.hardware)
    return product[0], _schedule.schedule(target.hardware, product)[0]


@quick
@given(small_machines, extents, nm_texts | st.just("dense"))
def test_compiled_schedule_equals_plain_python(target: SatMachine, mnk: tuple[int, int, int], pattern: str) -> None:
    product, mapping = chosen(target, *mnk, pattern, batch=3)
    plain = np.zeros(len(Mapping))
    plain_schedule().search(target.hardware[0], product, plain)
    assert plain.tolist() == mapping.tolist()


def in_turn(outputs: int, macs: int, depth: int) -> int:
    """Issue slots counted one by one: a product of an output may start `depth` cycles after its last one did."""
    free, now = [0] * outputs, 0
    for _ in range(macs):
        for output in range(outputs):
            now = max(now, free[output]) + 1
            free[output] = now - 1 + depth
    return now


def pieces(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def passes(hw: Floats, p: Floats, x: Floats) -> list[tuple[int, int]]:
    """Cycles busy, and cycles in which its weights or sums move, of each pass of the array in order."""
    rows, cols, depth, turns = (int(hw[c]) for c in (Hardware.ROWS, Hardware.COLS, Hardware.DEPTH, Hardware.INTERLEAVE))
    kept, held = int(p[Product.KEPT]), int(x[Mapping.HELD])
    n, groups = int(p[Product.N]), math.ceil(p[Product.K] / p[Product.GROUP])
    one_block = []
    for tokens in pieces(n, int(x[Mapping.TILE_N])):
        if held:
            for of_pass in pieces(groups, rows * held):
                in_element = math.ceil(of_pass / rows)
                macs = in_element * kept
                busy = sum(in_turn(turn, macs, depth) for turn in pieces(tokens, turns))
                one_block.append((busy, math.ceil(of_pass / in_element) * macs))
        else:
            for block in pieces(tokens, cols * turns):
                outputs = math.ceil(block / cols)
                steps = pieces(groups, math.ceil(x[Mapping.TILE_K] / p[Product.GROUP]))
                one_block += [(in_turn(outputs, step * kept, depth), rows * outputs) for step in steps]
    return one_block * math.ceil(p[Product.M] / (cols if held else rows))


def walked_cycles(hw: Floats, p: Floats, x: Floats) -> int:
    """Cycles of the array with its ends, pass by pass."""
    order = passes(hw, p, x)
    rows, cols, depth = (int(hw[c]) for c in (Hardware.ROWS, Hardware.COLS, Hardware.DEPTH))
    wavefront = rows * depth + cols - 1 if x[Mapping.HELD] else rows - 1 + cols - 1 + depth
    if not hw[Hardware.DOUBLE]:
        return wavefront + sum(busy + moving for busy, moving in order)
    if not x[Mapping.HELD]:
        # Sums of a pass move out during the next one: weights the other way round.
        order.reverse()
    hidden = [max(busy, later[1]) for (busy, _), later in zip(order, [*order[1:], (0, 0)], strict=True)]
    return wavefront + order[0][1] + sum(hidden)


def walked_bytes(p: Floats, x: Floats) -> tuple[float, float]:
    """Bytes of A and B, tile by tile, each read when it is not the one that lies there."""
    tiles_m = pieces(int(p[Product.M]), int(x[Mapping.TILE_M]))
    tiles_n = pieces(int(p[Product.N]), int(x[Mapping.TILE_N]))
    tiles_k = pieces(int(p[Product.K]), int(x[Mapping.TILE_K]))
    group = int(p[Product.GROUP])
    outer = [(m, n) for m in range(len(tiles_m)) for n in range(len(tiles_n))]
    if x[Mapping.OUTER] == 1:
        outer.sort(key=lambda tile: (tile[1], tile[0]))
    a_bytes, b_bytes, a_there, b_there = 0.0, 0.0, (-1, -1), (-1, -1)
    for m, n in outer:
        for k in range(len(tiles_k)):
            if (m, k) != a_there:
                a_bytes += tiles_m[m] * math.ceil(tiles_k[k] / group) * p[Product.A_READ_BYTES]
            if (k, n) != b_there:
                b_bytes += tiles_k[k] * tiles_n[n] * p[Product.B_BYTES]
            a_there, b_there = (m, k), (k, n)
    return a_bytes, b_bytes


@quick
@given(small_machines, extents, nm_texts | st.just("dense"))
def test_totals_are_those_of_a_walk_over_tiles(target: SatMachine, mnk: tuple[int, int, int], pattern: str) -> None:
    p, x = chosen(target, *mnk, pattern)
    hw = target.hardware[0]
    assert x[Mapping.ARRAY_CYCLES] + x[Mapping.SKEW_CYCLES] == walked_cycles(hw, p, x)
    a_bytes, b_bytes = walked_bytes(p, x)
    assert x[Mapping.A_BYTES] == pytest.approx(a_bytes, rel=1e-12)
    assert x[Mapping.B_BYTES] == pytest.approx(b_bytes, rel=1e-12)
    share = 0.5 if hw[Hardware.DOUBLE] else 1.0
    groups = math.ceil(x[Mapping.TILE_K] / p[Product.GROUP])
    assert x[Mapping.TILE_M] * groups * p[Product.A_GROUP_BYTES] <= share * hw[Hardware.WEIGHT_BUFFER]
    assert x[Mapping.B_TILE_BYTES] <= share * hw[Hardware.ACTIVATION_BUFFER]
    assert x[Mapping.TILE_M] * x[Mapping.TILE_N] * p[Product.SUM_BYTES] <= share * hw[Hardware.OUTPUT_BUFFER]


@quick
@given(small_machines, extents, nm_texts | st.just("dense"), st.integers(1, 6), st.sampled_from([0, 3]))
def test_pace_is_that_of_a_walk_over_tiles(
    target: SatMachine, mnk: tuple[int, int, int], pattern: str, batch: int, read: int
) -> None:
    """While a tile is computed, the next is loaded and the output before is stored; only few kinds are looked at."""
    rows = trained(gemm_problems(*mnk, pattern=pattern, batch=batch))
    rows[:, ProblemColumn.READ_BYTES] = read * batch * mnk[0] * mnk[1]
    plan = target.lower_problems(rows)
    found, work = target.price(plan).terms_s[0], target.tiles(plan)
    if not target.spec.double_buffering.value:
        assert found[Term.HEAD : Term.DRAM].tolist() == [0, 0, 0]
        return
    tiles = tiles_of(work, 0, 10**9)
    load, store = (np.array(moved) / work.bytes_per_s for moved in (tiles.load_bytes, tiles.store_bytes))
    steps = np.array(tiles.compute_s)
    steps[0] += work.fill_s[0]
    beside = np.append(load[1:], 0.0)
    beside[tiles.steps :: tiles.steps] += store[:-1]
    array = found[: Term.HEAD].sum()
    assert found[Term.HEAD] == pytest.approx(load[0])
    assert found[Term.TAIL] == pytest.approx(store[-1])
    assert array + found[Term.STARVED] == pytest.approx(max(array, np.maximum(steps, beside).sum()))


def test_a_small_product_by_hand() -> None:
    """4 x 4 elements, depth 4, interleaved; C[8, 8] = A[8, 32] · B[32, 8] in 2:8, weight-stationary."""
    target = built(**SMALL, dataflow="ws", **FREE_MEMORY)
    _, x = chosen(target, 8, 8, 32, "2:8")
    # 4 groups on 4 rows: one pass of 2 steps for each of 8 tokens and 2 blocks of outputs; 4 x 2 weights shift in less.
    assert x[Mapping.ARRAY_CYCLES] == 2 * 8 * 2
    assert x[Mapping.SKEW_CYCLES] == 4 * 2 + 4 * 4 + 3
    assert x[Mapping.STALL_CYCLES] == 0
    _, y = chosen(built(**SMALL, dataflow="ws", interleave=False, **FREE_MEMORY), 8, 8, 32, "2:8")
    # Without interleaving the second step of each token waits for the first: 5 cycles a token instead of 2.
    assert y[Mapping.ARRAY_CYCLES] == 2 * 8 * 5
    assert y[Mapping.STALL_CYCLES] == 2 * 8 * 3


# --- physics ---------------------------------------------------------------------------------------------------------


@quick
@given(small_machines, extents, nm_texts | st.just("dense"), st.integers(1, 4))
def test_nothing_beats_its_roofline(target: SatMachine, mnk: tuple[int, int, int], pattern: str, batch: int) -> None:
    found = priced(target, trained(gemm_problems(*mnk, pattern=pattern, batch=batch)))
    assert (found.latency_s >= found.roofline_s * (1 - 1e-12)).all()


@pytest.mark.parametrize("network", ["resnet-50", "mobilenet-v2"])
def test_no_call_of_a_network_beats_its_roofline(network: str) -> None:
    """With strided 1 x 1 and depthwise convolutions, fused epilogues and updates."""
    plan = built().lower(bidirectional(load_workload(network, phase="train", batch=2), "2:4"))
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


@quick
@given(small_machines, extents, nm_texts)
def test_parts_add_up(target: SatMachine, mnk: tuple[int, int, int], pattern: str) -> None:
    rows = trained(gemm_problems(*mnk, pattern=pattern))
    rows[:, ProblemColumn.STREAM_FLOPS] = 5000.0
    found = priced(target, rows)
    assert found.energy_terms_j.sum(axis=1) == pytest.approx(found.energy_j)
    assert found.dynamic_j[0] == pytest.approx(found.energy_j[0] - 15.0 * found.latency_s[0])
    t = found.terms_s[0]
    chain, beside = t[Term.COMPUTE : Term.DRAM].sum(), t[Term.DRAM : Term.REDUCTION]
    apart = not target.spec.double_buffering.value
    body = chain + beside.sum() if apart else max(chain, *beside)
    assert found.latency_s[0] == pytest.approx(body + t[Term.REDUCTION])
    assert (t >= 0).all()
    held_up = not apart and max(beside) > t[: Term.HEAD].sum()
    candidates = [*beside, t[Term.REDUCTION]] if held_up else t if apart else [*t[: Term.DRAM], t[Term.REDUCTION]]
    assert t[found.bound[0]] == max(candidates)


def test_half_the_work_takes_half_to_all_of_the_dynamic_energy() -> None:
    dense, half = (priced(built(), gemm_problems(4096, 4096, 4096, pattern=p)).dynamic_j[0] for p in ("dense", "2:4"))
    assert 0.5 * dense <= half <= dense


# --- engines ---------------------------------------------------------------------------------------------------------


def test_reduction_hides_behind_the_update_unless_it_is_slow_or_online() -> None:
    rows = trained(gemm_problems(1024, 512, 1024, pattern="2:8"))
    assert priced(built(), rows).terms_s[0, Term.REDUCTION] == 0.0
    weights = 1024 * 1024
    slow = priced(built(reduction_lanes=8), rows).terms_s[0, Term.REDUCTION]
    update_cycles = weights * 20 / (4 * 19.2e9 * 0.8 / 200e6)
    assert slow == pytest.approx((weights / 8 - update_cycles / 2) / 200e6)
    online = priced(built(pregeneration=False, activation_buffer_bytes=2**23, weight_buffer_bytes=2**21), rows)
    assert online.terms_s[0, Term.REDUCTION] == pytest.approx(weights / 32 / 200e6)
    activations = rows.copy()
    activations[:, ProblemColumn.A_IS_WEIGHT] = 0.0
    assert priced(built(), activations, "sat-nm").terms_s[0, Term.REDUCTION] > 0.0


def test_weights_are_made_in_training_only() -> None:
    """At inference they are packed beforehand, whatever makes them; activations are reduced when they are read."""
    rows, target = gemm_problems(1024, 512, 1024, pattern="2:8"), built(pregeneration=False, reduction_lanes=8)
    assert priced(target, rows).terms_s[0, Term.REDUCTION] == 0.0
    packed, dense_read = (target.lower_problems(r).mapping[0] for r in (rows, trained(rows.copy())))
    assert packed[Mapping.A_TILE_BYTES] < dense_read[Mapping.A_TILE_BYTES]
    for phase, reduces in (("encode", False), ("train", True)):
        work = load_workload("resnet-18-tiny", phase=phase, batch=2).with_sparsity({"layer*": "2:8"})
        found = target.price(target.lower(work)).terms_s[:, Term.REDUCTION]
        assert bool((found > 0.0).any()) is reduces


def update_of(elements: int) -> Stream:
    def tensor(name: str, kind: str, role: Role) -> Tensor:
        return Tensor(name, (elements,), dtype(kind), role)

    state = (tensor("w.master", "fp32", Role.OPTIMIZER), tensor("w.moment", "fp32", Role.OPTIMIZER))
    gradient, weight = tensor("w.grad", "fp16", Role.GRADIENT), tensor("w", "fp16", Role.WEIGHT)
    return Stream("w.update", StreamKind.OPTIMIZER, (gradient, *state), (*state, weight), flops=4.0 * elements)


def test_update_is_bound_by_memory_or_by_its_lanes() -> None:
    row = problem_of(update_of(1 << 20))[None]
    by_memory, pieces = priced(built(), row), (1 << 20) * 10 / STREAM_BYTES
    # It passes through in pieces; the last is renewed while the one before is stored.
    assert by_memory.latency_s[0] == pytest.approx((1 << 20) * 20 / (4 * 19.2e9 * 0.8))
    assert by_memory.term_names[by_memory.bound[0]] == "dram"
    by_lanes = priced(built(update_lanes=2), row)
    # The first has to come, the last to leave.
    assert by_lanes.latency_s[0] == pytest.approx((1 << 19) / 200e6 + by_memory.terms_s[0, Term.DRAM] / pieces)
    assert by_lanes.term_names[by_lanes.bound[0]] == "update"


# --- which kernel, and why not the other -----------------------------------------------------------------------------


NOT_SHRUNK = "no whole rows or slices are zero"


def reasons(pattern: str, **changes: object) -> dict[str, str]:
    """Kernel taken and, by kernel, why others were not."""
    fp16 = dtype("fp16")
    weight = Tensor("up.weight", (512, 1024), fp16, Role.WEIGHT, parse(pattern))
    x, y = (Tensor(name, (256, size), fp16, Role.ACTIVATION) for name, size in (("x", 1024), ("y", 512)))
    work = Workload("one", Phase.ENCODE, 1, 256, fp16, (linear("up", weight, x, y, tokens=256),))
    (call,) = built(**changes).lower(work).calls
    return {"taken": call.kernel} | {other.kernel: other.reason for other in call.alternatives}


@pytest.mark.parametrize("pattern", ["2:4", "1:16", "vnm64:2:8", "nmv32:4:8", "2:32"])
def test_patterns_that_hold_an_nm_run_by_it(pattern: str) -> None:
    assert reasons(pattern) == {"taken": "sat-nm", "sat-dense": "slower", "sat-shrunk": NOT_SHRUNK}


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("dense", "nothing is zero"),
        ("unstructured:0.9", "the pattern guarantees no N:M with N < M along the reduction"),
        ("block16x16:0.5", "the pattern guarantees no N:M with N < M along the reduction"),
        ("31:32", "M is larger than the 16 that elements take"),
    ],
)
def test_patterns_without_run_dense_and_say_why(pattern: str, reason: str) -> None:
    assert reasons(pattern) == {"taken": "sat-dense", "sat-nm": reason, "sat-shrunk": NOT_SHRUNK}


@pytest.mark.parametrize(("pattern", "left"), [("rows:0.5", (2048, 512, 4096)), ("slice:0.75", (4096, 512, 1024))])
def test_whole_rows_and_slices_leave_a_smaller_dense_product(pattern: str, left: tuple[int, int, int]) -> None:
    assert reasons(pattern)["taken"] == "sat-shrunk"
    whole, shrunk = gemm_problems(4096, 512, 4096), gemm_problems(4096, 512, 4096, pattern=pattern)
    small = priced(built(), gemm_problems(*left))
    found = priced(built(), shrunk)
    for name in ("latency_s", "dynamic_j", "level_bytes", "terms_s", "roofline_s"):
        assert getattr(found, name).tolist() == getattr(small, name).tolist(), name
    fraction = math.prod(left) / (4096 * 512 * 4096)
    assert found.latency_s[0] == pytest.approx(priced(built(), whole).latency_s[0] * fraction, rel=0.02)
    # Speedups and effective rates count the dense work.
    assert found.flops[0] == 2 * 4096 * 512 * 4096


def test_an_epilogue_writes_no_more_than_is_left() -> None:
    """What it writes in place of the output of which nine tenths are gone."""
    rows = gemm_problems(512, 256, 1024, pattern="rows:0.9")
    rows[:, ProblemColumn.WRITE_BYTES] = -512 * 256
    target = built()
    plan = target.lower_problems(rows)
    _, x = plan.problem[0], plan.mapping[0]
    assert x[Mapping.C_BYTES] == 51 * 256 * 2
    assert target.price(plan).level_bytes[0, 0] == x[Mapping.A_BYTES] + x[Mapping.B_BYTES]


def test_a_measured_mask_runs_by_the_nm_it_holds() -> None:
    rows = gemm_problems(512, 256, 1024)
    rows[:, ProblemColumn.PATTERN :] = parse("unstructured:0.8").columns()
    rows[:, ProblemColumn.PATTERN + PatternColumn.KIND] = 12
    rows[:, ProblemColumn.PATTERN + PatternColumn.HOLDS] = 0b1001  # 2:4 and 2:8
    n, m = executed_nm(rows, 16)
    assert (n[0], m[0]) == (2, 8)
    n, m = executed_nm(rows, 4)
    assert (n[0], m[0]) == (2, 4)


def test_rooflines_are_those_of_the_array_and_the_memory() -> None:
    target = built()
    assert isinstance(target, HasRooflines)
    peak = 2 * 32 * 32 * 200e6
    found = roofs(target, gemm_problems(64, 64, 64))
    assert found == Roofs((("fp16", peak), ("fp16 2:4", 2 * peak)), 4 * 19.2e9)
    assert target.peak_flops_per_s("fp32") == 0.0
    dense_only = built(nm_max_m=2)
    assert dense_only.peak_flops_per_s("bf16", sparse=True) == peak
    busy = priced(target, gemm_problems(8192, 8192, 8192, pattern="2:4"))
    assert 0.95 < busy.flops[0] / busy.latency_s[0] / (2 * peak) < 1.0
    assert "dram" in busy.level_names


def test_a_call_that_memory_holds_up_is_bound_by_memory() -> None:
    product = gemm_problems(2048, 64, 2048, pattern="1:16")
    for bandwidth, bound in ((1e9, "dram"), (1e30, "compute")):
        found = priced(built(dram_bytes_per_s_per_channel=bandwidth), product)
        terms = found.terms_s[0]
        assert found.term_names[found.bound[0]] == bound
        assert bool(terms[Term.DRAM] > terms[: Term.HEAD].sum()) is (bound == "dram")
        assert found.latency_s[0] >= terms[Term.DRAM]


def test_other_types_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="elements multiply fp16 and bf16 only"):
        priced(built(), gemm_problems(64, 64, 64, a_dtype="fp32"))


# --- devices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(FAMILY.files))
def test_shipped_machines_fit_their_device_and_stay_below_its_power(name: str) -> None:
    target = machine(name)
    takes, has = needed(target.spec), available(target.spec)
    assert all(getattr(takes, field) <= getattr(has, field) for field in ("dsp", "lut", "ff", "bram", "uram"))
    found = priced(target, gemm_problems(4096, 4096, 4096))
    assert found.energy_j[0] / found.latency_s[0] < target.spec.board_w.value
    assert all(figure.source for _, figure in target.spec.figures())
    assert "array_rows" in target.provenance.assumed
    assert target.provenance.unverified


DEVICES = {
    "sat-vcu1525": "VCU1525 (XCVU9P)", "sat-u280": "Alveo U280", "sat-u50": "Alveo U50", "sat-vcu128": "VCU128",
    "sat-zcu102": "ZCU102", "sat-stratix10-mx": "Stratix 10 MX 2100", "sat-vhk158": "VHK158",
}  # fmt: skip
FIELDS = {
    "dsp48e2": "dsp", "dsp58": "dsp", "dsp": "dsp", "lut": "lut", "ff": "ff", "bram36": "bram", "m20k": "bram",
    "uram": "uram", "process_nm": "process_nm", "board_power_limit_W": "board_w",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FAMILY.files))
def test_device_figures_are_those_of_the_evidence(name: str, evidence: Path) -> None:
    found = spec(name)
    with (evidence / "published" / "devices.csv").open(encoding="utf-8") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file) if row["system"] == DEVICES[name]}
    compared = 0
    for metric, field in FIELDS.items():
        if metric in rows:
            figure = getattr(found, field)
            assert figure.value == float(rows[metric]["value"]), metric
            assert figure.unverified == (rows[metric]["quality"] == "recalled"), metric
            compared += 1
    if "hbm_GB" in rows:
        assert found.memory_bytes.value == float(rows["hbm_GB"]["value"]) * 2**30
        compared += 1
    assert compared >= 3
    bandwidth = next(rows[m] for m in ("hbm_bw_GBps", "mem_bw_GBps") if m in rows)
    assert found.dram_peak_bytes_per_s == pytest.approx(float(bandwidth["value"]) * 1e9)


def test_architecture_figures_are_those_of_the_evidence(evidence: Path) -> None:
    with (evidence / "published" / "sat.csv").open(encoding="utf-8") as file:
        rows = {row["metric"]: row["value"] for row in csv.DictReader(file)}
    found = spec()
    assert found.reduction_lanes.value == int(rows["sore_lanes"])
    assert f"{found.array_rows.value}x{found.array_cols.value}" == rows["stce_array"]
    assert found.clock_hz.value == float(rows["clock_MHz"]) * 1e6
    # Neither of these two could be looked up.
    assert found.array_rows.assumed
    assert found.clock_hz.assumed


@pytest.mark.parametrize(
    ("changes", "needs", "has"),
    [
        ({"array_rows": 48, "array_cols": 48}, "7840 DSP blocks", "6840"),
        ({"nm_max_m": 64}, "3319840 flip-flops", "2364480"),
        ({"activation_buffer_bytes": 2**26}, "2048 UltraRAMs", "960"),
    ],
)
def test_a_design_that_exceeds_the_device_is_refused(changes: dict[str, object], needs: str, has: str) -> None:
    with pytest.raises(UnsupportedError) as refusal:
        FAMILY.build(spec(**changes))
    assert str(refusal.value) == f"machine 'sat-vcu1525' needs {needs}, expected at most the {has} of its device"


def test_buffers_that_hold_no_tile_are_refused() -> None:
    with pytest.raises(InputError) as refusal:
        FAMILY.build(spec(weight_buffer_bytes=1024))
    expected = "weight_buffer_bytes of machine 'sat-vcu1525' is 1024.0, expected at least 262144 bytes, to hold a tile"
    assert str(refusal.value) == expected


@pytest.mark.parametrize(
    "changes", [{"dram_channels": 0}, {"array_rows": 0}, {"dram_efficiency": 1.5}, {"dataflow": "is"}]
)
def test_figures_that_cannot_be_are_refused(changes: dict[str, object]) -> None:
    (field,) = changes
    with pytest.raises(InputError, match=field):
        spec(**changes)


def test_element_costs_say_that_they_are_assumed() -> None:
    for fabric in Fabric:
        figures = dict(fabric_figures(fabric).figures())
        assert all(figure.assumed for name, figure in figures.items() if name.count(".") == 1)


# --- training --------------------------------------------------------------------------------------------------------


def test_bidirectional_weights_leave_weight_gradients_and_both_ends_dense() -> None:
    work = bidirectional(load_workload("resnet-18-tiny", phase="train", batch=2), "2:8")
    rows = {op.name: problem_of(op) for op in work.contractions()}
    sparse = {name for name, row in rows.items() if row[ProblemColumn.PATTERN] != 0}
    assert not any(name.startswith(("conv1", "fc")) or name.endswith(".grad_weight") for name in sparse)
    assert {"layer1.*.conv1", "layer1.*.conv1.grad_input"} <= sparse
    assert all(row[ProblemColumn.KIND] == ProblemKind.GEMM for row in rows.values())


def test_unfitted_training_speedup(root: Path) -> None:
    """2:8 gains 1.75 on average in the paper; nothing here is fitted to it."""
    rows = training_speedups(built(), "2:8")
    assert all(1.0 < row.speedup < row.bound <= 2.0 for row in rows)
    assert 1.6 <= average(rows) <= 1.9
    without = ablated("sat-vcu1525", "2:8")
    for slower in without.values():
        assert all(row.sparse_s > whole.sparse_s for row, whole in zip(slower, rows, strict=True))
    readme = (root / "accel_models" / "fpga" / "README.md").read_text(encoding="utf-8")
    for lines in (table(rows), ablation_table(rows, without)):
        text = "\n".join(lines)
        assert text in readme, text
