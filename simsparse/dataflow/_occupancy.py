"""Compiled: how full tiles are. P(empty), fullest tile, and questions that only a real mask answers."""

from __future__ import annotations

import math

from simsparse.dataflow._arrays import NEVER, NONE, DensityKind, Floats, Ints, Question, TensorColumn, WordColumn
from simsparse.dataflow._dense import axis_extent, volume
from simsparse.dataflow._kernel import kernel
from simsparse.dataflow._lanes import fill


@kernel
def ask(
    keys: Ints, missing: Ints, n_missing: Ints, question: int, tensor: int, others: int, flag: int, box: Floats,
    relevant: int, w: int,
) -> int:  # fmt: skip
    """Row of the answer for a lane; -1 after noting the question among the missing ones.

    Extents of dimensions outside of the mask `relevant` are taken for 1.
    """
    for at in range(len(keys)):
        if keys[at, 0] != question or keys[at, 1] != tensor or keys[at, 2] != others or keys[at, 3] != flag:
            continue
        same = True
        for d in range(len(box)):
            if keys[at, 4 + d] != (int(box[d, w]) if relevant >> d & 1 else 1):
                same = False
                break
        if same:
            return at
    free = n_missing[0]
    if free < len(missing):
        missing[free, 0], missing[free, 1], missing[free, 2], missing[free, 3] = question, tensor, others, flag
        for d in range(len(box)):
            missing[free, 4 + d] = int(box[d, w]) if relevant >> d & 1 else 1
        n_missing[0] = free + 1
    return -1


@kernel
def empty(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, keys: Ints, answers: Floats, missing: Ints, n_missing: Ints,
    t: int, box: Floats, out: Floats,
) -> None:  # fmt: skip
    """P(all words of a tensor in a box are zero)."""
    kind = tensors[t, TensorColumn.DENSITY_KIND]
    if kind == DensityKind.DENSE:
        fill(0.0, out)
    elif kind == DensityKind.STRUCTURED:
        volume(tensors, axes, t, box, out)
        share = words[t, WordColumn.DENSITY]
        for w in range(len(out)):
            out[w] = max(0.0, 1.0 - out[w] * share)
    elif kind == DensityKind.RANDOM:
        if words[t, WordColumn.GRANULE] == 1.0:
            volume(tensors, axes, t, box, out)
        else:
            for w in range(len(out)):
                out[w] = 1.0
                for axis in range(tensors[t, TensorColumn.N_AXES]):
                    granule = float(tensors[t, TensorColumn.GRANULE + axis])
                    out[w] *= math.ceil(axis_extent(axes, t, axis, box, w) / granule)
        length = float(tensors[t, TensorColumn.ODDS_LENGTH])
        for w in range(len(out)):
            out[w] = odds[t, int(out[w])] if out[w] < length else 0.0
    else:
        relevant = tensors[t, TensorColumn.RELEVANT]
        for w in range(len(out)):
            at = ask(keys, missing, n_missing, Question.OCCUPANCY, t, NONE, NONE, box, relevant, w)
            out[w] = answers[at, 0] if at >= 0 else 0.0


@kernel
def fullest(
    tensors: Ints, words: Floats, axes: Ints, keys: Ints, answers: Floats, missing: Ints, n_missing: Ints, t: int,
    box: Floats, out: Floats,
) -> None:  # fmt: skip
    """Most nonzeros that a tile may hold; a whole number, whatever the rounding."""
    kind = tensors[t, TensorColumn.DENSITY_KIND]
    volume(tensors, axes, t, box, out)
    if kind == DensityKind.STRUCTURED:
        share = words[t, WordColumn.DENSITY]
        for w in range(len(out)):
            out[w] = min(out[w], float(math.ceil(out[w] * share - 1e-9)))
    elif kind == DensityKind.RANDOM:
        most = float(math.ceil(words[t, WordColumn.NONZERO])) * words[t, WordColumn.GRANULE]
        for w in range(len(out)):
            out[w] = min(out[w], most)
    elif kind == DensityKind.ASKED:
        relevant = tensors[t, TensorColumn.RELEVANT]
        for w in range(len(out)):
            at = ask(keys, missing, n_missing, Question.OCCUPANCY, t, NONE, NONE, box, relevant, w)
            out[w] = answers[at, 1] if at >= 0 else out[w]


@kernel
def empty_of_fullest(kind: int, size: float, nonzeros: float, part: float) -> float:
    """P(empty) of `part` words of a tile of `size` words that holds `nonzeros`."""
    if nonzeros >= size or part + nonzeros > size:
        return 0.0
    if kind == DensityKind.STRUCTURED:
        return max(0.0, 1.0 - part * nonzeros / size)
    # Each word drawn finds a zero with (zeros left) / (words left).
    zeros, chance, drawn = size - nonzeros, 1.0, 0.0
    while drawn < part and chance > NEVER:
        chance *= (zeros - drawn) / (size - drawn)
        drawn += 1.0
    return chance if chance > NEVER else 0.0
