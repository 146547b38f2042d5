"""Event simulation: the whole log of small scenarios, coarsening, the event budget, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tiled_machine import PLAN, ran
from toy_machine import Toy

from simsparse.errors import InputError, UnsupportedError
from simsparse.event_log import Engine, EventLog, Wait, What
from simsparse.events import run
from simsparse.plan import Floats, HasEvents
from simsparse.tiles import LOOPS, OF_OUTPUTS, OF_TILES, TileWork, tiles_of


def tiles(value: float) -> Floats:
    return np.full((1, 3, 3, 3, 3), float(value))


def outputs(value: float) -> Floats:
    return np.full((1, 3, 3, 3), float(value))


def alike(loops: tuple[int, ...], load: float, compute: float, store: float, **changes: Any) -> TileWork:
    """One stage whose tiles are all the same, on a memory of a byte a second; `changes` are other fields."""
    fields: dict[str, Any] = {
        "loops": np.array([loops]), "load_bytes": tiles(load), "compute_s": tiles(compute), "dependency_s": tiles(0),
        "exchange_s": tiles(0), "post_s": outputs(0), "reduce_s": outputs(0), "store_bytes": outputs(store),
        "updates": np.zeros(1, dtype=bool), "fill_s": np.zeros(1), "call": np.zeros(1, dtype=np.int64),
        "clock_hz": 1.0, "bytes_per_s": 1.0, "gap_s": 0.0, "depth": 2,
    }  # fmt: skip
    return TileWork(**(fields | changes))


BUSY = [Engine.LOADER, Engine.COMPUTE, Engine.STORE]


def lines(log: EventLog) -> list[str]:
    return [
        f"{start:g}-{end:g} {What(what).name.lower()} {tile}"
        for start, end, what, tile in zip(log.start_s, log.end_s, log.what, log.tile, strict=True)
    ]


# --- semantics -------------------------------------------------------------------------------------------------------


def test_double_buffers_overlap_and_the_port_goes_to_who_asked_first() -> None:
    log = ran(alike((1, 1, 3, 1), load=4, compute=3, store=3))
    assert lines(log) == [
        "0-4 load 0",
        "4-7 compute 0",
        "4-8 load 1",
        # At 7 output 0 waits for the port; at 8 it gets it, ahead of the loader, which asks at 8.
        "8-11 store 0",
        "8-11 compute 1",
        "11-15 load 2",
        "15-18 store 1",
        "15-18 compute 2",
        "18-21 store 2",
    ]
    assert log.latency_s.tolist() == [21]
    assert log.busy_s[0, BUSY].tolist() == [12, 9, 9]
    waits = log.wait_s[0]
    assert waits[Engine.COMPUTE].tolist() == [9, 0, 0, 0, 0]
    assert waits[Engine.LOADER, Wait.MEMORY] == 3
    assert waits[Engine.STORE].tolist() == [7, 0, 5, 0, 0]
    assert log.busy_fraction[BUSY] == pytest.approx([12 / 21, 9 / 21, 9 / 21])
    assert log.stalled_fraction[Engine.STORE, Wait.MEMORY] == pytest.approx(5 / 21)


def test_single_buffers_overlap_nothing() -> None:
    log = ran(alike((1, 1, 2, 1), load=4, compute=3, store=3, depth=1))
    assert lines(log) == [
        "0-4 load 0",
        "4-7 compute 0",
        # Both ask at 7; the loader has waited for its buffer, which was freed before the output was handed on.
        "7-11 load 1",
        "11-14 store 0",
        "14-17 compute 1",
        "17-20 store 1",
    ]
    assert log.wait_s[0, Engine.COMPUTE].tolist() == [8, 3, 0, 0, 0]


def test_fill_follows_the_first_load_and_elementwise_work_comes_before_the_store() -> None:
    work = alike((1, 1, 1, 2), load=2, compute=5, store=1, fill_s=np.array([3.0]), post_s=outputs(4))
    assert lines(ran(work)) == [
        "0-2 load 0",
        "2-4 load 1",
        "2-5 fill 0",
        "5-10 compute 0",
        "10-15 compute 1",  # the second step of the same output
        "15-19 vector 1",
        "19-20 store 1",
    ]


def test_what_stands_still_in_a_tile_is_no_work() -> None:
    work = alike((1, 1, 2, 1), load=1, compute=2, store=0, dependency_s=tiles(3), exchange_s=tiles(1))
    log = ran(work)
    assert lines(log) == [
        "0-1 load 0",
        "1-2 load 1",
        "1-3 compute 0",
        "3-6 dependency 0",
        "6-7 exchange 0",
        "7-9 compute 1",
        "9-12 dependency 1",
        "12-13 exchange 1",
    ]
    assert log.busy_s[0, Engine.COMPUTE] == 4
    assert log.wait_s[0, Engine.COMPUTE].tolist() == [1, 0, 0, 6, 2]


def test_updated_weights_pass_through_the_reduction_engine() -> None:
    """It has buffers of its own: what is updated waits while it is behind."""
    pieces = {"post_s": outputs(1), "reduce_s": outputs(3), "updates": np.array([True])}
    log = ran(alike((3, 1, 1, 1), load=1, compute=0, store=1, **pieces))
    assert lines(log) == [
        "0-1 load 0",
        "1-2 load 1",
        "1-2 update 0",
        "2-3 load 2",
        "2-3 update 1",
        "2-5 reduce 0",
        "5-6 store 0",
        "5-6 update 2",  # the two output buffers were full
        "5-8 reduce 1",
        "8-9 store 1",
        "8-11 reduce 2",
        "11-12 store 2",
    ]
    assert log.wait_s[0, Engine.UPDATE, Wait.DATA] == 1 + 2
    assert log.wait_s[0, Engine.COMPUTE, Wait.BUFFER] == 2


def test_every_transfer_has_a_gap_and_merged_ones_have_theirs() -> None:
    work = alike((1, 1, 2, 1), load=4, compute=0, store=2, gap_s=1.0)
    assert lines(ran(work)) == ["0-5 load 0", "5-10 load 1", "10-13 store 0", "13-16 store 1"]
    many = alike((1, 1, 1000, 1), load=4, compute=0, store=2, gap_s=1.0)
    assert ran(many, tiles_per_call=81).latency_s[0] == 1000 * 8


def test_loads_and_stores_may_have_a_port_each() -> None:
    work = alike((1, 1, 3, 1), load=4, compute=0, store=1)
    apart = ran(work, store_share=0.5)
    assert lines(apart) == [
        "0-8 load 0",
        "8-10 store 0",
        "8-16 load 1",
        "16-18 store 1",
        "16-24 load 2",
        "24-26 store 2",
    ]
    assert ran(work).latency_s[0] == 15
    assert ran(work, store_share=0.2).latency_s[0] == 20
    with pytest.raises(InputError, match=r"store_share is 1\.0, expected a fraction from 0 to below 1"):
        ran(work, store_share=1.0)


def test_calls_run_one_after_the_other() -> None:
    one = alike((1, 1, 2, 1), load=1, compute=2, store=1)
    fields = {name: np.concatenate([array] * 2) for name, array in vars(one).items() if isinstance(array, np.ndarray)}
    log = ran(replace(one, **(fields | {"call": np.array([0, 1])})))
    assert log.latency_s.tolist() == [6, 6]
    assert log.start_s[log.call == 1].min() == log.end_s[log.call == 0].max() == 6
    assert log.total_s == 12
    assert log.labels == ("row 0", "row 1")
    # Two stages of one call do so too, and are one call.
    staged = ran(replace(one, **(fields | {"call": np.array([0, 0])})))
    assert staged.latency_s.tolist() == [12]
    assert staged.start_s.tolist() == log.start_s.tolist()
    assert staged.busy_s.sum() == log.busy_s.sum()


def test_chrome_trace_holds_every_event() -> None:
    log = ran(alike((1, 1, 3, 1), load=4, compute=3, store=3))
    trace = json.loads(json.dumps(log.to_chrome_trace()))["traceEvents"]
    assert [row["args"]["name"] for row in trace if row["ph"] == "M"] == ["loader", "compute", "store"]
    events = [row for row in trace if row["ph"] == "X"]
    assert [(row["name"], row["ts"], row["dur"], row["tid"]) for row in events[:2]] == [
        ("load", 0, 4e6, 0),
        ("compute", 4e6, 3e6, 1),
    ]
    assert len(events) == len(log)
    assert sum(row["args"]["bytes"] for row in events) == 21


# --- coarsening and the event budget ---------------------------------------------------------------------------------


def random_work(rng: np.random.Generator) -> TileWork:
    """A nest in which the operand of an outer loop is loaded in bursts, with smaller tiles at the edges."""
    loops = tuple(int(x) for x in rng.integers((1, 10, 5, 1), (4, 40, 50, 4)))
    edge = np.array([1.0, 1.0, rng.uniform(0.1, 1)])
    sizes = edge[:, None, None] * np.ones((3, 3, 3, 3))
    burst = np.array([rng.uniform(0, 30), 0, 0])[:, None]
    load = sizes * (rng.uniform(0.1, 2) + burst)
    return alike(
        loops, 0, 0, 0,
        load_bytes=load[None], compute_s=sizes[None] * rng.uniform(0.1, 2),
        store_bytes=sizes[None, ..., 0] * rng.uniform(0, 2), depth=int(rng.integers(1, 4)),
    )  # fmt: skip


def test_coarsening_keeps_totals_and_times_within_a_percent() -> None:
    rng = np.random.default_rng(3)
    errors = []
    for _ in range(10):
        work = random_work(rng)
        whole, merged = (tiles_of(work, 0, limit) for limit in (10**9, 1024))
        assert len(whole.merged) == work.loops.prod() == merged.merged.sum()
        assert len(merged.merged) <= 1024 or len(whole.merged) == len(merged.merged)
        for name in (*OF_TILES, *OF_OUTPUTS):
            assert sum(getattr(merged, name)) == pytest.approx(sum(getattr(whole, name)), rel=1e-9)
        exact, coarse = (ran(work, tiles_per_call=limit).latency_s[0] for limit in (10**9, 1024))
        errors.append(coarse / exact - 1)
    assert np.abs(errors).max() <= 0.01
    assert np.abs(errors).max() > 0


def test_an_event_budget_says_what_to_do() -> None:
    work = alike((1, 1000, 1000, 1), load=1, compute=1, store=1)
    with pytest.raises(InputError) as refusal:
        ran(work, tiles_per_call=10**6, max_events=10_000)
    hint = "at most 10000 (max_events); tiles_per_call=3906 makes 9001"
    assert str(refusal.value) == f"events of the plan is 3000001, expected {hint}"
    with pytest.raises(InputError, match="run fewer calls at a time"):
        ran(work, max_events=100)
    with pytest.raises(InputError, match="tiles_per_call is 80, expected at least 81"):
        ran(work, tiles_per_call=80)
    assert len(ran(work)) <= 4 * 1024


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 0}, "depth is 0, expected at least 1"),
        ({"bytes_per_s": 0.0}, "bytes_per_s is 0.0, expected more than 0"),
        ({"fill_s": np.array([-1.0])}, "fill_s is -1.0, expected at least 0"),
        ({"compute_s": np.full((1, 3, 3, 3, 3), np.nan)}, "compute_s is nan, expected at least 0"),
        ({"post_s": np.zeros((1, 3))}, r"shape of post_s is \(1, 3\), expected \(1, 3, 3, 3\)"),
    ],
)
def test_work_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        alike((1, 1, 1, 1), load=1, compute=1, store=1, **changes)
    with pytest.raises(InputError, match=r"loops is 0\.0, expected at least 1"):
        alike((0,) * LOOPS, load=1, compute=1, store=1)


def test_a_machine_without_tiles_says_so() -> None:
    assert not isinstance(Toy(), HasEvents)
    with pytest.raises(UnsupportedError) as refusal:
        run(Toy(), PLAN)
    assert str(refusal.value) == "machine 'toy' has no event model, expected one that gives the tiles of a plan"
