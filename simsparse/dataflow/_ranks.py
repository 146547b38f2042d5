"""Compiled: formats. Which loops a rank stands for, and the metadata of a tile, by rank of its fiber tree.

`spans[level, t, r]` and `belows[level, t, r]` are the boxes that rank r spans, and that lie under one coordinate of it.
"""

from __future__ import annotations

import math

from simsparse.dataflow._arrays import (
    Box,
    Count,
    Floats,
    FrameColumn,
    Ints,
    LoopColumn,
    PlaceColumn,
    RankCode,
    TensorColumn,
)
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._lanes import copy, copy_box, fill_box
from simsparse.dataflow.rounding import NEAR


@kernel
def deal_out(kinds: Ints, inner_first: bool, loops: Ints, own: Ints, n_own: int, lower: int, ends: Ints) -> None:
    """Give own loops (outermost first) to the ranks above the `lower` inherited ones; the last rank takes what is left.

    A rank takes one loop, or all neighbouring loops over the dimensions it flattens; one that meets another dimension
    first stays trivial. `ends` gets the outermost and innermost loop of each rank, -1 for none.
    """
    ranks = len(ends)
    for r in range(lower, ranks):
        ends[r, 0] = ends[r, 1] = -1
    taken = 0
    for turn in range(lower, ranks):
        r = turn if inner_first else ranks - 1 - (turn - lower)
        dims = kinds[r, 1]
        final = turn == ranks - 1
        while taken < n_own:
            i = own[n_own - 1 - taken] if inner_first else own[taken]
            if dims != 0 and not dims >> loops[i, LoopColumn.DIM] & 1 and not final:
                break
            ends[r, 0] = i if ends[r, 0] < 0 else min(i, ends[r, 0])
            ends[r, 1] = max(i, ends[r, 1])
            taken += 1
            if dims == 0 and not final:
                break


@kernel
def inherit(
    level: int, t: int, child: int, ranks: int, child_ranks: int, w: int, extents: Floats, fibers: Floats,
    spans: Floats, belows: Floats, counts: Floats,
) -> int:  # fmt: skip
    """Take over the ranks of the child's tile, a tile without a format as one flat rank; gives how many."""
    dims = extents.shape[1]
    lower = min(ranks, child_ranks)
    for r in range(lower):
        fibers[level, t, r, w] = fibers[child, t, r, w]
        for d in range(dims):
            spans[level, t, r, d, w] = spans[child, t, r, d, w]
            belows[level, t, r, d, w] = belows[child, t, r, d, w]
    for r in range(lower, child_ranks):
        # Ranks that the level does not have are flattened into its last one.
        if fibers[child, t, r, w] == 1.0:
            continue
        for d in range(dims):
            spans[level, t, lower - 1, d, w] = spans[child, t, r, d, w]
            if fibers[level, t, lower - 1, w] == 1.0:
                belows[level, t, lower - 1, d, w] = belows[child, t, r, d, w]
        fibers[level, t, lower - 1, w] *= fibers[child, t, r, w]
    if lower == 0:
        lower = 1
        fibers[level, t, 0, w] = counts[child, t, Count.FULL_TILE, w]
        for d in range(dims):
            spans[level, t, 0, d, w] = extents[child, d, w]
            belows[level, t, 0, d, w] = 1.0
    return lower


@kernel
def fiber_tree(
    tensors: Ints, places: Ints, kinds: Ints, loops: Ints, factors: Floats, stored: Ints, level: int, t: int,
    frame: Ints, extents: Floats, boxes: Floats, own: Ints, ends: Ints, fibers: Floats, spans: Floats, belows: Floats,
    counts: Floats,
) -> None:  # fmt: skip
    """Fibers, spans and sub-tiles of each rank of a level; those of the levels inside are known.

    A compressed level hands on its child's tile as it is: the child's ranks are its lower ranks.
    """
    levels, n_tensors = stored.shape
    dims, lanes = extents.shape[1], extents.shape[2]
    ranks, relevant = places[level, t, PlaceColumn.N_RANKS], tensors[t, TensorColumn.RELEVANT]
    child = frame[level, FrameColumn.OUTER + n_tensors + t]
    handed_on = child < levels and places[level, t, PlaceColumn.COMPRESSED] != 0
    inner_first = places[level, t, PlaceColumn.INNER_FIRST] != 0
    box, own_ends = boxes[Box.BOX], ends[:ranks]
    child_ranks = places[child, t, PlaceColumn.N_RANKS] if child < levels else 0
    if ranks == 1 and child_ranks <= 1 and tensors[t, TensorColumn.SIMPLE] != 0:
        # One rank holds the whole tile, whatever its loops.
        copy(counts[level, t, Count.FULL_TILE], fibers[level, t, 0])
        copy_box(extents[level], spans[level, t, 0])
        fill_box(1.0, belows[level, t, 0])
        return
    first, fiber, span, below = frame[level, FrameColumn.START], fibers[level, t], spans[level, t], belows[level, t]
    for w in range(lanes):
        lower, end = 0, len(loops)
        inherits = handed_on and counts[child, t, Count.FULL_TILE, w] > 1.0
        if inherits:
            end = frame[child, FrameColumn.START]
            lower = inherit(level, t, child, ranks, child_ranks, w, extents, fibers, spans, belows, counts)
        for d in range(dims):
            box[d, w] = extents[child, d, w] if inherits else 1.0
        n_own = 0
        for i in range(first, end):
            if relevant >> loops[i, LoopColumn.DIM] & 1 and factors[i, w] > 1.0:
                own[n_own] = i
                n_own += 1
        if lower == ranks:
            # No rank is left for the own loops: the outermost inherited one takes them.
            for d in range(dims):
                below[ranks - 1, d, w] = box[d, w] if fiber[ranks - 1, w] == 1.0 else below[ranks - 1, d, w]
            for k in range(n_own - 1, -1, -1):
                fiber[ranks - 1, w] *= factors[own[k], w]
                box[loops[own[k], LoopColumn.DIM], w] *= factors[own[k], w]
            for d in range(dims):
                span[ranks - 1, d, w] = box[d, w]
            continue
        deal_out(kinds[level, t], inner_first, loops, own, n_own, lower, own_ends)
        for r in range(lower, ranks):
            trivial = ends[r, 0] < 0
            fiber[r, w] = 1.0
            for d in range(dims):
                below[r, d, w] = 1.0 if trivial else box[d, w]
            if not trivial:
                for i in range(ends[r, 1], ends[r, 0] - 1, -1):
                    if relevant >> loops[i, LoopColumn.DIM] & 1:
                        fiber[r, w] *= factors[i, w]
                        box[loops[i, LoopColumn.DIM], w] *= factors[i, w]
            for d in range(dims):
                span[r, d, w] = 1.0 if trivial else box[d, w]


@kernel
def is_trivial(shape: float, r: int, ranks: int, inner_first: bool) -> bool:
    """A rank of one coordinate costs nothing, except that from which loops were dealt out."""
    return shape == 1.0 and r != (0 if inner_first else ranks - 1)


@kernel
def rank_words(
    code: int, above: float, shape: float, span_empty: float, below_empty: float, rounding: int
) -> tuple[float, float]:
    """Metadata and payload words of a rank, `above` fibers of `shape` coordinates each."""
    if code == RankCode.UOP:
        return 0.0, above * (1.0 - span_empty) * (shape + 1.0)
    occupied = above * shape * (1.0 - below_empty)
    if code != RankCode.B:
        return occupied, occupied
    if rounding != 0:
        # The reference rounds the nonempty coordinates up, and takes them for independent of the fiber's being there.
        occupied = above * (1.0 - span_empty) * math.ceil(shape * (1.0 - below_empty) - NEAR)
    return above * (1.0 - span_empty) * shape, occupied
