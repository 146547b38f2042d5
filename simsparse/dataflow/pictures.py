"""Pictures of searches: what each dataflow takes at each pattern, and the front of latency and energy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from simsparse._canvas import BESIDE, COLOURS, MARKERS, MOST, canvas, done, grouped_bars, new
from simsparse.dataflow.bars import shown_most
from simsparse.dataflow.comparison import Choice
from simsparse.dataflow.search import Found
from simsparse.errors import InputError
from simsparse.render import si

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIE = 1e-3  # costs that a picture does not tell apart


def dataflow_bars(choices: Sequence[Choice], title: str, path: str | Path | None = None) -> Figure:
    """Latency and energy by pattern, a bar for each dataflow; bars that are cut say their figure, stars mark the best.

    Raises
    ------
    InputError
        For more than `MOST` dataflows.
    """
    patterns, flows = (
        list(dict.fromkeys(names)) for names in zip(*((c.pattern, c.dataflow) for c in choices), strict=True)
    )
    if len(flows) > MOST:
        raise InputError.expected("dataflows", len(flows), f"at most {MOST} in one picture")
    group = max(0.2 + 0.22 * len(flows), 0.3 + 0.085 * max(map(len, patterns)))  # bars, and room for their name
    figure = new(max(6.4, 2.4 + group * len(patterns)), 5.0)
    upper, lower = figure.subplots(2, 1, sharex=True)
    for ax, label, unit, of in (
        (upper, "latency", "s", lambda choice: choice.latency_s),
        (lower, "energy", "J", lambda choice: choice.energy_j),
    ):
        _bars(ax, choices, patterns, flows, of, unit)
        ax.set_ylabel(label)
    upper.set_title(title, fontsize=10)
    upper.legend(**BESIDE)
    lower.set_xticks(range(len(patterns)), patterns, fontsize=9)
    return done(figure, path)


def _bars(
    ax: Axes,
    choices: Sequence[Choice],
    patterns: Sequence[str],
    flows: Sequence[str],
    of: Callable[[Choice], float | None],
    unit: str,
) -> None:
    groups = [[cost for c in choices if c.pattern == name and (cost := of(c)) is not None] for name in patterns]
    top, cost_of = shown_most(groups), {(c.pattern, c.dataflow): of(c) for c in choices}
    costs = [[cost_of.get((pattern, flow)) for flow in flows] for pattern in patterns]
    heights = np.array([[min(cost or 0.0, top) for cost in line] for line in costs])
    for places, line, group in zip(grouped_bars(ax, heights, flows), costs, groups, strict=True):
        for place, cost in zip(places, line, strict=True):
            if cost is None:
                ax.annotate("does not fit", (place, 0.0), **_TEXT, rotation=90, va="bottom", color="grey")
            elif cost > top:
                ax.annotate(si(cost, unit), (place, top), **_TEXT, rotation=90, va="top", bbox=_PATCH)
            elif cost <= min(group) * (1.0 + TIE):
                ax.annotate("★", (place, cost), **_TEXT, va="bottom")
    ax.set_ylim(0, top * 1.08)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value, unit)))
    ax.tick_params(axis="y", labelsize=8)


_TEXT: dict[str, Any] = {
    "xytext": (0, 0), "textcoords": "offset points", "ha": "center", "fontsize": 7, "zorder": 4,
}  # fmt: skip
_PATCH = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.9}


def pareto_front(
    found: Found, clock_hz: float, title: str, ax: Axes | None = None, path: str | Path | None = None
) -> Figure:
    """Mappings that none beats in both latency and energy, by the dataflow they follow, and the one that was taken."""
    figure, ax = canvas(ax, 6.4, 3.8)
    points = [(point.cycles / clock_hz, point.energy_j, point.dataflow) for point in found.pareto]
    steps = [x for x, *_ in points], [y for _, y, _ in points]
    ax.step(*steps, where="post", color="grey", linewidth=0.8, zorder=1)
    for index, flow in enumerate(dict.fromkeys(flow for *_, flow in points)):
        own = [(x, y) for x, y, name in points if name == flow]
        ax.scatter(
            [x for x, _ in own], [y for _, y in own], s=22, color=COLOURS[index % MOST], marker=MARKERS[index % MOST],
            label=flow, zorder=2,
        )  # fmt: skip
    ax.scatter(
        found.best.cycles / clock_hz, found.best.energy_j, s=130, facecolor="none", edgecolor="black", label="taken",
        zorder=3,
    )  # fmt: skip
    for axis, unit in ((ax.xaxis, "s"), (ax.yaxis, "J")):
        axis.set_major_formatter(FuncFormatter(lambda value, _, unit=unit: si(value, unit, 4)))
        axis.set_tick_params(labelsize=8)
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel("latency")
    ax.set_ylabel("energy")
    ax.set_title(title, fontsize=10)
    ax.legend(**BESIDE)
    ax.spines[["top", "right"]].set_visible(False)
    return done(figure, path)
