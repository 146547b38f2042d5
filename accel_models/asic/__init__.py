"""Described architectures as machines: published designs as data, mapped by `simsparse.dataflow`. See README.md."""

from __future__ import annotations

from pathlib import Path

from simsparse.dataflow.design import DesignSpec
from simsparse.plan import Machine
from simsparse.registry import Family
from simsparse.specs import Spec


def build(spec: Spec) -> Machine:
    """The machine of a design."""
    # Compiled code loads only when a machine is wanted, not when machines are listed.
    from accel_models.asic.machine import AsicMachine

    assert isinstance(spec, DesignSpec)
    return AsicMachine(spec)


FAMILY = Family("asic", DesignSpec, Path(__file__).parent / "machines", build)
