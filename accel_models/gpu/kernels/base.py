"""What product kernels of a GPU share: a row of mapping columns with the defaults of a dense kernel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from accel_models.gpu.columns import MAP_WIDTH, Map
from accel_models.gpu.engine import TENSOR_TILES
from accel_models.gpu.fitted import FamilyConstants
from accel_models.gpu.rates import Rates
from simsparse.machine import Kernel, Refusal, is_any
from simsparse.plan import COMPUTE_TYPES, Floats, ProblemColumn, ProblemKind
from simsparse.sparsity import PatternColumn, PatternKind

C = ProblemColumn
P = PatternColumn


def pattern_of(problem: Floats) -> Floats:
    """The pattern columns of A, shape (n, len(PatternColumn))."""
    return problem[:, C.PATTERN :]


def has_kind(problem: Floats, *kinds: PatternKind) -> NDArray[np.bool_]:
    """Rows whose A has one of these patterns."""
    return is_any(problem[:, C.PATTERN], kinds)


class ProductKernel(Kernel):
    """A GEMM kernel on one card; subclasses say what differs from a dense one.

    Parameters
    ----------
    rates : Rates
        Multiply-accumulates per clock and SM of the card, by type.
    constants : FamilyConstants
        The family's fitted constants.
    """

    kinds = (ProblemKind.GEMM,)
    menu = TENSOR_TILES
    # What multiplies, as refusals name it.
    units = "tensor cores"
    # Types the kernel was written for; None for all its units multiply.
    types: tuple[str, ...] | None = None
    # Whether it leaves out multiplications that `rate` does not know of.
    leaves_out = False
    # The family whose constants it has, where it is a kernel of hardware that does not exist.
    stands_for = ""
    # Compute capability it needs (asynchronous copies: 8.0).
    least_capability = 0.0

    def __init__(self, rates: Rates, constants: FamilyConstants) -> None:
        self.rates = rates
        self.constants = constants

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Rows whose type the card cannot multiply on this kernel's units."""
        yield self.rate(problem) <= 0.0, f"no {self.units} for this type"
        if self.rates.capability < self.least_capability:
            yield np.ones(len(problem), dtype=bool), f"the kernel needs compute capability {self.least_capability:.1f}"
        if self.types is not None:
            codes = [COMPUTE_TYPES.index(name) for name in self.types]
            yield ~is_any(problem[:, C.COMPUTE], codes), f"the kernel exists for {', '.join(self.types)} only"

    def rate(self, problem: Floats) -> Floats:
        """Dense-equivalent multiply-accumulates per clock and SM."""
        return self.rates.tensor(problem)

    def reach(self, problem: Floats) -> Floats:
        """A rate that no tile of the kernel exceeds, to leave out kernels that cannot win without mapping them."""
        return self.rate(problem)

    def map(self, problem: Floats) -> Floats:
        """Mapping rows of a dense product."""
        rows = np.zeros((len(problem), MAP_WIDTH))
        constants = self.constants
        a_bytes, b_bytes = problem[:, C.A_BITS] / 8, problem[:, C.B_BITS] / 8
        for column, value in (
            (Map.M, problem[:, C.M]), (Map.N, problem[:, C.N]), (Map.K, problem[:, C.K]),
            (Map.BATCH, problem[:, C.BATCH]), (Map.RATE, self.rate(problem)), (Map.EXECUTED, 1.0),
            (Map.A_BYTES, a_bytes), (Map.B_BYTES, b_bytes), (Map.C_BYTES, problem[:, C.C_BITS] / 8),
            (Map.A_STORED, a_bytes), (Map.B_KEPT, 1.0), (Map.GROUP, np.inf), (Map.MOST_M, np.inf),
            (Map.B_TOUCHED, 1.0), (Map.IMBALANCE, 1.0), (Map.SPLIT_K, 1.0),
            (Map.EFFICIENCY, constants.efficiency),
            (Map.LAUNCH_S, constants.launch_s), (Map.DRAM_FRACTION, constants.dram_fraction),
            (Map.ISSUE, 0.0), (Map.ROUND_S, constants.fill_s), (Map.RASTER, 1.0), (Map.MENU, self.menu),
        ):  # fmt: skip
            rows[:, column] = value
        return rows
