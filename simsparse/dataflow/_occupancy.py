"""Compiled: how full tiles are. P(empty), fullest tile, and questions that only a real mask answers."""

from __future__ import annotations

import math

from simsparse.dataflow._arrays import NEVER, NONE, DensityKind, Floats, Ints, Question, TensorColumn, WordColumn
from simsparse.dataflow._dense import axis_extent, volume
from simsparse.dataflow._kernel import kernel


@kernel
def ask(
    keys: Ints, missing: Ints, n_missing: Ints, question: int, tensor: int, others: int, flag: int, box: Ints, row: int,
    relevant: int,
) -> int:  # fmt: skip
    """Row of the answer; -1 after noting the question among the missing ones.

    Extents of dimensions outside of the mask `relevant` are taken for 1.
    """
    dims = box.shape[1]
    for at in range(len(keys)):
        if keys[at, 0] != question or keys[at, 1] != tensor or keys[at, 2] != others or keys[at, 3] != flag:
            continue
        same = True
        for d in range(dims):
            if keys[at, 4 + d] != (box[row, d] if relevant >> d & 1 else 1):
                same = False
                break
        if same:
            return at
    free = n_missing[0]
    if free < len(missing):
        missing[free, 0], missing[free, 1], missing[free, 2], missing[free, 3] = question, tensor, others, flag
        for d in range(dims):
            missing[free, 4 + d] = box[row, d] if relevant >> d & 1 else 1
        n_missing[0] = free + 1
    return -1


@kernel
def empty(
    tensors: Ints, words: Floats, axes: Ints, odds: Floats, keys: Ints, answers: Floats, missing: Ints, n_missing: Ints,
    t: int, box: Ints, row: int,
) -> float:  # fmt: skip
    """P(all words of a tensor in a box are zero)."""
    kind = tensors[t, TensorColumn.DENSITY_KIND]
    if kind == DensityKind.DENSE:
        return 0.0
    if kind == DensityKind.STRUCTURED:
        return max(0.0, float(1.0 - volume(tensors, axes, t, box, row) * words[t, WordColumn.DENSITY]))
    if kind == DensityKind.RANDOM:
        if words[t, WordColumn.GRANULE] == 1.0:
            count = int(volume(tensors, axes, t, box, row))
        else:
            count = 1
            for axis in range(tensors[t, TensorColumn.N_AXES]):
                count *= -(-axis_extent(axes, t, axis, box, row) // tensors[t, TensorColumn.GRANULE + axis])
        return float(odds[t, count]) if count < tensors[t, TensorColumn.ODDS_LENGTH] else 0.0
    at = ask(keys, missing, n_missing, Question.OCCUPANCY, t, NONE, NONE, box, row, tensors[t, TensorColumn.RELEVANT])
    return float(answers[at, 0]) if at >= 0 else 0.0


@kernel
def fullest(
    tensors: Ints, words: Floats, axes: Ints, keys: Ints, answers: Floats, missing: Ints, n_missing: Ints, t: int,
    box: Ints, row: int,
) -> float:  # fmt: skip
    """Most nonzeros that a tile may hold; a whole number, whatever the rounding."""
    kind = tensors[t, TensorColumn.DENSITY_KIND]
    size = volume(tensors, axes, t, box, row)
    if kind == DensityKind.DENSE:
        return size
    if kind == DensityKind.STRUCTURED:
        return min(size, float(math.ceil(size * words[t, WordColumn.DENSITY] - 1e-9)))
    if kind == DensityKind.RANDOM:
        return min(size, float(math.ceil(words[t, WordColumn.NONZERO]) * words[t, WordColumn.GRANULE]))
    at = ask(keys, missing, n_missing, Question.OCCUPANCY, t, NONE, NONE, box, row, tensors[t, TensorColumn.RELEVANT])
    return float(answers[at, 1]) if at >= 0 else size


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
