"""What ran when: the log of an event simulation, what it adds up to, and its trace for Perfetto."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np

from simsparse.plan import Floats, Ints


class Engine(IntEnum):
    """Who works."""

    LOADER = 0
    COMPUTE = 1
    VECTOR = 2
    UPDATE = 3
    REDUCTION = 4
    STORE = 5


class What(IntEnum):
    """What is done, or (the last two) what holds up a tile."""

    LOAD = 0
    FILL = 1
    COMPUTE = 2
    VECTOR = 3
    UPDATE = 4
    REDUCE = 5
    STORE = 6
    DEPENDENCY = 7
    EXCHANGE = 8


class Wait(IntEnum):
    """What an engine waits for while it has something left to do."""

    DATA = 0  # the engine before
    BUFFER = 1  # the engine after
    MEMORY = 2
    DEPENDENCY = 3  # sums of the same output
    EXCHANGE = 4  # weights or sums that shift in or out


# What is no work, but a wait inside a tile.
STALLS = {What.DEPENDENCY: Wait.DEPENDENCY, What.EXCHANGE: Wait.EXCHANGE}


@dataclass(frozen=True)
class EventLog:
    """What ran when. Events are in the order in which they ended, call by call.

    Attributes
    ----------
    start_s, end_s : (e,) ndarray
        From the start of the first call.
    engine, what : (e,) ndarray of int
        `Engine` and `What`.
    call, tile : (e,) ndarray of int
        Row of the plan, and position among the (merged) tiles of a stage; outputs count with their last tile.
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
    clock_hz : float
        Of the machine.
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
    clock_hz: float

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def total_s(self) -> float:
        """Of the plan, each call as often as it is counted."""
        return float(self.latency_s @ self.counts)

    @cached_property
    def busy_s(self) -> Floats:
        """Work of each engine in each call, without stalls, shape (n, len(Engine))."""
        flat = self.call * len(Engine) + self.engine
        cells = len(self.latency_s) * len(Engine)
        works = ~np.isin(self.what, list(STALLS))
        found = np.bincount(flat, weights=(self.end_s - self.start_s) * works, minlength=cells)
        return found.astype(np.float64).reshape(-1, len(Engine))

    @property
    def busy_fraction(self) -> Floats:
        """Share of `total_s` that each engine works, shape (len(Engine),)."""
        shares: Floats = self.counts @ self.busy_s / self.total_s
        return shares

    @property
    def stalled_fraction(self) -> Floats:
        """Share of `total_s` that each engine waits for what, shape (len(Engine), len(Wait)).

        What is missing to 1 is when it is done with a stage.
        """
        shares: Floats = np.einsum("n,new->ew", self.counts, self.wait_s) / self.total_s
        return shares

    def engine_cycles(self) -> dict[str, list[str] | list[float]]:
        """Cycles of the plan that each engine works, and waits for what, by engine; of engines that do anything."""
        used = [Engine(int(engine)) for engine in np.unique(self.engine)]
        scale = self.total_s * self.clock_hz
        works, waits = self.busy_fraction * scale, self.stalled_fraction * scale
        columns: dict[str, list[str] | list[float]] = {"engine": [engine.name.lower() for engine in used]}
        columns["busy"] = works[used].tolist()
        for wait in Wait:
            columns[f"waits_{wait.name.lower()}"] = waits[used, wait].tolist()
        return columns

    def to_chrome_trace(self) -> dict[str, object]:
        """The log in the Trace Event Format that Perfetto and chrome://tracing open; times in microseconds."""
        used = [Engine(int(engine)) for engine in np.unique(self.engine)]
        names: list[dict[str, object]] = [
            {"name": "thread_name", "ph": "M", "pid": 0, "tid": int(engine), "args": {"name": engine.name.lower()}}
            for engine in used
        ]
        # To picoseconds, so that slices that touch do not overlap by a rounding.
        start, end = (np.round(times * 1e6, 6).tolist() for times in (self.start_s, self.end_s))
        columns = (getattr(self, name).tolist() for name in ("engine", "what", "call", "tile", "merged", "moved_bytes"))
        events: list[dict[str, object]] = [
            {
                "name": What(what).name.lower(), "cat": self.labels[call], "ph": "X", "pid": 0, "tid": engine,
                "ts": begin, "dur": round(finish - begin, 6),
                "args": {"call": self.labels[call], "tile": tile, "tiles": merged, "bytes": moved},
            }
            for begin, finish, engine, what, call, tile, merged, moved in zip(start, end, *columns, strict=True)
        ]  # fmt: skip
        return {"traceEvents": names + events, "displayTimeUnit": "ns"}
