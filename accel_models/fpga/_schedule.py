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

With double buffering a tile is computed while the next one is loaded and the output before is stored, and whichever
takes longer sets the pace: `paced` adds that up. Tiles differ only at the ends of their loops, so that few are looked
at, however many there are.
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
Cycles = tuple[float, float, float, float]


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
def weight_stationary(hw: Floats, m: float, n: float, groups: float, kept: float, held: float, tile_n: float) -> Cycles:
    """Cycles of a product whose outputs lie on columns and whose reduction lies on rows, while tokens stream through.

    Each element holds `held` groups of `kept` weights. A pass takes the tokens of a tile past the weights of
    `rows · held` groups; those of the next pass shift in meanwhile where registers are double.
    """
    rows, cols, turns, depth, double = hw[Hw.ROWS], hw[Hw.COLS], hw[Hw.INTERLEAVE], hw[Hw.DEPTH], hw[Hw.DOUBLE]
    passes = math.floor(groups / (rows * held))
    rest = groups - passes * rows * held
    macs, rest_held = held * kept, math.ceil(rest / rows)
    rest_macs = rest_held * kept
    load, rest_load = rows * macs, 0.0
    if rest > 0.0:
        rest_load = math.ceil(rest / rest_held) * rest_macs
    first = load if passes > 0.0 else rest_load
    blocks, tiles = math.ceil(m / cols), math.ceil(n / tile_n)
    steady, issue, stall, last_busy = 0.0, 0.0, 0.0, 0.0
    for edge in range(2):
        count, tokens = (1.0, n - (tiles - 1.0) * tile_n) if edge == 1 else (tiles - 1.0, tile_n)
        busy, rest_busy = streamed(tokens, macs, turns, depth), 0.0
        # Full passes follow each other; the last of them precedes the rest, which precedes the first of what follows.
        taken = passes * max(busy, load) if double > 0.0 else passes * (busy + load)
        if rest > 0.0:
            rest_busy = streamed(tokens, rest_macs, turns, depth)
            if double == 0.0:
                taken += rest_busy + rest_load
            else:
                taken += max(rest_busy, first)
                if passes > 0.0:
                    taken += max(busy, rest_load) - max(busy, load)
        steady += count * taken
        issue += count * tokens * (passes * macs + rest_macs)
        stall += count * (passes * (busy - tokens * macs) + rest_busy - tokens * rest_macs)
        last_busy = rest_busy if rest > 0.0 else busy
    # The first weights have nothing to hide behind, and after the last pass none come.
    ends = first - (max(last_busy, first) - last_busy) if double > 0.0 else 0.0
    return blocks * steady, blocks * issue, blocks * stall, ends + rows * depth + cols - 1.0


@njit(cache=True)
def block_steps(outputs: float, moving: float, before: float, steps: Triple, hw: Floats) -> tuple[float, float]:
    """Array and busy cycles of a block of `outputs` sums an element; `steps` are number, macs, and macs of the last.

    `moving` cycles take the sums of a step to shift out, `before` those of the block before.
    """
    count, macs, last_macs = steps
    first, last = in_turn(outputs, macs, hw[Hw.DEPTH]), in_turn(outputs, last_macs, hw[Hw.DEPTH])
    if count == 1.0:
        busy = last
        return (max(last, before) if hw[Hw.DOUBLE] > 0.0 else last + moving), busy
    busy = (count - 1.0) * first + last
    if hw[Hw.DOUBLE] == 0.0:
        return busy + count * moving, busy
    return max(first, before) + (count - 2.0) * max(first, moving) + max(last, moving), busy


@njit(cache=True)
def output_stationary(
    hw: Floats, m: float, n: float, groups: float, kept: float, tile_n: float, tile_groups: float
) -> Cycles:
    """Cycles of a product whose outputs lie on rows and `interleave` tokens on each column; the reduction streams.

    After each tile of the reduction the sums shift out (and those to go on with, in), while the next step runs where
    registers are double.
    """
    rows, cols, turns, double = hw[Hw.ROWS], hw[Hw.COLS], hw[Hw.INTERLEAVE], hw[Hw.DOUBLE]
    tiles, count = math.ceil(n / tile_n), float(math.ceil(groups / tile_groups))
    steps = (count, tile_groups * kept, (groups - (count - 1.0) * tile_groups) * kept)
    last_n = n - (tiles - 1.0) * tile_n
    of_tile, of_last = last_outputs(tile_n, cols, turns), last_outputs(last_n, cols, turns)
    steady, issue, stall = 0.0, 0.0, 0.0
    # The first tile follows the last of the outputs before, the others follow a full one.
    for part in range(3):
        times, tokens, before = 1.0, last_n, of_tile if tiles > 1 else of_last
        if part < 2:
            times, tokens, before = min(1.0, tiles - 1.0), tile_n, of_last
            if part == 1:
                times, before = max(0.0, tiles - 2.0), of_tile
        full = float(math.floor(tokens / (cols * turns)))
        rest = float(math.ceil((tokens - full * cols * turns) / cols))
        for kind in range(3):
            # The first block of a tile, the full blocks that follow it, and the rest.
            blocks, outputs, previous = 1.0, rest, turns if full > 0.0 else before
            if kind < 2:
                blocks, outputs, previous = min(1.0, full), turns, before
                if kind == 1:
                    blocks, previous = max(0.0, full - 1.0), turns
            if times * blocks == 0.0 or outputs == 0.0:
                continue
            array, busy = block_steps(outputs, rows * outputs, rows * previous, steps, hw)
            steady += times * blocks * array
            issue += times * blocks * outputs * groups * kept
            stall += times * blocks * (busy - outputs * groups * kept)
    # Nothing moves out during the very first step, and nothing runs while the last sums do.
    first = in_turn(first_outputs(min(n, tile_n), cols, turns), steps[1] if count > 1.0 else steps[2], hw[Hw.DEPTH])
    ends = rows * of_last - (max(first, rows * of_last) - first) if double > 0.0 else 0.0
    over = math.ceil(m / rows)
    return over * steady, over * issue, over * stall, ends + rows + cols - 2.0 + hw[Hw.DEPTH]


@njit(cache=True)
def first_outputs(tokens: float, cols: float, turns: float) -> float:
    """Outputs an element has in the first block of some tokens."""
    return float(min(turns, math.ceil(tokens / cols)))


@njit(cache=True)
def last_outputs(tokens: float, cols: float, turns: float) -> float:
    """Outputs an element has in the last block of some tokens."""
    rest = tokens - math.floor(tokens / (cols * turns)) * cols * turns
    return float(math.ceil(rest / cols)) if rest > 0.0 else float(turns)


@njit(cache=True)
def cycles_of(hw: Floats, p: Floats, extents: Triple, held: float, tile_n: float, tile_groups: float) -> Cycles:
    """Cycles of `extents` (outputs, tokens, groups) of one product, without its batch.

    `held` of 0 is output-stationary.

    Steady cycles (issue, stall, and weights or sums that did not move in time), issue, stall, and what comes once: the
    first weights or last sums, and the wavefront. Sums pass from row to row through the adder of each element, operands
    from element to element in a cycle.
    """
    m, n, groups = extents
    if held > 0.0:
        cycles: Cycles = weight_stationary(hw, m, n, groups, p[Product.KEPT], held, tile_n)
    else:
        cycles = output_stationary(hw, m, n, groups, p[Product.KEPT], tile_n, tile_groups)
    return cycles


@njit(cache=True)
def cycles_of_tiles(hw: Floats, kept: Floats, held: Floats, extents: Floats, out: Floats) -> None:
    """Write the steady cycles of n tiles of `extents` (outputs, tokens, groups), shape (n, 3)."""
    p = np.zeros(Product.KEPT + 1)
    for row in range(len(extents)):
        p[Product.KEPT] = kept[row]
        m, n, groups = extents[row]
        out[row] = cycles_of(hw, p, (m, n, groups), held[row], n, groups)[0]


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
                    out[m, n, k] = cycles_of(hw, p, extents, held, extents[1], extents[2])[0]


@njit(cache=True)
def load(p: Floats, tile: Triple, tiles: Triple, last: Triple, stays: tuple[bool, bool], at: Triple) -> float:
    """Bytes that the tile at an index of each loop loads: what does not lie there already."""
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
def paced(hw: Floats, p: Floats, tile: Triple, outer: int, skew: float, array: Floats) -> float:
    """Cycles from the first tile on chip to the last one computed, with double buffering.

    While a tile is computed (`array`, of `paces`; the first after `skew`) memory loads the next, and during the first
    step of an output it stores the one before; whichever takes longer sets the pace.
    """
    tiles, last = counts(p, tile), last_extents(p, tile)
    stays = (tiles[2] == 1.0 and (outer == 0 or tiles[0] == 1.0), tiles[2] == 1.0 and (outer == 1 or tiles[1] == 1.0))
    outers, inners = (tiles[0], tiles[1]) if outer == 0 else (tiles[1], tiles[0])
    batch, total = p[Product.BATCH], 0.0
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
                of_last = load(p, tile, tiles, last, stays, after) if follows else 0.0
                pace, alike = array[int(m == tiles[0] - 1.0), int(n == tiles[1] - 1.0)], alike_b * alike_o * alike_i
                for of_step in range(int(min(tiles[2], 5.0))):
                    k, alike_k = iteration(tiles[2], 2, of_step)
                    ahead = load(p, tile, tiles, last, stays, (m, n, k + 1.0)) if k + 1.0 < tiles[2] else of_last
                    moved = ahead + (stored if k == 0.0 else 0.0)
                    busy = pace[int(k == tiles[2] - 1.0)] + (skew if b + o + i + k == 0.0 else 0.0)
                    total += alike * alike_k * max(busy, moved / hw[Hw.DRAM_BYTES_PER_CYCLE])
                outputs = last[0] if m == tiles[0] - 1.0 else tile[0]
                stored = outputs * (last[1] if n == tiles[1] - 1.0 else tile[1]) * p[Product.C_BYTES]
    return float(total)


@njit(cache=True)
def paced_all(hardware: Floats, products: Floats, mapping: Floats, out: Floats) -> None:
    """Write `paced` of each mapped product, all on one machine or each on its own."""
    array = np.zeros((2, 2, 2))
    for row in range(len(products)):
        hw, p, x = hardware[row if len(hardware) > 1 else 0], products[row], mapping[row]
        tile = (x[Map.TILE_M], x[Map.TILE_N], float(math.ceil(x[Map.TILE_K] / p[Product.GROUP])))
        paces(hw, p, x[Map.HELD], tile, array)
        out[row] = paced(hw, p, tile, int(x[Map.OUTER]), x[Map.SKEW_CYCLES], array)


@njit(cache=True)
def objective(hw: Floats, busy: float, ends: float, moved: float, exposed: float) -> float:
    """What the search minimises, in cycles.

    `busy` is array and skew, or the pace that memory leaves them; `exposed` the reduction engine; `ends` (first and
    last tiles) and `moved` are bytes.
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
            steady, _, _, once = cycles_of(hw, p, (p[Product.M], p[Product.N], groups), held, tile_n, tile_g)
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
    share = 0.5 if hw[Hw.DOUBLE] > 0.0 else 1.0
    array = np.zeros((2, 2, 2))
    last_m = 0.0
    for level in range(64):
        tile_m = halved(p[Product.M], level, unit_m)
        if tile_m == last_m:
            break
        last_m = tile_m
        fits_a = tile_m * tile_g * p[Product.A_GROUP_BYTES] <= share * hw[Hw.WEIGHT_BUFFER]
        if not fits_a or tile_m * tile_n * p[Product.SUM_BYTES] > share * hw[Hw.OUTPUT_BUFFER]:
            continue
        tile, known = (tile_m, tile_n, tile_g), False
        a_tile, b_tile, c_tile = tile_bytes(p, tile)
        for outer in range(2):
            a_reads, b_reads = reads(p, tile, outer)
            a, b, c = traffic(p, a_reads, b_reads)
            ends, moved, exposed = a_tile + b_tile + c_tile, a + b + c, reduction(hw, p, a_reads)
            time = objective(hw, busy, ends, moved, exposed)
            if time < best[0] and hw[Hw.DOUBLE] > 0.0:
                if not known:
                    paces(hw, p, held, tile, array)
                    known = True
                time = objective(hw, max(busy, paced(hw, p, tile, outer, skew, array)), ends, moved, exposed)
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
    of_tile, steady, issue, stall, once = 0.0, 0.0, 0.0, 0.0, 0.0
    for extents in (tile, (p[Product.M], p[Product.N], float(groups))):
        of_tile = steady
        steady, issue, stall, once = cycles_of(hw, p, extents, held, tile[1], tile[2])
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
    out[Map.A_TILE_BYTES], out[Map.B_TILE_BYTES], out[Map.TAIL_BYTES] = tile_bytes(p, tile)
    out[Map.HEAD_BYTES] = out[Map.A_TILE_BYTES] + out[Map.B_TILE_BYTES]
    out[Map.C_TILE_BYTES] = tile[0] * tile[1] * p[Product.C_BYTES]
    out[Map.A_BYTES], out[Map.B_BYTES], out[Map.C_BYTES] = traffic(p, a_reads, b_reads)
    out[Map.TILE_CYCLES], out[Map.SKEW_CYCLES] = of_tile, once
    out[Map.ARRAY_CYCLES], out[Map.ISSUE_CYCLES], out[Map.STALL_CYCLES] = batch * steady, batch * issue, batch * stall
    fed = (
        a_feeds * p[Product.M] * groups * p[Product.A_GROUP_BYTES]
        + b_feeds * p[Product.K] * p[Product.N] * p[Product.B_BYTES]
    )
    out[Map.BRAM_BYTES] = batch * (fed + sums * p[Product.M] * p[Product.N] * p[Product.SUM_BYTES])
    out[Map.REDUCTION_CYCLES] = reduction(hw, p, a_reads)
    out[Map.M], out[Map.K] = p[Product.M], p[Product.K]


@njit(cache=True)
def search(hw: Floats, p: Floats, out: Floats) -> None:
    """Write the best mapping of one product."""
    best = np.full(6, np.inf)
    for doubling in range(-1, 53):
        held = 2.0**doubling if doubling >= 0 else 0.0
        if doubling > 0 and held * p[Product.KEPT] > hw[Hw.MAX_M]:
            break
        if hw[Hw.DATAFLOW] != (1.0 if held > 0.0 else 0.0):
            search_tiles(hw, p, held, best)
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
