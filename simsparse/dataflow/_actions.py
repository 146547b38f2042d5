"""Compiled: gating and skipping at storage, lanes left out, nonzeros packed by position."""

from __future__ import annotations

from simsparse.dataflow._arrays import (
    NONE,
    TILE_ROW,
    WINDOW_ROW,
    ActionCode,
    ActionColumn,
    Count,
    DensityKind,
    Floats,
    Ints,
    LevelColumn,
    LoopColumn,
    PlaceColumn,
    Question,
    TensorColumn,
    Total,
    WordColumn,
)
from simsparse.dataflow._dense import kept_inside, kept_outside
from simsparse.dataflow._formats import has_position
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._occupancy import ask, empty, fullest
from simsparse.dataflow.rounding import down, up


@kernel
def window(
    relevant: int,
    block_words: float,
    loops: Ints,
    n_loops: int,
    stored: Ints,
    level: int,
    t: int,
    start: Ints,
    boxes: Ints,
) -> None:
    """Fill row 1 of `boxes` with the operations that one access to a tensor at a level serves.

    The word stays in the child from one advance of a relevant temporal loop to the next, and is shared by all
    instances that spatial loops over other dimensions reach. Dimensions of the tensor itself are 1, or what a block of
    several words spans.
    """
    levels = len(stored)
    for d in range(boxes.shape[1]):
        boxes[1, d] = 1
    child = kept_inside(stored, t, level)
    resident = n_loops
    if child < levels:
        resident = 0
        for i in range(start[child] - 1, -1, -1):
            if loops[i, LoopColumn.KIND] == 0 and relevant >> loops[i, LoopColumn.DIM] & 1:
                resident = i + 1
                break
    innermost = -1
    for i in range(n_loops - 1, -1, -1):
        if relevant >> loops[i, LoopColumn.DIM] & 1:
            innermost = max(i, innermost)
        elif i >= (resident if loops[i, LoopColumn.KIND] == 0 else start[level]):
            boxes[1, loops[i, LoopColumn.DIM]] *= loops[i, LoopColumn.FACTOR]
    if innermost >= 0 and block_words > 1.0:
        boxes[1, loops[innermost, LoopColumn.DIM]] = min(loops[innermost, LoopColumn.FACTOR], int(block_words))


@kernel
def dead(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, store: Floats, places: Ints, keys: Ints, answers: Floats,
    missing: Ints, n_missing: Ints, loops: Ints, n_loops: int, stored: Ints, level: int, t: int, on: int, start: Ints,
    boxes: Ints,
) -> float:  # fmt: skip
    """Fraction of the accesses to a tensor that serve only operations in which some tensor of `on` is zero."""
    block = store[level, LevelColumn.BLOCK_WORDS]
    window(tensors[t, TensorColumn.RELEVANT], block, loops, n_loops, stored, level, t, start, boxes)
    compressed = places[level, t, PlaceColumn.COMPRESSED]
    measured = False
    live = 1.0
    for c in range(len(tensors)):
        if on >> c & 1:
            measured = measured or tensors[c, TensorColumn.DENSITY_KIND] == DensityKind.ASKED
            live *= 1.0 - empty(tensors, words, axes, odds, keys, answers, missing, n_missing, c, boxes, WINDOW_ROW)
    joint = compressed != 0 and tensors[t, TensorColumn.DENSITY_KIND] == DensityKind.ASKED
    if measured and (joint or on & (on - 1) != 0):
        everything = (1 << boxes.shape[1]) - 1
        at = ask(keys, missing, n_missing, Question.LIVE, t, on, compressed, boxes, WINDOW_ROW, everything)
        live = answers[at, 0] if at >= 0 else 1.0
    return 1.0 - live


@kernel
def save(
    places: Ints, level: int, t: int, output: int, fraction: float, state: int, rounding: int, counts: Floats,
    metadata: Floats,
) -> None:  # fmt: skip
    """Move a fraction of the accesses from the actual ones to the gated (1) or skipped (2); 0: they vanish.

    Those that vanish take the fills with them: a level outside no longer sends the words.
    """
    before = counts[level, t, Count.ACTUAL_UPDATES]
    for action in range(3):
        if action == 1 and state != 0:
            continue
        at = Count.ACTUAL_READS + action
        moved = counts[level, t, at] * fraction
        moved = up(moved, rounding) if t == output and action == 0 and state != 0 else down(moved, rounding)
        moved = min(moved, counts[level, t, at])
        counts[level, t, at] -= moved
        if state > 0:
            counts[level, t, at + 3 * state] += moved
        for r in range(places[level, t, PlaceColumn.N_RANKS]):
            for part in range(2):
                moved = down(metadata[level, t, r, 0, action, part] * fraction, rounding)
                metadata[level, t, r, 0, action, part] -= moved
                if state > 0:
                    metadata[level, t, r, state, action, part] += moved
    if before > 0.0:
        left = counts[level, t, Count.REDUCTIONS] * counts[level, t, Count.ACTUAL_UPDATES] / before
        counts[level, t, Count.REDUCTIONS] = up(left, rounding)


@kernel
def acting_level(stored: Ints, t: int, level: int) -> int:
    """Where an action on a tensor takes place: at the level, or at the next one outside that keeps the tensor."""
    return level if stored[level, t] != 0 else kept_outside(stored, t, level)


@kernel
def gate_and_skip(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, store: Floats, places: Ints, actions: Ints, keys: Ints,
    answers: Floats, missing: Ints, n_missing: Ints, output: int, loops: Ints, n_loops: int, stored: Ints,
    rounding: int,
    start: Ints, boxes: Ints, saved: Floats, counts: Floats, metadata: Floats,
) -> None:  # fmt: skip
    """Gating and skipping at storage; a level inside loses what a level outside no longer sends.

    Row 0 of `saved` is the fraction that each tensor has lost outside of a level, row 1 that at the level.
    """
    levels, n_tensors = stored.shape
    for t in range(n_tensors):
        saved[0, t] = saved[1, t] = 0.0
    for level in range(levels):
        for t in range(n_tensors):
            if stored[level, t] != 0 and saved[0, t] > 0.0:
                save(places, level, t, output, saved[0, t], NONE, rounding, counts, metadata)
        k = 0
        while k < len(actions):
            best, best_saving, best_dead = -1, -1.0, 0.0
            after = k
            while (
                after < len(actions)
                and actions[after, ActionColumn.LEVEL] == actions[k, ActionColumn.LEVEL]
                and actions[after, ActionColumn.GROUP] == actions[k, ActionColumn.GROUP]
            ):
                t = actions[after, ActionColumn.TARGET]
                at = acting_level(stored, t, actions[after, ActionColumn.LEVEL])
                if at == level and actions[after, ActionColumn.CODE] <= ActionCode.SKIP:
                    fraction = dead(
                        tensors, words, axes, odds, store, places, keys, answers, missing, n_missing, loops, n_loops,
                        stored,
                        at, t, actions[after, ActionColumn.ON], start, boxes,
                    )  # fmt: skip
                    price = store[at, LevelColumn.CHARGES] / store[at, LevelColumn.BLOCK_WORDS]
                    saving = price * counts[at, t, Count.OCCUPANCY_MEAN] * fraction
                    if saving > best_saving:
                        best, best_saving, best_dead = after, saving, fraction
                after += 1
            if best >= 0:
                t = actions[best, ActionColumn.TARGET]
                rest = 1.0 - saved[0, t]
                fraction = max(0.0, 1.0 - (1.0 - best_dead) / rest) if rest > 0.0 else 0.0
                state = 1 + actions[best, ActionColumn.CODE]
                save(places, level, t, output, fraction, state, rounding, counts, metadata)
                saved[1, t] = max(saved[1, t], best_dead)
            k = after
        for t in range(n_tensors):
            saved[0, t] = max(saved[0, t], saved[1, t])
            saved[1, t] = 0.0


@kernel
def spatial_conditions(actions: Ints, level: int) -> int:
    """Bit mask of the tensors whose zeros leave lanes out at a level."""
    on = 0
    for k in range(len(actions)):
        if actions[k, ActionColumn.LEVEL] == level and actions[k, ActionColumn.CODE] == ActionCode.SKIP_SPATIAL:
            on |= actions[k, ActionColumn.ON]
    return on


@kernel
def skip_lanes(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, places: Ints, actions: Ints, keys: Ints, answers: Floats,
    missing: Ints, n_missing: Ints, loops: Ints, stored: Ints, rounding: int, extents: Ints, start: Ints,
    spatial_start: Ints, instances: Floats, boxes: Ints, counts: Floats, totals: Floats,
) -> int:  # fmt: skip
    """Spatial skipping: instances under a spatial loop over zeros are not there. Gives the tensors whose zeros count.

    As many lanes are kept as the fullest fiber needs, and on average those of nonzero sub-tiles are busy.
    """
    levels, n_tensors = stored.shape
    used = 0
    shrink_max, shrink_mean = 1.0, 1.0
    for level in range(levels):
        if used != 0:
            for t in range(n_tensors):
                counts[level, t, Count.INSTANCES_MAX] = instances[level] * shrink_max
                # What is compressed itself has lost its empty tiles by leaving lanes out, once.
                whole = instances[level] if used >> t & 1 else counts[level, t, Count.INSTANCES_MEAN]
                counts[level, t, Count.INSTANCES_MEAN] = whole * shrink_mean
        on = spatial_conditions(actions, level)
        if on == 0:
            continue
        x, y, dense_x, dense_y = 1.0, 1.0, 1.0, 1.0
        done = 0
        for d in range(boxes.shape[1]):
            boxes[0, d] = extents[level + 1, d]
        for i in range(start[level + 1] - 1, spatial_start[level] - 1, -1):
            d, factor = loops[i, LoopColumn.DIM], loops[i, LoopColumn.FACTOR]
            most = float(factor)
            for c in range(n_tensors):
                source = kept_outside(stored, c, level + 1)
                if not on >> c & 1 or not tensors[c, TensorColumn.RELEVANT] >> d & 1 or source < 0:
                    continue
                if places[source, c, PlaceColumn.COMPRESSED] == 0:
                    continue
                if not done >> c & 1:
                    # The innermost loop says which sub-tiles are nonzero; outer ones contain them.
                    shrink_mean *= 1.0 - empty(
                        tensors, words, axes, odds, keys, answers, missing, n_missing, c, boxes, TILE_ROW
                    )
                boxes[0, d] *= factor
                most = min(most, fullest(tensors, words, axes, keys, answers, missing, n_missing, c, boxes, TILE_ROW))
                boxes[0, d] //= factor
                done |= 1 << c
            boxes[0, d] *= factor
            if loops[i, LoopColumn.KIND] == 1:
                x, dense_x = x * most, dense_x * factor
            else:
                y, dense_y = y * most, dense_y * factor
        used |= done
        shrink_max *= down(x, rounding) * down(y, rounding) / (dense_x * dense_y)
    totals[Total.INSTANCES_MAX] = instances[levels] * shrink_max
    totals[Total.INSTANCES_MEAN] = instances[levels] * shrink_mean
    return used


@kernel
def skip_positions(
    tensors: Ints, words: Floats, places: Ints, actions: Ints, keys: Ints, answers: Floats, missing: Ints,
    n_missing: Ints, output: int, loops: Ints, stored: Ints, rounding: int, extents: Ints, start: Ints,
    spatial_start: Ints, rounds: Floats, counts: Floats, totals: Floats,
) -> int:  # fmt: skip
    """Skipping by position: nonzeros of a tile are packed into as many lanes as the level has over the tensor.

    A tile with n nonzeros takes ⌈n/S⌉ rounds of S lanes; other operands are read once a round. Row 0 of `rounds` holds
    rounds over dense ones. Gives the tensors whose zeros are packed away.
    """
    levels, n_tensors = stored.shape
    used = 0
    for level in range(levels):
        here = 0
        for x in range(n_tensors):
            rounds[0, x] = 1.0
            if stored[level, x] == 0 or not has_position(actions, level, x):
                continue
            here |= 1 << x
            if places[level, x, PlaceColumn.COMPRESSED] == 0:
                continue
            relevant = tensors[x, TensorColumn.RELEVANT]
            lanes = 1
            for i in range(spatial_start[level], start[level + 1]):
                if relevant >> loops[i, LoopColumn.DIM] & 1:
                    lanes *= loops[i, LoopColumn.FACTOR]
            at = ask(keys, missing, n_missing, Question.LANES, x, lanes, NONE, extents, level, relevant)
            if at < 0:
                continue
            outer = kept_outside(stored, x, level)
            sent = outer >= 0 and places[outer, x, PlaceColumn.COMPRESSED] != 0
            rounds[0, x] = answers[at, 0 if sent else 1] / (counts[level, x, Count.TILE] / lanes)
            busy = answers[at, 2]
            if rounding == 0 and answers[at, 1] > 0.0:
                # Nonzeros over rounds; the reference has the mean over tiles of that ratio instead.
                busy = counts[level, x, Count.TILE] * words[x, WordColumn.DENSITY] / answers[at, 1]
            totals[Total.INSTANCES_MEAN] *= busy / lanes
        used |= here
        if here == 0:
            continue
        for x in range(n_tensors):
            if stored[level, x] == 0 or x == output:
                continue
            reads = counts[level, x, Count.READS]
            if places[level, x, PlaceColumn.COMPRESSED] != 0:
                reads *= words[x, WordColumn.DENSITY]
            for y in range(n_tensors):
                if y != x and here >> y & 1:
                    reads *= rounds[0, y]
            counts[level, x, Count.ACTUAL_READS] = up(reads, rounding)
    return used
