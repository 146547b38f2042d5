"""Constants that no datasheet gives, per kernel family, as data with what they were fitted on."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from simsparse.specs import checked, read_toml

FOLDER = Path(__file__).parent / "constants"
Fraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class FamilyConstants(BaseModel):
    """What a kernel family reaches of a card.

    Attributes
    ----------
    efficiency : float
        Fraction of the peak multiply rate its main loop sustains.
    launch_s : float
        From the launch to the first instruction, as timed by events.
    dram_fraction : float
        Fraction of peak memory bandwidth its streams reach.
    issue_cycles : float
        SM cycles per stored nonzero (or per element where it says so) for decoding and addressing.
    fitted_on, n, median_abs_error
        Rows of the evidence, how many, and the error on them; `assumed` where there were none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    efficiency: Fraction
    launch_s: Positive
    dram_fraction: Fraction
    issue_cycles: Positive = 0.0
    fitted_on: str
    n: int = 0
    median_abs_error: float | None = None


class CardConstants(BaseModel):
    """What one card reaches, whatever the kernel.

    Attributes
    ----------
    clock_fraction : float
        Clock under tensor-core load over the clock of the datasheet's peak.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clock_fraction: Fraction
    fitted_on: str


class Constants(BaseModel):
    """All of them.

    Attributes
    ----------
    fill_s : float
        Latency from the start of a tile to its first multiplication, and of its end, on any card.
    power_exponent : float
        Dynamic power goes with the clock to this power near the power limit.
    default_clock_fraction : float
        For cards that nothing was fitted on: the mean of the others.
    cards : dict of CardConstants by machine
    kernels : dict of FamilyConstants by kernel
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fill_s: Positive
    power_exponent: Annotated[float, Field(ge=1, le=3)]
    default_clock_fraction: Fraction
    cards: dict[str, CardConstants]
    kernels: dict[str, FamilyConstants]

    def clock_fraction(self, machine: str) -> float:
        """Of one card."""
        card = self.cards.get(machine)
        return card.clock_fraction if card is not None else self.default_clock_fraction

    def of(self, kernel: str) -> FamilyConstants:
        """Those of one kernel."""
        return self.kernels[kernel]

    def digest(self) -> str:
        """Twelve hex digits of the content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def assumed(self) -> tuple[str, ...]:
        """Kernels whose constants no measurement stands behind."""
        return tuple(name for name, k in self.kernels.items() if k.fitted_on.startswith("assumed"))


@lru_cache(maxsize=1)
def constants() -> Constants:
    """The shipped constants."""
    return checked(Constants, read_toml(FOLDER / "kernels.toml"), where="GPU constants")
