"""Cycles of the systolic array, and offline scheduling: dataflow and tiles of each product by search; compiled.

An element issues one multiply-accumulate a cycle; its sum can be used `depth` cycles later. It works on `i` independent
outputs in turn (interleave mapping), so that a step of all of them takes `max(i, depth)` cycles, and `macs` steps
`(macs - 1)·max(i, depth) + i`. Dense is 1 kept in groups of 1. All of this stands in one file, because numba's disk
cache of a function does not notice changes in other files.

For every dataflow that is allowed, and every number of groups an element may hold, tiles are halvings of the extents
rounded up to what fills the array. A tile is taken if half of each buffer (all of it without double buffering) holds
it. The reduction is the innermost loop, so that sums never leave the chip. What is minimised is the time of the
combining rule in `machine.py`, plus a small share of the time of the memory traffic: of schedules about as fast, that
with less traffic.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from accel_models.fpga.columns import Mapping as Map
from accel_models.fpga.columns import Product
from accel_models.fpga.spec import Hardware as Hw
from simsparse.plan import Floats

Triple = tuple[float, float, float]


@njit(cache=True)
def in_turn(outputs: float, macs: float, depth: float) -> float:
    """Cycles in which an element adds `macs` products to each of `outputs` sums, in turn."""
    return (macs - 1.0) * max(outputs, depth) + outputs


@njit(cache=True)
def streamed(tokens: float, macs: float, interleave: float, depth: float) -> float:
    """Cycles in which an element adds `macs` products for each of `tokens` outputs, `interleave` of them in turn."""
    full = math.floor(tokens / interleave)
    rest = tokens - full * interleave
    cycles: float = full * in_turn(interleave, macs, depth)
    if rest > 0.0:
        cycles += in_turn(rest, macs, depth)
    return cycles


@njit(cache=True)
def weight_stationary(hw: Floats, m: float, n: float, groups: float, kept: float, held: float, tile_n: float) -> Triple:
    """Array, issue and stall cycles: columns take outputs, rows the reduction, tokens stream through.

    Each element holds `held` groups of `kept` weights. A pass takes the tokens of a tile past the weights of
    `rows · held` groups; the next weights shift in meanwhile where registers are double.
    """
    rows, cols, interleave, depth, double = hw[Hw.ROWS], hw[Hw.COLS], hw[Hw.INTERLEAVE], hw[Hw.DEPTH], hw[Hw.DOUBLE]
    tiles = math.ceil(n / tile_n)
    last_n = n - (tiles - 1.0) * tile_n
    full = math.floor(groups / (rows * held))
    rest = groups - full * rows * held
    array, issue, stall = 0.0, 0.0, 0.0
    for part in range(2):
        passes, in_element, rows_used = full, held, rows
        if part == 1:
            if rest <= 0.0:
                break
            passes, in_element = 1.0, math.ceil(rest / rows)
            rows_used = math.ceil(rest / in_element)
        macs = in_element * kept
        loading = rows_used * macs
        for edge in range(2):
            count, tokens = (1.0, last_n) if edge == 1 else (tiles - 1.0, tile_n)
            busy = streamed(tokens, macs, interleave, depth)
            array += passes * count * (max(busy, loading) if double > 0.0 else busy + loading)
            issue += passes * count * tokens * macs
            stall += passes * count * (busy - tokens * macs)
    blocks = math.ceil(m / cols)
    return blocks * array, blocks * issue, blocks * stall


@njit(cache=True)
def output_stationary(
    hw: Floats, m: float, n: float, groups: float, kept: float, tile_n: float, tile_groups: float
) -> Triple:
    """Array, issue and stall cycles: rows take outputs, columns `interleave` tokens each, the reduction streams.

    After each tile of the reduction the sums shift out (and those to go on with, in), meanwhile where registers are
    double.
    """
    rows, cols, interleave, depth, double = hw[Hw.ROWS], hw[Hw.COLS], hw[Hw.INTERLEAVE], hw[Hw.DEPTH], hw[Hw.DOUBLE]
    tiles = math.ceil(n / tile_n)
    last_n = n - (tiles - 1.0) * tile_n
    steps = math.ceil(groups / tile_groups)
    last_groups = groups - (steps - 1.0) * tile_groups
    array, issue, stall = 0.0, 0.0, 0.0
    for edge in range(2):
        count, tokens = (1.0, last_n) if edge == 1 else (tiles - 1.0, tile_n)
        full = math.floor(tokens / (cols * interleave))
        rest = tokens - full * cols * interleave
        for part in range(2):
            blocks, outputs = (1.0, math.ceil(rest / cols)) if part == 1 else (full, interleave)
            if outputs <= 0.0:
                break
            for end in range(2):
                times, depth_groups = (1.0, last_groups) if end == 1 else (steps - 1.0, tile_groups)
                macs = depth_groups * kept
                busy, unloading = in_turn(outputs, macs, depth), rows * outputs
                weight = count * blocks * times
                array += weight * (max(busy, unloading) if double > 0.0 else busy + unloading)
                issue += weight * outputs * macs
                stall += weight * (busy - outputs * macs)
    blocks_m = math.ceil(m / rows)
    return blocks_m * array, blocks_m * issue, blocks_m * stall


@njit(cache=True)
def skew(hw: Floats, p: Floats, held: float) -> float:
    """Cycles of the wavefront and of what no other pass hides: first weights in, or last sums out.

    Sums pass from row to row through the adder of each element; operands pass from element to element in one cycle.
    `held` of 0 is output-stationary.
    """
    rows, cols, depth, double = hw[Hw.ROWS], hw[Hw.COLS], hw[Hw.DEPTH], hw[Hw.DOUBLE]
    if held > 0.0:
        macs = min(held, math.ceil(math.ceil(p[Product.K] / p[Product.GROUP]) / rows)) * p[Product.KEPT]
        return float(rows * depth + cols - 1.0 + (rows * macs if double > 0.0 else 0.0))
    outputs = min(hw[Hw.INTERLEAVE], math.ceil(p[Product.N] / cols))
    return float(rows + cols - 2.0 + depth + (rows * outputs if double > 0.0 else 0.0))


@njit(cache=True)
def cycles_of(hw: Floats, p: Floats, held: float, tile_n: float, tile_groups: float) -> Triple:
    """Array, issue and stall cycles of one product, without its batch."""
    groups = math.ceil(p[Product.K] / p[Product.GROUP])
    if held > 0.0:
        cycles: Triple = weight_stationary(hw, p[Product.M], p[Product.N], groups, p[Product.KEPT], held, tile_n)
    else:
        cycles = output_stationary(hw, p[Product.M], p[Product.N], groups, p[Product.KEPT], tile_n, tile_groups)
    return cycles


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


@njit(cache=True)
def reads(p: Floats, tile: Triple, outer: int) -> tuple[float, float]:
    """How often A and B are read: once where a tile stays until it is done with, else for each tile of the other."""
    tiles_m, tiles_n, tiles_k = counts(p, tile)
    a_stays = tiles_k == 1.0 and (outer == 0 or tiles_m == 1.0)
    b_stays = tiles_k == 1.0 and (outer == 1 or tiles_n == 1.0)
    return (1.0 if a_stays else float(tiles_n)), (1.0 if b_stays else float(tiles_m))


@njit(cache=True)
def traffic(p: Floats, a_reads: float, b_reads: float) -> Triple:
    """Bytes of A, B and C that cross the memory interface, over the batch."""
    groups = math.ceil(p[Product.K] / p[Product.GROUP])
    a = p[Product.BATCH] * p[Product.M] * groups * p[Product.A_READ_BYTES] * a_reads
    b = p[Product.BATCH] * p[Product.K] * p[Product.N] * p[Product.B_BYTES] * b_reads
    return a, b, p[Product.BATCH] * p[Product.M] * p[Product.N] * p[Product.C_BYTES]


@njit(cache=True)
def reduction(hw: Floats, p: Floats, a_reads: float) -> float:
    """Cycles of the reduction engine that nothing hides.

    Weights made ahead hide behind the update of the same weights, which memory or the update lanes bound; the update
    makes those of the forward and of the input-gradient product.
    """
    if p[Product.REDUCED] == 0.0:
        return 0.0
    weights = p[Product.BATCH] * p[Product.M] * math.ceil(p[Product.K] / p[Product.GROUP]) * p[Product.GROUP]
    making = weights / hw[Hw.REDUCTION_PER_CYCLE]
    if p[Product.ONLINE] > 0.0:
        return float(making * a_reads)
    update = weights * max(hw[Hw.UPDATE_BYTES] / hw[Hw.DRAM_BYTES_PER_CYCLE], 1.0 / hw[Hw.UPDATE_LANES])
    return float(max(0.0, making - 0.5 * update))


@njit(cache=True)
def objective(hw: Floats, busy: float, ends: float, moved: float, exposed: float) -> float:
    """What the search minimises, in cycles.

    `busy` is array and skew, `exposed` the reduction engine; `ends` (first and last tiles) and `moved` are bytes.
    """
    memory = moved / hw[Hw.DRAM_BYTES_PER_CYCLE]
    body = max(busy + ends / hw[Hw.DRAM_BYTES_PER_CYCLE], memory) if hw[Hw.DOUBLE] > 0.0 else busy + memory
    return float(body + exposed + hw[Hw.TRAFFIC_SHARE] * memory)


@njit(cache=True)
def least_time(hw: Floats, p: Floats, busy: float, tile: Triple) -> float:
    """What no tile of these tokens and groups, and of `tile[0]` outputs or more, can beat.

    B is read at least once, and A too if one tile holds the whole reduction.
    """
    _, tiles_n, tiles_k = counts(p, tile)
    a, b, c = traffic(p, 1.0 if tiles_k == 1.0 else float(tiles_n), 1.0)
    a_tile, b_tile, _ = tile_bytes(p, tile)
    return float(objective(hw, busy, a_tile + b_tile, a + b + c, reduction(hw, p, 1.0)))


@njit(cache=True)
def search_tiles(hw: Floats, p: Floats, held: float, best: Floats) -> None:
    """Try all tiles of one dataflow; `best` holds time, held, tile (outputs, tokens, groups) and outer loop."""
    unit_m, unit_n, unit_g = hw[Hw.COLS], hw[Hw.DEPTH], hw[Hw.ROWS] * held
    if held == 0.0:
        unit_m, unit_n, unit_g = hw[Hw.ROWS], hw[Hw.COLS] * hw[Hw.DEPTH], hw[Hw.ROWS]
    share = 0.5 if hw[Hw.DOUBLE] > 0.0 else 1.0
    groups = float(math.ceil(p[Product.K] / p[Product.GROUP]))
    wave = skew(hw, p, held)
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
            values = min(tile_g * p[Product.GROUP], p[Product.K]) * tile_n
            if values * p[Product.B_BYTES] > share * hw[Hw.ACTIVATION_BUFFER]:
                continue
            array, _, _ = cycles_of(hw, p, held, tile_n, tile_g)
            busy = p[Product.BATCH] * array + wave
            least = (min(unit_m, p[Product.M]), tile_n, tile_g)
            if least_time(hw, p, busy, least) < best[0]:
                search_outputs(hw, p, held, busy, (unit_m, tile_n, tile_g), best)


@njit(cache=True)
def search_outputs(hw: Floats, p: Floats, held: float, busy: float, least: Triple, best: Floats) -> None:
    """Try tiles of more or fewer outputs, and both outer loops; `least` has the fewest outputs that fill the array."""
    unit_m, tile_n, tile_g = least
    share = 0.5 if hw[Hw.DOUBLE] > 0.0 else 1.0
    last_m = 0.0
    for level in range(64):
        tile_m = halved(p[Product.M], level, unit_m)
        if tile_m == last_m:
            break
        last_m = tile_m
        fits_a = tile_m * tile_g * p[Product.A_GROUP_BYTES] <= share * hw[Hw.WEIGHT_BUFFER]
        if not fits_a or tile_m * tile_n * p[Product.SUM_BYTES] > share * hw[Hw.OUTPUT_BUFFER]:
            continue
        a_tile, b_tile, c_tile = tile_bytes(p, (tile_m, tile_n, tile_g))
        for outer in range(2):
            a_reads, b_reads = reads(p, (tile_m, tile_n, tile_g), outer)
            a, b, c = traffic(p, a_reads, b_reads)
            time = objective(hw, busy, a_tile + b_tile + c_tile, a + b + c, reduction(hw, p, a_reads))
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
    array, issue, stall = cycles_of(hw, p, held, tile[1], tile[2])
    if held > 0.0:
        of_tile, _, _ = weight_stationary(hw, tile[0], tile[1], tile[2], kept, held, tile[1])
        a_feeds, b_feeds = float(tiles_n), math.ceil(p[Product.M] / hw[Hw.COLS])
        # Sums come and go once a pass.
        sums = 2.0 * math.ceil(groups / (hw[Hw.ROWS] * held))
    else:
        of_tile, _, _ = output_stationary(hw, tile[0], tile[1], tile[2], kept, tile[1], tile[2])
        a_feeds = float(math.ceil(p[Product.N] / (hw[Hw.COLS] * hw[Hw.INTERLEAVE])))
        b_feeds, sums = math.ceil(p[Product.M] / hw[Hw.ROWS]), 2.0 * tiles_k - 1.0
    out[Map.DATAFLOW] = 0.0 if held > 0.0 else 1.0
    out[Map.KEPT], out[Map.GROUP], out[Map.HELD] = kept, p[Product.GROUP], held
    out[Map.TILE_M], out[Map.TILE_N] = tile[0], tile[1]
    out[Map.TILE_K] = min(tile[2] * p[Product.GROUP], p[Product.K])
    out[Map.TILES_M], out[Map.TILES_N], out[Map.TILES_K], out[Map.OUTER] = tiles_m, tiles_n, tiles_k, outer
    out[Map.A_TILE_BYTES], out[Map.B_TILE_BYTES], out[Map.TAIL_BYTES] = tile_bytes(p, tile)
    out[Map.HEAD_BYTES] = out[Map.A_TILE_BYTES] + out[Map.B_TILE_BYTES]
    out[Map.C_TILE_BYTES] = tile[0] * tile[1] * p[Product.C_BYTES]
    out[Map.A_BYTES], out[Map.B_BYTES], out[Map.C_BYTES] = traffic(p, a_reads, b_reads)
    out[Map.TILE_CYCLES], out[Map.SKEW_CYCLES] = of_tile, skew(hw, p, held)
    out[Map.ARRAY_CYCLES], out[Map.ISSUE_CYCLES], out[Map.STALL_CYCLES] = batch * array, batch * issue, batch * stall
    fed = (
        a_feeds * p[Product.M] * groups * p[Product.A_GROUP_BYTES]
        + b_feeds * p[Product.K] * p[Product.N] * p[Product.B_BYTES]
    )
    out[Map.BRAM_BYTES] = batch * (fed + sums * p[Product.M] * p[Product.N] * p[Product.SUM_BYTES])
    out[Map.REDUCTION_CYCLES] = reduction(hw, p, a_reads)


@njit(cache=True)
def search(hw: Floats, p: Floats, out: Floats) -> None:
    """Write the best mapping of one product."""
    best = np.full(6, np.inf)
    if hw[Hw.DATAFLOW] != 1.0:
        held = 1.0
        while held == 1.0 or held * p[Product.KEPT] <= hw[Hw.MAX_M]:
            search_tiles(hw, p, held, best)
            held *= 2.0
    if hw[Hw.DATAFLOW] != 0.0:
        search_tiles(hw, p, 0.0, best)
    fill(hw, p, best, out)


@njit(cache=True)
def search_all(hardware: Floats, products: Floats, out: Floats) -> None:
    """Write the best mapping of each product, all on one machine or each on its own."""
    for row in range(len(products)):
        search(hardware[row if len(hardware) > 1 else 0], products[row], out[row])


def schedule(hardware: Floats, products: Floats) -> Floats:
    """The best mapping of each product.

    Parameters
    ----------
    hardware : (1 or n, len(Hardware)) ndarray
    products : (n, len(Product)) ndarray

    Returns
    -------
    (n, len(Mapping)) ndarray
    """
    if len(hardware) > 1:
        out = np.zeros((len(products), len(Map)))
        search_all(hardware, products, out)
        return out
    # Networks repeat their layers: each product is searched once.
    distinct, where = np.unique(products, axis=0, return_inverse=True)
    found = np.zeros((len(distinct), len(Map)))
    search_all(hardware, distinct, found)
    return found[where]
