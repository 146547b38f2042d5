"""Runs of zeros in row-major order: how often a run-length code must store a zero because a run is too long."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simsparse._windows import common_divisor, none_chosen
from simsparse.sparsity import PatternColumn, PatternKind

Floats = NDArray[np.float64]

# Groups whose spacings are followed one by one.
LARGEST_GROUP = 128


def padding_zeros(pattern: Floats, kept: Floats, cols: Floats, limit: float) -> Floats:
    """Expected stored zeros, (n,): the sum over runs before a nonzero of `floor(run / limit)`.

    Units of `unit` neighbouring elements, kept with probability d: runs are whole units, geometric in number. For
    elements this is `kept · q**limit / (1 - q**limit)`, q = 1 - d. N:M: spacings within and between groups.
    Groups larger than `LARGEST_GROUP` are taken as unstructured (within 1 %), and so are measured masks: too many zeros
    where nonzeros stand in even order, too few where they clump.

    Parameters
    ----------
    pattern : (n, len(PatternColumn)) ndarray
    kept, cols : (n,) ndarray
        Nonzeros, and elements of a row.
    limit : float
        Zeros that a stored zero stands for, itself included.
    """
    kind = pattern[:, PatternColumn.KIND]
    grouped = np.isin(kind, (PatternKind.NM, PatternKind.NMV, PatternKind.VNM)) & (pattern[:, PatternColumn.N] > 0)
    grouped &= pattern[:, PatternColumn.M] <= LARGEST_GROUP
    result = np.zeros(len(pattern))
    for chosen, rule in ((~grouped, _between_units), (grouped, _between_groups)):
        index = np.flatnonzero(chosen & (kept > 0))
        if index.size:
            result[index] = kept[index] * rule(pattern[index], cols[index], limit)
    return result


def _between_units(pattern: Floats, cols: Floats, limit: float) -> Floats:
    """Stored zeros per nonzero. With P = limit / gcd, j units of a run beyond a multiple of P add the same again."""
    whole_row = np.isin(pattern[:, PatternColumn.KIND], (PatternKind.ROWS, PatternKind.ATTENTION_TOKEN))
    unit = np.where(whole_row, cols, pattern[:, PatternColumn.WIDTH])
    density = pattern[:, PatternColumn.DENSITY]
    q = 1 - density
    period = limit / common_divisor(unit, np.full_like(unit, limit))
    again = unit * period / limit
    a_period = q**period
    total = np.zeros(len(pattern))
    for j in range(int(period.max())):
        term = np.floor(j * unit / limit) / (1 - a_period) + again * a_period / (1 - a_period) ** 2
        total += np.where(j < period, density * q**j * term, 0.0)
    return total / unit


def _between_groups(pattern: Floats, cols: Floats, limit: float) -> Floats:
    """Stored zeros per nonzero of N:M: of the N runs a group ends, one began in the group before."""
    del cols
    n, m = pattern[:, PatternColumn.N], pattern[:, PatternColumn.M]
    total = np.zeros(len(pattern))
    for times in range(1, int(2 * (m - n).max() // limit) + 1):
        length = np.full_like(m, times * limit)
        total += (n - 1) * none_chosen(m, n, np.minimum(length, m)) + _two_ends(n, m, length)
    return total / n


def _two_ends(n: Floats, m: Floats, length: Floats) -> Floats:
    """Probability that the zeros at the end of one group and at the start of the next are `length` or more."""
    total = np.zeros(len(m))
    for tail in range(int((m - n).max()) + 1):
        here = np.full_like(m, tail)
        at_least = none_chosen(m, n, np.minimum(here, m)) - none_chosen(m, n, np.minimum(here + 1, m))
        total += at_least * none_chosen(m, n, np.clip(length - here, 0, m))
    return total
