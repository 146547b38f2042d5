"""Tiles of a product: how many, what each moves, and the pace at which they pass; compiled.

A tile is (outputs, tokens, groups). The reduction is the innermost loop, so that sums never leave the chip; of the
other two the outer one is chosen, and a tile of A (or B) stays while the inner one runs, if the reduction is one tile.

With double buffering a tile is computed while the next one is loaded and the output before is stored, and whichever
takes longer sets the pace: `paced` adds that up. Tiles differ only at the ends of their loops, so that few are looked
at, however many there are. Every transfer costs memory `GAP_BYTES` besides its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel_models.fpga._array import Triple, cycles_of
from accel_models.fpga.columns import Mapping as Map
from accel_models.fpga.columns import Product
from accel_models.fpga.spec import Hardware as Hw
from simsparse.plan import Floats


@njit(cache=True)
def halved(extent: float, times: int, unit: float) -> float:
    """The extent halved, rounded up to whole units, never more than the extent."""
    return float(min(extent, math.ceil(extent / 2.0**times / unit) * unit))


@njit(cache=True)
def counts(p: Floats, tile: Triple) -> Triple:
    """Tiles along M, N and the reduction; a tile is (outputs, tokens, groups)."""
    groups = math.ceil(p[Product.K] / p[Product.GROUP])
    return math.ceil(p[Product.M] / tile[0]), math.ceil(p[Product.N] / tile[1]), math.ceil(groups / tile[2])


@njit(cache=True)
def tile_bytes(p: Floats, tile: Triple) -> Triple:
    """Bytes of a full tile of A and B in memory, and of the last tile of C."""
    tiles_m, tiles_n, _ = counts(p, tile)
    last_m, last_n = p[Product.M] - (tiles_m - 1.0) * tile[0], p[Product.N] - (tiles_n - 1.0) * tile[1]
    a = tile[0] * tile[2] * p[Product.A_READ_BYTES]
    b = min(tile[2] * p[Product.GROUP], p[Product.K]) * tile[1] * p[Product.B_BYTES]
    return a, b, last_m * last_n * p[Product.C_BYTES]


def staying(
    tiles_m: Floats, tiles_n: Floats, tiles_k: Floats, outer: Floats
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether a tile of A, and of B, stays until it is done with: the inner loop passes it, or it is the only one."""
    once = tiles_k == 1.0
    return once & ((outer == 0.0) | (tiles_m == 1.0)), once & ((outer == 1.0) | (tiles_n == 1.0))


stays_of: Callable[[float, float, float, float], tuple[bool, bool]] = njit(cache=True)(staying)


@njit(cache=True)
def reads(p: Floats, tile: Triple, outer: int) -> tuple[float, float]:
    """How often A and B are read: once where a tile stays until it is done with, else for each tile of the other."""
    tiles_m, tiles_n, tiles_k = counts(p, tile)
    a_stays, b_stays = stays_of(tiles_m, tiles_n, tiles_k, float(outer))
    return (1.0 if a_stays else float(tiles_n)), (1.0 if b_stays else float(tiles_m))


@njit(cache=True)
def traffic(p: Floats, a_reads: float, b_reads: float) -> Triple:
    """Bytes of A, B and C that cross the memory interface, over the batch."""
    groups = math.ceil(p[Product.K] / p[Product.GROUP])
    a = p[Product.BATCH] * p[Product.M] * groups * p[Product.A_READ_BYTES] * a_reads
    b = p[Product.BATCH] * p[Product.K] * p[Product.N] * p[Product.B_BYTES] * b_reads
    return a, b, p[Product.BATCH] * p[Product.M] * p[Product.N] * p[Product.C_BYTES]


@njit(cache=True)
def iteration(count: float, ends: int, at: int) -> tuple[float, float]:
    """Index of the `at`-th iteration that differs, and how many are like it: `ends` at either end of a loop differ."""
    if count <= 2.0 * ends + 1.0 or at < ends:
        return float(at), 1.0
    return (float(ends), count - 2.0 * ends) if at == ends else (count - 2.0 * ends - 1.0 + at, 1.0)


@njit(cache=True)
def last_extents(p: Floats, tile: Triple) -> Triple:
    """Outputs, tokens and groups of the last tile of each loop."""
    tiles_m, tiles_n, tiles_k = counts(p, tile)
    groups = math.ceil(p[Product.K] / p[Product.GROUP])
    return (
        p[Product.M] - (tiles_m - 1.0) * tile[0],
        p[Product.N] - (tiles_n - 1.0) * tile[1],
        groups - (tiles_k - 1.0) * tile[2],
    )


@njit(cache=True)
def paces(hw: Floats, p: Floats, held: float, tile: Triple, out: Floats) -> None:
    """Write the array's cycles for tiles that are full or last along outputs, tokens and reduction, (2, 2, 2)."""
    last = last_extents(p, tile)
    for m in range(2):
        for n in range(2):
            for k in range(2):
                # What is as large as a full tile was written before.
                whole_m, whole_n, whole_k = m * (last[0] < tile[0]), n * (last[1] < tile[1]), k * (last[2] < tile[2])
                if whole_m < m or whole_n < n or whole_k < k:
                    out[m, n, k] = out[whole_m, whole_n, whole_k]
                else:
                    extents = (last[0] if m else tile[0], last[1] if n else tile[1], last[2] if k else tile[2])
                    out[m, n, k] = cycles_of(hw, p[Product.KEPT], extents, held, extents[1], extents[2])[0]


@njit(cache=True)
def load(p: Floats, tile: Triple, tiles: Triple, last: Triple, stays: tuple[bool, bool], at: Triple) -> float:
    """Bytes that the tile at an index of each loop loads: what does not lie there already. No tile loads nothing."""
    outputs = last[0] if at[0] == tiles[0] - 1.0 else tile[0]
    tokens = last[1] if at[1] == tiles[1] - 1.0 else tile[1]
    groups = last[2] if at[2] == tiles[2] - 1.0 else tile[2]
    values = min(groups * p[Product.GROUP], p[Product.K] - at[2] * tile[2] * p[Product.GROUP])
    moved = 0.0
    if not stays[0] or at[1] == 0.0:
        moved += outputs * groups * p[Product.A_READ_BYTES]
    if not stays[1] or at[0] == 0.0:
        moved += values * tokens * p[Product.B_BYTES]
    if at[2] == tiles[2] - 1.0:
        moved += outputs * tokens * p[Product.FUSED_BYTES]
    return float(moved)


@njit(cache=True)
def paced(hw: Floats, p: Floats, tile: Triple, outer: int, skew: float, array: Floats) -> tuple[float, float]:
    """Cycles from the first tile on chip to the last one computed, with double buffering; and memory's lag at the end.

    The lag is what memory takes longer than the array while the last tile is computed.

    While a tile is computed (`array`, of `paces`; the first after `skew`) memory loads the next, and during the first
    step of an output it stores the one before; whichever takes longer sets the pace.
    """
    tiles, last = counts(p, tile), last_extents(p, tile)
    stays = stays_of(tiles[0], tiles[1], tiles[2], float(outer))
    outers, inners = (tiles[0], tiles[1]) if outer == 0 else (tiles[1], tiles[0])
    batch, total, gap, slack = p[Product.BATCH], 0.0, hw[Hw.GAP_BYTES], 0.0
    # Previous output, in the order of the loops; before the first there is none.
    stored = 0.0
    for of_batch in range(int(min(batch, 3.0))):
        b, alike_b = iteration(batch, 1, of_batch)
        for of_outer in range(int(min(outers, 5.0))):
            o, alike_o = iteration(outers, 2, of_outer)
            for of_inner in range(int(min(inners, 5.0))):
                i, alike_i = iteration(inners, 2, of_inner)
                m, n = (o, i) if outer == 0 else (i, o)
                # The output that follows, where there is one.
                next_i = i + 1.0 if i + 1.0 < inners else 0.0
                next_o = (o if next_i > 0.0 else o + 1.0) if o + 1.0 < outers or next_i > 0.0 else 0.0
                follows = next_i > 0.0 or next_o > 0.0 or b + 1.0 < batch
                after = (next_o, next_i, 0.0) if outer == 0 else (next_i, next_o, 0.0)
                of_last = gap + load(p, tile, tiles, last, stays, after) if follows else 0.0
                pace, alike = array[int(m == tiles[0] - 1.0), int(n == tiles[1] - 1.0)], alike_b * alike_o * alike_i
                for of_step in range(int(min(tiles[2], 5.0))):
                    k, alike_k = iteration(tiles[2], 2, of_step)
                    ahead = of_last
                    if k + 1.0 < tiles[2]:
                        ahead = gap + load(p, tile, tiles, last, stays, (m, n, k + 1.0))
                    moved = ahead + (stored if k == 0.0 else 0.0)
                    busy = pace[int(k == tiles[2] - 1.0)] + (skew if b + o + i + k == 0.0 else 0.0)
                    moving = moved / hw[Hw.DRAM_BYTES_PER_CYCLE]
                    total += alike * alike_k * max(busy, moving)
                    slack = max(0.0, moving - busy)
                outputs = last[0] if m == tiles[0] - 1.0 else tile[0]
                stored = outputs * (last[1] if n == tiles[1] - 1.0 else tile[1]) * p[Product.C_BYTES]
                stored += gap if stored > 0.0 else 0.0
    return total, slack


@njit(cache=True)
def paced_all(hardware: Floats, products: Floats, mapping: Floats, out: Floats) -> None:
    """Write `paced` of each mapped product, all on one machine or each on its own, (n, 2)."""
    array = np.zeros((2, 2, 2))
    for row in range(len(products)):
        hw, p, x = hardware[row if len(hardware) > 1 else 0], products[row], mapping[row]
        tile = (x[Map.TILE_M], x[Map.TILE_N], float(math.ceil(x[Map.TILE_K] / p[Product.GROUP])))
        paces(hw, p, x[Map.HELD], tile, array)
        out[row] = paced(hw, p, tile, int(x[Map.OUTER]), x[Map.SKEW_CYCLES], array)
