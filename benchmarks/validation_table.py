"""Write the README's table of predictions against measurements.

    python benchmarks/validation_table.py README.md MEASUREMENTS...      # or: make table

Systems with few rows are taken together in one line, so that the table can be read; `simsparse validate` lists all.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simsparse import validate
from simsparse.validate import Group, ValidationReport

BEGIN, END = "<!-- validation -->", "<!-- end of validation -->"
FEW = 20  # rows
REASONS = 5
TITLES = ("system", "device", "metric", "rows", "priced", "median error", "90 % within", "bias", "Kendall's tau")


def table(report: ValidationReport) -> str:
    """The report as Markdown: systems with `FEW` rows or more, the others together, all, and what was not priced."""
    large = sorted((group for group in report.groups if group.n >= FEW), key=_order)
    small = [group for group in report.groups if group.n < FEW]
    overall = report.overall
    lines = [_line(TITLES), _line(["---"] * 3 + ["---:"] * 6), *(_group_line(group) for group in large)]
    lines.append(_line([f"{len(small)} with fewer than {FEW} rows", "", "", *_numbers(_errors(report, small))]))
    lines.append(_line(["**all**", "", "", *_numbers(overall)]))
    lines += ["", f"{overall.n - overall.priced:,} rows are not priced, mostly for these reasons:", ""]
    lines += [f"- {reason} ({count:,} rows)" for reason, count in overall.unpriced[:REASONS]]
    return "\n".join(lines)


def _order(group: Group) -> tuple[bool, str, str]:
    return (group.priced == 0, group.system.lower(), group.device)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _group_line(group: Group) -> str:
    return _line([group.system, group.device, group.metric, *_numbers(group)])


def _numbers(group: Group) -> list[str]:
    errors = [_percent(group.median_abs_error), _percent(group.p90_abs_error), _percent(group.bias, "+")]
    tau = "" if group.kendall_tau is None else f"{group.kendall_tau:.2f}"
    return [f"{group.n:,}", f"{group.priced:,}", *errors, tau]


def _percent(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.1%}".replace("%", " %")


def _errors(report: ValidationReport, groups: Sequence[Group]) -> Group:
    """Several groups as one, from their rows; ranks of different metrics do not compare."""
    keys = {(group.system, group.device, group.metric) for group in groups}
    rows = [row for row in report.rows if (row.system, row.device, row.metric) in keys]
    error = np.abs([row.error for row in rows if row.error is not None])
    signed = [row.error for row in rows if row.priced and row.error is not None]
    middle, most = (float(np.quantile(error, part)) for part in (0.5, 0.9))
    return Group(
        "", "", "", len(rows), sum(row.priced for row in rows), middle, most, float(np.median(signed)), None, ()
    )


def put(page: str, text: str) -> str:
    """The page with `text` between its markers."""
    before, found, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        sys.exit(f"the page has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    page = Path(sys.argv[1])
    page.write_text(put(page.read_text(encoding="utf-8"), table(validate(sys.argv[2:]))), encoding="utf-8")
