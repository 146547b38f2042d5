"""Sparse products as scripts run them, by loops that no mask tuned: CSR and blocks of scipy, CSR rows in parallel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel_models.cpu.columns import MapColumn
from accel_models.cpu.kernels.base import CpuKernel, gemm_mapping, unevenness
from accel_models.cpu.kernels.microkernel import Work
from accel_models.cpu.kernels.rows import Bools, GemmRows, fp32_kind, gemm_rows, is_float
from accel_models.cpu.kernels.spmm import static_zeros, stored_bytes
from accel_models.cpu.kernels.traffic import missing
from simsparse.machine import Refusal
from simsparse.plan import Floats, ProblemColumn
from simsparse.sparsity import PatternColumn, PatternKind

SSE_LANES = 4.0  # scipy's wheels are built for any x86 or ARM core


class _PlainSpmm(CpuKernel):
    """Loops over stored weights in fp32 whose cycles are counted, not issued by a tuned microkernel."""

    format = "csr32"
    threaded = False

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Other architectures, integers, weights without known zeros, and convolutions that it would have to unfold."""
        rows = gemm_rows(problem, self.chip)
        yield np.full(len(rows), not self.chip.x86), "its cycles were counted on x86"
        yield ~is_float(rows), "it multiplies in fp32"
        yield ~static_zeros(rows), "the weight has no zeros known beforehand"
        yield problem[:, ProblemColumn.CONV_REUSE] > 1, "it runs no convolution wider than 1x1"

    @property
    def call_cycles(self) -> float:
        """From the call to the loop and back."""
        return self.chip.constants.scipy_call_cycles.value

    def mapped(self, rows: GemmRows, weights: Floats, cycles: Floats, vectors: Floats) -> Floats:
        """Mapping rows of loops over `weights` stored weights that take `cycles` in all and issue `vectors`."""
        chip = self.chip
        kind = fp32_kind(rows)
        a_bytes = stored_bytes(self.format, rows)
        mapped = gemm_mapping(
            rows, chip,
            macs=weights * rows.n,
            kind=kind,
            core=Work(cycles, vectors),
            efficiency=1.0,
            index_cycles=0.0,
            a_bytes=a_bytes,
            # Each weight has a row of tokens of its own, which L1 holds by chance only.
            l1_fills=a_bytes + weights * rows.n * rows.b_bits / 8 + rows.c_bytes,
            m_units=rows.m if self.threaded else np.ones(len(rows)),
            n_units=np.ones(len(rows)),
            roof_macs=weights * rows.n,
            uneven=unevenness(rows, chip) if self.threaded else 1.0,
        )  # fmt: skip
        # Rows of tokens that L2 does not hold come from the shared cache, nonzero by nonzero.
        fetched = weights * rows.n * rows.b_bits / 8 * missing(rows.b_bytes, chip.l2_bytes)
        if chip.has_l3:
            mapped[:, MapColumn.L3_BYTES] = np.maximum(mapped[:, MapColumn.L3_BYTES], fetched + a_bytes + rows.c_bytes)
            mapped[:, MapColumn.L2_BYTES] = np.maximum(mapped[:, MapColumn.L2_BYTES], mapped[:, MapColumn.L3_BYTES])
        mapped[:, MapColumn.OVERHEAD_CYCLES] = self.call_cycles + (chip.op_cycles if chip.in_framework else 0.0)
        return mapped


class CsrSpmm(_PlainSpmm):
    """CSR as scipy runs it, in one thread: for each nonzero an axpy over the tokens with the sums in L1.

    Vectors are as wide as any core has them, two at a time; what is left of the tokens goes one by one, and a single
    token has a scalar sum.
    """

    name = "spmm-csr"

    @property
    def lanes(self) -> float:
        """Tokens of a vector."""
        return SSE_LANES

    @property
    def unrolled(self) -> float:
        """Vectors at a time."""
        return 2.0

    @property
    def sum_cycles(self) -> float:
        """Cycles of a nonzero and a token with a scalar sum."""
        return self.chip.constants.csr_index_cycles.value

    @property
    def axpy_cycles(self) -> float:
        """Cycles of a nonzero and a vector of tokens."""
        return self.chip.constants.axpy_cycles.value

    @property
    def least(self) -> float:
        """Cycles of a nonzero however few tokens there are."""
        return 0.0

    def one_by_one(self, rows: GemmRows) -> Bools:
        """Where tokens have scalar sums, each of which waits for the addition before."""
        few: Bools = rows.n == 1
        return few

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        rows, c = gemm_rows(problem, self.chip), self.chip.constants
        nonzeros = rows.batch * rows.m * rows.k * rows.pattern[:, PatternColumn.DENSITY]
        step = self.unrolled * self.lanes
        vectors = np.floor(rows.n / step) * self.unrolled + rows.n % step
        axpy = np.maximum(vectors * self.axpy_cycles, self.least)
        each = np.where(self.one_by_one(rows), rows.n * self.sum_cycles, axpy)
        cycles = nonzeros * each + rows.batch * rows.m * c.csr_row_cycles.value
        return self.mapped(rows, nonzeros, cycles, nonzeros * vectors * 4)


class RowSpmm(CsrSpmm):
    """The same compiled for this core (numba), rows in parallel, four nonzeros for each load and store of sums."""

    name = "spmm-rows"
    threaded = True
    few = 8.0  # `FEW` of `measuring.loops`

    @property
    def call_cycles(self) -> float:
        """See `_PlainSpmm`."""
        return self.chip.constants.numba_call_cycles.value

    @property
    def lanes(self) -> float:
        """See `CsrSpmm`."""
        return float(self.chip.lanes)

    @property
    def unrolled(self) -> float:
        """See `CsrSpmm`."""
        return 1.0

    @property
    def sum_cycles(self) -> float:
        """See `CsrSpmm`."""
        return self.chip.constants.row_index_cycles.value

    @property
    def axpy_cycles(self) -> float:
        """See `CsrSpmm`."""
        return self.chip.constants.row_axpy_cycles.value

    @property
    def least(self) -> float:
        """See `CsrSpmm`."""
        return self.chip.constants.nonzero_cycles.value

    def one_by_one(self, rows: GemmRows) -> Bools:
        """See `CsrSpmm`."""
        few: Bools = rows.n < self.few
        return few


class BsrSpmm(_PlainSpmm):
    """Blocks as scipy runs them, in one thread: each dense, scalar, output by output."""

    name = "spmm-bsr"
    format = "bcsr"
    patterns = (PatternKind.BLOCK,)
    made_for = "the pattern is not one of blocks"

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        rows, c = gemm_rows(problem, self.chip), self.chip.constants
        weights = rows.batch * rows.m * rows.k * rows.pattern[:, PatternColumn.DENSITY]
        each = np.where(rows.n > 1, rows.n * c.bsr_cycles.value, c.bsr_token_cycles.value)
        return self.mapped(rows, weights, weights * each, weights * rows.n * 2)
