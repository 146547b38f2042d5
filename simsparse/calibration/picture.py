"""Rooflines of a measured machine: bandwidth of each level, peaks, and the products that were timed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from simsparse._canvas import BESIDE, COLOURS, MARKERS, MOST, canvas, done
from simsparse.calibration.measured import MeasuredMachine
from simsparse.render import si

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPAN = 300.0  # times: how far the picture reaches to both sides of the ridge of memory


def rooflines(measured: MeasuredMachine, ax: Axes | None = None, path: str | Path | None = None) -> Figure:
    """Roofs of every level of memory and of every type, with the timed products under them."""
    figure, ax = canvas(ax, 8.0, 4.6)
    top = max(peak for _, peak in measured.peaks_flops_per_s)
    slowest = min(rate for _, rate in measured.bytes_per_s)
    low, high = top / slowest / SPAN, top / slowest * SPAN / 10
    intensity = np.geomspace(low, high, 200)
    for name, rate in measured.bytes_per_s:
        ax.plot(intensity, np.minimum(top, intensity * rate), color="black", linewidth=1.0, zorder=1)
        ax.annotate(
            f"{name}  {si(rate, 'B/s')}", (low * 1.2, low * 1.2 * rate), fontsize=8, xytext=(4, -8),
            textcoords="offset points",
        )  # fmt: skip
    for name, peak in measured.peaks_flops_per_s:
        ax.axhline(peak, color="black", linewidth=1.0, linestyle="-" if peak == top else "--", zorder=1)
        ax.annotate(
            f"{name}  {si(peak, 'FLOP/s')}", (high, peak), fontsize=8, xytext=(-2, 3), textcoords="offset points",
            ha="right",
        )  # fmt: skip
    labels = list(dict.fromkeys(point.label for point in measured.points))
    for index, label in enumerate(labels[:MOST]):
        own = [point for point in measured.points if point.label == label]
        ax.scatter(
            [p.flops_per_byte for p in own], [p.flops_per_s for p in own], s=30, marker=MARKERS[index],
            color=COLOURS[index], edgecolor="black", linewidth=0.6, label=label, zorder=3,
        )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="FLOP per byte of operands", ylabel="rate of nonzeros")
    ax.set_xlim(low, high)
    ax.set_title(measured.spec.title, fontsize=10)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value, "FLOP/s")))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.tick_params(labelsize=8)
    ax.grid(alpha=0.25, which="major")
    if labels:
        ax.legend(**BESIDE)
    return done(figure, path)
