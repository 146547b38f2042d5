"""Arithmetic of aligned windows over periodic groups, and the few distributions that need no scipy.

Windows of `length` tile an axis from 0, groups of `period` tile it too. Where neither divides the other the cut
between them moves from window to window, through `period / gcd` offsets; averages are over these, all equally likely.
Everything is elementwise over arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Offsets that are visited at most; more are represented by this many, evenly spaced.
MAX_OFFSETS = 32


def common_divisor(a: Floats, b: Floats) -> Floats:
    """Greatest common divisor of whole numbers held as floats."""
    divisor: Ints = np.gcd(a.astype(np.int64), b.astype(np.int64))
    return divisor.astype(np.float64)


def groups_touched(length: Floats, period: Floats) -> tuple[Floats, Floats]:
    """Fewest groups a window touches, and the probability that it touches one more."""
    whole, rest = np.divmod(length, period)
    divisor = common_divisor(length, period)
    more = np.where(rest > 0, (rest - divisor) / period, 0.0)
    return whole + (rest > 0), more


def overlap_squares(length: Floats, period: Floats) -> Floats:
    """Mean over windows of the sum of squared overlaps with the groups.

    With g the common divisor: `length·period + (g² - period²)/3` for windows no shorter than a group; for shorter ones
    the two swap, times `length / period`.
    """
    divisor = common_divisor(length, period)
    short, long = np.minimum(length, period), np.maximum(length, period)
    scale: Floats = np.where(length < period, length / period, 1.0)
    squares: Floats = (long * short + (divisor**2 - short**2) / 3) * scale
    return squares


class Cuts(NamedTuple):
    """Ways in which windows cut groups: part of one, `full` whole ones, part of another.

    One entry a cut; `window` says which window of the input it is a cut of, `weight` its share of that window.
    """

    window: Ints
    head: Floats
    full: Floats
    tail: Floats
    weight: Floats

    def pieces(self, period: Floats) -> Iterator[tuple[Floats, Floats]]:
        """Overlap with a group, and how many such pieces each cut has; `period` by cut."""
        if self.full.any():
            yield period, self.full
        for part in (self.head, self.tail):
            if part.any():
                yield part, np.where(part > 0, 1.0, 0.0)

    def take(self, index: Ints) -> Cuts:
        """The cuts at `index`."""
        return Cuts(
            self.window[index], self.head[index], self.full[index], self.tail[index], self.weight[index]
        )  # fmt: skip


def cut_count(length: Floats, period: Floats) -> Floats:
    """How many cuts of a window are told apart; one where windows fill groups or lie within them."""
    divisor = common_divisor(length, period)
    return np.where(divisor == length, 1.0, np.minimum(period / divisor, MAX_OFFSETS))


def cuts(length: Floats, period: Floats) -> Cuts:
    """Every cut of every window, at most `MAX_OFFSETS` each; the weights of a window add up to 1."""
    visited = cut_count(length, period)
    window = np.repeat(np.arange(len(length)), visited.astype(np.int64))
    first = np.cumsum(visited) - visited
    length, period, visited = length[window], period[window], visited[window]
    divisor = common_divisor(length, period)
    start = np.floor((np.arange(len(window)) - first[window]) * (period / divisor) / visited) * divisor
    head = np.minimum(np.where(start > 0, period - start, 0.0), length)
    full, tail = np.divmod(length - head, period)
    return Cuts(window, head, full, tail, 1 / visited)


def most_in_window(n: Floats, m: Floats, window: Floats) -> Floats:
    """Most nonzeros an aligned `window` can hold where each aligned group of m holds at most n.

    A window cuts two groups at most; the worst cut is the most even one.
    """
    whole, rest = np.divmod(window, m)
    divisor = common_divisor(m, window)
    period, steps = m / divisor, rest / divisor
    half = np.floor(steps / 2) * divisor
    inside_whole = n * whole + np.minimum(n, half) + np.minimum(n, rest - half)
    half = np.ceil((period + steps) / 2) * divisor
    around = n * (whole - 1) + np.minimum(n, half) + np.minimum(n, m + rest - half)
    # A window shorter than the space behind the cut lies in one group.
    around = np.where(whole > 0, around, np.minimum(n, window))
    # Two parts of one rest need an offset that cuts it.
    return np.maximum(np.where(rest > 0, inside_whole, n * whole), around)


_SMALL = 256
_LOG_FACTORIALS: Floats = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1.0, _SMALL)))))


def log_factorial(x: Floats) -> Floats:
    """`log(x!)` of whole numbers, exact to rounding (Stirling's series from 256 on)."""
    result: Floats = _LOG_FACTORIALS[np.minimum(x, _SMALL - 1).astype(np.int64)]
    if (x >= _SMALL).any():
        big = np.maximum(x, _SMALL)
        series = (big + 0.5) * np.log(big) - big + 0.5 * np.log(2 * np.pi) + 1 / (12 * big) - 1 / (360 * big**3)
        result = np.where(x >= _SMALL, series, result)
    return result


def none_chosen(total: Floats, chosen: Floats, looked_at: Floats) -> Floats:
    """Probability that none of `looked_at` places is among the `chosen` of `total`."""
    left = total - chosen - looked_at
    log = (
        log_factorial(np.maximum(total - chosen, 0)) - log_factorial(np.maximum(left, 0))
        + log_factorial(np.maximum(total - looked_at, 0)) - log_factorial(total)
    )  # fmt: skip
    return np.where(left >= 0, np.exp(np.minimum(log, 0.0)), 0.0)


def some_chosen(total: Floats, chosen: Floats, looked_at: Floats, found: Floats) -> Floats:
    """Probability that exactly `found` of `looked_at` places are among the `chosen` of `total` (hypergeometric)."""
    possible = (found <= looked_at) & (found <= chosen) & (looked_at - found <= total - chosen)
    log = (
        _log_choose(chosen, found) + _log_choose(total - chosen, looked_at - found) - _log_choose(total, looked_at)
    )  # fmt: skip
    return np.where(possible, np.exp(np.minimum(log, 0.0)), 0.0)


def _log_choose(n: Floats, k: Floats) -> Floats:
    n, k = np.maximum(n, 0), np.maximum(k, 0)
    return log_factorial(n) - log_factorial(k) - log_factorial(np.maximum(n - k, 0))


def normal_quantile(p: Floats) -> Floats:
    """Quantile of the standard normal, `p` from 0.5 up; absolute error below 4.5e-4 (Abramowitz and Stegun 26.2.23)."""
    t = np.sqrt(-2 * np.log(np.maximum(1 - p, 1e-300)))
    tail = (2.515517 + 0.802853 * t + 0.010328 * t**2) / (1 + 1.432788 * t + 0.189269 * t**2 + 0.001308 * t**3)
    return np.where(p > 0.5, t - tail, 0.0)


def expected_largest(count: Floats) -> Floats:
    """Expected largest of `count` standard normals, in standard deviations (Blom 1958; within 0.03)."""
    return normal_quantile((count - 0.375) / (count + 0.25))
