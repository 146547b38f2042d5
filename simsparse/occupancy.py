"""What a pattern leaves in a tile: probability of a nonzero, mean, variance and expected maximum of their number.

The functions take `cols`, an `(n, len(PatternColumn))` array of pattern columns (`problem[:, ProblemColumn.PATTERN:]`
of an array of problems), and tile sizes that are numbers or `(n,)` arrays: `height` along outputs, `width` along the
reduction. They give `(n,)` arrays and loop over no row. Tiles are aligned; where they cut blocks or groups, results
are means over the cuts that occur. Matrices are taken as large: the choice of one block says nothing about the next.

Scores of an attention are `(cached tokens, queries)`; an activation pattern stands for the columns of a weight that
one token needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simsparse._clumps import measured_occupied, measured_variance
from simsparse._windows import (
    cut_count,
    cuts,
    expected_largest,
    groups_touched,
    most_in_window,
    none_chosen,
    overlap_squares,
    some_chosen,
)
from simsparse.errors import InputError
from simsparse.sparsity import HELD_NM, Pattern, PatternColumn, PatternKind

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_WHOLE_ROWS = (PatternKind.ROWS, PatternKind.ATTENTION_TOKEN)
_WHOLE_COLUMNS = (PatternKind.SLICE, PatternKind.ACTIVATION)
_VENOM_COLUMNS = 4.0
# Cuts of tiles that are looked at in one pass; bounds memory.
_MOST_CUTS = 1 << 18


def _kind(cols: Floats, *kinds: PatternKind) -> Bools:
    column = cols[:, PatternColumn.KIND]
    result: Bools = np.logical_or.reduce([column == kind for kind in kinds])
    return result


def _spread(value: ArrayLike, like: Floats) -> Floats:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (len(like),))


def _unit(cols: Floats, height: Floats, width: Floats) -> tuple[Floats, Floats]:
    """Rows and columns that are kept or zero together; the tile's own size where they span the matrix."""
    rows = np.where(_kind(cols, *_WHOLE_COLUMNS), height, cols[:, PatternColumn.HEIGHT])
    return rows, np.where(_kind(cols, *_WHOLE_ROWS), width, cols[:, PatternColumn.WIDTH])


def _blocks_empty(cols: Floats, height: Floats, width: Floats) -> Floats:
    """Units kept independently: `(1 - d)` to the power of the units touched, over the two counts of each side."""
    rows, columns = _unit(cols, height, width)
    down, more_down = groups_touched(height, rows)
    across, more_across = groups_touched(width, columns)
    zero = 1 - cols[:, PatternColumn.DENSITY]
    lower = (1 - more_across) * zero ** (down * across) + more_across * zero ** (down * (across + 1))
    upper = (1 - more_across) * zero ** ((down + 1) * across) + more_across * zero ** ((down + 1) * (across + 1))
    return (1 - more_down) * lower + more_down * upper


_Cell = Callable[[Floats, Floats, Floats, Floats], Floats]


def _shared_cell_empty(n: Floats, m: Floats, rows: Floats, columns: Floats) -> Floats:
    """N of M columns, the same in all rows: none of them among `columns`."""
    del rows
    return none_chosen(m, n, columns)


def _venom_cell_empty(n: Floats, m: Floats, rows: Floats, columns: Floats) -> Floats:
    """4 of M columns shared, k of them among `columns`; in each row none of the N kept of the 4 among these k."""
    four = np.full_like(m, _VENOM_COLUMNS)
    empty = np.zeros_like(m)
    for found in range(int(_VENOM_COLUMNS) + 1):
        k = np.full_like(m, found)
        empty += some_chosen(m, four, columns, k) * none_chosen(four, n, k) ** rows
    return empty


def _groups_empty(cell: _Cell) -> Callable[[Floats, Floats, Floats], Floats]:
    """Cells of HEIGHT x M, independent of each other: the product over what the tile cuts out of each."""

    def empty(cols: Floats, height: Floats, width: Floats) -> Floats:
        n, m, shared = (cols[:, c] for c in (PatternColumn.N, PatternColumn.M, PatternColumn.HEIGHT))
        down = cuts(height, shared)
        across = cuts(width[down.window], m[down.window])
        down = down.take(across.window)
        n, m, shared = (x[down.window] for x in (n, m, shared))
        product = down.weight * across.weight
        for rows, row_count in down.pieces(shared):
            for columns, column_count in across.pieces(m):
                product *= cell(n, m, rows, columns) ** (row_count * column_count)
        total: Floats = np.bincount(down.window, weights=product, minlength=len(cols)).astype(np.float64)
        return total

    def in_parts(cols: Floats, height: Floats, width: Floats) -> Floats:
        count = cut_count(height, cols[:, PatternColumn.HEIGHT]) * cut_count(width, cols[:, PatternColumn.M])
        step = max(1, _MOST_CUTS // int(count.max()))
        parts = [slice(start, start + step) for start in range(0, len(cols), step)]
        return np.concatenate([empty(cols[part], height[part], width[part]) for part in parts])

    return in_parts


_EMPTY: tuple[tuple[tuple[PatternKind, ...], Callable[[Floats, Floats, Floats], Floats]], ...] = (
    ((PatternKind.NM, PatternKind.NMV), _groups_empty(_shared_cell_empty)),
    ((PatternKind.VNM,), _groups_empty(_venom_cell_empty)),
    ((PatternKind.MEASURED,), lambda cols, height, width: 1 - measured_occupied(cols, height, width)),
)


def occupied(cols: Floats, height: ArrayLike, width: ArrayLike) -> Floats:
    """Probability that a tile of `height` x `width` holds a nonzero, (n,).

    Independent units (elements, vectors, blocks, rows) give `1 - (1 - density)**touched`; N:M, shared or not, gives
    products of hypergeometric terms; a measured mask is exact at the tiles measured and interpolated between them.
    Where a tile cuts groups at more than `_windows.MAX_OFFSETS` places, that many of them stand for all.
    """
    tall, wide = _spread(height, cols), _spread(width, cols)
    grouped = _kind(cols, *(kind for kinds, _ in _EMPTY for kind in kinds))
    if not grouped.any():
        return 1 - _blocks_empty(cols, tall, wide)
    empty = np.empty(len(cols))
    for chosen, rule in ((~grouped, _blocks_empty), *((_kind(cols, *kinds), rule) for kinds, rule in _EMPTY)):
        index = np.flatnonzero(chosen)
        if index.size:
            empty[index] = rule(cols[index], tall[index], wide[index])
    return np.clip(1 - empty, 0.0, 1.0)


def mean_variance(cols: Floats, height: ArrayLike, width: ArrayLike) -> tuple[Floats, Floats]:
    """Mean and variance of the number of nonzeros in a tile, two (n,) arrays.

    With S the mean sum of squared overlaps of a side: independent units `d (1 - d) S_h S_w`; N:M
    `p (1 - p) / (M - 1) · S_h (M w - S_w)`, `S_h` over the rows that share indices; V:N:M adds the choice of 4 columns,
    common to V rows, and that of N of 4 in each row. Exact but for measured masks (`_clumps.measured_variance`).
    """
    tall, wide = _spread(height, cols), _spread(width, cols)
    density, n, m = (cols[:, c] for c in (PatternColumn.DENSITY, PatternColumn.N, PatternColumn.M))
    mean = tall * wide * density
    rows, columns = _unit(cols, tall, wide)
    grouped = _kind(cols, PatternKind.NM, PatternKind.NMV, PatternKind.VNM)
    s_rows = overlap_squares(tall, rows)
    s_columns = overlap_squares(wide, np.where(grouped, np.maximum(m, 1), columns))
    # Finite population: covariance within a group of M is negative.
    left = (m * wide - s_columns) / np.maximum(m - 1, 1)
    variance = density * (1 - density) * s_rows * np.where(grouped, left, s_columns)
    venom = np.flatnonzero(_kind(cols, PatternKind.VNM))
    if venom.size:
        variance[venom] = _venom_variance(n[venom], m[venom], *(x[venom] for x in (tall, wide, s_rows, s_columns)))
    measured = np.flatnonzero(_kind(cols, PatternKind.MEASURED))
    if measured.size:
        variance[measured] = measured_variance(cols[measured], tall[measured], wide[measured])
    return mean, np.maximum(variance, 0.0)


def _venom_variance(n: Floats, m: Floats, height: Floats, width: Floats, s_rows: Floats, s_columns: Floats) -> Floats:
    kept, found = n / _VENOM_COLUMNS, _VENOM_COLUMNS / m
    of_found = found * (1 - found) * (m * width - s_columns) / (m - 1)
    found_squared = of_found + found**2 * s_columns
    within = kept * (1 - kept) / (_VENOM_COLUMNS - 1) * (_VENOM_COLUMNS * found * width - found_squared)
    return height * within + s_rows * kept**2 * of_found


def expected_maximum(cols: Floats, height: ArrayLike, width: ArrayLike, tiles: ArrayLike) -> Floats:
    """Expected largest number of nonzeros in `tiles` independent tiles, (n,); over the mean it is the imbalance.

    Normal order statistics with the skewness of a binomial of the same mean and variance (Cornish-Fisher), kept
    between the mean and what a tile can hold. Exact where the variance is 0, where a tile lies in one unit and for one
    tile; otherwise within 6 % of exact maxima from a mean of 8 nonzero units on, and within 25 % below.
    """
    tall, wide, count = _spread(height, cols), _spread(width, cols), _spread(tiles, cols)
    area, density = tall * wide, cols[:, PatternColumn.DENSITY]
    mean, variance = mean_variance(cols, tall, wide)
    deviation, z = np.sqrt(variance), expected_largest(count)
    spread = area * density * (1 - density)
    skewness = np.where(spread > 0, (1 - 2 * density) * deviation / np.where(spread > 0, spread, 1.0), 0.0)
    guess = mean + deviation * (z + np.where(count > 1, (z**2 - 1) * skewness / 6, 0.0))
    any_filled = -np.expm1(count * np.log1p(-np.minimum(occupied(cols, tall, wide), 1 - 1e-16)))
    result = np.clip(guess, np.maximum(mean, any_filled), np.minimum(count * mean, _most(cols, tall, wide)))
    one_unit = variance >= mean * (area - mean) * (1 - 1e-12)
    return np.where(variance <= 1e-9 * mean, mean, np.where(one_unit, np.maximum(area * any_filled, mean), result))


def _most(cols: Floats, height: Floats, width: Floats) -> Floats:
    n, m = cols[:, PatternColumn.N], cols[:, PatternColumn.M]
    limited = height * most_in_window(n, np.maximum(m, 1), width)
    return np.where(_kind(cols, PatternKind.NM, PatternKind.NMV, PatternKind.VNM), limited, height * width)


def row_imbalance(cols: Floats, rows: ArrayLike, reduction: ArrayLike) -> Floats:
    """Nonzeros of the fullest of `rows` rows over the mean, (n,); 1 for an empty pattern.

    Rows that share their indices count as one. A measured mask uses its own deviation between rows.
    """
    count, wide = _spread(rows, cols), _spread(reduction, cols)
    shared = np.where(_kind(cols, *_WHOLE_COLUMNS), count, cols[:, PatternColumn.HEIGHT])
    shared = np.where(_kind(cols, PatternKind.VNM), 1.0, shared)
    independent = np.maximum(count / shared, 1.0)
    mean = wide * cols[:, PatternColumn.DENSITY]
    factor = expected_maximum(cols, 1.0, wide, independent) / np.where(mean > 0, mean, 1.0)
    measured = _kind(cols, PatternKind.MEASURED) & (cols[:, PatternColumn.ROW_CV] >= 0)
    from_cv = 1 + cols[:, PatternColumn.ROW_CV] * expected_largest(independent)
    factor = np.where(measured, np.minimum(from_cv, wide / np.where(mean > 0, mean, 1.0)), factor)
    return np.where(mean > 0, np.maximum(factor, 1.0), 1.0)


def nonzeros(cols: Floats, rows: ArrayLike, reduction: ArrayLike) -> Floats:
    """Expected nonzeros of a whole matrix, (n,): the density, but a last group cut short keeps `min(N, its width)`."""
    tall, wide = _spread(rows, cols), _spread(reduction, cols)
    n, m = cols[:, PatternColumn.N], np.maximum(cols[:, PatternColumn.M], 1)
    whole, rest = np.divmod(wide, m)
    grouped = _kind(cols, PatternKind.NM, PatternKind.NMV, PatternKind.VNM)
    return tall * np.where(grouped, whole * n + np.minimum(n, rest), wide * cols[:, PatternColumn.DENSITY])


def implies_nm(cols: Floats, n: ArrayLike, m: ArrayLike) -> Bools:
    """Whether each pattern implies N:M, (n,) of bool: `Pattern.implies(NM(n, m))` from its columns."""
    most, group = _spread(n, cols), _spread(m, cols)
    own_n, own_m = cols[:, PatternColumn.N], np.maximum(cols[:, PatternColumn.M], 1)
    grouped = _kind(cols, PatternKind.NM, PatternKind.NMV, PatternKind.VNM)
    result = grouped & (most_in_window(own_n, own_m, group) <= most)
    measured = np.flatnonzero(_kind(cols, PatternKind.MEASURED))
    if measured.size:
        most, group = most[measured], group[measured]
        holds = cols[measured, PatternColumn.HOLDS].astype(np.int64)
        for bit, (held_n, held_m) in enumerate(HELD_NM):
            enough = most_in_window(np.full_like(group, held_n), np.full_like(group, held_m), group) <= most
            result[measured] |= ((holds >> bit) & 1 == 1) & enough
    return result


def distinct_inputs(cols: Floats, tokens: ArrayLike) -> Floats:
    """Fraction of inputs that at least one of `tokens` tokens needs, (n,).

    For an activation pattern of density d, the shared fraction s of the inputs is chosen once for all tokens, the rest
    by each token: `s d + (1 - s)(1 - (1 - d)**tokens)`. Every other pattern gives its density, whatever the tokens.
    """
    count, density = _spread(tokens, cols), cols[:, PatternColumn.DENSITY]
    shared = np.where(_kind(cols, PatternKind.ACTIVATION), cols[:, PatternColumn.ROW_CV], 1.0)
    return shared * density + (1 - shared) * (1 - (1 - density) ** count)


@dataclass(frozen=True, slots=True)
class TileStatistics:
    """Nonzeros in a tile.

    Attributes
    ----------
    mean, variance : float
    empty : float
        Probability that there are none.
    expected_max : float
        Expected largest number over the tiles asked for.
    """

    mean: float
    variance: float
    empty: float
    expected_max: float


def tile_statistics(pattern: Pattern, height: int, width: int, tiles: int = 1) -> TileStatistics:
    """Statistics of tiles of `height` outputs by `width` along the reduction.

    Raises
    ------
    InputError
        For a size or a number of tiles below 1.
    """
    for label, value in (("height", height), ("width", width), ("tiles", tiles)):
        if value < 1:
            raise InputError.expected(f"{label} of tile", value, "at least 1")
    cols = np.array([pattern.columns()])
    mean, variance = mean_variance(cols, height, width)
    empty = 1 - occupied(cols, height, width)
    largest = expected_maximum(cols, height, width, tiles)
    return TileStatistics(float(mean[0]), float(variance[0]), float(empty[0]), float(largest[0]))
