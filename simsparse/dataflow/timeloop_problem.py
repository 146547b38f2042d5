"""Problem of a Timeloop specification: dimensions, projections, densities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simsparse.dataflow.density import Density, FixedStructured, UniformRandom
from simsparse.dataflow.problem import Operand, Problem
from simsparse.dataflow.timeloop_files import Node, named, number, whole
from simsparse.errors import InputError, UnknownNameError

_ON_INSTANCE = ("densities", "version")


def problem_of(part: Any) -> Problem:
    """The problem.

    Raises
    ------
    InputError, UnknownNameError
        For what the engine does not cover, and for extents, terms or densities that are none.
    """
    shape = part.get("shape") if isinstance(part, Mapping) else None
    if not isinstance(shape, Mapping):
        raise InputError("problem has no shape, expected dimensions and data_spaces")
    instance = part.get("instance") or {}
    coefficients = named("coefficients of the problem", shape.get("coefficients", []))
    values = {
        item["name"]: whole(f"coefficient {item['name']}", instance.get(item["name"], item.get("default", 1)))
        for item in coefficients
    }
    dimensions, spaces = shape.get("dimensions"), named("data_spaces of the problem", shape.get("data_spaces"))
    if not isinstance(dimensions, list) or not all(isinstance(dim, str) for dim in dimensions):
        raise InputError.expected("dimensions of the problem", dimensions, "a list of names")
    for dim in dimensions:
        if dim not in instance:
            raise InputError(f"dimension {dim} has no extent in the instance of the problem, expected one")
    for key in instance:
        if key not in (*dimensions, *values, *_ON_INSTANCE):
            raise UnknownNameError.near("dimension of the problem", key, [*dimensions, *values])
    tensors = tuple(Operand(space["name"], _axes(space, values)) for space in spaces)
    outputs = [space["name"] for space in spaces if space.get("read_write")]
    if len(outputs) != 1:
        raise InputError.expected("data spaces that are written", ", ".join(outputs) or "none", "one with read_write")
    extents = tuple((dim, whole(f"dimension {dim}", instance[dim])) for dim in dimensions)
    problem = Problem(extents, tensors, outputs[0], str(shape.get("name", "")))
    densities = instance.get("densities") or {}
    return problem.with_densities({name: _density(name, density) for name, density in densities.items()})


def _axes(space: Node, values: Mapping[str, int]) -> tuple[tuple[tuple[str, int], ...], ...]:
    projection = space.get("projection")
    if not isinstance(projection, list) or not all(isinstance(axis, list) for axis in projection):
        raise InputError.expected(
            f"projection of {space['name']}", projection, "lists of terms, such as [[[M]], [[K]]]"
        )
    return tuple(tuple(_term(space["name"], term, values) for term in axis) for axis in projection)


def _term(name: str, term: Any, values: Mapping[str, int]) -> tuple[str, int]:
    if not isinstance(term, list) or len(term) not in (1, 2):
        raise InputError.expected(f"term of the projection of {name}", term, "[DIMENSION] or [DIMENSION, COEFFICIENT]")
    if len(term) == 1:
        return term[0], 1
    if term[1] not in values:
        raise UnknownNameError.near(f"coefficient in the projection of {name}", str(term[1]), values)
    return term[0], values[term[1]]


def _density(name: str, density: Any) -> Density:
    if isinstance(density, (int, float)):  # as Sparseloop takes a bare number
        return FixedStructured(float(density))
    if not isinstance(density, Mapping) or "density" not in density:
        raise InputError.expected(f"density of {name}", density, "a number, or a distribution and a density")
    kind, value = density.get("distribution"), number(f"density of {name}", density["density"])
    if kind in ("fixed-structured", "fixed_structured"):
        return FixedStructured(value)
    if kind == "hypergeometric":
        return UniformRandom(value)
    raise InputError.expected(f"distribution of {name}", kind, "fixed-structured or hypergeometric")
