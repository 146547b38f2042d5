"""Scores of arrays of mappings, within a budget and on several cores; the Pareto front of all."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from simsparse.dataflow import _batch
from simsparse.dataflow._arrays import Floats, Ints
from simsparse.dataflow._batch import Outcome
from simsparse.dataflow.architecture import Architecture, Compute, Storage
from simsparse.dataflow.mapspace import Order
from simsparse.dataflow.objective import Constraints, Objective
from simsparse.dataflow.prepared import Prepared, prepare
from simsparse.dataflow.problem import Problem

UNFIT = 1e6  # added to by how much a mapping does not fit
IDLE = 1e5  # the score of one that keeps too little of the array busy is above this
FEW = 256  # mappings that one core evaluates alone
QUESTIONS = 4096  # of the compiled code, answered in one go


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
    evaluated, until : int
        Mappings evaluated so far, and how many may be.
    front : (n, 3) ndarray
        Cycles, energy in pJ and index of the dataflow of mappings that none other beats in both.
    """

    problem: Problem
    architecture: Architecture
    objective: Objective
    constraints: Constraints
    cores: int
    until: int
    evaluated: int = 0
    front: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    prepared: dict[tuple[int, ...], Prepared] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts: tuple[Storage | Compute, ...] = (*self.architecture.levels, self.architecture.compute)
        self.available = np.array([float(part.instances) for part in parts])
        self.room = self.constraints.room(self.architecture)

    @property
    def left(self) -> int:
        """Mappings that may still be evaluated."""
        return max(0, self.until - self.evaluated)

    def of(self, order: Order, picks: Ints) -> tuple[Floats, Floats]:
        """Scores and outcomes of mappings, (m,) and (len(Outcome), m).

        What does not fit scores worse than all that does; what has no room on the mesh, or is beyond the budget, is
        not evaluated and scores infinity.
        """
        fits = order.frame.fits(picks)
        if len(fits) <= self.left and fits.all():
            return self._of_all(order, picks)
        live = np.flatnonzero(fits)[: self.left]
        outcomes = np.full((len(Outcome), picks.shape[1]), np.inf)
        scores = np.full(picks.shape[1], np.inf)
        if len(live):
            scores[live], outcomes[:, live] = self._of_all(order, picks[:, live])
        return scores, outcomes

    def _of_all(self, order: Order, picks: Ints) -> tuple[Floats, Floats]:
        groups = list(order.frame.by_extents(picks))
        if len(groups) == 1:
            outcomes = self._on_cores(self._ready(groups[0][0]), order, picks)
        else:
            outcomes = np.empty((len(Outcome), picks.shape[1]))
            for extents, group in groups:
                outcomes[:, group] = self._on_cores(self._ready(extents), order, picks[:, group])
        self.evaluated += picks.shape[1]
        scores = self.objective.score(outcomes)
        unfit = outcomes[Outcome.EXCESS] > 0.0
        scores[unfit] = UNFIT + outcomes[Outcome.EXCESS, unfit]
        if self.constraints.least_utilisation > 0.0:
            scores[~unfit & (outcomes[Outcome.BUSY] < self.constraints.least_utilisation)] += IDLE
        self._extend_front(outcomes[:2, scores < IDLE], order)
        return scores, outcomes

    def best_of(self, order: Order, picks: Ints, keep: int = 1) -> list[State]:
        """The best few of an array of mappings."""
        scores, outcomes = self.of(order, picks)
        chosen = np.argsort(scores, kind="stable")[:keep]
        return [State(order, picks[:, i].copy(), float(scores[i]), outcomes[:, i].copy()) for i in chosen]

    def _ready(self, extents: tuple[int, ...]) -> Prepared:
        """The arrays of the problem, padded."""
        if extents not in self.prepared:
            grown = dict(zip(self.problem.dim_names, extents, strict=True))
            problem = self.problem if grown == dict(self.problem.dims) else self.problem.padded(grown)
            self.prepared[extents] = prepare(problem, self.architecture)
        return self.prepared[extents]

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
        if lanes == 1:
            splits, chosen = order.factors(picks[:, 0])[:, np.newaxis], np.zeros((width, 1), np.int64)
        else:
            splits, chosen = order.splits, np.ascontiguousarray(picks)
        if len(chosen) < width:
            chosen = np.concatenate([chosen, np.zeros((width - len(chosen), lanes), np.int64)])
        outcomes = np.empty((len(Outcome), lanes))
        while True:
            asked = prepared.asked(min(QUESTIONS, 64 * lanes))
            _batch.evaluate_many(
                *prepared.spec, *asked, order.loops, order.stored, splits, chosen, self.room, self.available,
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
