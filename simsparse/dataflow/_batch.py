"""Compiled: the inner loop of the search: many mappings of one loop order, chunk by chunk of lanes."""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np

from simsparse.dataflow._arrays import (
    Count,
    Detail,
    Floats,
    Ints,
    LevelColumn,
    LoopColumn,
    PlaceColumn,
    Row,
    Stored,
    Total,
)
from simsparse.dataflow._cost import evaluate
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._lanes import add, add_held, copy, fill, new_counts, new_scratch

LANES = 256  # so many that calls cost little, so few that their arrays stay in the caches
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
def exceed(most: float, scarce: Floats, slack: float, excess: Floats) -> None:
    """Raise the excess to what there is of a scarce thing over the most that there may be."""
    for w in range(len(excess)):
        excess[w] = max(excess[w], scarce[w] / most - 1.0 - slack)


@kernel
def judge(
    store: Floats, stored: Ints, room: Floats, available: Floats, words: int, bits: int, counts: Floats, totals: Floats,
    held: Floats, excess: Floats,
) -> None:  # fmt: skip
    """By how much mappings do not fit: into levels, their stores of metadata, and onto their instances.

    Occupancies stand in the columns `words` and `bits` of the counts.
    """
    levels, n_tensors = stored.shape
    fill(0.0, excess)
    exceed(float(available[levels]), totals[Total.INSTANCES_MAX], HAIR, excess)
    for level in range(levels):
        exceed(float(available[level]), counts[level, 0, Count.INSTANCES_MAX], HAIR, excess)  # the same for all tensors
        if not math.isinf(room[level]):
            fill(0.0, held)
            for t in range(n_tensors):
                if stored[level, t] == Stored.KEPT:
                    add_held(store, level, words, bits, counts[level, t], held)
            exceed(float(room[level]), held, 0.0, excess)
        if not math.isinf(store[level, LevelColumn.METADATA_CAPACITY_BITS]):
            fill(0.0, held)
            for t in range(n_tensors):
                if stored[level, t] == Stored.KEPT:
                    add(counts[level, t, bits], held)
            exceed(float(store[level, LevelColumn.METADATA_CAPACITY_BITS]), held, 0.0, excess)


@kernel
def note(instances: float, first: int, totals: Floats, excess: Floats, outcomes: Floats) -> None:
    """Note what is kept of mappings, from `first` on."""
    cycles, actual = totals[Total.CYCLES], totals[Total.ACTUAL]
    last = min(first + len(excess), outcomes.shape[1])
    busy = outcomes[Outcome.BUSY, first:last]
    copy(cycles, outcomes[Outcome.CYCLES, first:last])
    copy(totals[Total.ENERGY_PJ], outcomes[Outcome.ENERGY_PJ, first:last])
    copy(excess, outcomes[Outcome.EXCESS, first:last])
    for w in range(len(busy)):
        busy[w] = actual[w] / (cycles[w] * instances)


@kernel
def is_dense(places: Ints, actions: Ints) -> bool:
    """Whether no tensor has a format and nothing is gated or skipped."""
    for level in range(places.shape[0]):
        for t in range(places.shape[1]):
            if places[level, t, PlaceColumn.N_RANKS] > 0:
                return False
    return len(actions) == 0


@kernel
def evaluate_many(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, store: Floats, places: Ints, kinds: Ints, rank_bits: Floats,
    actions: Ints, compute: Floats, output: int, rounding: int, sizes: Floats,
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
    lanes = -(-picks.shape[1] // -(-picks.shape[1] // LANES))  # the last chunk is about as full as the others
    detail = Detail.DENSE if is_dense(places, actions) else Detail.COSTS
    occupied = Count.OCCUPANCY_MEAN if mean != 0 else Count.OCCUPANCY_MAX
    bits = Count.METADATA_MEAN_BITS if mean != 0 else Count.METADATA_MAX_BITS
    if detail == Detail.DENSE:
        occupied = Count.FULL_TILE
    factors = np.ones((len(loops), lanes))
    (
        frame, extents, step, outside, instances, delivered, boxes, fibers, spans, belows, own, ends, per_tensor, notes,
        rank_words, rows, alone, trips, means, mean_step, passes, used, stretch,
    ) = new_scratch(levels, n_tensors, axes.shape[2], ranks, len(loops), lanes)  # fmt: skip
    counts, metadata, metadata_max, by_level, totals = new_counts(levels, n_tensors, ranks, lanes)
    for first in range(0, picks.shape[1], lanes):
        decode(loops, splits, picks, first, factors)
        evaluate(
            tensors, words, axes, odds, store, places, kinds, rank_bits, actions, compute, output, rounding, sizes,
            keys, answers, missing, n_missing,
            frame, extents, step, outside, instances, delivered, boxes, fibers, spans, belows, own, ends, per_tensor,
            notes, rank_words, rows, alone, trips, means, mean_step, passes, used, stretch,
            counts, metadata, metadata_max, by_level, totals, loops, factors, stored, detail,
        )  # fmt: skip
        judge(
            store, stored, room, available, occupied, bits, counts, totals, rows[Row.KEPT], rows[Row.DEAD]
        )  # fmt: skip
        note(float(available[levels]), first, totals, rows[Row.DEAD], outcomes)
