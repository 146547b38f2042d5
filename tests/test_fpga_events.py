"""The N:M trainer's plan in both evaluations: its events, what changes them, and the closed form beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fpga_tools import built, trained
from tiled_machine import ran

from accel_models.fpga.columns import Mapping
from accel_models.fpga.machine import SatMachine
from accel_models.fpga.schemes import Scheme
from simsparse.event_log import Engine, What
from simsparse.events import run
from simsparse.plan import Plan, ProblemColumn
from simsparse.problems import gemm_problems
from simsparse.registry import load_workload


def random_case(rng: np.random.Generator, double_buffering: bool) -> tuple[SatMachine, Plan]:
    """A small or a large array with fitting buffers, on a memory from much too slow to free, and a product.

    Half of the products have epilogues.
    """
    side, doublings, longest = ((9, 0, 500), (33, 4, 2000))[int(rng.integers(2))]
    machine = built(
        array_rows=int(rng.integers(1, side)), array_cols=int(rng.integers(1, side)),
        mac_pipeline_depth=int(rng.integers(1, 9)), interleave=bool(rng.integers(2)),
        dataflow=str(rng.choice(["ws", "os", "best"])), double_buffering=double_buffering,
        pregeneration=bool(rng.integers(2)) or not double_buffering, dram_channels=int(rng.choice([1, 2, 4])),
        dram_bytes_per_s_per_channel=float(rng.choice([1e8, 5e8, 2e9, 19.2e9])),
        weight_buffer_bytes=int(2 ** (doublings + rng.integers(15, 18))),
        activation_buffer_bytes=int(2 ** (doublings + rng.integers(17, 19))),
        output_buffer_bytes=int(2 ** (doublings + rng.integers(13, 17))),
    )  # fmt: skip
    m, n, k = (int(x) for x in np.exp(rng.uniform(np.log(8), np.log(longest), 3)))
    pattern = str(rng.choice(["dense", "2:4", "2:8", "1:16"]))
    rows = trained(gemm_problems(m, n, k, pattern=pattern, batch=int(rng.integers(1, 4))))
    if rng.integers(2):
        values = rows[0, ProblemColumn.BATCH] * m * n
        rows[:, ProblemColumn.READ_BYTES] = values * rng.choice([0, 2, 4])
        rows[:, ProblemColumn.WRITE_BYTES] = values * rng.choice([-1, 0, 2])
        # Single buffers overlap nothing but the vector engine with the next load.
        rows[:, ProblemColumn.STREAM_FLOPS] = values * rng.choice([0, 1, 10, 100]) * double_buffering
    return machine, machine.lower_problems(rows)


@pytest.mark.parametrize(
    ("double_buffering", "median", "p95", "worst"), [(False, 1e-12, 1e-12, 1e-12), (True, 1e-12, 0.005, 0.05)]
)
def test_closed_form_against_events(double_buffering: bool, median: float, p95: float, worst: float) -> None:
    """Nothing overlaps without double buffering (and without elementwise work), and both agree exactly.

    With it the closed form adds up what each tile waits for, as if memory moved an output out during one tile and the
    vector engine never held up a tile alone: it errs where an output is stored during two, and at the ends of calls
    that the vector engine bounds.
    """
    rng = np.random.default_rng(7)
    errors = []
    for _ in range(200):
        machine, plan = random_case(rng, double_buffering)
        prices, log = machine.price(plan), run(machine, plan)
        assert log.moved_bytes.sum() == pytest.approx(prices.level_bytes[0, 0], rel=1e-9)
        computing = np.isin(log.what, [What.COMPUTE, What.DEPENDENCY, What.EXCHANGE])
        # The plan counts weights and sums that move from one tile to the next, tiles by themselves do not.
        cycles = (log.end_s - log.start_s)[computing].sum() * log.clock_hz
        assert cycles == pytest.approx(plan.mapping[0, Mapping.ARRAY_CYCLES], rel=0.15 if double_buffering else 1e-9)
        errors.append(prices.latency_s[0] / log.latency_s[0] - 1)
    size = np.abs(errors)
    middle, high = np.quantile(size, [0.5, 0.95])
    print(
        f"{double_buffering=}: median {middle:.2%}, p95 {high:.2%}, worst {size.max():.2%}, mean {np.mean(errors):+.2%}"
    )
    assert middle <= median
    assert high <= p95
    assert size.max() <= worst


def test_the_whole_log_of_a_small_layer() -> None:
    """C[8, 8] = A[8, 32] · B[32, 8] in 2:8 on 4 x 4 elements of depth 4, weight-stationary; a byte a cycle, no gaps."""
    small = {"weight_buffer_bytes": 2**13, "activation_buffer_bytes": 2**13, "output_buffer_bytes": 2**12}
    machine = built(
        array_rows=4, array_cols=4, mac_pipeline_depth=4, nm_max_m=8, dataflow="ws", dram_channels=1, dram_gap_s=0.0,
        dram_bytes_per_s_per_channel=1e9, dram_efficiency=0.2, **small,
    )  # fmt: skip
    plan = machine.lower_problems(trained(gemm_problems(8, 8, 32, pattern="2:8")))
    log = run(machine, plan)
    cycles = np.rint(np.stack([log.start_s, log.end_s]) * log.clock_hz).astype(int).T.tolist()
    # Two tiles of 4 outputs. Of each 4 x 4 groups of 2 weights and 2 indices of 3 bits; the 32 x 8 activations stay.
    weights, activations, stored = 16 * (2 * 16 + 2 * 3) // 8, 32 * 8 * 2, 4 * 8 * 2
    loaded = weights + activations
    # First weights in (4 columns x 2), three rows that wait 2 x 4 cycles for the one above, the way out.
    filled = loaded + 8 + 3 * 8 + 4 - 2 + 4
    # 8 tokens, 2 products each. The second tile comes later than the array would like, and the store waits for it.
    again = loaded + weights
    assert filled + 16 < again
    assert [(What(what), *span) for what, span in zip(log.what, cycles, strict=True)] == [
        (What.LOAD, 0, loaded),
        (What.FILL, loaded, filled),
        (What.COMPUTE, filled, filled + 16),
        (What.LOAD, loaded, again),
        (What.COMPUTE, again, again + 16),
        (What.STORE, again, again + stored),
        (What.STORE, again + stored, again + 2 * stored),
    ]
    waits = log.engine_cycles()["waits_data"]
    assert waits == pytest.approx([0, loaded + again - filled - 16, filled + 16])


def test_what_changes_a_machine_changes_its_events() -> None:
    """The same plan: buffers, memory and the reduction engine are the machine's."""
    machine = built()
    plan = machine.lower_problems(trained(gemm_problems(512, 4096, 1024, pattern="2:8")))
    work = machine.tiles(plan)
    base = ran(work).latency_s[0]
    assert ran(replace(work, depth=1)).latency_s[0] > 1.05 * base
    assert ran(replace(work, bytes_per_s=work.bytes_per_s / 2)).latency_s[0] > base
    assert ran(replace(work, bytes_per_s=work.bytes_per_s / 16)).latency_s[0] > 1.2 * base
    balanced, stores_starve, loads_starve = (ran(work, store_share=s).latency_s[0] for s in (0.2, 0.02, 0.95))
    assert min(stores_starve, loads_starve) > 1.02 * balanced > base


@pytest.mark.parametrize("pregeneration", [True, False])
def test_a_slow_reduction_engine_holds_up_updates_or_products(pregeneration: bool) -> None:
    """With pre-generation the update of a weight waits for it, without the product that reads the weight."""
    work = Scheme.BDWP(load_workload("resnet-9", phase="train", batch=4), "2:8")
    total_s = []
    for lanes in (32, 2):
        machine = built(pregeneration=pregeneration, reduction_lanes=lanes)
        plan = machine.lower(work)
        log = run(machine, plan, tiles_per_call=81)
        reducing = {log.labels[call].endswith(".update") for call in log.call[log.what == What.REDUCE]}
        assert reducing == {pregeneration}
        assert log.latency_s == pytest.approx(machine.price(plan).latency_s, rel=0.03)
        total_s.append(log.total_s)
    assert total_s[1] > 1.2 * total_s[0]


def test_a_whole_training_step_in_both_evaluations() -> None:
    """Convolutions, epilogues, streams and updates; bytes of every call are those of the closed form."""
    machine = built()
    plan = machine.lower(Scheme.BDWP(load_workload("resnet-9", phase="train", batch=16), "2:8"))
    prices, log = machine.price(plan), run(machine, plan, tiles_per_call=128)
    moved = np.bincount(log.call, weights=log.moved_bytes, minlength=len(plan.calls))
    assert moved == pytest.approx(prices.level_bytes[:, 0], rel=1e-9)
    closed = float(prices.latency_s @ log.counts)
    assert log.total_s == pytest.approx(closed, rel=0.002)
    assert log.latency_s == pytest.approx(prices.latency_s, rel=0.01)
    assert log.total_s >= closed * (1 - 1e-9)
    assert log.busy_fraction[Engine.COMPUTE] > 0.5
    shares = log.busy_fraction + log.stalled_fraction.sum(axis=1)
    assert (shares <= 1 + 1e-9).all()
