"""What is really zero in an array: one compiled pass that gives a `Measured` pattern.

Elements are judged by their raw bits, the sign of a float aside (−0 is zero), so nothing is converted and bf16 and fp8
need no library that knows them. Rows are outputs, the rest of the axes is the reduction: a convolution's weight
`(O, I, kh, kw)` is measured as `(O, I·kh·kw)`.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simsparse.errors import InputError, SimsparseError, UnknownNameError
from simsparse.sparsity import HELD_NM, MEASURED_TILES, Measured

if TYPE_CHECKING:
    from collections.abc import Callable

    Kernel = Callable[..., None]

# Bytes handled at a time; what is copied, if anything, is one panel.
PANEL_BYTES = 1 << 24
_WINDOWS = tuple(sorted({m for _, m in HELD_NM}))
_PANEL_STEP = math.lcm(*(height for height, _ in MEASURED_TILES))


@dataclass(frozen=True)
class MaskCounts:
    """Sums over a mask, from which its statistics follow.

    Attributes
    ----------
    row : (rows,) ndarray
        Nonzeros of each row.
    col : (columns,) ndarray
        Nonzeros of each column.
    worst : (w,) ndarray
        Most nonzeros in any aligned window along a row, for each M of `HELD_NM` in rising order.
    tiles : (t,) ndarray
        Nonempty tiles for each of `MEASURED_TILES`; tiles cut by an edge count as tiles.
    """

    row: NDArray[np.int64]
    col: NDArray[np.int64]
    worst: NDArray[np.int64]
    tiles: NDArray[np.int64]

    def measured(self, source: str = "") -> Measured:
        """The statistics as a pattern."""
        rows, cols = len(self.row), len(self.col)
        worst = dict(zip(_WINDOWS, self.worst.tolist(), strict=True))
        occupied = tuple(
            int(count) / (-(-rows // height) * -(-cols // width))
            for count, (height, width) in zip(self.tiles, MEASURED_TILES, strict=True)
        )
        return Measured(
            kept=int(self.row.sum()) / (rows * cols),
            row_cv=_variation(self.row),
            col_cv=_variation(self.col),
            holds=tuple((n, m) for n, m in HELD_NM if worst[m] <= n),
            occupied=occupied,
            source=source,
        )


def measure(values: NDArray[Any], source: str = "", *, float_bits: bool = False) -> Measured:
    """Measure what is zero in `values`.

    Parameters
    ----------
    values : (rows, ...) ndarray of bool, integers or floats
        Two axes or more; all after the first are the reduction.
    source : str
        Kept in the pattern: file and tensor.
    float_bits : bool
        `values` are unsigned integers that hold the bits of floats (bf16 as uint16, fp8 as uint8).

    Raises
    ------
    InputError
        For fewer than two axes, no elements, or elements that are no numbers.
    """
    return count(values, source, float_bits=float_bits).measured(source)


def count(values: NDArray[Any], source: str = "", *, float_bits: bool = False) -> MaskCounts:
    """The sums behind `measure`, with its parameters."""
    label = source or "mask"
    if values.ndim < 2 or values.size == 0:
        raise InputError.expected(f"shape of {label}", values.shape, "two axes or more, none of them empty")
    if values.dtype.kind not in "biuf" or values.dtype.itemsize not in (1, 2, 4, 8):
        raise InputError.expected(f"type of {label}", str(values.dtype), "booleans, integers or floats up to 64 bits")
    rows, cols = values.shape[0], math.prod(values.shape[1:])
    counts = MaskCounts(
        np.zeros(rows, np.int64), np.zeros(cols, np.int64), np.zeros(len(_WINDOWS), np.int64),
        np.zeros(len(MEASURED_TILES), np.int64),
    )  # fmt: skip
    nonzero, prefix = np.zeros(cols, np.uint8), np.zeros(cols + 1, np.int32)
    touched = np.zeros((len(MEASURED_TILES), cols), np.uint8)
    windows, tiles = np.array(_WINDOWS), np.array(MEASURED_TILES)
    ignore_sign = float_bits or values.dtype.kind == "f"
    step = max(1, PANEL_BYTES // (cols * values.dtype.itemsize * _PANEL_STEP)) * _PANEL_STEP
    for start in range(0, rows, step):
        panel = _bits(values[start : start + step])
        kept = panel.dtype.type(np.iinfo(panel.dtype).max >> int(ignore_sign))
        _count_kernel()(
            panel, kept, windows, tiles, nonzero, prefix, touched, counts.row[start : start + step], counts.col,
            counts.worst, counts.tiles,
        )  # fmt: skip
    return counts


def measure_file(path: str | Path) -> Measured:
    """Measure a mask in `FILE.npy`, `FILE.npz` (if it holds one array) or `FILE.npz#name`.

    Raises
    ------
    InputError
        If the file is missing, cut short, malformed, or holds Python objects.
    UnknownNameError
        If the archive has no array of that name.
    """
    text = str(path)
    file, _, member = text.partition("#") if ".npz#" in text else (text, "", "")
    suffix = Path(file).suffix.lower()
    if suffix not in (".npy", ".npz"):
        raise InputError.expected("mask file", file, "a name that ends in .npy or .npz")
    if not Path(file).is_file():
        raise InputError.expected("mask file", file, "a file that exists")
    try:
        values = _from_archive(file, member) if suffix == ".npz" else _from_array(file)
    except SimsparseError:
        raise
    except _BROKEN as broken:
        reason = str(broken).splitlines()[0].rstrip(".") if str(broken) else type(broken).__name__
        raise InputError(f"mask file {file!r} cannot be read ({reason}), expected a whole array of numbers") from None
    return measure(values, text)


# What numpy raises on files that are cut short, hostile or pickled, and zipfile on compression (NotImplementedError) or
# encryption (RuntimeError) that it cannot undo.
_BROKEN = (
    ValueError, EOFError, OSError, SyntaxError, TypeError, KeyError, OverflowError, MemoryError, RecursionError,
    NotImplementedError, RuntimeError, tokenize.TokenError, zipfile.BadZipFile,
)  # fmt: skip


def _from_array(file: str) -> NDArray[Any]:
    return np.lib.format.open_memmap(file, mode="r")


def _from_archive(file: str, member: str) -> NDArray[Any]:
    # Opened here, because numpy leaves its own handle open where the archive is broken.
    with Path(file).open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is no zip archive")
        names = list(archive.files)
        if not member and len(names) != 1:
            raise InputError(f"mask file {file!r} holds {len(names)} arrays, expected one, or its name after a #")
        if member and member not in names:
            raise UnknownNameError.near(f"array in {file}", member, names)
        return np.asarray(archive[member or names[0]])


def _bits(panel: NDArray[Any]) -> NDArray[Any]:
    """Rows as native, aligned, read-only unsigned integers; copied only where they are not so already."""
    native = panel.astype(panel.dtype.newbyteorder("="), copy=False)
    flat = np.require(native, requirements=["C", "A"]).reshape(panel.shape[0], -1)
    bits = np.asarray(flat).view(f"u{flat.dtype.itemsize}")
    bits.flags.writeable = False  # one compiled version serves memory maps and arrays
    return bits


def _variation(counts: NDArray[np.int64]) -> float:
    mean = float(counts.mean())
    return float(counts.std()) / mean if mean else 0.0


@cache
def _count_kernel() -> Kernel:
    from simsparse._mask_kernel import count_panel

    kernel: Kernel = count_panel
    return kernel
