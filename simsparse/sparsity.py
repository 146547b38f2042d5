"""Sparsity patterns: what is zero in a tensor, and how patterns relate.

A pattern is a frozen value with a text form (`2:4`, `block4x1:0.8`, …); `parse` reads any of them. Over a weight
`(outputs, reduction)` rows are outputs, N:M runs along the reduction. *Density* is the fraction kept; in the text the
number after the last colon is the fraction zero, except in N:M (N kept of every M).

Machines never see these objects: `Pattern.columns` turns one into numbers (`PatternColumn`), and the vectorised
functions of `simsparse.occupancy` answer from arrays of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

from simsparse.errors import InputError


class PatternKind(IntEnum):
    """Codes of the pattern classes in arrays."""

    DENSE = 0
    NM = 1
    VNM = 2
    NMV = 3
    VECTOR = 4
    BLOCK = 5
    UNSTRUCTURED = 6
    ROWS = 7
    SLICE = 8
    ACTIVATION = 9
    ATTENTION_BLOCK = 10
    ATTENTION_TOKEN = 11
    MEASURED = 12


class PatternColumn(IntEnum):
    """Columns of a pattern in arrays of kernel calls."""

    KIND = 0
    DENSITY = 1
    N = 2  # N of N:M, else 0
    M = 3  # M of N:M, else 0
    HEIGHT = 4  # rows (outputs) that share one index: V, L, v, R; else 1
    WIDTH = 5  # columns (reduction) of a block: C; else 1
    ROW_CV = 6  # measured std/mean of nonzeros per row; -1 where the closed form holds
    HOLDS = 7  # bit set of `HELD_NM` that a measured mask satisfies; 0 elsewhere
    OCCUPIED_0 = 8  # measured fraction of nonempty tiles, one column for each of `MEASURED_TILES`; -1 elsewhere
    OCCUPIED_1 = 9
    OCCUPIED_2 = 10
    OCCUPIED_3 = 11
    OCCUPIED_4 = 12


# N:M relations looked for in a real mask, in the order of the bits of `PatternColumn.HOLDS`.
HELD_NM = ((2, 4), (1, 4), (4, 8), (2, 8), (1, 8), (1, 2), (4, 16), (2, 16), (1, 16))
# Tiles (rows, columns) whose occupancy is measured in a real mask.
MEASURED_TILES = ((4, 1), (1, 4), (16, 16), (32, 32), (64, 64))


@dataclass(frozen=True, slots=True)
class Pattern:
    """Base of all patterns."""

    @property
    def kind(self) -> PatternKind:
        """Its code."""
        raise NotImplementedError

    @property
    def density(self) -> float:
        """Fraction kept."""
        raise NotImplementedError

    @property
    def sparsity(self) -> float:
        """Fraction zero."""
        return 1.0 - self.density

    @property
    def text(self) -> str:
        """The text form that `parse` reads back."""
        raise NotImplementedError

    def columns(self) -> tuple[float, ...]:
        """Its numbers, in the order of `PatternColumn`."""
        return (float(self.kind), self.density, 0.0, 0.0, 1.0, 1.0, -1.0, 0.0, *([-1.0] * len(MEASURED_TILES)))

    def implies(self, other: Pattern) -> bool:
        """Whether every mask of this pattern is also a mask of `other` (1:4 implies 2:4; 4:8 does not)."""
        if isinstance(other, Dense) or self == other:
            return True
        return isinstance(other, Unstructured) and self.density <= other.density + 1e-12

    def transposed(self) -> Pattern:
        """The pattern of the transposed matrix."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Dense(Pattern):
    """Nothing is zero."""

    kind = property(lambda self: PatternKind.DENSE)
    density = property(lambda self: 1.0)
    text = property(lambda self: "dense")

    def transposed(self) -> Pattern:
        """Dense."""
        return self


DENSE = Dense()


def _check_fraction(what: str, value: float) -> None:
    if not (0.0 <= value <= 1.0) or math.isnan(value):
        raise InputError.expected(f"sparsity of {what}", value, "a fraction from 0 to 1")


MAX_SIZE = 2**20
_LONGEST_TEXT = 100


def _check_sizes(what: str, **sizes: int) -> None:
    for label, size in sizes.items():
        if size < 1:
            raise InputError.expected(f"{label} of {what}", size, "at least 1")
        if size > MAX_SIZE:
            raise InputError.expected(f"{label} of {what}", size, f"at most {MAX_SIZE:,}")


@dataclass(frozen=True, slots=True)
class NM(Pattern):
    """N kept of every M along the reduction."""

    n: int
    m: int

    kind = property(lambda self: PatternKind.NM)
    density = property(lambda self: self.n / self.m)
    text = property(lambda self: f"{self.n}:{self.m}")

    def __post_init__(self) -> None:
        _check_sizes("N:M", M=self.m)
        if not 0 <= self.n <= self.m:
            raise InputError.expected("pattern", f"{self.n}:{self.m}", "N from 0 to M in N:M")

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`."""
        return _columns(Pattern.columns(self), N=self.n, M=self.m)

    def implies(self, other: Pattern) -> bool:
        """N:M implies n:m where no aligned window of m can hold more than n.

        Shared forms are implied where one output shares with itself, or V:N:M has all 4 columns of 4 to choose.
        """
        if isinstance(other, NM):
            return most_in_window(self.n, self.m, other.m) <= other.n
        if isinstance(other, (VNM, NMV)):
            alone = other.v == 1 or (isinstance(other, VNM) and other.m == 4)
            return alone and self.implies(NM(other.n, other.m))
        return Pattern.implies(self, other)

    def transposed(self) -> Pattern:
        """Along the other axis N:M says nothing but its density."""
        return Unstructured(self.sparsity)


def most_in_window(n: int, m: int, window: int) -> int:
    """Most nonzeros an aligned `window` can hold under N:M: whole groups hold n, cut ones min(n, overlap).

    Where a window cuts a group at both ends, the worst cut is the most even one that alignment allows.
    """
    whole, rest = divmod(window, m)
    step = math.gcd(m, window)
    if whole == 0 and m % window == 0:
        return min(n, window)
    cut_in_two = [rest] if whole == 0 or rest == 0 else [rest, rest + m]
    most = 0
    for length in cut_in_two:
        half = length // step // 2 * step
        inside = whole - (length - rest) // m
        most = max(most, n * inside + min(n, half) + min(n, length - half))
    return most


@dataclass(frozen=True, slots=True)
class VNM(Pattern):
    """V:N:M (VENOM): V rows share the 4 columns chosen of every M; N of these 4 are kept in each row."""

    v: int
    n: int
    m: int

    kind = property(lambda self: PatternKind.VNM)
    density = property(lambda self: self.n / self.m)
    text = property(lambda self: f"vnm{self.v}:{self.n}:{self.m}")

    def __post_init__(self) -> None:
        _check_sizes("V:N:M", V=self.v, M=self.m)
        if self.m < 4 or not 0 <= self.n <= 4:
            raise InputError.expected("pattern", self.text, "M of at least 4 and N from 0 to 4 in V:N:M")

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`."""
        return _columns(Pattern.columns(self), N=self.n, M=self.m, HEIGHT=self.v)

    def implies(self, other: Pattern) -> bool:
        """Each row is N:M too; fewer rows share the same columns."""
        if isinstance(other, VNM) and other.m == self.m and self.v % other.v == 0:
            return self.n <= other.n
        return Pattern.implies(self, other) or NM(self.n, self.m).implies(other)

    def transposed(self) -> Pattern:
        """Along the other axis only the density is left."""
        return Unstructured(self.sparsity)


@dataclass(frozen=True, slots=True)
class NMV(Pattern):
    """N:M whose indices L neighbouring outputs share (`nmv32:16:32`: 16 of 32, by 32 outputs)."""

    v: int
    n: int
    m: int

    kind = property(lambda self: PatternKind.NMV)
    density = property(lambda self: self.n / self.m)
    text = property(lambda self: f"nmv{self.v}:{self.n}:{self.m}")

    def __post_init__(self) -> None:
        _check_sizes("N:M by L", L=self.v)
        NM(self.n, self.m)

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`."""
        return _columns(Pattern.columns(self), N=self.n, M=self.m, HEIGHT=self.v)

    def implies(self, other: Pattern) -> bool:
        """Each row is N:M; L outputs sharing it are also vectors of L."""
        if isinstance(other, Vector):
            return self.v % other.v == 0 and self.density <= other.density + 1e-12
        if isinstance(other, Block) and other.cols == 1:
            return self.implies(Vector(other.rows, other.zero))
        if isinstance(other, (NMV, VNM)) and self.v % other.v == 0:
            return NM(self.n, self.m).implies(NM(other.n, other.m))
        return Pattern.implies(self, other) or NM(self.n, self.m).implies(other)

    def transposed(self) -> Pattern:
        """Vectors along what is now the reduction."""
        return Block(1, self.v, self.sparsity)


@dataclass(frozen=True, slots=True)
class Vector(Pattern):
    """Columns of v neighbouring outputs, kept or zero together (CLASP)."""

    v: int
    zero: float

    kind = property(lambda self: PatternKind.VECTOR)
    density = property(lambda self: 1.0 - self.zero)
    text = property(lambda self: f"vector{self.v}:{self.zero:g}")

    def __post_init__(self) -> None:
        _check_sizes("vector", length=self.v)
        _check_fraction("vector", self.zero)

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`."""
        return _columns(Pattern.columns(self), HEIGHT=self.v)

    def implies(self, other: Pattern) -> bool:
        """A vector is a v x 1 block."""
        return Block(self.v, 1, self.zero).implies(other)

    def transposed(self) -> Pattern:
        """A 1 x v block."""
        return Block(1, self.v, self.zero)


@dataclass(frozen=True, slots=True)
class Block(Pattern):
    """Blocks of `rows` outputs by `cols` along the reduction, kept or zero together."""

    rows: int
    cols: int
    zero: float

    kind = property(lambda self: PatternKind.BLOCK)
    density = property(lambda self: 1.0 - self.zero)
    text = property(lambda self: f"block{self.rows}x{self.cols}:{self.zero:g}")

    def __post_init__(self) -> None:
        _check_sizes("block", rows=self.rows, columns=self.cols)
        _check_fraction("block", self.zero)

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`."""
        return _columns(Pattern.columns(self), HEIGHT=self.rows, WIDTH=self.cols)

    def implies(self, other: Pattern) -> bool:
        """A block pattern is one of smaller blocks that tile it."""
        if isinstance(other, (Block, Vector)):
            rows, cols = (other.rows, other.cols) if isinstance(other, Block) else (other.v, 1)
            return self.rows % rows == 0 and self.cols % cols == 0 and self.density <= other.density + 1e-12
        return Pattern.implies(self, other)

    def transposed(self) -> Pattern:
        """Rows and columns swapped."""
        return Block(self.cols, self.rows, self.zero)


@dataclass(frozen=True, slots=True)
class Unstructured(Pattern):
    """Any `zero` fraction of the elements, at random places."""

    zero: float

    kind = property(lambda self: PatternKind.UNSTRUCTURED)
    density = property(lambda self: 1.0 - self.zero)
    text = property(lambda self: f"unstructured:{self.zero:g}")

    def __post_init__(self) -> None:
        _check_fraction("unstructured", self.zero)

    def transposed(self) -> Pattern:
        """The same."""
        return self


@dataclass(frozen=True, slots=True)
class Rows(Pattern):
    """Whole outputs (neurons, heads) are zero; the rest is dense."""

    zero: float

    kind = property(lambda self: PatternKind.ROWS)
    density = property(lambda self: 1.0 - self.zero)
    text = property(lambda self: f"rows:{self.zero:g}")

    def __post_init__(self) -> None:
        _check_fraction("rows", self.zero)

    def transposed(self) -> Pattern:
        """Whole columns: slices of the reduction."""
        return Slice(self.zero)


@dataclass(frozen=True, slots=True)
class Slice(Pattern):
    """Whole slices of the reduction are gone (SliceGPT); the rest is dense."""

    zero: float

    kind = property(lambda self: PatternKind.SLICE)
    density = property(lambda self: 1.0 - self.zero)
    text = property(lambda self: f"slice:{self.zero:g}")

    def __post_init__(self) -> None:
        _check_fraction("slice", self.zero)

    def transposed(self) -> Pattern:
        """Whole rows."""
        return Rows(self.zero)


@dataclass(frozen=True, slots=True)
class Activation(Pattern):
    """Inputs (neurons) that are zero at run time, so that their weights are not read.

    `shared` says how much of the choice tokens of a batch share: 1, all choose the same; 0, each chooses by itself.
    """

    zero: float
    shared: float = 0.0

    kind = property(lambda self: PatternKind.ACTIVATION)
    density = property(lambda self: 1.0 - self.zero)

    @property
    def text(self) -> str:
        """`act:0.9`, or `act:0.9@0.5` with half of the choice shared."""
        return f"act:{self.zero:g}" + (f"@{self.shared:g}" if self.shared else "")

    def __post_init__(self) -> None:
        _check_fraction("act", self.zero)
        _check_fraction("act sharing", self.shared)

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`; ROW_CV holds the shared fraction."""
        return _columns(Pattern.columns(self), ROW_CV=self.shared)

    def implies(self, other: Pattern) -> bool:
        """What is zero changes from token to token: it implies nothing but itself."""
        return isinstance(other, Dense) or self == other

    def transposed(self) -> Pattern:
        """The same neurons, seen from the other side."""
        return self


@dataclass(frozen=True, slots=True)
class AttentionBlock(Pattern):
    """Blocks of B x B scores (in decode: of B cached tokens) that are not computed."""

    b: int
    zero: float

    kind = property(lambda self: PatternKind.ATTENTION_BLOCK)
    density = property(lambda self: 1.0 - self.zero)
    text = property(lambda self: f"attn-block{self.b}:{self.zero:g}")

    def __post_init__(self) -> None:
        _check_sizes("attn-block", B=self.b)
        _check_fraction("attn-block", self.zero)

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`."""
        return _columns(Pattern.columns(self), HEIGHT=self.b, WIDTH=self.b)

    def implies(self, other: Pattern) -> bool:
        """Large blocks consist of smaller ones."""
        if isinstance(other, AttentionBlock):
            return self.b % other.b == 0 and self.density <= other.density + 1e-12
        return Pattern.implies(self, other)

    def transposed(self) -> Pattern:
        """Square blocks stay."""
        return self


@dataclass(frozen=True, slots=True)
class AttentionToken(Pattern):
    """Single cached tokens that are not attended to."""

    zero: float

    kind = property(lambda self: PatternKind.ATTENTION_TOKEN)
    density = property(lambda self: 1.0 - self.zero)
    text = property(lambda self: f"attn-token:{self.zero:g}")

    def __post_init__(self) -> None:
        _check_fraction("attn-token", self.zero)

    def transposed(self) -> Pattern:
        """The same tokens."""
        return self


@dataclass(frozen=True, slots=True)
class Measured(Pattern):
    """Statistics of a real mask, taken by `simsparse.masks.measure`.

    Attributes
    ----------
    kept : float
        Density.
    row_cv : float
        Standard deviation over mean of nonzeros per row (output).
    col_cv : float
        The same per column.
    holds : tuple of (n, m)
        Which of `HELD_NM` the mask satisfies along the reduction.
    occupied : tuple of float
        Fraction of nonempty tiles for each of `MEASURED_TILES`.
    source : str
        File and tensor it was read from.
    """

    kept: float
    row_cv: float
    col_cv: float
    holds: tuple[tuple[int, int], ...]
    occupied: tuple[float, ...]
    source: str = ""

    kind = property(lambda self: PatternKind.MEASURED)
    density = property(lambda self: self.kept)
    text = property(lambda self: f"measured:{self.sparsity:.4g}")

    def __post_init__(self) -> None:
        _check_fraction("measured mask", self.kept)
        if len(self.occupied) != len(MEASURED_TILES):
            raise InputError.expected("occupied", self.occupied, f"{len(MEASURED_TILES)} fractions")

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`."""
        bits = sum(1 << i for i, nm in enumerate(HELD_NM) if nm in self.holds)
        head = _columns(Pattern.columns(self), ROW_CV=self.row_cv, HOLDS=bits)
        return (*head[: PatternColumn.OCCUPIED_0], *self.occupied)

    def implies(self, other: Pattern) -> bool:
        """An N:M that was found in it, or what its density says."""
        if isinstance(other, NM):
            return any(NM(n, m).implies(other) for n, m in self.holds)
        return Pattern.implies(self, other)

    def transposed(self) -> Pattern:
        """Rows and columns of the statistics swapped; N:M along the new reduction was not measured."""
        swap = {(h, w): self.occupied[i] for i, (h, w) in enumerate(MEASURED_TILES)}
        occupied = tuple(swap[(w, h)] for h, w in MEASURED_TILES)
        return Measured(self.kept, self.col_cv, self.row_cv, (), occupied, self.source)


def _columns(base: tuple[float, ...], **changes: float) -> tuple[float, ...]:
    values = list(base)
    for name, value in changes.items():
        values[PatternColumn[name]] = float(value)
    return tuple(values)


_NUMBER = r"([0-9]*\.?[0-9]+(?:e-?\d+)?)"
# The text forms, in the order in which they are listed to users.
_FORMS: tuple[tuple[str, str, Callable[..., Pattern]], ...] = (
    ("dense", r"dense", lambda: DENSE),
    ("2:4", r"(\d+):(\d+)", lambda n, m: NM(int(n), int(m))),
    ("vnm64:2:8", r"vnm(\d+):(\d+):(\d+)", lambda v, n, m: VNM(int(v), int(n), int(m))),
    ("nmv32:16:32", r"nmv(\d+):(\d+):(\d+)", lambda v, n, m: NMV(int(v), int(n), int(m))),
    ("vector8:0.9", rf"vector(\d+):{_NUMBER}", lambda v, s: Vector(int(v), float(s))),
    ("unstructured:0.9", rf"unstructured:{_NUMBER}", lambda s: Unstructured(float(s))),
    ("block4x1:0.8", rf"block(\d+)x(\d+):{_NUMBER}", lambda r, c, s: Block(int(r), int(c), float(s))),
    ("rows:0.25", rf"rows:{_NUMBER}", lambda s: Rows(float(s))),
    ("slice:0.25", rf"slice:{_NUMBER}", lambda s: Slice(float(s))),
    ("act:0.9", rf"act:{_NUMBER}(?:@{_NUMBER})?", lambda s, c: Activation(float(s), float(c or 0))),
    ("attn-block64:0.9", rf"attn-block(\d+):{_NUMBER}", lambda b, s: AttentionBlock(int(b), float(s))),
    ("attn-token:0.9", rf"attn-token:{_NUMBER}", lambda s: AttentionToken(float(s))),
)
EXAMPLES = (*(example for example, _, _ in _FORMS), "mask:FILE")


@lru_cache(maxsize=4096)
def parse(text: str | Pattern) -> Pattern:
    """Read a pattern from its text form; `mask:FILE` measures a `.npy` or `.npz` mask.

    Raises
    ------
    InputError
        If it is none of the forms in `EXAMPLES`, or a number is out of range.
    """
    if isinstance(text, Pattern):
        return text
    cleaned = str(text).strip()
    if cleaned.startswith("mask:"):
        from simsparse.masks import measure_file

        return measure_file(cleaned.removeprefix("mask:"))
    for _, form, build in _FORMS if len(cleaned) <= _LONGEST_TEXT else ():
        match = re.fullmatch(form, cleaned.lower())
        if match:
            return build(*match.groups())
    raise InputError.expected("pattern", cleaned[:_LONGEST_TEXT], f"a form such as {', '.join(EXAMPLES)}")
