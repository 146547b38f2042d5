"""What a family says is free in a spec of its: the figures that no datasheet gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST = 1 - 1e-6  # of a fraction, so that its logit is finite


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
        It lies between 0 and 1; otherwise it is any number above 0.
    """

    field: str
    value: float
    fraction: bool = False

    @property
    def free(self) -> float:
        """A number without bounds that stands for the value: its logit if it is a fraction, else its logarithm."""
        if not self.fraction:
            return math.log(self.value)
        kept = min(self.value, MOST)
        return math.log(kept / (1 - kept))

    def of(self, free: float) -> float:
        """The value that a free number stands for."""
        return 1 / (1 + math.exp(-free)) if self.fraction else math.exp(free)
