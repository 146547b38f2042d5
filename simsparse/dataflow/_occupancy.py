"""Compiled: how full tiles are. P(empty), fullest tile, and questions that only a real mask answers."""

from __future__ import annotations

import math

from numba import njit

from simsparse.dataflow._arrays import Asked, DensityArrays, DensityKind, Ints, ProblemArrays, Question
from simsparse.dataflow._dense import axis_extent, volume


@njit(cache=True)
def ask(asked: Asked, question: int, tensor: int, others: int, flag: int, box: Ints, relevant: int) -> int:
    """Row of the answer; -1 after noting the question among the missing ones.

    Extents of dimensions outside of the mask `relevant` are taken for 1.
    """
    keys = asked.keys
    for row in range(len(keys)):
        if keys[row, 0] != question or keys[row, 1] != tensor or keys[row, 2] != others or keys[row, 3] != flag:
            continue
        same = True
        for d in range(len(box)):
            if keys[row, 4 + d] != (box[d] if relevant >> d & 1 else 1):
                same = False
                break
        if same:
            return row
    at = asked.n_missing[0]
    if at < len(asked.missing):
        asked.missing[at, 0] = question
        asked.missing[at, 1] = tensor
        asked.missing[at, 2] = others
        asked.missing[at, 3] = flag
        for d in range(len(box)):
            asked.missing[at, 4 + d] = box[d] if relevant >> d & 1 else 1
        asked.n_missing[0] = at + 1
    return -1


@njit(cache=True)
def granules(problem: ProblemArrays, density: DensityArrays, t: int, box: Ints) -> float:
    """Granules of a tensor that an aligned box touches."""
    if density.granule_words[t] == 1.0:
        return volume(problem, t, box)
    count = 1.0
    for axis in range(problem.n_axes[t]):
        count *= -(-axis_extent(problem, t, axis, box) // density.granule[t, axis])
    return count


@njit(cache=True)
def empty(problem: ProblemArrays, density: DensityArrays, asked: Asked, t: int, box: Ints) -> float:
    """P(all words of a tensor in a box are zero)."""
    kind = density.kind[t]
    if kind == DensityKind.DENSE:
        return 0.0
    if kind == DensityKind.STRUCTURED:
        return max(0.0, 1.0 - volume(problem, t, box) * density.density[t])
    if kind == DensityKind.RANDOM:
        count = int(granules(problem, density, t, box))
        return density.empty[t, count] if count < density.empty_length[t] else 0.0
    row = ask(asked, Question.OCCUPANCY, t, 0, 0, box, problem.relevant[t])
    return asked.values[row, 0] if row >= 0 else 0.0


@njit(cache=True)
def fullest(problem: ProblemArrays, density: DensityArrays, asked: Asked, t: int, box: Ints, rounding: int) -> float:
    """Most nonzeros that a tile may hold."""
    kind = density.kind[t]
    words = volume(problem, t, box)
    if kind == DensityKind.DENSE:
        return words
    if kind == DensityKind.STRUCTURED:
        # What a buffer must hold is a whole number whatever the rounding.
        return min(words, float(math.ceil(words * density.density[t] - 1e-9)))
    if kind == DensityKind.RANDOM:
        return min(words, float(math.ceil(density.nonzero[t])) * density.granule_words[t])
    row = ask(asked, Question.OCCUPANCY, t, 0, 0, box, problem.relevant[t])
    return asked.values[row, 1] if row >= 0 else words


@njit(cache=True)
def empty_of_fullest(kind: int, words: float, nonzeros: float, part: float) -> float:
    """P(empty) of `part` words of a tile of `words` that holds `nonzeros`."""
    if nonzeros >= words or part + nonzeros > words:
        return 0.0
    if kind == DensityKind.STRUCTURED:
        return max(0.0, 1.0 - part * nonzeros / words)
    rest = words - nonzeros
    return math.exp(
        math.lgamma(rest + 1.0)
        - math.lgamma(rest - part + 1.0)
        + math.lgamma(words - part + 1.0)
        - math.lgamma(words + 1.0)
    )
