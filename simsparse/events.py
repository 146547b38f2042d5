"""The second evaluation of a plan: its tiles run event by event, by processes with finite buffers and one memory.

Calls run one after the other, as the closed form adds them up: a call starts when the last store of the one before has
ended, and a call that the plan counts several times runs once. So do the stages of a call. Within a stage:

- *loader*: for each tile in order, it waits for one of `depth` input buffers, then for memory, and moves the tile in;
- *compute*: it waits for the tile, at the first step of an output also for one of `depth` output buffers, works, and
  frees the input buffer; before the very first tile it fills (`fill_s`); in a tile it may stand still, for a sum of the
  same output (`dependency`) or for what shifts in or out (`exchange`);
- *vector* or *update*: work on outputs that are finished;
- *reduction*: takes them on, where a stage has such work: it waits for one of `depth` buffers of its own, works, and
  frees the output buffer;
- *store*: it waits for memory, moves the output out and frees its buffer.

Memory has one port. Who asked first gets it, for a whole tile: no burst of one overtakes another; at equal times, in
the order of what made them ask. With `store_share` loads and stores have a port each and divide the bandwidth.

Everything comes from the machine's `tiles(plan)`; nothing is taken from `price`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from simsparse._processes import Record, Running
from simsparse.errors import InputError, UnsupportedError
from simsparse.event_log import Engine, EventLog, Wait
from simsparse.plan import Floats, HasEvents, Ints, Machine, Plan
from simsparse.tiles import FEWEST_TILES, OF_OUTPUTS, OF_TILES, TileWork, entries, tiles_of

# With this many tiles a merged one is so small that a coarsened call errs by far less than 1 %; a test holds it.
TILES_PER_CALL = 1024
MAX_EVENTS = 4_000_000


@runtime_checkable
class HasNotes(Protocol):
    """What a machine answers that has something to say about how it runs a plan."""

    def notes(self, plan: Plan) -> tuple[str, ...]:
        """One sentence each."""


def run(
    machine: Machine, plan: Plan, *, tiles_per_call: int = TILES_PER_CALL, max_events: int = MAX_EVENTS,
    store_share: float = 0.0,
) -> EventLog:  # fmt: skip
    """Run a plan event by event.

    Parameters
    ----------
    tiles_per_call : int
        Stages with more tiles are coarsened to about as many; see `simsparse.tiles`.
    max_events : int
        What the log may hold.
    store_share : float
        Share of the bandwidth that only stores use, the rest only loads; 0: they take turns on all of it.

    Raises
    ------
    UnsupportedError
        If the machine does not say what the tiles of a plan are.
    InputError
        If there would be more events than `max_events`, with their number and what makes them fewer; for a share that
        leaves loads nothing.
    """
    if not isinstance(machine, HasEvents):
        raise UnsupportedError(
            f"machine {machine.name!r} has no event model, expected one that gives the tiles of a plan"
        )
    if tiles_per_call < FEWEST_TILES:
        raise InputError.expected("tiles_per_call", tiles_per_call, f"at least {FEWEST_TILES}")
    if not 0.0 <= store_share < 1.0:
        raise InputError.expected("store_share", store_share, "a fraction from 0 to below 1")
    work = machine.tiles(plan)
    _check_budget(work, tiles_per_call, max_events)
    calls = int(work.call.max()) + 1 if len(work) else 0
    labels = tuple(" + ".join(call.ops) for call in plan.calls) or tuple(f"row {i}" for i in range(calls))
    counts = np.array([call.count for call in plan.calls] or [1] * calls, dtype=np.float64)
    stages = [_run_stage(work, stage, tiles_per_call, store_share) for stage in range(len(work))]
    return _joined(stages, work.call, counts, labels, work.clock_hz)


def expected_events(work: TileWork, tiles_per_call: int) -> int:
    """The most events that the log of coarsened stages can have."""
    total = 0
    for stage in range(len(work)):
        *outer, steps = entries(work, stage, tiles_per_call)
        outputs = int(np.prod(outer))
        of_tiles = sum(bool(getattr(work, name)[stage].any()) for name in OF_TILES)
        of_outputs = sum(bool(getattr(work, name)[stage].any()) for name in OF_OUTPUTS)
        total += outputs * (steps * of_tiles + of_outputs) + 1
    return total


def _check_budget(work: TileWork, tiles_per_call: int, max_events: int) -> None:
    found = expected_events(work, tiles_per_call)
    if found <= max_events:
        return
    coarser, fewer = tiles_per_call, found
    while fewer > max_events and coarser > FEWEST_TILES:
        coarser = max(FEWEST_TILES, coarser // 2)
        fewer = expected_events(work, coarser)
    hint = f"tiles_per_call={coarser} makes {fewer}" if fewer <= max_events else "run fewer calls at a time"
    raise InputError.expected("events of the plan", found, f"at most {max_events} (max_events); {hint}")


@dataclass(frozen=True)
class _StageLog:
    records: list[Record]
    wait_s: Floats
    latency_s: float
    merged: Ints


def _run_stage(work: TileWork, stage: int, limit: int, store_share: float) -> _StageLog:
    tiles = tiles_of(work, stage, limit)
    running = Running(tiles, work, stage, store_share)
    return _StageLog(running.records, running.wait_s, running.run(), tiles.merged)


def _joined(stages: list[_StageLog], call: Ints, counts: Floats, labels: tuple[str, ...], clock_hz: float) -> EventLog:
    """One log of stages that run one after the other."""
    took_s = np.array([stage.latency_s for stage in stages])
    starts = np.concatenate([[0.0], np.cumsum(took_s)])[:-1]
    parts = [np.array(stage.records, dtype=np.float64).reshape(-1, 6) for stage in stages]
    of_stage = np.repeat(np.arange(len(stages)), [len(part) for part in parts])
    table = np.concatenate(parts)
    shift = starts[of_stage]
    merged = [stage.merged[part[:, 4].astype(np.int64)] for stage, part in zip(stages, parts, strict=True)]
    wait_s = np.zeros((len(counts), len(Engine), len(Wait)))
    np.add.at(wait_s, call, np.stack([stage.wait_s for stage in stages]))
    return EventLog(
        start_s=table[:, 0] + shift,
        end_s=table[:, 1] + shift,
        engine=table[:, 2].astype(np.int64),
        what=table[:, 3].astype(np.int64),
        call=call[of_stage],
        tile=table[:, 4].astype(np.int64),
        merged=np.concatenate(merged),
        moved_bytes=table[:, 5],
        latency_s=np.bincount(call, weights=took_s, minlength=len(counts)).astype(np.float64),
        wait_s=wait_s,
        counts=counts,
        labels=labels,
        clock_hz=clock_hz,
    )
