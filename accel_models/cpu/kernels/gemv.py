"""Few tokens, where bytes decide: compressed weights expanded on the fly, N:M in registers, idle inputs skipped."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel_models.cpu.chip import FP32, TYPE_BITS
from accel_models.cpu.kernels.base import CpuKernel, gemm_mapping
from accel_models.cpu.kernels.microkernel import dense_work, simd_tile, work
from accel_models.cpu.kernels.rows import convert_cycles, fp32_kind, gemm_rows, is_float
from accel_models.cpu.kernels.spmm import engine_refusals, static_zeros, stored_bytes
from simsparse.machine import Refusal
from simsparse.occupancy import distinct_inputs
from simsparse.plan import Floats, ProblemColumn
from simsparse.sparsity import PatternColumn, PatternKind

_AVX2_EXPAND = 2.0  # a table of permutations stands in for the expand instruction
PASS_TOKENS = 2.0  # that share an expansion: DeepSparse 1.8 takes twice as long for 4 as for 2, and as long for 1


class CompressedGemv(CpuKernel):
    """Bitmap and nonzeros (DeepSparse-like): registers are expanded, then multiplied like dense ones.

    Bytes fall with the density, expansion does not: from some sparsity on it is the bound.
    """

    name = "gemv-compressed"
    format = "bitmap"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Weights without known zeros, and what the engine leaves dense."""
        rows = gemm_rows(problem, self.chip)
        yield ~static_zeros(rows), "the weight has no zeros known beforehand"
        yield from engine_refusals(rows, self.chip)

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        rows, chip, tile = gemm_rows(problem, self.chip), self.chip, simd_tile(self.chip)
        bits = np.floor(rows.a_bits)
        registers = rows.batch * rows.m * rows.k * bits / 8 / chip.vector_bytes
        passes = np.ceil(rows.n / PASS_TOKENS)
        expand = chip.constants.expand_cycles.value * (1.0 if "AVX-512" in chip.simd else _AVX2_EXPAND)
        convert = rows.batch * rows.m * rows.k / chip.lanes * convert_cycles(rows, chip)
        a_bytes = stored_bytes(self.format, rows)
        macs = rows.macs
        return gemm_mapping(
            rows, chip,
            macs=macs,
            kind=rows.kind,
            core=dense_work(chip, tile, rows.kind, rows.m, rows.n, rows.k).times(rows.batch),
            efficiency=tile.efficiency,
            index_cycles=passes * (registers * expand + convert),
            a_bytes=a_bytes,
            l1_fills=a_bytes * passes + rows.b_bytes + rows.c_bytes,
            m_units=np.ceil(rows.m / tile.outputs),
            n_units=passes,
            roof_macs=macs,
        )  # fmt: skip


class GroupedGemm(CpuKernel):
    """N:M with outputs side by side: a register holds the M inputs of a group, each output permutes its own out."""

    name = "gemm-n:m"
    format = "n:m"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Other patterns, groups wider than a register, integers."""
        rows = gemm_rows(problem, self.chip)
        kind, group = rows.pattern[:, PatternColumn.KIND], rows.pattern[:, PatternColumn.M]
        yield ~np.isin(kind, (PatternKind.NM, PatternKind.NMV)) | ~rows.weight, "the weight is not N:M"
        yield group > self.chip.lanes, f"a group has more inputs than a register holds ({self.chip.lanes})"
        yield ~is_float(rows), "it multiplies in fp32"

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        rows, chip = gemm_rows(problem, self.chip), self.chip
        kind = fp32_kind(rows)
        n_of, m_of = rows.pattern[:, PatternColumn.N], rows.pattern[:, PatternColumn.M]
        slots = rows.batch * np.ceil(rows.m / chip.lanes) * np.ceil(rows.k / m_of) * n_of
        multiply = slots * rows.n * chip.lanes / chip.rates[FP32]
        a_bytes = stored_bytes(self.format, rows)
        passes = np.ceil(rows.n / 8)
        unpack = 1.0 + convert_cycles(rows, chip, kind)
        return gemm_mapping(
            rows, chip,
            macs=slots * chip.lanes * rows.n,
            kind=kind,
            core=work(chip, multiply, slots * 2),
            efficiency=chip.dense_efficiency * chip.constants.sparse_share.value,
            index_cycles=slots * (rows.n / chip.shuffles_per_cycle + passes * unpack),
            a_bytes=a_bytes,
            l1_fills=a_bytes * passes + rows.b_bytes + rows.c_bytes,
            m_units=np.ceil(rows.m / chip.lanes),
            n_units=passes,
            roof_macs=rows.batch * rows.m * rows.k * n_of / m_of * rows.n,
        )  # fmt: skip


class SkippingGemv(CpuKernel):
    """Columns of idle inputs are neither read nor multiplied (CHESS, TEAL); A stored input by input.

    Inputs are compared and compressed once a token; each active one costs an index for every block of outputs. Every
    token is a GEMV of its own, which asks for the weights of its own inputs: tokens share them through caches only.
    """

    name = "gemv-skip"
    outputs_registers = 8.0

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Products whose inputs are all needed."""
        rows = gemm_rows(problem, self.chip)
        by_weight = rows.pattern[:, PatternColumn.KIND] == PatternKind.ACTIVATION
        yield ~by_weight & (problem[:, ProblemColumn.B_DENSITY] >= 1), "no input is idle"
        yield ~rows.weight, "A is no stored weight"

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        rows, chip = gemm_rows(problem, self.chip), self.chip
        by_weight = rows.pattern[:, PatternColumn.KIND] == PatternKind.ACTIVATION
        of_inputs = problem[:, ProblemColumn.B_DENSITY]
        density = np.where(by_weight, rows.pattern[:, PatternColumn.DENSITY], of_inputs)
        own = 1 - (1 - of_inputs) ** rows.n  # every token by itself where nothing is said
        read = np.where(by_weight, distinct_inputs(rows.pattern, rows.n), own)
        active = rows.batch * rows.n * rows.k * density
        registers = np.ceil(rows.m / chip.lanes)
        group = simd_tile(chip).group_of[rows.kind]
        # Outputs sit in registers: no sum crosses lanes, and dot products along the reduction are of no use.
        multiply = chip.lanes * group / chip.rates[rows.kind]
        blocks = np.ceil(registers / self.outputs_registers)
        convert = convert_cycles(rows, chip)
        a_bytes = rows.a_bytes * read
        asked = rows.a_bytes * density * rows.n
        return gemm_mapping(
            rows, chip,
            macs=active * registers * chip.lanes,
            kind=rows.kind,
            core=work(chip, active * registers * multiply, active * registers * TYPE_BITS[rows.kind] / 32),
            efficiency=chip.dense_efficiency * chip.constants.sparse_share.value,
            index_cycles=active * (blocks * chip.constants.index_cycles.value + registers * convert)
            + rows.batch * rows.n * rows.k * 2 / chip.lanes,
            a_bytes=a_bytes,
            l1_fills=asked + rows.b_bytes + rows.c_bytes,
            reread=np.maximum(asked - a_bytes, 0.0),
            m_units=blocks,
            n_units=np.ones(len(rows)),
            roof_macs=active * rows.m,
        )  # fmt: skip
