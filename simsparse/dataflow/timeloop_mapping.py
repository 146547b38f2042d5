"""Mappings and constraints of a Timeloop specification: loops in time and space, and what each level keeps."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from simsparse.dataflow._arrays import LoopKind
from simsparse.dataflow.mapping import LevelMapping, Loop
from simsparse.dataflow.mapping import Mapping as Nest
from simsparse.dataflow.problem import Problem
from simsparse.errors import InputError, UnknownNameError

Node = Mapping[str, Any]
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
        For a target that is none, imperfect factors, and kinds of directives that are not covered.
    """
    directives = part.get("nodes", ()) if isinstance(part, Mapping) else part
    if not isinstance(directives, Sequence):
        raise InputError("mapping is no list, expected directives with target and type")
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
    return Nest(tuple(_level(name, found, problem, left) for name in levels))


def _factors(directive: Node) -> dict[str, int]:
    given = directive.get("factors", ())
    texts = given if isinstance(given, list) else re.split(r"[\s,]+(?=[A-Za-z_])", str(given).strip()) if given else []
    factors = {}
    for text in texts:
        match = _FACTOR.fullmatch(str(text).strip())
        if match is None or match[3] is not None:
            raise InputError.expected(f"factor at {directive['target']}", text, "DIM=FACTOR, a perfect one")
        factors[match[1]] = int(match[2])
    return factors


def _rests(found: Mapping[tuple[str, str], list[Node]], problem: Problem) -> dict[str, int]:
    """What a factor of 0 stands for: the part of a dimension that all others leave."""
    given: dict[str, list[int]] = {dim: [] for dim in problem.dim_names}
    for (level, kind), directives in found.items():
        for directive in directives if kind != "dataspace" else ():
            for dim, factor in _factors(directive).items():
                if dim not in given:
                    raise InputError.expected(f"dimension of a factor at {level}", dim, f"one of {', '.join(given)}")
                given[dim].append(factor)
    return {
        dim: extent // max(1, math.prod(f for f in given[dim] if f)) for dim, extent in problem.dims
    }  # fmt: skip


def _level(
    name: str, found: Mapping[tuple[str, str], list[Node]], problem: Problem, left: Mapping[str, int]
) -> LevelMapping:
    bypassed = [space for directive in found.get((name, "dataspace"), ()) for space in directive.get("bypass", ())]
    temporal = [loop for directive in found.get((name, "temporal"), ()) for loop in _loops(directive, left, False)]
    spatial = [loop for directive in found.get((name, "spatial"), ()) for loop in _loops(directive, left, True)]
    keep = tuple(tensor for tensor in problem.names if tensor not in bypassed)
    return LevelMapping(name, keep, tuple(temporal), tuple(spatial))


def _loops(directive: Node, left: Mapping[str, int], spatial: bool) -> list[Loop]:
    """Loops of a directive, outermost first; permutations list the innermost first, `split` of them along X."""
    factors = {dim: factor or left[dim] for dim, factor in _factors(directive).items()}
    given = directive.get("permutation", ())
    if isinstance(given, str):
        given = re.split(r"[\s,]+", given.strip()) if re.search(r"[\s,]", given) else list(given)
    order = [*given, *(dim for dim in factors if dim not in given)]
    split = int(directive.get("split", len(order)))
    loops = []
    for place, dim in enumerate(order):
        kind = LoopKind.TEMPORAL if not spatial else LoopKind.X if place < split else LoopKind.Y
        if factors.get(dim, 1) > 1:
            loops.append(Loop(dim, factors[dim], kind))
    return loops[::-1]
