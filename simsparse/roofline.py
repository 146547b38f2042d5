"""Calls of a result under the rooflines of its machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from simsparse._canvas import BESIDE, COLOURS, MARKERS, MOST, canvas, done
from simsparse.errors import UnsupportedError
from simsparse.inventory import call_names
from simsparse.plan import Floats, Ints
from simsparse.render import si
from simsparse.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOO_NEAR = 0.012  # decades: of points nearer than this in both directions one hides the other
TIME_AREA = 1200.0  # points² of a call that takes all the time


def roofline(result: Result, ax: Axes | None = None, path: str | Path | None = None) -> Figure:
    """Calls under the roofs of the machine: effective FLOP/s over FLOP per byte of DRAM, areas by share of the time.

    Raises
    ------
    UnsupportedError
        If the machine gives no roofs (`simsparse.plan.HasRooflines`), or no call does arithmetic and reads memory.
    """
    points = roofline_points(result)
    roofs = result.roofs
    assert roofs is not None
    figure, ax = canvas(ax, 8.0, 4.6)
    peaks = [peak for _, peak in roofs.flops_per_s]
    ridges = [peak / roofs.dram_bytes_per_s for peak in peaks]
    low = min(points[:, 0].min(), *ridges) / 4
    high = max(points[:, 0].max(), *ridges) * 6
    intensity = np.geomspace(low, high, 200)
    for index, (name, peak) in enumerate(roofs.flops_per_s):
        line = np.minimum(peak, intensity * roofs.dram_bytes_per_s)
        ax.plot(intensity, line, color="black", linestyle="-" if " " not in name else "--", linewidth=1.2, zorder=1)
        below = any(other > peak for other in peaks[index + 1 :]) or any(other > peak for other in peaks[:index])
        ax.annotate(
            f"{name}  {si(peak, 'FLOP/s')}", (high, peak), xytext=(-2, -3 if below else 3), fontsize=8,
            textcoords="offset points", ha="right", va="top" if below else "bottom",
        )  # fmt: skip
    _scatter(ax, result, points)
    ax.set(xscale="log", yscale="log", xlabel="FLOP per byte of DRAM", ylabel="rate, zeros counted")
    ax.set_xlim(low, high)
    ax.set_ylim(min(points[:, 1].min(), low * roofs.dram_bytes_per_s) / 2, max(*peaks, points[:, 1].max()) * 3)
    ax.set_title(f"{result.workload.name} on {result.machine}", fontsize=10)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value, "FLOP/s")))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.tick_params(labelsize=8)
    ax.grid(alpha=0.25, which="major")
    return done(figure, path)


def _scatter(ax: Axes, result: Result, points: Floats) -> None:
    """The points, those of the most time with a mark of their own; the rest are small and grey."""
    share = result.prices.latency_s * result.counts / result.latency_s
    rows = points[:, 2].astype(np.int64)
    groups = sorted(_coinciding(points, share[rows]), key=lambda group: -float(share[rows[group]].sum()))
    for rank, group in enumerate(groups):
        style = min(rank, MOST - 1)
        part = float(share[rows[group]].sum())
        ax.scatter(
            points[group[0], 0], points[group[0], 1], s=max(TIME_AREA * part, 12.0), marker=MARKERS[style],
            color=COLOURS[style], edgecolor="black", linewidth=0.7, alpha=0.75, zorder=3,
            label=f"{_calls(result, rows[group])}  {part:.0%}" if rank < MOST - 1 else None,
        )  # fmt: skip
    rest = len(groups) - MOST + 1
    if rest > 0:
        ax.scatter([], [], marker=MARKERS[-1], color=COLOURS[-1], edgecolor="black", label=f"{rest} more")
    left = 1 - float(share[rows].sum())
    title = f"share of time ({left:.0%} without products)" if left >= 0.005 else "share of time"
    legend = ax.legend(title=title, **BESIDE)
    for handle in legend.legend_handles:
        assert isinstance(handle, PathCollection)
        handle.set_sizes([40.0])


def _coinciding(points: Floats, share: Floats) -> list[list[int]]:
    """Points that would hide each other, those of most time first: they are drawn where the first of them is."""
    groups: list[list[int]] = []
    place = np.log10(points[:, :2])
    for at in np.argsort(-share, kind="stable").tolist():
        near = (group for group in groups if np.abs(place[group[0]] - place[at]).max() < TOO_NEAR)
        group = next(near, None)
        if group is None:
            groups.append([at])
        else:
            group.append(at)
    return groups


def _calls(result: Result, rows: Sequence[int] | Ints) -> str:
    """`mlp.up_proj (cublas)`; of several calls, the last part of each further name."""
    kernels, names = [result.plan.calls[int(row)].kernel for row in rows], call_names(result.plan.calls)
    first, *others = (names[int(row)] for row in sorted(rows))
    names = [first, *(name.rpartition(".")[2] for name in others)]
    listed = ", ".join(names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else "")
    return f"{listed} ({', '.join(dict.fromkeys(kernels))})"


def roofline_points(result: Result) -> Floats:
    """FLOP per byte, effective FLOP/s and row of each call that multiplies and moves data, shape (p, 3).

    Raises
    ------
    UnsupportedError
    """
    prices = result.prices
    if result.roofs is None or not result.roofs.flops_per_s or "dram" not in prices.level_names:
        raise UnsupportedError(
            f"machine {result.machine!r} gives no rooflines, expected peak FLOP/s and DRAM bandwidth"
        )
    moved = prices.level_bytes[:, prices.level_names.index("dram")]
    rows = np.flatnonzero((prices.flops > 0) & (moved > 0) & ~np.isnan(result.peak_fraction))
    if not rows.size:
        raise UnsupportedError(f"no call of {result.workload.name!r} multiplies and moves data, expected one to draw")
    flops = result.needed_flops[rows]
    return np.column_stack([flops / moved[rows], flops / prices.latency_s[rows], rows])
