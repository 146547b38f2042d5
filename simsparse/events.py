"""The second evaluation of a plan: its tiles run event by event, by processes with finite buffers and one memory.

Calls run one after the other, as the closed form adds them up: a call starts when the last store of the one before has
ended, and a call that the plan counts several times runs once. Within a call, after its prologue:

- *loader*: for each tile in order, it waits for one of `depth` input buffers, then for memory, and moves the tile in;
- *compute*: it waits for the tile, at the first step of an output also for one of `depth` output buffers, works, and
  frees the input buffer; before the very first tile it fills (`fill_s`);
- *post*: elementwise work on outputs that are finished;
- *store*: it waits for memory, moves the output out and frees its buffer.

Memory has one port. Who asked first gets it, for a whole tile: no burst of one overtakes another; at equal
times, in the order of what made them ask.

Everything comes from the machine's `tiles(plan)`; nothing is taken from `price`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from simsparse.errors import InputError, UnsupportedError
from simsparse.plan import Floats, HasEvents, Ints, Machine, Plan
from simsparse.tiles import FEWEST_TILES, Tiles, TileWork, entries, tiles_of

if TYPE_CHECKING:
    import simpy

# With this many tiles a merged one is so small that a coarsened call errs by far less than 1 %; a test holds it.
TILES_PER_CALL = 1024
MAX_EVENTS = 4_000_000
Process = Generator["simpy.Event", Any, None]
# Start, end, engine, what, tile, bytes.
Record = tuple[float, float, int, int, int, float]


class Engine(IntEnum):
    """Who works."""

    LOADER = 0
    COMPUTE = 1
    POST = 2
    STORE = 3


class What(IntEnum):
    """What is done."""

    PROLOGUE = 0
    LOAD = 1
    FILL = 2
    COMPUTE = 3
    POST = 4
    STORE = 5


class Wait(IntEnum):
    """What an engine waits for while it has something left to do."""

    DATA = 0  # the engine before
    BUFFER = 1  # the engine after
    MEMORY = 2


@dataclass(frozen=True)
class EventLog:
    """What ran when. Events are in the order in which they ended, call by call.

    Attributes
    ----------
    start_s, end_s : (e,) ndarray
        From the start of the first call.
    engine, what : (e,) ndarray of int
        `Engine` and `What`. A prologue belongs to the compute engine.
    call, tile : (e,) ndarray of int
        Row of the plan, and position among the call's (merged) tiles; outputs count with their last tile.
    merged : (e,) ndarray of int
        Tiles that the event stands for.
    moved_bytes : (e,) ndarray
        Through memory.
    latency_s : (n,) ndarray
        Of each call, once.
    wait_s : (n, len(Engine), len(Wait)) ndarray
    counts : (n,) ndarray
        How often the plan has each call.
    labels : tuple of str
        Of the calls.
    """

    start_s: Floats
    end_s: Floats
    engine: Ints
    what: Ints
    call: Ints
    tile: Ints
    merged: Ints
    moved_bytes: Floats
    latency_s: Floats
    wait_s: Floats
    counts: Floats
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def total_s(self) -> float:
        """Of the plan, each call as often as it is counted."""
        return float(self.latency_s @ self.counts)

    @cached_property
    def busy_s(self) -> Floats:
        """Work of each engine in each call, shape (n, len(Engine))."""
        flat = self.call * len(Engine) + self.engine
        cells = len(self.latency_s) * len(Engine)
        found = np.bincount(flat, weights=self.end_s - self.start_s, minlength=cells)
        return found.astype(np.float64).reshape(-1, len(Engine))

    @property
    def busy_fraction(self) -> Floats:
        """Share of `total_s` that each engine works, shape (len(Engine),)."""
        shares: Floats = self.counts @ self.busy_s / self.total_s
        return shares

    @property
    def stalled_fraction(self) -> Floats:
        """Share of `total_s` that each engine waits for what, shape (len(Engine), len(Wait)).

        What is missing to 1 is when it is done with a call, or the prologue runs.
        """
        shares: Floats = np.einsum("n,new->ew", self.counts, self.wait_s) / self.total_s
        return shares

    def to_chrome_trace(self) -> dict[str, object]:
        """The log in the Trace Event Format that Perfetto and chrome://tracing open; times in microseconds."""
        names: list[dict[str, object]] = [
            {"name": "thread_name", "ph": "M", "pid": 0, "tid": int(engine), "args": {"name": engine.name.lower()}}
            for engine in Engine
        ]
        events: list[dict[str, object]] = [
            {
                "name": What(what).name.lower(), "cat": self.labels[call], "ph": "X", "pid": 0, "tid": engine,
                "ts": start * 1e6, "dur": (end - start) * 1e6,
                "args": {"call": self.labels[call], "tile": tile, "tiles": merged, "bytes": moved},
            }
            for start, end, engine, what, call, tile, merged, moved in zip(
                *(getattr(self, name).tolist() for name in _EVENT_COLUMNS), strict=True
            )
        ]  # fmt: skip
        return {"traceEvents": names + events, "displayTimeUnit": "ns"}


_EVENT_COLUMNS = ("start_s", "end_s", "engine", "what", "call", "tile", "merged", "moved_bytes")


def run(
    machine: Machine, plan: Plan, *, tiles_per_call: int = TILES_PER_CALL, max_events: int = MAX_EVENTS
) -> EventLog:
    """Run a plan event by event.

    Parameters
    ----------
    tiles_per_call : int
        Calls with more tiles are coarsened to about as many; see `simsparse.tiles`.
    max_events : int
        What the log may hold.

    Raises
    ------
    UnsupportedError
        If the machine does not say what the tiles of a plan are.
    InputError
        If there would be more events than `max_events`, with their number and what makes them fewer.
    """
    if not isinstance(machine, HasEvents):
        raise UnsupportedError(
            f"machine {machine.name!r} has no event model, expected one that gives the tiles of a plan"
        )
    if tiles_per_call < FEWEST_TILES:
        raise InputError.expected("tiles_per_call", tiles_per_call, f"at least {FEWEST_TILES}")
    work = machine.tiles(plan)
    _check_budget(work, tiles_per_call, max_events)
    labels = tuple(" + ".join(call.ops) for call in plan.calls) or tuple(f"row {i}" for i in range(len(work)))
    counts = np.array([call.count for call in plan.calls] or [1] * len(work), dtype=np.float64)
    return _joined([_run_call(work, call, tiles_per_call) for call in range(len(work))], counts, labels)


def expected_events(work: TileWork, tiles_per_call: int) -> int:
    """The most events that the log of coarsened calls can have."""
    total = 0
    for call in range(len(work)):
        *outer, steps = entries(work, call, tiles_per_call)
        outputs = int(np.prod(outer))
        total += 2 * outputs * steps + 2 * outputs + 2
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
class _CallLog:
    records: list[Record]
    wait_s: Floats
    latency_s: float
    merged: Ints


def _run_call(work: TileWork, call: int, limit: int) -> _CallLog:
    tiles = tiles_of(work, call, limit)
    running = _Running(tiles, work.bytes_per_s, work.depth, float(work.prologue_s[call]), float(work.fill_s[call]))
    return _CallLog(running.records, running.wait_s, running.run(), tiles.merged)


class _Running:
    """One call while it runs: its processes, the buffers between them, and the port of the memory."""

    def __init__(self, tiles: Tiles, bytes_per_s: float, depth: int, prologue_s: float, fill_s: float) -> None:
        import simpy

        self.tiles, self.bytes_per_s, self.prologue_s, self.fill_s = tiles, bytes_per_s, prologue_s, fill_s
        self.env = simpy.Environment()
        self.memory = simpy.Resource(self.env, capacity=1)
        self.free_inputs, self.free_outputs = (simpy.Container(self.env, depth, init=depth) for _ in range(2))
        # Tiles and outputs pass in order, so that counting those that are ready says which.
        self.loaded, self.computed, self.finished = (simpy.Container(self.env) for _ in range(3))
        self.records: list[Record] = []
        self.wait_s = np.zeros((len(Engine), len(Wait)))

    def run(self) -> float:
        """Seconds until all processes are done."""
        self.env.process(self._start())
        self.env.run()
        return float(self.env.now)

    def _start(self) -> Process:
        yield from self._work(Engine.COMPUTE, What.PROLOGUE, 0, self.prologue_s)
        for process in (self._loader, self._compute, self._post, self._store):
            self.env.process(process())

    def _work(self, engine: Engine, what: What, tile: int, seconds: float, moved_bytes: float = 0.0) -> Process:
        """Be busy, and write it down; nothing to do leaves no event."""
        if seconds > 0:
            start = self.env.now
            yield self.env.timeout(seconds)
            self.records.append((start, self.env.now, int(engine), int(what), tile, moved_bytes))

    def _wait(self, engine: Engine, reason: Wait, event: simpy.Event) -> Process:
        since = self.env.now
        yield event
        self.wait_s[engine, reason] += self.env.now - since

    def _move(self, engine: Engine, what: What, tile: int, moved_bytes: float) -> Process:
        if moved_bytes > 0:
            with self.memory.request() as port:
                yield from self._wait(engine, Wait.MEMORY, port)
                yield from self._work(engine, what, tile, moved_bytes / self.bytes_per_s, moved_bytes)

    def _loader(self) -> Process:
        for tile, moved_bytes in enumerate(self.tiles.load_bytes):
            yield from self._wait(Engine.LOADER, Wait.BUFFER, self.free_inputs.get(1))
            yield from self._move(Engine.LOADER, What.LOAD, tile, moved_bytes)
            self.loaded.put(1)

    def _compute(self) -> Process:
        steps = self.tiles.steps
        for tile, seconds in enumerate(self.tiles.compute_s):
            yield from self._wait(Engine.COMPUTE, Wait.DATA, self.loaded.get(1))
            if tile == 0:
                yield from self._work(Engine.COMPUTE, What.FILL, tile, self.fill_s)
            if tile % steps == 0:
                yield from self._wait(Engine.COMPUTE, Wait.BUFFER, self.free_outputs.get(1))
            yield from self._work(Engine.COMPUTE, What.COMPUTE, tile, seconds)
            self.free_inputs.put(1)
            if tile % steps == steps - 1:
                self.computed.put(1)

    def _post(self) -> Process:
        for tile, seconds in self._outputs(self.tiles.post_s):
            yield from self._wait(Engine.POST, Wait.DATA, self.computed.get(1))
            yield from self._work(Engine.POST, What.POST, tile, seconds)
            self.finished.put(1)

    def _store(self) -> Process:
        for tile, moved_bytes in self._outputs(self.tiles.store_bytes):
            yield from self._wait(Engine.STORE, Wait.DATA, self.finished.get(1))
            yield from self._move(Engine.STORE, What.STORE, tile, moved_bytes)
            self.free_outputs.put(1)

    def _outputs(self, amounts: list[float]) -> Iterator[tuple[int, float]]:
        """Last tile of each output, and its amount."""
        steps = self.tiles.steps
        return zip(range(steps - 1, steps * len(amounts), steps), amounts, strict=True)


def _joined(calls: list[_CallLog], counts: Floats, labels: tuple[str, ...]) -> EventLog:
    """One log of calls that run one after the other."""
    latency_s = np.array([call.latency_s for call in calls])
    starts = np.concatenate([[0.0], np.cumsum(latency_s)])[:-1]
    parts = [np.array(call.records, dtype=np.float64).reshape(-1, 6) for call in calls]
    of_call = np.repeat(np.arange(len(calls)), [len(part) for part in parts])
    table = np.concatenate(parts)
    tile = table[:, 4].astype(np.int64)
    shift = starts[of_call]
    merged = [call.merged[part[:, 4].astype(np.int64)] for call, part in zip(calls, parts, strict=True)]
    return EventLog(
        start_s=table[:, 0] + shift,
        end_s=table[:, 1] + shift,
        engine=table[:, 2].astype(np.int64),
        what=table[:, 3].astype(np.int64),
        call=of_call,
        tile=tile,
        merged=np.concatenate(merged),
        moved_bytes=table[:, 5],
        latency_s=latency_s,
        wait_s=np.stack([call.wait_s for call in calls]),
        counts=counts,
        labels=labels,
    )
