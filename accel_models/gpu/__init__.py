"""GPUs with (sparse) tensor cores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from accel_models.gpu.spec import GpuSpec
from simsparse.calibration.tunable import Tunable
from simsparse.plan import Machine
from simsparse.registry import Family
from simsparse.specs import Spec

if TYPE_CHECKING:
    from simsparse.calibration.measured import Watch
    from simsparse.calibration.timings import Timings


def _build(spec: Spec) -> Machine:
    from accel_models.gpu.machine import GpuMachine

    assert isinstance(spec, GpuSpec)
    return GpuMachine(spec)


def _tunables(spec: Spec) -> tuple[Tunable, ...]:
    from accel_models.gpu.tunables import tunables

    return tunables(spec)


def _time(watch: Watch) -> Timings:
    from accel_models.gpu.measuring.card import measure

    return measure(watch)


FAMILY = Family("gpu", GpuSpec, Path(__file__).parent / "machines", _build, _tunables, time=_time)
