"""`map`: the best mapping of a problem on an architecture, the Pareto front beside it, and why.

Where the space is small, every mapping is evaluated. Else each loop order gives random mappings, and the best of them
are improved: all ways to split one dimension, random ways to split two, and the sibling orders, until nothing gets
better or the budget is spent. The compiled code evaluates arrays of mappings; no object stands for one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from simsparse.dataflow import _batch
from simsparse.dataflow._arrays import Floats, Ints
from simsparse.dataflow._batch import Outcome
from simsparse.dataflow._kernel import Kernel
from simsparse.dataflow.analysis import Analysis, analyze
from simsparse.dataflow.architecture import Architecture, Compute, Storage
from simsparse.dataflow.mapspace import Order, orders
from simsparse.dataflow.objective import Constraints, Objective
from simsparse.dataflow.prepared import Prepared, prepare
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.roles import bound, roles_of
from simsparse.errors import InputError, UnsupportedError
from simsparse.ops import Contraction

BUDGET = 200_000  # mappings
CHUNK = 65_536
SAMPLES = 384  # random mappings of each order, at least one chunk of lanes
MOST_SAMPLES = 4096  # of all orders together, where they are few
ELITES = 10
TOGETHER = 729  # combinations of the ways of each dimension that help alone
PAIRS = 256  # random ways to split two dimensions at once
ROUNDS = 40


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


@dataclass
class _State:
    """One mapping with its score."""

    order: Order
    picks: Ints
    score: float
    outcome: Floats


@dataclass
class _Search:
    """What is shared by the evaluations of one search."""

    problem: Problem
    architecture: Architecture
    objective: Objective
    constraints: Constraints
    cores: int
    rng: np.random.Generator
    evaluated: int = 0
    front: Floats = field(default_factory=lambda: np.zeros((0, 3)))  # cycles, energy_pj, index of the dataflow
    prepared: dict[tuple[int, ...], Prepared] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts: tuple[Storage | Compute, ...] = (*self.architecture.levels, self.architecture.compute)
        self.available = np.array([float(part.instances) for part in parts])
        self.room = self.constraints.room(self.architecture)

    def ready(self, order: Order) -> Prepared:
        """The arrays of the problem, padded as an order has it."""
        if order.extents not in self.prepared:
            dims = tuple(extent for _, extent in self.problem.dims)
            grown = dict(zip(self.problem.dim_names, order.extents, strict=True))
            problem = self.problem if dims == order.extents else self.problem.padded(grown)
            self.prepared[order.extents] = prepare(problem, self.architecture)
        return self.prepared[order.extents]

    def evaluate(self, order: Order, picks: Ints) -> tuple[Floats, Floats]:
        """Scores and outcomes of mappings; what does not fit scores worse than all that does."""
        prepared = self.ready(order)
        cuts = np.linspace(0, picks.shape[1], self.cores + 1).astype(int)
        parts = [(slice(a, b)) for a, b in itertools.pairwise(cuts) if b > a]
        if len(parts) == 1:
            outcomes = self._run(prepared, order, picks)
        else:
            with ThreadPoolExecutor(len(parts)) as pool:
                outcomes = np.concatenate(
                    list(pool.map(lambda part: self._run(prepared, order, picks[:, part]), parts)), axis=1
                )
        self.evaluated += picks.shape[1]
        scores = self.objective.score(outcomes)
        unfit = outcomes[Outcome.EXCESS] > 0.0
        scores[unfit] = 1e6 + outcomes[Outcome.EXCESS, unfit]
        scores[~unfit & (outcomes[Outcome.BUSY] < self.constraints.least_utilisation)] += 1e5
        self._extend_front(outcomes[:2, scores < 1e5], order)
        return scores, outcomes

    def _run(self, prepared: Prepared, order: Order, picks: Ints) -> Floats:
        picks, outcomes = np.ascontiguousarray(picks), np.empty((len(Outcome), picks.shape[1]))
        while True:
            asked = prepared.asked(4096)
            _batch.evaluate_many(
                *prepared.spec, *asked, order.loops, order.stored, order.splits, picks, self.room, self.available,
                int(self.constraints.mean_occupancy), outcomes,
            )  # fmt: skip
            if asked.n_missing[0] == 0:
                return outcomes
            prepared.answers.add(asked.missing[: asked.n_missing[0]])

    def _extend_front(self, outcomes: Floats, order: Order) -> None:
        if len(self.front) and outcomes.size:
            # Energy of the front at no more cycles: only what is below can join.
            at = np.searchsorted(self.front[:, 0], outcomes[Outcome.CYCLES], side="right") - 1
            beaten = np.where(at >= 0, self.front[at, 1], np.inf)
            outcomes = outcomes[:, outcomes[Outcome.ENERGY_PJ] < beaten]
        if not outcomes.size:
            return
        flow = float(self.constraints.dataflows.index(order.flow))
        new = np.column_stack([*outcomes, np.full(outcomes.shape[1], flow)])
        both = np.concatenate([self.front, new])
        both = both[np.lexsort((both[:, 1], both[:, 0]))]
        least = np.minimum.accumulate(both[:, 1])
        first = np.concatenate(([True], least[1:] < least[:-1]))
        self.front = both[first]

    def best_of(self, order: Order, picks: Ints, keep: int = 1) -> list[_State]:
        """The best few of an array of mappings."""
        scores, outcomes = self.evaluate(order, picks)
        chosen = np.argsort(scores, kind="stable")[:keep]
        return [_State(order, picks[:, i].copy(), float(scores[i]), outcomes[:, i].copy()) for i in chosen]


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
        Mappings to evaluate where the space holds more.
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
    search = _Search(problem, architecture, objective, limits, cores, np.random.default_rng(seed))
    spaces = [orders(problem, architecture, flow, padding=limits.padding) for flow in limits.dataflows]
    exhaustive = sum(order.space for space in spaces for order in space) <= budget
    champions = [_all(search, space) if exhaustive else _some(search, space, budget // len(spaces)) for space in spaces]
    return _found(search, [each for each in champions if each is not None], exhaustive)


def _all(search: _Search, space: Sequence[Order]) -> _State | None:
    """Every mapping."""
    states = [
        state for order in space for picks in _every_pick(order, search.problem.width)
        for state in search.best_of(order, picks)
    ]  # fmt: skip
    return min(states, key=_by_score, default=None)


def _every_pick(order: Order, width: int) -> Iterator[Ints]:
    for first in range(0, order.space, CHUNK):
        flat = np.arange(first, min(first + CHUNK, order.space))
        picks = np.zeros((width, len(flat)), np.int64)
        picks[: len(order.sizes)] = np.unravel_index(flat, order.sizes)
        yield picks


def _some(search: _Search, space: Sequence[Order], budget: int) -> _State | None:
    """Random mappings of every order, the best of them improved."""
    usable = [order for order in space if order.space > 0]
    if not usable:
        return None
    until = search.evaluated + budget
    each = max(32, min(max(SAMPLES, MOST_SAMPLES // len(usable)), budget // (2 * len(usable))))
    nearest: dict[bytes, list[_State]] = {}  # the best of each way to spread the array
    for order in usable:
        kin = nearest.setdefault(_loops_key(order), [])
        kin += search.best_of(order, _random(search, order, each), ELITES)
    share = -(-ELITES // len(nearest))
    elites = sorted((state for kin in nearest.values() for state in sorted(kin, key=_by_score)[:share]), key=_by_score)
    del elites[ELITES:]
    for _ in range(ROUNDS):
        before = [state.score for state in elites]
        for at, state in enumerate(elites):
            if search.evaluated >= until:
                break
            elites[at] = _improved(search, state, usable)
        settled = all(state.score >= score for state, score in zip(elites, before, strict=True))
        elites.sort(key=_by_score)
        if search.evaluated >= until or settled:
            break
        del elites[max(1, len(elites) * 2 // 3) :]
    return elites[0]


def _loops_key(order: Order) -> bytes:
    """The loops whatever their order in time, and the extents."""
    rows = np.array(sorted(order.loops.tolist()), np.int64)
    return rows.tobytes() + np.array(order.extents).tobytes()


def _random(search: _Search, order: Order, count: int) -> Ints:
    picks = np.zeros((search.problem.width, count), np.int64)
    for d, size in enumerate(order.sizes):
        picks[d] = search.rng.integers(0, size, count)
    return picks


def _improved(search: _Search, state: _State, space: Sequence[Order]) -> _State:
    """The best of a mapping, its neighbours, and itself in the sibling orders."""
    order, sizes = state.order, state.order.sizes
    blocks = [np.repeat(state.picks[:, np.newaxis], size, axis=1) for size in sizes]
    for d, block in enumerate(blocks):
        block[d] = np.arange(sizes[d])
    single = np.concatenate(blocks, axis=1)
    scores, outcomes = search.evaluate(order, single)
    at = int(scores.argmin())
    best = min(state, _State(order, single[:, at].copy(), float(scores[at]), outcomes[:, at].copy()), key=_by_score)
    # What helps alone is tried together, beside random pairs of ways.
    few = max(2, int(TOGETHER ** (1.0 / len(sizes))))
    helpful = [part.argsort(kind="stable")[:few] for part in np.split(scores, np.cumsum(sizes)[:-1])]
    together = np.zeros((len(state.picks), int(np.prod([len(part) for part in helpful]))), np.int64)
    together[: len(sizes)] = np.stack(np.meshgrid(*helpful, indexing="ij")).reshape(len(sizes), -1)
    pairs = np.repeat(best.picks[:, np.newaxis], PAIRS, axis=1)
    for columns in np.array_split(np.arange(PAIRS), len(sizes)):
        for d in search.rng.choice(len(sizes), min(2, len(sizes)), replace=False):
            pairs[d, columns] = search.rng.integers(0, sizes[d], len(columns))
    best = min(best, *search.best_of(order, np.concatenate([together, pairs], axis=1)), key=_by_score)
    for other in space:
        if other is not best.order and _loops_key(other) == _loops_key(best.order):
            # Loops of a dimension stand in the same order, so that its ways are the same.
            best = min(best, *search.best_of(other, best.picks[:, np.newaxis]), key=_by_score)
    return best


def _by_score(state: _State) -> float:
    return state.score


def _found(search: _Search, champions: list[_State], exhaustive: bool) -> Found:
    if not champions:
        raise UnsupportedError("no dataflow has a loop for every dimension of the problem, expected one that has")
    champions.sort(key=_by_score)
    best = champions[0]
    mapping = best.order.mapping(best.picks, search.problem, search.architecture)
    if best.score >= 1e5:
        raise UnsupportedError(_reason(search, best))
    analysis = analyze(search.problem, search.architecture, mapping)
    names = [flow.name for flow in search.constraints.dataflows]
    front = tuple(Point(float(c), float(e) * 1e-12, names[int(f)]) for c, e, f in search.front)
    return Found(analysis, best.order.flow.name, front, search.evaluated, exhaustive, _why(analysis, champions))


def _reason(search: _Search, nearest: _State) -> str:
    """Why nothing fits, from the mapping that comes nearest."""
    name = search.problem.name or "the problem"
    if nearest.score < 1e6:
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


def _why(analysis: Analysis, champions: Sequence[_State]) -> str:
    best = champions[0]
    text = f"{best.order.flow.name}: bound by {analysis.bound}, {best.outcome[Outcome.BUSY]:.0%} of the array busy"
    for other in champions[1:]:
        if other.score >= 1e5:
            text += f"; {other.order.flow.name} does not fit"
            continue
        slower = other.outcome[Outcome.CYCLES] / best.outcome[Outcome.CYCLES]
        dearer = other.outcome[Outcome.ENERGY_PJ] / best.outcome[Outcome.ENERGY_PJ]
        text += f"; {other.order.flow.name} takes {slower:.3g} times the cycles, {dearer:.3g} times the energy"
    return text
