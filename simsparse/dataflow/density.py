"""Densities: how many words of a tile are nonzero, and how often a tile is empty.

Statistics are of aligned tiles: `UniformRandom` is hypergeometric over its blocks, `FixedStructured` spreads evenly
(N:M), `ActualData` counts a real mask, `Banded` is the mask of a band.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from simsparse.dataflow._arrays import NEVER, DensityKind, Floats
from simsparse.dataflow.rounding import Rounding
from simsparse.errors import InputError, UnsupportedError
from simsparse.sparsity import (
    HELD_NM,
    MEASURED_TILES,
    Pattern,
    PatternColumn,
    PatternKind,
)

Mask = NDArray[np.bool_]


_SHARED = (PatternKind.VNM, PatternKind.NMV)  # N:M that several outputs share
_TALL = (*_SHARED, PatternKind.VECTOR, PatternKind.BLOCK)


@dataclass(frozen=True)
class Density:
    """Base: nothing is zero."""

    kind: ClassVar[DensityKind] = DensityKind.DENSE
    label: ClassVar[str] = "dense"

    @property
    def mean(self) -> float:
        """Fraction nonzero."""
        return 1.0

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Refuse what does not fit a tensor's shape."""

    def mask_of(self, shape: tuple[int, ...]) -> Mask | None:
        """The mask, where there is a certain one."""
        return None

    def padded(self, shape: tuple[int, ...], to: tuple[int, ...]) -> Density:
        """The density of the tensor with zeros around it; a dense tensor is stored with its padding."""
        return self


DENSE = Density()


def _check_fraction(what: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise InputError.expected(what, value, "a fraction from 0 to 1")


@dataclass(frozen=True)
class FixedStructured(Density):
    """Nonzeros spread evenly: of n words, ⌊n·d⌋ or ⌈n·d⌉ are nonzero."""

    density: float
    kind = DensityKind.STRUCTURED
    label = "fixed-structured"

    def __post_init__(self) -> None:
        _check_fraction("density", self.density)

    @property
    def mean(self) -> float:
        """Fraction nonzero."""
        return self.density

    def padded(self, shape: tuple[int, ...], to: tuple[int, ...]) -> Density:
        """As many nonzeros in a larger tensor."""
        return replace(self, density=self.density * math.prod(shape) / math.prod(to))


@dataclass(frozen=True)
class UniformRandom(Density):
    """A certain number of blocks is nonzero, at random places: tiles are hypergeometric.

    `block` gives extents along the axes; empty stands for single words.
    """

    density: float
    block: tuple[int, ...] = ()
    kind = DensityKind.RANDOM
    label = "hypergeometric"

    def __post_init__(self) -> None:
        _check_fraction("density", self.density)
        if any(extent < 1 for extent in self.block):
            raise InputError.expected("block of a random density", self.block, "extents of at least 1")

    @property
    def mean(self) -> float:
        """Fraction nonzero."""
        return self.density

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """A block has as many axes as the tensor."""
        if self.block and len(self.block) != len(shape):
            raise InputError.expected(f"block of tensor {name}", self.block, f"{len(shape)} extents")

    def padded(self, shape: tuple[int, ...], to: tuple[int, ...]) -> Density:
        """As many nonzeros in a larger tensor."""
        return replace(self, density=self.density * math.prod(shape) / math.prod(to))

    def granule(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Extents of what is zero or not as a whole."""
        return self.block or (1,) * len(shape)

    def nonzero_of(self, units: float, rounding: Rounding) -> float:
        """Granules that are nonzero, of `units`."""
        wanted = self.density * units
        return float(math.ceil(wanted - 1e-9)) if rounding is Rounding.SPARSELOOP else wanted


@dataclass(frozen=True, eq=False)
class ActualData(Density):
    """A real mask, True where nonzero, of the tensor's shape."""

    mask: Mask = field(repr=False)
    kind = DensityKind.ASKED
    label = "real-data"

    @cached_property
    def _mean(self) -> float:
        return float(np.count_nonzero(self.mask)) / self.mask.size

    @property
    def mean(self) -> float:
        """Fraction nonzero."""
        return self._mean

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """The mask has the tensor's shape."""
        if self.mask.shape != shape:
            raise InputError.expected(f"shape of the mask of tensor {name}", self.mask.shape, f"{shape}")

    def mask_of(self, shape: tuple[int, ...]) -> Mask | None:
        """Itself."""
        return self.mask

    def padded(self, shape: tuple[int, ...], to: tuple[int, ...]) -> Density:
        """The mask with zeros after it."""
        return ActualData(np.pad(self.mask, [(0, end - extent) for extent, end in zip(shape, to, strict=True)]))


@dataclass(frozen=True)
class Banded(Density):
    """Nonzero where |i·columns − j·rows| ≤ half_width·max(rows, columns), of the last two axes."""

    half_width: int
    shape: tuple[int, ...]
    kind = DensityKind.ASKED
    label = "banded"

    def __post_init__(self) -> None:
        if len(self.shape) < 2 or self.half_width < 0:
            raise InputError.expected("band", (self.half_width, self.shape), "two axes and a half width of 0 or more")

    @cached_property
    def mask(self) -> Mask:
        """The mask of the band."""
        rows, columns = self.shape[-2:]
        along, across = np.ogrid[:rows, :columns]
        band = np.abs(along * columns - across * rows) <= self.half_width * max(rows, columns)
        return np.broadcast_to(band, self.shape)

    @property
    def mean(self) -> float:
        """Fraction nonzero."""
        return float(np.count_nonzero(self.mask)) / self.mask.size

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """The band was made for the tensor's shape."""
        if self.shape != shape:
            raise InputError.expected(f"shape of the band of tensor {name}", self.shape, f"{shape}")

    def mask_of(self, shape: tuple[int, ...]) -> Mask | None:
        """The band."""
        return self.mask

    def padded(self, shape: tuple[int, ...], to: tuple[int, ...]) -> Density:
        """The band with zeros after it."""
        return ActualData(self.mask).padded(shape, to)


def of_pattern(pattern: Pattern, rank: int, lead: int) -> Density:
    """The density of a pattern, see `of_columns`.

    Raises
    ------
    UnsupportedError
        For a pattern that says nothing about the tiles of one tensor (activation, attention, rows, slices).
    """
    density = of_columns(np.array(pattern.columns()), rank, lead)
    if density is None:
        raise UnsupportedError(
            f"pattern {pattern.text!r} has no density model in dataflow, expected one of single tensors"
        )
    return density


def of_columns(pattern: Floats, rank: int, lead: int) -> Density | None:
    """The density of a tensor with `rank` axes, from the columns of its pattern; None where there is no model of it.

    Parameters
    ----------
    pattern : (len(PatternColumn),) ndarray
    rank : int
    lead : int
        Axes of batches; outputs and reduction, over which blocks lie, are the two after them. What follows is reduced
        as well: the taps of a convolution.
    """
    kind, kept = PatternKind(int(pattern[PatternColumn.KIND])), float(pattern[PatternColumn.DENSITY])
    block = int(pattern[PatternColumn.HEIGHT]), int(pattern[PatternColumn.WIDTH])
    if kind is PatternKind.DENSE:
        return DENSE
    if kind is PatternKind.NM or (kind in _SHARED and block[0] == 1):
        return FixedStructured(kept)
    if kind is PatternKind.MEASURED:
        if _spread_evenly(pattern):
            return FixedStructured(kept)
        block = _nearest_block(pattern) if rank >= lead + 2 else (1, 1)
    elif kind not in (PatternKind.UNSTRUCTURED, *_TALL) or (block != (1, 1) and rank < lead + 2):
        return None
    if block == (1, 1):
        return UniformRandom(kept)
    return UniformRandom(kept, (*([1] * lead), *block, *([1] * (rank - lead - 2))))


def _spread_evenly(pattern: Floats) -> bool:
    """Whether an N:M of measured weights holds that their density meets."""
    kept, holds = float(pattern[PatternColumn.DENSITY]), int(pattern[PatternColumn.HOLDS])
    return any(holds >> bit & 1 and abs(kept - n / m) < 1e-9 for bit, (n, m) in enumerate(HELD_NM))


def _nearest_block(pattern: Floats) -> tuple[int, int]:
    """Of single words and the measured tiles, the block whose fractions of nonempty tiles come nearest to measured."""
    kept = float(pattern[PatternColumn.DENSITY])
    filled = pattern[PatternColumn.OCCUPIED_0 :][: len(MEASURED_TILES)]
    if not 0.0 < kept < 1.0 or np.any(filled < 0.0):
        return 1, 1

    def error(block: tuple[int, int]) -> float:
        touched = [-(-tall // block[0]) * -(-wide // block[1]) for tall, wide in MEASURED_TILES]
        return float(np.square(1.0 - (1.0 - kept) ** np.array(touched) - filled).sum())

    return min(((1, 1), *MEASURED_TILES), key=error)


def empty_table(units: float, nonzero: float) -> Floats:
    """P(no nonzero among k of `units` granules) for k = 0, 1, … until it stays below `NEVER`.

    Each granule drawn finds a zero with (zeros left) / (granules left).
    """
    if nonzero <= 0.0:
        return np.ones(int(units) + 1)
    most = int(min(units - nonzero, 64.0 * units / nonzero + 64.0))
    drawn = np.arange(max(0, most), dtype=np.float64)
    table = np.concatenate(([1.0], np.cumprod((units - nonzero - drawn) / (units - drawn))))
    return table[: int(np.count_nonzero(table >= NEVER))]
