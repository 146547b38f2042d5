"""Designs as a table, as data, as a picture and as a Parquet file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from accel_models.fpga.design import Choice, Designs
from simsparse.commands.files import write_files
from simsparse.plan import Ints
from simsparse.render import si, spaced
from simsparse.render import table as rendered

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

SHOWN = 20  # designs of the front in a table, spread over it; all of them are in JSON and CSV
TITLES = (
    "", "sparsity", "array", "clock", "DDR", "buffers, KiB", "vector", "update", "reduction", "step", "energy", "power",
    "DSP", "LUT", "FF", "BRAM", "URAM", "card",
)  # fmt: skip


def table(found: Designs, choice: Choice) -> RenderableType:
    """The front, or `SHOWN` designs spread over it, with the best marked; what was refused, and the best in words."""
    shown = np.unique(np.linspace(0, len(choice.front) - 1, min(SHOWN, len(choice.front))).round().astype(np.int64))
    rows = np.union1d(shown, np.flatnonzero(choice.front == choice.best))
    lines = [_line(found, int(row), "*" if row == choice.best else "") for row in choice.front[rows]]
    return spaced(["\n".join(_words(found, choice, len(lines))), rendered(TITLES, lines, right=TITLES[2:])])


def _words(found: Designs, choice: Choice, shown: int) -> list[str]:
    space = found.space
    refused = ", ".join(f"{name} {count}" for name, count in space.refused)
    texts = [f"{found.workload} on the card of {found.spec.name}: {len(found)} of {space.tried} designs fit"]
    if refused:
        texts.append(f"too small for the others (some lack several): {refused}")
    if choice.budgets:
        limits = " and ".join(limit.text for limit in choice.budgets)
        texts.append(f"{choice.within.sum()} are within {limits}")
    texts.append(f"{len(choice.front)} are beaten by none in time, energy and share of the card; {shown} of them here")
    changes = " ".join(f"--set {name}={value}" for name, value in space.changes(choice.best).items())
    texts.append(f"least {choice.minimise} (*), for {space.sparsities[space.sparsity[choice.best]]}: {changes}")
    return texts


def _line(found: Designs, row: int, mark: str) -> tuple[str, ...]:
    figure = {name: float(column[row]) for name, column in found.columns.items()}
    buffers = "+".join(f"{figure[f'{name}_buffer_bytes'] / 1024:.0f}" for name in ("weight", "activation", "output"))
    return (
        mark, found.space.sparsities[found.space.sparsity[row]],
        f"{figure['array_rows']:.0f}x{figure['array_cols']:.0f}", si(figure["clock_hz"], "Hz"),
        f"{figure['dram_channels']:.0f}", buffers, f"{figure['vector_ops_per_cycle']:.0f}",
        f"{figure['update_lanes']:.0f}", f"{figure['reduction_lanes']:.0f}", si(figure["latency_s"], "s"),
        si(figure["energy_j"], "J"), si(figure["power_w"], "W"), f"{figure['dsp']:.0f}",
        f"{figure['lut'] / 1e3:.0f} k", f"{figure['ff'] / 1e3:.0f} k", f"{figure['bram']:.0f}",
        f"{figure['uram']:.0f}", f"{figure['share']:.0%}",
    )  # fmt: skip


def as_data(found: Designs, choice: Choice) -> dict[str, object]:
    """The whole front as one object for JSON."""
    return {
        "schema_version": 1, "workload": found.workload, "machine": found.spec.name, "tried": found.space.tried,
        "fitting": len(found), "refused": dict(found.space.refused),
        "budget": [limit.text for limit in choice.budgets], "within_budget": int(choice.within.sum()),
        "minimise": str(choice.minimise), "best": _records(found, np.array([choice.best]))[0],
        "best_changes": found.space.changes(choice.best), "front": _records(found, choice.front),
    }  # fmt: skip


def _records(found: Designs, rows: Ints) -> list[dict[str, object]]:
    columns = found.table(rows)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def write_parquet(found: Designs, path: str) -> None:
    """All designs that fit, a row each.

    Raises
    ------
    InputError
        For a path that cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.table(found.table()), stream)
    write_files({path: stream.getvalue()})


def picture(found: Designs, choice: Choice, path: str | Path | None = None) -> Figure:
    """Time of all designs over the share of the card that they take, with the front coloured by its energy."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator, NullFormatter

    from simsparse import _canvas

    figure, ax = _canvas.canvas(None, 7.0, 4.5)
    rows, best, share = choice.front, choice.best, 100 * found.space.share
    # What the budget rules out lies below, paler: it may beat what is within.
    for kept, shade, label in (
        (~choice.within, "0.92", "outside the budget"),
        (choice.within, "0.75", "designs that fit"),
    ):
        if kept.any():
            ax.scatter(share[kept], found.latency_s[kept], s=3, color=shade, linewidths=0, rasterized=True)
            ax.scatter([], [], s=22, color=shade, label=label)
    points = ax.scatter(
        share[rows], found.latency_s[rows], c=found.energy_j[rows], s=22, cmap="viridis", norm=LogNorm(),
        label="beaten by none",
    )  # fmt: skip
    ax.scatter(share[best], found.latency_s[best], s=130, marker="*", color="C3", label=f"least {choice.minimise}")
    ax.set(yscale="log", xlabel="share of the card, %", ylabel="time")
    bar = figure.colorbar(points, label="energy")
    for axis, unit in ((ax.yaxis, "s"), (bar.ax.yaxis, "J")):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(_in(unit))
        axis.set_minor_formatter(NullFormatter())
    ax.legend(fontsize=8, frameon=False)
    limits = " and ".join(limit.text for limit in choice.budgets)
    ax.set_title(f"{found.workload} on designs for {found.spec.name}" + (f", {limits}" if limits else ""), fontsize=10)
    return _canvas.done(figure, path)


def _in(unit: str) -> Callable[[float, object], str]:
    """How an axis writes values in a unit."""
    return lambda value, _: si(value, unit)
