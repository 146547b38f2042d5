"""`sweep` and `validate`."""

from __future__ import annotations

from typing import Annotated

import typer

from simsparse.commands.options import FormatOption, Framework, Output, Plugin, load_plugins
from simsparse.commands.output import Report, emit, working


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (sweep, validate):
        app.command()(command)


def sweep(
    spec: Annotated[str, typer.Argument(metavar="SPEC.toml", help="The axes of the grid.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the parts and of table.parquet.")],
    jobs: Annotated[int, typer.Option(help="Processes.")] = 1,
    plugin: Plugin = None,
) -> None:
    """Every point of a grid, into one table. Killed at any moment and started again, it goes on.

    SPEC.toml gives each axis a value or a list: workload and machine must be there; phase, batch, seq, context,
    dtype, method ("none", "slice:0.25", "slice:0.25; tp:2"), on (globs), pattern and kernel may be; fields of the
    machines' specs stand in a table [set]. The sweep is their product, a row a point. For example:

    \b
    workload = ["llama-2-7b", "mistral-7b"]
    machine = "a100-sxm-80gb"
    phase = "decode"
    batch = [1, 8, 64]
    on = "*.mlp.*"
    pattern = ["dense", "2:4"]
    [set]
    dram_bandwidth_bytes_per_s = [2e12, 4e12]
    """
    load_plugins(plugin)
    import pyarrow.parquet as pq

    from simsparse.sweep import run_sweep
    from simsparse.sweep_parts import failures
    from simsparse.sweep_progress import progress_bar

    with progress_bar() as watch:
        table = run_sweep(spec, out, jobs=jobs, progress=watch)
    typer.echo(f"{pq.read_metadata(table).num_rows} rows in {table}")
    failed, example = failures(table)
    if failed:
        typer.echo(f"{failed} of them could not run, see column error; the first: {example}", err=True)


def validate(
    paths: Annotated[list[str], typer.Argument(metavar="FILE_OR_FOLDER", help="Measurements: CSV files or folders.")],
    system: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Only these systems; repeatable.")] = None,
    device: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Only these devices; repeatable.")] = None,
    phase: Annotated[list[str] | None, typer.Option(metavar="GLOB", help="Only these phases; repeatable.")] = None,
    framework: Framework = None,
    form: FormatOption = None,
    output: Output = None,
    plugin: Plugin = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also every row.")] = False,
) -> None:
    """Predictions against measurements. Errors and rank correlation of each system and device.

    Rows of models run in the framework that they name, unless --framework names another.
    """
    load_plugins(plugin)
    from simsparse.validate import validate as run

    with working("predicting measurements"):
        report = run(paths, systems=system or (), devices=device or (), phases=phase or (), framework=framework)

    from simsparse.validate_render import validation_table

    emit(
        Report(
            lambda: validation_table(report, rows=verbose),
            report.to_json,
            lambda: {str(name): column.to_list() for name, column in report.to_frame().items()},
        ),
        form,
        output,
    )
