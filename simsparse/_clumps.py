"""Tiles of a measured mask: how many independent elements a tile is worth, from the occupancies that were measured.

A tile is worth `e` elements where its probability to be empty is `(1 - density)**e`: its area for an unstructured
mask, less where nonzeros clump. `log2 e` is taken as the sum of a curve along rows and one along columns, each
straight between the sides that were measured (1, 4, 16, 32, 64), and exact on every measured tile.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simsparse.sparsity import HELD_NM, MEASURED_TILES, PatternColumn

Floats = NDArray[np.float64]

# log2 of the sides at which the curves bend; MEASURED_TILES are (4, 1), (1, 4) and the squares of 16, 32, 64.
_BENDS = (0.0, 2.0, 4.0, 5.0, 6.0)
# log2 e grows by at most 1 an octave beyond the last bend: elements far apart are independent.
_FAR_SLOPE = 1.0


def _measured_worth(cols: Floats, density: Floats) -> tuple[Floats, ...]:
    """log2 of the worth of each measured tile; one without empty tiles tells nothing, and counts as independent."""
    worth = []
    for index, (height, width) in enumerate(MEASURED_TILES):
        filled = cols[:, PatternColumn.OCCUPIED_0 + index]
        known = (filled > 0) & (filled < 1) & (density > 0) & (density < 1)
        safe = np.where(known, filled, 0.5)
        ratio = np.log1p(-safe) / np.log1p(-np.where(known, density, 0.5))
        worth.append(np.where(known, np.log2(ratio), np.nan))
        if height == 1 or width == 1:
            worth[index] = np.where(known, worth[index], np.log2(height * width))
        else:  # two octaves more area than the square before
            before = worth[0] + worth[1] if index == 2 else worth[index - 1]
            worth[index] = np.where(known, worth[index], before + 2 * (_BENDS[index] - _BENDS[index - 1]))
    return tuple(worth)


def worth(cols: Floats, height: Floats, width: Floats) -> Floats:
    """Independent elements that each tile is worth, (n,), for columns of measured patterns."""
    density = cols[:, PatternColumn.DENSITY]
    tall, wide, *squares = _measured_worth(cols, density)
    knees = [squares[0] - tall - wide, squares[1] - squares[0], squares[2] - squares[1]]
    result = np.zeros(len(cols))
    for size, first in ((height, tall), (width, wide)):
        octaves = np.log2(size)
        rises = [first, *(knee / 2 for knee in knees)]
        for start, stop, rise in zip(_BENDS, _BENDS[1:], rises, strict=False):
            result += rise * np.clip((octaves - start) / (stop - start), 0.0, 1.0)
        slope = np.clip(rises[-1], 0.0, _FAR_SLOPE)
        result += slope * np.maximum(octaves - _BENDS[-1], 0.0)
    return np.exp2(result)


def measured_occupied(cols: Floats, height: Floats, width: Floats) -> Floats:
    """Probability that a tile of a measured mask is not empty, (n,).

    1 where the tile is as large as a measured one of which none was empty.
    """
    density = cols[:, PatternColumn.DENSITY]
    log_zero = np.log1p(-np.minimum(density, 1 - 1e-16))
    result = -np.expm1(worth(cols, height, width) * log_zero)
    for index, (tall, wide) in enumerate(MEASURED_TILES):
        never_empty = cols[:, PatternColumn.OCCUPIED_0 + index] >= 1
        result = np.where(never_empty & (height >= tall) & (width >= wide), 1.0, result)
    return np.where(density >= 1, 1.0, np.clip(result, 0.0, 1.0))


def measured_variance(cols: Floats, height: Floats, width: Floats) -> Floats:
    """Variance of the nonzeros in a tile of a measured mask, (n,).

    Clumps: `area² d (1 - d) / worth`; at least what unequal rows make, `height (row_cv d width)²`, and at
    most that of tiles that are either full or empty; nothing where an
    N:M that holds is met with equality everywhere (its density is that of the mask) and whole groups fill the tile.
    """
    density, row_cv = cols[:, PatternColumn.DENSITY], cols[:, PatternColumn.ROW_CV]
    clumped = (height * width) ** 2 * density * (1 - density) / worth(cols, height, width)
    variance = np.maximum(clumped, height * (np.maximum(row_cv, 0.0) * density * width) ** 2)
    holds = cols[:, PatternColumn.HOLDS].astype(np.int64)
    for bit, (n, m) in enumerate(HELD_NM):
        exact = ((holds >> bit) & 1 == 1) & (np.abs(density - n / m) < 1e-12) & (width % m == 0)
        variance = np.where(exact, 0.0, variance)
    mean = height * width * density
    return np.minimum(variance, mean * (height * width - mean))
