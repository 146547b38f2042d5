"""The ways to split one dimension over its loops: what their factors multiply to, and which are near which."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from simsparse.dataflow._arrays import Floats, Ints
from simsparse.dataflow.splits import paddings, split


@dataclass(frozen=True, eq=False)
class Near:
    """Ways that differ from one in at most two loops: itself, a factor moved between loops, other totals.

    Attributes
    ----------
    alike : ndarray
        Those with the same total.
    padded : tuple of ndarray
        The others, by total.
    """

    alike: Ints
    padded: tuple[Ints, ...]

    @cached_property
    def all(self) -> Ints:
        """All of them."""
        return np.concatenate([self.alike, *self.padded])


@dataclass(frozen=True, eq=False)
class Ways:
    """Ways to split a dimension.

    Attributes
    ----------
    factors : (k, n) ndarray
        Of its k loops under each of n ways.
    totals : (n,) ndarray
        What they multiply to: the extent, or more.
    """

    factors: Floats
    totals: Ints
    _near: dict[int, Near] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.totals)

    @cached_property
    def which(self) -> Ints:
        """Number of the total of each way, in ascending order of totals."""
        return np.unique(self.totals, return_inverse=True)[1]

    @cached_property
    def by_total(self) -> tuple[Ints, ...]:
        """The ways of each total, in ascending order of totals."""
        return tuple(np.flatnonzero(self.which == number) for number in range(int(self.which.max()) + 1))

    def near(self, way: int) -> Near:
        """The ways near one; found once, since searches of other densities and dataflows ask again."""
        if way not in self._near:
            moves = np.flatnonzero((self.factors != self.factors[:, [way]]).sum(axis=0) <= 2)
            numbers, own = self.which[moves], self.which[way]
            others = [moves[numbers == number] for number in np.unique(numbers[numbers != own])]
            self._near[way] = Near(moves[numbers == own], tuple(others))
        return self._near[way]


@lru_cache(maxsize=1024)
def exact_ways(extent: int, limits: tuple[float, ...]) -> Ways:
    """Ways to split an extent over loops whose factors have limits."""
    factors = split(extent, limits)
    return Ways(factors, np.full(factors.shape[1], extent))


@lru_cache(maxsize=1024)
def padded_ways(extent: int, limits: tuple[float, ...], rooms: tuple[int, ...]) -> Ways:
    """Ways to split an extent or one that it is padded to.

    `rooms` are numbers of instances that the dimension may be spread over, beside those of the limits.
    """
    axes = tuple(int(limit) for limit in limits if math.isfinite(limit))
    factors = np.concatenate([split(total, limits) for total in paddings(extent, axes, rooms)], axis=1)
    return Ways(factors, np.prod(factors, axis=0).astype(np.int64))
