"""Local search: random and filled mappings of every order, the best of them improved until nothing gets better.

Then the best one is moved away from where it is and improved again, until that is in vain.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from simsparse.dataflow._arrays import Floats, Ints
from simsparse.dataflow.evaluation import Evaluation, State
from simsparse.dataflow.frames import Frame
from simsparse.dataflow.mapspace import Order, Space
from simsparse.dataflow.ways import Ways

SAMPLES = 256  # random mappings of each order
MOST_SAMPLES = 2048  # of all orders together, where they are few
SAMPLED = 2  # the random mappings are at most one in so many
ELITES = 12
FIRST = 2  # the first round of improving them takes at most one in so many of the rest
SWEPT = 64  # ways of a dimension that are all tried
TOGETHER = 64  # combinations of the ways of each dimension that help alone
TRADES = 128  # pairs of dimensions with a factor of each moved
NUDGES = 12  # mappings near the best one that are tried in each sibling of its order
KICKS = 4  # of the best mapping, from each of which the search goes on
PATIENCE = 2  # times in vain, after which a search ends
KICKED = 3  # dimensions


def improved(search: Evaluation, space: Space, rng: np.random.Generator) -> State | None:
    """The best mapping of a dataflow that is found within the budget."""
    orders = [order for order in space.starts() if order.frame.space > 0]
    if not orders:
        return None
    best = _settled(search, space, _elites(search, orders, rng), rng)
    fruitless = 0
    while search.left and fruitless < PATIENCE and not search.unbeatable(best):
        found = _settled(search, space, _kicked(search, best, rng), rng)
        fruitless = 0 if found.score < best.score else fruitless + 1
        best = min(best, found, key=by_score)
    return best


def _settled(search: Evaluation, space: Space, states: list[State], rng: np.random.Generator) -> State:
    """The best of some mappings, of which the better half goes on until nothing near them is better."""
    while search.left:
        kin: dict[Order, list[State]] = {}
        for state in states:
            kin.setdefault(state.order, []).append(state)
        before = list(itertools.chain.from_iterable(kin.values()))
        after = [better for some in kin.values() for better in _neighbours(search, space, some, rng)]
        # Those that score the same have met.
        distinct = sorted({state.score: state for state in reversed(after)}.values(), key=by_score)
        states = distinct[: max(1, len(after) // 2)]
        if all(new is old for new, old in zip(after, before, strict=True)):
            break
    return min(states, key=by_score)


def _kicked(search: Evaluation, state: State, rng: np.random.Generator) -> list[State]:
    """A mapping with a factor moved in some dimensions, several times, to leave a local optimum."""
    ways = state.order.frame.ways
    free = [d for d, each in enumerate(ways) if len(each) > 1]
    picks = _repeated(state, KICKS)
    for kick in range(KICKS):
        for d in rng.permutation(free)[:KICKED].tolist():
            near = ways[d].near(int(picks[d, kick])).all
            picks[d, kick] = near[rng.integers(len(near))]
    return search.best_of([state.order], picks, KICKS)


def by_score(state: State) -> float:
    """Key to sort by: less is better."""
    return state.score


def _elites(search: Evaluation, orders: list[Order], rng: np.random.Generator) -> list[State]:
    """The best random and filled mappings, some of each way to spread the array."""
    share = search.left // (SAMPLED * len(orders))
    each = max(32, min(max(SAMPLES, MOST_SAMPLES // len(orders)), share))
    nearest: list[list[State]] = []
    for _, group in itertools.groupby(orders, key=lambda order: id(order.frame)):
        kin = list(group)
        frame = kin[0].frame
        filled = [frame.filled(first) for first in (None, *frame.sharing)]
        nearest.append([])
        for order in kin:
            picks = np.concatenate([np.stack(filled, axis=1), _random(frame, filled[0], each, rng)], axis=1)
            nearest[-1] += search.best_of([order], picks, ELITES)
    count = max(1, min(ELITES, search.left // (FIRST * _effort(orders[0].frame))))
    share = -(-count // len(nearest))
    elites = itertools.chain.from_iterable(sorted(kin, key=by_score)[:share] for kin in nearest)
    return sorted(elites, key=by_score)[:count]


def _effort(frame: Frame) -> int:
    """About how many mappings near one are evaluated."""
    return sum(min(size, SWEPT) for size in frame.sizes) + TOGETHER + TRADES


def _random(frame: Frame, filled: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Random mappings: a third of the problem as it is, a third padded to fill the array, a third padded anyhow."""
    picks = np.zeros((len(frame.ways), count), np.int64)
    cuts = [0, count // 3, 2 * count // 3, count]
    for d, ways in enumerate(frame.ways):
        padded = (0, ways.which[filled[d]], rng.integers(len(ways.by_total)))
        for (first, last), number in zip(itertools.pairwise(cuts), padded, strict=True):
            among = ways.by_total[number]
            picks[d, first:last] = among[rng.integers(len(among), size=last - first)]
    return picks


def _neighbours(search: Evaluation, space: Space, kin: list[State], rng: np.random.Generator) -> list[State]:
    """For each of some mappings of one order, the best of it and those near it."""
    order, frame = kin[0].order, kin[0].order.frame
    swept = [[_ways_near(w, int(pick), rng) for w, pick in zip(frame.ways, state.picks, strict=True)] for state in kin]
    best, scores = _better(search, [order], kin, [_single(*each) for each in zip(kin, swept, strict=True)])
    blocks = []
    for state, tried, score in zip(best, swept, scores, strict=True):
        together = _together(frame, tried, np.split(score, np.cumsum([len(ways) for ways in tried])[:-1]))
        blocks.append(np.concatenate([together, _trades(state, rng)], axis=1))
    best, _ = _better(search, [order], best, blocks)
    siblings = list(dict.fromkeys(sibling for state in best for sibling in space.siblings(order, state.picks)))
    return _better(search, siblings, best, [_nudged(state, rng) for state in best])[0] if siblings else best


def _better(
    search: Evaluation, orders: Sequence[Order], states: list[State], blocks: list[Ints]
) -> tuple[list[State], list[Floats]]:
    """Each mapping, or the best of its block in any of some orders; scores of each block in the first order."""
    scores, outcomes = search.of(orders, np.concatenate(blocks, axis=1))
    found, parts, first = [], [], 0
    for state, block in zip(states, blocks, strict=True):
        here = slice(first, first + block.shape[1])
        n, i = divmod(int(scores[:, here].argmin()), block.shape[1])
        if scores[n, first + i] < state.score:
            outcome = outcomes[:, n, first + i].copy()
            state = State(orders[n], block[:, i].copy(), float(scores[n, first + i]), outcome)
        found.append(state)
        parts.append(scores[0, here])
        first = here.stop
    return found, parts


def _single(state: State, swept: list[Ints]) -> Ints:
    """A mapping with one dimension split otherwise."""
    ends = np.cumsum([len(tried) for tried in swept])
    picks = _repeated(state, int(ends[-1]))
    for d, (tried, end) in enumerate(zip(swept, ends, strict=True)):
        picks[d, end - len(tried) : end] = tried
    return picks


def _repeated(state: State, count: int) -> Ints:
    return np.repeat(state.picks[:, np.newaxis], count, axis=1)


def _nudged(state: State, rng: np.random.Generator) -> Ints:
    """A mapping, and some with a factor moved in one dimension: another order may need other tiles."""
    near = [ways.near(int(pick)).alike for ways, pick in zip(state.order.frame.ways, state.picks, strict=True)]
    dims = np.repeat(np.arange(len(near)), [len(moves) for moves in near])
    moves = np.concatenate(near)
    chosen = np.flatnonzero(moves != state.picks[dims])
    chosen = rng.permutation(chosen)[:NUDGES]
    picks = _repeated(state, 1 + len(chosen))
    picks[dims[chosen], 1 + np.arange(len(chosen))] = moves[chosen]
    return picks


def _ways_near(ways: Ways, pick: int, rng: np.random.Generator) -> Ints:
    """Ways of a dimension to try: all, or some and those with a factor in another loop."""
    if len(ways) <= SWEPT:
        return np.arange(len(ways))
    tried = np.zeros(len(ways), np.bool_)
    tried[ways.near(pick).all] = True
    tried[rng.integers(len(ways), size=SWEPT)] = True
    return np.flatnonzero(tried)


def _together(frame: Frame, swept: list[Ints], scores: list[Floats]) -> Ints:
    """Combinations of the ways that help alone, of each dimension those with the total of its best one."""
    few = max(2, int(TOGETHER ** (1.0 / max(1, sum(len(tried) > 1 for tried in swept)))))
    helpful = []
    for ways, tried, score in zip(frame.ways, swept, scores, strict=True):
        ranked = tried[score.argsort(kind="stable")]
        helpful.append(ranked[ways.totals[ranked] == ways.totals[ranked[0]]][:few])
    sizes = [len(some) for some in helpful]
    places = np.unravel_index(np.arange(math.prod(sizes)), sizes)
    return np.stack([some[place] for some, place in zip(helpful, places, strict=True)])


def _trades(state: State, rng: np.random.Generator) -> Ints:
    """Mappings with a factor moved in each of two dimensions: where one tile shrinks another may grow.

    One of the two may be padded otherwise.
    """
    near = [ways.near(int(pick)) for ways, pick in zip(state.order.frame.ways, state.picks, strict=True)]
    alike = list(enumerate(each.alike for each in near))
    padded = [(d, each.padded[rng.integers(len(each.padded))]) for d, each in enumerate(near) if each.padded]
    pairs = list(itertools.combinations(alike, 2))
    pairs += [(one, other) for one in padded for other in alike if one[0] != other[0]]
    if not pairs:
        return _repeated(state, 1)
    sizes = np.array([len(first) * len(second) for (_, first), (_, second) in pairs])
    ends = np.cumsum(sizes)
    drawn = np.arange(ends[-1]) if ends[-1] <= TRADES else np.sort(rng.integers(ends[-1], size=TRADES))
    cuts = np.searchsorted(drawn, [0, *ends]).tolist()
    picks = _repeated(state, len(drawn))
    for ((a, first), (b, second)), end, size, here in zip(pairs, ends, sizes, itertools.pairwise(cuts), strict=True):
        if here[0] < here[1]:
            one, other = np.divmod(drawn[slice(*here)] - (end - size), len(second))
            picks[a, slice(*here)] = first[one]
            picks[b, slice(*here)] = second[other]
    return picks
