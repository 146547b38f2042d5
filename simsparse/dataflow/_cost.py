"""Compiled: computes, energy and cycles from the counts, and `evaluate`, which does all of it for one mapping."""

from __future__ import annotations

import math

from simsparse.dataflow._actions import acting_level, gate_and_skip, skip_lanes, skip_positions, window
from simsparse.dataflow._arrays import (
    NONE,
    TILE_ROW,
    WINDOW_ROW,
    ActionCode,
    ActionColumn,
    ComputeColumn,
    Count,
    DensityKind,
    Floats,
    Ints,
    LevelColumn,
    PlaceColumn,
    Question,
    TensorColumn,
    Total,
    WordColumn,
)
from simsparse.dataflow._dense import dense_counts, kept_inside, kept_outside, survey
from simsparse.dataflow._formats import compress
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._occupancy import ask, empty
from simsparse.dataflow.rounding import down, six_digits, up


@kernel
def has_metadata(places: Ints, stored: Ints, t: int) -> bool:
    """Whether the compute is told where a tensor is zero."""
    innermost = kept_outside(stored, t, len(stored))
    return innermost >= 0 and bool(places[innermost, t, PlaceColumn.COMPRESSED] != 0)


@kernel
def live_operations(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, store: Floats, places: Ints, actions: Ints, keys: Ints,
    answers: Floats, missing: Ints, n_missing: Ints, output: int, loops: Ints, n_loops: int, stored: Ints,
    rounding: int,
    packed: int, start: Ints, boxes: Ints,
) -> tuple[float, int]:  # fmt: skip
    """Fraction of the operations that are left by what is skipped on the way, and the tensors whose zeros decide it.

    What skips are actions at storage, lanes and positions.
    """
    live, deciding = 1.0, NONE
    measured = False
    dims = boxes.shape[1]
    for d in range(dims):
        boxes[0, d] = 1
    for c in range(len(tensors)):
        part_live = 1.0
        if packed >> c & 1 and has_metadata(places, stored, c):
            part_live = words[c, WordColumn.DENSITY]
            deciding |= 1 << c
        for k in range(len(actions)):
            target = actions[k, ActionColumn.TARGET]
            if (
                actions[k, ActionColumn.CODE] > ActionCode.SKIP
                or target == output
                or not actions[k, ActionColumn.ON] >> c & 1
            ):
                continue
            level = acting_level(stored, target, actions[k, ActionColumn.LEVEL])
            block = store[level, LevelColumn.BLOCK_WORDS]
            window(tensors[target, TensorColumn.RELEVANT], block, loops, n_loops, stored, level, target, start, boxes)
            left = 1.0 - empty(tensors, words, axes, odds, keys, answers, missing, n_missing, c, boxes, WINDOW_ROW)
            if tensors[c, TensorColumn.DENSITY_KIND] != DensityKind.ASKED:
                left = six_digits(left, rounding)
            if left <= part_live:
                part_live = left
                # Dimensions that tensors share are single in every window, so that one box holds all windows.
                for d in range(dims):
                    if tensors[c, TensorColumn.RELEVANT] >> d & 1:
                        boxes[0, d] = boxes[1, d]
            deciding |= 1 << c
        if deciding >> c & 1:
            measured = measured or tensors[c, TensorColumn.DENSITY_KIND] == DensityKind.ASKED
        live *= part_live
    if measured and deciding & (deciding - 1) != 0:
        at = ask(keys, missing, n_missing, Question.PAIRS, NONE, deciding, NONE, boxes, TILE_ROW, (1 << dims) - 1)
        live = answers[at, 0] if at >= 0 else live
    return live, deciding


@kernel
def compute_counts(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, store: Floats, places: Ints, actions: Ints, compute: Floats,
    keys: Ints, answers: Floats, missing: Ints, n_missing: Ints, output: int, loops: Ints, n_loops: int, stored: Ints,
    rounding: int, packed: int, start: Ints, total: float, boxes: Ints, totals: Floats,
) -> None:  # fmt: skip
    """Operations: all, done, gated, skipped; those that never reach the compute are none of them."""
    both, told, neither, operands, present = 1.0, 0, 1.0, NONE, 0.0
    measured, all_dense = False, True
    for c in range(len(tensors)):
        if c == output:
            continue
        operands |= 1 << c
        present += words[c, WordColumn.DENSITY]
        both *= six_digits(words[c, WordColumn.DENSITY], rounding)
        all_dense = all_dense and tensors[c, TensorColumn.DENSITY_KIND] == DensityKind.DENSE
        measured = measured or tensors[c, TensorColumn.DENSITY_KIND] == DensityKind.ASKED
        if has_metadata(places, stored, c):
            told |= 1 << c
            neither *= 1.0 - six_digits(words[c, WordColumn.DENSITY], rounding)
        else:
            neither = 0.0
    live, deciding = 1.0, 0
    if not all_dense:
        live, deciding = live_operations(
            tensors, words, axes, odds, store, places, actions, keys, answers, missing, n_missing, output, loops,
            n_loops,
            stored, rounding, packed, start, boxes,
        )  # fmt: skip
        if measured:
            # Relevant to no dimension: the box does not matter.
            at = ask(keys, missing, n_missing, Question.PAIRS, NONE, operands, NONE, boxes, TILE_ROW, NONE)
            both = answers[at, 0] if at >= 0 else both
            neither = 0.0 if neither == 0.0 else 1.0 - present + both
        if deciding == 0:
            live = 1.0 - neither
    idle = max(0.0, live - both) * total  # operations with a zero operand that are left
    skipped = idle if compute[ComputeColumn.SKIPS] != 0.0 and told != 0 else 0.0
    gated = idle - skipped if compute[ComputeColumn.GATES] != 0.0 else 0.0
    absent = total * (1.0 - live)
    if rounding != 0:
        absent = float(math.floor(absent))
    totals[Total.COMPUTES] = total
    totals[Total.SKIPPED] = down(skipped, rounding)
    totals[Total.GATED] = down(gated, rounding)
    totals[Total.ACTUAL] = total - totals[Total.SKIPPED] - totals[Total.GATED] - absent
    busy = 0.0
    if totals[Total.INSTANCES_MEAN] > 0.0:
        busy = (totals[Total.ACTUAL] + totals[Total.GATED]) / totals[Total.INSTANCES_MEAN]
    totals[Total.COMPUTE_CYCLES] = up(busy, rounding)
    energy = 0.0
    for state in range(3):
        energy += totals[Total.ACTUAL + state] * compute[ComputeColumn.ACTUAL_PJ + state]
    totals[Total.COMPUTE_ENERGY_PJ] = energy


@kernel
def metadata_bits(
    rank_bits: Floats, level: int, t: int, ranks: int, state: int, action: int, metadata: Floats
) -> float:
    """Bits of metadata and payloads that an action moves."""
    bits = 0.0
    for r in range(ranks):
        for part in range(2):
            bits += metadata[level, t, r, state, action, part] * rank_bits[level, t, r, part]
    return bits


@kernel
def storage_cost(
    store: Floats, places: Ints, rank_bits: Floats, stored: Ints, level: int, t: int, rounding: int, counts: Floats,
    metadata: Floats,
) -> None:  # fmt: skip
    """Energy of all instances, vector access by vector access; words of the average one that take bandwidth.

    Gated accesses take their cycle, skipped ones do not.
    """
    ranks = places[level, t, PlaceColumn.N_RANKS]
    block, width = store[level, LevelColumn.BLOCK_WORDS], store[level, LevelColumn.METADATA_WIDTH_BITS]
    energy = 0.0
    read_words, write_words, read_bits, write_bits = 0.0, 0.0, 0.0, 0.0
    for state in range(3):
        for action in range(3):
            at = 3 * state + action
            words = counts[level, t, Count.ACTUAL_READS + at]
            bits = metadata_bits(rank_bits, level, t, ranks, state, action, metadata) if ranks > 0 else 0.0
            if words > 0.0:
                energy += up(words / block, rounding) * store[level, LevelColumn.CHARGES + at]
            if bits > 0.0 and width > 0.0:
                energy += up(bits / width, rounding) * store[level, LevelColumn.METADATA_CHARGES + at]
            if state == 2:
                continue
            if action == 0:
                read_words, read_bits = read_words + words, read_bits + bits
            else:
                write_words, write_bits = write_words + words, write_bits + bits
    mean = counts[level, t, Count.INSTANCES_MEAN]
    outer = kept_outside(stored, t, level)
    if outer >= 0 and places[outer, t, PlaceColumn.COMPRESSED] != 0 and places[level, t, PlaceColumn.COMPRESSED] == 0:
        energy += counts[level, t, Count.ACTUAL_FILLS] * store[level, LevelColumn.DECOMPRESSION_CHARGE]
        share = counts[outer, t, Count.INSTANCES_MEAN] / mean if mean > 0.0 else 0.0
        energy += counts[outer, t, Count.ACTUAL_UPDATES] * share * store[level, LevelColumn.COMPRESSION_CHARGE]
    counts[level, t, Count.ENERGY_PJ] = energy * mean
    busy = mean / counts[level, t, Count.INSTANCES_MAX]
    bits_of_word = store[level, LevelColumn.WORD_BITS]
    counts[level, t, Count.READ_WORDS] = up((read_words + down(read_bits / bits_of_word, rounding)) * busy, rounding)
    counts[level, t, Count.WRITE_WORDS] = up((write_words + down(write_bits / bits_of_word, rounding)) * busy, rounding)


@kernel
def loads_alone(store: Floats, stored: Ints, level: int, counts: Floats, rounding: int) -> bool:
    """Whether a level has no room to load its next tiles ahead; room is kept for the fullest ones."""
    if rounding != 0 or level == len(stored) or math.isinf(store[level, LevelColumn.AHEAD_WORDS]):
        return False
    words = 0.0
    for t in range(stored.shape[1]):
        if stored[level, t] == 1:
            words += counts[level, t, Count.OCCUPANCY_MAX]
    return bool(words > store[level, LevelColumn.AHEAD_WORDS])


@kernel
def wait(store: Floats, stored: Ints, level: int, counts: Floats) -> float:
    """Cycles in which such a level is filled, at the pace of the levels that send the words and of its own."""
    sent, filled = 0.0, 0.0
    for t in range(stored.shape[1]):
        if stored[level, t] != 1:
            continue
        filled += counts[level, t, Count.WRITE_WORDS]
        outer = kept_outside(stored, t, level)
        if outer >= 0:
            sent += counts[outer, t, Count.READ_WORDS] / store[outer, LevelColumn.READ_RATE]
    return float(max(sent, filled / store[level, LevelColumn.WRITE_RATE]))


@kernel
def price(
    store: Floats, places: Ints, rank_bits: Floats, stored: Ints, rounding: int, counts: Floats, metadata: Floats,
    by_level: Floats, totals: Floats,
) -> None:  # fmt: skip
    """Energy of each level, cycles of each level, and what bounds the mapping."""
    levels, n_tensors = stored.shape
    compute_cycles = totals[Total.COMPUTE_CYCLES]
    cycles, bound = compute_cycles, levels
    energy = totals[Total.COMPUTE_ENERGY_PJ]
    for level in range(levels):
        reads, writes = 0.0, 0.0
        alone = loads_alone(store, stored, level, counts, rounding)
        for t in range(n_tensors):
            if stored[level, t] == 0:
                counts[level, t, Count.ENERGY_PJ] = 0.0
                continue
            storage_cost(store, places, rank_bits, stored, level, t, rounding, counts, metadata)
            energy += counts[level, t, Count.ENERGY_PJ]
            # What is moved while all else waits does not take bandwidth beside it.
            if not loads_alone(store, stored, kept_inside(stored, t, level), counts, rounding):
                reads += counts[level, t, Count.READ_WORDS]
            if not alone:
                writes += counts[level, t, Count.WRITE_WORDS]
        read_rate, write_rate = store[level, LevelColumn.READ_RATE], store[level, LevelColumn.WRITE_RATE]
        slowdown, needed = 1.0, compute_cycles
        if compute_cycles > 0.0:
            if reads > read_rate * compute_cycles:
                slowdown = read_rate / (reads / compute_cycles)
            if writes > write_rate * compute_cycles:
                slowdown = min(slowdown, write_rate / (writes / compute_cycles))
            if slowdown < 1.0:
                needed = up(compute_cycles / slowdown, rounding)
        else:
            needed = up(max(reads / read_rate, writes / write_rate), rounding)
        by_level[level, 0], by_level[level, 1] = needed, slowdown
        if needed > cycles:
            cycles, bound = needed, level
    by_level[levels, 0], by_level[levels, 1] = compute_cycles, 1.0
    totals[Total.WAIT_CYCLES] = 0.0
    for level in range(1, levels):
        if loads_alone(store, stored, level, counts, rounding):
            totals[Total.WAIT_CYCLES] += wait(store, stored, level, counts)
    cycles += totals[Total.WAIT_CYCLES]
    totals[Total.CYCLES], totals[Total.BOUND], totals[Total.ENERGY_PJ] = cycles, bound, energy
    room = cycles * totals[Total.INSTANCES_MAX]
    totals[Total.UTILISATION] = totals[Total.ACTUAL] / room if room > 0.0 else 0.0


@kernel
def evaluate(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, store: Floats, places: Ints, kinds: Ints, rank_bits: Floats,
    actions: Ints, compute: Floats, output: int, rounding: int,
    keys: Ints, answers: Floats, missing: Ints, n_missing: Ints,
    extents: Ints, start: Ints, spatial_start: Ints, step: Ints, outside: Floats, instances: Floats, boxes: Ints,
    shift: Ints, own: Ints, firsts: Ints, lasts: Ints, fibers: Floats, spans: Ints, belows: Ints, saved: Floats,
    counts: Floats, metadata: Floats, metadata_max: Floats, by_level: Floats, totals: Floats,
    loops: Ints, n_loops: int, stored: Ints, report: int,
) -> None:  # fmt: skip
    """Count and price one mapping; the arguments are those of `Spec`, `Asked`, `Scratch`, `Counts`, and the mapping.

    Parameters
    ----------
    loops : (n, 4) ndarray
        `LoopColumn`; the first `n_loops` rows count, factors of 1 are left out.
    stored : (L, T) ndarray
        `Stored`.
    report : int
        0 leaves out what no cost depends on.
    """
    survey(loops, n_loops, extents, start, spatial_start, step, outside, instances)
    dense_counts(
        tensors, words, axes, output, loops, n_loops, stored, rounding, extents, start, spatial_start, step, outside,
        instances, boxes, shift, counts,
    )  # fmt: skip
    compress(
        tensors, words, axes, odds, places, kinds, actions, keys, answers, missing, n_missing, loops, n_loops, stored,
        rounding, report, extents, start, boxes, own, firsts, lasts, fibers, spans, belows, counts, metadata,
        metadata_max,
    )  # fmt: skip
    totals[Total.INSTANCES_MAX] = totals[Total.INSTANCES_MEAN] = instances[len(stored)]
    packed = 0
    if len(actions) > 0:
        gate_and_skip(
            tensors, words, axes, odds, store, places, actions, keys, answers, missing, n_missing, output, loops,
            n_loops,
            stored, rounding, start, boxes, saved, counts, metadata,
        )  # fmt: skip
        packed = skip_lanes(
            tensors, words, axes, odds, places, actions, keys, answers, missing, n_missing, loops, stored, rounding,
            extents, start, spatial_start, instances, boxes, counts, totals,
        )  # fmt: skip
        packed |= skip_positions(
            tensors, words, places, actions, keys, answers, missing, n_missing, output, loops, stored, rounding,
            extents,
            start, spatial_start, saved, counts, totals,
        )  # fmt: skip
    total = outside[n_loops] * instances[len(stored)]
    compute_counts(
        tensors, words, axes, odds, store, places, actions, compute, keys, answers, missing, n_missing, output, loops,
        n_loops, stored, rounding, packed, start, total, boxes, totals,
    )  # fmt: skip
    price(store, places, rank_bits, stored, rounding, counts, metadata, by_level, totals)
