"""Compiled: operations: all, done, gated, skipped; and those that zeros have left out on the way to the compute."""

from __future__ import annotations

import math

from simsparse.dataflow._actions import acting_level, window
from simsparse.dataflow._arrays import (
    NONE,
    ActionCode,
    ActionColumn,
    Box,
    ComputeColumn,
    DensityKind,
    Floats,
    FrameColumn,
    Ints,
    LevelColumn,
    Note,
    PerTensor,
    PlaceColumn,
    Question,
    Row,
    TensorColumn,
    Total,
    WordColumn,
)
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._lanes import copy, fill, fill_box, times
from simsparse.dataflow._occupancy import ask, empty
from simsparse.dataflow.rounding import down, six_digits, up


@kernel
def has_metadata(places: Ints, frame: Ints, t: int) -> bool:
    """Whether the compute is told where a tensor is zero."""
    innermost = frame[len(frame) - 1, FrameColumn.OUTER + t]
    return bool(innermost >= 0 and places[innermost, t, PlaceColumn.COMPRESSED] != 0)


@kernel
def narrow(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, keys: Ints, answers: Floats, missing: Ints, n_missing: Ints,
    c: int, rounding: int, boxes: Floats, live: Floats, deciding: Ints, left: Floats,
) -> None:  # fmt: skip
    """Leave only operations whose window on a tensor is not empty."""
    part, windows = boxes[Box.PART], boxes[Box.WINDOWS]
    empty(tensors, words, axes, odds, keys, answers, missing, n_missing, c, part, left)
    exact = tensors[c, TensorColumn.DENSITY_KIND] == DensityKind.ASKED
    relevant = tensors[c, TensorColumn.RELEVANT]
    for w in range(len(left)):
        share = 1.0 - left[w]
        share = share if exact else six_digits(share, rounding)
        deciding[w] |= 1 << c
        if share <= live[w]:
            live[w] = share
            # Dimensions that tensors share are single in every window, so that one box holds all windows.
            for d in range(len(windows)):
                if relevant >> d & 1:
                    windows[d, w] = part[d, w]


@kernel
def live_operations(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, store: Floats, places: Ints, actions: Ints, keys: Ints,
    answers: Floats, missing: Ints, n_missing: Ints, output: int, loops: Ints, factors: Floats, stored: Ints,
    rounding: int, frame: Ints, boxes: Floats, per_tensor: Floats, notes: Ints, rows: Floats,
) -> None:  # fmt: skip
    """Fraction of the operations that are left by what is skipped on the way: `Row.LIVE`; whose zeros: `Note.DECIDING`.

    What skips are actions at storage, lanes and positions.
    """
    live, deciding, shares = rows[Row.LIVE], notes[Note.DECIDING], per_tensor[PerTensor.LIVE]
    n_tensors = len(tensors)
    fill_box(1.0, boxes[Box.WINDOWS])
    fill_box(1.0, shares)
    measured = 0
    for c in range(n_tensors):
        if tensors[c, TensorColumn.DENSITY_KIND] == DensityKind.ASKED:
            measured |= 1 << c
        if has_metadata(places, frame, c):
            for w in range(len(live)):
                if notes[Note.PACKED, w] >> c & 1:
                    shares[c, w] = words[c, WordColumn.DENSITY]
                    deciding[w] |= 1 << c
    for k in range(len(actions)):
        t = actions[k, ActionColumn.TARGET]
        if actions[k, ActionColumn.CODE] > ActionCode.SKIP or t == output:
            continue
        level = acting_level(stored, frame, t, actions[k, ActionColumn.LEVEL])
        child = frame[level, FrameColumn.OUTER + n_tensors + t]
        window(
            tensors[t, TensorColumn.RELEVANT], store[level, LevelColumn.BLOCK_WORDS], loops, factors, frame, level,
            child, boxes[Box.PART], rows[Row.RESIDENT], rows[Row.INNERMOST],
        )  # fmt: skip
        for c in range(n_tensors):
            if actions[k, ActionColumn.ON] >> c & 1:
                narrow(
                    tensors, words, axes, odds, keys, answers, missing, n_missing, c, rounding, boxes, shares[c],
                    deciding, rows[Row.EMPTY],
                )  # fmt: skip
    for c in range(n_tensors):
        times(shares[c], live)
    for w in range(len(live)):
        if deciding[w] & measured != 0 and deciding[w] & (deciding[w] - 1) != 0:
            everything = (1 << boxes.shape[1]) - 1
            at = ask(
                keys, missing, n_missing, Question.PAIRS, NONE, deciding[w], NONE, boxes[Box.WINDOWS], everything, w
            )
            live[w] = answers[at, 0] if at >= 0 else live[w]


@kernel
def zero_operands(
    tensors: Ints, words: Floats, places: Ints, keys: Ints, answers: Floats, missing: Ints, n_missing: Ints,
    output: int, rounding: int, frame: Ints, box: Floats,
) -> tuple[float, float, bool]:  # fmt: skip
    """P(no operand is zero), P(all are, and all are known to be), and whether any is known to be."""
    both, neither, operands, present = 1.0, 1.0, 0, 0.0
    told, measured = False, False
    for c in range(len(tensors)):
        if c == output:
            continue
        operands |= 1 << c
        present += words[c, WordColumn.DENSITY]
        both *= six_digits(words[c, WordColumn.DENSITY], rounding)
        measured = measured or tensors[c, TensorColumn.DENSITY_KIND] == DensityKind.ASKED
        if has_metadata(places, frame, c):
            told = True
            neither *= 1.0 - six_digits(words[c, WordColumn.DENSITY], rounding)
        else:
            neither = 0.0
    if measured:
        # Relevant to no dimension: the box does not matter.
        at = ask(keys, missing, n_missing, Question.PAIRS, NONE, operands, NONE, box, NONE, NONE)
        both = answers[at, 0] if at >= 0 else both
        neither = 0.0 if neither == 0.0 else 1.0 - present + both
    return both, neither, told


@kernel
def compute_counts(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, store: Floats, places: Ints, actions: Ints, compute: Floats,
    keys: Ints, answers: Floats, missing: Ints, n_missing: Ints, output: int, loops: Ints, factors: Floats,
    stored: Ints, rounding: int, frame: Ints, outside: Floats, instances: Floats, boxes: Floats, per_tensor: Floats,
    notes: Ints, rows: Floats, totals: Floats,
) -> None:  # fmt: skip
    """Operations: all, done, gated, skipped; those that never reach the compute are none of them."""
    live, deciding = rows[Row.LIVE], notes[Note.DECIDING]
    fill(1.0, live)
    deciding[:] = 0
    all_dense = True
    for c in range(len(tensors)):
        all_dense = all_dense and (c == output or tensors[c, TensorColumn.DENSITY_KIND] == DensityKind.DENSE)
    both, neither, told = zero_operands(
        tensors, words, places, keys, answers, missing, n_missing, output, rounding, frame, boxes[Box.PART]
    )
    if not all_dense:
        live_operations(
            tensors, words, axes, odds, store, places, actions, keys, answers, missing, n_missing, output, loops,
            factors, stored, rounding, frame, boxes, per_tensor, notes, rows,
        )  # fmt: skip
        for w in range(len(live)):
            live[w] = live[w] if deciding[w] != 0 else 1.0 - neither
    total, actual, gated, skipped = (
        totals[Total.COMPUTES],
        totals[Total.ACTUAL],
        totals[Total.GATED],
        totals[Total.SKIPPED],
    )
    cycles, energy, busy = totals[Total.COMPUTE_CYCLES], totals[Total.COMPUTE_ENERGY_PJ], totals[Total.INSTANCES_MEAN]
    skips, gates = compute[ComputeColumn.SKIPS] != 0.0 and told, compute[ComputeColumn.GATES] != 0.0
    price = compute[ComputeColumn.ACTUAL_PJ :]
    copy(outside[len(loops)], total)
    times(instances[len(stored)], total)
    for w in range(len(live)):
        idle = max(0.0, live[w] - both) * total[w]  # operations with a zero operand that are left
        skipped[w] = down(idle if skips else 0.0, rounding)
        gated[w] = down(idle if gates and not skips else 0.0, rounding)
        absent = total[w] * (1.0 - live[w])
        absent = math.floor(absent) * 1.0 if rounding != 0 else absent
        actual[w] = total[w] - skipped[w] - gated[w] - absent
        cycles[w] = up((actual[w] + gated[w]) / busy[w] if busy[w] > 0.0 else 0.0, rounding)
        energy[w] = actual[w] * price[0] + gated[w] * price[1] + skipped[w] * price[2]
