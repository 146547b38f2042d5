"""Sparse weights times many tokens: block-sparse int8 (ITREX), and nonzeros one by one (XNNPACK, DeepSparse, CSR)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from accel_models.cpu.chip import FP32, INT8, Chip
from accel_models.cpu.columns import MapColumn
from accel_models.cpu.kernels.base import CpuKernel, gemm_mapping, unevenness
from accel_models.cpu.kernels.microkernel import work
from accel_models.cpu.kernels.rows import Bools, GemmRows, convert_cycles, fp32_kind, gemm_rows, is_float
from simsparse.formats import stored_bits
from simsparse.machine import Refusal
from simsparse.occupancy import occupied
from simsparse.plan import Floats, ProblemColumn
from simsparse.sparsity import PatternColumn, PatternKind

FEWEST_TOKENS = 64.0  # DeepSparse 1.8 on AVX2
_AT_RUN_TIME = (PatternKind.ACTIVATION, PatternKind.ATTENTION_BLOCK, PatternKind.ATTENTION_TOKEN)


def static_zeros(rows: GemmRows) -> Bools:
    """Whether zeros of a stored weight are known beforehand, so that they can be left out."""
    kind = rows.pattern[:, PatternColumn.KIND]
    return rows.weight & ~np.isin(kind, (*_AT_RUN_TIME, PatternKind.DENSE))


def stored_bytes(form: str, rows: GemmRows) -> Floats:
    """Bytes of A in a format, over the batch."""
    values, metadata = stored_bits(form, rows.m, rows.k, rows.a_bits, rows.pattern)
    return rows.batch * (values + metadata) / 8


def missed(rows: GemmRows, chip: Chip, tokens: float, touched: Floats) -> Floats:
    """Bytes of `touched` activations that L1 has not got: a tile of all the reduction by `tokens` passes through it."""
    panel = rows.k * np.minimum(rows.n, tokens) * rows.b_bits / 8
    return touched * rows.b_bits / 8 * np.maximum(1 - chip.l1_bytes / panel, 0.0)


class Block4x1(CpuKernel):
    """Blocks of 4 outputs, int8 with VNNI (ITREX).

    Four blocks of a row of blocks go together: 16 bytes of tokens from each of their four inputs are interleaved by
    three shuffles into one register, which four dot-product instructions, one an output, multiply with a broadcast of
    four weights. The broadcasts serve four registers of tokens.
    """

    name = "spmm-4x1-int8"
    format = "bcsr4x1"
    height = 4
    shuffles = 3.0
    tokens = 64.0

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Everything that is not int8 on AVX-512 VNNI with stored zeros."""
        rows = gemm_rows(problem, self.chip)
        none = not {"AVX-512", "VNNI"} <= self.chip.simd
        yield np.full(len(rows), none), "it needs AVX-512 VNNI"
        yield (rows.kind != INT8) | ~rows.native | (rows.b_bits != 8), "it multiplies int8 by int8"
        yield ~static_zeros(rows), "the weight has no zeros known beforehand"

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        rows, chip = gemm_rows(problem, self.chip), self.chip
        bands = np.ceil(rows.m / self.height)
        kept = rows.k * occupied(rows.pattern, self.height, 1)
        quads = np.where(kept > 0, np.ceil(kept / 4), 0.0)  # a band's last quad is filled up
        registers = np.ceil(rows.n / chip.lanes)
        multiply = self.height * chip.lanes * 4 / chip.rates[INT8]
        shuffled = (self.height + self.shuffles) / chip.fma_ports
        loads = 4 + self.height / np.minimum(registers, self.tokens / chip.lanes)
        steps = rows.batch * bands * quads * registers
        a_bytes = stored_bytes(self.format, rows)
        passes = np.ceil(rows.n / self.tokens)
        touched = rows.batch * bands * quads * 4 * rows.n
        return gemm_mapping(
            rows, chip,
            macs=steps * self.height * 4 * chip.lanes,
            kind=rows.kind,
            core=work(chip, steps * max(multiply, shuffled), steps * loads),
            efficiency=chip.dense_efficiency * chip.constants.block_share.value,
            index_cycles=rows.batch * bands * quads * passes * chip.constants.index_cycles.value,
            a_bytes=a_bytes,
            l1_fills=a_bytes * passes + missed(rows, chip, self.tokens, touched) + rows.b_bytes + rows.c_bytes,
            m_units=bands,
            n_units=passes,
            roof_macs=rows.batch * bands * self.height * kept * rows.n,
            uneven=unevenness(rows, chip),
        )  # fmt: skip


@dataclass(frozen=True)
class SpmmStyle:
    """What differs among the kernels that walk through nonzeros.

    Attributes
    ----------
    height : int
        Outputs side by side that share the loads of an input.
    whole : bool
        Their weights for an input are stored and multiplied together, zeros among them, under one index.
    registers : float
        Registers of tokens that a step covers, per output.
    sums : float
        Loads and stores of partial sums per register and step; 0 where sums stay in registers.
    cut : bool
        The reduction is cut so that a tile's inputs stay in L1; partial sums go through L2 once a cut.
    """

    height: int
    whole: bool
    registers: float
    sums: float
    cut: bool = False

    def inputs(self, rows: GemmRows, chip: Chip) -> Floats:
        """Inputs of a tile of tokens between two cuts, (n,)."""
        tokens = np.minimum(rows.n, self.registers * chip.lanes)
        return np.clip(np.floor(chip.l1_bytes / 2 / (tokens * rows.b_bits / 8)), 1.0, rows.k)


class NonzeroSpmm(CpuKernel):
    """For each input that outputs side by side need: load its row of tokens, broadcast weights, multiply-add (fp32)."""

    style: SpmmStyle

    @property
    def step_index_cycles(self) -> float:
        """Core cycles of index work for an index and tile of tokens."""
        return self.chip.constants.index_cycles.value

    @property
    def efficiency(self) -> float:
        """Share of its issue-limited rate that the microkernel sustains."""
        return self.chip.dense_efficiency * self.chip.constants.sparse_share.value

    unfolds = True  # whether it runs convolutions wider than 1x1

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Integers, weights without known zeros, and wide convolutions where it cannot run them."""
        rows = gemm_rows(problem, self.chip)
        yield ~is_float(rows), "it multiplies in fp32"
        yield ~static_zeros(rows), "the weight has no zeros known beforehand"
        if not self.unfolds:
            yield problem[:, ProblemColumn.CONV_REUSE] > 1, "it runs no convolution wider than 1x1"

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        rows, chip, style = gemm_rows(problem, self.chip), self.chip, self.style
        kind = fp32_kind(rows)
        loaded = rows.batch * np.ceil(rows.m / style.height) * rows.k * occupied(rows.pattern, style.height, 1)
        nonzeros = rows.batch * rows.m * rows.k * rows.pattern[:, PatternColumn.DENSITY]
        weights, indices = (loaded * style.height, loaded) if style.whole else (nonzeros, nonzeros)
        registers = np.ceil(rows.n / chip.lanes)
        tiles = np.ceil(registers / style.registers)
        multiply = weights * registers * chip.lanes / chip.rates[FP32]
        sums, refilled = self.partial_sums(rows, weights, loaded)
        loads = (loaded + weights * sums) * registers + weights * tiles
        a_bytes = stored_bytes(self.format, rows)
        return gemm_mapping(
            rows, chip,
            macs=weights * registers * chip.lanes,
            kind=kind,
            core=work(chip, multiply, loads),
            efficiency=self.efficiency,
            index_cycles=tiles * (indices * self.step_index_cycles + weights * convert_cycles(rows, chip, kind)),
            a_bytes=a_bytes,
            l1_fills=a_bytes * tiles + refilled + rows.b_bytes + rows.c_bytes,
            m_units=np.ceil(rows.m / style.height),
            n_units=tiles,
            roof_macs=weights * rows.n,
            uneven=unevenness(rows, chip),
        )  # fmt: skip

    def partial_sums(self, rows: GemmRows, weights: Floats, loaded: Floats) -> tuple[Floats, Floats]:
        """Loads and stores of sums per weight, and bytes that L2 gives again: of inputs, or of sums where K is cut."""
        chip, style = self.chip, self.style
        if not style.cut:
            tokens = style.registers * chip.lanes
            return np.full(len(rows), style.sums), missed(rows, chip, tokens, loaded * rows.n)
        cuts = np.ceil(rows.k / style.inputs(rows, chip))
        in_cut = weights / (rows.batch * rows.m * cuts)
        sums = np.where(cuts > 1, style.sums / np.maximum(in_cut, 1.0), 0.0)
        return sums, rows.batch * rows.m * rows.n * 8.0 * (cuts - 1)


class XnnSpmm(NonzeroSpmm):
    """XNNPACK's SpMM: pixels side by side, 32 of them a step with NEON, index by pointer differences."""

    unfolds = False

    def __init__(self, chip: Chip, height: int) -> None:
        super().__init__(chip)
        self.name = f"spmm-{height}x1"
        self.format = "csr32" if height == 1 else f"bcsr{height}x1"
        # Accumulators limit the tile: 32 pixels of one or two outputs, 16 of four with NEON.
        across = min(32.0 / chip.lanes, float((chip.registers - 6) // height // 2 * 2))
        self.style = SpmmStyle(height, True, max(across, 1.0), 0.0)


class GeneratedSpmm(NonzeroSpmm):
    """Code generated for one mask (DeepSparse-like): four outputs share the inputs that any of them needs.

    Sums stay in registers as long as the inputs stay in L1. A bare product has its activations put into the engine's
    layout and back; within a model they stay in it.
    """

    name = "spmm-generated"
    format = "csr16"
    outputs = 4

    def __init__(self, chip: Chip) -> None:
        super().__init__(chip)
        # Registers hold the sums, an input for each of their columns, and a weight.
        registers = float((chip.registers - 1) // (self.outputs + 1))
        self.style = SpmmStyle(self.outputs, False, registers, 2.0, cut=True)

    @property
    def step_index_cycles(self) -> float:
        """See `NonzeroSpmm`."""
        return self.chip.constants.generated_index_cycles.value

    @property
    def efficiency(self) -> float:
        """See `NonzeroSpmm`."""
        wide = "AVX-512" in self.chip.simd
        return self.chip.dense_efficiency * (1.0 if wide else self.chip.constants.generated_share.value)

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        mapped = super().map(problem)
        if not self.chip.in_framework:
            rows = gemm_rows(problem, self.chip)
            # Before and after the product, shared evenly whatever the nonzeros.
            values = rows.batch * rows.n * (rows.k + rows.m) / self.chip.threads
            mapped[:, MapColumn.OVERHEAD_CYCLES] += values * self.chip.constants.reorder_cycles.value
        return mapped

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Also other architectures, and matrices that are too dense."""
        yield from super().refusals(problem)
        rows = gemm_rows(problem, self.chip)
        yield rows.n < FEWEST_TOKENS, f"fewer than {FEWEST_TOKENS:.0f} tokens, which the engine takes in pairs"
        yield from engine_refusals(rows, self.chip)


class GeneratedInt8(CpuKernel):
    """The same in int8 with dot products (VNNI): groups of four inputs that an output needs any of, multiplied whole.

    A group moves whole, zeros too, under one index of 16 bits; footprints count nonzeros one by one (`format`).
    Masks that prune such groups together (the 4-block models of DeepSparse, `block1x4`) lose nothing by it.
    """

    name = "spmm-1x4-int8"
    format = "csr16"
    group = 4
    outputs = 4  # that share the loads of inputs

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Cores without dot products, other types, few tokens, wide convolutions, and what the engine leaves dense."""
        rows = gemm_rows(problem, self.chip)
        dot = {"VNNI", "AVX-VNNI"} & self.chip.simd
        yield np.full(len(rows), not dot), "it needs VNNI"
        yield (rows.kind != INT8) | ~rows.native | (rows.b_bits != 8), "it multiplies int8 by int8"
        yield ~static_zeros(rows), "the weight has no zeros known beforehand"
        yield rows.n < FEWEST_TOKENS, f"fewer than {FEWEST_TOKENS:.0f} tokens"
        yield from engine_refusals(rows, self.chip)

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        rows, chip = gemm_rows(problem, self.chip), self.chip
        groups = rows.batch * np.ceil(rows.k / self.group)
        weights = groups * rows.m * occupied(rows.pattern, 1, self.group)
        loaded = groups * np.ceil(rows.m / self.outputs) * occupied(rows.pattern, self.outputs, self.group)
        registers = np.ceil(rows.n / chip.lanes)
        tiles = np.ceil(registers / ((chip.registers - 1) // (self.outputs + 1)))
        macs = weights * registers * chip.lanes * self.group
        a_bytes = weights * (self.group + 2.0)
        return gemm_mapping(
            rows, chip,
            macs=macs,
            kind=rows.kind,
            core=work(chip, macs / chip.rates[INT8], loaded * registers + weights * tiles),
            efficiency=chip.dense_efficiency * chip.constants.generated_int8_share.value,
            index_cycles=tiles * weights * chip.constants.generated_index_cycles.value,
            a_bytes=a_bytes,
            l1_fills=a_bytes * tiles + rows.b_bytes + rows.c_bytes,
            m_units=np.ceil(rows.m / self.outputs),
            n_units=tiles,
            roof_macs=weights * self.group * rows.n,
            uneven=unevenness(rows, chip),
        )  # fmt: skip


def engine_refusals(rows: GemmRows, chip: Chip) -> Iterator[Refusal]:
    """What a DeepSparse-like engine leaves to its dense kernels."""
    yield np.full(len(rows), not chip.x86), "the engine is for x86"
    yield stays_dense(rows, chip), f"the engine stays dense below {chip.constants.compress_from.value:.0%} sparsity"


def stays_dense(rows: GemmRows, chip: Chip) -> Bools:
    """Whether weights are too dense for such an engine to leave out zeros; the threshold itself is not."""
    dense: Bools = 1 - rows.pattern[:, PatternColumn.DENSITY] < chip.constants.compress_from.value - 1e-12
    return dense
