"""`breakeven`: from which sparsity and for which batches a pattern wins."""

from __future__ import annotations

from typing import Annotated

import typer

from simsparse.commands.options import (
    DTypeName,
    FormatOption,
    On,
    Output,
    Plot,
    Plugin,
    Set,
    load_plugins,
    read_changes,
)
from simsparse.commands.output import Report, check_picture, emit, working


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(breakeven)


def breakeven(
    m: Annotated[int, typer.Argument(metavar="M", help="Rows of A: outputs.")],
    n: Annotated[int, typer.Argument(metavar="N", help="Columns of B: tokens.")],
    k: Annotated[int, typer.Argument(metavar="K", help="The reduction.")],
    on: On,
    family: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Pattern with a * for what varies: unstructured:*, 2:*; repeatable."),
    ] = None,
    pattern: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Pattern to follow over N; repeatable.")
    ] = None,
    most_n: Annotated[int, typer.Option(help="N to follow it up to.")] = 8192,
    dtype: DTypeName = "fp16",
    set_: Set = None,
    form: FormatOption = None,
    output: Output = None,
    plot: Plot = None,
    plugin: Plugin = None,
) -> None:
    """From which sparsity each family of patterns beats dense. And for which batch sizes one does."""
    check_picture(plot)
    load_plugins(plugin)
    from simsparse.breakeven import FAMILIES, PATTERNS
    from simsparse.breakeven import breakeven as find
    from simsparse.breakeven_report import as_json, breakeven_plot, breakeven_table, columns
    from simsparse.registry import load_machine
    from simsparse.result import dumps

    machine = load_machine(on, read_changes(set_))
    with working(f"pricing patterns on {machine.name}"):
        found = find(
            machine, m, n, k, families=family or FAMILIES, patterns=pattern or PATTERNS, dtype=dtype, most_n=most_n
        )
    report = Report(lambda: breakeven_table(found), lambda: dumps(as_json(found)), lambda: columns(found))
    emit(report, form, output, {plot: breakeven_plot(found)} if plot is not None else {})
