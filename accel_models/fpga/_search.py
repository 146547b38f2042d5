"""Offline scheduling: dataflow and tiles of each product by search, or by a fixed rule; compiled.

For every dataflow that is allowed, and every number of groups an element may hold, tiles are halvings of the extents
rounded up to what fills the array. A tile is taken if half of each buffer (all of it without double buffering) holds
it. What is minimised is the time of the combining rule in `pricing.py`, plus a small share of the time of the memory
traffic: of schedules about as fast, that with less traffic.

Without offline scheduling all products have one dataflow (weight-stationary, unless the machine has only the other), a
group an element, M as the outer loop, and the three extents halved alike until buffers hold a tile.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from accel_models.fpga._array import Triple, cycles_of
from accel_models.fpga._tiling import counts, halved, paced, paces, reads, tile_bytes, traffic
from accel_models.fpga.columns import Mapping as Map
from accel_models.fpga.columns import Product
from accel_models.fpga.spec import Hardware as Hw
from simsparse.plan import Floats


@njit(cache=True)
def objective(hw: Floats, busy: float, ends: float, moved: float) -> float:
    """What the search minimises, in cycles.

    `busy` is array and skew, or the pace that memory leaves them; `ends` (first and last tiles) and `moved` are bytes.
    """
    memory = moved / hw[Hw.DRAM_BYTES_PER_CYCLE]
    body = max(busy + ends / hw[Hw.DRAM_BYTES_PER_CYCLE], memory) if hw[Hw.DOUBLE] > 0.0 else busy + memory
    return float(body + hw[Hw.TRAFFIC_SHARE] * memory)


@njit(cache=True)
def least_time(hw: Floats, p: Floats, busy: float, tile: Triple) -> float:
    """What no tile of these tokens and groups, and of `tile[0]` outputs or more, can beat.

    B is read at least once, and A too if one tile holds the whole reduction.
    """
    _, tiles_n, tiles_k = counts(p, tile)
    a, b, c = traffic(p, 1.0 if tiles_k == 1.0 else float(tiles_n), 1.0)
    a_tile, b_tile, _ = tile_bytes(p, tile)
    return float(objective(hw, busy, a_tile + b_tile, a + b + c))


@njit(cache=True)
def units(hw: Floats, held: float) -> Triple:
    """Outputs, tokens and groups that fill the array."""
    if held == 0.0:
        return hw[Hw.ROWS], hw[Hw.COLS] * hw[Hw.DEPTH], hw[Hw.ROWS]
    return hw[Hw.COLS], hw[Hw.DEPTH], hw[Hw.ROWS] * held


@njit(cache=True)
def fits_activations(hw: Floats, p: Floats, tile_n: float, tile_g: float) -> bool:
    """Whether the buffer of B holds a tile, or two of them with double buffering."""
    copies = 2.0 if hw[Hw.DOUBLE] > 0.0 else 1.0
    values = min(tile_g * p[Product.GROUP], p[Product.K]) * tile_n
    return bool(copies * values * p[Product.B_BYTES] <= hw[Hw.ACTIVATION_BUFFER])


@njit(cache=True)
def fits(hw: Floats, p: Floats, tile: Triple) -> bool:
    """Whether the buffers of A and of sums hold a tile."""
    copies = 2.0 if hw[Hw.DOUBLE] > 0.0 else 1.0
    a, sums = tile[0] * tile[2] * p[Product.A_GROUP_BYTES], tile[0] * tile[1] * p[Product.SUM_BYTES]
    return bool(copies * a <= hw[Hw.WEIGHT_BUFFER] and copies * sums <= hw[Hw.OUTPUT_BUFFER])


@njit(cache=True)
def fixed_tiles(hw: Floats, p: Floats, held: float, best: Floats) -> None:
    """The tiles of the fixed rule, in `best` as of `search_tiles`."""
    unit_m, unit_n, unit_g = units(hw, held)
    groups = float(math.ceil(p[Product.K] / p[Product.GROUP]))
    for level in range(64):
        tile = (halved(p[Product.M], level, unit_m), halved(p[Product.N], level, unit_n), halved(groups, level, unit_g))
        if fits(hw, p, tile) and fits_activations(hw, p, tile[1], tile[2]):
            best[1], best[2], best[3], best[4], best[5] = held, tile[0], tile[1], tile[2], 0.0
            break


@njit(cache=True)
def search_tiles(hw: Floats, p: Floats, held: float, best: Floats) -> None:
    """Try all tiles of one dataflow; `best` holds time, held, tile (outputs, tokens, groups) and outer loop."""
    unit_m, unit_n, unit_g = units(hw, held)
    groups = float(math.ceil(p[Product.K] / p[Product.GROUP]))
    last_n = 0.0
    for level_n in range(64):
        tile_n = halved(p[Product.N], level_n, unit_n)
        if tile_n == last_n:
            break
        last_n, last_g = tile_n, 0.0
        for level_g in range(64):
            tile_g = halved(groups, level_g, unit_g)
            if tile_g == last_g:
                break
            last_g = tile_g
            if not fits_activations(hw, p, tile_n, tile_g):
                continue
            steady, _, _, once = cycles_of(
                hw, p[Product.KEPT], (p[Product.M], p[Product.N], groups), held, tile_n, tile_g
            )
            busy = p[Product.BATCH] * steady + once
            least = (min(unit_m, p[Product.M]), tile_n, tile_g)
            if least_time(hw, p, busy, least) < best[0]:
                search_outputs(hw, p, held, busy, once, (unit_m, tile_n, tile_g), best)


@njit(cache=True)
def search_outputs(hw: Floats, p: Floats, held: float, busy: float, skew: float, least: Triple, best: Floats) -> None:
    """Try tiles of more or fewer outputs, and both outer loops; `least` has the fewest outputs that fill the array.

    `skew` is a part of `busy`.
    """
    unit_m, tile_n, tile_g = least
    array, gap = np.zeros((2, 2, 2)), hw[Hw.GAP_BYTES]
    last_m = 0.0
    for level in range(64):
        tile_m = halved(p[Product.M], level, unit_m)
        if tile_m == last_m:
            break
        last_m = tile_m
        tile, known = (tile_m, tile_n, tile_g), False
        if not fits(hw, p, tile):
            continue
        a_tile, b_tile, c_tile = tile_bytes(p, tile)
        tiles_m, tiles_n, tiles_k = counts(p, tile)
        transfers = p[Product.BATCH] * tiles_m * tiles_n * (tiles_k + 1.0)
        for outer in range(2):
            a_reads, b_reads = reads(p, tile, outer)
            a, b, c = traffic(p, a_reads, b_reads)
            ends, moved = a_tile + b_tile + c_tile + 2.0 * gap, a + b + c + transfers * gap
            time = objective(hw, busy, ends, moved)
            if time < best[0] and hw[Hw.DOUBLE] > 0.0:
                if not known:
                    paces(hw, p, held, tile, array)
                    known = True
                time = objective(hw, max(busy, paced(hw, p, tile, outer, skew, array)[0]), ends, moved)
            if time < best[0]:
                best[0], best[1], best[2], best[3], best[4], best[5] = time, held, tile_m, tile_n, tile_g, outer


@njit(cache=True)
def fill(hw: Floats, p: Floats, best: Floats, out: Floats) -> None:
    """Write the mapping row of a choice of `search_tiles`."""
    held, tile, outer = best[1], (best[2], best[3], best[4]), int(best[5])
    kept, batch = p[Product.KEPT], p[Product.BATCH]
    groups = math.ceil(p[Product.K] / p[Product.GROUP])
    tiles_m, tiles_n, tiles_k = counts(p, tile)
    a_reads, b_reads = reads(p, tile, outer)
    extents = (p[Product.M], p[Product.N], float(groups))
    steady, issue, stall, once = cycles_of(hw, kept, extents, held, tile[1], tile[2])
    if held > 0.0:
        a_feeds, b_feeds = float(tiles_n), math.ceil(p[Product.M] / hw[Hw.COLS])
        # Sums come and go once a pass.
        sums = 2.0 * math.ceil(groups / (hw[Hw.ROWS] * held))
    else:
        a_feeds = float(math.ceil(p[Product.N] / (hw[Hw.COLS] * hw[Hw.INTERLEAVE])))
        b_feeds, sums = math.ceil(p[Product.M] / hw[Hw.ROWS]), 2.0 * tiles_k - 1.0
    out[Map.DATAFLOW] = 0.0 if held > 0.0 else 1.0
    out[Map.KEPT], out[Map.GROUP], out[Map.HELD] = kept, p[Product.GROUP], held
    out[Map.TILE_M], out[Map.TILE_N] = tile[0], tile[1]
    out[Map.TILE_K] = min(tile[2] * p[Product.GROUP], p[Product.K])
    out[Map.TILES_M], out[Map.TILES_N], out[Map.TILES_K], out[Map.OUTER] = tiles_m, tiles_n, tiles_k, outer
    out[Map.A_TILE_BYTES], out[Map.B_TILE_BYTES], _ = tile_bytes(p, tile)
    out[Map.A_BYTES], out[Map.B_BYTES], out[Map.C_BYTES] = traffic(p, a_reads, b_reads)
    out[Map.SKEW_CYCLES] = once
    out[Map.ARRAY_CYCLES], out[Map.ISSUE_CYCLES], out[Map.STALL_CYCLES] = batch * steady, batch * issue, batch * stall
    fed = (
        a_feeds * p[Product.M] * groups * p[Product.A_GROUP_BYTES]
        + b_feeds * p[Product.K] * p[Product.N] * p[Product.B_BYTES]
    )
    out[Map.BRAM_BYTES] = batch * (fed + sums * p[Product.M] * p[Product.N] * p[Product.SUM_BYTES])
    out[Map.M], out[Map.K] = p[Product.M], p[Product.K]


@njit(cache=True)
def search(hw: Floats, p: Floats, out: Floats) -> None:
    """Write the best mapping of one product."""
    best = np.full(6, np.inf)
    if hw[Hw.SEARCHED] == 0.0:
        fixed_tiles(hw, p, 0.0 if hw[Hw.DATAFLOW] == 1.0 else 1.0, best)
        fill(hw, p, best, out)
        return
    for doubling in range(-1, 53):
        held = 2.0**doubling if doubling >= 0 else 0.0
        if doubling > 0 and held * p[Product.KEPT] > hw[Hw.MAX_M]:
            break
        if hw[Hw.DATAFLOW] != (1.0 if held > 0.0 else 0.0):
            search_tiles(hw, p, held, best)
    fill(hw, p, best, out)


@njit(cache=True, nogil=True)
def search_all(hardware: Floats, products: Floats, out: Floats) -> None:
    """Write the best mapping of each product, all on one machine or each on its own."""
    for row in range(len(products)):
        search(hardware[row if len(hardware) > 1 else 0], products[row], out[row])


def schedule(hardware: Floats, products: Floats) -> Floats:
    """The best mapping of each product on one machine.

    Parameters
    ----------
    hardware : (1, len(Hardware)) ndarray
    products : (n, len(Product)) ndarray

    Returns
    -------
    (n, len(Mapping)) ndarray
    """
    # Networks repeat their layers: each product is searched once.
    distinct, where = np.unique(products, axis=0, return_inverse=True)
    found = np.zeros((len(distinct), len(Map)))
    search_all(hardware, distinct, found)
    return found[where]
