"""Tiles of a measured mask: how many independent elements a tile is worth, from the occupancies that were measured.

A tile is worth `e` elements where its probability to be empty is `(1 - density)**e`: its area for an unstructured
mask, less where nonzeros clump. `log2 e` is taken as the sum of a curve along rows and one along columns, each
straight between the sides that were measured (1, 4, 16, 32, 64), and exact on every measured tile. What a square says
of both axes together is dealt out by how they differ in tiles of 4.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from simsparse.sparsity import HELD_NM, MEASURED_TILES, PatternColumn

Floats = NDArray[np.float64]

# log2 of the sides at which the curves bend; MEASURED_TILES are (4, 1), (1, 4) and the squares of 16, 32, 64.
_BENDS = (0.0, 2.0, 4.0, 5.0, 6.0)
# Less than one element of any mask that fits in memory.
_LEAST_DENSITY = 1e-15
_SPANS = tuple(stop - start for start, stop in pairwise(_BENDS))


def _log_worth(cols: Floats, index: int, otherwise: Floats) -> Floats:
    """log2 of the worth of a measured tile; `otherwise` where all or none were empty, which tells nothing."""
    density, filled = cols[:, PatternColumn.DENSITY], cols[:, PatternColumn.OCCUPIED_0 + index]
    known = (filled > 0) & (filled < 1) & (density > _LEAST_DENSITY) & (density < 1)
    ratio = np.log1p(-np.where(known, filled, 0.5)) / np.log1p(-np.where(known, density, 0.5))
    return np.where(known, np.log2(ratio), otherwise)


def _rises(cols: Floats) -> tuple[list[Floats], list[Floats]]:
    """How much each curve, along rows and along columns, rises over each of `_SPANS`.

    What a square gains over the smaller one goes first to the axis along which tiles of 4 are more independent, up to
    one an octave; evenly to both where these are alike. Squares without an empty one are taken to gain as much as
    independent elements would, which overrates tiles far longer than 16 along rows or columns that are wholly zero.
    """
    two = np.full(len(cols), _SPANS[0])
    tall, wide = _log_worth(cols, 0, two), _log_worth(cols, 1, two)
    lean = np.clip((tall - wide) / _SPANS[0], -1.0, 1.0)
    down, across = [tall], [wide]
    before = tall + wide
    for index, span in enumerate(_SPANS[1:], start=2):
        square = _log_worth(cols, index, before + 2 * span)
        gain = square - before
        uneven = lean * np.clip(2 * span - gain, 0.0, np.maximum(gain, 0.0))
        down.append((gain + uneven) / 2)
        across.append((gain - uneven) / 2)
        before = square
    return down, across


def worth(cols: Floats, height: Floats, width: Floats) -> Floats:
    """Independent elements that each tile is worth, (n,), for columns of measured patterns.

    Beyond the last bend a curve goes on as before, by 1 an octave at most: elements far apart are independent.
    """
    result = np.zeros(len(cols))
    for size, rises in zip((height, width), _rises(cols), strict=True):
        octaves = np.log2(size)
        for start, span, rise in zip(_BENDS, _SPANS, rises, strict=False):
            result += rise * np.clip((octaves - start) / span, 0.0, 1.0)
        result += np.clip(rises[-1], 0.0, 1.0) * np.maximum(octaves - _BENDS[-1], 0.0)
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
