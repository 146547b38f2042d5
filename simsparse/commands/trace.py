"""`trace`: a plan run event by event, as a table, a Gantt picture or a trace that Perfetto opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simsparse.commands.files import writable, write_files
from simsparse.commands.options import (
    Batch,
    Context,
    DTypeName,
    FormatOption,
    Framework,
    Kernel,
    Methods,
    On,
    Phase,
    Plugin,
    Seed,
    Seq,
    Set,
    Sparsity,
    WorkloadName,
    load_plugins,
    read_changes,
    read_sparsity,
    with_methods,
)
from simsparse.commands.output import PICTURES, Report, emit, working
from simsparse.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simsparse.event_log import EventLog

_TRACES = (".json", *PICTURES)


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(trace)


def trace(
    workload: WorkloadName,
    on: On,
    phase: Phase = None,
    batch: Batch = 1,
    seq: Seq = None,
    context: Context = None,
    dtype: DTypeName = "fp16",
    sparsity: Sparsity = None,
    method: Methods = None,
    kernel: Kernel = "best",
    framework: Framework = None,
    set_: Set = None,
    op: Annotated[
        list[str] | None, typer.Option("--op", metavar="GLOB", help="Only calls whose ops a glob names; repeatable.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            callback=writable,
            help="A picture (.png, .svg, .pdf), or .json for ui.perfetto.dev.",
        ),
    ] = None,
    tiles_per_call: Annotated[
        int | None, typer.Option(metavar="N", help="Coarsen calls of more tiles.", show_default="1024")
    ] = None,
    max_events: Annotated[
        int | None, typer.Option(metavar="N", help="Refuse to simulate more.", show_default="4,000,000")
    ] = None,
    store_share: Annotated[
        float, typer.Option(metavar="FRACTION", help="Bandwidth that only stores use; 0: all take turns.")
    ] = 0.0,
    form: FormatOption = None,
    plugin: Plugin = None,
    seed: Seed = 0,
) -> None:
    """Run a model on a machine event by event. Who works when, and what it waits for."""
    if output is not None and Path(output).suffix.lower() not in _TRACES:
        raise InputError.expected("--output", output, f"a file that ends in {', '.join(_TRACES)}")
    load_plugins(plugin)
    from simsparse.events import MAX_EVENTS, TILES_PER_CALL, HasNotes, run
    from simsparse.registry import load_machine, load_workload

    patterns, changes = read_sparsity(sparsity), read_changes(set_, framework)
    with working(f"tracing {workload}"):
        machine = load_machine(on, changes)
        work = load_workload(workload, phase=phase, batch=batch, seq=seq, context=context, dtype=dtype)
        work = with_methods(work, method)
        if patterns:
            work = work.with_sparsity(patterns, seed=seed)
        plan = machine.lower(work, kernel=kernel)
        if op:
            plan = plan.covering(op)
        log = run(
            machine,
            plan,
            tiles_per_call=TILES_PER_CALL if tiles_per_call is None else tiles_per_call,
            max_events=MAX_EVENTS if max_events is None else max_events,
            store_share=store_share,
        )
    title = f"{workload} on {machine.name}, batch {batch}"
    pictures = {}
    if output is not None and Path(output).suffix.lower() == ".json":
        write_files({output: (json.dumps(log.to_chrome_trace()) + "\n").encode()})
    elif output is not None:
        from simsparse.gantt import gantt

        pictures[output] = gantt(log, title=title)
    notes = machine.notes(plan) if isinstance(machine, HasNotes) else ()
    emit(_report(log, title, notes), form, None, pictures)


def _report(log: EventLog, title: str, notes: tuple[str, ...]) -> Report:
    from simsparse.result import dumps

    columns = log.engine_cycles()

    def as_json() -> str:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        total = {"latency_s": log.total_s, "cycles": log.total_s * log.clock_hz, "events": len(log)}
        return dumps({"title": title, **total, "engines": rows, "notes": list(notes)})

    def as_table() -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        from simsparse.render import plain, si, table

        figures = [name for name in columns if name != "engine"]
        rows = [
            [cell if isinstance(cell, str) else plain(cell) for cell in row]
            for row in zip(*columns.values(), strict=True)
        ]
        head = f"{title}: {si(log.total_s, 's')}, {plain(log.total_s * log.clock_hz)} cycles, {len(log):,} events"
        return Group(
            Text(head), Text(""), table([name.replace("_", " ") for name in columns], rows,
            right=[name.replace("_", " ") for name in figures]), *map(Text, notes),
        )  # fmt: skip

    return Report(as_table, as_json, lambda: columns)
