"""Which bytes cross which level: the cache model that all products share.

Threads share out the `batch` products, then rows (outputs) or columns (tokens) of one, whichever moves less. Each
thread keeps one operand of its piece, or the sums, in half of its L2 and streams the rest past it, whichever streams
least again. The same rule, with the shared cache for the L2 and all
threads together, gives the traffic of memory. Weights come from memory each time, unless they stay in the shared
cache from run to run; what a kernel asks for again misses a cache by the share of A that half of it does not hold;
activations come from the shared cache, where the op before has left them, as far as they fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel_models.cpu.chip import Chip
from accel_models.cpu.kernels.rows import GemmRows
from simsparse.plan import Floats

SUM_BYTES = 4.0  # of a partial sum


@dataclass(frozen=True)
class Traffic:
    """Bytes of each level, (n,): into private caches from the shared one, from memory, and what memory must give."""

    l3: Floats
    dram: Floats
    cold: Floats


def again(a: Floats, b: Floats, sums: Floats, room: float) -> Floats:
    """Bytes streamed a second time when operands of `a` and `b` bytes are multiplied in a cache of `room`.

    The least of three ways: A stays while B streams past each cache-full of it, the other way round, or the result's
    sums stay (cut into p parts, x across and p / x down, where A streams x times and B p / x times).
    """
    parts = np.maximum(sums / room, 1.0)
    across = np.clip(np.sqrt(parts * b / np.maximum(a, 1.0)), 1.0, parts)
    by_sums = a * (across - 1) + b * (parts / across - 1)
    by_a, by_b = b * np.maximum(a / room - 1, 0), a * np.maximum(b / room - 1, 0)
    least: Floats = np.minimum(np.minimum(by_a, by_b), by_sums)
    return least


def traffic(
    rows: GemmRows, chip: Chip, a_bytes: Floats, *, m_units: Floats, n_units: Floats, reread: Floats | float = 0.0
) -> Traffic:
    """Traffic of products whose A takes `a_bytes` as stored.

    Parameters
    ----------
    a_bytes : (n,) ndarray
        Over the batch.
    m_units, n_units : (n,) ndarray
        Into how many pieces the kernel can cut rows and columns.
    reread : (n,) ndarray
        Bytes of A that are asked for again.
    """
    b, c = rows.b_bytes, rows.c_bytes
    each = np.maximum(1.0, chip.threads / rows.batch)  # threads that share one product
    sums = rows.batch * rows.m * rows.n * SUM_BYTES
    fills = [_fill(rows.batch, a_bytes, b, sums, chip, *cut) for cut in _cuts(each, m_units, n_units)]
    private = chip.l2_bytes * np.minimum(float(chip.threads), rows.batch * m_units)
    l3 = np.minimum(*fills) + c + reread * missing(a_bytes, private) if chip.has_l3 else np.zeros(len(rows))
    l3 = np.where(chip.looped & (a_bytes + b + c <= private / 2), 0.0, l3)
    # Of a product that runs again and again, what fits half of a cache is still there.
    stays = chip.weights_resident | (a_bytes + b + c <= (chip.shared_bytes / 2 if chip.looped else 0.0))
    cold = np.where(rows.weight & ~stays, a_bytes, 0.0)
    warm = b + c + np.where(rows.weight, 0.0, a_bytes)
    spilled = np.maximum(warm - chip.shared_bytes, 0.0)
    streamed = again(a_bytes, b, sums, chip.shared_bytes / 2) + reread * missing(a_bytes, chip.shared_bytes)
    return Traffic(l3, cold + spilled + streamed, cold)


def missing(size: Floats, capacity: Floats | float) -> Floats:
    """Share of `size` bytes that half of a cache does not hold."""
    share: Floats = np.maximum(1 - capacity / 2 / np.maximum(size, 1.0), 0.0)
    return share


def _cuts(each: Floats, m_units: Floats, n_units: Floats) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Pieces of rows and of columns: rows first, and columns first."""
    by_rows = np.minimum(each, m_units)
    by_columns = np.minimum(each, n_units)
    rest = np.minimum(np.maximum(each / by_rows, 1.0), n_units)
    return (by_rows, rest), (np.minimum(np.maximum(each / by_columns, 1.0), m_units), by_columns)


def _fill(
    batch: Floats, a: Floats, b: Floats, sums: Floats, chip: Chip, rows: Floats, columns: Floats
) -> Floats:  # fmt: skip
    """Bytes into all private caches: each operand once per piece of the other's extent, and what is streamed again."""
    pieces = batch * rows * columns
    piece_a, piece_b = a / (batch * rows), b / (batch * columns)
    return a * columns + b * rows + pieces * again(piece_a, piece_b, sums / pieces, chip.l2_bytes / 2)
