"""Compiled: energy and cycles from the counts, and `evaluate`, which does all of it for mappings of one loop order."""

from __future__ import annotations

import math

from simsparse.dataflow._actions import gate_and_skip
from simsparse.dataflow._arrays import (
    Count,
    Detail,
    Floats,
    FrameColumn,
    Ints,
    LevelColumn,
    Note,
    PlaceColumn,
    Row,
    Stored,
    Total,
)
from simsparse.dataflow._clip import cap, is_clipped, mean_trips, stretches
from simsparse.dataflow._dense import dense_counts, survey
from simsparse.dataflow._formats import compress
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._lane_skipping import skip_lanes, skip_positions
from simsparse.dataflow._lanes import add, add_held, copy, fill, times
from simsparse.dataflow._operations import compute_counts
from simsparse.dataflow.rounding import down, up


@kernel
def metadata_bits(
    rank_bits: Floats, level: int, t: int, ranks: int, state: int, access: int, metadata: Floats, out: Floats
) -> None:
    """Bits of metadata and payloads that an access moves."""
    fill(0.0, out)
    for r in range(ranks):
        for part in range(2):
            width, held = rank_bits[level, t, r, part], metadata[level, t, r, state, access, part]
            if width > 0.0:
                for w in range(len(out)):
                    out[w] += held[w] * width


@kernel
def dense_cost(store: Floats, level: int, first: int, clipped: bool, own: Floats) -> None:
    """`storage_cost` of a tensor without metadata; `own` are its counts.

    The columns `first` and the two after it hold reads, fills and updates. Instances are always busy, but for those
    that lie wholly beyond a clipped edge.
    """
    block, charges = store[level, LevelColumn.BLOCK_WORDS], store[level, LevelColumn.CHARGES :]
    read_pj, fill_pj, update_pj = charges[0] / block, charges[1] / block, charges[2] / block
    reads, fills, updates, instances = own[first], own[first + 1], own[first + 2], own[Count.INSTANCES_MEAN]
    energy, written = own[Count.ENERGY_PJ], own[Count.WRITE_WORDS]
    for w in range(len(energy)):
        energy[w] = (reads[w] * read_pj + fills[w] * fill_pj + updates[w] * update_pj) * instances[w]
    copy(reads, own[Count.READ_WORDS])
    for w in range(len(written)):
        written[w] = fills[w] + updates[w]
    if clipped:
        read, most = own[Count.READ_WORDS], own[Count.INSTANCES_MAX]
        for w in range(len(written)):
            read[w] *= instances[w] / most[w]
            written[w] *= instances[w] / most[w]


@kernel
def storage_cost(
    store: Floats, places: Ints, rank_bits: Floats, states: int, output: int, level: int, t: int, rounding: int,
    frame: Ints, rows: Floats, counts: Floats, metadata: Floats,
) -> None:  # fmt: skip
    """Energy of all instances, vector access by vector access; words of the average one that take bandwidth.

    Gated accesses take their cycle, skipped ones do not. Only the first `states` of actual, gated, skipped occur.
    """
    ranks, bits = places[level, t, PlaceColumn.N_RANKS], rows[Row.BITS]
    block, width = store[level, LevelColumn.BLOCK_WORDS], store[level, LevelColumn.METADATA_WIDTH_BITS]
    energy, mean = counts[level, t, Count.ENERGY_PJ], counts[level, t, Count.INSTANCES_MEAN]
    read_bits, write_bits = rows[Row.READ_BITS], rows[Row.WRITE_BITS]
    outer = frame[level, FrameColumn.OUTER + t]
    fill(0.0, energy)
    fill(0.0, counts[level, t, Count.READ_WORDS])
    fill(0.0, counts[level, t, Count.WRITE_WORDS])
    if ranks > 0:
        fill(0.0, read_bits)
        fill(0.0, write_bits)
    for state in range(states):
        for access in range(3):
            # Only outputs are updated, and nothing fills the outermost level.
            if (access == 1 and outer < 0) or (access == 2 and t != output):
                continue
            at = 3 * state + access
            moved, price = counts[level, t, Count.ACTUAL_READS + at], store[level, LevelColumn.CHARGES + at]
            carried = counts[level, t, Count.READ_WORDS if access == 0 else Count.WRITE_WORDS]
            if rounding == 0:
                per_word = price / block
                for w in range(len(energy)):
                    energy[w] += moved[w] * per_word
            else:
                for w in range(len(energy)):
                    energy[w] += up(moved[w] / block, rounding) * price
            if state < 2:
                for w in range(len(energy)):
                    carried[w] += moved[w]
            if ranks == 0:
                continue
            metadata_bits(rank_bits, level, t, ranks, state, access, metadata, bits)
            if width > 0.0:
                price = store[level, LevelColumn.METADATA_CHARGES + at]
                for w in range(len(energy)):
                    energy[w] += up(bits[w] / width, rounding) * price
            carried_bits = read_bits if access == 0 else write_bits
            if state < 2:
                for w in range(len(energy)):
                    carried_bits[w] += bits[w]
    if outer >= 0 and places[outer, t, PlaceColumn.COMPRESSED] != 0 and places[level, t, PlaceColumn.COMPRESSED] == 0:
        fills, returned = counts[level, t, Count.ACTUAL_FILLS], counts[outer, t, Count.ACTUAL_UPDATES]
        above = counts[outer, t, Count.INSTANCES_MEAN]
        for w in range(len(energy)):
            share = above[w] / mean[w] if mean[w] > 0.0 else 0.0
            energy[w] += fills[w] * store[level, LevelColumn.DECOMPRESSION_CHARGE]
            energy[w] += returned[w] * share * store[level, LevelColumn.COMPRESSION_CHARGE]
    times(mean, energy)
    most, word_bits = counts[level, t, Count.INSTANCES_MAX], store[level, LevelColumn.WORD_BITS]
    read, write = counts[level, t, Count.READ_WORDS], counts[level, t, Count.WRITE_WORDS]
    if ranks == 0 and rounding == 0:
        for w in range(len(energy)):
            busy = mean[w] / most[w] if most[w] > 0.0 else 0.0
            read[w] *= busy
            write[w] *= busy
        return
    for w in range(len(energy)):
        busy = mean[w] / most[w] if most[w] > 0.0 else 0.0
        read_words = read_bits[w] / word_bits if ranks > 0 else 0.0
        write_words = write_bits[w] / word_bits if ranks > 0 else 0.0
        read[w] = up((read[w] + down(read_words, rounding)) * busy, rounding)
        write[w] = up((write[w] + down(write_words, rounding)) * busy, rounding)


@kernel
def throttle(
    store: Floats, level: int, rounding: int, detail: Detail, rows: Floats, by_level: Floats, totals: Floats
) -> None:  # fmt: skip
    """Cycles of a level for the words in `Row.READS` and `Row.WRITES`; the slowest level bounds the mapping."""
    read_rate, write_rate = store[level, LevelColumn.READ_RATE], store[level, LevelColumn.WRITE_RATE]
    compute, cycles, bound = totals[Total.COMPUTE_CYCLES], totals[Total.CYCLES], totals[Total.BOUND]
    reads, writes, own, slowdown = rows[Row.READS], rows[Row.WRITES], by_level[level, 0], by_level[level, 1]
    for w in range(len(own)):
        own[w] = max(reads[w] / read_rate, writes[w] / write_rate)
    if detail == Detail.ALL:
        for w in range(len(own)):
            throttled = own[w] > compute[w]
            slowdown[w] = compute[w] / own[w] if throttled and compute[w] > 0.0 else 1.0
    if rounding != 0:
        for w in range(len(own)):
            own[w] = up(own[w], rounding) if own[w] > compute[w] else compute[w]
    for w in range(len(own)):
        own[w] = max(own[w], compute[w])
    if detail == Detail.ALL:
        for w in range(len(own)):
            bound[w] = level if own[w] > cycles[w] else bound[w]
    for w in range(len(own)):
        cycles[w] = max(own[w], cycles[w])


@kernel
def loads_alone(
    store: Floats, stored: Ints, rounding: int, largest: int, rows: Floats, counts: Floats, alone: Floats
) -> bool:  # fmt: skip
    """Note in `alone` the levels without room to load their next tiles ahead; room is kept for the fullest ones."""
    levels, n_tensors = stored.shape
    held = rows[Row.KEPT]
    found = False
    for level in range(levels):
        ahead = store[level, LevelColumn.AHEAD_WORDS]
        if rounding != 0 or math.isinf(ahead):
            continue
        if not found:
            for other in range(levels + 1):
                fill(0.0, alone[other])
        found = True
        fill(0.0, held)
        for t in range(n_tensors):
            if stored[level, t] == Stored.KEPT:
                add_held(store, level, largest, Count.METADATA_MAX_BITS, counts[level, t], held)
        for w in range(len(held)):
            alone[level, w] = 1.0 if held[w] > ahead else 0.0
    return found


@kernel
def wait(
    store: Floats, stored: Ints, output: int, level: int, first: int, clipped: bool, stretch: Floats, frame: Ints,
    rows: Floats, counts: Floats, alone: Floats, totals: Floats,
) -> None:  # fmt: skip
    """Cycles in which such a level is filled, at the pace of the levels that send the words and of its own.

    Updates of an output are the work, not the wait for it.
    """
    sent, filled, waits = rows[Row.READS], rows[Row.WRITES], totals[Total.WAIT_CYCLES]
    fill(0.0, sent)
    fill(0.0, filled)
    for t in range(stored.shape[1]):
        if stored[level, t] != Stored.KEPT:
            continue
        outer, written = frame[level, FrameColumn.OUTER + t], counts[level, t, Count.WRITE_WORDS]
        fills, updates = counts[level, t, first + 1], counts[level, t, first + 2]
        for w in range(len(filled)):
            arrived = 1.0
            if t == output and updates[w] > 0.0:
                arrived = fills[w] / (fills[w] + updates[w] + counts[level, t, Count.GATED_UPDATES, w])
            filled[w] += written[w] * arrived * (stretch[level, w] if clipped else 1.0)
            if outer >= 0:
                pace = store[outer, LevelColumn.READ_RATE]
                sent[w] += counts[outer, t, Count.READ_WORDS, w] * (stretch[outer, w] if clipped else 1.0) / pace
    for w in range(len(filled)):
        waits[w] += max(sent[w], filled[w] / store[level, LevelColumn.WRITE_RATE]) if alone[level, w] > 0.0 else 0.0


@kernel
def price(
    store: Floats, places: Ints, rank_bits: Floats, actions: Ints, output: int, stored: Ints, rounding: int,
    detail: Detail, clipped: bool, stretch: Floats, frame: Ints, rows: Floats, alone: Floats, counts: Floats,
    metadata: Floats, by_level: Floats, totals: Floats,
) -> None:  # fmt: skip
    """Energy of each level, cycles of each level, and what bounds the mapping."""
    levels, n_tensors = stored.shape
    states = 3 if len(actions) > 0 else 1
    first, largest = Count.ACTUAL_READS, Count.OCCUPANCY_MAX
    if detail == Detail.DENSE:
        first, largest = Count.READS, Count.FULL_TILE
    energy, reads, writes = totals[Total.ENERGY_PJ], rows[Row.READS], rows[Row.WRITES]
    copy(totals[Total.COMPUTE_ENERGY_PJ], energy)
    copy(totals[Total.COMPUTE_CYCLES], totals[Total.CYCLES])
    copy(totals[Total.COMPUTE_CYCLES], by_level[levels, 0])
    fill(1.0, by_level[levels, 1])
    fill(float(levels), totals[Total.BOUND])
    waits = loads_alone(store, stored, rounding, largest, rows, counts, alone)
    for level in range(levels):
        fill(0.0, reads)
        fill(0.0, writes)
        for t in range(n_tensors):
            if stored[level, t] == 0:
                continue
            outer, child = frame[level, FrameColumn.OUTER + t], frame[level, FrameColumn.OUTER + n_tensors + t]
            packed = outer >= 0 and places[outer, t, PlaceColumn.COMPRESSED] != 0
            if states == 1 and rounding == 0 and not packed and places[level, t, PlaceColumn.N_RANKS] == 0:
                dense_cost(store, level, first, clipped, counts[level, t])
            else:
                storage_cost(
                    store, places, rank_bits, states, output, level, t, rounding, frame, rows, counts, metadata
                )  # fmt: skip
            add(counts[level, t, Count.ENERGY_PJ], energy)
            read, write = counts[level, t, Count.READ_WORDS], counts[level, t, Count.WRITE_WORDS]
            if not waits:
                add(read, reads)
                add(write, writes)
                continue
            # What is moved while all else waits does not take bandwidth beside it.
            for w in range(len(energy)):
                reads[w] += read[w] if alone[child, w] == 0.0 else 0.0
                writes[w] += write[w] if alone[level, w] == 0.0 else 0.0
        if detail == Detail.ALL:
            fill(1.0, by_level[level, 2])
        if clipped:
            times(stretch[level], reads)
            times(stretch[level], writes)
            copy(stretch[level], by_level[level, 2])
        throttle(store, level, rounding, detail, rows, by_level, totals)
    used, actual, cycles = totals[Total.UTILISATION], totals[Total.ACTUAL], totals[Total.CYCLES]
    instances, waited = totals[Total.INSTANCES_MAX], totals[Total.WAIT_CYCLES]
    if waits:
        fill(0.0, waited)
        for level in range(1, levels):
            wait(
                store, stored, output, level, first, clipped, stretch, frame, rows, counts, alone, totals
            )  # fmt: skip
        add(waited, cycles)
    if detail == Detail.ALL:
        for w in range(len(used)):
            room = cycles[w] * instances[w]
            used[w] = actual[w] / room if room > 0.0 else 0.0


@kernel
def evaluate(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, store: Floats, places: Ints, kinds: Ints, rank_bits: Floats,
    actions: Ints, compute: Floats, output: int, rounding: int, sizes: Floats,
    keys: Ints, answers: Floats, missing: Ints, n_missing: Ints,
    frame: Ints, extents: Floats, step: Floats, outside: Floats, instances: Floats, delivered: Floats, boxes: Floats,
    fibers: Floats, spans: Floats, belows: Floats, own: Ints, ends: Ints, per_tensor: Floats, notes: Ints,
    ranks: Floats, rows: Floats, alone: Floats, trips: Floats, means: Floats, mean_step: Floats, passes: Floats,
    used: Floats, stretch: Floats,
    counts: Floats, metadata: Floats, metadata_max: Floats, by_level: Floats, totals: Floats,
    loops: Ints, factors: Floats, stored: Ints, detail: Detail,
) -> None:  # fmt: skip
    """Count and price mappings of one loop order; arguments: those of `Spec`, `Asked`, `Scratch`, `Counts`, `Nest`.

    How much of it, `detail` says: see `Detail`.
    """
    survey(loops, factors, stored, frame, extents, step, outside, instances)
    clipped = is_clipped(sizes, extents[0])
    if clipped:
        mean_trips(loops, factors, sizes, step, trips)
        cap(sizes, extents)
        survey(loops, trips, stored, frame, means, mean_step, passes, used)
        stretches(loops, factors, sizes, frame, step, instances, used, stretch)
    else:
        trips, means, passes, used = factors, extents, outside, instances
    dense_counts(
        tensors, words, axes, output, loops, factors, trips, stored, rounding, detail, frame, extents, means, step,
        passes, instances, used, delivered, boxes, rows, counts,
    )  # fmt: skip
    if detail != Detail.DENSE:
        compress(
            tensors, words, axes, odds, places, kinds, actions, keys, answers, missing, n_missing, store, rank_bits,
            output, loops, factors, stored, rounding, detail, frame, extents, boxes, own, ends, fibers, spans, belows,
            ranks, rows, counts, metadata, metadata_max,
        )  # fmt: skip
    copy(instances[len(stored)], totals[Total.INSTANCES_MAX])
    copy(used[len(stored)], totals[Total.INSTANCES_MEAN])
    notes[Note.PACKED] = 0
    if len(actions) > 0:
        gate_and_skip(
            tensors, words, axes, odds, store, places, actions, keys, answers, missing, n_missing, output, loops,
            factors, stored, rounding, frame, boxes, per_tensor, notes, rows, counts, metadata,
        )  # fmt: skip
        skip_lanes(
            tensors, words, axes, odds, places, actions, keys, answers, missing, n_missing, loops, factors, stored,
            rounding, frame, extents, instances, boxes, per_tensor, notes, rows, counts, totals,
        )  # fmt: skip
        skip_positions(
            tensors, words, places, actions, keys, answers, missing, n_missing, output, loops, factors, stored,
            rounding, frame, extents, per_tensor, notes, counts, totals,
        )  # fmt: skip
    compute_counts(
        tensors, words, axes, odds, store, places, actions, compute, keys, answers, missing, n_missing, output, loops,
        factors, stored, rounding, frame, passes, used, boxes, per_tensor, notes, rows, totals,
    )  # fmt: skip
    if clipped:
        times(stretch[len(stored)], totals[Total.COMPUTE_CYCLES])
    price(
        store, places, rank_bits, actions, output, stored, rounding, detail, clipped, stretch, frame, rows, alone,
        counts, metadata, by_level, totals,
    )  # fmt: skip
