"""Ways to write the extent of a dimension as a product of factors, exactly or with a little padding."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from simsparse.dataflow._arrays import Floats, Ints

MOST_SPLITS = 20_000  # of one extent; beyond, those that use little of the array are left out
SMOOTH = (2, 3, 5, 7)
WASTE = 0.125  # of an extent, that padding adds for more ways to split it
NEAR = 64  # the most that it adds


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


@lru_cache(maxsize=4096)
def padded_splits(extent: int, limits: tuple[float, ...]) -> tuple[Floats, Ints]:
    """Ways to split an extent or one that it is padded to, shape (k, ways), and what each multiplies to, (ways,)."""
    rooms = [int(limit) for limit in limits if math.isfinite(limit)]
    rooms = [*rooms, math.prod(rooms)] if len(rooms) > 1 else rooms
    parts = [split(total, limits) for total in paddings(extent, tuple(rooms))]
    ways = np.concatenate(parts, axis=1)
    return ways, np.prod(ways, axis=0).astype(np.int64)


def paddings(extent: int, rooms: tuple[int, ...]) -> tuple[int, ...]:
    """Extents worth padding to, the extent itself first.

    They fill instances along a dimension, evenly or wholly, or have more divisors than all that need less padding.
    """
    found = {extent}
    for room in rooms:
        rounds = -(-extent // room)
        found |= {rounds * -(-extent // rounds), _filling(extent, room)}
    if not (_smooth(extent) and extent >= NEAR):
        most = len(divisors(extent))
        for total in range(extent + 1, extent + max(extent > 2, min(NEAR, int(extent * WASTE))) + 1):
            if len(divisors(total)) > most:
                found.add(total)
                most = len(divisors(total))
    return tuple(sorted(found))


def _filling(extent: int, room: int) -> int:
    """The extent, or a little more that fills the instances along it and can be split further."""
    if extent <= room:
        return extent
    rounds = -(-extent // room)
    if extent % room == 0 and _smooth(rounds):
        return extent
    padded = next(n for n in itertools.count(rounds) if _smooth(n))
    return padded * room if padded * room <= extent * 1.1 or rounds * room == extent else rounds * room


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
