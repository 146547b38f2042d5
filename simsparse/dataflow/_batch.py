"""Compiled: the inner loop of the search: many mappings of one loop order, chunk by chunk of lanes."""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np

from simsparse.dataflow._arrays import Count, Floats, Ints, LoopColumn, Row, Stored, Total
from simsparse.dataflow._cost import evaluate
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._lanes import fill, new_counts, new_scratch

LANES = 128  # so many that calls cost little, so few that their arrays stay in the caches
HAIR = 1e-9  # of the instances: rounding of doubles


class Outcome(IntEnum):
    """Rows of what is kept of mappings."""

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
    stored: Ints, room: Floats, available: Floats, mean: int, counts: Floats, totals: Floats, held: Floats,
    excess: Floats,
) -> None:  # fmt: skip
    """By how much mappings do not fit: into levels, and onto their instances."""
    levels, n_tensors = stored.shape
    column = Count.OCCUPANCY_MEAN if mean != 0 else Count.OCCUPANCY_MAX
    used = totals[Total.INSTANCES_MAX]
    for w in range(len(excess)):
        excess[w] = max(0.0, used[w] / available[levels] - 1.0 - HAIR)
    for level in range(levels):
        fill(0.0, held)
        used = counts[level, 0, Count.INSTANCES_MAX]  # the same for all tensors
        for w in range(len(excess)):
            excess[w] = max(excess[w], used[w] / available[level] - 1.0 - HAIR)
        if math.isinf(room[level]):
            continue
        for t in range(n_tensors):
            if stored[level, t] == Stored.KEPT:
                words = counts[level, t, column]
                for w in range(len(excess)):
                    held[w] += words[w]
        for w in range(len(excess)):
            excess[w] = max(excess[w], held[w] / room[level] - 1.0 if held[w] > room[level] else 0.0)


@kernel
def note(available: Floats, first: int, totals: Floats, excess: Floats, outcomes: Floats) -> None:
    """Note what is kept of mappings, from `first` on."""
    cycles, energy = outcomes[Outcome.CYCLES], outcomes[Outcome.ENERGY_PJ]
    unfit, busy = outcomes[Outcome.EXCESS], outcomes[Outcome.BUSY]
    for w in range(min(len(excess), outcomes.shape[1] - first)):
        cycles[first + w] = totals[Total.CYCLES, w]
        energy[first + w] = totals[Total.ENERGY_PJ, w]
        unfit[first + w] = excess[w]
        busy[first + w] = totals[Total.ACTUAL, w] / (totals[Total.CYCLES, w] * available[len(available) - 1])


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
    outcomes : (4, m) ndarray
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
        judge(stored, room, available, mean, counts, totals, rows[Row.KEPT], rows[Row.DEAD])
        note(available, first, totals, rows[Row.DEAD], outcomes)
