"""Quantiles of measured over predicted outside of the fit, and how many measurements lie between them.

With shapes left out the quantiles are of a family and regime, or of the family where a regime has few rows. With a card
left out there are two or three cards at most, each off in its own direction, so the bounds are as far on both sides:
the 80 % quantile of |log(measured / predicted)|, or that with shapes left out if it is larger. Families that were
predicted on fewer than three cards they were not fitted on have that of all families on the same units (tensor cores,
CUDA cores) if it is larger: one card says little about the next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from accel_models.gpu.evidence import SHAPE_GROUPS
from accel_models.gpu.fitting import FEWEST, spec_of
from accel_models.gpu.heldout import CUDA_CORES, Residuals, Scored
from accel_models.gpu.intervals import GENERATION, FamilyIntervals, Intervals, Regime
from accel_models.gpu.kernels.dense import WeightOnly
from accel_models.gpu.kernels.stream import Compress, Elementwise, Link
from accel_models.gpu.machine import PRODUCTS
from accel_models.gpu.search import rounded
from simsparse.intervals import IntervalColumn
from simsparse.plan import Floats

LEVEL = 0.8
ENOUGH = 80  # rows of a regime that stand for themselves: eight of them lie beyond a bound
# Kernels of the dense baseline itself, and those that a pattern leaves as they are: their speedup is 1.
EXACT = frozenset(
    kernel.name
    for kernel in (*PRODUCTS, Elementwise, Compress, Link)
    if kernel.patterns is None and not issubclass(kernel, WeightOnly)
)
# Cards whose errors say, with each of them left out, how far off a family is on the next one.
FEWEST_CARDS = 3
Bools = NDArray[np.bool_]
# Which rows of a block may be used.
Keep = Callable[[Scored], Bools]


def everything(each: Scored) -> Bools:
    """All rows of a block."""
    return np.ones(len(each.block), dtype=bool)


def fit_intervals(scored: Sequence[Scored], kernels: Sequence[str], keep: Keep = everything) -> Intervals:
    """Factors of every kernel, from residuals outside of the fit."""
    return Intervals(families={kernel: _family(kernel, scored, keep) for kernel in kernels})


def _family(kernel: str, scored: Sequence[Scored], keep: Keep) -> FamilyIntervals:
    mine = [each for each in scored if each.block.kernel == kernel]
    units = [each for each in scored if (each.block.kernel in CUDA_CORES) is (kernel in CUDA_CORES)]
    seen, other = np.ones((len(Regime), len(IntervalColumn))), np.ones(len(IntervalColumn))
    for what, low in (("latency", IntervalColumn.LATENCY_LOW), ("speedup", IntervalColumn.SPEEDUP_LOW)):
        if what == "speedup" and kernel in EXACT:
            continue
        inside = [_residuals(mine, "by_shape", what, keep, regime) for regime in Regime]
        together = np.concatenate(inside)
        away, all_away = (_residuals(blocks, "by_card", what, keep) for blocks in (mine, units))
        both = slice(low, low + 2)
        known = [away] if _cards(mine, what) >= FEWEST_CARDS else [away, all_away]
        width = max((_width(each) for each in (*known, together) if each.size >= FEWEST), default=0.0)
        other[both] = np.exp([-width, width])
        for regime in Regime:
            enough = inside[regime] if inside[regime].size >= ENOUGH else together
            seen[regime, both] = np.exp(bounds_of(enough)) if enough.size >= FEWEST else other[both]
    cards = {each.block.machine: generation(each.block.machine) for each in mine} if _count(mine) >= FEWEST else {}
    compute, memory, overhead = map(_factors, seen)
    return FamilyIntervals(cards=cards, seen=(compute, memory, overhead), other=_factors(other))


def _cards(blocks: Sequence[Scored], what: str) -> int:
    """Cards that were predicted without their own rows."""
    return len({each.block.machine for each in blocks if np.isfinite(getattr(each.by_card, what)).any()})


def _count(blocks: Sequence[Scored]) -> int:
    return sum(len(each.block) for each in blocks)


def _residuals(blocks: Sequence[Scored], part: str, what: str, keep: Keep, regime: int | None = None) -> Floats:
    """Those of a part (`by_shape`, `by_card`) that are known and may be used, of one regime or all."""
    found = [np.empty(0)]
    for each in blocks:
        values: Floats = getattr(getattr(each, part), what)
        chosen = keep(each) & np.isfinite(values)
        found.append(values[chosen if regime is None else chosen & (each.regime == regime)])
    return np.concatenate(found)


def bounds_of(residuals: Floats) -> Floats:
    """Quantiles with as many rows outside on either side, and the prediction between them.

    They are a little wider than of the rows themselves, which are a finite sample.
    """
    high = min(1.0, 0.5 * (1.0 + LEVEL) * (1.0 + 1.0 / residuals.size))
    return np.asarray(np.quantile(residuals, [1.0 - high, high])).clip([-np.inf, 0.0], [0.0, np.inf])


def _width(residuals: Floats) -> float:
    return (
        float(np.quantile(np.abs(residuals), min(1.0, LEVEL * (1.0 + 1.0 / residuals.size)))) if residuals.size else 0.0
    )


def _factors(row: Floats) -> tuple[float, float, float, float]:
    latency_low, latency_high, speedup_low, speedup_high = (rounded(value) for value in row.tolist())
    return latency_low, latency_high, speedup_low, speedup_high


def generation(machine: str) -> str:
    """Of a shipped card."""
    return GENERATION[spec_of(machine).compute_capability.value]


@dataclass(frozen=True)
class Coverage:
    """Which measurements lie in intervals made without them.

    Attributes
    ----------
    shapes, cards : dict of kernel to (n,) ndarray of bool
        With a group of shapes, or a card, left out.
    models : (n,) ndarray of bool
        Steps of models, with the model left out.
    """

    shapes: dict[str, Bools]
    cards: dict[str, Bools]
    models: Bools


def coverage(scored: Sequence[Scored], kernels: Sequence[str], models: Bools) -> Coverage:
    """Intervals of each fold from the residuals of the other folds, held against the rows of the fold."""
    shapes: dict[str, list[Bools]] = defaultdict(list)
    cards: dict[str, list[Bools]] = defaultdict(list)
    for group in range(SHAPE_GROUPS):
        found = fit_intervals(scored, kernels, partial(_not_in, group))
        for each in scored:
            factors = np.array(found.families[each.block.kernel].seen)[each.regime]
            shapes[each.block.kernel].append(_inside(each.by_shape, factors, each.block.group == group))
    for machine in sorted({each.block.machine for each in scored}):
        left = [each for each in scored if each.block.machine == machine]
        found = fit_intervals([each for each in scored if each.block.machine != machine], kernels)
        for each in left:
            factors = found.families[each.block.kernel].on(machine, generation(machine))[each.regime]
            cards[each.block.kernel].append(_inside(each.by_card, factors, everything(each)))
    together = [{name: np.concatenate(parts) for name, parts in all_of.items()} for all_of in (shapes, cards)]
    return Coverage(together[0], together[1], models)


def _not_in(group: int, each: Scored) -> Bools:
    return np.asarray(each.block.group != group)


def _inside(residuals: Residuals, factors: Floats, rows: Bools) -> Bools:
    """For latencies and speedups of `rows` that are known, whether they lie between the bounds."""
    found = []
    for values, low in (
        (residuals.latency, IntervalColumn.LATENCY_LOW),
        (residuals.speedup, IntervalColumn.SPEEDUP_LOW),
    ):
        known = rows & np.isfinite(values)
        off = np.exp(values[known])
        found.append((off >= factors[known, low]) & (off <= factors[known, low + 1]))
    return np.concatenate(found)
