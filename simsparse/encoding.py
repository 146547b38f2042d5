"""A real mask, encoded step by step: the bits that `simsparse.formats` foretells, counted.

Plain and slow on purpose, and independent of the closed forms, which are tested against it.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from simsparse.errors import InputError
from simsparse.formats import (
    Bitmap,
    BlockRows,
    CompressedColumns,
    CompressedRows,
    Coordinate,
    DenseFormat,
    Ell,
    Format,
    GroupIndex,
    RunLength,
    Stored,
    Venom,
    find_format,
)
from simsparse.sparsity import NMV, VNM, Pattern, PatternColumn

Mask = NDArray[np.bool_]


def exact_bits(form: str | Format, mask: Mask, value_bits: float, pattern: Pattern | None = None) -> Stored:
    """Bits that a real mask takes in a format.

    Parameters
    ----------
    form : str or Format
    mask : (rows, columns) ndarray of bool
        True where a value is kept.
    value_bits : float
    pattern : Pattern, optional
        Needed by formats that take their blocks or groups from the pattern.

    Raises
    ------
    InputError
        If the format needs a pattern and none is given, or the mask does not fit into the format.
    """
    form = find_format(form)
    if pattern is not None and (reason := form.applies(pattern)) is not None:
        raise InputError(f"format {form.name!r} cannot store it: {reason}")
    values, metadata = _encode(form, np.asarray(mask, dtype=bool), pattern)
    return Stored(values * value_bits, metadata)


def _bits(choices: int) -> int:
    return (choices - 1).bit_length()


def _index(form: CompressedRows | CompressedColumns | Coordinate | BlockRows | Ell, extent: int) -> int:
    return _bits(extent) if form.index_bits is None else form.index_bits


def _pointer(form: CompressedRows | CompressedColumns | BlockRows, entries: int) -> int:
    return _bits(entries + 1) if form.index_bits is None else 32


@singledispatch
def _encode(form: Format, mask: Mask, pattern: Pattern | None) -> tuple[int, int]:
    """Stored values, and bits of metadata."""
    raise InputError.expected("format", form.name, "one that simsparse.encoding can write")


@_encode.register
def _(form: DenseFormat, mask: Mask, pattern: Pattern | None) -> tuple[int, int]:
    return mask.size, 0


@_encode.register
def _(form: Bitmap, mask: Mask, pattern: Pattern | None) -> tuple[int, int]:
    return int(mask.sum()), mask.size


@_encode.register
def _(form: RunLength, mask: Mask, pattern: Pattern | None) -> tuple[int, int]:
    longest, entries, run = 2**form.run_bits - 1, 0, 0
    waiting = 0  # stored zeros that count only if a nonzero follows
    for kept in mask.ravel().tolist():
        if kept:
            entries, waiting, run = entries + waiting + 1, 0, 0
        elif run == longest:
            waiting, run = waiting + 1, 0
        else:
            run += 1
    return entries, entries * form.run_bits


@_encode.register
def _(form: Coordinate, mask: Mask, pattern: Pattern | None) -> tuple[int, int]:
    places = np.argwhere(mask)
    return len(places), len(places) * (_index(form, mask.shape[0]) + _index(form, mask.shape[1]))


def _compressed(form: CompressedRows | CompressedColumns, mask: Mask) -> tuple[int, int]:
    indices, starts = [], [0]
    for line in mask:
        indices.extend(np.flatnonzero(line).tolist())
        starts.append(len(indices))
    metadata = len(indices) * _index(form, mask.shape[1]) + len(starts) * _pointer(form, len(indices))
    return len(indices), metadata


@_encode.register
def _(form: CompressedRows, mask: Mask, pattern: Pattern | None) -> tuple[int, int]:
    return _compressed(form, mask)


@_encode.register
def _(form: CompressedColumns, mask: Mask, pattern: Pattern | None) -> tuple[int, int]:
    return _compressed(form, mask.T)


@_encode.register
def _(form: BlockRows, mask: Mask, pattern: Pattern | None) -> tuple[int, int]:
    height, width = form.block or _own_block(form, pattern)
    across = -(-mask.shape[1] // width)
    columns: list[int] = []
    starts = [0]
    for top in range(0, mask.shape[0], height):
        band = mask[top : top + height]
        columns.extend(block for block in range(across) if band[:, block * width : (block + 1) * width].any())
        starts.append(len(columns))
    metadata = len(columns) * _index(form, across) + len(starts) * _pointer(form, len(columns))
    return len(columns) * height * width, metadata


def _own_block(form: Format, pattern: Pattern | None) -> tuple[int, int]:
    columns = _needed(form, pattern).columns()
    return int(columns[PatternColumn.HEIGHT]), int(columns[PatternColumn.WIDTH])


def _needed(form: Format, pattern: Pattern | None) -> Pattern:
    if pattern is None:
        raise InputError.expected("pattern", None, f"a pattern, which format {form.name!r} takes its structure from")
    return pattern


@_encode.register
def _(form: Ell, mask: Mask, pattern: Pattern | None) -> tuple[int, int]:
    width = max(len(np.flatnonzero(row)) for row in mask)
    slots = mask.shape[0] * width
    return slots, slots * _index(form, mask.shape[1])


@_encode.register
def _(form: GroupIndex, mask: Mask, pattern: Pattern | None) -> tuple[int, int]:
    shared = 1
    if form.nm is None:
        columns = _needed(form, pattern).columns()
        n, m = int(columns[PatternColumn.N]), int(columns[PatternColumn.M])
        shared = pattern.v if isinstance(pattern, NMV) else 1
    else:
        n, m = form.nm
    values = indices = 0
    for row in range(mask.shape[0]):
        for start in range(0, mask.shape[1], m):
            if mask[row, start : start + m].sum() > n:
                raise InputError(f"row {row} keeps more than {n} of the {m} from column {start}, expected {n}:{m}")
            values += n
            indices += n if row % shared == 0 else 0
    return values, indices * _bits(m)


@_encode.register
def _(form: Venom, mask: Mask, pattern: Pattern | None) -> tuple[int, int]:
    shape = _needed(form, pattern)
    if not isinstance(shape, VNM):
        raise InputError(f"format {form.name!r} cannot store it: {form.applies(shape)}")
    values = metadata = 0
    for top in range(0, mask.shape[0], shape.v):
        for start in range(0, mask.shape[1], shape.m):
            cell = mask[top : top + shape.v, start : start + shape.m]
            if cell.any(axis=0).sum() > 4 or cell.sum(axis=1).max() > shape.n:
                raise InputError(f"the cell at row {top}, column {start} does not hold {shape}")
            values += len(cell) * shape.n
            metadata += len(cell) * shape.n * 2 + 4 * _bits(shape.m)
    return values, metadata
