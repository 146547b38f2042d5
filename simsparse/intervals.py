"""80 % intervals of predictions: factors a call, and what they make of sums of calls.

A machine that knows how far its predictions are off gives four factors a call (`IntervalColumn`): within the first two
times the predicted latency, and the other two times the predicted speedup over dense, lie four of five measurements.

Calls of one kernel are off together, kernels independently of each other. So the width of a sum on either side is the
root of the sum over kernels of the squared sum of their calls' widths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
    """

    seconds: Floats
    kernel: Ints
    interval: Floats

    @classmethod
    def of(cls, prices: Prices, kernel: Ints, counts: Floats) -> Calls | None:
        """Of priced calls; None where the machine gives no intervals."""
        return None if prices.interval is None else cls(prices.latency_s * counts, kernel, prices.interval)

    @property
    def latency_s(self) -> Bounds:
        """Bounds of the sum."""
        return self._sum(self.interval[:, IntervalColumn.LATENCY_LOW], self.interval[:, IntervalColumn.LATENCY_HIGH])

    def speedup(self, dense_s: float) -> Bounds:
        """Bounds of the speedup over `dense_s`: calls that are as in the dense run do not blur it."""
        with np.errstate(divide="ignore"):
            least, most = self._sum(
                1.0 / self.interval[:, IntervalColumn.SPEEDUP_HIGH], 1.0 / self.interval[:, IntervalColumn.SPEEDUP_LOW]
            )
        return dense_s / most, dense_s / least

    def _sum(self, low: Floats, high: Floats) -> Bounds:
        total = float(self.seconds.sum())
        return total - self._width(1.0 - low), total + self._width(high - 1.0)

    def _width(self, off: Floats) -> float:
        of_kernels = np.bincount(self.kernel, weights=self.seconds * off)
        return float(np.sqrt(of_kernels @ of_kernels))


def through(function: Callable[[float], float], bounds: Bounds) -> Bounds:
    """Bounds of a figure that only rises or only falls with another one."""
    first, second = function(bounds[0]), function(bounds[1])
    return min(first, second), max(first, second)
