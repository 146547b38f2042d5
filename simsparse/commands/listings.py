"""`extract`, `workloads`, `machines`, `patterns`: what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from simsparse.commands.files import write_files
from simsparse.commands.options import (
    Batch,
    Context,
    DTypeName,
    FormatOption,
    Methods,
    Output,
    Phase,
    Plugin,
    Seq,
    WorkloadName,
    load_plugins,
    with_methods,
)
from simsparse.commands.output import Report, emit, working
from simsparse.errors import InputError

_Columns = Mapping[str, Sequence[object]]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (extract, workloads, patterns):
        app.command()(command)
    group = typer.Typer(rich_markup_mode=None)
    group.callback(invoke_without_command=True)(machines)
    group.command()(show)
    app.add_typer(group, name="machines")


def extract(
    workload: WorkloadName,
    phase: Phase = None,
    batch: Batch = 1,
    seq: Seq = None,
    context: Context = None,
    dtype: DTypeName = "fp16",
    method: Methods = None,
    form: FormatOption = None,
    output: Output = None,
    plugin: Plugin = None,
) -> None:
    """The ops of a model, its parameters and its FLOPs. FLOPs and bytes of an op are of all its instances together."""
    load_plugins(plugin)
    from simsparse.inventory import op_columns, totals
    from simsparse.registry import load_workload
    from simsparse.render import inventory_table
    from simsparse.result import dumps

    with working(f"reading {workload}"):
        work = load_workload(workload, phase=phase, batch=batch, seq=seq, context=context, dtype=dtype)
        work = with_methods(work, method)
    columns = op_columns(work)
    emit(
        Report(
            lambda: inventory_table(work, columns),
            lambda: dumps({**totals(work), "ops": _rows(columns)}),
            lambda: columns,
        ),
        form,
        output,
    )


def workloads(
    parameters: Annotated[bool, typer.Option("--parameters", help="Also phase and parameters; takes seconds.")] = False,
    form: FormatOption = None,
    output: Output = None,
    plugin: Plugin = None,
) -> None:
    """The workloads that are shipped, and where each comes from."""
    load_plugins(plugin)
    from simsparse.registry import load_workload, workload_sources

    columns: dict[str, list[object]] = {"workload": [], "source": []}
    for name, source in workload_sources().items():
        columns["workload"].append(name)
        columns["source"].append(type(source).__module__.rpartition(".")[2])
    if parameters:
        with working("counting parameters"):
            works = [load_workload(str(name)) for name in columns["workload"]]
        columns |= {"phase": [str(w.phase) for w in works], "parameters": [w.parameters for w in works]}
    _list("workloads", columns, form, output)


def machines(
    context: typer.Context,
    unverified: Annotated[bool, typer.Option("--unverified", help="List figures nobody looked up, or chose.")] = False,
    form: FormatOption = None,
    output: Output = None,
    plugin: Plugin = None,
) -> None:
    """The shipped machines; `machines show NAME` prints one."""
    load_plugins(plugin)
    if context.invoked_subcommand is not None:
        return
    from simsparse.registry import load_spec, machine_names, shipped

    specs = [load_spec(name) for name in machine_names() if shipped(name) is not None]
    if unverified:
        figures = [
            (spec.name, field, figure.value, figure.source)
            for spec in specs
            for field, figure in spec.figures()
            if figure.unverified or figure.assumed
        ]
        titles = ("machine", "field", "value", "source")
        _list("figures", {title: [row[i] for row in figures] for i, title in enumerate(titles)}, form, output)
        return
    added = [name for name in machine_names() if shipped(name) is None]
    columns = {
        "machine": [*(spec.name for spec in specs), *added],
        "family": [*(spec.family for spec in specs), *("plug-in" for _ in added)],
        "title": [*(spec.title for spec in specs), *("" for _ in added)],
    }
    _list("machines", columns, form, output)


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name, alias or path.")], output: Output = None
) -> None:
    """Print the TOML of a machine."""
    from simsparse.registry import load_spec, shipped

    path = Path(name) if name.endswith(".toml") else shipped(name) or shipped(load_spec(name).name)
    if path is None:
        raise InputError.expected("NAME", name, "a machine that has a TOML file")
    load_spec(name)
    text = path.read_bytes()
    if output is not None:
        write_files({output: text})
    else:
        typer.echo(text.decode(), nl=False)


def patterns(form: FormatOption = None, output: Output = None) -> None:
    """The text forms of patterns, with an example of each."""
    from simsparse.sparsity import EXAMPLES, Measured, parse

    kinds = [Measured if text.startswith("mask:") else type(parse(text)) for text in EXAMPLES]
    meaning = [(kind.__doc__ or "").strip().splitlines()[0] for kind in kinds]
    kept = [None if text.startswith("mask:") else parse(text).density for text in EXAMPLES]
    _list("patterns", {"pattern": list(EXAMPLES), "density": kept, "meaning": meaning}, form, output)


def _list(what: str, columns: _Columns, form: FormatOption, output: Output) -> None:
    from simsparse.render import plain_table
    from simsparse.result import dumps

    emit(Report(lambda: plain_table(columns), lambda: dumps({what: _rows(columns)}), lambda: columns), form, output)


def _rows(columns: _Columns) -> list[dict[str, object]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
