"""Which bytes cross which level: the cache model that all products share.

Threads share out the `batch` products, then rows (outputs) or columns (tokens) of one, whichever moves less. Each
thread keeps the smaller operand of its piece in half of its L2 and streams the other past it; what fits nowhere is
streamed again for every cache-full of the other operand. The same rule, with the shared cache for the L2 and all
threads together, gives the traffic of memory. Weights come from memory each time, unless they stay in the shared
cache from run to run; activations come from the shared cache, where the op before has left them, as far as they fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel_models.cpu.chip import Chip
from accel_models.cpu.kernels.rows import GemmRows
from simsparse.plan import Floats


@dataclass(frozen=True)
class Traffic:
    """Bytes of each level, (n,): into private caches from the shared one, from memory, and what memory must give."""

    l3: Floats
    dram: Floats
    cold: Floats


def again(x: Floats, y: Floats, room: float) -> Floats:
    """Bytes streamed a second time when two operands of `x` and `y` bytes are multiplied in a cache of `room`."""
    return np.minimum(y * np.maximum(x / room - 1, 0), x * np.maximum(y / room - 1, 0))


def traffic(rows: GemmRows, chip: Chip, a_bytes: Floats, *, m_units: Floats, n_units: Floats) -> Traffic:
    """Traffic of products whose A takes `a_bytes` as stored.

    Parameters
    ----------
    a_bytes : (n,) ndarray
        Over the batch.
    m_units, n_units : (n,) ndarray
        Into how many pieces the kernel can cut rows and columns.
    """
    b, c = rows.b_bytes, rows.c_bytes
    each = np.maximum(1.0, chip.threads / rows.batch)  # threads that share one product
    fills = [_fill(rows.batch, a_bytes, b, chip, *cut) for cut in _cuts(each, m_units, n_units)]
    l3 = np.minimum(*fills) + c if chip.has_l3 else np.zeros(len(rows))
    cold = np.where(rows.weight & (not chip.weights_resident), a_bytes, 0.0)
    warm = b + c + np.where(rows.weight, 0.0, a_bytes)
    spilled = np.maximum(warm - chip.shared_bytes, 0.0)
    return Traffic(l3, cold + spilled + again(a_bytes, b, chip.shared_bytes / 2), cold)


def _cuts(each: Floats, m_units: Floats, n_units: Floats) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Pieces of rows and of columns: rows first, and columns first."""
    by_rows = np.minimum(each, m_units)
    by_columns = np.minimum(each, n_units)
    rest = np.minimum(np.maximum(each / by_rows, 1.0), n_units)
    return (by_rows, rest), (np.minimum(np.maximum(each / by_columns, 1.0), m_units), by_columns)


def _fill(batch: Floats, a: Floats, b: Floats, chip: Chip, rows: Floats, columns: Floats) -> Floats:
    """Bytes into all private caches: each operand once per piece of the other's extent, and what is streamed again."""
    pieces = batch * rows * columns
    piece_a, piece_b = a / (batch * rows), b / (batch * columns)
    return a * columns + b * rows + pieces * again(piece_a, piece_b, chip.l2_bytes / 2)
