"""Dense products: SIMD and matrix-unit GEMM, with conversion of A, on shrunk shapes, and depthwise convolution."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel_models.cpu.kernels.base import CpuKernel, gemm_mapping
from accel_models.cpu.kernels.microkernel import Tile, dense_cycles, matrix_tile, simd_tile
from accel_models.cpu.kernels.rows import GemmRows, convert_cycles, gemm_rows
from simsparse.machine import Refusal
from simsparse.plan import Floats
from simsparse.sparsity import PatternColumn, PatternKind


class DenseGemm(CpuKernel):
    """Register-blocked SIMD GEMM (oneDNN, XNNPACK, MKL); A packed beforehand, zeros multiplied like the rest."""

    name = "gemm"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Types without instructions of their own."""
        rows = gemm_rows(problem, self.chip)
        yield ~rows.native, "this core has no multiply-add for the type A is stored in"

    @property
    def tile(self) -> Tile:
        """Its microkernel."""
        return simd_tile(self.chip)

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        rows = gemm_rows(problem, self.chip)
        return self.of_shape(rows, rows.m, rows.k)

    def of_shape(self, rows: GemmRows, m: Floats, k: Floats) -> Floats:
        """Mapping of dense products of `m` outputs and a reduction of `k`."""
        tile, chip = self.tile, self.chip
        cycles = rows.batch * dense_cycles(chip, tile, rows.kind, m, rows.n, k)
        n_tiles = np.ceil(rows.n / tile.columns)
        m_tiles = np.ceil(m / tile.outputs)
        a_bytes = rows.batch * m * k * rows.a_bits / 8
        packing = np.where(rows.weight, 0.0, 2 * a_bytes)
        padded = np.ceil(m / tile.outputs * 2) / 2 * tile.outputs * rows.n * k
        # The microkernel's panel of tokens stays in L1 while A streams from L2, once per panel.
        return gemm_mapping(
            rows, chip,
            macs=rows.batch * padded,
            kind=rows.kind,
            core_cycles=cycles,
            efficiency=chip.constants.dense_efficiency.value,
            index_cycles=self.conversion(rows, m, k),
            a_bytes=a_bytes,
            l1_fills=a_bytes * n_tiles + rows.b_bytes + rows.c_bytes + packing,
            m_units=m_tiles,
            n_units=n_tiles,
            roof_macs=rows.batch * m * rows.n * k,
        )  # fmt: skip

    def conversion(self, rows: GemmRows, m: Floats, k: Floats) -> Floats:
        """Core cycles to convert A; none here."""
        del m, k
        return np.zeros(len(rows))


class MatrixGemm(DenseGemm):
    """GEMM on a matrix unit (AMX): weights fill whole tiles, rows of tokens may be few."""

    name = "gemm-amx"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """No unit, or not for the type."""
        yield from super().refusals(problem)
        rows = gemm_rows(problem, self.chip)
        yield self.chip.matrix_rates[rows.kind] == 0, "there is no matrix unit for this type"

    @property
    def tile(self) -> Tile:
        """Its tiles."""
        return matrix_tile(self.chip)


class ConvertGemm(DenseGemm):
    """SIMD GEMM that converts A on its way into registers: weight-only int8 and int4, or half types without units."""

    name = "gemm-convert"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """What needs no conversion."""
        rows = gemm_rows(problem, self.chip)
        yield rows.native, "A is multiplied as it is stored"

    def conversion(self, rows: GemmRows, m: Floats, k: Floats) -> Floats:
        """A register at a time, once per panel of tokens."""
        passes = np.ceil(rows.n / self.tile.columns)
        return rows.batch * m * k / self.chip.lanes * passes * convert_cycles(rows, self.chip)


class ShrunkGemm(DenseGemm):
    """Dense GEMM on what whole zero rows or slices leave."""

    name = "gemm-shrunk"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Patterns of other kinds."""
        yield from super().refusals(problem)
        kind = gemm_rows(problem, self.chip).pattern[:, PatternColumn.KIND]
        yield ~np.isin(kind, (PatternKind.ROWS, PatternKind.SLICE)), "no whole rows or slices are zero"

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        rows = gemm_rows(problem, self.chip)
        kept = rows.pattern[:, PatternColumn.DENSITY]
        by_rows = rows.pattern[:, PatternColumn.KIND] == PatternKind.ROWS
        m = np.where(by_rows, np.maximum(np.rint(rows.m * kept), 1.0), rows.m)
        k = np.where(by_rows, rows.k, np.maximum(np.rint(rows.k * kept), 1.0))
        return self.of_shape(rows, m, k)


class Depthwise(CpuKernel):
    """Convolution of one filter a channel: channels side by side in registers, an input load per multiply-add."""

    name = "depthwise"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Products with more than one output a group."""
        rows = gemm_rows(problem, self.chip)
        yield (rows.m > 1) | (rows.batch == 1) | ~rows.weight, "it is no depthwise convolution"
        yield ~rows.native, "this core has no multiply-add for the type A is stored in"

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        rows, chip = gemm_rows(problem, self.chip), self.chip
        width = chip.vector_bytes * 8 / rows.b_bits
        registers = np.ceil(rows.batch / width)
        # Narrow types widen to 32 bits first: dot products along the reduction are of no use here.
        step = np.maximum(width / (chip.fma_ports * chip.lanes), 1.0 / chip.load_ports)
        cycles = registers * rows.n * rows.k * step
        return gemm_mapping(
            rows, chip,
            macs=registers * width * rows.n * rows.k,
            kind=rows.kind,
            core_cycles=cycles,
            efficiency=chip.constants.dense_efficiency.value,
            index_cycles=0.0,
            a_bytes=rows.a_bytes,
            l1_fills=rows.a_bytes + rows.b_bytes + rows.c_bytes,
            m_units=np.ones(len(rows)),
            n_units=rows.n,
            roof_macs=rows.macs,
        )  # fmt: skip
