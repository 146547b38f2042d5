"""80 % intervals of predictions: factors a call, and what they make of sums of calls.

A machine that knows how far its predictions are off gives four factors a call (`IntervalColumn`): within the first two
times the predicted latency, and the other two times the predicted speedup over dense, lie four of five measurements.

Calls of one kernel are off together, kernels independently of each other, and a workload by what its calls have in
common (how a framework runs them). So the width of a sum on either side is the root of the sum over kernels of the
squared sum of their calls' widths, and of the squared common width, which for speedups is on calls that changed only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from simsparse.plan import Floats, Ints, Prices

Bounds = tuple[float, float]


class IntervalColumn(IntEnum):
    """Columns of `Prices.interval`: bounds over the prediction."""

    LATENCY_LOW = 0
    LATENCY_HIGH = 1
    SPEEDUP_LOW = 2
    SPEEDUP_HIGH = 3


@dataclass(frozen=True)
class Calls:
    """Calls that run one after the other.

    Attributes
    ----------
    seconds : (n,) ndarray
        Of all runs of each.
    kernel : (n,) ndarray of int
        Calls with the same number are off together.
    interval : (n, len(IntervalColumn)) ndarray
    common : (len(IntervalColumn),) ndarray
        Ones where the calls have nothing in common.
    """

    seconds: Floats
    kernel: Ints
    interval: Floats
    common: Floats = field(default_factory=lambda: np.ones(len(IntervalColumn)))

    @classmethod
    def of(cls, prices: Prices, kernel: Ints, counts: Floats) -> Calls | None:
        """Of priced calls; None where the machine gives no intervals."""
        if prices.interval is None:
            return None
        common = prices.common_interval if prices.common_interval is not None else np.ones(len(IntervalColumn))
        return cls(prices.latency_s * counts, kernel, prices.interval, common)

    @property
    def latency_s(self) -> Bounds:
        """Bounds of the sum."""
        both = np.vstack([self.interval, self.common])
        return self._sum(both[:, IntervalColumn.LATENCY_LOW], both[:, IntervalColumn.LATENCY_HIGH], 1.0)

    def speedup(self, dense_s: float) -> Bounds:
        """Bounds of the speedup over `dense_s`: calls that are as in the dense run do not blur it."""
        both = 1.0 / np.vstack([self.interval, self.common])  # times go inversely with speedups
        low, high = both[:, IntervalColumn.SPEEDUP_HIGH], both[:, IntervalColumn.SPEEDUP_LOW]
        changed = float(self.seconds @ (low[:-1] < high[:-1]) / self.seconds.sum())
        least, most = self._sum(low, high, changed)
        return dense_s / most, dense_s / least

    def _sum(self, low: Floats, high: Floats, share: float) -> Bounds:
        """Bounds of the sum of times from factors of each call and last the common ones, on a share of the time."""
        total = float(self.seconds.sum())
        least = float(self.seconds @ low[:-1]) * float(low[-1])  # everything off as far as it goes
        return max(total - self._width(1.0 - low, share), least), total + self._width(high - 1.0, share)

    def _width(self, off: Floats, share: float) -> float:
        of_kernels = np.bincount(self.kernel, weights=self.seconds * off[:-1])
        return float(np.hypot(np.sqrt(of_kernels @ of_kernels), off[-1] * share * self.seconds.sum()))


def through(function: Callable[[float], float], bounds: Bounds) -> Bounds:
    """Bounds of a figure that only rises or only falls with another one."""
    first, second = function(bounds[0]), function(bounds[1])
    return min(first, second), max(first, second)
