"""`dataflow`: analysis of loop nests on described architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simsparse.commands.options import FormatOption, Output
from simsparse.commands.output import Report, emit, working

if TYPE_CHECKING:
    from simsparse.dataflow.reference import Case


def add_to(app: typer.Typer) -> None:
    """Add the group of this module."""
    group = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    group.callback()(dataflow)
    group.command()(analyze)
    app.add_typer(group, name="dataflow")


def dataflow() -> None:
    """What loop nests move, take and burn on storage levels with sparse features."""


def analyze(
    cases: Annotated[str, typer.Argument(metavar="CASES.json", help="Runs: problem, architecture, mapping.")],
    case: Annotated[list[str] | None, typer.Option("--case", metavar="ID", help="Only this one; repeatable.")] = None,
    inputs: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where architectures.json and masks lie; default: beside CASES.")
    ] = None,
    form: FormatOption = None,
    output: Output = None,
) -> None:
    """Counts, cycles and energy of described runs, with Sparseloop's rounding."""
    from pathlib import Path

    from simsparse.dataflow.reference import read_cases

    runs = read_cases(Path(cases), Path(inputs) if inputs is not None else None, tuple(case) if case else None)
    with working(f"analysing {cases}"):
        emit(_report(runs), form, output)


def _report(runs: tuple[Case, ...]) -> Report:
    from dataclasses import asdict

    from simsparse.dataflow.counters import counters
    from simsparse.render import plain_table
    from simsparse.result import dumps

    analyses = [(run, run.analyze()) for run in runs]
    summary: dict[str, list[object]] = {
        "case": [run.id for run, _ in analyses],
        "cycles": [analysis.cycles for _, analysis in analyses],
        "energy_j": [analysis.energy_j for _, analysis in analyses],
        "bound": [analysis.bound for _, analysis in analyses],
    }

    def as_json() -> str:
        listed = [
            {
                "case": run.id,
                "cycles": analysis.cycles,
                "energy_j": analysis.energy_j,
                "bound": analysis.bound,
                "counters": [asdict(counter) for counter in counters(analysis, dense=run.dense)],
            }
            for run, analysis in analyses
        ]
        return dumps({"cases": listed})

    return Report(lambda: plain_table(summary), as_json, lambda: summary)
