"""Compiled: the inner loop of the search: many mappings of one loop order, chunk by chunk of lanes."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from simsparse.dataflow._arrays import Count, Floats, Ints, LoopColumn, Stored, Total
from simsparse.dataflow._cost import evaluate
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._lanes import new_counts, new_scratch

LANES = 256  # so many that calls cost little, so few that their arrays stay in the caches


class Outcome(IntEnum):
    """Columns of what is kept of a mapping."""

    CYCLES = 0
    ENERGY_PJ = 1
    EXCESS = 2  # words that do not fit, over the capacity of their level, the worst level's
    BUSY = 3  # actual operations over those that the whole array could do in the time


@kernel
def decode(loops: Ints, splits: Floats, picks: Ints, first: int, factors: Floats) -> None:
    """Factors of mappings from `first` on; lanes beyond the last one repeat the first."""
    slots, lanes = factors.shape
    left = min(lanes, picks.shape[1] - first)
    for i in range(slots):
        ways = picks[loops[i, LoopColumn.DIM]]
        for w in range(left):
            factors[i, w] = splits[i, ways[first + w]]
        for w in range(left, lanes):
            factors[i, w] = factors[i, 0]


@kernel
def judge(
    stored: Ints, room: Floats, available: Floats, mean: int, first: int, counts: Floats, totals: Floats,
    outcomes: Floats,
) -> None:  # fmt: skip
    """Note cycles and energy, and by how much a mapping does not fit: into levels, and onto their instances."""
    levels, n_tensors = stored.shape
    held = Count.OCCUPANCY_MEAN if mean != 0 else Count.OCCUPANCY_MAX
    for w in range(min(totals.shape[1], len(outcomes) - first)):
        excess = totals[Total.INSTANCES_MAX, w] / available[levels] - 1.0
        excess = excess if excess > 1e-9 else 0.0
        for level in range(levels):
            words = 0.0
            for t in range(n_tensors):
                over = counts[level, t, Count.INSTANCES_MAX, w] / available[level] - 1.0
                excess = max(excess, over if over > 1e-9 else 0.0)
                if stored[level, t] == Stored.KEPT:
                    words += counts[level, t, held, w]
            if words > room[level]:
                excess = max(excess, words / room[level] - 1.0)
        outcomes[first + w, Outcome.CYCLES] = totals[Total.CYCLES, w]
        outcomes[first + w, Outcome.ENERGY_PJ] = totals[Total.ENERGY_PJ, w]
        outcomes[first + w, Outcome.EXCESS] = excess
        outcomes[first + w, Outcome.BUSY] = totals[Total.ACTUAL, w] / (totals[Total.CYCLES, w] * available[levels])


@kernel
def evaluate_many(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, store: Floats, places: Ints, kinds: Ints, rank_bits: Floats,
    actions: Ints, compute: Floats, output: int, rounding: int,
    keys: Ints, answers: Floats, missing: Ints, n_missing: Ints,
    loops: Ints, stored: Ints, splits: Floats, picks: Ints, room: Floats, available: Floats, mean: int,
    outcomes: Floats,
) -> None:  # fmt: skip
    """Evaluate mappings; the arguments are those of `Spec`, of `Asked`, and:

    Parameters
    ----------
    loops : (n, 3) ndarray
    stored : (L, T) ndarray
    splits : (n, P) ndarray
        Factor of each loop under each of the P ways to split its dimension.
    picks : (D, m) ndarray
        The way that each mapping takes for each dimension.
    room, available : (L,), (L + 1,) ndarray
        Words that levels hold; instances of the levels and of the compute.
    mean : int
        Whether mean occupancies must fit, rather than the worst ones.
    outcomes : (m, 4) ndarray
        `Outcome`.
    """
    levels, n_tensors = stored.shape
    ranks = kinds.shape[2]
    lanes = min(LANES, picks.shape[1])
    factors = np.ones((len(loops), lanes))
    (
        frame, extents, step, outside, instances, delivered, boxes, fibers, spans, belows, own, ends, per_tensor, notes,
        rank_words, rows, alone,
    ) = new_scratch(levels, n_tensors, axes.shape[2], ranks, len(loops), lanes)  # fmt: skip
    counts, metadata, metadata_max, by_level, totals = new_counts(levels, n_tensors, ranks, lanes)
    for first in range(0, picks.shape[1], lanes):
        decode(loops, splits, picks, first, factors)
        evaluate(
            tensors, words, axes, odds, store, places, kinds, rank_bits, actions, compute, output, rounding,
            keys, answers, missing, n_missing,
            frame, extents, step, outside, instances, delivered, boxes, fibers, spans, belows, own, ends, per_tensor,
            notes, rank_words, rows, alone,
            counts, metadata, metadata_max, by_level, totals, loops, factors, stored, 0,
        )  # fmt: skip
        judge(stored, room, available, mean, first, counts, totals, outcomes)
