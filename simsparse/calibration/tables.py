"""Fits and measured machines as tables for a terminal, and as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from simsparse.calibration.fit import Fit
from simsparse.calibration.measured import MeasuredMachine
from simsparse.calibration.timings import Timings
from simsparse.render import si, table


def fit_table(fit: Fit) -> RenderableType:
    """What was fitted, the errors, and what the rows do not determine."""
    constants = table(
        ("constant", "before", "after", "known within"),
        [(f.field, f"{f.before:.4g}", f"{f.after:.4g}", f"{f.within:.1%}") for f in fit.fitted],
        right=("before", "after", "known within"),
    )
    errors = table(
        ("errors", "before", "after", "cross-validated"),
        [
            (name, *(f"{getattr(e, field):.1%}" for e in (fit.before, fit.after, fit.crossed)))
            for name, field in (("median", "median"), ("90th percentile", "p90"))
        ],
        right=("before", "after", "cross-validated"),
    )
    parts: list[RenderableType] = [
        Text(f"{fit.machine}: {fit.n} rows of {fit.source} in {fit.groups} groups\n"), constants, Text(), errors,
    ]  # fmt: skip
    if fit.left_out:
        parts += [Text(), table(("kept as it was", "because"), fit.left_out)]
    if fit.unpriced:
        parts += [Text(), table(("rows", "not used because"), [(n, reason) for reason, n in fit.unpriced])]
    if fit.others:
        parts.append(Text(f"\n{fit.others} rows are of other machines"))
    return Group(*parts)


def fit_columns(fit: Fit) -> Mapping[str, Sequence[object]]:
    """The constants as columns."""
    names = ("field", "before", "after", "standard_error")
    return {name: [getattr(f, name) for f in fit.fitted] for name in names}


def measured_table(measured: MeasuredMachine) -> RenderableType:
    """Every timed quantity with its spread."""
    rows = [
        (f.what, si(f.median, f.unit), f"{f.spread:.1%}", f.samples, "noisy" if f.noisy else "")
        for f in measured.figures
    ]
    return Group(
        Text(f"{measured.spec.title}\n"),
        table(("measured", "median", "spread", "samples", ""), rows, right=("median", "spread", "samples")),
    )


def measured_columns(measured: MeasuredMachine) -> Mapping[str, Sequence[object]]:
    """The timed quantities as columns."""
    names = ("what", "unit", "median", "spread", "samples", "noisy")
    return {name: [getattr(f, name) for f in measured.figures] for name in names}


def timings_table(timings: Timings) -> RenderableType:
    """Every product: its dense time, and the others' speedups over it."""
    lines = timings.compared()
    others = timings.others
    rows = [
        (
            line.dtype, line.m, line.n, line.k, si(line.dense_s, "s"),
            *("" if speedup is None else f"{speedup:.2f}" for speedup in line.speedups),
        )
        for line in lines
    ]  # fmt: skip
    return Group(
        Text(f"{timings.device}, {timings.source}\nspeedup over {timings.dense}\n"),
        table(("type", "M", "N", "K", timings.dense, *others), rows, right=("M", "N", "K", timings.dense, *others)),
    )


def timings_columns(timings: Timings) -> Mapping[str, Sequence[object]]:
    """The same as columns."""
    lines = timings.compared()
    return {
        **{name: [getattr(line, name) for line in lines] for name in ("dtype", "m", "n", "k", "dense_s")},
        **{f"speedup {name}": [line.speedups[i] for line in lines] for i, name in enumerate(timings.others)},
    }
