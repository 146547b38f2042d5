"""Two functions for the tests of `simsparse.compiled`."""

from __future__ import annotations

import numpy as np

from simsparse.compiled import compiled
from simsparse.plan import Floats


@compiled
def line(x: float, slope: float) -> float:
    """The line through 1."""
    return slope * x + 1.0


@compiled
def over_rows(rows: Floats, out: Floats) -> None:
    """The line over the first column."""
    for index in range(len(rows)):
        out[index] = line(rows[index, 0], rows[index, 1])


def run(count: int) -> Floats:
    """`over_rows` of `count` random rows."""
    rows, out = np.random.default_rng(0).random((count, 2)), np.empty(count)
    over_rows(rows, out)
    return out
