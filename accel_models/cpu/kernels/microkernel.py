"""Issue of a dense register-blocked microkernel: multiply-adds and loads, tile by tile, remainders too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel_models.cpu.chip import TYPE_BITS, Chip
from simsparse.plan import Floats, Ints

MOST_REGISTERS_DOWN = 8.0
LOAD_BYTES = 64.0  # of a matrix unit's load
AMX_DEPTH_BYTES = 64.0  # of the reduction in one instruction
OUTER_DEPTH_BYTES = 4.0


@dataclass(frozen=True)
class Work:
    """What cores issue, (n,): cycles at full issue, and vector instructions, loads among them."""

    cycles: Floats
    instructions: Floats

    def __add__(self, other: Work) -> Work:
        return Work(self.cycles + other.cycles, self.instructions + other.instructions)

    def times(self, factor: Floats | float) -> Work:
        """So many times the same."""
        return Work(self.cycles * factor, self.instructions * factor)


def work(chip: Chip, multiply: Floats, loads: Floats) -> Work:
    """Work of `multiply` cycles of multiply-adds beside so many loads: the larger of the two decides."""
    return Work(np.maximum(multiply, loads / chip.load_ports), multiply * chip.fma_ports + loads)


def vector_work(chip: Chip, instructions: Floats) -> Work:
    """Work of other vector instructions, on the ports of the multiply-adds."""
    return Work(instructions / chip.fma_ports, instructions)


@dataclass(frozen=True)
class Tile:
    """What one microkernel step covers.

    Attributes
    ----------
    outputs : float
        Outputs side by side in registers.
    loads : (types,) ndarray
        Loads of A's values per group of the reduction, by type.
    columns : float
        Tokens of a full tile.
    rates : (types,) ndarray
        Multiply-accumulates per cycle, by type.
    group_of : (types,) ndarray
        Reduction steps that one instruction takes (4 for VNNI).
    registers : int
        SIMD registers that accumulators and A's values share.
    efficiency : float
        Share of the issue-limited rate that is sustained.
    """

    outputs: float
    loads: Floats
    columns: float
    rates: Floats
    group_of: Floats
    registers: int
    efficiency: float

    def filled(self, columns: Floats) -> Floats:
        """Tokens that are computed for `columns` of them."""
        return columns

    def token_loads(self, kind: Ints, columns: Floats) -> Floats:
        """Loads (broadcasts) of tokens' values for a group; where tokens are few, more outputs share them."""
        del kind
        down = np.clip(np.floor((self.registers - 4) / np.maximum(columns, 1.0)), 2.0, MOST_REGISTERS_DOWN)
        loads: Floats = columns * 2.0 / down
        return loads


@dataclass(frozen=True)
class MatrixTile(Tile):
    """Two by two tiles of 16 x 16 accumulators in a matrix unit.

    Attributes
    ----------
    least : float
        An instruction takes no less time for fewer tokens than this.
    """

    least: float

    def filled(self, columns: Floats) -> Floats:
        """See `Tile.filled`."""
        return np.ceil(columns / self.least) * self.least

    def token_loads(self, kind: Ints, columns: Floats) -> Floats:
        """As many a token as A takes for an output."""
        return columns * self.loads[kind] / self.outputs


def simd_tile(chip: Chip, efficiency: float | None = None) -> Tile:
    """Two registers of outputs by as many tokens as accumulators allow (6 x 2 with AVX2, 14 x 2 with AVX-512)."""
    group = np.maximum(1.0, np.rint(chip.rates / (chip.fma_ports * chip.lanes)))
    outputs, columns = 2.0 * chip.lanes, float((chip.registers - 3) // 2)
    loads = outputs * group * TYPE_BITS / 8 / chip.vector_bytes
    sustained = chip.dense_efficiency if efficiency is None else efficiency
    return Tile(outputs, loads, columns, chip.rates, group, chip.registers, sustained)


def matrix_tile(chip: Chip) -> MatrixTile:
    """Tiles of Intel's AMX, 64 bytes deep and with rows to choose, or outer products of Apple's unit, always whole."""
    outer = "Apple AMX" in chip.simd
    depth = OUTER_DEPTH_BYTES if outer else AMX_DEPTH_BYTES
    group, side = np.maximum(depth * 8 / TYPE_BITS, 1.0), 32.0
    loads = np.full(len(TYPE_BITS), side * depth / LOAD_BYTES)
    least = 16.0 if outer else 1.0
    return MatrixTile(side, loads, side, chip.matrix_rates, group, chip.registers, chip.matrix_efficiency, least)


def tile_work(chip: Chip, tile: Tile, kind: Ints, columns: Floats) -> Work:
    """Work of one tile of `columns` tokens for one group of the reduction."""
    multiply = tile.outputs * tile.filled(columns) * tile.group_of[kind] / tile.rates[kind]
    done = work(chip, multiply, tile.loads[kind] + tile.token_loads(kind, columns))
    return done.times(np.where(columns > 0, 1.0, 0.0))


def dense_work(chip: Chip, tile: Tile, kind: Ints, m: Floats, n: Floats, k: Floats) -> Work:
    """Work of one product: whole tiles and a rest of tokens; outputs fill registers up."""
    half = tile.outputs / 2
    tiles_down = np.ceil(m / half) / 2
    groups = np.ceil(k / tile.group_of[kind])
    full, rest = np.divmod(n, tile.columns)
    whole = tile_work(chip, tile, kind, np.full_like(n, tile.columns))
    return (whole.times(full) + tile_work(chip, tile, kind, rest)).times(tiles_down * groups)


def result_work(chip: Chip, results: Floats, epilogue_flops: Floats) -> Work:
    """Work to store results and to run an elementwise epilogue on them."""
    return vector_work(chip, (results * 2.0 + epilogue_flops) / chip.lanes)
