"""CPUs: bandwidth-bound machines with SIMD cores, caches and shared memory. See README.md beside this file."""

from __future__ import annotations

from pathlib import Path

from accel_models.cpu.spec import CpuSpec
from simsparse.plan import Machine
from simsparse.registry import Family
from simsparse.specs import Spec


def build(spec: Spec) -> Machine:
    """A machine of a `CpuSpec`, with the constants that ship."""
    from accel_models.cpu.machine import CpuMachine

    assert isinstance(spec, CpuSpec)
    return CpuMachine(spec)


FAMILY = Family("cpu", CpuSpec, Path(__file__).parent / "machines", build)
