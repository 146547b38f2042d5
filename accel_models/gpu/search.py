"""Minimum of a function of a few positive numbers within bounds: starts spread over the box, then a pattern search.

There is no randomness: the same function gives the same point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np

from accel_models.gpu.fitted import Search

Point = Mapping[str, float]
Unit = np.ndarray[tuple[int], np.dtype[np.float64]]
STARTS, KEPT = 16, 2
FIRST_STEP, LAST_STEP = 0.12, 0.003  # of the logarithm of each number's range
PRIMES = (2, 3, 5, 7, 11, 13)


def minimise(loss: Callable[[Point], float], box: Mapping[str, Search]) -> dict[str, float]:
    """The best point that was found, of three significant digits.

    Parameters
    ----------
    loss : function of a point
    box : mapping of name to Search
        At most six.
    """
    if not box:
        return {}
    names = list(box)
    low = np.log([box[name].low for name in names])
    span = np.log([box[name].high for name in names]) - low

    @cache
    def value_at(numbers: tuple[float, ...]) -> float:
        return loss(dict(zip(names, numbers, strict=True)))

    def at(unit: Unit) -> tuple[float, ...]:
        return tuple(rounded(value) for value in np.exp(low + unit * span).tolist())

    starts = [(value_at(at(unit)), tuple(unit)) for unit in _halton(STARTS, len(names))]
    ends = []
    for value, start in sorted(starts)[:KEPT]:
        unit, step = np.array(start), FIRST_STEP
        while step > LAST_STEP:
            moved = False
            for axis in range(len(names)):
                for sign in (1.0, -1.0):
                    tried = unit.copy()
                    tried[axis] = np.clip(tried[axis] + sign * step, 0.0, 1.0)
                    found = value_at(at(tried))
                    if found < value - 1e-7:
                        unit, value, moved = tried, found, True
                        break
            if not moved:
                step *= 0.5
        ends.append((value, at(unit)))
    return dict(zip(names, min(ends, key=lambda end: end[0])[1], strict=True))


def rounded(value: float) -> float:
    """Three significant digits."""
    return float(f"{value:.3g}")


def _halton(count: int, axes: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Points spread evenly over the unit box, (count, axes)."""
    return np.array([[_radical_inverse(i, PRIMES[axis]) for axis in range(axes)] for i in range(1, count + 1)])


def _radical_inverse(index: int, base: int) -> float:
    found, scale = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        found += digit * scale
        scale /= base
    return found
