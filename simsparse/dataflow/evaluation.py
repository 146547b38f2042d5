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
        live = np.flatnonzero(order.frame.fits(picks))[: self.left]
        outcomes = np.full((len(Outcome), picks.shape[1]), np.inf)
        scores = np.full(picks.shape[1], np.inf)
        if not len(live):
            return scores, outcomes
        for extents, group in order.frame.by_extents(picks[:, live]):
            outcomes[:, live[group]] = self._on_cores(self._ready(extents), order, picks[:, live[group]])
        self.evaluated += len(live)
        found = outcomes[:, live]
        score = self.objective.score(found)
        unfit = found[Outcome.EXCESS] > 0.0
        score[unfit] = UNFIT + found[Outcome.EXCESS, unfit]
        score[~unfit & (found[Outcome.BUSY] < self.constraints.least_utilisation)] += IDLE
        self._extend_front(found[:2, score < IDLE], order)
        scores[live] = score
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
        cuts = np.linspace(0, picks.shape[1], self.cores + 1).astype(int)
        parts = [slice(a, b) for a, b in itertools.pairwise(cuts) if b > a]
        if len(parts) == 1:
            return self._run(prepared, order, picks)
        with ThreadPoolExecutor(len(parts)) as pool:
            found = pool.map(lambda part: self._run(prepared, order, picks[:, part]), parts)
            return np.concatenate(list(found), axis=1)

    def _run(self, prepared: Prepared, order: Order, picks: Ints) -> Floats:
        width, lanes = self.problem.width, picks.shape[1]
        if lanes == 1:
            splits, chosen = order.factors(picks[:, 0])[:, np.newaxis], np.zeros((width, 1), np.int64)
        else:
            splits, chosen = order.splits, np.zeros((width, lanes), np.int64)
            chosen[: len(picks)] = picks
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
