"""FPGA accelerators for N:M training and inference, after SAT (arXiv 2309.13015); see README.md."""

from __future__ import annotations

from pathlib import Path

from accel_models.fpga.spec import SatSpec
from simsparse.calibration.tunable import Tunable
from simsparse.plan import Machine
from simsparse.registry import Family
from simsparse.specs import Spec


def build(spec: Spec) -> Machine:
    """The machine of a spec.

    Raises
    ------
    UnsupportedError
        If the design does not fit the device, naming the resource that is short.
    InputError
        If its buffers hold no tile.
    """
    # Compiled code loads only when a machine is wanted, not when machines are listed.
    from accel_models.fpga.machine import SatMachine

    assert isinstance(spec, SatSpec)
    return SatMachine(spec)


def tunables(spec: Spec) -> tuple[Tunable, ...]:
    """Figures that no datasheet gives."""
    assert isinstance(spec, SatSpec)
    return (
        Tunable("dram_efficiency", spec.dram_efficiency.value, fraction=True),
        Tunable("reduction_cycles_per_element", spec.reduction_cycles_per_element.value),
    )


FAMILY = Family("fpga", SatSpec, Path(__file__).parent / "machines", build, tunables)
