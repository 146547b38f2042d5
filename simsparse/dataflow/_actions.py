"""Compiled: gating and skipping at storage."""

from __future__ import annotations

from simsparse.dataflow._arrays import (
    NONE,
    ActionCode,
    ActionColumn,
    Box,
    Count,
    DensityKind,
    Floats,
    FrameColumn,
    Ints,
    LevelColumn,
    LoopColumn,
    Note,
    PerTensor,
    PlaceColumn,
    Question,
    Row,
    TensorColumn,
)
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._lanes import fill, fill_box, times
from simsparse.dataflow._occupancy import ask, empty
from simsparse.dataflow.rounding import down, up


@kernel
def window(
    relevant: int, block_words: float, loops: Ints, factors: Floats, frame: Ints, level: int, child: int, part: Floats,
    resident: Floats, innermost: Floats,
) -> None:  # fmt: skip
    """Fill `part` with the operations that one access to a tensor at a level serves.

    The word stays in the child from one advance of a relevant temporal loop to the next, and is shared by all
    instances that spatial loops over other dimensions reach. Dimensions of the tensor itself are 1, or what a block of
    several words spans.
    """
    n_loops = len(loops)
    inside_all = child == len(frame) - 1
    fill_box(1.0, part)
    fill(float(n_loops) if inside_all else 0.0, resident)
    fill(-1.0, innermost)
    for i in range(n_loops):
        if not relevant >> loops[i, LoopColumn.DIM] & 1:
            continue
        factor = factors[i]
        for w in range(len(factor)):
            innermost[w] = float(i) if factor[w] > 1.0 else innermost[w]
        if loops[i, LoopColumn.KIND] == 0 and not inside_all and i < frame[child, FrameColumn.START]:
            for w in range(len(factor)):
                resident[w] = i + 1.0 if factor[w] > 1.0 else resident[w]
    for i in range(n_loops):
        if relevant >> loops[i, LoopColumn.DIM] & 1:
            continue
        factor, extent = factors[i], part[loops[i, LoopColumn.DIM]]
        if loops[i, LoopColumn.KIND] == 0:
            for w in range(len(factor)):
                extent[w] *= factor[w] if i >= resident[w] else 1.0
        elif i >= frame[level, FrameColumn.START]:
            times(factor, extent)
    if block_words > 1.0:
        for w in range(len(innermost)):
            if innermost[w] >= 0.0:
                i = int(innermost[w])
                part[loops[i, LoopColumn.DIM], w] = min(factors[i, w], float(int(block_words)))


@kernel
def dead(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, store: Floats, places: Ints, keys: Ints, answers: Floats,
    missing: Ints, n_missing: Ints, loops: Ints, factors: Floats, level: int, t: int, on: int, frame: Ints,
    part: Floats, rows: Floats,
) -> None:  # fmt: skip
    """Fraction of the accesses to a tensor that serve only operations where some tensor of `on` is zero: `Row.DEAD`."""
    block, child = store[level, LevelColumn.BLOCK_WORDS], frame[level, FrameColumn.OUTER + len(tensors) + t]
    window(
        tensors[t, TensorColumn.RELEVANT], block, loops, factors, frame, level, child, part, rows[Row.RESIDENT],
        rows[Row.INNERMOST],
    )  # fmt: skip
    out, lost = rows[Row.DEAD], rows[Row.EMPTY]
    compressed = places[level, t, PlaceColumn.COMPRESSED]
    measured = False
    fill(1.0, out)
    for c in range(len(tensors)):
        if on >> c & 1:
            measured = measured or tensors[c, TensorColumn.DENSITY_KIND] == DensityKind.ASKED
            empty(tensors, words, axes, odds, keys, answers, missing, n_missing, c, part, lost)
            for w in range(len(out)):
                out[w] *= 1.0 - lost[w]
    joint = compressed != 0 and tensors[t, TensorColumn.DENSITY_KIND] == DensityKind.ASKED
    if measured and (joint or on & (on - 1) != 0):
        everything = (1 << len(part)) - 1
        for w in range(len(out)):
            at = ask(keys, missing, n_missing, Question.LIVE, t, on, compressed, part, everything, w)
            out[w] = answers[at, 0] if at >= 0 else 1.0
    for w in range(len(out)):
        out[w] = 1.0 - out[w]


@kernel
def save(
    places: Ints, level: int, t: int, output: int, fraction: Floats, state: int, rounding: int, counts: Floats,
    metadata: Floats,
) -> None:  # fmt: skip
    """Move a fraction of the accesses from the actual ones to the gated (1) or skipped (2); 0: they vanish.

    Those that vanish take the fills with them: a level outside no longer sends the words.
    """
    reductions = counts[level, t, Count.REDUCTIONS]
    for access in range(3):
        if access == 1 and state != 0:
            continue
        actual = counts[level, t, Count.ACTUAL_READS + access]
        saved = counts[level, t, Count.ACTUAL_READS + 3 * state + access]
        raised = t == output and access == 0 and state != 0
        for w in range(len(fraction)):
            before = actual[w]
            moved = before * fraction[w]
            moved = min(up(moved, rounding) if raised else down(moved, rounding), before)
            actual[w] = before - moved
            if state > 0:
                saved[w] += moved
            if access == 2 and before > 0.0:
                reductions[w] = up(reductions[w] * actual[w] / before, rounding)
        for r in range(places[level, t, PlaceColumn.N_RANKS]):
            for part in range(2):
                held = metadata[level, t, r, 0, access, part]
                idle = metadata[level, t, r, state, access, part]
                for w in range(len(fraction)):
                    moved = down(held[w] * fraction[w], rounding)
                    held[w] -= moved
                    if state > 0:
                        idle[w] += moved


@kernel
def acting_level(stored: Ints, frame: Ints, t: int, level: int) -> int:
    """Where an action on a tensor takes place: at the level, or at the next one outside that keeps the tensor."""
    return level if stored[level, t] != 0 else frame[level, FrameColumn.OUTER + t]


@kernel
def choose(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, store: Floats, places: Ints, actions: Ints, keys: Ints,
    answers: Floats, missing: Ints, n_missing: Ints, loops: Ints, factors: Floats, stored: Ints, level: int, first: int,
    last: int, frame: Ints, part: Floats, notes: Ints, rows: Floats, counts: Floats,
) -> None:  # fmt: skip
    """Which option of an action saves most energy, in `Note.CHOICE`, and the fraction it saves, in `Row.BEST`."""
    choice, saving, best, fraction = notes[Note.CHOICE], rows[Row.SAVING], rows[Row.BEST], rows[Row.DEAD]
    fill(-1.0, saving)
    for k in range(first, last):
        t = actions[k, ActionColumn.TARGET]
        at = acting_level(stored, frame, t, actions[k, ActionColumn.LEVEL])
        if at != level or actions[k, ActionColumn.CODE] > ActionCode.SKIP:
            continue
        dead(
            tensors, words, axes, odds, store, places, keys, answers, missing, n_missing, loops, factors, at, t,
            actions[k, ActionColumn.ON], frame, part, rows,
        )  # fmt: skip
        price = store[at, LevelColumn.CHARGES] / store[at, LevelColumn.BLOCK_WORDS]
        held = counts[at, t, Count.OCCUPANCY_MEAN]
        for w in range(len(choice)):
            gain = price * held[w] * fraction[w]
            better = gain > saving[w]
            saving[w] = gain if better else saving[w]
            best[w] = fraction[w] if better else best[w]
            choice[w] = k if better else choice[w]


@kernel
def take(
    places: Ints, level: int, t: int, output: int, k: int, code: int, rounding: int, per_tensor: Floats, notes: Ints,
    rows: Floats, counts: Floats, metadata: Floats,
) -> None:  # fmt: skip
    """Take an option in the lanes that chose it; what a level outside saves already is not saved again."""
    saved, own = per_tensor[PerTensor.SAVED, t], per_tensor[PerTensor.OWN, t]
    choice, best, fraction = notes[Note.CHOICE], rows[Row.BEST], rows[Row.FRACTION]
    for w in range(len(fraction)):
        taken = best[w] if choice[w] == k else 0.0
        own[w] = max(own[w], taken)
        rest = 1.0 - saved[w]
        fraction[w] = max(0.0, 1.0 - (1.0 - taken) / rest) if rest > 0.0 else 0.0
    save(places, level, t, output, fraction, 1 + code, rounding, counts, metadata)


@kernel
def gate_and_skip(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, store: Floats, places: Ints, actions: Ints, keys: Ints,
    answers: Floats, missing: Ints, n_missing: Ints, output: int, loops: Ints, factors: Floats, stored: Ints,
    rounding: int, frame: Ints, boxes: Floats, per_tensor: Floats, notes: Ints, rows: Floats, counts: Floats,
    metadata: Floats,
) -> None:  # fmt: skip
    """Gating and skipping at storage; a level inside loses what a level outside no longer sends."""
    levels, n_tensors = stored.shape
    acted = 0  # tensors that an action at a level outside has met
    fill_box(0.0, per_tensor[PerTensor.SAVED])
    for level in range(levels):
        fill_box(0.0, per_tensor[PerTensor.OWN])
        for t in range(n_tensors):
            if stored[level, t] != 0 and acted >> t & 1:
                save(places, level, t, output, per_tensor[PerTensor.SAVED, t], NONE, rounding, counts, metadata)
        first = 0
        while first < len(actions):
            last = first + 1
            while (
                last < len(actions)
                and actions[last, ActionColumn.LEVEL] == actions[first, ActionColumn.LEVEL]
                and actions[last, ActionColumn.GROUP] == actions[first, ActionColumn.GROUP]
            ):
                last += 1
            choose(
                tensors, words, axes, odds, store, places, actions, keys, answers, missing, n_missing, loops, factors,
                stored, level, first, last, frame, boxes[Box.PART], notes, rows, counts,
            )  # fmt: skip
            for k in range(first, last):
                t, code = actions[k, ActionColumn.TARGET], actions[k, ActionColumn.CODE]
                if code <= ActionCode.SKIP and level == acting_level(stored, frame, t, actions[k, ActionColumn.LEVEL]):
                    acted |= 1 << t
                    take(places, level, t, output, k, code, rounding, per_tensor, notes, rows, counts, metadata)
            first = last
        for t in range(n_tensors):
            if acted >> t & 1:
                saved, own = per_tensor[PerTensor.SAVED, t], per_tensor[PerTensor.OWN, t]
                for w in range(len(saved)):
                    saved[w] = max(saved[w], own[w])
