"""Kernels that multiply every element they load: dense, sliced, weight-only quantised, activation-sparse."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel_models.gpu.columns import Map
from accel_models.gpu.kernels.base import C, P, ProductKernel, has_kind, pattern_of
from simsparse.machine import Refusal
from simsparse.occupancy import distinct_inputs
from simsparse.plan import Floats
from simsparse.sparsity import PatternKind

ONE_TYPE = "operands of different types"


def mixed_types(problem: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Rows whose A is narrower than its B (weight-only quantisation)."""
    return problem[:, C.A_BITS] < problem[:, C.B_BITS]


class Dense(ProductKernel):
    """Tensor-core GEMM as cuBLAS and PyTorch run it; whatever is zero is multiplied all the same."""

    name = "cublas"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Types without tensor cores, mixed types."""
        yield from super().refusals(problem)
        yield mixed_types(problem), ONE_TYPE


class Simt(Dense):
    """The same on CUDA cores: fp32 SGEMM."""

    name = "cublas-simt"
    menu = 1
    units = "CUDA cores"

    def rate(self, problem: Floats) -> Floats:
        """Fused multiply-adds of the lanes."""
        return self.rates.simt(problem)


class Sliced(Dense):
    """Dense GEMM over what is left when whole outputs or slices of the reduction are gone."""

    name = "cublas-sliced"
    patterns = (PatternKind.ROWS, PatternKind.SLICE)
    made_for = "only whole rows or slices can be cut off"

    def map(self, problem: Floats) -> Floats:
        """Smaller extents."""
        rows = super().map(problem)
        kept = pattern_of(problem)[:, P.DENSITY]
        by_rows = has_kind(problem, PatternKind.ROWS)
        rows[:, Map.M] = np.maximum(1.0, np.round(np.where(by_rows, problem[:, C.M] * kept, problem[:, C.M])))
        rows[:, Map.K] = np.maximum(1.0, np.round(np.where(by_rows, problem[:, C.K], problem[:, C.K] * kept)))
        rows[:, Map.EXECUTED] = kept
        return rows


class WeightOnly(ProductKernel):
    """Narrow weights widened in registers before the multiplication (Marlin)."""

    name = "marlin"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Operands of one type."""
        yield from super().refusals(problem)
        yield ~mixed_types(problem), "weights are not narrower than activations"

    def map(self, problem: Floats) -> Floats:
        """Issue slots for every element that is widened."""
        rows = super().map(problem)
        rows[:, Map.ISSUE] = self.constants.issue_cycles
        return rows


class ActivationSparse(Dense):
    """GEMV that reads only the weights of active neurons; over a batch, of those any token needs."""

    name = "act-gemv"
    patterns = (PatternKind.ACTIVATION,)
    made_for = "no activation is known to be zero"

    def map(self, problem: Floats) -> Floats:
        """A shorter reduction, and an index to look up for every row of weights."""
        rows = super().map(problem)
        active = distinct_inputs(pattern_of(problem), problem[:, C.N])
        rows[:, Map.K] = np.maximum(1.0, np.ceil(problem[:, C.K] * active))
        rows[:, Map.EXECUTED] = active
        rows[:, Map.ISSUE] = self.constants.issue_cycles
        return rows
