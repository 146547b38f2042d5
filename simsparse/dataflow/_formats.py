"""Compiled: what formats do to the dense counts: occupancies, actual data accesses, accesses to metadata."""

from __future__ import annotations

from simsparse.dataflow._arrays import (
    ActionCode,
    ActionColumn,
    Count,
    DensityKind,
    Floats,
    Ints,
    PlaceColumn,
    RankCode,
    TensorColumn,
    WordColumn,
)
from simsparse.dataflow._dense import kept_outside, volume
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._occupancy import empty, empty_of_fullest, fullest
from simsparse.dataflow._ranks import fiber_tree, is_trivial, rank_words
from simsparse.dataflow.rounding import down, up


@kernel
def has_position(actions: Ints, level: int, t: int) -> bool:
    """Whether a tensor is skipped by position at a level."""
    for k in range(len(actions)):
        if (
            actions[k, ActionColumn.CODE] == ActionCode.SKIP_POSITION
            and actions[k, ActionColumn.LEVEL] == level
            and actions[k, ActionColumn.TARGET] == t
        ):
            return True
    return False


@kernel
def count_metadata(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, places: Ints, kinds: Ints, keys: Ints, answers: Floats,
    missing: Ints, n_missing: Ints, rounding: int, level: int, t: int, arrives: float, report: int, fibers: Floats,
    spans: Ints, belows: Ints, counts: Floats, metadata: Floats, metadata_max: Floats,
) -> None:  # fmt: skip
    """Metadata and payload words of each rank: of all accesses, and (to report) of the fullest tile."""
    ranks = places[level, t, PlaceColumn.N_RANKS]
    inner_first = places[level, t, PlaceColumn.INNER_FIRST] != 0
    kind = tensors[t, TensorColumn.DENSITY_KIND]
    tile, most = counts[level, t, Count.TILE], counts[level, t, Count.OCCUPANCY_MAX]
    above, innermost = 1.0, -1
    for r in range(ranks):
        if not is_trivial(fibers, level, t, r, ranks, inner_first):
            innermost = r
            break
    for r in range(ranks - 1, -1, -1):
        note, payload, most_notes, most_payload = 0.0, 0.0, 0.0, 0.0
        if not is_trivial(fibers, level, t, r, ranks, inner_first):
            code, shape = kinds[level, t, r, 0], fibers[level, t, r]
            span, below = spans[level, t], belows[level, t]
            gone = empty(tensors, words, axes, odds, keys, answers, missing, n_missing, t, span, r)
            hollow = empty(tensors, words, axes, odds, keys, answers, missing, n_missing, t, below, r)
            note, payload = rank_words(code, above, shape, gone, hollow, rounding)
            if report != 0:
                gone = empty_of_fullest(kind, tile, most, volume(tensors, axes, t, span, r))
                hollow = empty_of_fullest(kind, tile, most, volume(tensors, axes, t, below, r))
                most_notes, most_payload = rank_words(code, above, shape, gone, hollow, rounding)
                if r == 0 and kind == DensityKind.ASKED and code > RankCode.B:
                    most_notes = most
            if r == innermost:
                payload, most_payload = 0.0, 0.0  # it is the data
            above *= shape
            if arrives > 0.0:
                note, payload = note / arrives, payload / arrives
        metadata_max[level, t, r, 0], metadata_max[level, t, r, 1] = (
            up(most_notes, rounding),
            up(most_payload, rounding),
        )
        for action in range(3):
            passes = counts[level, t, Count.READS + action] / tile
            metadata[level, t, r, 0, action, 0] = up(note * passes, rounding)
            metadata[level, t, r, 0, action, 1] = up(payload * passes, rounding)
            for state in range(1, 3):
                metadata[level, t, r, state, action, 0] = metadata[level, t, r, state, action, 1] = 0.0


@kernel
def compress(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, places: Ints, kinds: Ints, actions: Ints, keys: Ints,
    answers: Floats, missing: Ints, n_missing: Ints, loops: Ints, n_loops: int, stored: Ints, rounding: int,
    report: int,
    extents: Ints, start: Ints, boxes: Ints, own: Ints, firsts: Ints, lasts: Ints, fibers: Floats, spans: Ints,
    belows: Ints, counts: Floats, metadata: Floats, metadata_max: Floats,
) -> None:  # fmt: skip
    """Occupancies, actual data accesses, and accesses to metadata, of every tensor at every level."""
    levels, n_tensors = stored.shape
    for t in range(n_tensors):
        for level in range(levels - 1, -1, -1):
            for column in range(Count.GATED_READS, Count.SKIPPED_UPDATES + 1):
                counts[level, t, column] = 0.0
            if stored[level, t] == 0:
                continue
            tile = counts[level, t, Count.TILE]
            outer = kept_outside(stored, t, level)
            position = has_position(actions, level, t)
            arrives = 1.0  # P(a tile is sent at all)
            if outer >= 0 and places[outer, t, PlaceColumn.COMPRESSED] != 0:
                arrives -= empty(tensors, words, axes, odds, keys, answers, missing, n_missing, t, extents, level)
                if not position:
                    counts[level, t, Count.INSTANCES_MEAN] *= arrives
            most, kept = tile, 1.0
            if places[level, t, PlaceColumn.COMPRESSED] != 0:
                kept = words[t, WordColumn.DENSITY]
                if not position and arrives > 0.0:
                    kept = min(1.0, kept / arrives)
                most = fullest(tensors, words, axes, keys, answers, missing, n_missing, t, extents, level)
            counts[level, t, Count.OCCUPANCY_MAX] = most
            counts[level, t, Count.OCCUPANCY_MEAN] = tile * kept
            for action in range(3):
                dense = counts[level, t, Count.READS + action]
                counts[level, t, Count.ACTUAL_READS + action] = dense - down(dense * (1.0 - kept), rounding)
            if places[level, t, PlaceColumn.N_RANKS] > 0:
                fiber_tree(
                    tensors, axes, places, kinds, loops, n_loops, stored, level, t, extents, start, boxes, own, firsts,
                    lasts, fibers, spans, belows,
                )  # fmt: skip
                count_metadata(
                    tensors, words, axes, odds, places, kinds, keys, answers, missing, n_missing, rounding, level, t,
                    arrives, report, fibers, spans, belows, counts, metadata, metadata_max,
                )  # fmt: skip
