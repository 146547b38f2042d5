"""Cycles of a dense register-blocked microkernel: issue of multiply-adds and loads, tile by tile, remainders too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel_models.cpu.chip import Chip
from simsparse.plan import Floats, Ints

MOST_REGISTERS_DOWN = 8.0


@dataclass(frozen=True)
class Tile:
    """What one microkernel step covers.

    Attributes
    ----------
    outputs : float
        Outputs side by side in registers.
    loads : float
        Vector loads of A's values per group of the reduction.
    columns : float
        Tokens of a full tile.
    rates : (types,) ndarray
        Multiply-accumulates per cycle, by type.
    group_of : (types,) ndarray
        Reduction steps that one instruction takes (4 for VNNI).
    """

    outputs: float
    loads: float
    columns: float
    rates: Floats
    group_of: Floats


def simd_tile(chip: Chip) -> Tile:
    """Two registers of outputs by as many tokens as accumulators allow (6 x 2 with AVX2, 14 x 2 with AVX-512)."""
    group = np.maximum(1.0, np.rint(chip.rates / (chip.fma_ports * chip.lanes)))
    return Tile(2.0 * chip.lanes, 2.0, float((chip.registers - 3) // 2), chip.rates, group)


def matrix_tile(chip: Chip) -> Tile:
    """Two by two tiles of 16 x 16 accumulators (AMX); a tile row of 64 bytes is one load."""
    return Tile(32.0, 32.0, 32.0, chip.matrix_rates, np.array([8.0, 16.0, 32.0, 32.0, 64.0]))


def tile_cycles(chip: Chip, tile: Tile, kind: Ints, columns: Floats) -> Floats:
    """Cycles of one tile of `columns` tokens for one group of the reduction, (n,).

    The larger of multiply-adds and loads. A narrow tile leaves registers for more outputs, which share the loads
    (broadcasts) of the tokens' values.
    """
    group = tile.group_of[kind]
    multiply = tile.outputs * columns * group / tile.rates[kind]
    down = np.clip(np.floor((chip.registers - 4) / np.maximum(columns, 1.0)), 2.0, MOST_REGISTERS_DOWN)
    loads = tile.loads + columns * 2.0 / down
    return np.where(columns > 0, np.maximum(multiply, loads / chip.load_ports), 0.0)


def dense_cycles(chip: Chip, tile: Tile, kind: Ints, m: Floats, n: Floats, k: Floats) -> Floats:
    """Core cycles of one product at full issue, (n,): whole tiles and a rest of tokens; outputs fill registers up."""
    half = tile.outputs / 2
    tiles_down = np.ceil(m / half) / 2
    groups = np.ceil(k / tile.group_of[kind])
    full, rest = np.divmod(n, tile.columns)
    each = full * tile_cycles(chip, tile, kind, np.full_like(n, tile.columns)) + tile_cycles(chip, tile, kind, rest)
    return tiles_down * groups * each


def result_cycles(chip: Chip, results: Floats, epilogue_flops: Floats) -> Floats:
    """Core cycles to store results and to run an elementwise epilogue on them: registers over the vector ports."""
    return (results * 2.0 + epilogue_flops) / (chip.lanes * chip.fma_ports)
