"""Fits and measured machines as tables for a terminal, and as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from simsparse.calibration.fit import Fit
from simsparse.calibration.measured import MeasuredMachine
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
