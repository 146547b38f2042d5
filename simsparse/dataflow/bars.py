"""Bars for the terminal and how long bars of comparisons get."""

from __future__ import annotations

from collections.abc import Sequence

# A dataflow that does not suit a design takes tens of times as long; its bars would hide all others.
CUT = 2.0
_EIGHTHS = " ▏▎▍▌▋▊▉"


def shown_most(costs: Sequence[Sequence[float]]) -> float:
    """Where bars are cut: twice the worst of the best of each group, or the longest bar if that is shorter."""
    best = [min(group) for group in costs if group]
    return min(CUT * max(best), max(max(group) for group in costs if group)) if best else 1.0


def bar(value: float, top: float, width: int) -> str:
    """A bar of at most `width` characters, which stand for `top`; a longer one ends in an arrow."""
    if value > top * (1.0 + 1e-9):
        return "█" * (width - 1) + "▸"
    eighths = round(8 * width * value / top) if top > 0 else 0
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()
