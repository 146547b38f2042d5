"""Mappings and constraints of a Timeloop specification: loops in time and space, and what each level keeps."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from simsparse.dataflow._arrays import LoopKind
from simsparse.dataflow.mapping import LevelMapping, Loop
from simsparse.dataflow.mapping import Mapping as Nest
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.timeloop_files import Node, number
from simsparse.errors import InputError, UnknownNameError

_FACTOR = re.compile(r"([A-Za-z_]\w*?)\s*[=<]?\s*=?\s*(\d+)(,\d+)?")


def kept_by_constraints(node: Node, names: tuple[str, ...]) -> tuple[str, ...]:
    """Tensors that a component does not bypass.

    Raises
    ------
    InputError
        For constraints on loops, which need a mapping.
    """
    constraints = node.get("constraints") or {}
    for key in ("temporal", "spatial", "max_overbooked_proportion_standard_deviations"):
        if constraints.get(key):
            raise InputError(f"constraint {key} of {node['name']} is not covered without a mapping, expected a mapping")
    bypassed = (constraints.get("dataspace") or {}).get("bypass", ())
    return tuple(name for name in names if name not in bypassed)


def nest_of(part: Any, problem: Problem, owners: Mapping[str, str]) -> Nest:
    """The loop nest; `owners` gives the storage level that each target stands for, outermost first.

    Raises
    ------
    InputError, UnknownNameError
        For a target that is none, last steps that the bounds do not give, and directives that are not covered.
    """
    directives = part.get("nodes", ()) if isinstance(part, Mapping) else part
    if not isinstance(directives, list) or not all(isinstance(directive, Mapping) for directive in directives):
        raise InputError("mapping is no list of nodes, expected directives with target and type")
    levels = list(dict.fromkeys(owner for owner in owners.values() if owner))
    found: dict[tuple[str, str], list[Node]] = {}
    for directive in directives:
        target, kind = directive.get("target"), directive.get("type")
        if target not in owners:
            raise UnknownNameError.near("target of the mapping", str(target), owners)
        kind = {"bypass": "dataspace", "datatype": "dataspace"}.get(kind, kind)
        if kind not in ("temporal", "spatial", "dataspace"):
            raise InputError.expected(f"type of a directive on {target}", kind, "temporal, spatial or dataspace")
        if kind != "spatial" and owners[target] != target:
            raise InputError.expected(f"target of a {kind} directive", target, "a storage level")
        found.setdefault((owners[target], kind), []).append(directive)
    left = _rests(found, problem)
    nest = Nest(tuple(_level(name, found, problem, left) for name in levels))
    return _with_last_steps(nest, problem, found)


@dataclass(frozen=True)
class _Factor:
    """Steps of a loop, and those of its last time around where that has fewer."""

    steps: int
    last: int


def _factors(directive: Node) -> dict[str, _Factor]:
    given = directive.get("factors") or ()
    texts = given if isinstance(given, list) else re.split(r"[\s,]+(?=[A-Za-z_])", str(given).strip())
    factors = {}
    for text in texts:
        match = _FACTOR.fullmatch(str(text).strip())
        if match is None:
            raise InputError.expected(f"factor at {directive['target']}", text, "DIM=FACTOR or DIM=FACTOR,LAST")
        steps = int(match[2])
        factors[match[1]] = _Factor(steps, int(match[3][1:]) if match[3] else steps)
    return factors


def _rests(found: Mapping[tuple[str, str], list[Node]], problem: Problem) -> dict[str, int]:
    """What a factor of 0 stands for: the part of a dimension that all others leave."""
    given: dict[str, list[int]] = {dim: [] for dim in problem.dim_names}
    for (level, kind), directives in found.items():
        for directive in directives if kind != "dataspace" else ():
            for dim, factor in _factors(directive).items():
                if dim not in given:
                    raise InputError.expected(f"dimension of a factor at {level}", dim, f"one of {', '.join(given)}")
                given[dim].append(factor.steps)
    return {
        dim: -(-extent // max(1, math.prod(f for f in given[dim] if f))) for dim, extent in problem.dims
    }  # fmt: skip


def _with_last_steps(nest: Nest, problem: Problem, found: Mapping[tuple[str, str], list[Node]]) -> Nest:
    """The nest, imperfect where a last step is; the bounds say how many steps there are the last time around."""
    last = {
        (level, kind == "spatial", dim): factor.last
        for (level, kind), directives in found.items()
        if kind != "dataspace"
        for directive in directives
        for dim, factor in _factors(directive).items()
        if factor.last != factor.steps
    }
    if not last:
        return nest
    left = dict(problem.dims)
    if any(nest.extent(dim) < extent for dim, extent in left.items()):
        return replace(nest, imperfect=True)  # too few steps, which the check of mappings says
    inside = {dim: nest.extent(dim) for dim in left}
    for level, loop in nest.nest:
        name = nest.levels[level].level
        inside[loop.dim] //= loop.factor
        steps = -(-left[loop.dim] // inside[loop.dim])
        said = last.get((name, loop.kind is not LoopKind.TEMPORAL, loop.dim), loop.factor)
        if said != steps:
            raise InputError.expected(
                f"last steps of factor {loop.dim}={loop.factor} at {name}", said, f"{steps}, which its bound leaves"
            )
        left[loop.dim] -= (steps - 1) * inside[loop.dim]
    return replace(nest, imperfect=True)


def _level(
    name: str, found: Mapping[tuple[str, str], list[Node]], problem: Problem, left: Mapping[str, int]
) -> LevelMapping:
    bypassed = [space for directive in found.get((name, "dataspace"), ()) for space in directive.get("bypass") or ()]
    for space in bypassed:
        if space not in problem.names:
            raise InputError.expected(f"tensor that bypasses {name}", space, f"one of {', '.join(problem.names)}")
    temporal = [loop for directive in found.get((name, "temporal"), ()) for loop in _loops(directive, left, False)]
    spatial = [loop for directive in found.get((name, "spatial"), ()) for loop in _loops(directive, left, True)]
    keep = tuple(tensor for tensor in problem.names if tensor not in bypassed)
    return LevelMapping(name, keep, tuple(temporal), tuple(spatial))


def _loops(directive: Node, left: Mapping[str, int], spatial: bool) -> list[Loop]:
    """Loops of a directive, outermost first; permutations list the innermost first, `split` of them along X."""
    factors = {dim: factor.steps or left[dim] for dim, factor in _factors(directive).items()}
    given = directive.get("permutation", ())
    if isinstance(given, str):
        given = re.split(r"[\s,]+", given.strip()) if re.search(r"[\s,]", given) else list(given)
    order = [*given, *(dim for dim in factors if dim not in given)]
    for dim in order:
        if dim not in left:
            raise InputError.expected(
                f"dimension of the permutation at {directive['target']}", dim, f"one of {', '.join(left)}"
            )
    split = int(number(f"split at {directive['target']}", directive.get("split", len(order))))
    loops = []
    for place, dim in enumerate(order):
        kind = LoopKind.TEMPORAL if not spatial else LoopKind.X if place < split else LoopKind.Y
        if factors.get(dim, 1) > 1:
            loops.append(Loop(dim, factors[dim], kind))
    return loops[::-1]
