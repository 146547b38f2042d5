"""Local search: random and filled mappings of every order, the best of them improved until nothing gets better."""

from __future__ import annotations

import itertools

import numpy as np

from simsparse.dataflow._arrays import Floats, Ints
from simsparse.dataflow.evaluation import Evaluation, State
from simsparse.dataflow.mapspace import Frame, Order, Space

SAMPLES = 384  # random mappings of each order
MOST_SAMPLES = 4096  # of all orders together, where they are few
ELITES = 8
SWEPT = 256  # ways of a dimension that are all tried
TOGETHER = 243  # combinations of the ways of each dimension that help alone
TRADES = 384  # pairs of dimensions with a factor of each moved
NUDGES = 24  # mappings near the best one that are tried in each sibling of its order
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
        del elites[max(1, len(elites) // 2) :]
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
    near = _nudged(best, rng)
    for sibling in space.siblings(best.order, best.picks):
        if search.left == 0:
            break
        best = min(best, *search.best_of(sibling, near), key=by_score)
    return best


def _nudged(state: State, rng: np.random.Generator) -> Ints:
    """A mapping, and some with a factor moved in one dimension: another order may need other tiles."""
    frame = state.order.frame
    moves = [(d, way) for d, pick in enumerate(state.picks) for way in _moves(frame, d, int(pick)) if way != pick
             and frame.totals[d][way] == frame.totals[d][pick]]  # fmt: skip
    chosen = rng.permutation(len(moves))[:NUDGES]
    picks = np.repeat(state.picks[:, np.newaxis], 1 + len(chosen), axis=1)
    for column, index in enumerate(chosen, 1):
        d, way = moves[index]
        picks[d, column] = way
    return picks


def _ways_near(frame: Frame, picks: Ints, d: int, rng: np.random.Generator) -> Ints:
    """Ways of a dimension to try: all, or some and those with a factor in another loop."""
    size = frame.sizes[d]
    if size <= SWEPT:
        return np.arange(size)
    return np.unique(np.concatenate([_moves(frame, d, int(picks[d])), rng.integers(0, size, SWEPT)]))


def _moves(frame: Frame, d: int, pick: int) -> Ints:
    """Ways of a dimension that differ in at most two loops: itself, a factor moved between loops, other totals."""
    return np.flatnonzero((frame.ways[d] != frame.ways[d][:, [pick]]).sum(axis=0) <= 2)


def _together(frame: Frame, swept: list[Ints], scores: list[Floats]) -> Ints:
    """Combinations of the ways that help alone, of each dimension those with the total of its best one."""
    few = max(2, int(TOGETHER ** (1.0 / max(1, sum(len(ways) > 1 for ways in swept)))))
    helpful = []
    for totals, ways, score in zip(frame.totals, swept, scores, strict=True):
        ranked = ways[score.argsort(kind="stable")]
        helpful.append(ranked[totals[ranked] == totals[ranked[0]]][:few])
    return np.stack(np.meshgrid(*helpful, indexing="ij")).reshape(len(swept), -1)


def _trades(state: State, rng: np.random.Generator) -> Ints:
    """Mappings with a factor moved in each of two dimensions: where one tile shrinks another may grow.

    One of the two may be padded otherwise.
    """
    frame, alike, padded = state.order.frame, [], []
    for d, pick in enumerate(state.picks):
        moves, totals = _moves(frame, d, int(pick)), frame.totals[d]
        others = np.setdiff1d(totals[moves], totals[pick])
        alike.append(moves[totals[moves] == totals[pick]])
        padded.append(moves[totals[moves] == rng.choice(others)] if len(others) else moves[:0])
    pairs = [(a, alike[a], b, alike[b]) for a, b in itertools.combinations(range(len(alike)), 2)]
    pairs += [(a, padded[a], b, alike[b]) for a, b in itertools.permutations(range(len(alike)), 2)]
    sizes = np.array([len(first) * len(second) for _, first, _, second in pairs])
    counts = np.minimum(sizes, np.ceil(TRADES * sizes / max(1, sizes.sum()))).astype(int)
    picks = np.repeat(state.picks[:, np.newaxis], max(1, counts.sum()), axis=1)
    for (a, first, b, second), end, count in zip(pairs, np.cumsum(counts), counts, strict=True):
        if count:
            chosen = rng.choice(len(first) * len(second), count, replace=False)
            picks[a, end - count : end] = first[chosen // len(second)]
            picks[b, end - count : end] = second[chosen % len(second)]
    return picks
