"""Kernels for tensor cores that no card has yet: other N:M than 2:4, and zeros of both operands skipped.

They exist on cards whose spec has the feature (`structured_rate`, `dual_side`). What a library would reach there is
taken to be what one reaches on the tensor cores that there are: `stands_for` names that family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import comb, log2

import numpy as np

from accel_models.gpu.columns import Map
from accel_models.gpu.fitted import FamilyConstants
from accel_models.gpu.kernels.base import C, P, ProductKernel, pattern_of
from accel_models.gpu.kernels.dense import ONE_TYPE, mixed_types
from accel_models.gpu.kernels.structured import GROUPED, NO_CONVOLUTION
from accel_models.gpu.rates import Rates
from simsparse.machine import Refusal
from simsparse.occupancy import implies_nm
from simsparse.plan import Floats


class OtherNm(ProductKernel):
    """N:M on tensor cores that take it at `gain` times the dense rate, zeros counted; as CUTLASS runs 2:4.

    Parameters
    ----------
    n, m : int
    gain : float
    """

    stands_for = "cutlass-24"
    format = "n:m"
    units = "tensor cores"
    patterns = GROUPED

    def __init__(self, rates: Rates, constants: FamilyConstants, n: int, m: int, gain: float) -> None:
        super().__init__(rates, constants)
        self.name, self.made_for = f"mma-{n}:{m}", f"the pattern does not imply {n}:{m}"
        self._n, self._m, self._gain = n, m, gain

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Patterns that do not imply N:M, mixed types."""
        yield from super().refusals(problem)
        yield mixed_types(problem), ONE_TYPE
        yield ~implies_nm(pattern_of(problem), self._n, self._m), self.made_for

    def rate(self, problem: Floats) -> Floats:
        """The dense rate times the gain."""
        return self.rates.tensor(problem) * self._gain

    def map(self, problem: Floats) -> Floats:
        """The kept of A, each with its place in its group."""
        rows = super().map(problem)
        kept = self._n / self._m
        rows[:, Map.A_BYTES] = rows[:, Map.A_STORED] = kept * (problem[:, C.A_BITS] + log2(self._m)) / 8
        rows[:, Map.EXECUTED] = min(kept, 1.0 / self._gain)
        return rows


def condensed(density: Floats, group: int, step: int) -> Floats:
    """Share of its steps that a tensor core takes of a group whose nonzeros are packed: E[⌈X / step⌉] / (group / step).

    X is how many of the group are nonzero, independently of each other. It is more than the density: the last step of a
    group is filled in part.
    """
    counts = np.arange(group + 1)
    ways = np.array([float(comb(group, count)) for count in counts])
    chance = ways * density[:, None] ** counts * (1.0 - density[:, None]) ** (group - counts)
    return np.asarray(chance @ np.ceil(counts / step) * step / group)


class DualSide(ProductKernel):
    """Zeros of both operands left out: nonzeros of groups of A's rows and of B's columns are packed into steps.

    As DSTC does with outer products: of a column of A and a row of B only the steps that hold nonzeros are multiplied.
    Operands are stored as their nonzeros and a bitmap. Conflicts of banks where sums are scattered are left out.

    Parameters
    ----------
    figures : mapping of str to float
        `a_group`, `a_step`, `b_group`, `b_step` of the spec; a side that is absent is not skipped.
    """

    name = "dual-side"
    stands_for = "cublas"
    format = "bitmap"
    leaves_out = True

    def __init__(self, rates: Rates, constants: FamilyConstants, figures: Mapping[str, float]) -> None:
        super().__init__(rates, constants)
        self._figures = figures

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Mixed types, convolutions."""
        yield from super().refusals(problem)
        yield mixed_types(problem), ONE_TYPE
        yield problem[:, C.CONV_REUSE] > 1.0, NO_CONVOLUTION

    def _steps(self, side: str, density: Floats) -> Floats:
        if f"{side}_group" not in self._figures:
            return np.ones_like(density)
        return condensed(density, int(self._figures[f"{side}_group"]), int(self._figures[f"{side}_step"]))

    def rate(self, problem: Floats) -> Floats:
        """The dense rate over the steps that are left."""
        left = self._steps("a", pattern_of(problem)[:, P.DENSITY]) * self._steps("b", problem[:, C.B_DENSITY])
        return self.rates.tensor(problem) / np.maximum(left, 1e-9)

    def map(self, problem: Floats) -> Floats:
        """Skipped sides move nonzeros and a bit for every element."""
        rows = super().map(problem)
        a, b = pattern_of(problem)[:, P.DENSITY], problem[:, C.B_DENSITY]
        executed = np.ones(len(problem))
        if "a_group" in self._figures:
            rows[:, Map.A_BYTES] = rows[:, Map.A_STORED] = (a * problem[:, C.A_BITS] + 1.0) / 8
            executed *= a
        if "b_group" in self._figures:
            rows[:, Map.B_BYTES] = (b * problem[:, C.B_BITS] + 1.0) / 8
            executed *= b
        rows[:, Map.EXECUTED] = executed
        return rows
