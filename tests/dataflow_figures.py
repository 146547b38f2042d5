"""What the analysis and the walk say about the same case, by the same names: totals over all instances."""

from __future__ import annotations

from collections.abc import Iterable

import dataflow_clock as clock
from dataflow_executor import Executor, Rooms

from simsparse.dataflow._arrays import Count, Total
from simsparse.dataflow.analysis import Access, Analysis, Part, State
from simsparse.dataflow.architecture import ActionKind

Figures = dict[tuple[object, ...], float]
ACCESSES, STATES = ("reads", "fills", "updates"), ("actual", "gated", "skipped")


def _stored(analysis: Analysis | Executor) -> Iterable[tuple[int, str]]:
    for level, part in enumerate(analysis.mapping.levels):
        for name in (*part.keep, *part.streamed):
            yield level, name


def analysed(analysis: Analysis) -> Figures:
    """Of an analysis."""
    found: Figures = {}
    for level, name in _stored(analysis):
        where = analysis.architecture.level_names[level]
        most, mean = (analysis.count(where, name, which) for which in (Count.INSTANCES_MAX, Count.INSTANCES_MEAN))
        for access in ACCESSES:
            spread = analysis.result.counts[level, analysis.problem.names.index(name)]
            # Dense counts are of all instances that loops over space make, whoever is left out of them.
            found[level, name, access, "algorithmic"] = float(spread[Count[access.upper()]]) * _places(analysis, level)
            for state in STATES:
                count = analysis.count(where, name, Count[f"{state}_{access}".upper()])
                found[level, name, access, state] = count * mean
        if name in analysis.mapping.levels[level].keep:
            found[level, name, "fullest"] = analysis.count(where, name, Count.OCCUPANCY_MAX)
            found[level, name, "fullest bits"] = analysis.count(where, name, Count.METADATA_MAX_BITS)
        found[level, name, "read words"] = analysis.count(where, name, Count.READ_WORDS) * most
        found[level, name, "written words"] = analysis.count(where, name, Count.WRITE_WORDS) * most
        layout = analysis.architecture.levels[level].formats.get(name)
        for rank in range(len(layout.ranks) if layout else 0):
            for access in Access:
                for state in State:
                    for part in Part:
                        words = analysis.metadata(where, name, rank, state, access, part) * mean
                        key = (level, name, access.name.lower(), state.name.lower(), rank, part.name.lower())
                        found[key] = words
    for kind in STATES:
        found["operations", kind] = analysis.total(Total[kind.upper()])
    found["work",] = analysis.total(Total.COMPUTE_CYCLES) * analysis.total(Total.INSTANCES_MEAN)
    actions = [action for level in analysis.architecture.levels for action in level.actions]
    if any(action.kind is ActionKind.POSITION_SKIPPING for action in actions):
        found["rounds",] = analysis.total(Total.COMPUTE_CYCLES)
    else:
        found["instances",] = analysis.total(Total.INSTANCES_MEAN)
    found["wait",] = analysis.total(Total.WAIT_CYCLES)
    return found


def _places(analysis: Analysis, level: int) -> float:
    product = 1.0
    for part in analysis.mapping.levels[:level]:
        for loop in part.spatial:
            product *= loop.factor
    return product


def walked(walk: Executor, room: Rooms | None = None) -> Figures:
    """Of a walk; levels have `room` for their tiles, by default for those of this walk."""
    found: Figures = {}
    room = room or {place: seen.fullest for place, seen in walk.seen.items()}
    pack = clock.packed(walk)
    for level, name in _stored(walk):
        seen = walk.seen[level, name]
        for access in ACCESSES:
            for state in ("algorithmic", *STATES):
                found[level, name, access, state] = float(seen.counts[access][state])
        if name in walk.mapping.levels[level].keep:
            found[level, name, "fullest"], found[level, name, "fullest bits"] = map(float, room[level, name])
        found[level, name, "read words"] = sum(seen.words["reads"].values())
        found[level, name, "written words"] = sum(seen.words["fills"].values()) + sum(seen.words["updates"].values())
        for (access, state), tree in seen.metadata.items():
            for rank, (metadata, payload) in tree.ranks.items():
                found[level, name, access, state, rank, "metadata"] = metadata
                found[level, name, access, state, rank, "payload"] = payload
        if pack is not None and level == pack.level and name in pack.reads:
            found[level, name, "reads", "actual"] = found[level, name, "read words"] = pack.reads[name]
    for kind in STATES:
        found["operations", kind] = float(walk.operations[kind])
    found["work",] = float(sum(walk.busy.values()))
    if pack is not None:
        # As many instances are busy as do the operations of all in as many rounds.
        found["rounds",] = sum(pack.rounds)
    else:
        found["instances",] = sum(each.there for each in walk.done) / walk.steps_in_time
    found["wait",] = sum(event.cycles for event in clock.log(walk, room) if event.what != "work")
    return found


def mean(walks: list[Executor], room: Rooms) -> Figures:
    """Over masks that are equally likely."""
    figures = [walked(walk, room) for walk in walks]
    return {key: sum(each.get(key, 0.0) for each in figures) / len(walks) for key in set().union(*figures)}


def unlike(
    ours: Figures, theirs: Figures, skip: Iterable[object] = ()
) -> dict[tuple[object, ...], tuple[float, float]]:
    """Figures that differ, of the analysis and of the walk; `skip` names parts of keys that are not compared."""
    left = [key for key in {*ours, *theirs} if not set(skip) & ({key} | set(key))]
    pairs = {key: (ours.get(key, 0.0), theirs.get(key, 0.0)) for key in left}
    return {key: pair for key, pair in pairs.items() if abs(pair[0] - pair[1]) > 1e-6 + 1e-9 * abs(pair[1])}


def _metadata_bits(analysis: Analysis, figures: Figures, level: int, name: str, access: str, state: str) -> float:
    layout = analysis.architecture.levels[level].formats.get(name)
    bits = 0.0
    for rank, kind in enumerate(reversed(layout.ranks) if layout else ()):
        bits += figures.get((level, name, access, state, rank, "metadata"), 0.0) * (kind.metadata_bits or 0.0)
        bits += figures.get((level, name, access, state, rank, "payload"), 0.0) * kind.payload_bits
    return bits


def energy_pj(analysis: Analysis, figures: Figures) -> float:
    """Counts times the tables of a case, which name every action."""
    compute = analysis.architecture.compute.energies.table_pj
    names = ("mac_random", "mac_gated", "mac_skipped")
    total = sum(compute[name] * figures["operations", state] for name, state in zip(names, STATES, strict=True))
    for level, name in _stored(analysis):
        storage = analysis.architecture.levels[level]
        table, width = storage.energies.table_pj, storage.metadata_width_bits
        for access in ACCESSES:
            way = "read" if access == "reads" else "write"
            for state in STATES:
                prefix = "" if state == "actual" else f"{state}_"
                total += figures[level, name, access, state] * table[prefix + way]
                if width > 0.0:
                    bits = _metadata_bits(analysis, figures, level, name, access, state)
                    total += bits / width * table[f"{prefix}metadata_{way}"]
        outer = [at for at in range(level) if name in analysis.mapping.levels[at].keep]
        compressed = [
            layout is not None and layout.compressed
            for layout in (analysis.architecture.levels[at].formats.get(name) for at in (*outer[-1:], level))
        ]
        if compressed == [True, False]:
            total += figures[level, name, "fills", "actual"] * table["decompression_count"]
            total += figures[outer[-1], name, "updates", "actual"] * table["compression_count"]
    return total


def level_cycles(analysis: Analysis, figures: Figures, level: int) -> float:
    """Words of the mean instance over the rates of a level; what is loaded while all else waits takes none."""
    storage, reads, writes = analysis.architecture.levels[level], 0.0, 0.0
    alone = [_alone(analysis, figures, at) for at in range(len(analysis.mapping.levels))]
    for at, name in _stored(analysis):
        if at == level:
            inner = [i for i in range(at + 1, len(alone)) if name in analysis.mapping.levels[i].keep]
            most = analysis.count(analysis.architecture.level_names[level], name, Count.INSTANCES_MAX)
            reads += figures[at, name, "read words"] / most if not (inner and alone[inner[0]]) else 0.0
            writes += figures[at, name, "written words"] / most if not alone[level] else 0.0
    return max(reads / storage.read_words_per_cycle, writes / storage.write_words_per_cycle)


def _alone(analysis: Analysis, figures: Figures, level: int) -> bool:
    storage = analysis.architecture.levels[level]
    keep = analysis.mapping.levels[level].keep
    held = sum(figures[level, n, "fullest"] + figures[level, n, "fullest bits"] / storage.word_bits for n in keep)
    return not storage.loads_ahead and 2 * held > storage.capacity_words
