"""Patterns of stored weights, and how they relate; the base of all patterns."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from simsparse.errors import InputError
from simsparse.sparsity.codes import MEASURED_TILES, PatternColumn, PatternKind


@dataclass(frozen=True, slots=True)
class Pattern(ABC):
    """Base of all patterns."""

    @property
    @abstractmethod
    def kind(self) -> PatternKind:
        """Its code."""

    @property
    @abstractmethod
    def density(self) -> float:
        """Fraction kept."""

    @property
    def sparsity(self) -> float:
        """Fraction zero."""
        return 1.0 - self.density

    @property
    @abstractmethod
    def text(self) -> str:
        """The text form that `parse` reads back."""

    def columns(self) -> tuple[float, ...]:
        """Its numbers, in the order of `PatternColumn`."""
        return (float(self.kind), self.density, 0.0, 0.0, 1.0, 1.0, -1.0, 0.0, *([-1.0] * len(MEASURED_TILES)))

    def implies(self, other: Pattern) -> bool:
        """Whether every mask of this pattern is also a mask of `other` (1:4 implies 2:4; 4:8 does not)."""
        if isinstance(other, Dense) or self == other:
            return True
        return isinstance(other, Unstructured) and self.density <= other.density + 1e-12

    @abstractmethod
    def transposed(self) -> Pattern:
        """The pattern of the transposed matrix."""

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


def check_fraction(what: str, value: float) -> None:
    """Raise InputError unless a sparsity lies in [0, 1]."""
    if not (0.0 <= value <= 1.0) or math.isnan(value):
        raise InputError.expected(f"sparsity of {what}", value, "a fraction from 0 to 1")


MAX_SIZE = 2**20


def check_sizes(what: str, **sizes: int) -> None:
    """Raise InputError unless each size lies from 1 to `MAX_SIZE`."""
    for label, size in sizes.items():
        if size < 1:
            raise InputError.expected(f"{label} of {what}", size, "at least 1")
        if size > MAX_SIZE:
            raise InputError.expected(f"{label} of {what}", size, f"at most {MAX_SIZE:,}")


def with_columns(base: tuple[float, ...], **changes: float) -> tuple[float, ...]:
    """Columns with some replaced, by their names in `PatternColumn`."""
    values = list(base)
    for name, value in changes.items():
        values[PatternColumn[name]] = float(value)
    return tuple(values)


@dataclass(frozen=True, slots=True)
class NM(Pattern):
    """N kept of every M along the reduction."""

    n: int
    m: int

    kind = property(lambda self: PatternKind.NM)
    density = property(lambda self: self.n / self.m)
    text = property(lambda self: f"{self.n}:{self.m}")

    def __post_init__(self) -> None:
        check_sizes("N:M", M=self.m)
        if not 0 <= self.n <= self.m:
            raise InputError.expected("pattern", f"{self.n}:{self.m}", "N from 0 to M in N:M")

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`."""
        return with_columns(Pattern.columns(self), N=self.n, M=self.m)

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
        check_sizes("V:N:M", V=self.v, M=self.m)
        if self.m < 4 or not 0 <= self.n <= 4:
            raise InputError.expected("pattern", self.text, "M of at least 4 and N from 0 to 4 in V:N:M")

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`."""
        return with_columns(Pattern.columns(self), N=self.n, M=self.m, HEIGHT=self.v)

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
        check_sizes("N:M by L", L=self.v)
        NM(self.n, self.m)

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`."""
        return with_columns(Pattern.columns(self), N=self.n, M=self.m, HEIGHT=self.v)

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
        check_sizes("vector", length=self.v)
        check_fraction("vector", self.zero)

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`."""
        return with_columns(Pattern.columns(self), HEIGHT=self.v)

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
        check_sizes("block", rows=self.rows, columns=self.cols)
        check_fraction("block", self.zero)

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`."""
        return with_columns(Pattern.columns(self), HEIGHT=self.rows, WIDTH=self.cols)

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
        check_fraction("unstructured", self.zero)

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
        check_fraction("rows", self.zero)

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
        check_fraction("slice", self.zero)

    def transposed(self) -> Pattern:
        """Whole rows."""
        return Rows(self.zero)
