"""GPUs with (sparse) tensor cores."""

from __future__ import annotations

from pathlib import Path

from accel_models.gpu.spec import GpuSpec
from simsparse.calibration.tunable import Tunable
from simsparse.plan import Machine
from simsparse.registry import Family
from simsparse.specs import Spec


def _build(spec: Spec) -> Machine:
    from accel_models.gpu.machine import GpuMachine

    assert isinstance(spec, GpuSpec)
    return GpuMachine(spec)


def _tunables(spec: Spec) -> tuple[Tunable, ...]:
    from accel_models.gpu.tunables import tunables

    return tunables(spec)


FAMILY = Family("gpu", GpuSpec, Path(__file__).parent / "machines", _build, _tunables)
