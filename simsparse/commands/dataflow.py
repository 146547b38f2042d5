"""`dataflow`: analysis of loop nests on described architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simsparse.commands.dataflow_compare import compare
from simsparse.commands.dataflow_explain import explain
from simsparse.commands.dataflow_map import map_
from simsparse.commands.files import writable, write_files
from simsparse.commands.options import FormatOption, Output
from simsparse.commands.output import Report, emit, working
from simsparse.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simsparse.dataflow.analysis import Analysis
    from simsparse.dataflow.reference import Case


def add_to(app: typer.Typer) -> None:
    """Add the group of this module."""
    group = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    group.callback()(dataflow)
    group.command()(analyze)
    group.command()(explain)
    group.command("map")(map_)
    group.command()(compare)
    group.command("import")(import_)
    app.add_typer(group, name="dataflow")


def dataflow() -> None:
    """What loop nests move, take and burn on storage levels. With sparse features.

    Designs are TOML files: shipped ones by name (stc, dstc, eyeriss, sparse-array ...), your own by path, or `import`
    of Timeloop YAML. Every figure of one can be set: --set levels.SMEM.capacity_words=131072, formats and actions as
    texts: --set 'levels.SMEM.formats.A=uop rle:4', --set 'levels.RF.actions=skip C on A B; gate B on A'.
    """


def analyze(
    cases: Annotated[str, typer.Argument(metavar="CASES.json", help="Runs: problem, architecture, mapping.")],
    case: Annotated[list[str] | None, typer.Option("--case", metavar="ID", help="Only this one; repeatable.")] = None,
    inputs: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where architectures.json and masks lie; default: beside CASES.")
    ] = None,
    form: FormatOption = None,
    output: Output = None,
) -> None:
    """Counts, cycles and energy of described runs. With Sparseloop's rounding.

    Of one run the table says what each level does to each tensor; JSON has every counter of every run.
    """
    from pathlib import Path

    from simsparse.dataflow.reference import read_cases

    runs = read_cases(Path(cases), Path(inputs) if inputs is not None else None, tuple(case) if case else None)
    with working(f"analysing {cases}"):
        emit(_report(runs), form, output)


def import_(
    files: Annotated[list[str], typer.Argument(metavar="FILES…", help="Timeloop YAML of version 0.4, in parts.")],
    clock_hz: Annotated[
        float | None, typer.Option(help="Clock of the design; default: 1 / global_cycle_seconds, else 1e9.")
    ] = None,
    form: FormatOption = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="FILE", callback=writable, help="A design as TOML; else counts are written."
        ),
    ] = None,
) -> None:
    """Read a Timeloop or Sparseloop specification. Write it as a design, or analyse its mapping.

    What has no effect here is said on stderr; what would change counts and is not covered is an error.
    """
    from pathlib import Path

    from simsparse.dataflow.design_text import design_text
    from simsparse.dataflow.reference import Case
    from simsparse.dataflow.timeloop import read_timeloop

    paths = [Path(file) for file in files]
    found = read_timeloop(paths)
    for note in found.notes:
        typer.echo(f"simsparse: {note}", err=True)
    if output is not None and output.endswith(".toml"):
        source = f"imported from {', '.join(path.name for path in paths)}"
        write_files({output: design_text(found, Path(output).stem, source, clock_hz).encode()})
        return
    if found.problem is None or found.architecture is None or found.mapping is None:
        raise InputError(
            "analysis needs problem, architecture and mapping, expected files with all three or -o FILE.toml"
        )
    case = Case(paths[0].stem, found.problem, found.architecture, found.mapping, dense=False)
    emit(_report((case,)), form, output)


def _report(runs: tuple[Case, ...]) -> Report:
    from dataclasses import asdict

    from rich.console import Group
    from rich.text import Text

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
                "counters": [asdict(counter) for counter in counters(analysis, dense=run.dense)],
            }
            for run, analysis in analyses
        ]
        return dumps({"cases": listed})

    def as_table() -> RenderableType:
        return (
            Group(plain_table(summary), Text(""), _accesses(analyses[0][1])) if len(runs) == 1 else plain_table(summary)
        )

    return Report(as_table, as_json, lambda: summary)


def _accesses(analysis: Analysis) -> RenderableType:
    """What each level does to each tensor, per instance."""
    from simsparse.dataflow._arrays import Count
    from simsparse.render import plain, si, table

    shown = (
        Count.OCCUPANCY_MAX, Count.ACTUAL_READS, Count.GATED_READS, Count.SKIPPED_READS, Count.ACTUAL_FILLS,
        Count.ACTUAL_UPDATES,
    )  # fmt: skip
    figures = ("words held", "reads", "gated", "skipped", "fills", "updates", "energy")
    rows = []
    for level in analysis.architecture.level_names:
        for tensor in analysis.problem.names:
            if analysis.stored(level, tensor):
                energy_j = analysis.count(level, tensor, Count.ENERGY_PJ) * 1e-12
                counts = [plain(analysis.count(level, tensor, which)) for which in shown]
                rows.append((level, tensor, *counts, si(energy_j, "J")))
    return table(("level", "tensor", *figures), rows, right=figures, gap=1)
