"""Compiled: dense traffic of one mapping. Which words move, as if nothing were zero."""

from __future__ import annotations

from numba import njit

from simsparse.dataflow._arrays import Count, Counts, Ints, LoopColumn, ProblemArrays, Scratch, Stored
from simsparse.dataflow.rounding import down


@njit(cache=True)
def survey(loops: Ints, n_loops: int, scratch: Scratch) -> None:
    """Extents at each level, steps of loops, products outside of them."""
    levels = len(scratch.spatial_start)
    extents, step, outside = scratch.extents, scratch.step, scratch.outside
    dims = extents.shape[1]
    for d in range(dims):
        extents[levels, d] = 1
    i = n_loops
    for level in range(levels, -1, -1):
        if level < levels:
            for d in range(dims):
                extents[level, d] = extents[level + 1, d]
            scratch.spatial_start[level] = i
        while i > 0 and loops[i - 1, LoopColumn.LEVEL] == level:
            i -= 1
            d = loops[i, LoopColumn.DIM]
            step[i] = extents[level, d]
            extents[level, d] *= loops[i, LoopColumn.FACTOR]
            if loops[i, LoopColumn.KIND] != 0:
                scratch.spatial_start[level] = i
        scratch.start[level] = i
    outside[0] = 1.0
    scratch.instances[0] = 1.0
    level = 0
    spread = 1.0
    for i in range(n_loops):
        while level < loops[i, LoopColumn.LEVEL]:
            level += 1
            scratch.instances[level] = spread
        temporal = loops[i, LoopColumn.KIND] == 0
        outside[i + 1] = outside[i] * (loops[i, LoopColumn.FACTOR] if temporal else 1)
        if not temporal:
            spread *= loops[i, LoopColumn.FACTOR]
    while level < levels:
        level += 1
        scratch.instances[level] = spread


@njit(cache=True)
def axis_extent(problem: ProblemArrays, t: int, axis: int, box: Ints) -> int:
    """Words along an axis of what a box of dimensions touches."""
    extent = 1
    for d in range(len(box)):
        extent += problem.coefficients[t, axis, d] * (box[d] - 1)
    return extent


@njit(cache=True)
def volume(problem: ProblemArrays, t: int, box: Ints) -> float:
    """Words of a tensor that a box of dimensions touches."""
    words = 1.0
    if problem.simple[t]:
        for d in range(len(box)):
            if problem.relevant[t] >> d & 1:
                words *= box[d]
        return words
    for axis in range(problem.n_axes[t]):
        words *= axis_extent(problem, t, axis, box)
    return words


@njit(cache=True)
def delivery(problem: ProblemArrays, t: int, loops: Ints, end: int, box: Ints, scratch: Scratch) -> float:
    """Words that one instance of a child with tile `box` receives; its tile lies inside of loop `end`.

    The first tile comes whole. On an advance of a loop the tile moves by one step of it, all loops inside go back to
    their first iteration, and the words that the tile did not hold before are new.
    """
    words = volume(problem, t, box)
    outside = scratch.outside
    if problem.simple[t]:
        for i in range(end - 1, -1, -1):
            if loops[i, LoopColumn.KIND] == 0 and problem.relevant[t] >> loops[i, LoopColumn.DIM] & 1:
                return words * outside[i + 1]
        return words
    shift = scratch.shift
    shift[:] = 0
    total = words
    for i in range(end - 1, -1, -1):
        if loops[i, LoopColumn.KIND] != 0:
            continue
        d = loops[i, LoopColumn.DIM]
        factor = loops[i, LoopColumn.FACTOR]
        before = shift[d]
        shift[d] = before + scratch.step[i]
        overlap = 1.0
        for axis in range(problem.n_axes[t]):
            moved = 0
            for e in range(len(box)):
                moved += problem.coefficients[t, axis, e] * shift[e]
            overlap *= max(0, axis_extent(problem, t, axis, box) - abs(moved))
        total += (factor - 1) * outside[i] * (words - overlap)
        shift[d] = before - (factor - 1) * scratch.step[i]
    return total


@njit(cache=True)
def distinct_on_axis(
    problem: ProblemArrays, t: int, axis: int, loops: Ints, first: int, last: int, step: Ints
) -> float:
    """Distinct offsets along an axis over the spatial loops from `first` to before `last`."""
    counted = 0
    reach = 0
    only = 1
    for i in range(first, last):
        weight = problem.coefficients[t, axis, loops[i, LoopColumn.DIM]]
        if weight != 0 and loops[i, LoopColumn.KIND] != 0:
            counted += 1
            only = loops[i, LoopColumn.FACTOR]
            reach += weight * step[i] * (loops[i, LoopColumn.FACTOR] - 1)
    if counted < 2:
        return float(only)
    # Sums of several loops may coincide (p + r), so mark which are met.
    met = [False] * (reach + 1)
    met[0] = True
    for i in range(first, last):
        weight = problem.coefficients[t, axis, loops[i, LoopColumn.DIM]]
        if weight == 0 or loops[i, LoopColumn.KIND] == 0:
            continue
        stride = weight * step[i]
        for offset in range(reach, -1, -1):
            if met[offset]:
                for k in range(1, loops[i, LoopColumn.FACTOR]):
                    met[offset + k * stride] = True
    distinct = 0
    for offset in range(reach + 1):
        distinct += met[offset]
    return float(distinct)


@njit(cache=True)
def distinct_tiles(problem: ProblemArrays, t: int, level: int, child: int, loops: Ints, scratch: Scratch) -> float:
    """Distinct child tiles over the spatial loops from `level` down to the child; equal ones are multicast."""
    tiles = 1.0
    for inner in range(level, child):
        first, last = scratch.spatial_start[inner], scratch.start[inner + 1]
        if first == last:
            continue
        if problem.simple[t]:
            for i in range(first, last):
                if problem.relevant[t] >> loops[i, LoopColumn.DIM] & 1:
                    tiles *= loops[i, LoopColumn.FACTOR]
        else:
            for axis in range(problem.n_axes[t]):
                tiles *= distinct_on_axis(problem, t, axis, loops, first, last, scratch.step)
    return tiles


@njit(cache=True)
def kept_inside(stored: Ints, t: int, level: int) -> int:
    """The next level inside that keeps a tensor; the compute if none."""
    levels = len(stored)
    for child in range(level + 1, levels):
        if stored[child, t] == Stored.KEPT:
            return child
    return levels


@njit(cache=True)
def kept_outside(stored: Ints, t: int, level: int) -> int:
    """The next level outside that keeps a tensor; -1 if none."""
    for parent in range(level - 1, -1, -1):
        if stored[parent, t] == Stored.KEPT:
            return parent
    return -1


@njit(cache=True)
def dense_counts(
    problem: ProblemArrays, loops: Ints, n_loops: int, stored: Ints, rounding: int, scratch: Scratch, result: Counts
) -> None:
    """Tile, partition, instances, reads, fills, updates of every tensor at every level."""
    levels, tensors = stored.shape
    extents, box = scratch.extents, scratch.box
    for t in range(tensors):
        partition = problem.sizes[t]
        for level in range(levels):
            counts = result.counts[level, t]
            counts[Count.TILE] = volume(problem, t, extents[level])
            if level > 0:
                box[:] = extents[level]
                for i in range(scratch.spatial_start[level - 1], scratch.start[level]):
                    box[loops[i, LoopColumn.DIM]] *= loops[i, LoopColumn.FACTOR]
                partition = down(partition * counts[Count.TILE] / volume(problem, t, box), rounding)
            counts[Count.PARTITION] = partition
            counts[Count.INSTANCES_MAX] = scratch.instances[level]
            counts[Count.INSTANCES_MEAN] = scratch.instances[level]
            counts[Count.READS] = counts[Count.FILLS] = counts[Count.UPDATES] = counts[Count.REDUCTIONS] = 0.0
            if stored[level, t] == 0:
                continue
            outer = kept_outside(stored, t, level)
            if outer >= 0:
                counts[Count.FILLS] = delivery(problem, t, loops, scratch.start[level], extents[level], scratch)
            child = kept_inside(stored, t, level)
            if child == levels:
                moved = scratch.outside[n_loops]
            else:
                moved = delivery(problem, t, loops, scratch.start[child], extents[child], scratch)
            moved *= distinct_tiles(problem, t, level, child, loops, scratch)
            if t == problem.output:
                counts[Count.UPDATES] = moved
                counts[Count.READS] = moved - partition
                counts[Count.REDUCTIONS] = counts[Count.READS]
            else:
                counts[Count.READS] = moved
