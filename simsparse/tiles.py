"""The tiles of a plan, as an event simulation runs them: four nested loops a stage, and how loops are coarsened.

A call of the plan is one stage, or several that run one after the other (what must be made before it, then itself).

A tile is where it stands in each loop: at the first iteration, at one in the middle, or at the last. So 81 tiles say
what a call of any size loads, computes and stores, edges included.

Coarsening: a stage of more than `limit` tiles has iterations merged, from the outermost loop in. `q` iterations in the
middle of a loop become one whose tiles take `q` times as long and move `q` times as much; first and last iterations
stay, unless all of a loop are alike. Waiting times of a pipeline grow with the times of its stages, so that a steady
state is kept and only its ends err, each by about the largest merged tile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import product

import numpy as np
from numpy.typing import NDArray

from simsparse.errors import InputError
from simsparse.plan import Floats, Ints

LOOPS = 4
# What coarsening cannot go below: first, middle and last iteration of every loop.
FEWEST_TILES = 3**LOOPS


class Place(IntEnum):
    """Where an iteration stands in its loop. One alone is FIRST; of two there is no MIDDLE."""

    FIRST = 0
    MIDDLE = 1
    LAST = 2


@dataclass(frozen=True)
class TileWork:
    """What the tiles of n stages load, compute and store.

    Attributes
    ----------
    loops : (n, LOOPS) ndarray of int
        Iterations, outermost first. The innermost loop is the reduction: what it sums up leaves after its last one.
    load_bytes, compute_s : (n, 3, 3, 3, 3) ndarray
        Of the tile at each `Place` of the four loops.
    dependency_s, exchange_s : (n, 3, 3, 3, 3) ndarray
        How long the compute engine stands still in a tile: for a sum of the same output, for what shifts in or out.
    post_s, reduce_s, store_bytes : (n, 3, 3, 3) ndarray
        Work of the vector (or update) engine on a finished output, then of the reduction engine, and what is stored of
        it, at each place of the three outer loops.
    updates : (n,) ndarray of bool
        Whether `post_s` is of the update engine.
    fill_s : (n,) ndarray
        On the compute engine between the first load and the first tile.
    call : (n,) ndarray of int
        Row of the plan that a stage belongs to, ascending.
    clock_hz : float
        What logs count cycles by.
    bytes_per_s : float
        Of the one memory that loads and stores share.
    gap_s : float
        What every transfer takes besides, before its first byte.
    depth : int
        Buffers between two engines: 1 does not overlap, 2 is double buffering.

    Raises
    ------
    InputError
        For shapes that do not fit each other, loops below 1, negative work, no bandwidth, no buffer.
    """

    loops: Ints
    load_bytes: Floats
    compute_s: Floats
    dependency_s: Floats
    exchange_s: Floats
    post_s: Floats
    reduce_s: Floats
    store_bytes: Floats
    updates: NDArray[np.bool_]
    fill_s: Floats
    call: Ints
    clock_hz: float
    bytes_per_s: float
    gap_s: float
    depth: int

    def __post_init__(self) -> None:
        n = len(self.loops)
        for name, shape in _shapes(n).items():
            found = getattr(self, name)
            if found.shape != shape:
                raise InputError.expected(f"shape of {name}", found.shape, str(shape))
            # Not a number fails this too.
            if not bool(np.all(found >= (1 if name == "loops" else 0))):
                raise InputError.expected(name, float(found.min()), "at least 1" if name == "loops" else "at least 0")
        for name in ("clock_hz", "bytes_per_s"):
            if not getattr(self, name) > 0:
                raise InputError.expected(name, getattr(self, name), "more than 0")
        if not self.gap_s >= 0:
            raise InputError.expected("gap_s", self.gap_s, "at least 0")
        if self.depth < 1:
            raise InputError.expected("depth", self.depth, "at least 1")

    def __len__(self) -> int:
        return len(self.loops)


OF_TILES = ("load_bytes", "compute_s", "dependency_s", "exchange_s")
OF_OUTPUTS = ("post_s", "reduce_s", "store_bytes")


def _shapes(n: int) -> dict[str, tuple[int, ...]]:
    tiles, outputs = (n, *(3,) * LOOPS), (n, *(3,) * (LOOPS - 1))
    return {
        "loops": (n, LOOPS), **dict.fromkeys(OF_TILES, tiles), **dict.fromkeys(OF_OUTPUTS, outputs), "updates": (n,),
        "fill_s": (n,), "call": (n,),
    }  # fmt: skip


@dataclass(frozen=True)
class Tiles:
    """The tiles of one stage in order, merged where it was coarsened.

    Attributes
    ----------
    load_bytes, compute_s, dependency_s, exchange_s : list of t floats
    post_s, reduce_s, store_bytes : list of floats, one for each output
    merged : (t,) ndarray of int
        How many tiles each stands for.
    outputs : list of int
        How many outputs each of them stands for.
    steps : int
        Tiles of an output: every `steps`-th finishes one.
    """

    load_bytes: list[float]
    compute_s: list[float]
    dependency_s: list[float]
    exchange_s: list[float]
    post_s: list[float]
    reduce_s: list[float]
    store_bytes: list[float]
    merged: Ints
    outputs: list[int]
    steps: int


def entries(work: TileWork, stage: int, limit: int) -> tuple[int, ...]:
    """Iterations that each loop of a stage is simulated with: together at most `limit`, or the fewest there can be."""
    loops = [int(count) for count in work.loops[stage]]
    kept = list(loops)
    for axis in range(LOOPS):
        others = math.prod(kept[:axis] + kept[axis + 1 :])
        if others * kept[axis] <= limit:
            break
        least = 1 if _uniform(work, stage, axis) else min(3, loops[axis])
        kept[axis] = min(loops[axis], max(least, limit // others))
    return tuple(kept)


def tiles_of(work: TileWork, stage: int, limit: int) -> Tiles:
    """The tiles of a stage, coarsened to `limit`."""
    loops, kept = work.loops[stage], entries(work, stage, limit)
    split = [_iterations(int(n), to) for n, to in zip(loops, kept, strict=True)]
    places, weights = [place for place, _ in split], [weight for _, weight in split]
    merged = _outer(weights)
    outputs = _outer(weights[:-1])
    inner, outer = np.ix_(*places), np.ix_(*places[:-1])
    of_tiles = {name: (getattr(work, name)[stage][inner] * merged).ravel().tolist() for name in OF_TILES}
    of_outputs = {name: (getattr(work, name)[stage][outer] * outputs).ravel().tolist() for name in OF_OUTPUTS}
    return Tiles(
        **of_tiles, **of_outputs, merged=merged.ravel(), outputs=outputs.ravel().tolist(), steps=len(weights[-1])
    )


def _uniform(work: TileWork, stage: int, axis: int) -> bool:
    """Whether all iterations of a loop are alike, wherever the others stand."""
    used = [_used(int(count)) for count in work.loops[stage]]
    for array in (getattr(work, name)[stage] for name in (*OF_TILES, *(OF_OUTPUTS if axis < LOOPS - 1 else ()))):
        here = np.moveaxis(array[np.ix_(*used[: array.ndim])], axis, 0)
        if bool(np.any(here != here[:1])):
            return False
    return True


def _used(count: int) -> list[int]:
    """Places that the iterations of a loop have."""
    return [[0], [0], [0, 2]][count] if count < 3 else [0, 1, 2]


def _iterations(count: int, to: int) -> tuple[Ints, Ints]:
    """Places of at most `to` iterations that stand for `count`, and how many each stands for."""
    if to == count:
        places = np.full(count, Place.MIDDLE, dtype=np.int64)
        places[-1], places[0] = Place.LAST, Place.FIRST
        return places, np.ones(count, dtype=np.int64)
    if to < 3:  # all are alike
        shares = _shares(count, to)
        return np.zeros(len(shares), dtype=np.int64), np.array(shares, dtype=np.int64)
    shares = _shares(count - 2, to - 2)
    places = np.array([Place.FIRST, *(Place.MIDDLE,) * len(shares), Place.LAST], dtype=np.int64)
    return places, np.array([1, *shares, 1], dtype=np.int64)


def _shares(count: int, parts: int) -> list[int]:
    """`count` in at most `parts`: equal, since a small one before a large one hides less of its load; and a rest."""
    share = -(-count // parts)
    rest = count % share
    return [share] * (count // share) + [rest] * (rest > 0)


def _outer(weights: Sequence[Ints]) -> Ints:
    """Products of one weight from each list, shape (len(weights[0]), len(weights[1]), …)."""
    found = np.array([math.prod(int(w) for w in row) for row in product(*weights)], dtype=np.int64)
    return found.reshape([len(w) for w in weights])
