"""Answers to the questions of the compiled code: statistics of masks over tiles, joint ones, occupancies in lanes."""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simsparse.dataflow._arrays import Floats, Ints, Question
from simsparse.dataflow.density import Density, FixedStructured, Mask, UniformRandom
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.rounding import Rounding

Numbers = NDArray[np.int64]
SPREAD = 12.0  # deviations, beyond which less than 1e-30 of the tiles lie


class Answers:
    """Answers about one problem, each computed when it is asked for the first time."""

    def __init__(self, problem: Problem, rounding: Rounding) -> None:
        self._problem = problem
        self._rounding = rounding
        self._extents = np.ones(problem.width, np.int64)
        self._extents[: len(problem.dims)] = [extent for _, extent in problem.dims]
        self._masks: dict[int, Mask] = {}
        self._sums: dict[int, Numbers] = {}
        for t, tensor in enumerate(problem.tensors):
            mask = tensor.density.mask_of(problem.shape(tensor.name))
            if mask is not None:
                self._masks[t] = mask
        self.keys: Ints = np.zeros((0, 4 + problem.width), np.int64)
        self.values: Floats = np.zeros((0, 3))

    def add(self, missing: Ints) -> None:
        """Answer new questions."""
        rows = np.unique(missing, axis=0)
        self.keys = np.concatenate([self.keys, rows])
        self.values = np.concatenate([self.values, [self._answer(row) for row in rows]])

    def met(self, t: int) -> float:
        """Fraction of the operations whose word of a tensor is nonzero; a halo's words meet several."""
        tensor = self._problem.tensors[t]
        if t not in self._masks or all(len(axis) == 1 and axis[0][1] == 1 for axis in tensor.axes):
            return tensor.density.mean
        return float(self._tile_counts(t, np.ones(self._problem.width, np.int64)).mean())

    def _answer(self, key: Ints) -> tuple[float, float, float]:
        question, t, others, flag = (int(value) for value in key[:4])
        box = key[4:]
        if question == Question.OCCUPANCY:
            counts = self._tile_counts(t, box)
            return float(np.mean(counts == 0)), float(counts.max()), float(counts.mean())
        if question == Question.LANES:
            return _lanes(*self._distribution(t, box), others)
        if question == Question.LIVE:
            return self._live(t, others, flag != 0, box), 0.0, 0.0
        return self._live(None, others, False, box), 0.0, 0.0

    def _tile_counts(self, t: int, box: Ints) -> Numbers:
        """Nonzeros of the aligned tiles of a tensor, with one axis for each dimension."""
        tensor = self._problem.tensors[t]
        if t not in self._sums:
            sums = np.pad(self._masks[t].astype(np.int64), [(1, 0)] * len(tensor.axes))
            for axis in range(sums.ndim):
                sums = sums.cumsum(axis=axis)
            self._sums[t] = sums
        names = self._problem.dim_names
        counts: Numbers = self._sums[t]
        order: list[int] = []
        for terms in tensor.axes:
            starts = np.zeros((1,) * len(terms), np.int64)
            extent = 1
            for k, (dim, coefficient) in enumerate(terms):
                d = names.index(dim)
                places = np.arange(self._extents[d] // box[d]) * box[d] * coefficient
                starts = starts + places.reshape([-1 if j == k else 1 for j in range(len(terms))])
                extent += coefficient * (int(box[d]) - 1)
                order.append(d)
            at = len(order) - len(terms)
            counts = counts.take(starts + extent, axis=at) - counts.take(starts, axis=at)
        shaped = counts.transpose(np.argsort(order))
        full = [1] * len(self._extents)
        for d, size in zip(sorted(order), shaped.shape, strict=True):
            full[d] = size
        return shaped.reshape(full)

    def _distribution(self, t: int, box: Ints) -> tuple[Floats, Floats]:
        """Occupancies of a tile, and their probabilities."""
        tensor = self._problem.tensors[t]
        density = tensor.density
        if t in self._masks:
            counts, times = np.unique(self._tile_counts(t, box), return_counts=True)
            return counts.astype(np.float64), times / times.sum()
        words = math.prod(
            1 + sum(c * (int(box[self._problem.dim_names.index(dim)]) - 1) for dim, c in axis) for axis in tensor.axes
        )
        return occupancies(density, self._problem.shape(tensor.name), words, self._rounding)

    def _live(self, target: int | None, others: int, nonzero_only: bool, part: Ints) -> float:
        """Fraction of accesses to the target (of operations, if None) that meet a nonzero in each of `others`."""
        factors: list[Floats] = []
        certain = 1.0
        for c in range(len(self._problem.tensors)):
            if not others >> c & 1:
                continue
            if c in self._masks:
                factors.append((self._tile_counts(c, part) > 0).astype(np.float64))
            else:
                words, odds = self._distribution(c, part)
                certain *= 1.0 - float(odds[words == 0].sum())
        weight = np.ones([1] * len(part))
        if target is not None and nonzero_only and target in self._masks:
            weight = self._tile_counts(target, part).astype(np.float64)
        steps = self._extents // part
        met = _sum_of_product([weight, *factors], steps)
        return certain * met / _sum_of_product([weight], steps) if met > 0.0 else 0.0


def _sum_of_product(factors: Sequence[Floats], steps: Ints) -> float:
    """Sum over all steps of the product of factors; an axis of length 1 is repeated."""
    spread = 1.0
    for d, step in enumerate(steps):
        if all(factor.shape[d] == 1 for factor in factors):
            spread *= float(step)
    letters = string.ascii_letters[: len(steps)]
    axes = ("".join(itertools.compress(letters, (size > 1 for size in factor.shape))) for factor in factors)
    operands = [factor.squeeze() for factor in factors]
    return spread * float(np.einsum(f"{','.join(axes)}->", *operands, optimize="greedy"))


def occupancies(density: Density, shape: tuple[int, ...], words: int, rounding: Rounding) -> tuple[Floats, Floats]:
    """Possible numbers of nonzeros in a tile of `words`, and their probabilities."""
    if isinstance(density, FixedStructured):
        mean = words * density.density
        low = math.floor(mean + 1e-9)
        share = max(0.0, mean - low)
        return np.array([low, low + 1.0]), np.array([1.0 - share, share])
    if not isinstance(density, UniformRandom):
        return np.array([float(words)]), np.ones(1)
    granule = density.granule(shape)
    size = math.prod(granule)
    units = math.prod(-(-extent // g) for extent, g in zip(shape, granule, strict=True))
    drawn = min(units, -(-words // size))  # what a tile has beyond the tensor is padding
    nonzero = density.nonzero_of(units, rounding)
    granules, odds = hypergeometric(units, nonzero, drawn)
    return size * granules, odds


def hypergeometric(units: float, nonzero: float, drawn: int) -> tuple[Floats, Floats]:
    """Numbers of nonzeros among `drawn` of `units`, and their probabilities; `nonzero` need not be whole.

    Numbers farther than `SPREAD` deviations from the mean are left out.
    """
    low, high = max(0, math.ceil(drawn - (units - nonzero) - 1e-9)), min(drawn, math.floor(nonzero + 1e-9))
    if low > high:  # all of the tensor is drawn: its nonzeros, or the whole numbers beside them
        return np.array([high, low], np.float64), np.array([low - nonzero, nonzero - high])
    mean = drawn * nonzero / units
    reach = SPREAD * (1.0 + math.sqrt(mean * (1.0 - nonzero / units)))
    low, high = max(low, math.floor(mean - reach)), min(high, math.ceil(mean + reach))
    k = np.arange(low, high, dtype=np.float64)
    # Each step from k to k + 1 turns one zero that was drawn into a nonzero.
    steps = np.log((nonzero - k) * (drawn - k)) - np.log((k + 1.0) * (units - nonzero - drawn + k + 1.0))
    likely = np.concatenate(([0.0], np.cumsum(steps)))
    odds = np.exp(likely - likely.max())
    return np.arange(low, high + 1.0), odds / odds.sum()


def _lanes(words: Floats, odds: Floats, lanes: int) -> tuple[float, float, float]:
    """Mean rounds of a tile (of nonempty ones, of all) and mean busy lanes, where `lanes` work side by side."""
    rounds = np.ceil(words / lanes)
    busy = np.divide(words, rounds, out=np.zeros_like(words), where=rounds > 0)
    mean = float(odds @ rounds)
    nonempty = float(odds[words > 0].sum())
    return (mean / nonempty if nonempty > 0.0 else 0.0), mean, float(odds @ busy)
