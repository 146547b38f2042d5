"""The mapping of a problem by a dataflow of a design: the better one of the engine's search and of a descent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations

from simsparse.dataflow._arrays import Count, LoopKind, Total
from simsparse.dataflow.analysis import Analysis, analyze
from simsparse.dataflow.architecture import ActionKind, Architecture
from simsparse.dataflow.dataflows import Dataflow
from simsparse.dataflow.density import FixedStructured
from simsparse.dataflow.mapping import LevelMapping, Loop
from simsparse.dataflow.mapping import Mapping as Nest
from simsparse.dataflow.objective import Constraints, Objective
from simsparse.dataflow.prepared import Prepared, prepare
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.roles import Roles, roles_of
from simsparse.dataflow.search import map as find
from simsparse.errors import UnsupportedError

ENERGY_WEIGHT = 0.05  # of two mappings about as fast the one that takes less energy
PASSES = 4
TRADES = (2, 4, 16)
BUDGET = 10_000  # mappings of the search


@dataclass
class _Nest:
    """Factors by level and dimension while they are improved; the rest of a dimension runs at the outermost level."""

    extents: dict[str, int]
    spatial: list[list[Loop]]
    tiles: list[dict[str, int]]

    def left(self, dim: str) -> int:
        """Factor of a dimension at the outermost level."""
        inside = math.prod(loop.factor for loops in self.spatial for loop in loops if loop.dim == dim)
        return -(-self.extents[dim] // (inside * math.prod(tile.get(dim, 1) for tile in self.tiles)))

    def padded(self, dim: str) -> int:
        """Extent that all factors multiply to, at least the dimension's."""
        inside = math.prod(loop.factor for loops in self.spatial for loop in loops if loop.dim == dim)
        return self.left(dim) * inside * math.prod(tile.get(dim, 1) for tile in self.tiles)


@dataclass(frozen=True)
class _Search:
    """What all mappings of one search share."""

    prepared: Prepared
    flow: Dataflow
    roles: Roles

    def dims(self, level: int) -> list[str]:
        """Dimensions that a level loops over."""
        name = self.prepared.architecture.level_names[level]
        return [dim for role in self.flow.loops[name] for dim in self.roles[role]]

    def score(self, nest: _Nest) -> float:
        """Cycles, with a little of the energy; infinite where something does not fit."""
        return self.score_of(_mapping(self, nest))

    def score_of(self, mapping: Nest) -> float:
        """The same of a finished mapping."""
        return _score(self.prepared, mapping)


def best(problem: Problem, architecture: Architecture, flow: Dataflow) -> Analysis:
    """The fastest mapping found, by the search of the engine or by the descent here.

    The search tries many loop nests at random and improves them; the descent fills fan-outs with several dimensions of
    a role, as convolutions need, and trades room between tiles.

    Raises
    ------
    UnsupportedError
        If no tile fits, saying which level is short of what.
    """
    search = _Search(prepare(problem, architecture), flow, roles_of(problem))
    ours, score = _local(search)
    try:
        limits = Constraints(dataflows=(flow,))
        theirs = find(problem, architecture, Objective(1.0, ENERGY_WEIGHT), limits, budget=BUDGET).best
    except UnsupportedError:
        theirs = None
    if theirs is not None and search.score_of(theirs.mapping) < score:
        return theirs
    final = _final(search, ours)
    if math.isinf(score):
        reason = "; ".join(map(str, final.overflows())) or "more instances are needed than there are"
        raise UnsupportedError(f"no mapping of {problem.name or 'the problem'} fits: {reason}")
    return final


def _local(search: _Search) -> tuple[_Nest, float]:
    """The best of descents from two sides, and its score; infinite where even the smallest tiles do not fit."""
    problem, levels = search.prepared.problem, search.prepared.architecture.levels
    nest = _Nest(dict(problem.dims), _fill(search), [{} for _ in levels])
    found = search.score(nest)
    inward = [*range(1, len(levels))]
    tries = [(found, nest)]
    for order in (inward, inward[::-1]) if not math.isinf(found) else ():
        attempt = replace(nest, tiles=[{} for _ in levels])
        tries.append((_descend(search, attempt, order, found), attempt))
    score, best_nest = min(tries, key=lambda each: each[0])
    return best_nest, score


def _descend(search: _Search, nest: _Nest, order: list[int], found: float) -> float:
    """Improve the tiles of the levels in an order until nothing gets better; the score reached."""
    for _ in range(PASSES):
        before = found
        for level in order:
            for dim in search.dims(level):
                found = _improve(search, nest, level, dim, found)
        for level in order:
            found = _trade(search, nest, level, found)
        if found >= before * (1.0 - 1e-6):
            break
    return found


def _fill(search: _Search) -> list[list[Loop]]:
    """Spatial loops: each fan-out takes as much of its roles' dimensions as fits, innermost level first."""
    problem, architecture = search.prepared.problem, search.prepared.architecture
    left = dict(problem.dims)
    meshes = [(level.mesh_x, level.mesh_y) for level in architecture.levels]
    meshes.append((architecture.compute.mesh_x, architecture.compute.mesh_y))
    spatial: list[list[Loop]] = [[] for _ in architecture.levels]
    for level in range(len(architecture.levels) - 1, -1, -1):
        room = {
            LoopKind.X: meshes[level + 1][0] // meshes[level][0], LoopKind.Y: meshes[level + 1][1] // meshes[level][1]
        }  # fmt: skip
        for role, axis in search.flow.fans[architecture.level_names[level]]:
            stretch, own = _stretch(problem, architecture, level, role), len(spatial[level])
            for dim in reversed(search.roles[role]):
                fits = int(room[axis] * stretch + 1e-9)
                factor = -(-left[dim] // -(-left[dim] // max(1, fits)))
                if factor > 1:
                    spatial[level].insert(own, Loop(dim, factor, axis))
                    left[dim] = -(-left[dim] // factor)
                    room[axis] //= -(-factor // max(1, int(stretch)))
                    stretch = 1.0
    return spatial


def _stretch(problem: Problem, architecture: Architecture, level: int, role: str) -> float:
    """How many positions a lane stands for, where lanes over zeros of a structured A are left out."""
    density = problem.tensor("A").density
    skips = any(action.kind is ActionKind.SPATIAL_SKIPPING for action in architecture.levels[level].actions)
    return 1.0 / density.mean if skips and role == "K" and isinstance(density, FixedStructured) else 1.0


def _candidates(left: int) -> Iterator[int]:
    """Tile factors worth trying: all that cut a dimension into few pieces or few words, evenly."""
    yield from sorted({-(-left // pieces) for pieces in (*range(1, 9), *(2**k for k in range(4, 20)))})


def _improve(search: _Search, nest: _Nest, level: int, dim: str, found: float) -> float:
    """Take the best factor of a dimension at a level."""
    tile = nest.tiles[level]
    kept = tile.pop(dim, 1)
    for factor in _candidates(nest.left(dim)):
        tile[dim] = factor
        score = search.score(nest)
        if score < found * (1.0 - 1e-9):
            found, kept = score, factor
    tile[dim] = kept
    return found


def _trade(search: _Search, nest: _Nest, level: int, found: float) -> float:
    """Shrink one dimension's tile at a level where that lets another's grow, here or further inside."""
    places = [(at, dim) for at in range(level, len(nest.tiles)) for dim in search.dims(at)]
    for (at, small), (to, large) in permutations(places, 2):
        if level not in (at, to):
            continue
        for factor in TRADES:
            before = nest.tiles[at].get(small, 1), nest.tiles[to].get(large, 1)
            if before[0] < factor or before[1] * factor > nest.extents[large]:
                break
            nest.tiles[at][small], nest.tiles[to][large] = -(-before[0] // factor), before[1] * factor
            score = search.score(nest)
            if score < found * (1.0 - 1e-9):
                found = score
                break
            nest.tiles[at][small], nest.tiles[to][large] = before
    return found


def _mapping(search: _Search, nest: _Nest) -> Nest:
    parts, flow = [], search.flow
    for at, level in enumerate(search.prepared.architecture.levels):
        order = search.dims(at)
        if at == 0:
            rest = [dim for dims in search.roles.values() for dim in dims if dim not in order]
            # Batches and whatever the dataflow does not loop over outside come first.
            temporal = [Loop(dim, nest.left(dim)) for dim in (*rest, *order)]
        else:
            temporal = [Loop(dim, nest.tiles[at].get(dim, 1)) for dim in order]
        kept = tuple(loop for loop in temporal if loop.factor > 1)
        parts.append(
            LevelMapping(level.name, flow.keeps[level.name], kept, tuple(nest.spatial[at]), flow.streams[level.name])
        )
    return Nest(tuple(parts))


def _score(prepared: Prepared, mapping: Nest) -> float:
    """Cycles, with a little of the energy; infinite where something does not fit."""
    result = prepared.run(*mapping.arrays(prepared.problem))
    architecture = prepared.architecture
    for at, level in enumerate(architecture.levels):
        counts = result.counts[at]
        kept = [prepared.problem.names.index(name) for name in mapping.levels[at].keep]
        if sum(counts[t, Count.OCCUPANCY_MAX] for t in kept) > level.capacity_words:
            return math.inf
        if counts[:, Count.INSTANCES_MAX].max() > level.instances * (1.0 + 1e-9):
            return math.inf
    if result.totals[Total.INSTANCES_MAX] > architecture.compute.instances * (1.0 + 1e-9):
        return math.inf
    energy_pj = max(1.0, float(result.totals[Total.ENERGY_PJ]))
    return max(1.0, float(result.totals[Total.CYCLES])) * math.exp(ENERGY_WEIGHT * math.log(energy_pj))


def _final(search: _Search, nest: _Nest) -> Analysis:
    """Of the problem with extents rounded up to what the factors multiply to."""
    problem = search.prepared.problem
    dims = tuple((dim, nest.padded(dim)) for dim, _ in problem.dims)
    return analyze(replace(problem, dims=dims), search.prepared.architecture, _mapping(search, nest))
