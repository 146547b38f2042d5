"""Compiled: formats. Which loops a rank stands for, and the metadata of a tile, by rank of its fiber tree."""

from __future__ import annotations

from numba import njit

from simsparse.dataflow._arrays import (
    Asked,
    Count,
    Counts,
    DensityArrays,
    DensityKind,
    Floats,
    Ints,
    LoopColumn,
    MachineArrays,
    ProblemArrays,
    RankCode,
    Scratch,
)
from simsparse.dataflow._dense import kept_inside, volume
from simsparse.dataflow._occupancy import empty, empty_of_fullest
from simsparse.dataflow.rounding import up


@njit(cache=True)
def take_loops(
    machine: MachineArrays, loops: Ints, level: int, t: int, lower: int, n_own: int, scratch: Scratch
) -> None:
    """Give the `n_own` loops of `scratch.own_loops` (outermost first) to the ranks above the `lower` inherited ones."""
    ranks = machine.n_ranks[level, t]
    inner_first = machine.inner_first[level, t] != 0
    for r in range(lower, ranks):
        scratch.fiber[level, t, r] = 1.0
        scratch.below[level, t, r, 0] = -1  # first and last loop for now
        scratch.below[level, t, r, 1] = -1
    taken = 0
    for turn in range(lower, ranks):
        r = turn if inner_first else ranks - 1 - (turn - lower)
        dims = machine.rank_dims[level, t, r]
        last = turn == ranks - 1
        while taken < n_own:
            i = scratch.own_loops[n_own - 1 - taken] if inner_first else scratch.own_loops[taken]
            if dims != 0 and not dims >> loops[i, LoopColumn.DIM] & 1 and not last:
                break
            scratch.fiber[level, t, r] *= loops[i, LoopColumn.FACTOR]
            outer, inner = scratch.below[level, t, r, 0], scratch.below[level, t, r, 1]
            scratch.below[level, t, r, 0] = i if outer < 0 else min(i, outer)
            scratch.below[level, t, r, 1] = i if inner < 0 else max(i, inner)
            taken += 1
            if dims == 0 and not last:
                break


@njit(cache=True)
def fiber_tree(
    problem: ProblemArrays, machine: MachineArrays, loops: Ints, n_loops: int, stored: Ints, level: int, t: int,
    scratch: Scratch,
) -> None:  # fmt: skip
    """Fibers, spans and sub-tiles of each rank of a level; those of the levels inside are known."""
    levels = len(stored)
    dims = scratch.extents.shape[1]
    ranks = machine.n_ranks[level, t]
    child = kept_inside(stored, t, level)
    box = scratch.box
    box[:] = 1
    lower = 0
    end = n_loops if child == levels else scratch.start[child]
    if child < levels and machine.compressed[level, t] != 0 and volume(problem, t, scratch.extents[child]) > 1.0:
        lower = machine.n_ranks[child, t]
        if lower == 0:
            lower = 1
            scratch.fiber[level, t, 0] = volume(problem, t, scratch.extents[child])
            scratch.span[level, t, 0, :] = scratch.extents[child]
            scratch.below[level, t, 0, :] = 1
        else:
            lower = min(lower, ranks)
            for r in range(lower):
                scratch.fiber[level, t, r] = scratch.fiber[child, t, r]
                scratch.span[level, t, r, :] = scratch.span[child, t, r]
                scratch.below[level, t, r, :] = scratch.below[child, t, r]
        box[:] = scratch.extents[child]
    elif child < levels:
        # Extents inside fold into the innermost own loop of their dimension.
        end = n_loops
    n_own = 0
    for i in range(scratch.start[level], end):
        if problem.relevant[t] >> loops[i, LoopColumn.DIM] & 1:
            scratch.own_loops[n_own] = i
            n_own += 1
    if lower == ranks:
        # No rank is left for the own loops: the outermost inherited one takes them.
        for k in range(n_own - 1, -1, -1):
            i = scratch.own_loops[k]
            scratch.fiber[level, t, ranks - 1] *= loops[i, LoopColumn.FACTOR]
            box[loops[i, LoopColumn.DIM]] *= loops[i, LoopColumn.FACTOR]
        scratch.span[level, t, ranks - 1, :] = box
        return
    take_loops(machine, loops, level, t, lower, n_own, scratch)
    for r in range(lower, ranks):
        outer, inner = scratch.below[level, t, r, 0], scratch.below[level, t, r, 1]
        if scratch.fiber[level, t, r] == 1.0:
            scratch.span[level, t, r, :] = 1
            scratch.below[level, t, r, :] = 1
            continue
        for d in range(dims):
            scratch.span[level, t, r, d] = box[d]
            scratch.below[level, t, r, d] = box[d]
        for i in range(inner, outer - 1, -1):
            box[loops[i, LoopColumn.DIM]] *= (
                loops[i, LoopColumn.FACTOR] if problem.relevant[t] >> loops[i, LoopColumn.DIM] & 1 else 1
            )
        scratch.span[level, t, r, :] = box


@njit(cache=True)
def tile_metadata(
    problem: ProblemArrays, density: DensityArrays, machine: MachineArrays, asked: Asked, level: int, t: int,
    fullest: bool, rounding: int, scratch: Scratch, result: Counts, out: Floats,
) -> None:  # fmt: skip
    """Metadata and payload words of each rank of a tile, shape (R, 2): the mean tile's, or the fullest one's."""
    ranks = machine.n_ranks[level, t]
    inner_first = machine.inner_first[level, t] != 0
    tile, most = result.counts[level, t, Count.TILE], result.counts[level, t, Count.OCCUPANCY_MAX]
    kind = density.kind[t]
    fibers = 1.0
    innermost = -1
    for r in range(ranks - 1, -1, -1):
        shape = scratch.fiber[level, t, r]
        out[r, 0] = out[r, 1] = 0.0
        if shape == 1.0 and not (r == 0 and inner_first) and not (r == ranks - 1 and not inner_first):
            continue
        innermost = r
        if fullest:
            span_empty = empty_of_fullest(kind, tile, most, volume(problem, t, scratch.span[level, t, r]))
            below_empty = empty_of_fullest(kind, tile, most, volume(problem, t, scratch.below[level, t, r]))
        else:
            span_empty = empty(problem, density, asked, t, scratch.span[level, t, r])
            below_empty = empty(problem, density, asked, t, scratch.below[level, t, r])
        code = machine.rank_code[level, t, r]
        if code == RankCode.UOP:
            out[r, 1] = fibers * (1.0 - span_empty) * (shape + 1.0)
        elif code == RankCode.B:
            out[r, 0] = fibers * (1.0 - span_empty) * shape
            # The reference rounds the nonempty coordinates up, and takes them for independent of the fiber's being there.
            out[r, 1] = fibers * shape * (1.0 - below_empty)
            if rounding != 0:
                out[r, 1] = fibers * (1.0 - span_empty) * up(shape * (1.0 - below_empty), rounding)
        else:
            out[r, 0] = out[r, 1] = fibers * shape * (1.0 - below_empty)
        fibers *= shape
    if innermost >= 0:
        out[innermost, 1] = 0.0
    if fullest and kind == DensityKind.ASKED and innermost == 0 and machine.rank_code[level, t, 0] > RankCode.B:
        out[0, 0] = most
