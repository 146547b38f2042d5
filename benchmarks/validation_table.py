"""Write the README's table of predictions against measurements.

    python benchmarks/validation_table.py README.md MEASUREMENTS...      # or: make table

Systems with few rows are taken together in one line, so that the table can be read; `simsparse validate` lists all.
Below it stand the errors of GPU kernels outside of their fit, from `accel_models/gpu/constants/fit.toml`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from accel_models.gpu.fitted import FOLDER
from accel_models.gpu.scores import ASKED, PARTS
from simsparse import validate
from simsparse.scores import Group, score
from simsparse.specs import read_toml
from simsparse.validate import ValidationReport

BEGIN, END = "<!-- validation -->", "<!-- end of validation -->"
HELD_OUT = (
    "GPU kernels in their fit and outside of it, median / 90th percentile: with a fifth of the shapes left out, and "
    "with a card left out and predicted as any unknown card. Intervals are made without the rows they are held against."
)
FEW = 20  # rows
REASONS = 5
TITLES = (
    "system", "device", "metric", "rows", "priced", "in a fit", "median error", "90 % within", "bias", "Kendall's tau",
    "in 80 % interval",
)  # fmt: skip


def table(report: ValidationReport) -> str:
    """The report as Markdown: systems with `FEW` rows or more, the others together, all, and what was not priced."""
    large = sorted((group for group in report.groups if group.n >= FEW), key=_order)
    small = [group for group in report.groups if group.n < FEW]
    overall = report.overall
    lines = [_line(TITLES), _line(["---"] * 3 + ["---:"] * 8), *(_group_line(group) for group in large)]
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
    fitted = f"{group.fitted.n:,}" if group.fitted.n + group.held_out.n else "?"
    covered = "" if group.coverage is None else f"{group.coverage:.0%}".replace("%", " %")
    return [f"{group.n:,}", f"{group.priced:,}", fitted, *errors, tau, covered]


def _percent(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.1%}".replace("%", " %")


def _errors(report: ValidationReport, groups: Sequence[Group]) -> Group:
    """Several groups as one, from their rows; ranks of different metrics do not compare."""
    keys = {(group.system, group.device, group.metric) for group in groups}
    rows = [row for row in report.rows if (row.system, row.device, row.metric) in keys]
    return score(("", "", ""), rows, ranked=False)


def held_out() -> Iterator[str]:
    """Errors of GPU kernels in their fit and outside of it, as the fit wrote them, as Markdown."""
    said = read_toml(FOLDER / "fit.toml")
    titles = ["kernel", "rows", "of", *PARTS, "in 80 % interval"]
    yield from (_line(titles), _line(["---", "---:", "---", *["---:"] * len(PARTS), "---:"]))
    for kernel, family in said["families"].items():
        for what in ("latency", "speedup"):
            pairs = [family.get(f"{what}, {part}") for part in PARTS]
            if any(pairs):
                rows = f"{sum(family['rows'].values()):,}"
                covered = said["coverage, shapes left out"].get(kernel, {}).get("inside")
                inside = f"{covered:.0%}".replace("%", " %") if covered is not None else ""
                yield _line([kernel, rows, what, *map(_pair, pairs), inside])
    yield ""
    for name, pair in said["cards_left_out"].items():
        yield f"- Pooled over cards left out, {name}: {_pair(pair)} (asked: {_pair(ASKED[name])})"


def _pair(errors: Sequence[float] | None) -> str:
    return "" if errors is None else " / ".join(_percent(error) for error in errors)


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
    text = "\n".join([table(validate(sys.argv[2:])), "", HELD_OUT, "", *held_out()])
    page.write_text(put(page.read_text(encoding="utf-8"), text), encoding="utf-8")
