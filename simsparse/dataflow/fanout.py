"""How a dataflow spreads the roles of dimensions over the mesh: the room along each axis, and who shares it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from simsparse.dataflow._arrays import LoopKind
from simsparse.dataflow.architecture import ActionKind, Architecture, Compute, Storage
from simsparse.dataflow.dataflows import Dataflow, Spread
from simsparse.dataflow.density import FixedStructured
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.roles import Roles


@dataclass(frozen=True)
class Fan:
    """A loop over the fan-out inside a level, whose factor is open; `limit` is the largest that there is room for."""

    level: int
    dim: int
    axis: LoopKind
    limit: float


def spreads(architecture: Architecture, flow: Dataflow, at: int) -> tuple[Spread, ...]:
    """Ways to lay roles along the axes of the fan-out inside a level."""
    level = architecture.levels[at]
    if level.name in flow.fans:
        return (flow.fans[level.name],)
    axes = [axis for axis in (LoopKind.X, LoopKind.Y) if room(architecture, at, axis) > 1]
    if not axes:
        return ((),)
    if flow.spread:
        cut = {tuple(part for part in spread if part[1] in axes): None for spread in flow.spread}
        return tuple(cut)
    return tuple(
        tuple(zip(chosen, axes, strict=True)) for chosen in itertools.product(("M", "N", "K"), repeat=len(axes))
    )


def room(architecture: Architecture, at: int, axis: LoopKind) -> int:
    """Instances along an axis for each instance outside."""
    parts: tuple[Storage | Compute, ...] = (*architecture.levels, architecture.compute)
    if axis is LoopKind.X:
        return parts[at + 1].mesh_x // parts[at].mesh_x
    return parts[at + 1].mesh_y // parts[at].mesh_y


def fans(problem: Problem, architecture: Architecture, spread: Spread, roles: Roles, at: int) -> Iterator[Fan]:
    """Loops over a fan-out: all dimensions of each role that have anything to spread."""
    extents = dict(problem.dims)
    for role, axis in spread:
        limit = room(architecture, at, axis) * _stretch(problem, architecture, at, role)
        if limit > 1:
            yield from (Fan(at, problem.dim_names.index(dim), axis, limit) for dim in roles[role] if extents[dim] > 1)


def shared(loops: tuple[Fan, ...]) -> tuple[tuple[tuple[Fan, ...], float], ...]:
    """Loops that share an axis, and the room for the product of their factors."""
    found = []
    for _, group in itertools.groupby(sorted(loops, key=_axis), key=_axis):
        together = tuple(group)
        limits = {fan.limit for fan in together}
        # Loops over zeros stand for more positions; the others beside them have no more than the axis has.
        for limit in limits:
            members = tuple(fan for fan in together if fan.limit <= limit)
            if len(members) > 1:
                found.append((members, limit))
    return tuple(found)


def _axis(fan: Fan) -> tuple[int, int]:
    return fan.level, int(fan.axis)


def _stretch(problem: Problem, architecture: Architecture, at: int, role: str) -> float:
    """How many positions an instance stands for, where instances over zeros of a structured A are left out."""
    density = problem.tensor(problem.names[0]).density
    skips = any(action.kind is ActionKind.SPATIAL_SKIPPING for action in architecture.levels[at].actions)
    return 1.0 / density.mean if skips and role == "K" and isinstance(density, FixedStructured) else 1.0
