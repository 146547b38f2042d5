"""Constants that no datasheet gives, per kernel family and per card, as data in `constants/`.

`constants/kernels.toml` holds at most `MOST_OF_FAMILY` numbers a kernel family and `MOST_OF_CARD` a card. Those that a
family names in `free` are found by `python -m accel_models.gpu.fit`; the others are assumed, and kept by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from accel_models.gpu.frameworks import Framework
from accel_models.gpu.spec import GpuSpec
from simsparse.specs import checked, read_toml

FOLDER = Path(__file__).parent / "constants"
MOST_OF_FAMILY, MOST_OF_CARD = 6, 3
Fraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Search:
    """Where the fit looks for a constant."""

    low: float
    high: float


class FamilyConstants(BaseModel):
    """What a kernel family reaches of a card.

    Attributes
    ----------
    efficiency : float
        Fraction of the peak multiply rate its main loop sustains.
    launch_s : float
        From the launch to the first instruction, as timed by events.
    dram_fraction : float
        Fraction of the memory bandwidth that a card reaches (`CardConstants`) that the family's streams reach.
    issue_cycles : float
        SM cycles per stored nonzero (or per element where it says so) for decoding and addressing.
    fill_s : float
        Latency from the start of a tile to its first multiplication, and of its end; taken from `cublas` for all.
    l1_share : float
        Rate of rows of B that are gathered through L1, over that of shared memory.
    row_warps : float
        Warps that share a row of A (or a row of vectors), where rows gather through L1 by themselves.
    row_cycles : float
        SM cycles for the ends of such a row, over 64 columns of B, that overlap with nothing.
    free : tuple of str
        Which of these the fit finds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    efficiency: Annotated[Fraction, Search(0.01, 1.0)]
    launch_s: Annotated[Positive, Search(1e-6, 5e-5)]
    dram_fraction: Annotated[Fraction, Search(0.3, 1.0)]
    issue_cycles: Annotated[Positive, Search(2e-3, 16.0)] = 0.0
    fill_s: Annotated[Positive, Search(2e-7, 1e-5)] = 0.0
    l1_share: Annotated[Fraction, Search(0.2, 1.0)] = 1.0
    row_warps: Annotated[Positive, Search(1.0, 16.0)] = 1.0
    row_cycles: Annotated[Positive, Search(10.0, 4000.0)] = 0.0
    free: tuple[str, ...] = ()

    @property
    def numbers(self) -> dict[str, float]:
        """The constants that are stated."""
        return {
            name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set - {"free"}
        }

    def with_numbers(self, numbers: Mapping[str, float]) -> FamilyConstants:
        """The same with other values of some."""
        return self.model_copy(update=dict(numbers))


def search_of(name: str) -> Search:
    """Where the fit looks for a constant of a family."""
    return next(mark for mark in FamilyConstants.model_fields[name].metadata if isinstance(mark, Search))


class CardConstants(BaseModel):
    """What one card reaches, whatever the kernel.

    Attributes
    ----------
    clock_fraction : float
        Clock under load over the clock of the datasheet's tensor-core peak.
    dram_fraction : float
        Bandwidth that the best streams reach over the datasheet's.
    l2_fraction : float
        Rate of L2 that kernels reach over the spec's measured one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clock_fraction: Annotated[Fraction, Search(0.5, 1.0)] = 1.0
    dram_fraction: Annotated[Fraction, Search(0.6, 0.98)] = 0.88
    l2_fraction: Annotated[Positive, Search(0.5, 1.5)] = 1.0


class FrameworkConstants(BaseModel):
    """How frameworks issue kernels.

    Attributes
    ----------
    gap_s : float
        From the end of a kernel to the first instruction of the next one that waits already.
    collective_s : float
        From the start of a collective of several cards to its first byte.
    eager_s, compiled_s : float
        Host time of an op of an eager framework, and of a kernel of compiled code.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gap_s: Annotated[Positive, Search(1e-7, 2e-5)]
    collective_s: Annotated[Positive, Search(1e-6, 2e-4)]
    eager_s: Annotated[Positive, Search(1e-6, 1e-4)]
    compiled_s: Annotated[Positive, Search(1e-6, 1e-4)]

    def host_s(self, framework: Framework) -> float:
        """Host time of a call; none in a graph."""
        return {Framework.EAGER: self.eager_s, Framework.COMPILED: self.compiled_s}.get(framework, 0.0)


class Constants(BaseModel):
    """All of them.

    Attributes
    ----------
    power_exponent : float
        Dynamic power goes with the clock to this power near the power limit; assumed.
    frameworks : FrameworkConstants
    cards : dict of CardConstants by machine
    kernels : dict of FamilyConstants by kernel
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    power_exponent: Annotated[float, Field(ge=1, le=3)]
    frameworks: FrameworkConstants
    cards: dict[str, CardConstants]
    kernels: dict[str, FamilyConstants]

    def card(self, spec: GpuSpec) -> CardConstants:
        """Those of one card; without any, the mean of its kind.

        A spec's sustained clock is not taken: the power limit lowers clocks in `engine.combine` already, and on the RTX
        PRO 6000, the one card with measurements and a sourced sustained clock, taking it makes predictions worse.
        """
        return self.cards.get(spec.name) or self.cards[kind_of(spec)]

    def of(self, kernel: str) -> FamilyConstants:
        """Those of one kernel."""
        return self.kernels[kernel]

    def on(self, kernel: str, card: CardConstants) -> FamilyConstants:
        """Those of one kernel on one card: the card's bandwidth is in them."""
        return _slowed(self.kernels[kernel], card.dram_fraction)

    def changed(self, kernel: str, numbers: Mapping[str, float]) -> Constants:
        """All of them, with other values of some of one kernel."""
        return self.model_copy(update={"kernels": {**self.kernels, kernel: self.of(kernel).with_numbers(numbers)}})

    def with_card(self, name: str, card: CardConstants) -> Constants:
        """All of them, with those of one card."""
        return self.model_copy(update={"cards": {**self.cards, name: card}})

    def digest(self) -> str:
        """Twelve hex digits of the content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def assumed(self) -> tuple[str, ...]:
        """Kernels whose constants no measurement stands behind."""
        return tuple(name for name, family in self.kernels.items() if not family.free)


@lru_cache(maxsize=4096)
def _slowed(family: FamilyConstants, dram_fraction: float) -> FamilyConstants:
    return family.with_numbers({"dram_fraction": family.dram_fraction * dram_fraction})


# Cards that nothing was fitted on stand with those of their kind of memory: data-centre cards have HBM.
KINDS = ("any-hbm", "any-gddr")


def kind_of(spec: GpuSpec) -> str:
    """The entry of `Constants.cards` for a card that has none of its own."""
    return KINDS[0] if spec.dram_kind.value.startswith("HBM") else KINDS[1]


def peak_clock_hz(spec: GpuSpec) -> float:
    """Clock of the datasheet's tensor-core peak."""
    return (spec.tensor_clock_hz or spec.boost_clock_hz).value


@lru_cache(maxsize=1)
def constants() -> Constants:
    """The shipped constants."""
    return checked(Constants, read_toml(FOLDER / "kernels.toml"), where="GPU constants")


@lru_cache(maxsize=1)
def fitted_rows() -> frozenset[str]:
    """Names of the rows that the shipped constants were fitted on, from `constants/fit.toml`."""
    said = read_toml(FOLDER / "fit.toml")
    parts = (*said["families"].values(), *said["frameworks"].values())
    return frozenset(row for part in parts for text in part["ids"] for row in _names(text))


def _names(text: str) -> Iterator[str]:
    """`gpu24-0001..0003` as its three names."""
    first, _, last = text.partition("..")
    name, _, digits = first.rpartition("-")
    for number in range(int(digits), int(last or digits) + 1):
        yield f"{name}-{number:0{len(digits)}}"
