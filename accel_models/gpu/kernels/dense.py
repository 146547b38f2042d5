"""Kernels that multiply every element they load: dense, sliced, weight-only quantised, activation-sparse."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel_models.gpu.columns import Map
from accel_models.gpu.engine import LANE_TILES, TENSOR_TILES
from accel_models.gpu.kernels.base import C, P, ProductKernel, has_kind, pattern_of
from simsparse.machine import Refusal
from simsparse.occupancy import distinct_inputs
from simsparse.plan import Floats
from simsparse.sparsity import PatternKind

ONE_TYPE = "operands of different types"


def mixed_types(problem: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Rows whose A is narrower than its B (weight-only quantisation)."""
    return problem[:, C.A_BITS] < problem[:, C.B_BITS]


def of_alignment(extent: Floats, bits: Floats) -> Floats:
    """Fraction of the rate that tensor-core kernels keep where rows are aligned to less than 16 bytes.

    Recalled from NVIDIA's guide to matrix multiplication, whose figures show that less than 16 bytes costs, and most
    for odd extents of 16-bit types; the fractions themselves are held against no measurement.
    """
    size = extent * np.floor(bits) / 8
    kept = np.ones_like(size)
    for piece, fraction in ((16, 0.9), (8, 0.75), (4, 0.5)):
        kept = np.where(size % piece != 0, fraction, kept)
    return kept


class Dense(ProductKernel):
    """Tensor-core GEMM as cuBLAS and PyTorch run it; whatever is zero is multiplied all the same."""

    name = "cublas"

    def map(self, problem: Floats) -> Floats:
        """Rows of A or C that do not start at 16 bytes are loaded in smaller pieces."""
        rows = super().map(problem)
        if self.menu == TENSOR_TILES:
            rows[:, Map.EFFICIENCY] *= np.minimum(
                of_alignment(problem[:, C.K], problem[:, C.A_BITS]), of_alignment(problem[:, C.M], problem[:, C.C_BITS])
            )
        return rows

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Types without tensor cores, mixed types."""
        yield from super().refusals(problem)
        yield mixed_types(problem), ONE_TYPE


class Simt(Dense):
    """The same on CUDA cores: fp32 SGEMM; `issue_cycles` are other instructions for every multiplication."""

    name = "cublas-simt"
    menu = LANE_TILES
    units = "CUDA cores"

    def rate(self, problem: Floats) -> Floats:
        """Fused multiply-adds of the lanes, between loads from shared memory."""
        return self.rates.issued(problem, self.constants.issue_cycles)


class Depthwise(ProductKernel):
    """Convolutions of one channel each (depthwise), on CUDA cores: every pixel is read once and met by its filter."""

    name = "depthwise"
    leaves_out = True
    menu = LANE_TILES
    units = "CUDA cores"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Everything but convolutions in many groups of a few channels."""
        yield from super().refusals(problem)
        yield mixed_types(problem), ONE_TYPE
        yield (problem[:, C.CONV_REUSE] <= 1.0) | (problem[:, C.M] > 4) | (problem[:, C.BATCH] < 8), "no depthwise conv"

    def rate(self, problem: Floats) -> Floats:
        """Fused multiply-adds of the lanes."""
        return self.rates.simt(problem)

    def map(self, problem: Floats) -> Floats:
        """Pixels of all channels stand as rows of A, the filters are too small to count."""
        rows = super().map(problem)
        pixels = problem[:, C.BATCH] * problem[:, C.M] * problem[:, C.N]
        rows[:, Map.M], rows[:, Map.N], rows[:, Map.BATCH] = pixels, 1.0, 1.0
        rows[:, Map.A_BYTES] = rows[:, Map.A_STORED] = (
            problem[:, C.B_BITS] / 8 / problem[:, C.CONV_REUSE] / problem[:, C.M]
        )
        return rows


class Sliced(Dense):
    """Dense GEMM over what is left when whole outputs or slices of the reduction are gone."""

    name = "cublas-sliced"
    leaves_out = True
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
    """Narrow weights widened in registers before the multiplication (Marlin), beside it: no cost of it shows."""

    name = "marlin"
    least_capability = 8.0

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Operands of one type."""
        yield from super().refusals(problem)
        yield ~mixed_types(problem), "weights are not narrower than activations"


class ActivationSparse(Dense):
    """GEMV with a thread block a neuron, which reads its weights if the neuron is active (over a batch, for any token).

    Neurons are along the longer side of the matrix, as in a feed-forward layer: its outputs in the first product, its
    inputs in the second. `issue_cycles` pass, on the whole card, from one neuron's block to the next one's.
    """

    name = "act-gemv"
    leaves_out = True
    patterns = (PatternKind.ACTIVATION,)
    made_for = "no activation is known to be zero"

    def map(self, problem: Floats) -> Floats:
        """A shorter reduction, and a block to launch for every neuron, idle ones too."""
        rows = super().map(problem)
        active = distinct_inputs(pattern_of(problem), problem[:, C.N])
        rows[:, Map.K] = np.maximum(1.0, np.ceil(problem[:, C.K] * active))
        rows[:, Map.EXECUTED] = active
        neurons = np.maximum(problem[:, C.M], problem[:, C.K]) * problem[:, C.BATCH]
        rows[:, Map.LAUNCH_S] += neurons * self.constants.issue_cycles / self.rates.clock_hz
        return rows
