"""Compiled: dense traffic of one mapping. Which words move, as if nothing were zero.

Arrays are those of `_arrays.Spec` and `_arrays.Scratch`, under their names there.
"""

from __future__ import annotations

from simsparse.dataflow._arrays import TILE_ROW, Count, Floats, Ints, LoopColumn, Stored, TensorColumn
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow.rounding import down


@kernel
def survey(
    loops: Ints, n_loops: int, extents: Ints, start: Ints, spatial_start: Ints, step: Ints, outside: Floats,
    instances: Floats,
) -> None:  # fmt: skip
    """Extents at each level, steps of loops, products outside of them."""
    levels, dims = len(spatial_start), extents.shape[1]
    for d in range(dims):
        extents[levels, d] = 1
    i = n_loops
    start[levels] = n_loops
    for level in range(levels - 1, -1, -1):
        for d in range(dims):
            extents[level, d] = extents[level + 1, d]
        spatial_start[level] = i
        while i > 0 and loops[i - 1, LoopColumn.LEVEL] == level:
            i -= 1
            d = loops[i, LoopColumn.DIM]
            step[i] = extents[level, d]
            extents[level, d] *= loops[i, LoopColumn.FACTOR]
            if loops[i, LoopColumn.KIND] != 0:
                spatial_start[level] = i
        start[level] = i
    outside[0] = 1.0
    instances[0] = 1.0
    for level in range(levels):
        instances[level + 1] = instances[level]
        for i in range(start[level], spatial_start[level]):
            outside[i + 1] = outside[i] * loops[i, LoopColumn.FACTOR]
        for i in range(spatial_start[level], start[level + 1]):
            outside[i + 1] = outside[i]
            instances[level + 1] *= loops[i, LoopColumn.FACTOR]


@kernel
def axis_extent(axes: Ints, t: int, axis: int, box: Ints, row: int) -> int:
    """Words along an axis of what a box of dimensions (a row of `box`) touches."""
    extent = 1
    for d in range(box.shape[1]):
        extent += axes[t, axis, d] * (box[row, d] - 1)
    return extent


@kernel
def volume(tensors: Ints, axes: Ints, t: int, box: Ints, row: int) -> float:
    """Words of a tensor that a box of dimensions touches."""
    words = 1.0
    if tensors[t, TensorColumn.SIMPLE] != 0:
        relevant = tensors[t, TensorColumn.RELEVANT]
        for d in range(box.shape[1]):
            if relevant >> d & 1:
                words *= box[row, d]
        return words
    for axis in range(tensors[t, TensorColumn.N_AXES]):
        words *= axis_extent(axes, t, axis, box, row)
    return words


@kernel
def delivery(
    tensors: Ints, axes: Ints, t: int, loops: Ints, end: int, extents: Ints, level: int, step: Ints, outside: Floats,
    shift: Ints,
) -> float:  # fmt: skip
    """Words that one instance of a child receives; its tile is `extents[level]` and lies inside of loop `end`.

    The first tile comes whole. On an advance of a loop the tile moves by one step of it, all loops inside go back to
    their first iteration, and the words that the tile did not hold before are new.
    """
    words = volume(tensors, axes, t, extents, level)
    if tensors[t, TensorColumn.SIMPLE] != 0:
        relevant = tensors[t, TensorColumn.RELEVANT]
        for i in range(end - 1, -1, -1):
            if loops[i, LoopColumn.KIND] == 0 and relevant >> loops[i, LoopColumn.DIM] & 1:
                return float(words * outside[i + 1])
        return words
    for d in range(len(shift)):
        shift[d] = 0
    total = words
    for i in range(end - 1, -1, -1):
        if loops[i, LoopColumn.KIND] != 0:
            continue
        d = loops[i, LoopColumn.DIM]
        factor = loops[i, LoopColumn.FACTOR]
        before = shift[d]
        shift[d] = before + step[i]
        overlap = 1.0
        for axis in range(tensors[t, TensorColumn.N_AXES]):
            moved = 0
            for e in range(len(shift)):
                moved += axes[t, axis, e] * shift[e]
            overlap *= max(0, axis_extent(axes, t, axis, extents, level) - abs(moved))
        total += (factor - 1) * outside[i] * (words - overlap)
        shift[d] = before - (factor - 1) * step[i]
    return total


@kernel
def offset_on_axis(axes: Ints, t: int, axis: int, loops: Ints, first: int, last: int, step: Ints, place: int) -> int:
    """Offset along an axis of the `place`-th instance under the spatial loops from `first` to before `last`."""
    offset = 0
    for i in range(first, last):
        weight = axes[t, axis, loops[i, LoopColumn.DIM]]
        if weight != 0:
            factor = loops[i, LoopColumn.FACTOR]
            offset += weight * step[i] * (place % factor)
            place //= factor
    return offset


@kernel
def distinct_on_axis(axes: Ints, t: int, axis: int, loops: Ints, first: int, last: int, step: Ints) -> float:
    """Distinct offsets along an axis over the spatial loops from `first` to before `last`."""
    on_axis, places = 0, 1
    for i in range(first, last):
        if axes[t, axis, loops[i, LoopColumn.DIM]] != 0:
            on_axis += 1
            places *= loops[i, LoopColumn.FACTOR]
    if on_axis < 2:
        return float(places)
    # Sums of several loops may coincide (p + r).
    distinct = 0.0
    for place in range(places):
        offset = offset_on_axis(axes, t, axis, loops, first, last, step, place)
        earlier = 0
        while earlier < place and offset_on_axis(axes, t, axis, loops, first, last, step, earlier) != offset:
            earlier += 1
        distinct += 1.0 if earlier == place else 0.0
    return distinct


@kernel
def distinct_tiles(
    tensors: Ints, axes: Ints, t: int, level: int, child: int, loops: Ints, start: Ints, spatial_start: Ints, step: Ints
) -> float:
    """Distinct child tiles over the spatial loops from `level` down to the child; equal ones are multicast."""
    tiles = 1.0
    relevant = tensors[t, TensorColumn.RELEVANT]
    for inner in range(level, child):
        first, last = spatial_start[inner], start[inner + 1]
        if first == last:
            continue
        if tensors[t, TensorColumn.SIMPLE] != 0:
            for i in range(first, last):
                if relevant >> loops[i, LoopColumn.DIM] & 1:
                    tiles *= loops[i, LoopColumn.FACTOR]
        else:
            for axis in range(tensors[t, TensorColumn.N_AXES]):
                tiles *= distinct_on_axis(axes, t, axis, loops, first, last, step)
    return tiles


@kernel
def kept_inside(stored: Ints, t: int, level: int) -> int:
    """The next level inside that keeps a tensor; the compute if none."""
    levels = len(stored)
    for child in range(level + 1, levels):
        if stored[child, t] == Stored.KEPT:
            return child
    return levels


@kernel
def kept_outside(stored: Ints, t: int, level: int) -> int:
    """The next level outside that keeps a tensor; -1 if none."""
    for parent in range(level - 1, -1, -1):
        if stored[parent, t] == Stored.KEPT:
            return parent
    return -1


@kernel
def partition(
    tensors: Ints, axes: Ints, t: int, level: int, whole: float, loops: Ints, rounding: int, extents: Ints, start: Ints,
    spatial_start: Ints, boxes: Ints,
) -> float:  # fmt: skip
    """Share of a level's instance, of the words `whole` that an instance one level outside has a share of."""
    for d in range(extents.shape[1]):
        boxes[0, d] = extents[level, d]
    for i in range(spatial_start[level - 1], start[level]):
        boxes[0, loops[i, LoopColumn.DIM]] *= loops[i, LoopColumn.FACTOR]
    return down(whole * volume(tensors, axes, t, extents, level) / volume(tensors, axes, t, boxes, TILE_ROW), rounding)


@kernel
def dense_counts(
    tensors: Ints, words: Floats, axes: Ints, output: int, loops: Ints, n_loops: int, stored: Ints, rounding: int,
    extents: Ints, start: Ints, spatial_start: Ints, step: Ints, outside: Floats, instances: Floats, boxes: Ints,
    shift: Ints, counts: Floats,
) -> None:  # fmt: skip
    """Tile, partition, instances, reads, fills, updates of every tensor at every level."""
    levels, n_tensors = stored.shape
    for t in range(n_tensors):
        share = words[t, 0]
        received = 0.0  # by an instance of the level, from outside
        for level in range(levels):
            if level > 0 and spatial_start[level - 1] < start[level]:
                share = partition(tensors, axes, t, level, share, loops, rounding, extents, start, spatial_start, boxes)
            counts[level, t, Count.PARTITION] = share
            counts[level, t, Count.INSTANCES_MAX] = instances[level]
            counts[level, t, Count.INSTANCES_MEAN] = instances[level]
            counts[level, t, Count.TILE] = volume(tensors, axes, t, extents, level)
            if stored[level, t] == Stored.BYPASSED:
                continue
            child = kept_inside(stored, t, level)
            if child == levels:
                moved = outside[n_loops]
            else:
                moved = delivery(tensors, axes, t, loops, start[child], extents, child, step, outside, shift)
            to_child = moved
            moved *= distinct_tiles(tensors, axes, t, level, child, loops, start, spatial_start, step)
            if stored[level, t] == Stored.STREAMED:
                counts[level, t, Count.FILLS] = moved
            else:
                counts[level, t, Count.FILLS] = received
                received = to_child
            counts[level, t, Count.READS] = moved
            counts[level, t, Count.UPDATES] = counts[level, t, Count.REDUCTIONS] = 0.0
            if t == output:
                counts[level, t, Count.UPDATES] = moved
                counts[level, t, Count.READS] = counts[level, t, Count.REDUCTIONS] = moved - share
