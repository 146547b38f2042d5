"""Cycles of the systolic array, in closed form; compiled. `walk.py` counts the same pass by pass, for the events.

An element issues one multiply-accumulate a cycle; its sum can be used `depth` cycles later. It works on `i` independent
outputs in turn (interleave mapping), so that a step of all of them takes `max(i, depth)` cycles, and `macs` steps
`(macs - 1)·max(i, depth) + i`. Dense is 1 kept in groups of 1.

Weights enter at the left, one a row and cycle, and move right; tokens move right (weight-stationary) or down
(output-stationary), an element a cycle; sums move down, one a column and cycle. A test holds every count against a
model of the array that moves each value cycle by cycle.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

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
    `rows · held` groups; those of the next pass shift in meanwhile where registers are double. A sum goes on to the
    next row when an element has added all its products, and below the last row passes are added up.
    """
    rows, cols, turns, depth, double = hw[Hw.ROWS], hw[Hw.COLS], hw[Hw.INTERLEAVE], hw[Hw.DEPTH], hw[Hw.DOUBLE]
    passes = math.floor(groups / (rows * held))
    rest = groups - passes * rows * held
    macs, rest_macs = held * kept, math.ceil(rest / rows) * kept
    load, rest_load = cols * macs, cols * rest_macs
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
    wavefront = (rows - 1.0) * depth * (macs if passes > 0.0 else rest_macs) + cols - 2.0 + depth
    return blocks * steady, blocks * issue, blocks * stall, ends + wavefront


@njit(cache=True)
def block_steps(outputs: float, moving: float, before: float, steps: Triple, hw: Floats) -> tuple[float, float]:
    """Array and busy cycles of a block of `outputs` sums an element; `steps` are number, macs, and macs of the last.

    `moving` cycles take the sums of a step to shift out, `before` those of the block before. Where registers are not
    double they shift out once the last sum is there, while nothing runs.
    """
    count, macs, last_macs = steps
    first, last = in_turn(outputs, macs, hw[Hw.DEPTH]), in_turn(outputs, last_macs, hw[Hw.DEPTH])
    busy = (count - 1.0) * first + last
    if hw[Hw.DOUBLE] == 0.0:
        return busy + count * (moving + hw[Hw.DEPTH] - 1.0), busy
    if count == 1.0:
        return max(last, before), busy
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
    over, wavefront = math.ceil(m / rows), rows + cols - 2.0
    if double == 0.0:
        return over * steady, over * issue, over * stall, wavefront
    # Nothing moves out during the very first step, and nothing runs while the last sums do.
    first = in_turn(first_outputs(min(n, tile_n), cols, turns), steps[1] if count > 1.0 else steps[2], hw[Hw.DEPTH])
    ends = rows * of_last - (max(first, rows * of_last) - first)
    return over * steady, over * issue, over * stall, ends + wavefront + hw[Hw.DEPTH] - 1.0


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
def cycles_of(hw: Floats, kept: float, extents: Triple, held: float, tile_n: float, tile_groups: float) -> Cycles:
    """Cycles of `extents` (outputs, tokens, groups) of one product, without its batch.

    `held` of 0 is output-stationary.

    Steady cycles (issue, stall, and weights or sums that did not move in time), issue, stall, and what comes once: the
    first weights in or the last sums out, and the wavefront across the array.
    """
    m, n, groups = extents
    if held > 0.0:
        cycles: Cycles = weight_stationary(hw, m, n, groups, kept, held, tile_n)
    else:
        cycles = output_stationary(hw, m, n, groups, kept, tile_n, tile_groups)
    return cycles


def array_cycles(hardware: Floats, kept: float, extents: Triple, held: float, tiles: tuple[float, float]) -> Cycles:
    """The same for a machine's row of `Hardware`; `tiles` are tokens and groups of a tile."""
    found: Cycles = cycles_of(np.asarray(hardware, dtype=np.float64), kept, extents, held, *tiles)
    return found
