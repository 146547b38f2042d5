"""Scores of arrays of mappings, within a budget and on several cores; the Pareto front of all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from simsparse.dataflow import _batch
from simsparse.dataflow._arrays import Floats, Ints
from simsparse.dataflow._batch import Outcome
from simsparse.dataflow.architecture import Architecture, Compute, Storage
from simsparse.dataflow.frames import Frame
from simsparse.dataflow.mapspace import Order
from simsparse.dataflow.objective import Constraints, Objective
from simsparse.dataflow.prepared import MISSING, Prepared, prepare
from simsparse.dataflow.problem import Problem

UNFIT = 1e6  # added to by how much a mapping does not fit
IDLE = 1e5  # the score of one that keeps too little of the array busy is above this
FEW = 256  # mappings that one core evaluates alone
SCATTERED = 4096  # mappings of which the factors are looked up here, rather than in a table that is made for the order
QUESTIONS = 4096  # of the compiled code, answered in one go once it is known to ask
FRONT = 4096  # mappings that are compared with the front in one go


@dataclass
class State:
    """One mapping with its score."""

    order: Order
    picks: Ints
    score: float
    outcome: Floats


@dataclass
class Evaluation:
    """What is shared by the evaluations of one search.

    Attributes
    ----------
    until : int
        How many mappings may be evaluated.
    evaluated : int
        How many are.
    """

    problem: Problem
    architecture: Architecture
    objective: Objective
    constraints: Constraints
    cores: int
    until: int = 0
    evaluated: int = 0
    _front: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    _pending: list[tuple[Floats, float]] = field(default_factory=list)
    _waiting: int = 0
    _prepared: dict[tuple[int, ...], Prepared] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts: tuple[Storage | Compute, ...] = (*self.architecture.levels, self.architecture.compute)
        self.available = np.array([float(part.instances) for part in parts])
        self.room = self.constraints.room(self.architecture)
        self._flows = {id(flow): float(at) for at, flow in enumerate(self.constraints.dataflows)}

    @property
    def left(self) -> int:
        """Mappings that may still be evaluated."""
        return max(0, self.until - self.evaluated)

    @property
    def front(self) -> Floats:
        """Cycles, energy in pJ and index of the dataflow of mappings that none other beats in both, (n, 3)."""
        if self._pending:
            flows = np.repeat([flow for _, flow in self._pending], [part.shape[1] for part, _ in self._pending])
            new = np.concatenate([part for part, _ in self._pending], axis=1)
            self._front, self._pending, self._waiting = _extended(self._front, np.vstack([new, flows])), [], 0
        return self._front

    def of(self, orders: Sequence[Order], picks: Ints) -> tuple[Floats, Floats]:
        """Scores and outcomes of mappings in each of some orders of one frame, (n, m) and (len(Outcome), n, m).

        What does not fit scores worse than all that does; what has no room on the mesh, or is beyond the budget, is
        not evaluated and scores infinity.
        """
        outcomes = self._within_budget(orders, picks)
        scores = self.objective.score(outcomes)
        unfit = outcomes[Outcome.EXCESS] > 0.0
        scores[unfit] = UNFIT + outcomes[Outcome.EXCESS, unfit]
        if self.constraints.least_utilisation > 0.0:
            scores[~unfit & (outcomes[Outcome.BUSY] < self.constraints.least_utilisation)] += IDLE
        self._note(outcomes[:2, scores < IDLE], orders[0])
        return scores, outcomes

    def unbeatable(self, state: State) -> bool:
        """Whether the whole array is busy all the time, where only time counts."""
        return self.objective.energy == 0.0 and state.score < IDLE and state.outcome[Outcome.BUSY] > 1.0 - 1e-9

    def best_of(self, orders: Sequence[Order], picks: Ints, keep: int = 1) -> list[State]:
        """The best few of mappings in each of some orders."""
        scores, outcomes = self.of(orders, picks)
        ranked = [int(scores.argmin())] if keep == 1 else np.argsort(scores, axis=None, kind="stable")[:keep].tolist()
        found = []
        for n, i in (divmod(place, picks.shape[1]) for place in ranked):
            found.append(State(orders[n], picks[:, i].copy(), float(scores[n, i]), outcomes[:, n, i].copy()))
        return found

    def _within_budget(self, orders: Sequence[Order], picks: Ints) -> Floats:
        fits = orders[0].frame.fits(picks)
        if fits.all() and len(orders) * len(fits) <= self.left:
            return self._outcomes(orders, picks)
        outcomes = np.full((len(Outcome), len(orders), picks.shape[1]), np.inf)
        lanes = np.flatnonzero(fits)
        whole, rest = divmod(self.left, max(1, len(lanes)))
        for some, live in ((slice(whole), lanes), (slice(whole, whole + 1), lanes[:rest])):
            outcomes[:, some, live] = self._outcomes(orders[some], picks[:, live])
        return outcomes

    def _outcomes(self, orders: Sequence[Order], picks: Ints) -> Floats:
        """Evaluate mappings that have room on the mesh in each of some orders of one frame."""
        groups = self._groups(orders[0].frame, picks) if orders and picks.size else []
        self.evaluated += len(orders) * picks.shape[1]
        if len(groups) == 1:
            return np.stack([self._on_cores(groups[0][0], order, picks) for order in orders], axis=1)
        outcomes = np.empty((len(Outcome), len(orders), picks.shape[1]))
        for prepared, group in groups:
            part = picks[:, group]
            for n, order in enumerate(orders):
                outcomes[:, n, group] = self._on_cores(prepared, order, part)
        return outcomes

    def _groups(self, frame: Frame, picks: Ints) -> list[tuple[Prepared, Ints]]:
        """Mappings that are evaluated together: those that pad a real mask alike, else with edges clipped or not."""
        if self.problem.masked:
            return [(self._ready(extents), group) for extents, group in frame.by_extents(picks)]
        prepared, padded = self._ready(tuple(extent for _, extent in self.problem.dims)), frame.padded(picks)
        return [(prepared, group) for group in (np.flatnonzero(~padded), np.flatnonzero(padded)) if group.size]

    def _ready(self, extents: tuple[int, ...]) -> Prepared:
        """The arrays of the problem under loops that cover these extents."""
        if extents not in self._prepared:
            problem = self.problem.covered(dict(zip(self.problem.dim_names, extents, strict=True)))
            self._prepared[extents] = prepare(problem, self.architecture)
        return self._prepared[extents]

    def _on_cores(self, prepared: Prepared, order: Order, picks: Ints) -> Floats:
        if self.cores == 1 or picks.shape[1] < FEW:
            return self._run(prepared, order, picks)
        cuts = np.linspace(0, picks.shape[1], self.cores + 1).astype(int)
        parts = [slice(a, b) for a, b in itertools.pairwise(cuts)]
        with ThreadPoolExecutor(self.cores) as pool:
            found = pool.map(lambda part: self._run(prepared, order, picks[:, part]), parts)
            return np.concatenate(list(found), axis=1)

    def _run(self, prepared: Prepared, order: Order, picks: Ints) -> Floats:
        width, lanes = self.problem.width, picks.shape[1]
        if lanes <= SCATTERED:
            splits, chosen = order.factors(picks), np.empty((width, lanes), np.int64)
            chosen[:] = np.arange(lanes)
        else:
            splits, chosen = order.splits, np.zeros((width, lanes), np.int64)
            chosen[: len(picks)] = picks
        outcomes = np.empty((len(Outcome), lanes))
        while True:
            asked = prepared.asked(QUESTIONS if len(prepared.answers.keys) else MISSING)
            _batch.evaluate_many(
                *prepared.spec, *asked, order.loops, order.stored, splits, chosen, self.room, self.available,
                int(self.constraints.mean_occupancy), outcomes,
            )  # fmt: skip
            if asked.n_missing[0] == 0:
                return outcomes
            prepared.answers.add(asked.missing[: asked.n_missing[0]])

    def _note(self, outcomes: Floats, order: Order) -> None:
        """Keep cycles and energies for the front."""
        self._pending.append((outcomes, self._flows[id(order.flow)]))
        self._waiting += outcomes.shape[1]
        if self._waiting >= FRONT:
            self._front = self.front


def _extended(front: Floats, new: Floats) -> Floats:
    """The front of an old one, (n, 3), and of new mappings, (3, m)."""
    if len(front):
        # Energy of the front at no more cycles: only what is below can join.
        at = np.searchsorted(front[:, 0], new[Outcome.CYCLES], side="right") - 1
        new = new[:, new[Outcome.ENERGY_PJ] < np.where(at >= 0, front[at, 1], np.inf)]
    both = np.concatenate([front, new.T])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    least = np.minimum.accumulate(both[:, 1])
    return both[np.concatenate(([True], least[1:] < least[:-1]))[: len(both)]]
