"""`map`: the best mapping of a problem on an architecture, the Pareto front beside it, and why.

Where the space is small, every mapping is evaluated, else local search improves random ones (see `improvement`) until
the budget is spent or goes on in vain. The compiled code evaluates arrays of mappings; no object stands for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from simsparse.dataflow import _batch
from simsparse.dataflow._arrays import Ints
from simsparse.dataflow._batch import Outcome
from simsparse.dataflow._kernel import Kernel
from simsparse.dataflow.analysis import Analysis, analyze
from simsparse.dataflow.architecture import Architecture
from simsparse.dataflow.budget import BUDGET
from simsparse.dataflow.evaluation import IDLE, UNFIT, Evaluation, State
from simsparse.dataflow.frames import Frame
from simsparse.dataflow.improvement import by_score, improved
from simsparse.dataflow.mapspace import Space, space_of
from simsparse.dataflow.objective import Constraints, Objective
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.roles import bound, roles_of
from simsparse.errors import InputError, UnsupportedError
from simsparse.ops import Contraction

CHUNK = 65_536  # mappings that are evaluated together


@dataclass(frozen=True)
class Point:
    """A mapping that none other beats in both."""

    cycles: float
    energy_j: float
    dataflow: str


@dataclass(frozen=True, eq=False)
class Found:
    """Result of a search.

    Attributes
    ----------
    best : Analysis
    dataflow : str
        That the best mapping follows.
    pareto : tuple of Point
        Front of latency and energy, fastest first.
    evaluated : int
        Mappings.
    exhaustive : bool
        Whether these were all.
    why : str
        What bounds the best mapping, and what the best one of each other dataflow would cost.
    """

    best: Analysis
    dataflow: str
    pareto: tuple[Point, ...]
    evaluated: int
    exhaustive: bool
    why: str


def map(
    op: Contraction | Problem,
    architecture: Architecture,
    objective: Objective = Objective.LATENCY,
    constraints: Constraints | None = None,
    *,
    budget: int = BUDGET,
    seed: int = 0,
    cores: int = 1,
) -> Found:
    """Find the best mapping.

    Parameters
    ----------
    op : Contraction or Problem
        Tensors A, B and C; densities come with them.
    objective : Objective
    constraints : Constraints
    budget : int
        Mappings to evaluate where the space holds more; dataflows get equal shares.
    seed : int
        Of the random part.
    cores : int

    Raises
    ------
    InputError
        For a constraint on what there is not.
    UnsupportedError
        If nothing fits, saying which level would hold how many words too many, and most of which tensor.
    """
    if budget < 1 or cores < 1:
        raise InputError.expected("budget and cores", (budget, cores), "numbers of at least 1")
    problem = op if isinstance(op, Problem) else Problem.from_contraction(op)
    architecture = bound(architecture, roles_of(problem))
    limits = constraints or Constraints()
    if isinstance(_batch.evaluate_many, Kernel):
        _batch.evaluate_many.compile()
    search = Evaluation(problem, architecture, objective, limits, cores)
    spaces = [space_of(problem, architecture, flow, padding=limits.padding) for flow in limits.dataflows]
    exhaustive = sum(space.size for space in spaces) <= budget
    champions = []
    for space in spaces:
        # Each dataflow has its own share and random numbers, so that it finds the same beside others as alone.
        search.until = search.evaluated + (space.size if exhaustive else max(1, budget // len(spaces)))
        if space.size <= search.left:
            champions.append(_all(search, space))
        else:
            champions.append(improved(search, space, np.random.default_rng(seed)))
    return _found(search, [each for each in champions if each is not None], exhaustive)


def _all(search: Evaluation, space: Space) -> State | None:
    """The best of every mapping."""
    chunks = ((order, picks) for order in space.every() for picks in _every_pick(order.frame))
    states = (state for order, picks in chunks for state in search.best_of([order], picks))
    return min(states, key=by_score, default=None)


def _every_pick(frame: Frame) -> Iterator[Ints]:
    for first in range(0, frame.space, CHUNK):
        yield np.stack(np.unravel_index(np.arange(first, min(first + CHUNK, frame.space)), frame.sizes))


def _found(search: Evaluation, champions: list[State], exhaustive: bool) -> Found:
    if not champions:
        raise UnsupportedError("no dataflow has a loop for every dimension of the problem, expected one that has")
    champions.sort(key=by_score)
    best = champions[0]
    if best.score >= IDLE:
        raise UnsupportedError(_reason(search, best))
    mapping = best.order.mapping(best.picks, search.problem, search.architecture)
    analysis = analyze(search.problem, search.architecture, mapping)
    names = [flow.name for flow in search.constraints.dataflows]
    front = tuple(Point(float(c), float(e) * 1e-12, names[int(f)]) for c, e, f in search.front)
    return Found(analysis, best.order.flow.name, front, search.evaluated, exhaustive, _why(analysis, champions))


def _reason(search: Evaluation, nearest: State) -> str:
    """Why nothing fits, from the mapping that comes nearest."""
    name = search.problem.name or "the problem"
    if nearest.score < UNFIT:
        return (
            f"no mapping of {name} keeps {search.constraints.least_utilisation:.0%} of the array busy, "
            f"the best one keeps {nearest.outcome[Outcome.BUSY]:.1%}"
        )
    mapping = nearest.order.mapping(nearest.picks, search.problem, search.architecture)
    levels = tuple(
        replace(level, capacity_words=room)
        for level, room in zip(search.architecture.levels, search.room.tolist(), strict=True)
    )
    limited = replace(search.architecture, levels=levels)
    try:
        analysis = analyze(search.problem, limited, mapping)
    except InputError as error:
        return f"no mapping of {name} fits: {error}"
    short = analysis.overflows(mean=search.constraints.mean_occupancy)
    return f"no mapping of {name} fits; in the one that comes nearest, " + "; ".join(str(each) for each in short)


def _why(analysis: Analysis, champions: Sequence[State]) -> str:
    best = champions[0]
    text = f"{best.order.flow.name}: bound by {analysis.bound}, {best.outcome[Outcome.BUSY]:.0%} of the array busy"
    for other in champions[1:]:
        if other.score >= IDLE:
            text += f"; {other.order.flow.name} does not fit"
            continue
        slower = other.outcome[Outcome.CYCLES] / best.outcome[Outcome.CYCLES]
        dearer = other.outcome[Outcome.ENERGY_PJ] / best.outcome[Outcome.ENERGY_PJ]
        text += f"; {other.order.flow.name} takes {slower:#.3g} times the cycles, {dearer:#.3g} times the energy"
    return text
