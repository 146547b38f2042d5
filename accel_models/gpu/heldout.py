"""Errors outside of what constants were fitted on: one group of shapes, or one card, left out at a time.

A card that is left out is predicted with the constants that any unknown card gets. Families without enough rows on
other cards cannot be fitted then: their residuals are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accel_models.gpu.evidence import SHAPE_GROUPS, Block
from accel_models.gpu.fitted import Constants
from accel_models.gpu.fitting import DENSE, FEWEST, card_of, dense_seconds, fit, predicted, refit
from accel_models.gpu.intervals import REGIME_OF_TERM
from accel_models.gpu.machine import PRODUCTS
from simsparse.plan import Floats, Ints

# Families on CUDA cores, which are asked less of than those on tensor cores.
CUDA_CORES = frozenset(kernel.name for kernel in PRODUCTS if kernel.units == "CUDA cores")


@dataclass(frozen=True)
class Residuals:
    """log(measured / predicted) of the rows of one block; NaN where there is none.

    Attributes
    ----------
    latency, speedup : (n,) ndarray
        A block of speedups has no latency; rows without a dense twin have no speedup.
    """

    latency: Floats
    speedup: Floats

    @classmethod
    def of(cls, block: Block, constants: Constants) -> Residuals:
        """With given constants."""
        none = np.full(len(block), np.nan)
        found = predicted(block, constants)
        if block.speedup:
            return cls(none, np.log(block.measured / found))
        speedup = np.log(block.dense_s / block.measured / (dense_seconds(block, constants) / found))
        return cls(np.log(block.measured / found), none if block.kernel in DENSE else speedup)

    @classmethod
    def none(cls, count: int) -> Residuals:
        """Of rows that cannot be predicted."""
        return cls(np.full(count, np.nan), np.full(count, np.nan))


@dataclass(frozen=True)
class Scored:
    """A block with its residuals in the fit, with its shapes left out, with its card left out, and its regimes."""

    block: Block
    inside: Residuals
    by_shape: Residuals
    by_card: Residuals
    regime: Ints


def score(blocks: Sequence[Block], constants: Constants) -> list[Scored]:
    """Residuals of all blocks; `constants` are those fitted on all of them."""
    by_shape = _shapes_left_out(blocks, constants)
    by_card = _cards_left_out(blocks, constants)
    return [
        Scored(block, Residuals.of(block, constants), shape, card, regimes(block, constants))
        for block, shape, card in zip(blocks, by_shape, by_card, strict=True)
    ]


def regimes(block: Block, constants: Constants) -> Ints:
    """What bounds each row, as predicted."""
    machine = card_of(block.machine).refitted(constants)
    return REGIME_OF_TERM[machine.price(machine.lower_problems(block.problem, kernel=block.kernel)).bound]


def _shapes_left_out(blocks: Sequence[Block], constants: Constants) -> list[Residuals]:
    found = [Residuals.none(len(block)) for block in blocks]
    for group in range(SHAPE_GROUPS):
        kept = [block.take(np.flatnonzero(block.group != group)) for block in blocks]
        trial = fit([block for block in kept if len(block)], constants)
        for block, residuals in zip(blocks, found, strict=True):
            left = np.flatnonzero(block.group == group)
            if left.size:
                outside = Residuals.of(block.take(left), trial)
                residuals.latency[left], residuals.speedup[left] = outside.latency, outside.speedup
    return found


def _cards_left_out(blocks: Sequence[Block], constants: Constants) -> list[Residuals]:
    found: dict[int, Residuals] = {}
    for machine in sorted({block.machine for block in blocks}):
        kept = [block for block in blocks if block.machine != machine]
        known = {block.kernel for block in kept if _rows(kept, block.kernel) >= FEWEST}
        here = [i for i, block in enumerate(blocks) if block.machine == machine]
        wanted = {blocks[i].kernel for i in here} & known
        trial = refit(kept, constants, wanted) if wanted else constants
        for i in here:
            block = blocks[i]
            found[i] = Residuals.of(block, trial) if block.kernel in wanted else Residuals.none(len(block))
    return [found[i] for i in range(len(blocks))]


def _rows(blocks: Sequence[Block], kernel: str) -> int:
    return sum(len(block) for block in blocks if block.kernel == kernel)
