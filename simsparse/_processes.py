"""One stage of a plan while it runs event by event; `events.py` says what each process does."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from simsparse.event_log import STALLS, Engine, Wait, What
from simsparse.tiles import Tiles, TileWork

if TYPE_CHECKING:
    import simpy

Process = Generator["simpy.Event", Any, None]
# Start, end, engine, what, tile, bytes.
Record = tuple[float, float, int, int, int, float]


class Running:
    """One stage while it runs: its processes, the buffers between them, and the memory."""

    def __init__(self, tiles: Tiles, work: TileWork, stage: int, store_share: float) -> None:
        import simpy

        self.tiles, self.gap_s, self.fill_s = tiles, work.gap_s, float(work.fill_s[stage])
        self.reduces = any(tiles.reduce_s)
        self.finisher = (Engine.UPDATE, What.UPDATE) if work.updates[stage] else (Engine.VECTOR, What.VECTOR)
        self.env = simpy.Environment()
        port = simpy.Resource(self.env, capacity=1)
        both = work.bytes_per_s
        # The memory that loads see, and that stores see: one, or a part each.
        self.loads, self.stores = (port, both), (port, both)
        if store_share > 0.0:
            self.loads = (port, both * (1.0 - store_share))
            self.stores = (simpy.Resource(self.env, capacity=1), both * store_share)
        self.free_inputs, self.free_outputs, self.free_reduced = (
            simpy.Container(self.env, work.depth, init=work.depth) for _ in range(3)
        )
        # Tiles and outputs pass in order, so that counting those that are ready says which.
        self.loaded, self.computed, self.finished, self.reduced = (simpy.Container(self.env) for _ in range(4))
        self.records: list[Record] = []
        self.wait_s = np.zeros((len(Engine), len(Wait)))

    def run(self) -> float:
        """Seconds until all processes are done."""
        for process in (self._loader, self._compute, self._finish, self._reduce, self._store):
            self.env.process(process())
        self.env.run()
        return float(self.env.now)

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

    def _stall(self, what: What, tile: int, seconds: float) -> Process:
        """Stand still inside a tile."""
        if seconds > 0:
            self.wait_s[Engine.COMPUTE, STALLS[what]] += seconds
            yield from self._work(Engine.COMPUTE, what, tile, seconds)

    def _move(self, engine: Engine, what: What, tile: int, moved_bytes: float, transfers: float) -> Process:
        if moved_bytes > 0:
            memory, bytes_per_s = self.loads if engine is Engine.LOADER else self.stores
            with memory.request() as port:
                yield from self._wait(engine, Wait.MEMORY, port)
                seconds = moved_bytes / bytes_per_s + transfers * self.gap_s
                yield from self._work(engine, what, tile, seconds, moved_bytes)

    def _loader(self) -> Process:
        for tile, (moved_bytes, transfers) in enumerate(zip(self.tiles.load_bytes, self.tiles.merged, strict=True)):
            yield from self._wait(Engine.LOADER, Wait.BUFFER, self.free_inputs.get(1))
            yield from self._move(Engine.LOADER, What.LOAD, tile, moved_bytes, float(transfers))
            self.loaded.put(1)

    def _compute(self) -> Process:
        steps, tiles = self.tiles.steps, self.tiles
        parts = zip(tiles.compute_s, tiles.dependency_s, tiles.exchange_s, strict=True)
        for tile, (seconds, dependency_s, exchange_s) in enumerate(parts):
            yield from self._wait(Engine.COMPUTE, Wait.DATA, self.loaded.get(1))
            if tile == 0:
                yield from self._work(Engine.COMPUTE, What.FILL, tile, self.fill_s)
            if tile % steps == 0:
                yield from self._wait(Engine.COMPUTE, Wait.BUFFER, self.free_outputs.get(1))
            yield from self._work(Engine.COMPUTE, What.COMPUTE, tile, seconds)
            yield from self._stall(What.DEPENDENCY, tile, dependency_s)
            yield from self._stall(What.EXCHANGE, tile, exchange_s)
            self.free_inputs.put(1)
            if tile % steps == steps - 1:
                self.computed.put(1)

    def _finish(self) -> Process:
        engine, what = self.finisher
        for tile, seconds in self._outputs(self.tiles.post_s):
            yield from self._wait(engine, Wait.DATA, self.computed.get(1))
            yield from self._work(engine, what, tile, seconds)
            self.finished.put(1)

    def _reduce(self) -> Process:
        for tile, seconds in self._outputs(self.tiles.reduce_s) if self.reduces else ():
            yield from self._wait(Engine.REDUCTION, Wait.DATA, self.finished.get(1))
            yield from self._wait(Engine.REDUCTION, Wait.BUFFER, self.free_reduced.get(1))
            yield from self._work(Engine.REDUCTION, What.REDUCE, tile, seconds)
            self.free_outputs.put(1)
            self.reduced.put(1)

    def _store(self) -> Process:
        made, freed = (self.reduced, self.free_reduced) if self.reduces else (self.finished, self.free_outputs)
        for (tile, moved_bytes), transfers in zip(
            self._outputs(self.tiles.store_bytes), self.tiles.outputs, strict=True
        ):
            yield from self._wait(Engine.STORE, Wait.DATA, made.get(1))
            yield from self._move(Engine.STORE, What.STORE, tile, moved_bytes, float(transfers))
            freed.put(1)

    def _outputs(self, amounts: list[float]) -> Iterator[tuple[int, float]]:
        """Last tile of each output, and its amount."""
        steps = self.tiles.steps
        return zip(range(steps - 1, steps * len(amounts), steps), amounts, strict=True)
