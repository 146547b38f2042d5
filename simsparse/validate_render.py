"""Validation reports as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from simsparse.render import table

if TYPE_CHECKING:
    from simsparse.scores import Errors, Group, Row
    from simsparse.validate import ValidationReport


def validation_table(report: ValidationReport, *, rows: bool = False) -> RenderableType:
    """Scores per system and device, why rows were not priced, and the claims; with `rows`, every row too."""
    parts: list[RenderableType] = [_title("Predictions against measurements"), _scores(report)]
    unpriced = [group for group in report.groups if group.unpriced]
    if unpriced:
        parts += [_title("Not priced"), _unpriced(unpriced)]
    if rows:
        parts += [_title("Rows"), _rows(report.rows)]
    claims = [row for row in report.claims if rows or row.priced]
    if claims:
        parts += [_title("Claims, not scored"), _rows(claims)]
    if report.skipped:
        parts.append(Text(f"\n{len(report.skipped)} files hold no measurements and were skipped"))
    return Stack(*parts)


def _title(text: str) -> Text:
    return Text(f"\n{text}\n", style="bold italic")


def _scores(report: ValidationReport) -> Table:
    """Errors of all rows that count; apart those of rows that constants were fitted on, and those of the others."""
    apart = any(group.fitted.n for group in report.groups)
    parts = ("fitted", "median", "p90", "held out", "median ", "p90 ") if apart else ()
    scores = ("priced", "median |e|", "p90 |e|", "bias", "tau", "in 80 %", *parts)
    lines = []
    for group in (*report.groups, report.overall):
        where = ("", "") if group is report.overall else (group.device, group.metric)
        line = (
            group.system, *where, f"{group.priced}/{group.n}", percent(group.median_abs_error),
            percent(group.p90_abs_error), percent(group.bias, signed=True),
            "" if group.kendall_tau is None else f"{group.kendall_tau:.2f}",
            "" if group.coverage is None else f"{group.coverage:.0%}",
        )  # fmt: skip
        lines.append((*line, *_errors(group.fitted), *_errors(group.held_out)) if apart else line)
    return table(("system", "device", "metric", *scores), lines, right=scores, gap=1)


def _errors(errors: Errors) -> tuple[str, str, str]:
    return str(errors.n) if errors.n else "", percent(errors.median_abs_error), percent(errors.p90_abs_error)


def _unpriced(groups: Sequence[Group]) -> Table:
    lines = [
        (group.system, group.device, count, reason) for group in groups for reason, count in group.unpriced
    ]  # fmt: skip
    return table(("system", "device", "rows", "reason"), lines, right=("rows",))


def _rows(rows: Sequence[Row]) -> Table:
    figures = ("measured", "predicted", "error", "low", "high")
    lines = [
        (
            row.id, row.pattern, row.kernel, row.metric, figure(row.measured), figure(row.predicted),
            percent(row.error, signed=True), figure(row.low), figure(row.high), row.reason,
        )
        for row in rows
    ]  # fmt: skip
    return table(("id", "pattern", "kernel", "metric", *figures, "reason"), lines, right=figures, gap=1)


def percent(value: float | None, *, signed: bool = False) -> str:
    """A fraction as percent; empty for None."""
    if value is None:
        return ""
    return f"{value:+.1%}" if signed else f"{value:.1%}"


def figure(value: float | None) -> str:
    """Four digits; empty for None."""
    return "" if value is None else f"{value:.4g}"
