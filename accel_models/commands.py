"""Commands that machine families add to the command line; what they need is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simsparse.commands.files import writable
from simsparse.commands.options import Batch, FormatOption, Output, Plot, Plugin, Seq, load_plugins
from simsparse.commands.output import Report, check_picture, emit, working
from simsparse.errors import InputError

TRAINERS = {"sat": "sat-vcu1525"}


def report(
    design: Annotated[str, typer.Argument(metavar="DESIGN", help="Whose published figures are compared: sat.")],
    on: Annotated[str, typer.Option("--on", metavar="MACHINE", help="Machine of the family.")] = TRAINERS["sat"],
    sparsity: Annotated[str, typer.Option("--sparsity", metavar="N:M", help="N:M of the weights.")] = "2:8",
    form: FormatOption = None,
    output: Output = None,
) -> None:
    """A published design beside its model. Speedups, ablations, sensitivities, rivals, resources."""
    if design not in TRAINERS:
        raise InputError.expected("DESIGN", design, f"one of {', '.join(TRAINERS)}")
    from accel_models.fpga import report as sat
    from simsparse.render import FittedTable
    from simsparse.result import dumps

    with working(f"computing the report of {design}"):
        found = sat.report(on, sparsity)
    columns: dict[str, list[object]] = {
        "network": [row.network for row in found.speedups],
        "batch": [row.batch for row in found.speedups],
        "dense_s": [row.dense.latency_s for row in found.speedups],
        "sparse_s": [row.sparse.latency_s for row in found.speedups],
        "speedup": [row.speedup for row in found.speedups],
        "bound": [row.bound for row in found.speedups],
    }

    def as_text() -> FittedTable:
        lines = list(sat.text(found))
        made = FittedTable(box=None, show_header=False, pad_edge=False, padding=0)
        made.add_column(no_wrap=True)
        made.least = made.roomy = max(map(len, lines))
        for line in lines:
            made.add_row(line)
        return made

    emit(Report(as_text, lambda: dumps(sat.as_data(found)), lambda: columns), form, output)


def design(
    family: Annotated[str, typer.Argument(metavar="DESIGN", help="What is designed: sat.")],
    workload: Annotated[str, typer.Option("--workload", metavar="WORKLOAD", help="What it is designed for.")],
    on: Annotated[str, typer.Option("--on", metavar="MACHINE", help="Whose card it is.")] = TRAINERS["sat"],
    phase: Annotated[str, typer.Option(help="train, or prefill, decode, encode at inference.")] = "train",
    batch: Batch = 1,
    seq: Seq = None,
    scheme: Annotated[str, typer.Option(metavar="NAME", help="Which products of a training step are N:M.")] = "bdwp",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="AXIS=A,B,C", help="Values of a field, or of sparsity; repeatable."),
    ] = None,
    budgets: Annotated[
        list[str] | None, typer.Option("--budget", metavar="COLUMN<=NUMBER", help="A limit on a column; repeatable.")
    ] = None,
    minimise: Annotated[str, typer.Option(help="time, energy or edp: what the best has least of.")] = "time",
    jobs: Annotated[int, typer.Option(help="Threads.")] = 2,
    out: Annotated[
        str | None, typer.Option(metavar="FILE.parquet", callback=writable, help="Write all designs there.")
    ] = None,
    plot: Plot = None,
    form: FormatOption = None,
    output: Output = None,
    plugin: Plugin = None,
) -> None:
    """Designs of a training accelerator that fit a card. Those that no other beats, and the best within a budget.

    Array, N:M, lanes, buffers, memory channels and clock are swept. A design is on the front if no other within the
    budget needs less of one of time, energy and the card, and no more of the others.

    \b
    simsparse design sat --workload resnet-18 --batch 128 --on sat-vcu1525 --budget 'dsp<=4000' --minimise edp
    """
    if family not in TRAINERS:
        raise InputError.expected("DESIGN", family, f"one of {', '.join(TRAINERS)}")
    check_picture(plot)
    if out is not None and Path(out).suffix.lower() != ".parquet":
        raise InputError.expected("--out", out, "a file that ends in .parquet")
    load_plugins(plugin)
    from accel_models.fpga import design_report as reports
    from accel_models.fpga.design import COLUMNS, sweep_designs
    from accel_models.fpga.design_options import read_axes, read_minimise, read_scheme
    from accel_models.fpga.pareto import budget
    from simsparse.result import dumps
    from simsparse.sweep_progress import progress_bar

    axes, patterns = read_axes(changes)
    wanted, how = read_minimise(minimise), read_scheme(scheme)
    for text in budgets or ():
        budget(text, COLUMNS)
    with progress_bar() as watch:
        found = sweep_designs(
            workload, on=on, phase=phase, batch=batch, seq=seq, axes=axes, patterns=patterns, scheme=how, jobs=jobs,
            progress=watch,
        )  # fmt: skip
    choice = found.choose(budgets or (), wanted)
    if out is not None:
        reports.write_parquet(found, out)
    emit(
        Report(
            lambda: reports.table(found, choice),
            lambda: dumps(reports.as_data(found, choice)),
            lambda: found.table(choice.front),
        ),
        form,
        output,
        {plot: reports.picture(found, choice)} if plot is not None else {},
    )
