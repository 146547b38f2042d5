"""Dense products: SIMD and matrix-unit GEMM, with conversion of A, on shrunk shapes, and depthwise convolution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from accel_models.cpu.chip import INT8, TYPE_BITS
from accel_models.cpu.columns import MapColumn
from accel_models.cpu.kernels.base import CpuKernel, gemm_mapping
from accel_models.cpu.kernels.microkernel import Tile, dense_work, matrix_tile, simd_tile, work
from accel_models.cpu.kernels.rows import GemmRows, convert_cycles, gemm_rows, is_float
from simsparse.machine import Refusal
from simsparse.plan import COMPUTE_TYPES, Floats, ProblemColumn
from simsparse.sparsity import PatternColumn, PatternKind

_FLOAT8 = tuple(COMPUTE_TYPES.index(name) for name in ("fp8", "fp4"))
SCALE_BLOCK = 32.0  # values along the reduction that share a scale of the activations


class DenseGemm(CpuKernel):
    """Register-blocked SIMD GEMM (oneDNN, MKL, XNNPACK); A packed beforehand, zeros multiplied like the rest."""

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
        n_tiles = np.ceil(rows.n / tile.columns)
        m_tiles = np.ceil(m / tile.outputs)
        a_bytes = rows.batch * m * k * rows.a_bits / 8
        packing = np.where(rows.weight, 0.0, 2 * a_bytes)
        padded = np.ceil(m / tile.outputs * 2) / 2 * tile.outputs * rows.n * k
        # What is converted for several panels of tokens is packed as converted.
        wide = rows.batch * m * k * np.maximum(TYPE_BITS[rows.kind], np.floor(rows.a_bits)) / 8
        panel = np.where(n_tiles > 1, np.maximum(wide, a_bytes), a_bytes)
        # The microkernel's panel of tokens stays in L1 while A streams from L2, once per panel.
        return gemm_mapping(
            rows, chip,
            macs=rows.batch * padded,
            kind=rows.kind,
            core=dense_work(chip, tile, rows.kind, m, rows.n, k).times(rows.batch),
            efficiency=tile.efficiency,
            index_cycles=self.conversion(rows, m, k),
            a_bytes=a_bytes,
            l1_fills=panel * n_tiles + rows.b_bytes + rows.c_bytes + packing,
            m_units=m_tiles,
            n_units=n_tiles,
            roof_macs=rows.batch * m * rows.n * k,
        )  # fmt: skip

    def conversion(self, rows: GemmRows, m: Floats, k: Floats) -> Floats:
        """Core cycles to convert A; none here."""
        del m, k
        return np.zeros(len(rows))


class MlasGemm(DenseGemm):
    """As ONNX Runtime runs it on x86; slower than the best libraries, so only taken by name."""

    name = "gemm-mlas"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Other architectures."""
        yield from super().refusals(problem)
        yield np.full(len(problem), not self.chip.x86), "its efficiency is known for x86"

    @property
    def tile(self) -> Tile:
        """Its microkernel."""
        return simd_tile(self.chip, self.chip.constants.mlas_efficiency.value)

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`; a session of its own runs a bare product."""
        mapped = super().map(problem)
        if not self.chip.in_framework:
            mapped[:, MapColumn.OVERHEAD_CYCLES] = self.chip.constants.mlas_call_cycles.value
        return mapped


class MatrixGemm(DenseGemm):
    """GEMM on a matrix unit (AMX of Intel or Apple): weights fill whole tiles, rows of tokens may be few."""

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
        """A register at a time, once; a store each where several panels of tokens need the result."""
        several = rows.n > self.tile.columns
        stores = np.where(several, TYPE_BITS[rows.kind] / 32 / self.chip.fma_ports, 0.0)
        return rows.batch * m * k / self.chip.lanes * (convert_cycles(rows, self.chip) + stores)


class DotGemm(ConvertGemm):
    """Weight-only int8 and int4 as llama.cpp runs them: activations are quantised too, for integer dot products.

    Blocks of 32 activations share a scale; sums of a block become floating point and are scaled, output by output.
    """

    name = "gemm-dot"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Weights that are not integers of at most 8 bits, or activations that are."""
        rows = gemm_rows(problem, self.chip)
        yield (np.floor(rows.a_bits) > 8) | ~rows.weight, "A is no weight of at most 8 bits"
        yield np.isin(problem[:, ProblemColumn.COMPUTE], _FLOAT8), "A is floating point"
        yield ~is_float(rows) | (rows.b_bits <= 8), "the activations are integers already"
        yield np.full(len(rows), self.chip.rates[INT8] == 0), "this core has no integer multiply-add"

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        rows = gemm_rows(problem, self.chip)
        return self.of_shape(replace(rows, kind=np.full(len(rows), INT8)), rows.m, rows.k)

    def conversion(self, rows: GemmRows, m: Floats, k: Floats) -> Floats:
        """Unpacking of A, scaling of sums, and quantisation of the activations."""
        chip, c = self.chip, self.chip.constants
        scaled = rows.batch * m * rows.n * np.ceil(k / SCALE_BLOCK) * c.scale_instructions.value
        quantized = rows.batch * rows.n * k * c.quantize_instructions.value
        unpacked = np.where(np.floor(rows.a_bits) < 8, super().conversion(rows, m, k), 0.0)
        return unpacked + (scaled + quantized) / chip.lanes / chip.fma_ports


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
        steps = registers * rows.n * rows.k
        return gemm_mapping(
            rows, chip,
            macs=registers * width * rows.n * rows.k,
            kind=rows.kind,
            core=work(chip, steps * width / (chip.fma_ports * chip.lanes), steps),
            efficiency=chip.dense_efficiency,
            index_cycles=0.0,
            a_bytes=rows.a_bytes,
            l1_fills=rows.a_bytes + rows.b_bytes + rows.c_bytes,
            m_units=np.ones(len(rows)),
            n_units=rows.n,
            roof_macs=rows.macs,
        )  # fmt: skip
