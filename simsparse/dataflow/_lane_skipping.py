"""Compiled: skipping over space: instances over zeros left out, nonzeros packed into instances by position."""

from __future__ import annotations

from simsparse.dataflow._arrays import (
    NONE,
    ActionCode,
    ActionColumn,
    Box,
    Count,
    Floats,
    FrameColumn,
    Ints,
    LoopColumn,
    Note,
    PerTensor,
    PlaceColumn,
    Question,
    Row,
    TensorColumn,
    Total,
    WordColumn,
)
from simsparse.dataflow._formats import has_position
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._lanes import copy, copy_box, fill, fill_box, times
from simsparse.dataflow._occupancy import ask, empty, fullest
from simsparse.dataflow.rounding import down, up


@kernel
def spatial_conditions(actions: Ints, level: int) -> int:
    """Bit mask of the tensors whose zeros leave lanes out at a level."""
    on = 0
    for k in range(len(actions)):
        if actions[k, ActionColumn.LEVEL] == level and actions[k, ActionColumn.CODE] == ActionCode.SKIP_SPATIAL:
            on |= actions[k, ActionColumn.ON]
    return on


@kernel
def shrink(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, places: Ints, keys: Ints, answers: Floats, missing: Ints,
    n_missing: Ints, loops: Ints, factors: Floats, rounding: int, level: int, on: int, frame: Ints, extents: Floats,
    boxes: Floats, shares: Floats, notes: Ints, rows: Floats,
) -> None:  # fmt: skip
    """What the fan-out of one level leaves of the instances inside, in `Row.MOST` and `Row.MEAN`.

    `shares` is what the zeros of each tensor have left of them; where they leave lanes out at several levels, a lane
    that is there further inside is in one that is there outside.
    """
    most, mean, x, y, dense = rows[Row.MOST], rows[Row.MEAN], rows[Row.READS], rows[Row.WRITES], rows[Row.FRACTION]
    held, lost, instances, done = rows[Row.KEPT], rows[Row.EMPTY], rows[Row.SAVING], notes[Note.CHOICE]
    box, sub = boxes[Box.BOX], boxes[Box.PART]
    fill(1.0, x)
    fill(1.0, y)
    fill(1.0, dense)
    done[:] = 0
    copy_box(extents[level + 1], box)
    for i in range(frame[level + 1, FrameColumn.START] - 1, frame[level, FrameColumn.SPATIAL_START] - 1, -1):
        factor, d = factors[i], loops[i, LoopColumn.DIM]
        copy(factor, instances)
        times(factor, dense)
        copy_box(box, sub)
        times(factor, box[d])
        for c in range(len(tensors)):
            source = frame[level + 1, FrameColumn.OUTER + c]
            if not on >> c & 1 or not tensors[c, TensorColumn.RELEVANT] >> d & 1 or source < 0:
                continue
            if places[source, c, PlaceColumn.COMPRESSED] == 0:
                continue
            fullest(tensors, words, axes, keys, answers, missing, n_missing, c, box, held)
            empty(tensors, words, axes, odds, keys, answers, missing, n_missing, c, sub, lost)
            for w in range(len(instances)):
                if factor[w] > 1.0:
                    instances[w] = min(instances[w], held[w])
                    # The innermost loop says which sub-tiles are nonzero; outer ones contain them.
                    if not done[w] >> c & 1:
                        mean[w] *= (1.0 - lost[w]) / shares[c, w] if shares[c, w] > 0.0 else 0.0
                        shares[c, w] = 1.0 - lost[w]
                    done[w] |= 1 << c
        times(instances, x if loops[i, LoopColumn.KIND] == 1 else y)
    for w in range(len(most)):
        most[w] *= down(x[w], rounding) * down(y[w], rounding) / dense[w]
        notes[Note.PACKED, w] |= done[w]


@kernel
def skip_lanes(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, places: Ints, actions: Ints, keys: Ints, answers: Floats,
    missing: Ints, n_missing: Ints, loops: Ints, factors: Floats, stored: Ints, rounding: int, frame: Ints,
    extents: Floats, instances: Floats, boxes: Floats, per_tensor: Floats, notes: Ints, rows: Floats, counts: Floats,
    totals: Floats,
) -> None:  # fmt: skip
    """Spatial skipping: instances under a spatial loop over zeros are not there; `Note.PACKED` says whose zeros count.

    As many lanes are kept as the fullest fiber needs, and on average those of nonzero sub-tiles are busy.
    """
    levels, n_tensors = stored.shape
    most, mean, packed, shares = rows[Row.MOST], rows[Row.MEAN], notes[Note.PACKED], per_tensor[PerTensor.LIVE]
    fill(1.0, most)
    fill(1.0, mean)
    fill_box(1.0, shares)
    skipped = False
    for level in range(levels):
        for t in range(n_tensors):
            if not skipped:
                break
            largest, average = counts[level, t, Count.INSTANCES_MAX], counts[level, t, Count.INSTANCES_MEAN]
            outer = frame[level, FrameColumn.OUTER + t]
            arrived = outer >= 0 and places[outer, t, PlaceColumn.COMPRESSED] != 0
            for w in range(len(most)):
                largest[w] = instances[level, w] * most[w]
                # A tile that is not empty is in a lane that is not left out: its own zeros count once.
                again = shares[t, w] if arrived and packed[w] >> t & 1 else 1.0
                average[w] *= mean[w] / again if again > 0.0 else 0.0
        on = spatial_conditions(actions, level)
        if on != 0:
            skipped = True
            shrink(
                tensors, words, axes, odds, places, keys, answers, missing, n_missing, loops, factors, rounding,
                level, on, frame, extents, boxes, shares, notes, rows,
            )  # fmt: skip
    times(most, totals[Total.INSTANCES_MAX])
    times(mean, totals[Total.INSTANCES_MEAN])


@kernel
def pack(
    relevant: int, keys: Ints, answers: Floats, missing: Ints, n_missing: Ints, loops: Ints, factors: Floats,
    level: int, x: int, sent: bool, share: float, rounding: int, frame: Ints, box: Floats, rounds: Floats, tile: Floats,
    instances: Floats,
) -> None:  # fmt: skip
    """Rounds that the tiles of a tensor take over those if dense, and how many instances are busy in them."""
    for w in range(len(rounds)):
        lanes = 1
        for i in range(frame[level, FrameColumn.SPATIAL_START], frame[level + 1, FrameColumn.START]):
            if relevant >> loops[i, LoopColumn.DIM] & 1:
                lanes *= int(factors[i, w])
        at = ask(keys, missing, n_missing, Question.LANES, x, lanes, NONE, box, relevant, w)
        if at >= 0:
            # An empty tile takes no round; the reference has the mean over those that are sent.
            rounds[w] = answers[at, 0 if sent and rounding != 0 else 1] / (tile[w] / lanes)
            busy = answers[at, 2]
            if rounding == 0 and answers[at, 1] > 0.0:
                # Nonzeros over rounds; the reference has the mean over tiles of that ratio instead.
                busy = tile[w] * share / answers[at, 1]
            instances[w] *= busy / lanes


@kernel
def skip_positions(
    tensors: Ints, words: Floats, places: Ints, actions: Ints, keys: Ints, answers: Floats, missing: Ints,
    n_missing: Ints, output: int, loops: Ints, factors: Floats, stored: Ints, rounding: int, frame: Ints,
    extents: Floats, per_tensor: Floats, notes: Ints, counts: Floats, totals: Floats,
) -> None:  # fmt: skip
    """Skipping by position: nonzeros of a tile are packed into as many lanes as the level has over the tensor.

    A tile with n nonzeros takes ⌈n/S⌉ rounds of S lanes; other operands are read once a round. `Note.PACKED` gets the
    tensors whose zeros are packed away.
    """
    levels, n_tensors = stored.shape
    rounds, packed = per_tensor[PerTensor.ROUNDS], notes[Note.PACKED]
    for level in range(levels):
        here = 0
        for x in range(n_tensors):
            if stored[level, x] != 0 and has_position(actions, level, x):
                here |= 1 << x
        if here == 0:
            continue
        fill_box(1.0, rounds)
        for x in range(n_tensors):
            if here >> x & 1 and places[level, x, PlaceColumn.COMPRESSED] != 0:
                outer = frame[level, FrameColumn.OUTER + x]
                sent = outer >= 0 and places[outer, x, PlaceColumn.COMPRESSED] != 0
                pack(
                    tensors[x, TensorColumn.RELEVANT], keys, answers, missing, n_missing, loops, factors, level, x,
                    sent, words[x, WordColumn.DENSITY], rounding, frame, extents[level], rounds[x], counts[level, x,
                    Count.FULL_TILE], totals[Total.INSTANCES_MEAN],
                )  # fmt: skip
        for w in range(len(packed)):
            packed[w] |= here
        for x in range(n_tensors):
            if stored[level, x] == 0 or x == output:
                continue
            dense, reads = counts[level, x, Count.READS], counts[level, x, Count.ACTUAL_READS]
            held, tile = counts[level, x, Count.OCCUPANCY_MEAN], counts[level, x, Count.TILE]
            for w in range(len(reads)):
                turns = dense[w] * held[w] / tile[w]
                for y in range(n_tensors):
                    if y != x and here >> y & 1:
                        turns *= rounds[y, w]
                reads[w] = up(turns, rounding)
