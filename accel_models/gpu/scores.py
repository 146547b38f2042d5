"""Errors of residuals, by family and pooled, and the lines that say them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from accel_models.gpu.heldout import CUDA_CORES, Residuals, Scored
from accel_models.gpu.interval_fit import Coverage
from simsparse.plan import Floats

MANY = 50  # rows of a family whose coverage is shown by itself
# What is asked of cards left out, median and 90th percentile: speedups on tensor cores, on CUDA cores, and latency.
ASKED = {"speedup, tensor cores": (0.12, 0.30), "speedup, CUDA cores": (0.30, 0.60), "latency": (0.18, 0.35)}


def errors(residuals: Iterable[Floats]) -> Floats:
    """|predicted / measured - 1| of residuals that are known."""
    every = np.concatenate([*residuals, np.empty(0)])
    return np.asarray(np.abs(np.expm1(-every[np.isfinite(every)])))


def median_and_p90(residuals: Iterable[Floats]) -> tuple[float, float] | None:
    """Of the absolute errors; None where no residual is known."""
    found = errors(residuals)
    return (float(np.median(found)), float(np.quantile(found, 0.9))) if found.size else None


def left_out_cards(scored: Sequence[Scored]) -> dict[str, tuple[float, float] | None]:
    """Errors of cards that were left out, pooled as in `ASKED`."""
    lanes = [each for each in scored if each.block.kernel in CUDA_CORES]
    tensor = [each for each in scored if each.block.kernel not in CUDA_CORES]
    return {
        "speedup, tensor cores": median_and_p90(each.by_card.speedup for each in tensor),
        "speedup, CUDA cores": median_and_p90(each.by_card.speedup for each in lanes),
        "latency": median_and_p90(each.by_card.latency for each in scored),
    }


PARTS: dict[str, Callable[[Scored], Residuals]] = {
    "in the fit": lambda each: each.inside,
    "shapes left out": lambda each: each.by_shape,
    "card left out": lambda each: each.by_card,
}


def lines(scored: Sequence[Scored]) -> Iterator[str]:
    """A line a family and card, then cards left out beside what is asked."""
    head = "".join(f"{name:>30}" for name in PARTS)
    yield f"{'median / 90th percentile':32}{'n':>5}{head}   (of latency; of speedup over dense)"
    for each in scored:
        cells = "".join(f"{_text(part(each)):>30}" for part in PARTS.values())
        yield f"{each.block.kernel:16}{each.block.machine[:15]:16}{len(each.block):5d}{cells}"
    for name, found in left_out_cards(scored).items():
        median, p90 = ASKED[name]
        yield f"card left out, {name:22}{_pair(found)}   (asked: {_pair((median, p90))})"


def _text(residuals: Residuals) -> str:
    return f"{_pair(median_and_p90([residuals.latency]))}; {_pair(median_and_p90([residuals.speedup]))}"


def _pair(found: tuple[float, float] | None) -> str:
    return "-" if found is None else f"{found[0]:.1%} / {found[1]:.1%}"


def coverage_lines(covered: Coverage) -> Iterator[str]:
    """How many measurements lie in the 80 % intervals of folds they are not in."""
    for name, parts in (("shapes", covered.shapes), ("cards", covered.cards)):
        every = np.concatenate(list(parts.values()))
        families = ", ".join(f"{kernel} {inside.mean():.0%}" for kernel, inside in parts.items() if inside.size >= MANY)
        yield f"in 80 % intervals, {name} left out: {every.mean():.1%} of {every.size}; {families}"
    yield f"in 80 % intervals, models left out: {covered.models.mean():.1%} of {covered.models.size} steps"
