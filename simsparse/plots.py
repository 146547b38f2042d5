"""Pictures of results. A function draws on `ax` if given, else on a new figure, writes to `path` if given, and returns
the figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from simsparse._canvas import BESIDE, COLOURS, HATCHES, MOST, OTHER, canvas, done, figure_of, grouped_bars, new, seconds
from simsparse.compared import Comparison
from simsparse.errors import InputError, UnsupportedError
from simsparse.inventory import op_group
from simsparse.plan import Floats
from simsparse.render import si, times
from simsparse.result import Result
from simsparse.roofline import roofline, roofline_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "By",
    "overview",
    "roofline",
    "roofline_points",
    "shares",
    "speedup_bars",
    "stacked",
    "term_shares",
    "waterfall",
]

IN_A_ROW = 4  # groups of bars
UPRIGHT = 7  # bars in a group, of which more leave no room for figures beside each other


class By(StrEnum):
    """What the parts of a stacked bar stand for."""

    OP = "op"
    BOUND = "bound"


def stacked(
    results: Sequence[Result],
    by: By = By.OP,
    labels: Sequence[str] | None = None,
    axes: tuple[Axes, Axes] | None = None,
    path: str | Path | None = None,
) -> Figure:
    """Latency and energy of results, each bar cut by groups of ops or by what bounds the calls.

    Parameters
    ----------
    labels : sequence of str, optional
        Names of the bars; by default machine and patterns.
    axes : pair of Axes, optional
        For latency and for energy.
    """
    if not results:
        raise InputError.expected("results", 0, "at least one")
    names = list(labels) if labels is not None else [_name(result) for result in results]
    if axes is None:
        figure = new(9.0, 1.9 + 0.55 * len(results))
        left, right = figure.subplots(1, 2, sharey=True)
    else:
        left, right = axes
        figure = figure_of(left)
    latency = [shares(result, by, result.prices.latency_s) for result in results]
    energy = [shares(result, by, result.prices.energy_j) for result in results]
    groups = _largest(latency, energy)
    _bars(left, names, latency, groups, "s")
    _bars(right, names, energy, groups, "J")
    left.set_xlabel("latency")
    right.set_xlabel("energy")
    if axes is None:
        right.tick_params(labelleft=False)
    right.legend(title=f"by {by}", **BESIDE)
    return done(figure, path)


def shares(result: Result, by: By, each: Floats) -> dict[str, float]:
    """Totals of a figure of the calls (`each`, (n,)) by group; they add up to that of the whole."""
    totals: dict[str, float] = {}
    for index, value in enumerate((each * result.counts).tolist()):
        group = op_group(result.plan.calls[index].ops[0])
        if by is By.BOUND:
            group = result.prices.term_names[int(result.prices.bound[index])]
        totals[group] = totals.get(group, 0.0) + value
    return totals


def _largest(*figures: Sequence[Mapping[str, float]]) -> list[str]:
    """Groups by their largest share of any bar; what is too small or too many to tell apart is `OTHER`."""
    weight: dict[str, float] = {}
    for bars in figures:
        for bar in bars:
            for group, value in bar.items():
                weight[group] = max(weight.get(group, 0.0), value / sum(bar.values()))
    order = sorted(weight, key=lambda group: -weight[group])
    kept = [group for group in order if weight[group] >= 0.01][: MOST - 1]
    return kept if len(kept) == len(order) else [*kept, OTHER]


def _bars(
    ax: Axes, names: Sequence[str], bars: Sequence[Mapping[str, float]], groups: Sequence[str], unit: str
) -> None:
    position = np.arange(len(bars))
    start = np.zeros(len(bars))
    for index, group in enumerate(groups):
        width = np.array([_of_group(bar, group, groups) for bar in bars])
        style = MOST - 1 if group == OTHER else index
        ax.barh(
            position, width, left=start, height=0.65, color=COLOURS[style], hatch=HATCHES[style], edgecolor="white",
            linewidth=0.5, label=group,
        )  # fmt: skip
        start += width
    for at, total in zip(position, start, strict=True):
        ax.annotate(
            si(float(total), unit), (total, at), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8
        )
    ax.set_yticks(position, names, fontsize=8)
    ax.set_ylim(len(bars) - 0.5, -0.5)
    ax.set_xlim(0, float(start.max()) * 1.28)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value, unit)))
    ax.locator_params(axis="x", nbins=3)
    ax.tick_params(axis="x", labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)


def _of_group(bar: Mapping[str, float], group: str, groups: Sequence[str]) -> float:
    if group == OTHER:
        return sum(value for name, value in bar.items() if name not in groups or name == OTHER)
    return bar.get(group, 0.0)


def _name(result: Result) -> str:
    patterns = [text.removeprefix("sparsity ") for text in result.workload.transforms]
    return "\n".join([result.machine, *(patterns or ["dense"])])


def speedup_bars(comparison: Comparison, ax: Axes | None = None, path: str | Path | None = None) -> Figure:
    """Speedup over dense of each pattern, in groups of machines; the line is dense.

    More than `IN_A_ROW` machines stand in several rows, unless `ax` is given.

    Parameters
    ----------
    comparison : Comparison
        `Comparison.of(results, patterns)` of what `simsparse.compare` gave.

    Raises
    ------
    InputError
        For more than `MOST` patterns.
    """
    count, machines = len(comparison.patterns), len(comparison.machines)
    if count > MOST:
        raise InputError.expected("patterns", count, f"at most {MOST} in one picture")
    if ax is None:
        rows = math.ceil(machines / IN_A_ROW)
        figure = new(max(5.0, 1.6 + 0.42 * (count + 1) * min(machines, IN_A_ROW)), 0.8 + 3.0 * rows)
        axes, step = list(figure.subplots(rows, 1, sharey=True, squeeze=False)[:, 0]), IN_A_ROW
    else:
        figure, axes, step = figure_of(ax), [ax], machines
    for index, part in enumerate(axes):
        _speedups(part, comparison, range(index * step, min((index + 1) * step, machines)), step)
    first = comparison.results[0][0].workload
    axes[0].set_title(f"{first.name}: {first.phase}, batch {first.batch}, {first.dtype}", fontsize=10)
    axes[0].set_ylim(0, max(result.speedup for line in comparison.results for result in line) * 1.15)
    axes[0].legend(**BESIDE)
    return done(figure, path)


def _speedups(ax: Axes, comparison: Comparison, machines: range, step: int) -> None:
    """Bars of some machines."""
    heights = np.array([[result.speedup for result in comparison.results[index]] for index in machines])
    places = grouped_bars(ax, heights, comparison.patterns)
    for x, y in zip(places.T.ravel(), heights.T.ravel(), strict=True):
        ax.annotate(
            f"{y:.2f}", (x, y), xytext=(0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=7.5,
            rotation=90 if len(comparison.patterns) > UPRIGHT else 0,
        )  # fmt: skip
    ax.axhline(1.0, color="black", linewidth=1.0, linestyle="--", zorder=3)
    names = [comparison.machines[index] + ("" if comparison.fit(index) else "\ndoes not fit") for index in machines]
    ax.set_xlim(-0.5, min(step, len(comparison.machines)) - 0.5)
    ax.set_xticks(range(len(machines)), names, fontsize=9)
    ax.set_ylabel("speedup over dense")


def waterfall(result: Result, ax: Axes | None = None, path: str | Path | None = None) -> Figure:
    """Where the latency comes from: what each term adds (`term_shares`), up to the whole; dense below it.

    Dotted: how long the term takes in all, of which the rest is hidden behind longer ones.
    """
    figure, ax = canvas(ax, 6.0, 3.6)
    added = term_shares(result)
    order = sorted((name for name in added if name != OTHER), key=lambda name: -added[name])
    names = [name for name in order if added[name] >= 0.005 * result.latency_s]
    steps = np.array([added[name] for name in names])
    if (small := result.latency_s - float(steps.sum())) > 1e-9 * result.latency_s:
        steps, names = np.append(steps, small), [*names, OTHER]
    start = np.concatenate([[0.0], np.cumsum(steps)[:-1]])
    alone = dict(zip(result.prices.term_names, (result.counts @ result.prices.terms_s).tolist(), strict=True))
    whole = np.array([alone.get(name, 0.0) for name in names])
    position, ends = np.arange(len(names)), np.arange(len(names), len(names) + 2)
    ax.barh(position, whole, left=start, height=0.62, fill=False, linestyle=":", linewidth=0.8, zorder=1)
    ax.barh(position, steps, left=start, height=0.62, color=COLOURS[0], zorder=2)
    totals = np.array([result.latency_s, result.dense_latency_s])
    bars = ax.barh(
        ends, totals, height=0.62, color=[COLOURS[2], COLOURS[7]], edgecolor="white", linewidth=0.5, zorder=2
    )
    bars[1].set_hatch(HATCHES[1])
    for at, end in zip(position, np.cumsum(steps), strict=True):
        ax.plot([end, end], [at - 0.31, at + 1.31], color="black", linewidth=0.8, zorder=3)
    right = np.concatenate([np.maximum(start + whole, start + steps), totals])
    for at, end, value in zip([*position, *ends], right, [*steps, *totals], strict=True):
        ax.annotate(
            si(float(value), "s"), (end, at), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8
        )
    ax.set_yticks([*position, *ends], [*names, "all", "dense"], fontsize=8)
    ax.set_ylim(len(names) + 1.5, -0.5)
    ax.set_xlim(0, float(right.max()) * 1.25)
    ax.xaxis.set_major_formatter(FuncFormatter(seconds))
    ax.locator_params(axis="x", nbins=4)
    ax.tick_params(axis="x", labelsize=8)
    ax.set_xlabel("time; dotted: hidden behind others")
    ax.set_title(f"{result.workload.name} on {result.machine}: {times(result.speedup)} over dense", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    return done(figure, path)


def term_shares(result: Result) -> dict[str, float]:
    """Seconds that each term of the calls adds to the whole; with `OTHER` for what no term names, they add up to it.

    Of a call, the term that bounds it counts in full; what is left of the latency is shared by the other terms as they
    are long, since each machine lets them overlap by a rule of its own.
    """
    prices, rows = result.prices, np.arange(len(result.prices))
    own = np.minimum(prices.terms_s[rows, prices.bound], prices.latency_s)
    beside = prices.terms_s.copy()
    beside[rows, prices.bound] = 0.0
    total, rest = beside.sum(axis=1), prices.latency_s - own
    parts = beside * np.divide(np.minimum(rest, total), total, out=np.zeros_like(total), where=total > 0)[:, None]
    parts[rows, prices.bound] = own
    found = dict(zip(prices.term_names, (result.counts @ parts).tolist(), strict=True))
    return {**found, OTHER: result.latency_s - sum(found.values())}


def overview(result: Result, path: str | Path | None = None) -> Figure:
    """One page of a result: roofline where the machine has one, waterfall, latency and energy by op."""
    missing = _no_points(result)
    if missing is None:
        figure = new(10.0, 7.6)
        grid = figure.add_gridspec(2, 1, height_ratios=[1.25, 1])
        roofline(result, figure.add_subfigure(grid[0]).subplots())
        bottom = figure.add_subfigure(grid[1])
    else:
        figure = new(10.0, 3.6)
        figure.suptitle(missing, fontsize=8)
        bottom = figure.add_subfigure(figure.add_gridspec(1, 1)[0])
    cells = bottom.subplots(1, 3, width_ratios=[1.3, 1, 1])
    waterfall(result, cells[0])
    dense = replace(result, plan=result.baseline.plan, prices=result.baseline.prices)
    stacked([dense, result], labels=["dense", "this"], axes=(cells[1], cells[2]))
    cells[2].tick_params(labelleft=False)
    return done(figure, path)


def _no_points(result: Result) -> str | None:
    """Why there is no roofline; None if there is one."""
    try:
        roofline_points(result)
    except UnsupportedError as error:
        return str(error)
    return None
