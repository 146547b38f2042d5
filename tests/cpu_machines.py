"""What the tests of CPUs share: machines by name with changes, and prices of bare products."""

from __future__ import annotations

from functools import lru_cache

from accel_models.cpu import FAMILY
from accel_models.cpu.machine import CpuMachine
from simsparse.plan import Floats, Prices


@lru_cache
def machine(name: str = "xeon-8375c", **changes: object) -> CpuMachine:
    """A shipped machine."""
    spec = FAMILY.spec(FAMILY.files[name])
    built = FAMILY.build(spec.with_figures(changes) if changes else spec)
    assert isinstance(built, CpuMachine)
    return built


def priced(problem: Floats, kernel: str = "best", on: CpuMachine | None = None) -> Prices:
    """What products cost."""
    target = on or machine()
    return target.price(target.lower_problems(problem, kernel=kernel))
