"""Validation reports as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from simsparse.validate import Group, Row, ValidationReport


def validation_table(report: ValidationReport, *, rows: bool = False) -> RenderableType:
    """Scores per system and device, why rows were not priced, and the claims; with `rows`, every row too."""
    parts: list[RenderableType] = [_scores(report)]
    unpriced = [group for group in report.groups if group.unpriced]
    if unpriced:
        parts.append(_unpriced(unpriced))
    if rows:
        parts.append(_rows("Rows", report.rows))
    claims = [row for row in report.claims if rows or row.priced]
    if claims:
        parts.append(_rows("Claims, not scored", claims))
    if report.skipped:
        parts.append(Text(f"{len(report.skipped)} files hold no measurements and were skipped"))
    return Stack(*parts)


def _scores(report: ValidationReport) -> Table:
    table = Table(title="Predictions against measurements", title_justify="left")
    for column in ("system", "device", "metric"):
        table.add_column(column, overflow="fold")
    for column in ("n", "priced", "median |error|", "p90 |error|", "bias", "Kendall's tau"):
        table.add_column(column, justify="right")
    for group in (*report.groups, report.overall):
        last = group is report.overall
        table.add_row(
            group.system, "" if last else group.device, "" if last else group.metric, str(group.n), str(group.priced),
            percent(group.median_abs_error), percent(group.p90_abs_error), percent(group.bias, signed=True),
            "" if group.kendall_tau is None else f"{group.kendall_tau:.2f}",
            style="bold" if last else "",
        )  # fmt: skip
    return table


def _unpriced(groups: Sequence[Group]) -> Table:
    table = Table(title="Not priced", title_justify="left")
    for column in ("system", "device"):
        table.add_column(column, overflow="fold")
    table.add_column("n", justify="right")
    table.add_column("reason", overflow="fold")
    for group in groups:
        for reason, count in group.unpriced:
            table.add_row(group.system, group.device, str(count), reason)
    return table


def _rows(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("id", "system", "pattern", "kernel", "metric"):
        table.add_column(column, overflow="fold")
    for column in ("measured", "predicted", "error"):
        table.add_column(column, justify="right")
    table.add_column("reason", overflow="fold")
    for row in rows:
        table.add_row(
            row.id, row.system, row.pattern, row.kernel, row.metric, figure(row.measured), figure(row.predicted),
            percent(row.error, signed=True), row.reason,
        )  # fmt: skip
    return table


def percent(value: float | None, *, signed: bool = False) -> str:
    """A fraction as percent; empty for None."""
    if value is None:
        return ""
    return f"{100 * value:+.1f} %" if signed else f"{100 * value:.1f} %"


def figure(value: float | None) -> str:
    """Four digits; empty for None."""
    return "" if value is None else f"{value:.4g}"
