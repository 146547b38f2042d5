"""What papers state, as `published.toml` holds it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from accel_models.fpga.spec import Positive
from simsparse.specs import Figure, Spec, checked, read_toml

FILE = Path(__file__).with_suffix(".toml")


class Claims(BaseModel):
    """What SAT's abstract claims."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str  # of `speedup`
    speedup: Figure[Positive]
    throughput_gain_min: Figure[Positive]
    throughput_gain_max: Figure[Positive]
    energy_gain_min: Figure[Positive]
    energy_gain_max: Figure[Positive]


class Rival(BaseModel):
    """An FPGA trainer that came before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    device: str
    work: str
    gflops_per_s: Figure[Positive]
    gflops_per_j: Figure[Positive] | None = None


class Published(Spec):
    """All of it."""

    sat: Claims
    rival: tuple[Rival, ...]


@lru_cache
def published() -> Published:
    """Read and check the file."""
    return checked(Published, {"name": "published", "family": "figures", **read_toml(FILE)}, where=FILE.name)
