"""Where the reference rounds, and the one helper that does it.

`Rounding.EXACT` keeps expectations as they are: the physics. `Rounding.SPARSELOOP` rounds where Sparseloop does (⌈dN⌉
nonzeros, floored savings, raised metadata counts), so that its published counts come out.
"""

from __future__ import annotations

import math
from enum import IntEnum

from simsparse.dataflow._kernel import kernel

# Sums of doubles end a little beside the integer they mean; what is this near counts as that integer.
NEAR = 2e-7


class Rounding(IntEnum):
    """Whether counts are rounded, and how."""

    EXACT = 0
    SPARSELOOP = 1


@kernel
def down(value: float, rounding: int) -> float:
    """The integer below, or the value itself in `EXACT`."""
    if rounding == 0:
        return value
    return float(math.floor(value + NEAR))


@kernel
def up(value: float, rounding: int) -> float:
    """The integer above, or the value itself in `EXACT`."""
    if rounding == 0:
        return value
    return float(math.ceil(value - NEAR))


@kernel
def six_digits(value: float, rounding: int) -> float:
    """The nearest multiple of a millionth, or the value itself in `EXACT`."""
    if rounding == 0:
        return value
    return float(math.floor(value * 1e6 + 0.5)) / 1e6
