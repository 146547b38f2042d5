"""Kernels for N:M and its relatives: 2:4 on sparse tensor cores, V:N:M over them, N:M on CUDA cores."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel_models.gpu.columns import Map
from accel_models.gpu.engine import NM_TILES
from accel_models.gpu.kernels.base import C, P, ProductKernel, pattern_of
from accel_models.gpu.kernels.dense import ONE_TYPE, mixed_types
from simsparse.formats import bits_to_tell
from simsparse.machine import Refusal
from simsparse.occupancy import implies_nm
from simsparse.plan import Floats
from simsparse.sparsity import PatternKind

# Patterns that may imply 2:4.
GROUPED = (PatternKind.NM, PatternKind.NMV, PatternKind.VNM, PatternKind.MEASURED)
NOT_24 = "the pattern does not imply 2:4"
NO_CONVOLUTION = "the kernel runs no convolutions"


class SemiStructured(ProductKernel):
    """2:4 on sparse tensor cores: half of the values, 2 bits of index each, twice the rate."""

    name = "cusparselt"
    format = "2:4"
    units = "sparse tensor cores"
    patterns = GROUPED
    made_for = NOT_24
    raster = 0.0
    largest = 1.0

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Patterns that do not imply 2:4; extents the instruction cannot take."""
        yield from super().refusals(problem)
        yield mixed_types(problem), ONE_TYPE
        yield ~implies_nm(pattern_of(problem), 2, 4), NOT_24
        step = np.maximum(8.0, 128.0 / np.floor(problem[:, C.A_BITS]))
        yield (problem[:, C.M] % 8 != 0) | (problem[:, C.K] % (2 * step) != 0), "M or K is no multiple of the 2:4 tile"

    def rate(self, problem: Floats) -> Floats:
        """Twice the dense rate."""
        return self.rates.sparse(problem)

    def map(self, problem: Floats) -> Floats:
        """Half of A, with metadata."""
        rows = super().map(problem)
        stored = (0.5 * problem[:, C.A_BITS] + 1.0) / 8
        rows[:, Map.A_BYTES] = rows[:, Map.A_STORED] = stored
        rows[:, Map.EXECUTED] = 0.5
        rows[:, Map.RASTER] = self.raster
        rows[:, Map.LARGEST] = self.largest
        return rows


class Cutlass24(SemiStructured):
    """CUTLASS' 2:4 kernels, as PyTorch's semi-structured tensors call them."""

    name = "cutlass-24"
    raster = 1.0
    largest = 0.0


class SparseMarlin(SemiStructured):
    """2:4 over 4-bit weights, widened in registers."""

    name = "sparse-marlin"
    raster = 1.0
    largest = 0.0

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Patterns that do not imply 2:4; weights that are not narrow."""
        yield self.rate(problem) <= 0.0, f"no {self.units} for this type"
        yield ~mixed_types(problem), "weights are not narrower than activations"
        yield ~implies_nm(pattern_of(problem), 2, 4), NOT_24


class Venom(ProductKernel):
    """V:N:M (Spatha): V rows choose 4 of M columns, 2:4 inside; only the chosen rows of B are read."""

    name = "spatha"
    least_capability = 8.0
    format = "venom"
    units = "sparse tensor cores"
    patterns = (PatternKind.VNM,)
    made_for = "the pattern is no V:N:M"
    types = ("fp16", "bf16")

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """More than 2 of 4, mixed types."""
        yield from super().refusals(problem)
        yield mixed_types(problem), ONE_TYPE
        yield problem[:, C.CONV_REUSE] > 1.0, NO_CONVOLUTION
        yield pattern_of(problem)[:, P.N] > 2, "more than 2 of 4 chosen columns are kept"

    def rate(self, problem: Floats) -> Floats:
        """The 2:4 rate over 4 of M columns."""
        return self.rates.sparse(problem) * np.maximum(pattern_of(problem)[:, P.M], 4.0) / 4.0

    def map(self, problem: Floats) -> Floats:
        """Two levels of index; each strip of V rows gathers its own rows of B."""
        rows = super().map(problem)
        pattern = pattern_of(problem)
        chosen = 4.0 / np.maximum(pattern[:, P.M], 4.0)
        index = bits_to_tell(pattern[:, P.M]) * chosen / pattern[:, P.HEIGHT]
        stored = (chosen * (0.5 * problem[:, C.A_BITS] + 1.0) + index) / 8
        rows[:, Map.A_BYTES] = rows[:, Map.A_STORED] = stored
        # A thread block takes the rows of one strip.
        rows[:, Map.B_KEPT], rows[:, Map.GROUP] = chosen, pattern[:, P.HEIGHT]
        rows[:, Map.MOST_M] = np.maximum(pattern[:, P.HEIGHT], 16.0)
        strips = np.ceil(problem[:, C.M] / pattern[:, P.HEIGHT])
        rows[:, Map.B_TOUCHED] = 1.0 - (1.0 - chosen) ** strips
        rows[:, Map.EXECUTED] = 0.5 * chosen
        return rows


class NmCudaCores(ProductKernel):
    """N:M on CUDA cores (NM-SpMM): the kept values times rows of B that a block gathers into shared memory.

    `issue_cycles` are other instructions for every multiplication.
    """

    name = "nm-spmm"
    format = "n:m"
    menu = NM_TILES
    units = "CUDA cores"
    patterns = (PatternKind.NM, PatternKind.NMV)
    made_for = "the pattern is no N:M"
    types = ("fp32",)

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Mixed types, nothing kept."""
        yield from super().refusals(problem)
        yield mixed_types(problem), ONE_TYPE
        yield problem[:, C.CONV_REUSE] > 1.0, NO_CONVOLUTION
        yield pattern_of(problem)[:, P.N] < 1, "nothing is kept"

    def rate(self, problem: Floats) -> Floats:
        """What the lanes multiply while other instructions are issued, over the kept fraction."""
        per_clock = self.rates.issued(problem, self.constants.issue_cycles)
        return per_clock / np.maximum(pattern_of(problem)[:, P.DENSITY], 1e-9)

    def map(self, problem: Floats) -> Floats:
        """A block reads the union of what its groups of outputs chose."""
        rows = super().map(problem)
        pattern = pattern_of(problem)
        kept = pattern[:, P.DENSITY]
        index = bits_to_tell(np.maximum(pattern[:, P.M], 2)) / pattern[:, P.HEIGHT]
        rows[:, Map.A_BYTES] = rows[:, Map.A_STORED] = kept * (problem[:, C.A_BITS] + index) / 8
        rows[:, Map.B_KEPT], rows[:, Map.GROUP] = kept, pattern[:, P.HEIGHT]
        rows[:, Map.EXECUTED] = kept
        return rows


class NmSparse(NmCudaCores):
    """nmSPARSE: the same without packing, so that a block loads all rows of B of its window."""

    name = "nmsparse"

    def rate(self, problem: Floats) -> Floats:
        """Loops over the kept of a window are unrolled for powers of two."""
        kept = pattern_of(problem)[:, P.N]
        return super().rate(problem) * kept / 2.0 ** np.ceil(np.log2(np.maximum(kept, 1.0)))
