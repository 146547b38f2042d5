"""What a lane of the reduction engine does: of every M weights keep the N largest, a weight a cycle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsparse.errors import InputError
from simsparse.plan import Floats, Ints


@dataclass(frozen=True)
class Reduced:
    """N:M groups.

    Attributes
    ----------
    values : (groups, n) ndarray
        Kept weights in the order of their places.
    places : (groups, n) ndarray of int
        Where in its group each stood.
    cycles : int
        Of lanes that take one weight a cycle.
    """

    values: Floats
    places: Ints
    cycles: int


def reduce_groups(weights: Floats, n: int, lanes: int) -> Reduced:
    """Top-N of each group with replace-smallest: a lane holds N weights, and a larger one takes the smallest's place.

    Parameters
    ----------
    weights : (groups, m) ndarray
    n : int
        From 1 to m. Of equal magnitudes the earlier stays.
    lanes : int
        Groups that are looked at side by side.

    Raises
    ------
    InputError
        For N outside 1 to M, or no lane.
    """
    groups, m = weights.shape
    if not 1 <= n <= m:
        raise InputError.expected("N of the reduction engine", n, f"from 1 to {m}")
    if lanes < 1:
        raise InputError.expected("lanes", lanes, "at least 1")
    held, places = weights[:, :n].copy(), np.tile(np.arange(n), (groups, 1))
    rows = np.arange(groups)
    for place in range(n, m):
        smallest = _smallest(np.abs(held), places)
        larger = np.abs(weights[:, place]) > np.abs(held[rows, smallest])
        held[rows[larger], smallest[larger]] = weights[larger, place]
        places[rows[larger], smallest[larger]] = place
    order = np.argsort(places, axis=1)
    return Reduced(
        np.take_along_axis(held, order, axis=1), np.take_along_axis(places, order, axis=1), -(-groups // lanes) * m
    )


def _smallest(magnitudes: Floats, places: Ints) -> NDArray[np.int64]:
    """Where each lane holds its smallest weight; of equal ones the latest."""
    least = magnitudes.min(axis=1, keepdims=True)
    found: NDArray[np.int64] = np.where(magnitudes == least, places, -1).argmax(axis=1)
    return found
