"""Roles of dimensions: M (outputs), N (tokens, pixels), K (reduction), batch. Designs speak of roles, not of names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from simsparse.dataflow.architecture import Architecture, TensorFormat
from simsparse.dataflow.problem import Problem

BATCH = "batch"
Roles = Mapping[str, tuple[str, ...]]


def roles_of(problem: Problem, a: str = "A", b: str = "B") -> dict[str, tuple[str, ...]]:
    """Dimensions by role, in the order of the problem; `a` and `b` name the operands.

    Those of all tensors are batch, of A and the output M, of B and the output N, the others K.
    """
    in_a, in_b, in_c = (problem.tensor(name).dims for name in (a, b, problem.output))
    found: dict[str, tuple[str, ...]] = {BATCH: (), "M": (), "N": (), "K": ()}
    for dim in problem.dim_names:
        if dim not in in_c:
            role = "K"
        elif dim in in_a and dim in in_b:
            role = BATCH
        else:
            role = "M" if dim in in_a else "N"
        found[role] += (dim,)
    return found


def bound(architecture: Architecture, roles: Roles) -> Architecture:
    """The architecture with the roles that its formats flatten replaced by the dimensions of a problem."""
    levels = tuple(
        replace(level, formats={tensor: _bound(layout, roles) for tensor, layout in level.formats.items()})
        for level in architecture.levels
    )
    return replace(architecture, levels=levels)


def _bound(layout: TensorFormat, roles: Roles) -> TensorFormat:
    ranks = tuple(
        replace(rank, dims=frozenset(dim for role in rank.dims for dim in roles.get(role, (role,))))
        for rank in layout.ranks
    )
    return replace(layout, ranks=ranks)
