"""What a family says is free in a spec of its: the figures that no datasheet gives."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Tunable:
    """A figure that measurements may set.

    Attributes
    ----------
    field : str
        As `Spec.with_figures` takes it: `dram_core_bytes_per_s`, `constants.exposed`.
    value : float
        What it is now, by the spec or the constants that ship.
    fraction : bool
        It is at most 1; otherwise it is any number above 0.
    """

    field: str
    value: float
    fraction: bool = False

    @property
    def free(self) -> float:
        """Logarithm of the value: what a fit moves."""
        return math.log(self.value)

    @property
    def most(self) -> float:
        """Logarithm of the largest value: a fraction is at most 1."""
        return 0.0 if self.fraction else math.inf

    def of(self, free: float) -> float:
        """The value that a logarithm stands for."""
        return math.exp(free)
