"""Constants of one card that its own timings may set: `constants.KERNEL.NAME` and `constants.card.NAME` of a spec."""

from __future__ import annotations

from collections.abc import Mapping

from accel_models.gpu.fitted import CardConstants, Constants, constants
from accel_models.gpu.spec import GpuSpec
from simsparse.calibration.tunable import Tunable
from simsparse.errors import UnknownNameError
from simsparse.specs import Spec

CARD = "card"
FRACTIONS = ("efficiency", "clock_fraction")


def measured(shipped: Constants, spec: GpuSpec) -> Constants:
    """Constants with those of a spec in their places; a fitted card is known by the card that it was.

    Raises
    ------
    UnknownNameError
        For a kernel or a constant that there is not.
    """
    known = next((name for name in (spec.name, *spec.aliases) if name in shipped.cards), "")
    card = shipped.cards[known] if known else shipped.card(spec)
    for owner, figures in spec.constants.items():
        values = {name: figure.value for name, figure in figures.items()}
        if owner == CARD:
            _check(values, CardConstants.model_fields)
            card = card.model_copy(update=values)
        elif owner in shipped.kernels:
            _check(values, type(shipped.kernels[owner]).model_fields)
            shipped = shipped.changed(owner, values)
        else:
            raise UnknownNameError.near("kernel with constants", owner, shipped.kernels)
    return shipped.with_card(spec.name, card) if spec.constants else shipped


def _check(values: Mapping[str, float], known: Mapping[str, object]) -> None:
    for name in values:
        if name not in known:
            raise UnknownNameError.near("constant", name, known)


def tunables(spec: Spec) -> tuple[Tunable, ...]:
    """What a card reaches of its clock, bandwidth and L2, and the constants of each kernel."""
    assert isinstance(spec, GpuSpec)
    found = measured(constants(), spec)
    reached = found.card(spec)
    return (
        *(_tunable(CARD, name, getattr(reached, name)) for name in CardConstants.model_fields),
        *(
            _tunable(kernel, name, value)
            for kernel, family in found.kernels.items()
            for name, value in family.numbers.items()
            if value > 0
        ),
    )


def _tunable(owner: str, name: str, value: float) -> Tunable:
    return Tunable(f"constants.{owner}.{name}", value, name in FRACTIONS)
