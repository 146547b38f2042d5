"""What a search looks for, and what it must keep to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from simsparse.dataflow._arrays import Floats
from simsparse.dataflow._batch import Outcome
from simsparse.dataflow.architecture import Architecture
from simsparse.dataflow.dataflows import ANY, Dataflow
from simsparse.errors import InputError

# Of two mappings that the objective finds equal, the one that is better in the other respect.
_TIE = 1e-9


@dataclass(frozen=True)
class Objective:
    """Minimise latency^a · energy^b.

    Attributes
    ----------
    latency, energy : float
        The exponents: 1 and 0 for latency, 0 and 1 for energy, 1 and 1 for EDP, or any blend.
    """

    latency: float
    energy: float

    LATENCY: ClassVar[Objective]
    ENERGY: ClassVar[Objective]
    EDP: ClassVar[Objective]

    def __post_init__(self) -> None:
        if not (self.latency >= 0.0 and self.energy >= 0.0 and self.latency + self.energy > 0.0):
            raise InputError.expected("objective", (self.latency, self.energy), "weights of 0 or more, not both 0")

    @classmethod
    def blend(cls, latency: float) -> Objective:
        """A weight of latency from 0 to 1, the rest on energy."""
        if not 0.0 <= latency <= 1.0:
            raise InputError.expected("weight of latency", latency, "a number from 0 to 1")
        return cls(latency, 1.0 - latency)

    def score(self, outcomes: Floats) -> Floats:
        """Logarithm of what is minimised, by mapping."""
        cycles = np.log(np.maximum(outcomes[Outcome.CYCLES], 1e-9))
        energy = np.log(np.maximum(outcomes[Outcome.ENERGY_PJ], 1e-9))
        weighted: Floats = (self.latency + _TIE) * cycles + (self.energy + _TIE) * energy
        return weighted


Objective.LATENCY = Objective(1.0, 0.0)
Objective.ENERGY = Objective(0.0, 1.0)
Objective.EDP = Objective(1.0, 1.0)
NAMED = {"latency": Objective.LATENCY, "energy": Objective.ENERGY, "edp": Objective.EDP}


@dataclass(frozen=True)
class Constraints:
    """What a mapping must keep to.

    Attributes
    ----------
    dataflows : tuple of Dataflow
        One of them.
    least_utilisation : float
        Operations over those that the whole array could do in the time.
    capacity_words : mapping of level name to words
        Of a level that may be filled, where that is less than its capacity.
    mean_occupancy : bool
        Whether tiles must fit on average only, rather than in the worst case.
    padding : bool
        Whether dimensions may be padded to fill the array; otherwise factors divide them.
    """

    dataflows: tuple[Dataflow, ...] = (ANY,)
    least_utilisation: float = 0.0
    capacity_words: Mapping[str, float] = field(default_factory=dict)
    mean_occupancy: bool = False
    padding: bool = True

    def __post_init__(self) -> None:
        if not self.dataflows:
            raise InputError("a search has no dataflow, expected at least one")
        if not 0.0 <= self.least_utilisation <= 1.0:
            raise InputError.expected("least utilisation", self.least_utilisation, "a fraction from 0 to 1")

    def room(self, architecture: Architecture) -> Floats:
        """Words that each level may hold.

        Raises
        ------
        UnknownNameError
            For a limit on a level that there is not.
        """
        for name in self.capacity_words:
            architecture.level(name)
        limits = [
            min(level.capacity_words, self.capacity_words.get(level.name, np.inf)) for level in architecture.levels
        ]
        return np.array(limits, np.float64)
