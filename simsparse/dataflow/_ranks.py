"""Compiled: formats. Which loops a rank stands for, and the metadata of a tile, by rank of its fiber tree.

`spans[level, t, r]` and `belows[level, t, r]` are the boxes that rank r spans, and that lie under one coordinate of it.
"""

from __future__ import annotations

import math

from simsparse.dataflow._arrays import Floats, Ints, LoopColumn, PlaceColumn, RankCode, TensorColumn
from simsparse.dataflow._dense import kept_inside, volume
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow.rounding import NEAR


@kernel
def own_loops(relevant: int, loops: Ints, first: int, end: int, own: Ints) -> int:
    """Note the loops over a tensor from `first` to before `end`; gives how many."""
    found = 0
    for i in range(first, end):
        if relevant >> loops[i, LoopColumn.DIM] & 1:
            own[found] = i
            found += 1
    return found


@kernel
def deal_out(
    ranks: int, inner_first: bool, kinds: Ints, level: int, t: int, loops: Ints, lower: int, n_own: int, own: Ints,
    fibers: Floats, firsts: Ints, lasts: Ints,
) -> None:  # fmt: skip
    """Give own loops (outermost first) to the ranks above the `lower` inherited ones; the last rank takes what is left.

    A rank takes one loop, or all neighbouring loops over the dimensions it flattens; one that meets another dimension
    first stays trivial.
    """
    for r in range(lower, ranks):
        fibers[level, t, r] = 1.0
        firsts[r] = lasts[r] = -1
    taken = 0
    for turn in range(lower, ranks):
        r = turn if inner_first else ranks - 1 - (turn - lower)
        dims = kinds[level, t, r, 1]
        final = turn == ranks - 1
        while taken < n_own:
            i = own[n_own - 1 - taken] if inner_first else own[taken]
            if dims != 0 and not dims >> loops[i, LoopColumn.DIM] & 1 and not final:
                break
            fibers[level, t, r] *= loops[i, LoopColumn.FACTOR]
            firsts[r] = i if firsts[r] < 0 else min(i, firsts[r])
            lasts[r] = max(i, lasts[r])
            taken += 1
            if dims == 0 and not final:
                break


@kernel
def fiber_tree(
    tensors: Ints, axes: Ints, places: Ints, kinds: Ints, loops: Ints, n_loops: int, stored: Ints, level: int, t: int,
    extents: Ints, start: Ints, boxes: Ints, own: Ints, firsts: Ints, lasts: Ints, fibers: Floats, spans: Ints,
    belows: Ints,
) -> None:  # fmt: skip
    """Fibers, spans and sub-tiles of each rank of a level; those of the levels inside are known.

    A compressed level hands on its child's tile as it is: the child's ranks are its lower ranks, a child without a
    format
    counts as one flat rank.
    """
    levels, dims = len(stored), extents.shape[1]
    ranks = places[level, t, PlaceColumn.N_RANKS]
    relevant = tensors[t, TensorColumn.RELEVANT]
    child = kept_inside(stored, t, level)
    lower, end = 0, n_loops
    for d in range(dims):
        boxes[0, d] = 1
    if (
        child < levels
        and places[level, t, PlaceColumn.COMPRESSED] != 0
        and volume(tensors, axes, t, extents, child) > 1.0
    ):
        lower, end = min(ranks, places[child, t, PlaceColumn.N_RANKS]), start[child]
        for r in range(lower):
            fibers[level, t, r] = fibers[child, t, r]
            for d in range(dims):
                spans[level, t, r, d], belows[level, t, r, d] = spans[child, t, r, d], belows[child, t, r, d]
        if lower == 0:
            lower = 1
            fibers[level, t, 0] = volume(tensors, axes, t, extents, child)
            for d in range(dims):
                spans[level, t, 0, d], belows[level, t, 0, d] = extents[child, d], 1
        for d in range(dims):
            boxes[0, d] = extents[child, d]
    n_own = own_loops(relevant, loops, start[level], end, own)
    if lower == ranks:
        # No rank is left for the own loops: the outermost inherited one takes them.
        for k in range(n_own - 1, -1, -1):
            fibers[level, t, ranks - 1] *= loops[own[k], LoopColumn.FACTOR]
            boxes[0, loops[own[k], LoopColumn.DIM]] *= loops[own[k], LoopColumn.FACTOR]
        for d in range(dims):
            spans[level, t, ranks - 1, d] = boxes[0, d]
        return
    inner_first = places[level, t, PlaceColumn.INNER_FIRST] != 0
    deal_out(ranks, inner_first, kinds, level, t, loops, lower, n_own, own, fibers, firsts, lasts)
    for r in range(lower, ranks):
        trivial = fibers[level, t, r] == 1.0
        for d in range(dims):
            belows[level, t, r, d] = 1 if trivial else boxes[0, d]
        if not trivial:
            for i in range(firsts[r], lasts[r] + 1):
                if relevant >> loops[i, LoopColumn.DIM] & 1:
                    boxes[0, loops[i, LoopColumn.DIM]] *= loops[i, LoopColumn.FACTOR]
        for d in range(dims):
            spans[level, t, r, d] = 1 if trivial else boxes[0, d]


@kernel
def is_trivial(fibers: Floats, level: int, t: int, r: int, ranks: int, inner_first: bool) -> bool:
    """A rank of one coordinate costs nothing, except that from which loops were dealt out."""
    return fibers[level, t, r] == 1.0 and r != (0 if inner_first else ranks - 1)


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
