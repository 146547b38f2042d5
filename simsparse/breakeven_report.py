"""What `breakeven` found as tables, rows and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simsparse.breakeven import TARGETS, BatchCurve, Breakeven, Curve
from simsparse.render import si, spaced, table, times

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import RenderableType


def rows(found: Breakeven) -> list[dict[str, object]]:
    """One plain row for each pattern of each family, then for each pattern and N."""
    m, n, k = found.shape
    shape = {"machine": found.machine, "M": m, "K": k}
    by_sparsity = [
        {**shape, "N": n, "family": curve.family, "pattern": pattern, "sparsity": float(curve.sparsity[i]),
         "kernel": curve.kernel[i], "speedup": float(curve.speedup[i]), "bound": curve.bound[i]}
        for curve in found.curves for i, pattern in enumerate(curve.patterns)
    ]  # fmt: skip
    by_batch = [
        {**shape, "N": int(batch), "family": "", "pattern": curve.pattern, "sparsity": curve.sparsity,
         "kernel": curve.kernel[i], "speedup": float(curve.speedup[i]), "bound": curve.bound[i]}
        for curve in found.by_batch for i, batch in enumerate(found.batches)
    ]  # fmt: skip
    return by_sparsity + by_batch


def columns(found: Breakeven) -> dict[str, list[object]]:
    """The rows as columns."""
    listed = rows(found)
    return {name: [row[name] for row in listed] for name in listed[0]} if listed else {}


def as_json(found: Breakeven) -> dict[str, object]:
    """Where each family reaches each target, and all rows."""
    crossings = [
        {"family": curve.family, "speedup": target, "pattern": None if at is None else curve.patterns[at],
         "sparsity": None if at is None else float(curve.sparsity[at]),
         "kernel": None if at is None else curve.kernel[at]}
        for curve in found.curves for target in TARGETS for at in [curve.reaches(target)]
    ]  # fmt: skip
    refused = [{"family": family, "reason": reason} for family, reason in found.refused]
    return {"dense_latency_s": found.dense_latency_s, "crossings": crossings, "refused": refused, "rows": rows(found)}


def breakeven_table(found: Breakeven) -> RenderableType:
    """Two tables: crossings by family, and gains over N by pattern."""
    from rich.text import Text

    m, n, k = found.shape
    head = f"{m} × {n} × {k} on {found.machine}, A is sparse; dense takes {si(found.dense_latency_s, 's')}"
    titles = ("family", "wins from", *(times(target) for target in TARGETS[1:]), "most", "at", "kernel there")
    lines = [(curve.family, *(_crossing(curve, target) for target in TARGETS), *_most(curve)) for curve in found.curves]
    lines += [(family, "–", *("–" for _ in TARGETS[1:]), "–", "–", reason) for family, reason in found.refused]
    parts: list[RenderableType] = [Text(head), table(titles, lines, right=("most",))]
    if found.by_batch:
        titles = ("pattern", "gains for N of", "most", "at N", "bound there", "dense turns")
        parts.append(table(titles, [_over_n(found, curve) for curve in found.by_batch], right=("most", "at N")))
    return spaced(parts)


def _crossing(curve: Curve, target: float) -> str:
    at = curve.reaches(target)
    return "never" if at is None else f"{curve.patterns[at]} ({curve.sparsity[at]:.0%} zero)"


def _most(curve: Curve) -> tuple[str, str, str]:
    at = int(curve.speedup.argmax())
    return times(float(curve.speedup[at])), curve.patterns[at], curve.kernel[at]


def _over_n(found: Breakeven, curve: BatchCurve) -> tuple[str, ...]:
    at = int(curve.speedup.argmax())
    return (
        curve.pattern, spans(found.batches.tolist(), curve.gains.tolist()), times(float(curve.speedup[at])),
        str(found.batches[at]), curve.bound[at], _turns(found, curve),
    )  # fmt: skip


def spans(values: list[int], gains: list[bool]) -> str:
    """Stretches of N that gain, as text: `1 to 48, 512 to 8192`."""
    starts = [i for i, gain in enumerate(gains) if gain and (i == 0 or not gains[i - 1])]
    ends = [i for i, gain in enumerate(gains) if gain and (i + 1 == len(gains) or not gains[i + 1])]
    parts = [f"{values[a]} to {values[b]}" if b > a else str(values[a]) for a, b in zip(starts, ends, strict=True)]
    return ", ".join(parts) or "none"


def _turns(found: Breakeven, curve: BatchCurve) -> str:
    """The first N at which dense is no longer bound by memory."""
    other = [int(n) for n, bound in zip(found.batches, curve.dense_bound, strict=True) if bound != curve.dense_bound[0]]
    return f"from {curve.dense_bound[0]} at N {other[0]}" if other else f"never from {curve.dense_bound[0]}"


def breakeven_plot(found: Breakeven, path: str | Path | None = None) -> Figure:
    """Speedup over sparsity by family, and over N by pattern; the line is dense."""
    from simsparse._canvas import COLOURS, MARKERS, done, new

    figure = new(11.0, 4.4)
    left, right = figure.subplots(1, 2)
    for index, curve in enumerate(found.curves):
        discrete = len(curve.patterns) < 20
        left.plot(
            curve.sparsity, curve.speedup, color=COLOURS[index % len(COLOURS)], label=curve.family, linewidth=1.6,
            marker=MARKERS[index % len(MARKERS)] if discrete else None, markersize=4,
        )  # fmt: skip
    for index, pattern in enumerate(found.by_batch):
        style = index % len(COLOURS)
        right.plot(
            found.batches, pattern.speedup, color=COLOURS[style], marker=MARKERS[style], markersize=3.5, linewidth=1.6,
            label=pattern.pattern,
        )  # fmt: skip
    m, n, k = found.shape
    left.set_title(f"{m} × {n} × {k}: over sparsity", fontsize=10)
    left.set_xlabel("fraction of A that is zero")
    right.set_title(f"{m} × N × {k}: over N", fontsize=10)
    right.set_xlabel("N: columns of B, tokens")
    right.set_xscale("log", base=2)
    right.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for ax in (left, right):
        _finish(ax)
    left.set_ylabel(f"speedup over dense on {found.machine}")
    return done(figure, path)


def _finish(ax: Axes) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    ax.axhline(1.0, color="black", linewidth=1.0, linestyle="--", zorder=1)
    ax.set_yscale("log", base=2)
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, 0.25), high)
    ax.yaxis.set_major_locator(FixedLocator([0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    ax.grid(axis="y", linewidth=0.4, alpha=0.6)
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
