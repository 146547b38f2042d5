"""Ways to write the extent of a dimension as a product of factors, exactly or with a little padding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from simsparse.dataflow._arrays import Floats

MOST_SPLITS = 20_000  # of one extent; beyond, those that use little of the array are left out
SMOOTH = (2, 3, 5, 7)
WASTE = 0.125  # of an extent, that padding adds for more ways to split it
NEAR = 64  # the most that it adds
SHORT = 32  # extents of which all even cuts are tried


@lru_cache(maxsize=4096)
def split(extent: int, limits: tuple[float, ...]) -> Floats:
    """All ways to write an extent as a product of factors, one for each limit and at most that, shape (k, ways).

    One is the product of no factors.
    """
    last = len(limits) - 1
    if last < 0:
        return np.ones((0, int(extent == 1)))

    def ways(rest: int, at: int) -> Iterator[tuple[int, ...]]:
        if at == last:
            if rest <= limits[at]:
                yield (rest,)
            return
        for factor in divisors(rest):
            if factor > limits[at]:
                break
            for tail in ways(rest // factor, at + 1):
                yield (factor, *tail)

    found = np.array(list(ways(extent, 0)), np.float64).reshape(-1, len(limits))
    if len(found) > MOST_SPLITS:
        spread = np.prod(found[:, np.isfinite(limits)], axis=1)
        found = found[np.argsort(-spread, kind="stable")[:MOST_SPLITS]]
    return np.ascontiguousarray(found.T)


def paddings(extent: int, axes: tuple[int, ...], rooms: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Extents worth padding to, the extent itself first.

    They fill axes of instances, each alone or one inside the other, evenly or wholly, and can be split further.
    """
    found = set(_divisible(extent))
    whole = math.prod(axes)
    for chain in {(), *((room,) for room in (*axes, *rooms, whole)), axes, axes[::-1]}:
        spread, rounds = 1, extent
        for room in chain:
            factor = -(-rounds // -(-rounds // room))
            spread, rounds = spread * factor, -(-rounds // factor)
        found |= {spread * more for more in _divisible(rounds)}
    for room in (*axes, whole):
        rounds = -(-extent // room)
        if room < extent and (extent % room or not _smooth(rounds)):
            padded = next(n for n in itertools.count(rounds) if _smooth(n))
            found.add((padded if padded * room <= extent * 1.1 else rounds) * room)
    return tuple(sorted(found))


def _divisible(extent: int) -> tuple[int, ...]:
    """The extent, and larger ones: of a short one all that cut it evenly, else those with more divisors.

    A multiple of 64 can be cut finely enough as it is.
    """
    if extent <= SHORT:
        cuts = {pieces * -(-extent // pieces) for pieces in range(1, extent + 1)}
        return tuple(sorted(total for total in cuts if 3 * total <= 4 * extent))
    found, most = [extent], len(divisors(extent))
    for total in range(extent + 1, extent + min(NEAR, int(extent * WASTE)) + 1) if extent % 64 else ():
        if len(divisors(total)) > most:
            found.append(total)
            most = len(divisors(total))
    return tuple(found)


@lru_cache(maxsize=65536)
def divisors(number: int) -> tuple[int, ...]:
    """All divisors, ascending."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return (*small, *(number // d for d in reversed(small) if d * d != number))


@lru_cache(maxsize=65536)
def _smooth(number: int) -> bool:
    for prime in SMOOTH:
        while number % prime == 0:
            number //= prime
    return number < 64
