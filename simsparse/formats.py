"""How nonzeros are stored: exact bits of values and of metadata.

A `Format` answers for arrays of patterns (`bits`), in expectation over the masks of a pattern and exactly where the
pattern fixes the number; `simsparse.encoding` counts the same bits of a real mask. Rows are outputs, columns the
reduction. Value bits may be fractions (a scale shared by a group of values).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simsparse.dtypes import DType, dtype
from simsparse.errors import InputError, UnknownNameError
from simsparse.occupancy import nonzeros, occupied, row_imbalance
from simsparse.runs import padding_zeros
from simsparse.sparsity import NM, NMV, VNM, AttentionBlock, Block, Pattern, PatternColumn, PatternKind, Vector, parse

Floats = NDArray[np.float64]
Bits = tuple[Floats, Floats]

PRACTICAL_INDEX_BITS = (16, 32)
POINTER_BITS = 32  # where indices have a practical width


@dataclass(frozen=True, slots=True)
class Stored:
    """Bits of values and of what says where they belong."""

    value_bits: float
    metadata_bits: float

    @property
    def bits(self) -> float:
        """All of them."""
        return self.value_bits + self.metadata_bits

    @property
    def bytes(self) -> float:
        """All of them, in bytes, not rounded up."""
        return self.bits / 8

    def ratio(self, dense: Stored) -> float:
        """Size over that of the `dense` form."""
        return self.bits / dense.bits


def bits_to_tell(choices: ArrayLike) -> Floats:
    """Bits that tell so many `choices` apart, `ceil(log2(choices))`; exact to 2^53."""
    exponent: NDArray[np.int32] = np.frexp(np.maximum(np.rint(choices) - 1, 0))[1]
    return exponent.astype(np.float64)


@dataclass(frozen=True)
class Format(ABC):
    """A way to store a sparse matrix.

    Attributes
    ----------
    name : str
        Key of `FORMATS`.
    """

    name: str

    def applies(self, pattern: Pattern) -> str | None:
        """None, or the reason why a matrix of this pattern cannot be stored so."""
        del pattern
        return None

    def fits(self, rows: int, cols: int) -> str | None:
        """None, or the reason why a matrix of this size cannot be stored so."""
        del rows, cols
        return None

    @abstractmethod
    def bits(self, rows: Floats, cols: Floats, value_bits: Floats, pattern: Floats) -> Bits:
        """Value and metadata bits, two (n,) arrays; all arguments are (n,), `pattern` (n, columns).

        Where the format does not apply to the pattern the result means nothing (`applies`, `implies_nm` tell).
        """


@dataclass(frozen=True)
class DenseFormat(Format):
    """Every value, zeros included."""

    def bits(self, rows: Floats, cols: Floats, value_bits: Floats, pattern: Floats) -> Bits:
        """See `Format.bits`."""
        return rows * cols * value_bits, np.zeros(len(pattern))


@dataclass(frozen=True)
class Bitmap(Format):
    """A bit per element, then the nonzeros."""

    def bits(self, rows: Floats, cols: Floats, value_bits: Floats, pattern: Floats) -> Bits:
        """See `Format.bits`."""
        return nonzeros(pattern, rows, cols) * value_bits, rows * cols


@dataclass(frozen=True)
class RunLength(Format):
    """Before each nonzero, in row-major order over the matrix, the number of zeros since the last one.

    A stored zero after `2**run_bits - 1` zeros extends runs that are too long; zeros behind the last nonzero are not
    stored.
    """

    run_bits: int = 4

    def bits(self, rows: Floats, cols: Floats, value_bits: Floats, pattern: Floats) -> Bits:
        """See `Format.bits`; stored zeros as in `simsparse.runs.padding_zeros`."""
        kept = nonzeros(pattern, rows, cols)
        entries = kept + padding_zeros(pattern, kept, cols, float(2**self.run_bits))
        return entries * value_bits, entries * self.run_bits


@dataclass(frozen=True)
class Indexed(Format):
    """Formats with row or column indices.

    Attributes
    ----------
    index_bits : int, optional
        16 or 32, with pointers of 32; None: as few as tell the extent apart.
    """

    index_bits: int | None = None

    def __post_init__(self) -> None:
        if self.index_bits is not None and self.index_bits not in PRACTICAL_INDEX_BITS:
            raise InputError.expected("index_bits", self.index_bits, "16, 32 or None")

    def fits(self, rows: int, cols: int) -> str | None:
        """Indices must reach every row and column."""
        longest = max(rows, cols)
        if self.index_bits is not None and longest > 2**self.index_bits:
            return f"{self.index_bits} bits do not reach {longest} places"
        return None

    def index(self, extent: ArrayLike) -> Floats:
        """Bits of an index below `extent`."""
        return bits_to_tell(extent) if self.index_bits is None else np.full(np.shape(extent), float(self.index_bits))

    def pointer(self, entries: ArrayLike) -> Floats:
        """Bits of a position from 0 to `entries`."""
        if self.index_bits is None:
            return bits_to_tell(np.asarray(entries) + 1)
        return np.full(np.shape(entries), float(POINTER_BITS))


@dataclass(frozen=True)
class Coordinate(Indexed):
    """Row and column of each nonzero (COO)."""

    def bits(self, rows: Floats, cols: Floats, value_bits: Floats, pattern: Floats) -> Bits:
        """See `Format.bits`."""
        kept = nonzeros(pattern, rows, cols)
        return kept * value_bits, kept * (self.index(rows) + self.index(cols))


@dataclass(frozen=True)
class CompressedRows(Indexed):
    """Column of each nonzero, and where each row starts (CSR)."""

    def bits(self, rows: Floats, cols: Floats, value_bits: Floats, pattern: Floats) -> Bits:
        """See `Format.bits`."""
        kept = nonzeros(pattern, rows, cols)
        return kept * value_bits, kept * self.index(cols) + (rows + 1) * self.pointer(kept)


@dataclass(frozen=True)
class CompressedColumns(Indexed):
    """Row of each nonzero, and where each column starts (CSC)."""

    def bits(self, rows: Floats, cols: Floats, value_bits: Floats, pattern: Floats) -> Bits:
        """See `Format.bits`."""
        kept = nonzeros(pattern, rows, cols)
        return kept * value_bits, kept * self.index(rows) + (cols + 1) * self.pointer(kept)


@dataclass(frozen=True)
class BlockRows(Indexed):
    """Nonempty blocks in full, the block column of each, and where each block row starts (BCSR).

    Attributes
    ----------
    block : (rows, columns), optional
        Blocks at the edge are filled up. None: the blocks or vectors of the pattern itself.
    """

    block: tuple[int, int] | None = None

    def applies(self, pattern: Pattern) -> str | None:
        """Blocks of its own must be there if none are given."""
        if self.block is None and not isinstance(pattern, (Block, Vector, NMV, AttentionBlock)):
            return f"{pattern} has no blocks of its own"
        return None

    def bits(self, rows: Floats, cols: Floats, value_bits: Floats, pattern: Floats) -> Bits:
        """See `Format.bits`."""
        height, width = pattern[:, PatternColumn.HEIGHT], pattern[:, PatternColumn.WIDTH]
        if self.block is not None:
            height, width = (np.full(len(pattern), float(side)) for side in self.block)
        down, across = np.ceil(rows / height), np.ceil(cols / width)
        own = nonzeros(pattern, down, cols)  # N:M by L outputs: a group cut short keeps more than its share
        filled = down * across * occupied(pattern, height, width)
        blocks = np.where((self.block is None) & (pattern[:, PatternColumn.M] > 0), own, filled)
        return (
            blocks * height * width * value_bits,
            blocks * self.index(across) + (down + 1) * self.pointer(blocks),
        )


@dataclass(frozen=True)
class Ell(Indexed):
    """As many values and column indices in every row as the fullest row has (ELLPACK)."""

    def bits(self, rows: Floats, cols: Floats, value_bits: Floats, pattern: Floats) -> Bits:
        """See `Format.bits`; the width is the expected maximum over rows."""
        fullest = nonzeros(pattern, 1.0, cols) * row_imbalance(pattern, rows, cols)
        slots = rows * np.minimum(fullest, cols)
        return slots * value_bits, slots * self.index(cols)


@dataclass(frozen=True)
class GroupIndex(Format):
    """N slots for each M along the reduction, each with its place in the group (`ceil(log2 M)` bits).

    Fewer nonzeros than slots, and a last group cut short, are filled up.

    Attributes
    ----------
    nm : (n, m), optional
        What the machine stores (2:4). None: the pattern's own N:M; where L outputs share it, so do they the indices.
    """

    nm: tuple[int, int] | None = None

    def applies(self, pattern: Pattern) -> str | None:
        """The pattern must imply N:M."""
        if self.nm is None:
            return None if isinstance(pattern, (NM, NMV, VNM)) else f"{pattern} is no N:M pattern"
        wanted = NM(*self.nm)
        return None if pattern.implies(wanted) else f"{pattern} does not imply {wanted}"

    def bits(self, rows: Floats, cols: Floats, value_bits: Floats, pattern: Floats) -> Bits:
        """See `Format.bits`."""
        if self.nm is None:
            n, m = pattern[:, PatternColumn.N], np.maximum(pattern[:, PatternColumn.M], 1)
            venom = pattern[:, PatternColumn.KIND] == PatternKind.VNM
            shared = np.where(venom, 1.0, pattern[:, PatternColumn.HEIGHT])
        else:
            n, m = (np.full(len(pattern), float(x)) for x in self.nm)
            shared = np.ones(len(pattern))
        slots = np.ceil(cols / m) * n
        return rows * slots * value_bits, np.ceil(rows / shared) * slots * bits_to_tell(m)


@dataclass(frozen=True)
class Venom(Format):
    """V:N:M in two levels: which 4 columns V rows keep of every M, and 2 bits for each of N of these 4 in a row."""

    def applies(self, pattern: Pattern) -> str | None:
        """Only V:N:M has the two levels."""
        return None if isinstance(pattern, VNM) else f"{pattern} is no V:N:M pattern"

    def bits(self, rows: Floats, cols: Floats, value_bits: Floats, pattern: Floats) -> Bits:
        """See `Format.bits`."""
        v, n, m = (pattern[:, c] for c in (PatternColumn.HEIGHT, PatternColumn.N, PatternColumn.M))
        groups = np.ceil(cols / np.maximum(m, 1))
        kept = rows * groups * n
        return kept * value_bits, kept * 2 + np.ceil(rows / v) * groups * 4 * bits_to_tell(m)


FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        DenseFormat("dense"),
        Bitmap("bitmap"),
        RunLength("run-length"),
        Coordinate("coordinate"),
        CompressedRows("csr"),
        CompressedRows("csr16", index_bits=16),
        CompressedRows("csr32", index_bits=32),
        CompressedColumns("csc"),
        BlockRows("bcsr"),
        BlockRows("bcsr16x16", block=(16, 16)),
        BlockRows("bcsr2x1", index_bits=32, block=(2, 1)),
        BlockRows("bcsr4x1", index_bits=32, block=(4, 1)),
        Ell("ell"),
        GroupIndex("n:m"),
        GroupIndex("2:4", nm=(2, 4)),
        Venom("venom"),
    )
}


def find_format(name: str | Format) -> Format:
    """A format by its name in `FORMATS`; a format is returned as it is."""
    if isinstance(name, Format):
        return name
    if name not in FORMATS:
        raise UnknownNameError.near("format", name, FORMATS)
    return FORMATS[name]


def stored_bits(
    form: str | Format, rows: ArrayLike, cols: ArrayLike, value_bits: ArrayLike, pattern: Floats
) -> Bits:  # fmt: skip
    """Value and metadata bits of n matrices, two (n,) arrays.

    Parameters
    ----------
    form : str or Format
    rows, cols, value_bits : (n,) ndarray or number
        Outputs, reduction, bits of a value with its share of a scale.
    pattern : (n, len(PatternColumn)) ndarray
        Pattern columns.
    """
    like = (len(pattern),)
    tall, wide, bits = (np.broadcast_to(np.asarray(x, dtype=np.float64), like) for x in (rows, cols, value_bits))
    return find_format(form).bits(tall, wide, bits, pattern)


def stored(form: str | Format, rows: int, cols: int, value_bits: float, pattern: Pattern) -> Stored:
    """Bits of one matrix.

    Raises
    ------
    InputError
        If the format does not apply to the pattern or the size.
    """
    form = find_format(form)
    reason = form.applies(pattern) or form.fits(rows, cols)
    if reason is not None:
        raise InputError(f"format {form.name!r} cannot store it: {reason}")
    values, metadata = stored_bits(form, rows, cols, value_bits, np.array([pattern.columns()]))
    return Stored(float(values[0]), float(metadata[0]))


@dataclass(frozen=True, slots=True)
class FormatRow:
    """A line of the table of formats: what it takes, or why it does not apply (`reason`)."""

    name: str
    stored: Stored | None
    ratio: float | None
    reason: str | None = None


def table(shape: tuple[int, int], pattern: str | Pattern, kind: str | DType) -> list[FormatRow]:
    """Every format for a matrix of `shape` (outputs, reduction), in the order of `FORMATS`.

    Raises
    ------
    InputError
        For a side below 1, an unknown pattern or type.
    """
    if len(shape) != 2 or min(shape) < 1:
        raise InputError.expected("shape", shape, "two sides of at least 1")
    pattern, bits = parse(pattern), dtype(kind).bits
    dense = stored("dense", *shape, bits, pattern)
    rows = []
    for form in FORMATS.values():
        reason = form.applies(pattern) or form.fits(*shape)
        if reason is not None:
            rows.append(FormatRow(form.name, None, None, reason))
            continue
        size = stored(form, *shape, bits, pattern)
        rows.append(FormatRow(form.name, size, size.ratio(dense)))
    return rows


def best_format(rows: int, cols: int, value_bits: float, pattern: Pattern) -> Format:
    """The format of `FORMATS` that takes the fewest bits; of equal ones the first."""
    fitting = [form for form in FORMATS.values() if (form.applies(pattern) or form.fits(rows, cols)) is None]
    return min(fitting, key=lambda form: stored(form, rows, cols, value_bits, pattern).bits)
