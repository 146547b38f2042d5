"""Kernels for nonzeros that lie anywhere, or in vectors and blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel_models.gpu.columns import Map
from accel_models.gpu.engine import LANE_ROWS, ONE_TILE, TENSOR_ROWS
from accel_models.gpu.kernels.base import C, P, ProductKernel, pattern_of
from accel_models.gpu.kernels.dense import ONE_TYPE, mixed_types
from accel_models.gpu.kernels.structured import NO_CONVOLUTION
from simsparse.formats import stored_bits
from simsparse.machine import Refusal, is_any
from simsparse.occupancy import implies_nm, occupied, row_imbalance
from simsparse.plan import Floats
from simsparse.sparsity import PatternKind

# Patterns of stored weights.
FIXED = (
    PatternKind.NM, PatternKind.VNM, PatternKind.NMV, PatternKind.VECTOR, PatternKind.BLOCK, PatternKind.UNSTRUCTURED,
    PatternKind.ROWS, PatternKind.SLICE, PatternKind.MEASURED,
)  # fmt: skip
# Rows of an mma instruction's operand that a column vector is padded to, and the side of the smallest block.
MMA_ROWS, MMA_TILE = 8.0, 16.0
# Rows, sorted by length, whose longest is waited for: a warp's.
WARP_ROWS = 32.0
# Columns of B of the widest tile of row-split kernels.
TILE_COLUMNS = 64.0


def per_element(form: str, problem: Floats) -> Floats:
    """Stored bytes per element of A, metadata included."""
    values, metadata = stored_bits(form, problem[:, C.M], problem[:, C.K], problem[:, C.A_BITS], pattern_of(problem))
    return np.asarray((values + metadata) / 8 / (problem[:, C.M] * problem[:, C.K]))


class SparseKernel(ProductKernel):
    """What kernels for irregular weights share."""

    patterns: tuple[PatternKind, ...] | None = FIXED
    made_for = "nothing is zero, or not known beforehand what"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """What is no weight, mixed types."""
        yield from super().refusals(problem)
        yield mixed_types(problem), ONE_TYPE
        yield problem[:, C.A_IS_WEIGHT] <= 0, "the sparse operand is no weight"
        yield problem[:, C.CONV_REUSE] > 1.0, NO_CONVOLUTION


class FlashLlm(SparseKernel):
    """Load compressed, compute dense: nonzeros are unpacked into shared memory and all elements multiplied."""

    name = "flash-llm"
    least_capability = 8.0
    types = ("fp16", "bf16")
    format = "csr16"

    def map(self, problem: Floats) -> Floats:
        """Memory moves nonzeros with 16-bit positions; issue slots unpack them."""
        rows = super().map(problem)
        kept = pattern_of(problem)[:, P.DENSITY]
        rows[:, Map.A_STORED] = kept * (problem[:, C.A_BITS] + 16.0) / 8
        rows[:, Map.ISSUE] = self.constants.issue_cycles * kept
        return rows


class SparTa(SparseKernel):
    """Two kernels: 2 of every 4 elements on sparse tensor cores, what does not fit in them as CSR on CUDA cores."""

    name = "sparta"
    least_capability = 8.0
    types = ("fp16", "bf16")
    format = "2:4"
    menu = ONE_TILE
    units = "sparse tensor cores"

    def rate(self, problem: Floats) -> Floats:
        """Twice the dense rate, whatever the sparsity."""
        return self.rates.sparse(problem)

    def map(self, problem: Floats) -> Floats:
        """Tiles of 128 x 128 on 2:4 values; cycles for every nonzero of the rest and 64 columns, as in Sputnik."""
        rows = super().map(problem)
        rest = beyond_24(pattern_of(problem))
        rows[:, Map.A_BYTES] = (0.5 * problem[:, C.A_BITS] + 1.0) / 8
        rows[:, Map.A_STORED] = rows[:, Map.A_BYTES] + rest * (problem[:, C.A_BITS] + 16.0) / 8
        rows[:, Map.EXECUTED] = 0.5 + rest
        rows[:, Map.SECOND] = self.constants.issue_cycles * rest * np.ceil(problem[:, C.N] / TILE_COLUMNS)
        return rows


def beyond_24(pattern: Floats) -> Floats:
    """Fraction of elements that are nonzero beyond two of their group of 4 along the reduction.

    Elements are taken as independent, `(4 d^3 (1 - d) + 2 d^4) / 4` at density d, but for patterns that imply 2:4
    (none) and for those whose nonzeros stand together along the reduction (half of them).
    """
    kept = pattern[:, P.DENSITY]
    rest = kept**3 * (1.0 - kept) + 0.5 * kept**4
    together = is_any(pattern[:, P.KIND], (PatternKind.ROWS, PatternKind.SLICE, PatternKind.BLOCK)) & (
        pattern[:, P.WIDTH] != 1
    )
    return np.where(implies_nm(pattern, 2, 4), 0.0, np.where(together, 0.5 * kept, rest))


class RowSplit(SparseKernel):
    """Every row of nonzeros (or of column vectors) gathers its own rows of B through L1."""

    def map(self, problem: Floats) -> Floats:
        """The longest row of a warp is waited for; as many rows run at once as the SM's warps have."""
        rows = super().map(problem)
        pattern = pattern_of(problem)
        rows[:, Map.B_KEPT], rows[:, Map.GROUP] = pattern[:, P.DENSITY], 1.0
        rows[:, Map.THROUGH_L1] = self.constants.l1_share
        rows[:, Map.AT_ONCE] = self.rates.warps / self.constants.row_warps
        rows[:, Map.LARGEST] = 1.0
        rows[:, Map.IMBALANCE] = row_imbalance(pattern, WARP_ROWS, problem[:, C.K])
        return rows


class Sputnik(RowSplit):
    """CSR on CUDA cores, a row of nonzeros per group of lanes; each nonzero fetches its row of B."""

    name = "sputnik"
    types = ("fp32", "fp16", "bf16")
    format = "csr16"
    menu = LANE_ROWS
    units = "CUDA cores"

    def rate(self, problem: Floats) -> Floats:
        """One element a lane in any type (fp16 is widened), over the kept fraction."""
        return self.rates.simt(problem) / np.maximum(pattern_of(problem)[:, P.DENSITY], 1e-9)

    def reach(self, problem: Floats) -> Floats:
        """Every multiplication takes its element of B from L1."""
        elements = self.constants.l1_share * self.rates.smem_bytes_per_clock / (problem[:, C.B_BITS] / 8)
        return np.minimum(self.rate(problem), elements / np.maximum(pattern_of(problem)[:, P.DENSITY], 1e-9))

    def map(self, problem: Floats) -> Floats:
        """Each nonzero takes issue slots of its own."""
        rows = super().map(problem)
        kept = pattern_of(problem)[:, P.DENSITY]
        rows[:, Map.A_BYTES] = rows[:, Map.A_STORED] = per_element("csr16", problem)
        rows[:, Map.EXECUTED] = kept
        rows[:, Map.ISSUE] = self.constants.issue_cycles * kept
        return rows


class Clasp(RowSplit):
    """Column vectors on tensor cores: a vector of v outputs, padded to the mma's rows, fetches its row of B."""

    name = "clasp"
    menu = TENSOR_ROWS
    least_capability = 8.0
    format = "bcsr"
    patterns = (PatternKind.VECTOR,)
    made_for = "the pattern has no column vectors"
    types = ("fp16", "bf16")

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Vectors that are not of 2, 4 or 8."""
        yield from super().refusals(problem)
        yield ~is_any(pattern_of(problem)[:, P.HEIGHT], (2, 4, 8)), "vectors are not of 2, 4 or 8"

    def rate(self, problem: Floats) -> Floats:
        """Rows of the instruction that a vector leaves empty are lost; vectors of 2 share an instruction."""
        pattern = pattern_of(problem)
        filled = np.clip(pattern[:, P.HEIGHT], 4.0, MMA_ROWS) / MMA_ROWS
        return self.rates.tensor(problem) * filled / np.maximum(pattern[:, P.DENSITY], 1e-9)

    def map(self, problem: Floats) -> Floats:
        """A row of B serves the v outputs of one vector; ends of rows are not pipelined, but for vectors of 2."""
        rows = super().map(problem)
        pattern = pattern_of(problem)
        kept, tall = pattern[:, P.DENSITY], pattern[:, P.HEIGHT]
        rows[:, Map.A_BYTES] = rows[:, Map.A_STORED] = kept * (problem[:, C.A_BITS] + 32.0 / tall) / 8
        rows[:, Map.GROUP] = tall
        rows[:, Map.EXECUTED] = kept * MMA_ROWS / np.minimum(tall, MMA_ROWS)
        a_row = self.constants.row_cycles * np.ceil(problem[:, C.N] / TILE_COLUMNS)
        rows[:, Map.SECOND] = np.where(tall > 2, a_row / (tall * problem[:, C.K]), 0.0)
        return rows


class BlockSparse(SparseKernel):
    """Blocks of at least 16 x 16 on tensor cores; smaller ones count as the 16 x 16 tiles they touch."""

    name = "bsr"
    format = "bcsr16x16"
    patterns = (PatternKind.BLOCK, PatternKind.VECTOR, PatternKind.MEASURED)
    made_for = "the pattern has no blocks"

    def _kept(self, problem: Floats) -> Floats:
        pattern = pattern_of(problem)
        tall, wide = np.maximum(pattern[:, P.HEIGHT], MMA_TILE), np.maximum(pattern[:, P.WIDTH], MMA_TILE)
        return np.maximum(occupied(pattern, tall, wide), 1e-9)

    def rate(self, problem: Floats) -> Floats:
        """The dense rate over the tiles that hold anything."""
        return self.rates.tensor(problem) / self._kept(problem)

    def map(self, problem: Floats) -> Floats:
        """Occupied tiles are stored whole, with an index each."""
        rows = super().map(problem)
        kept = self._kept(problem)
        rows[:, Map.A_BYTES] = rows[:, Map.A_STORED] = kept * (problem[:, C.A_BITS] + 32.0 / MMA_TILE**2) / 8
        tall = np.maximum(pattern_of(problem)[:, P.HEIGHT], MMA_TILE)
        rows[:, Map.B_KEPT], rows[:, Map.GROUP] = kept, tall
        rows[:, Map.EXECUTED] = kept
        tiles = np.maximum(problem[:, C.K] / MMA_TILE, 1.0)
        spread = np.sqrt((1.0 - np.minimum(kept, 1.0)) / (tiles * kept))
        # The fullest strip is 1.5 deviations above the mean, assumed.
        rows[:, Map.IMBALANCE] = np.minimum(1.0 + 1.5 * spread, 1.0 / np.minimum(kept, 1.0))
        return rows
