"""Local search: random and filled mappings of every order, the best of them improved until nothing gets better."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from simsparse.dataflow._arrays import Floats, Ints
from simsparse.dataflow.evaluation import Evaluation, State
from simsparse.dataflow.mapspace import Frame, Order, Space

SAMPLES = 384  # random mappings of each order
MOST_SAMPLES = 4096  # of all orders together, where they are few
ELITES = 10
SWEPT = 2048  # ways of a dimension that are all tried
TOGETHER = 729  # combinations of the ways of each dimension that help alone
TRADES = 1024  # pairs of dimensions with a factor of each moved
ROUNDS = 40


def improved(search: Evaluation, space: Space, rng: np.random.Generator) -> State | None:
    """The best mapping of a dataflow that is found within the budget."""
    orders = [order for order in space.starts() if order.frame.space > 0]
    if not orders:
        return None
    elites = _elites(search, orders, rng)
    for _ in range(ROUNDS):
        before = [state.score for state in elites]
        elites = [_neighbour(search, space, state, rng) for state in elites]
        settled = all(state.score >= score for state, score in zip(elites, before, strict=True))
        elites.sort(key=by_score)
        if settled or search.left == 0:
            break
        del elites[max(1, len(elites) * 2 // 3) :]
    return elites[0]


def by_score(state: State) -> float:
    """Key to sort by: less is better."""
    return state.score


def _elites(search: Evaluation, orders: list[Order], rng: np.random.Generator) -> list[State]:
    """The best random and filled mappings, some of each way to spread the array."""
    share = search.left // (2 * len(orders))
    each = max(32, min(max(SAMPLES, MOST_SAMPLES // len(orders)), share))
    nearest: dict[Frame, list[State]] = {}
    for order in orders:
        filled = [order.frame.filled(first) for first in (None, *order.frame.sharing)]
        picks = np.concatenate([np.stack(filled, axis=1), _random(order.frame, filled[0], each, rng)], axis=1)
        nearest.setdefault(order.frame, []).extend(search.best_of(order, picks, ELITES))
    share = -(-ELITES // len(nearest))
    elites = itertools.chain.from_iterable(sorted(kin, key=by_score)[:share] for kin in nearest.values())
    return sorted(elites, key=by_score)[:ELITES]


def _random(frame: Frame, filled: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Random mappings: a third of the problem as it is, a third padded to fill the array, a third padded anyhow."""
    picks = np.zeros((len(frame.sizes), count), np.int64)
    for d, totals in enumerate(frame.totals):
        for part, total in zip(
            np.array_split(np.arange(count), 3), (totals[0], totals[filled[d]], rng.choice(totals)), strict=True
        ):
            picks[d, part] = rng.choice(np.flatnonzero(totals == total), len(part))
    return picks


def _neighbour(search: Evaluation, space: Space, state: State, rng: np.random.Generator) -> State:
    """The best of a mapping and those near it."""
    swept = [_ways_near(state.order.frame, state.picks, d, rng) for d in range(len(state.picks))]
    blocks = [np.repeat(state.picks[:, np.newaxis], len(ways), axis=1) for ways in swept]
    for d, ways in enumerate(swept):
        blocks[d][d] = ways
    single = np.concatenate(blocks, axis=1)
    scores, outcomes = search.of(state.order, single)
    at = int(scores.argmin())
    best = min(state, State(state.order, single[:, at].copy(), float(scores[at]), outcomes[:, at].copy()), key=by_score)
    parts = np.split(scores, np.cumsum([len(ways) for ways in swept])[:-1])
    best = min(best, *search.best_of(state.order, _together(state.order.frame, swept, parts)), key=by_score)
    best = min(best, *search.best_of(best.order, _trades(best, rng)), key=by_score)
    for sibling in space.siblings(best.order, best.picks):
        if search.left == 0:
            break
        best = min(best, *search.best_of(sibling, best.picks[:, np.newaxis]), key=by_score)
    return best


def _ways_near(frame: Frame, picks: Ints, d: int, rng: np.random.Generator) -> Ints:
    """Ways of a dimension to try: all, or some and those with a factor in another loop."""
    size = frame.sizes[d]
    if size <= SWEPT:
        return np.arange(size)
    return np.unique(np.concatenate([_moves(frame, d, int(picks[d])), rng.integers(0, size, SWEPT)]))


def _moves(frame: Frame, d: int, pick: int) -> Ints:
    """Ways of a dimension with a factor moved from one loop to another, or another total by one loop; and itself."""
    ways, totals = frame.ways[d], frame.totals[d]
    differ = (ways != ways[:, [pick]]).sum(axis=0)
    return np.flatnonzero((differ < 2) | ((differ == 2) & (totals == totals[pick])))


def _together(frame: Frame, swept: list[Ints], scores: list[Floats]) -> Ints:
    """Combinations of the ways that help alone, of each dimension those with the total of its best one."""
    few = max(2, int(TOGETHER ** (1.0 / max(1, sum(len(ways) > 1 for ways in swept)))))
    helpful = []
    for totals, ways, score in zip(frame.totals, swept, scores, strict=True):
        ranked = ways[score.argsort(kind="stable")]
        helpful.append(ranked[totals[ranked] == totals[ranked[0]]][:few])
    return np.stack(np.meshgrid(*helpful, indexing="ij")).reshape(len(swept), -1)


def _trades(state: State, rng: np.random.Generator) -> Ints:
    """Mappings with a factor moved in each of two dimensions: where one tile shrinks another may grow."""
    frame = state.order.frame
    moves = [_moves(frame, d, int(pick)) for d, pick in enumerate(state.picks)]
    alike = [own[frame.totals[d][own] == frame.totals[d][state.picks[d]]] for d, own in enumerate(moves)]
    pairs = list(_pairs([len(own) for own in alike]))
    if not pairs:
        return state.picks[:, np.newaxis]
    weights = np.array([len(alike[a]) * len(alike[b]) for a, b in pairs], np.float64)
    counts = np.minimum(weights, np.ceil(TRADES * weights / weights.sum())).astype(int)
    picks = np.repeat(state.picks[:, np.newaxis], counts.sum(), axis=1)
    ends = np.cumsum(counts)
    for (a, b), end, count, all_of in zip(pairs, ends, counts, weights, strict=True):
        chosen = rng.choice(int(all_of), count, replace=False)
        picks[a, end - count : end] = alike[a][chosen // len(alike[b])]
        picks[b, end - count : end] = alike[b][chosen % len(alike[b])]
    return picks


def _pairs(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """Pairs of dimensions that have more than one way each."""
    return itertools.combinations([d for d, size in enumerate(sizes) if size > 1], 2)
