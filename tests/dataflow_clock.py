"""The walk in time: rounds of packed nonzeros, and waiting for levels that cannot load their next tiles ahead.

A level that cannot load ahead has room for one tile of what it keeps: when a new one comes, all else waits for the
levels outside to send it and for the level to write it, then goes on.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from dataflow_executor import Executor, Rooms

from simsparse.dataflow.architecture import ActionKind


class Event(NamedTuple):
    """What a design does for some cycles from a time on."""

    start: float
    what: str
    cycles: float


@dataclass(frozen=True)
class Packed:
    """Rounds of a level that packs nonzeros into lanes, of the mean instance by time, and its reads over all."""

    level: int
    rounds: list[float]
    reads: dict[str, float]


def packed(walk: Executor) -> Packed | None:
    """Rounds of the innermost level, where it skips positions; loops outside of it go on as they are.

    A tile with n nonzeros takes ⌈n/S⌉ rounds of the S lanes over its tensor, a tensor that is not packed its steps in
    time; every round of one tensor meets all rounds of the other.
    """
    level = walk.levels - 1
    kinds = [(action.kind, action.options) for action in walk.architecture.levels[level].actions]
    targets = {o.target for kind, options in kinds if kind is ActionKind.POSITION_SKIPPING for o in options}
    if not targets:
        return None
    kept = walk.mapping.levels[level].keep
    inputs = [name for name in walk.problem.names if name in kept and name != walk.problem.output]
    outer = [i for i in range(len(walk.nest)) if walk.nest[i][0] < level]
    reads, rounds = dict.fromkeys(inputs, 0.0), []
    places = [i for i in outer if i in walk.spatial]
    for time in itertools.product(*(range(walk.nest[i][1].factor) for i in outer if i in walk.temporal)):
        passed = 0.0
        for place in itertools.product(*(range(walk.nest[i][1].factor) for i in places)):
            at = dict(zip([i for i in outer if i in walk.temporal] + places, time + place, strict=True))
            index = tuple(at.get(i, 0) for i in range(len(walk.nest)))
            words, turns = {}, {}
            for name in inputs:
                mine = [i for i in range(len(walk.nest)) if i not in outer and _over(walk, name, i)]
                lanes = math.prod(walk.nest[i][1].factor for i in mine if i in walk.spatial)
                tile = walk.tile(name, level, index)
                full = sum(walk.nonzero(name, word) for word in tile)
                words[name] = full if walk.compressed(level, name) else len(tile)
                turns[name] = -(-full // lanes) if name in targets else len(tile) // lanes
            for name in inputs:
                reads[name] += words[name] * math.prod(turns[other] for other in inputs if other != name)
            passed += math.prod(turns.values())
        rounds.append(passed / max(1, math.prod(walk.nest[i][1].factor for i in places)))
    return Packed(level, rounds, reads)


def _over(walk: Executor, tensor: str, loop: int) -> bool:
    return walk.nest[loop][1].dim in walk.problem.tensor(tensor).dims


def instances(walk: Executor, level: int) -> int:
    """Of a level."""
    return math.prod(walk.nest[i][1].factor for i in walk.spatial if walk.nest[i][0] < level)


def alone(walk: Executor, room: Rooms) -> list[int]:
    """Levels without room for the fullest tiles of what they keep, with metadata, and the next ones beside them."""
    found = []
    for level, storage in enumerate(walk.architecture.levels):
        tiles = [room[level, name] for name in walk.mapping.levels[level].keep]
        held = sum(tile.words + tile.bits / storage.word_bits for tile in tiles)
        if not storage.loads_ahead and 2 * held > storage.capacity_words:
            found.append(level)
    return found


def log(walk: Executor, room: Rooms | None = None) -> list[Event]:
    """What happens, step by step: loads that all else waits for, and the work between them.

    Levels have `room` for their tiles, by default for those of this walk.
    """
    room = room or {place: seen.fullest for place, seen in walk.seen.items()}
    waiting = alone(walk, room)
    found: list[Event] = []
    now, pack = 0.0, packed(walk)
    inside = math.prod(walk.nest[i][1].factor for i in walk.temporal if pack and walk.nest[i][0] == pack.level)
    places = instances(walk, walk.levels)
    work = np.bincount([each.time for each in walk.done if walk.takes_cycle(each)], minlength=walk.steps_in_time)
    for time in range(walk.steps_in_time):
        for level in waiting:
            cycles = load_cycles(walk, level, time)
            if cycles > 0.0:
                found.append(Event(now, f"load {walk.architecture.level_names[level]}", cycles))
                now += cycles
        cycles = work[time] / places
        if pack is not None:
            cycles = pack.rounds[time // inside] if time % inside == 0 else 0.0
        if cycles > 0.0:
            found.append(Event(now, "work", cycles))
            now += cycles
    return found


def load_cycles(walk: Executor, level: int, time: int) -> float:
    """Cycles of filling a level at a time: its parents send, one tensor after the other, while it writes."""
    sent = written = 0.0
    for name in walk.mapping.levels[level].keep:
        outer = [keep for keep in walk.keeps(name) if keep < level]
        written += walk.seen[level, name].words["fills"][time] / instances(walk, level)
        if outer:
            rate = walk.architecture.levels[outer[-1]].read_words_per_cycle
            sent += walk.seen[outer[-1], name].words["reads"][time] / instances(walk, outer[-1]) / rate
    return max(sent, written / walk.architecture.levels[level].write_words_per_cycle)
