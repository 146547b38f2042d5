"""Compiled: dense traffic of mappings. Which words move, as if nothing were zero."""

from __future__ import annotations

from simsparse.dataflow._arrays import (
    Box,
    Count,
    Detail,
    Floats,
    FrameColumn,
    Ints,
    LoopColumn,
    Row,
    Stored,
    TensorColumn,
    WordColumn,
)
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._lanes import copy, copy_box, fill, fill_box, product, times
from simsparse.dataflow.rounding import down


@kernel
def survey(
    loops: Ints, factors: Floats, stored: Ints, frame: Ints, extents: Floats, step: Floats, outside: Floats,
    instances: Floats,
) -> None:  # fmt: skip
    """Where levels begin and who keeps what; extents at each level, steps of loops, products outside of them."""
    levels, n_tensors = stored.shape
    i = len(loops)
    frame[levels, FrameColumn.START] = frame[levels, FrameColumn.SPATIAL_START] = i
    for level in range(levels - 1, -1, -1):
        frame[level, FrameColumn.SPATIAL_START] = i
        met = 0  # dimensions that have a loop at this level
        while i > 0 and loops[i - 1, LoopColumn.LEVEL] == level:
            i -= 1
            d = loops[i, LoopColumn.DIM]
            extent = extents[level, d]
            if met >> d & 1:
                copy(extent, step[i])
                times(factors[i], extent)
            else:
                copy(extents[level + 1, d], step[i])
                product(extents[level + 1, d], factors[i], extent)
            met |= 1 << d
            if loops[i, LoopColumn.KIND] != 0:
                frame[level, FrameColumn.SPATIAL_START] = i
        frame[level, FrameColumn.START] = i
        for d in range(extents.shape[1]):
            if not met >> d & 1:
                copy(extents[level + 1, d], extents[level, d])
    for level in range(levels):
        copy(instances[level], instances[level + 1])
        for i in range(frame[level, FrameColumn.START], frame[level + 1, FrameColumn.START]):
            if loops[i, LoopColumn.KIND] == 0:
                product(outside[i], factors[i], outside[i + 1])
            else:
                copy(outside[i], outside[i + 1])
                times(factors[i], instances[level + 1])
    for t in range(n_tensors):
        outer, inner = -1, levels
        for level in range(levels + 1):
            frame[level, FrameColumn.OUTER + t] = outer
            if level < levels and stored[level, t] == Stored.KEPT:
                outer = level
        for level in range(levels, -1, -1):
            frame[level, FrameColumn.OUTER + n_tensors + t] = inner
            if level < levels and stored[level, t] == Stored.KEPT:
                inner = level


@kernel
def axis_extent(axes: Ints, t: int, axis: int, box: Floats, w: int) -> float:
    """Words along an axis of what a box of dimensions touches."""
    extent = 1.0
    for d in range(len(box)):
        extent += axes[t, axis, d] * (box[d, w] - 1.0)
    return extent


@kernel
def volume(tensors: Ints, axes: Ints, t: int, box: Floats, out: Floats) -> None:
    """Words of a tensor that a box of dimensions touches."""
    if tensors[t, TensorColumn.SIMPLE] == 0:
        for w in range(len(out)):
            out[w] = 1.0
            for axis in range(tensors[t, TensorColumn.N_AXES]):
                out[w] *= axis_extent(axes, t, axis, box, w)
        return
    relevant = tensors[t, TensorColumn.RELEVANT]
    before = -1  # the first relevant dimension, until there is a second one
    met = 0
    for d in range(len(box)):
        if not relevant >> d & 1:
            continue
        met += 1
        if met == 1:
            before = d
        elif met == 2:
            product(box[before], box[d], out)
        else:
            times(box[d], out)
    if met == 1:
        copy(box[before], out)
    elif met == 0:
        fill(1.0, out)


@kernel
def delivery(
    tensors: Ints, axes: Ints, t: int, loops: Ints, factors: Floats, end: int, words: Floats, box: Floats,
    step: Floats, outside: Floats, shift: Floats, out: Floats,
) -> None:  # fmt: skip
    """Words that one instance with a tile of `words`, which spans `box`, receives; its tile lies inside of loop `end`.

    The first tile comes whole. On an advance of a loop the tile moves by one step of it, all loops inside go back to
    their first iteration, and the words that the tile did not hold before are new.
    """
    if tensors[t, TensorColumn.SIMPLE] != 0:
        relevant = tensors[t, TensorColumn.RELEVANT]
        fill(1.0, out)
        for i in range(end):
            if loops[i, LoopColumn.KIND] == 0 and relevant >> loops[i, LoopColumn.DIM] & 1:
                factor, passes = factors[i], outside[i + 1]
                for w in range(len(out)):
                    # Both are loaded whatever the factor is, so that lanes run together.
                    before, after = out[w], passes[w]
                    out[w] = after if factor[w] > 1.0 else before
        times(words, out)
        return
    fill_box(0.0, shift)
    copy(words, out)
    for i in range(end - 1, -1, -1):
        if loops[i, LoopColumn.KIND] != 0:
            continue
        d = loops[i, LoopColumn.DIM]
        for w in range(len(out)):
            before = shift[d, w]
            shift[d, w] = before + step[i, w]
            overlap = 1.0
            for axis in range(tensors[t, TensorColumn.N_AXES]):
                moved = 0.0
                for e in range(len(box)):
                    moved += axes[t, axis, e] * shift[e, w]
                overlap *= max(0.0, axis_extent(axes, t, axis, box, w) - abs(moved))
            out[w] += (factors[i, w] - 1.0) * outside[i, w] * (words[w] - overlap)
            shift[d, w] = before - (factors[i, w] - 1.0) * step[i, w]


@kernel
def offset_on_axis(
    axes: Ints, t: int, axis: int, loops: Ints, factors: Floats, first: int, last: int, step: Floats, w: int, place: int
) -> float:
    """Offset along an axis of the `place`-th instance under the spatial loops from `first` to before `last`."""
    offset = 0.0
    for i in range(first, last):
        weight = axes[t, axis, loops[i, LoopColumn.DIM]]
        if weight != 0:
            factor = int(factors[i, w])
            offset += weight * step[i, w] * (place % factor)
            place //= factor
    return offset


@kernel
def distinct_on_axis(
    axes: Ints, t: int, axis: int, loops: Ints, factors: Floats, first: int, last: int, step: Floats, w: int
) -> float:
    """Distinct offsets along an axis over the spatial loops from `first` to before `last`."""
    only, mixed, places = -1, False, 1
    for i in range(first, last):
        d = loops[i, LoopColumn.DIM]
        if axes[t, axis, d] != 0 and factors[i, w] > 1.0:
            mixed = mixed or (only >= 0 and only != d)
            only = d
            places *= int(factors[i, w])
    if not mixed:
        return float(places)
    # Sums over several dimensions may coincide (p + r).
    distinct = 0.0
    for place in range(places):
        offset = offset_on_axis(axes, t, axis, loops, factors, first, last, step, w, place)
        earlier = 0
        while (
            earlier < place and offset_on_axis(axes, t, axis, loops, factors, first, last, step, w, earlier) != offset
        ):
            earlier += 1
        distinct += 1.0 if earlier == place else 0.0
    return distinct


@kernel
def times_distinct(
    tensors: Ints, axes: Ints, t: int, level: int, child: int, loops: Ints, factors: Floats, trips: Floats, frame: Ints,
    step: Floats, out: Floats,
) -> None:  # fmt: skip
    """Multiply by the distinct child tiles over the spatial loops from `level` on; equal ones are multicast."""
    for inner in range(level, child):
        first, last = frame[inner, FrameColumn.SPATIAL_START], frame[inner + 1, FrameColumn.START]
        if tensors[t, TensorColumn.SIMPLE] != 0:
            for i in range(first, last):
                if tensors[t, TensorColumn.RELEVANT] >> loops[i, LoopColumn.DIM] & 1:
                    times(trips[i], out)
        elif first < last:
            for axis in range(tensors[t, TensorColumn.N_AXES]):
                for w in range(len(out)):
                    out[w] *= distinct_on_axis(axes, t, axis, loops, factors, first, last, step, w)
            for i in range(first, last):
                if tensors[t, TensorColumn.RELEVANT] >> loops[i, LoopColumn.DIM] & 1:
                    for w in range(len(out)):
                        out[w] *= trips[i, w] / factors[i, w]


@kernel
def partitions(
    tensors: Ints, words: Floats, axes: Ints, t: int, loops: Ints, factors: Floats, rounding: int, frame: Ints,
    extents: Floats, box: Floats, whole: Floats, counts: Floats,
) -> None:  # fmt: skip
    """The part of a tensor that passes through one instance of each level."""
    fill(words[t, WordColumn.SIZE], counts[0, t, Count.PARTITION])
    for level in range(1, len(counts)):
        first, last = frame[level - 1, FrameColumn.SPATIAL_START], frame[level, FrameColumn.START]
        before, part, tile = (
            counts[level - 1, t, Count.PARTITION],
            counts[level, t, Count.PARTITION],
            counts[level, t, Count.TILE],
        )
        if first == last:
            copy(before, part)
            continue
        copy_box(extents[level], box)
        for i in range(first, last):
            times(factors[i], box[loops[i, LoopColumn.DIM]])
        volume(tensors, axes, t, box, whole)
        for w in range(len(part)):
            part[w] = down(before[w] * tile[w] / whole[w], rounding)


@kernel
def dense_counts(
    tensors: Ints, words: Floats, axes: Ints, output: int, loops: Ints, factors: Floats, trips: Floats, stored: Ints,
    rounding: int, detail: Detail, frame: Ints, extents: Floats, means: Floats, step: Floats, outside: Floats,
    instances: Floats, used: Floats, delivered: Floats, boxes: Floats, rows: Floats, counts: Floats,
) -> None:  # fmt: skip
    """Tile, partition, instances, reads, fills, updates of every tensor at every level.

    What does not occur in a loop order is 0 from the start.
    """
    levels, n_tensors = stored.shape
    for t in range(n_tensors):
        for level in range(levels):
            volume(tensors, axes, t, extents[level], counts[level, t, Count.FULL_TILE])
            volume(tensors, axes, t, means[level], counts[level, t, Count.TILE])
        if t == output or detail == Detail.ALL:
            partitions(
                tensors, words, axes, t, loops, trips, rounding, frame, means, boxes[Box.BOX], rows[Row.VOLUME], counts,
            )  # fmt: skip
        for level in range(levels - 1, -1, -1):
            tile, updates, fills = (
                counts[level, t, Count.TILE],
                counts[level, t, Count.UPDATES],
                counts[level, t, Count.FILLS],
            )
            reads, reductions = counts[level, t, Count.READS], counts[level, t, Count.REDUCTIONS]
            copy(instances[level], counts[level, t, Count.INSTANCES_MAX])
            copy(used[level], counts[level, t, Count.INSTANCES_MEAN])
            if stored[level, t] == 0:
                continue
            delivery(
                tensors, axes, t, loops, trips, frame[level, FrameColumn.START], tile, means[level], step, outside,
                boxes[Box.SHIFT], delivered[level, t],
            )  # fmt: skip
            if frame[level, FrameColumn.OUTER + t] >= 0:
                copy(delivered[level, t], fills)
            child = frame[level, FrameColumn.OUTER + n_tensors + t]
            moved = updates if t == output else reads
            copy(outside[len(loops)] if child == levels else delivered[child, t], moved)
            times_distinct(tensors, axes, t, level, child, loops, factors, trips, frame, step, moved)
            if stored[level, t] == Stored.STREAMED:
                copy(moved, fills)  # what passes is held by nobody
            if t == output:
                part = counts[level, t, Count.PARTITION]
                for w in range(len(moved)):
                    reads[w] = moved[w] - part[w]
                    reductions[w] = reads[w]
