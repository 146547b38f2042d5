"""Named dataflows: what stays where, and which roles the array is spread over; a design has its own loop nests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simsparse.dataflow._arrays import LoopKind
from simsparse.dataflow.design import DesignSpec
from simsparse.errors import UnknownNameError

Spread = tuple[tuple[str, LoopKind], ...]
X, Y = LoopKind.X, LoopKind.Y


@dataclass(frozen=True)
class Dataflow:
    """A constraint on loop nests. Roles are M (outputs), N (tokens, pixels), K (reduction) and batch.

    Attributes
    ----------
    name : str
    stays : str
        Tensor (A, B or C) whose tile stays in the innermost level while the loops right outside of it run; empty: any.
    spread : tuple of Spread
        Ways to lay roles along the mesh axes of every fan-out; empty: any.
    inside : tuple of str
        Roles that have loops in the innermost level; empty: all.
    loops : mapping of level name to roles
        Exact order of the loops in time of a level, outermost first; levels that are not named are free.
    fans : mapping of level name to Spread
        Exact spread of the fan-out inside a level.
    """

    name: str
    stays: str = ""
    spread: tuple[Spread, ...] = ()
    inside: tuple[str, ...] = ()
    loops: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fans: Mapping[str, Spread] = field(default_factory=dict)


def _either_way(first: str, second: str) -> tuple[Spread, ...]:
    return (((first, X), (second, Y)), ((second, X), (first, Y)))


ANY = Dataflow("any")
WEIGHT_STATIONARY = Dataflow("weight-stationary", "A", _either_way("M", "K"))
OUTPUT_STATIONARY = Dataflow("output-stationary", "C", _either_way("M", "N"))
INPUT_STATIONARY = Dataflow("input-stationary", "B", _either_way("N", "K"))
# Rows of A and B meet in an element, which holds a stretch of the reduction; the array is spread over outputs.
ROW_STATIONARY = Dataflow("row-stationary", "A", _either_way("K", "N"), ("K",))
NAMED = {
    flow.name: flow for flow in (WEIGHT_STATIONARY, OUTPUT_STATIONARY, INPUT_STATIONARY, ROW_STATIONARY)
}  # fmt: skip


def dataflow(name: str) -> Dataflow:
    """The named dataflow.

    Raises
    ------
    UnknownNameError
        Listing near names.
    """
    known = {**NAMED, ANY.name: ANY}
    if name not in known:
        raise UnknownNameError.near("dataflow", name, known)
    return known[name]


def of_design(spec: DesignSpec) -> tuple[Dataflow, ...]:
    """The native dataflows of a described design."""
    levels = list(spec.levels)
    return tuple(
        Dataflow(
            name,
            loops={level: _roles(flow.loops[level].value) if level in flow.loops else () for level in levels},
            fans={level: _fan(flow.spread[level].value) if level in flow.spread else () for level in levels},
        )
        for name, flow in spec.dataflows.items()
    )


def _roles(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split() if word != "-")


def _fan(text: str) -> Spread:
    parts = (word.partition("/") for word in _roles(text))
    return tuple((role, Y if axis == "y" else X) for role, _, axis in parts)
