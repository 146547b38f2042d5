"""Texts of the command line, read as axes, patterns and what is minimised."""

from __future__ import annotations

from collections.abc import Sequence

from accel_models.fpga.design import Minimise
from accel_models.fpga.design_space import PATTERNS, SPARSITY
from accel_models.fpga.schemes import Scheme
from simsparse.errors import InputError


def read_axes(texts: Sequence[str] | None) -> tuple[dict[str, tuple[float, ...]], tuple[str, ...]]:
    """Values of axes, and patterns, from `AXIS=A,B,C` texts.

    Raises
    ------
    InputError
    """
    axes: dict[str, tuple[float, ...]] = {}
    patterns: tuple[str, ...] = PATTERNS
    for text in texts or ():
        axis, _, listed = text.partition("=")
        values = tuple(value.strip() for value in listed.split(","))
        if not axis.strip() or not all(values):
            raise InputError.expected("--set", text, "AXIS=A,B,C")
        if axis.strip() == SPARSITY:
            patterns = values
            continue
        try:
            axes[axis.strip()] = tuple(map(float, values))
        except ValueError:
            raise InputError.expected("--set", text, "AXIS=A,B,C with numbers") from None
    return axes, patterns


def read_minimise(text: str) -> Minimise:
    """What the best has least of.

    Raises
    ------
    InputError
    """
    if text not in list(Minimise):
        raise InputError.expected("--minimise", text, f"one of {', '.join(Minimise)}")
    return Minimise(text)


def read_scheme(text: str) -> Scheme:
    """A scheme of training by its name among methods.

    Raises
    ------
    InputError
    """
    names = {scheme.name.lower().replace("_", "-"): scheme for scheme in Scheme}
    if text not in names:
        raise InputError.expected("--scheme", text, f"one of {', '.join(names)}")
    return names[text]
