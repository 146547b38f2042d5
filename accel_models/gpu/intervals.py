"""80 % intervals of GPU predictions: factors on latency and speedup, by kernel family, regime and how well it is known.

The factors are quantiles of measured over predicted outside of the fit (`interval_fit`), in `constants/intervals.toml`.
A family that was fitted on the very card has those with its shapes left out. On other cards of a generation it was
fitted on, it has those with a card left out; on other generations these widened by `UNSEEN`. Families that nothing was
fitted on have those of all families with a card left out, widened too.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from accel_models.gpu.columns import TERMS
from accel_models.gpu.fitted import FOLDER
from simsparse.intervals import IntervalColumn
from simsparse.plan import Floats
from simsparse.specs import checked, read_toml

# Widens the logarithm of a factor where the architecture is one that a family was never seen on; assumed.
UNSEEN = 1.5


class Regime(IntEnum):
    """What sets the time of a call."""

    COMPUTE = 0
    MEMORY = 1
    OVERHEAD = 2


_MEMORY, _OVERHEAD = ("dram", "link"), ("fill", "launch", "tail")
REGIME_OF_TERM = np.array(
    [Regime.MEMORY if term in _MEMORY else Regime.OVERHEAD if term in _OVERHEAD else Regime.COMPUTE for term in TERMS]
)
# Generations of architectures by compute capability.
GENERATION = {
    "7.0": "volta", "7.5": "turing", "8.0": "ampere", "8.6": "ampere", "8.9": "ada", "9.0": "hopper",
    "10.0": "blackwell", "12.0": "blackwell",
}  # fmt: skip
Factors = Annotated[tuple[float, float, float, float], Field(description="In the order of `IntervalColumn`.")]


class FamilyIntervals(BaseModel):
    """Factors of one kernel family.

    Attributes
    ----------
    cards : dict of str to str
        Cards it was fitted on, with their generations.
    seen : tuple of Factors
        On one of these cards, by `Regime`.
    other : Factors
        On other cards of these generations.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cards: dict[str, str] = {}
    seen: tuple[Factors, Factors, Factors]
    other: Factors

    def on(self, card: str, generation: str) -> Floats:
        """Factors on one card, (len(Regime), len(IntervalColumn))."""
        if card in self.cards:
            return np.array(self.seen)
        known = generation in self.cards.values()
        return np.tile(np.array(self.other) ** (1.0 if known else UNSEEN), (len(Regime), 1))


class Intervals(BaseModel):
    """Those of all families, by kernel, and what all calls of a model's step are off together.

    Attributes
    ----------
    families : dict of FamilyIntervals
    common : Factors
        How frameworks run models, which kernels by themselves do not show.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    families: dict[str, FamilyIntervals]
    common: Factors = (1.0, 1.0, 1.0, 1.0)

    def table(self, card: str, capability: str, kernels: Sequence[str]) -> Floats:
        """Factors on one card, (len(kernels), len(Regime), len(IntervalColumn))."""
        generation = GENERATION.get(capability, capability)
        return np.array([self.families[kernel].on(card, generation) for kernel in kernels]).reshape(
            len(kernels), len(Regime), len(IntervalColumn)
        )


@lru_cache(maxsize=1)
def intervals() -> Intervals:
    """The shipped ones."""
    return checked(Intervals, read_toml(FOLDER / "intervals.toml"), where="GPU intervals")
