"""Compiled: what formats do to the dense counts: occupancies, actual data accesses, accesses to metadata."""

from __future__ import annotations

import math

from simsparse.dataflow._arrays import (
    NONE,
    ActionCode,
    ActionColumn,
    Count,
    DensityKind,
    Detail,
    Floats,
    FrameColumn,
    Ints,
    LevelColumn,
    PlaceColumn,
    Question,
    RankCode,
    Row,
    TensorColumn,
    WordColumn,
)
from simsparse.dataflow._dense import volume
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._lanes import copy, fill, times
from simsparse.dataflow._occupancy import ask, empty, empty_of_fullest, fullest
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
def mean_metadata(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, places: Ints, kinds: Ints, keys: Ints, answers: Floats,
    missing: Ints, n_missing: Ints, output: int, filled: bool, acts: bool, position: bool, rounding: int, level: int,
    t: int, fibers: Floats, spans: Floats, belows: Floats, ranks: Floats, rows: Floats, counts: Floats,
    metadata: Floats,
) -> None:  # fmt: skip
    """Metadata and payload words of each rank of all accesses; every pass over a tile moves them."""
    n_ranks, inner_first = places[level, t, PlaceColumn.N_RANKS], places[level, t, PlaceColumn.INNER_FIRST] != 0
    above, gone, hollow, arrives = rows[Row.ABOVE], rows[Row.SPAN_EMPTY], rows[Row.BELOW_EMPTY], rows[Row.ARRIVES]
    innermost, tile = rows[Row.INNERMOST], counts[level, t, Count.TILE]
    fill(1.0, above)
    fill(-1.0, innermost)
    for r in range(n_ranks - 1, -1, -1):
        empty(tensors, words, axes, odds, keys, answers, missing, n_missing, t, spans[level, t, r], gone)
        empty(tensors, words, axes, odds, keys, answers, missing, n_missing, t, belows[level, t, r], hollow)
        code, shape, note, payload = kinds[level, t, r, 0], fibers[level, t, r], ranks[r, 0], ranks[r, 1]
        for w in range(len(above)):
            note[w] = payload[w] = 0.0
            if not is_trivial(shape[w], r, n_ranks, inner_first):
                innermost[w] = r
                note[w], payload[w] = rank_words(code, above[w], shape[w], gone[w], hollow[w], rounding)
                above[w] *= shape[w]
    for r in range(n_ranks):
        note, payload = ranks[r, 0], ranks[r, 1]
        for w in range(len(above)):
            share = arrives[w] if arrives[w] > 0.0 and (rounding != 0 or not position) else 1.0
            note[w] /= share
            payload[w] = 0.0 if innermost[w] == r else payload[w] / share  # under the innermost rank lies the data
    for access in range(3):
        # Only outputs are updated, and nothing fills the outermost level.
        moves = access == 0 or (access == 1 and filled) or (access == 2 and t == output)
        passes = counts[level, t, Count.READS + access]
        if moves:
            for w in range(len(above)):
                above[w] = passes[w] / tile[w]
        for r in range(n_ranks):
            for part in range(2):
                total, out = ranks[r, part], metadata[level, t, r, 0, access, part]
                if moves:
                    for w in range(len(out)):
                        out[w] = up(total[w] * above[w], rounding)
                else:
                    fill(0.0, out)
                if acts:
                    fill(0.0, metadata[level, t, r, 1, access, part])
                    fill(0.0, metadata[level, t, r, 2, access, part])


@kernel
def most_metadata(
    tensors: Ints, axes: Ints, places: Ints, kinds: Ints, rounding: int, level: int, t: int, fibers: Floats,
    spans: Floats, belows: Floats, rows: Floats, counts: Floats, metadata_max: Floats,
) -> None:  # fmt: skip
    """Metadata and payload words of each rank of the fullest tile."""
    n_ranks, inner_first = places[level, t, PlaceColumn.N_RANKS], places[level, t, PlaceColumn.INNER_FIRST] != 0
    kind = tensors[t, TensorColumn.DENSITY_KIND]
    above, span, below, innermost = rows[Row.ABOVE], rows[Row.SPAN_EMPTY], rows[Row.BELOW_EMPTY], rows[Row.INNERMOST]
    tile, most = counts[level, t, Count.FULL_TILE], counts[level, t, Count.OCCUPANCY_MAX]
    fill(1.0, above)
    fill(-1.0, innermost)
    for r in range(n_ranks - 1, -1, -1):
        volume(tensors, axes, t, spans[level, t, r], span)
        volume(tensors, axes, t, belows[level, t, r], below)
        code, shape = kinds[level, t, r, 0], fibers[level, t, r]
        note, payload = metadata_max[level, t, r, 0], metadata_max[level, t, r, 1]
        for w in range(len(above)):
            note[w] = payload[w] = 0.0
            if is_trivial(shape[w], r, n_ranks, inner_first):
                continue
            innermost[w] = r
            gone = empty_of_fullest(kind, tile[w], most[w], span[w])
            hollow = empty_of_fullest(kind, tile[w], most[w], below[w])
            notes, payloads = rank_words(code, above[w], shape[w], gone, hollow, rounding)
            note[w], payload[w] = up(notes, rounding), up(payloads, rounding)
            if r == 0 and kind == DensityKind.ASKED and code > RankCode.B:
                note[w] = most[w]
            above[w] *= shape[w]
    for r in range(n_ranks):
        payload = metadata_max[level, t, r, 1]
        for w in range(len(above)):
            payload[w] = 0.0 if innermost[w] == r else payload[w]


@kernel
def metadata_room(
    tensors: Ints, kinds: Ints, rank_bits: Floats, places: Ints, level: int, t: int, fibers: Floats, ranks: Floats,
    rows: Floats, own: Floats,
) -> None:  # fmt: skip
    """Bits of metadata and payloads of the fullest tile and of the mean one, in `own` counts.

    However the nonzeros lie, no rank has more fibers or coordinates that are not empty than the tile has nonzeros;
    but where windows overlap, one nonzero may lie in all of them.
    `Row.INNERMOST` and the words of the mean tile in `ranks` are known.
    """
    n_ranks, inner_first = places[level, t, PlaceColumn.N_RANKS], places[level, t, PlaceColumn.INNER_FIRST] != 0
    above, innermost, nonzeros = rows[Row.ABOVE], rows[Row.INNERMOST], own[Count.OCCUPANCY_MAX]
    most, mean = own[Count.METADATA_MAX_BITS], own[Count.METADATA_MEAN_BITS]
    apart = tensors[t, TensorColumn.SIMPLE] != 0
    fill(1.0, above)
    fill(0.0, most)
    fill(0.0, mean)
    for r in range(n_ranks - 1, -1, -1):
        code, shape, note, payload = kinds[level, t, r, 0], fibers[level, t, r], ranks[r, 0], ranks[r, 1]
        note_bits, payload_bits = rank_bits[level, t, r, 0], rank_bits[level, t, r, 1]
        for w in range(len(most)):
            mean[w] += note[w] * note_bits + payload[w] * payload_bits
        for w in range(len(most)):
            coordinates = above[w] * shape[w]
            found = nonzeros[w] if apart or nonzeros[w] == 0.0 else coordinates
            live, occupied = min(above[w], found), min(coordinates, found)
            notes = occupied if code > RankCode.B else live * shape[w] if code == RankCode.B else 0.0
            payloads = live * (shape[w] + 1.0) if code == RankCode.UOP else occupied
            bits = notes * note_bits + (payloads * payload_bits if innermost[w] != r else 0.0)
            most[w] += 0.0 if is_trivial(shape[w], r, n_ranks, inner_first) else bits
            above[w] = coordinates


@kernel
def mean_share(
    tensors: Ints, words: Floats, keys: Ints, answers: Floats, missing: Ints, n_missing: Ints, t: int, box: Floats,
    tile: Floats, out: Floats,
) -> None:  # fmt: skip
    """Fraction nonzero of a mean tile. Tiles of a real mask that overlap do not count all words alike."""
    fill(words[t, WordColumn.DENSITY], out)
    if tensors[t, TensorColumn.SIMPLE] == 0 and tensors[t, TensorColumn.DENSITY_KIND] == DensityKind.ASKED:
        relevant = tensors[t, TensorColumn.RELEVANT]
        for w in range(len(out)):
            at = ask(keys, missing, n_missing, Question.OCCUPANCY, t, NONE, NONE, box, relevant, w)
            out[w] = answers[at, 2] / tile[w] if at >= 0 else out[w]


@kernel
def leave_zeros_out(
    tensors: Ints, words: Floats, axes: Ints, keys: Ints, answers: Floats, missing: Ints, n_missing: Ints,
    rounding: int, level: int, child: int, t: int, position: bool, extents: Floats, rows: Floats, counts: Floats,
) -> None:  # fmt: skip
    """Occupancies and accesses of a tensor whose format stores no zeros; `Row.ARRIVES` is known.

    What is handed to a child is as full as the child's tiles; exact but for sliding windows over a real mask, of which
    only the new words are sent.
    """
    arrives, kept, handed, most = rows[Row.ARRIVES], rows[Row.KEPT], rows[Row.SAVING], rows[Row.MOST]
    mean, tile = counts[level, t, Count.OCCUPANCY_MEAN], counts[level, t, Count.TILE]
    mean_share(tensors, words, keys, answers, missing, n_missing, t, extents[level], tile, kept)
    if child < len(counts):
        volume(tensors, axes, t, extents[child], most)
    else:
        fill(1.0, most)
    mean_share(tensors, words, keys, answers, missing, n_missing, t, extents[child], most, handed)
    for w in range(len(kept)):
        if not position and arrives[w] > 0.0:
            kept[w] = min(1.0, kept[w] / arrives[w])
            handed[w] = min(1.0, handed[w] / arrives[w])
        mean[w] = tile[w] * kept[w]
    most = counts[level, t, Count.OCCUPANCY_MAX]
    fullest(tensors, words, axes, keys, answers, missing, n_missing, t, extents[level], most)
    for access in range(3):
        dense, actual = counts[level, t, Count.READS + access], counts[level, t, Count.ACTUAL_READS + access]
        share = kept if access == 1 else handed
        for w in range(len(kept)):
            actual[w] = dense[w] - down(dense[w] * (1.0 - share[w]), rounding)


@kernel
def compress(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, places: Ints, kinds: Ints, actions: Ints, keys: Ints,
    answers: Floats, missing: Ints, n_missing: Ints, store: Floats, rank_bits: Floats, output: int, loops: Ints,
    factors: Floats, stored: Ints, rounding: int, detail: Detail, frame: Ints, extents: Floats, boxes: Floats,
    own: Ints, ends: Ints, fibers: Floats, spans: Floats, belows: Floats, ranks: Floats, rows: Floats, counts: Floats,
    metadata: Floats, metadata_max: Floats,
) -> None:  # fmt: skip
    """Occupancies, actual data accesses, and accesses to metadata, of every tensor at every level."""
    levels, n_tensors = stored.shape
    arrives = rows[Row.ARRIVES]
    for t in range(n_tensors):
        for level in range(levels - 1, -1, -1):
            if len(actions) > 0:
                for column in range(Count.GATED_READS, Count.SKIPPED_UPDATES + 1):
                    fill(0.0, counts[level, t, column])
            copy(counts[level, t, Count.FULL_TILE], counts[level, t, Count.OCCUPANCY_MAX])
            copy(counts[level, t, Count.TILE], counts[level, t, Count.OCCUPANCY_MEAN])
            for access in range(3):
                copy(counts[level, t, Count.READS + access], counts[level, t, Count.ACTUAL_READS + access])
            if stored[level, t] == 0:
                continue
            outer, position = frame[level, FrameColumn.OUTER + t], has_position(actions, level, t)
            fill(1.0, arrives)
            if outer >= 0 and places[outer, t, PlaceColumn.COMPRESSED] != 0:
                empty(tensors, words, axes, odds, keys, answers, missing, n_missing, t, extents[level], arrives)
                for w in range(len(arrives)):
                    arrives[w] = 1.0 - arrives[w]
                if not position:
                    times(arrives, counts[level, t, Count.INSTANCES_MEAN])
            if places[level, t, PlaceColumn.COMPRESSED] != 0:
                leave_zeros_out(
                    tensors, words, axes, keys, answers, missing, n_missing, rounding, level,
                    frame[level, FrameColumn.OUTER + n_tensors + t], t, position, extents, rows, counts,
                )  # fmt: skip
            if places[level, t, PlaceColumn.N_RANKS] > 0:
                fiber_tree(
                    tensors, places, kinds, loops, factors, stored, level, t, frame, extents, boxes, own, ends, fibers,
                    spans, belows, counts,
                )  # fmt: skip
                mean_metadata(
                    tensors, words, axes, odds, places, kinds, keys, answers, missing, n_missing, output, outer >= 0,
                    len(actions) > 0, position, rounding, level, t, fibers, spans, belows, ranks, rows, counts,
                    metadata,
                )  # fmt: skip
                if not math.isinf(store[level, LevelColumn.METADATA_BITS_PER_WORD]) or not math.isinf(
                    store[level, LevelColumn.METADATA_CAPACITY_BITS]
                ):
                    metadata_room(tensors, kinds, rank_bits, places, level, t, fibers, ranks, rows, counts[level, t])
                if detail == Detail.ALL:
                    most_metadata(
                        tensors, axes, places, kinds, rounding, level, t, fibers, spans, belows, rows, counts,
                        metadata_max,
                    )  # fmt: skip
