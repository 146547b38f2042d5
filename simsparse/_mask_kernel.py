"""The compiled pass behind `simsparse.masks`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Sums = NDArray[np.int32]
Ints = NDArray[np.int64]


@njit(cache=True)
def count_panel(
    bits: NDArray[Any], kept: int, windows: Ints, tiles: Ints, nonzero: Bytes, prefix: Sums, touched: Bytes, row: Ints,
    col: Ints, worst: Ints, nonempty: Ints,
) -> None:  # fmt: skip
    """Add a panel of rows to the counts.

    Parameters
    ----------
    bits : (rows, cols) ndarray of unsigned integers
        A multiple of every tile height of rows, or the last panel.
    kept : unsigned integer
        The bits that make an element nonzero.
    windows : (w,) ndarray
        Lengths of aligned windows along a row.
    tiles : (t, 2) ndarray
        Heights and widths.
    nonzero : (cols,) ndarray of uint8
        Work space.
    prefix : (cols + 1,) ndarray of int32
        Work space; `prefix[0]` is 0.
    touched : (t, cols) ndarray of uint8
        Work space, all zero before and after.
    row, col, worst, nonempty : ndarray of int64
        As in `MaskCounts`; `row` is the panel's part.
    """
    rows, cols = bits.shape
    for i in range(rows):
        # Separate loops, so that all but the running sum become vector instructions.
        for j in range(cols):
            nonzero[j] = (bits[i, j] & kept) != 0
        for j in range(cols):
            col[j] += nonzero[j]
        for j in range(cols):
            prefix[j + 1] = prefix[j] + nonzero[j]
        row[i] = prefix[cols]
        for w in range(len(windows)):
            worst[w] = max(worst[w], _most_in_window(prefix, windows[w]))
        for t in range(len(tiles)):
            height, width = tiles[t, 0], tiles[t, 1]
            _touch(touched[t], nonzero, prefix, width)
            if (i + 1) % height == 0 or i + 1 == rows:
                for tile in range(-(-cols // width)):
                    nonempty[t] += touched[t, tile]
                    touched[t, tile] = 0


@njit(cache=True)
def _most_in_window(prefix: Sums, width: int) -> int:
    """The most nonzeros in any aligned window of a row whose running sum is `prefix`."""
    cols = len(prefix) - 1
    whole = cols // width
    most: int = prefix[cols] - prefix[whole * width]
    for window in range(whole):
        most = max(most, prefix[(window + 1) * width] - prefix[window * width])
    return most


@njit(cache=True)
def _touch(touched: Bytes, nonzero: Bytes, prefix: Sums, width: int) -> None:
    """Mark the tiles of `width` columns that a row has nonzeros in."""
    cols = len(nonzero)
    if width == 1:
        for j in range(cols):
            touched[j] |= nonzero[j]
        return
    whole = cols // width
    for tile in range(whole):
        touched[tile] |= prefix[(tile + 1) * width] != prefix[tile * width]
    if whole * width < cols:
        touched[whole] |= prefix[cols] != prefix[whole * width]
