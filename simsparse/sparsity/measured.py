"""What was measured of a real mask, as a pattern."""

from __future__ import annotations

from dataclasses import dataclass

from simsparse.errors import InputError
from simsparse.sparsity.codes import HELD_NM, MEASURED_TILES, PatternColumn, PatternKind
from simsparse.sparsity.patterns import NM, Pattern, check_fraction, with_columns


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
        check_fraction("measured mask", self.kept)
        if len(self.occupied) != len(MEASURED_TILES):
            raise InputError.expected("occupied", self.occupied, f"{len(MEASURED_TILES)} fractions")

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`."""
        bits = sum(1 << i for i, nm in enumerate(HELD_NM) if nm in self.holds)
        head = with_columns(Pattern.columns(self), ROW_CV=self.row_cv, HOLDS=bits)
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
