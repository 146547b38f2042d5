"""How a problem runs on an architecture: loops of each level, in time and over the mesh, and what each level keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simsparse.dataflow._arrays import LoopKind, Nest, Stored
from simsparse.dataflow.architecture import Architecture
from simsparse.dataflow.problem import Problem
from simsparse.errors import InputError


@dataclass(frozen=True)
class Loop:
    """A loop over a dimension, in time or along a mesh axis."""

    dim: str
    factor: int
    kind: LoopKind = LoopKind.TEMPORAL

    def __str__(self) -> str:
        along = "" if self.kind is LoopKind.TEMPORAL else f" along {self.kind.name}"
        return f"{self.dim} in {self.factor}{along}"


@dataclass(frozen=True)
class LevelMapping:
    """What a level does.

    Attributes
    ----------
    level : str
    keep : tuple of str
        Tensors stored here; others bypass.
    temporal, spatial : tuple of Loop
        Outermost first; spatial ones lie inside the temporal ones and fan out to the next level.
    streamed : tuple of str
        Tensors that pass through without being held: counted and priced here, reuse is that of the level inside.
    """

    level: str
    keep: tuple[str, ...] = ()
    temporal: tuple[Loop, ...] = ()
    spatial: tuple[Loop, ...] = ()
    streamed: tuple[str, ...] = ()

    @cached_property
    def loops(self) -> tuple[Loop, ...]:
        """All loops, outermost first."""
        return self.temporal + self.spatial


@dataclass(frozen=True)
class Mapping:
    """A loop nest, level by level, outermost first.

    Attributes
    ----------
    levels : tuple of LevelMapping
    imperfect : bool
        Factors may multiply to more than a bound; edges are clipped there. See `analyze`.
    """

    levels: tuple[LevelMapping, ...]
    imperfect: bool = False

    def check(self, problem: Problem, architecture: Architecture) -> None:
        """Refuse a mapping that is none of this problem on this architecture.

        Raises
        ------
        InputError
            In one sentence that names level, tensor or dimension.
        """
        names = tuple(part.level for part in self.levels)
        if names != architecture.level_names:
            expected = ", ".join(architecture.level_names)
            raise InputError.expected("levels of the mapping", ", ".join(names), f"{expected}, outermost first")
        for part in self.levels:
            _check_level(part, problem, architecture)
        for name in problem.names:
            if not any(name in part.keep for part in self.levels):
                raise InputError(f"tensor {name} is kept by no level, expected one of {', '.join(names)} to keep it")
        for dim, extent in problem.dims:
            product = self.extent(dim)
            if product < extent or (product > extent and not self.imperfect):
                bound = f"its bound {extent}" + (" or more" if self.imperfect else "")
                raise InputError(f"factors of dimension {dim} multiply to {product}, expected {bound}")

    def extent(self, dim: str) -> int:
        """What the loops over a dimension cover."""
        return math.prod(loop.factor for part in self.levels for loop in part.loops if loop.dim == dim)

    @cached_property
    def nest(self) -> tuple[tuple[int, Loop], ...]:
        """Level and loop of all loops that do something, outermost first."""
        return tuple((level, loop) for level, part in enumerate(self.levels) for loop in part.loops if loop.factor > 1)

    def arrays(self, problem: Problem) -> Nest:
        """As the compiled code sees it: one lane."""
        dims = {dim: d for d, dim in enumerate(problem.dim_names)}
        rows = [(level, dims[loop.dim], int(loop.kind)) for level, loop in self.nest]
        stored = np.zeros((len(self.levels), len(problem.names)), np.int64)
        for level, part in enumerate(self.levels):
            for t, name in enumerate(problem.names):
                if name in part.keep:
                    stored[level, t] = Stored.KEPT
                elif name in part.streamed:
                    stored[level, t] = Stored.STREAMED
        factors = np.array([float(loop.factor) for _, loop in self.nest]).reshape(len(rows), 1)
        return Nest(np.array(rows, np.int64).reshape(len(rows), 3), factors, stored)


def _check_level(part: LevelMapping, problem: Problem, architecture: Architecture) -> None:
    capacity = architecture.level(part.level).capacity_words
    for name in (*part.keep, *part.streamed):
        if name not in problem.names:
            known = ", ".join(problem.names)
            raise InputError.expected(f"tensor at level {part.level}", name, f"one of {known}")
    for name in part.streamed:
        if name in part.keep:
            raise InputError(f"tensor {name} is kept and streamed at level {part.level}, expected one of them")
    if part.keep and capacity == 0:
        raise InputError(f"level {part.level} has a capacity of 0 words, expected room for tensor {part.keep[0]}")
    if capacity > 0 and not part.keep and not part.streamed:
        raise InputError(f"level {part.level} keeps nothing, expected a tensor, or a capacity of 0 for a mere fan-out")
    for loop in part.loops:
        if loop.dim not in problem.dim_names:
            known = ", ".join(problem.dim_names)
            raise InputError.expected(f"dimension of a loop at level {part.level}", loop.dim, f"one of {known}")
        if loop.factor < 1:
            raise InputError.expected(f"factor of {loop.dim} at level {part.level}", loop.factor, "at least 1")
    if any(loop.kind is not LoopKind.TEMPORAL for loop in part.temporal):
        raise InputError(f"a loop along the mesh stands among the temporal ones of level {part.level}")
    if any(loop.kind is LoopKind.TEMPORAL for loop in part.spatial):
        raise InputError(f"a loop in time stands among the spatial ones of level {part.level}")
