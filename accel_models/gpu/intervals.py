"""80 % intervals of predictions: factors on latency and speedup, by kernel family, regime and how well it is known.

The factors are quantiles of measured over predicted outside of the fit (`heldout`), written by `accel_models.gpu.fit`
to `constants/intervals.toml`. A family that was fitted on the very card has those with its shapes left out. On other
cards of a generation it was fitted on it has those with a card left out; on other generations these widened by
`UNSEEN`, which is assumed. Families that nothing was fitted on take those of all families together.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from accel_models.gpu.columns import TERMS


class Regime(IntEnum):
    """What sets the time of a call."""

    COMPUTE = 0
    MEMORY = 1
    OVERHEAD = 2


_MEMORY, _OVERHEAD = ("dram", "link"), ("fill", "launch", "tail")
REGIME_OF_TERM = np.array(
    [Regime.MEMORY if term in _MEMORY else Regime.OVERHEAD if term in _OVERHEAD else Regime.COMPUTE for term in TERMS]
)
