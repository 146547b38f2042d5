"""Compiled: factors that multiply to more than an extent: what lies beyond it does not exist.

A loop of factor f over tiles of `step` words runs f times, but for the last time around. Dense counts take its mean
number of trips instead, ⌈E/step⌉ / ⌈E/(step · f)⌉ for an extent of E: products of it over outer loops are the
iterations that are not empty, over inner loops the mean extents of tiles. Where factors multiply to the extent it is f.
"""

from __future__ import annotations

import math

from simsparse.dataflow._arrays import Floats, FrameColumn, Ints, LoopColumn
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._lanes import copy


@kernel
def is_clipped(sizes: Floats, whole: Floats) -> bool:
    """Whether the loops of any lane cover more than the problem."""
    for d in range(len(sizes)):
        for w in range(whole.shape[1]):
            if whole[d, w] != sizes[d]:
                return True
    return False


@kernel
def mean_trips(loops: Ints, factors: Floats, sizes: Floats, step: Floats, trips: Floats) -> None:
    """Mean trips of each loop."""
    for i in range(len(loops)):
        size = sizes[loops[i, LoopColumn.DIM]]
        for w in range(trips.shape[1]):
            trips[i, w] = math.ceil(size / step[i, w]) / math.ceil(size / (step[i, w] * factors[i, w]))


@kernel
def cap(sizes: Floats, extents: Floats) -> None:
    """Full tiles are no larger than the problem."""
    for level in range(extents.shape[0]):
        for d in range(len(sizes)):
            for w in range(extents.shape[2]):
                extents[level, d, w] = min(extents[level, d, w], sizes[d])


@kernel
def walked(loops: Ints, factors: Floats, step: Floats, d: int, size: float, end: int, w: int) -> float:
    """Points of a dimension that the first instance under the spatial loops before `end` works through, which is the
    busiest."""
    rest, done, found = size, 0.0, False
    for i in range(len(loops)):
        if loops[i, LoopColumn.DIM] != d:
            continue
        found = True
        whole = 1.0  # points of a full tile
        for j in range(i + 1, len(loops)):
            if loops[j, LoopColumn.DIM] == d and (loops[j, LoopColumn.KIND] == 0 or j >= end):
                whole *= factors[j, w]
        if loops[i, LoopColumn.KIND] == 0 or i >= end:
            full = math.floor(rest / step[i, w])
            done += full * whole
            rest -= full * step[i, w]
        elif rest >= step[i, w]:
            done += whole
            rest = 0.0
    return done if found else 1.0


@kernel
def stretches(
    loops: Ints, factors: Floats, sizes: Floats, frame: Ints, step: Floats, instances: Floats, used: Floats,
    stretch: Floats,
) -> None:  # fmt: skip
    """Work of the busiest instance of each level, and of the compute, over that of the average one.

    Words of a level are averages over all its instances, operations over those that are not wholly beyond an edge.
    """
    for level in range(len(stretch)):
        out = stretch[level]
        copy(instances[level] if level < len(stretch) - 1 else used[level], out)
        for d in range(len(sizes)):
            for w in range(len(out)):
                out[w] *= walked(loops, factors, step, d, sizes[d], frame[level, FrameColumn.START], w)
        # Whole numbers until here: where nothing is clipped, exactly 1.
        for d in range(len(sizes)):
            for w in range(len(out)):
                out[w] /= sizes[d]
