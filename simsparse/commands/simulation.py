"""`simulate`, `compare`, `diff`."""

from __future__ import annotations

from typing import Annotated

import typer

from simsparse.commands.options import (
    Batch,
    Context,
    DTypeName,
    FormatOption,
    Framework,
    Kernel,
    Methods,
    On,
    OnSeveral,
    Output,
    Phase,
    Plot,
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
from simsparse.commands.output import Report, check_picture, emit, working
from simsparse.errors import InputError


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (simulate, compare, diff):
        app.command()(command)


def simulate(
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
    form: FormatOption = None,
    output: Output = None,
    plot: Plot = None,
    plugin: Plugin = None,
    seed: Seed = 0,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also terms, alternatives, provenance.")] = False,
) -> None:
    """Time and energy of a model on a machine, call by call. Beside dense."""
    check_picture(plot)
    load_plugins(plugin)
    from simsparse.registry import load_machine, load_workload
    from simsparse.simulate import simulate as run

    patterns, changes = read_sparsity(sparsity), read_changes(set_, framework)
    with working(f"simulating {workload}"):
        machine = load_machine(on, changes)
        work = load_workload(workload, phase=phase, batch=batch, seq=seq, context=context, dtype=dtype)
        work = with_methods(work, method)
        if patterns:
            work = work.with_sparsity(patterns, seed=seed)
        result = run(work, machine, kernel=kernel)

    from simsparse.render import result_table

    report = Report(lambda: result_table(result, verbose=verbose), result.to_json, result.columns)
    pictures = {}
    if plot is not None:
        from simsparse.plots import overview

        pictures[plot] = overview(result)
    emit(report, form, output, pictures)


def compare(
    workload: WorkloadName,
    on: OnSeveral,
    patterns: Annotated[
        str, typer.Option(metavar="PATTERN,…", help="Patterns, separated by commas; with --plot at most 8.")
    ],
    ops: Annotated[str, typer.Option(metavar="GLOB", help="Ops that get the patterns.")] = "*",
    phase: Phase = None,
    batch: Batch = 1,
    seq: Seq = None,
    context: Context = None,
    dtype: DTypeName = "fp16",
    method: Methods = None,
    kernel: Kernel = "best",
    framework: Framework = None,
    set_: Set = None,
    form: FormatOption = None,
    output: Output = None,
    plot: Plot = None,
    plugin: Plugin = None,
) -> None:
    """Patterns times machines: the speedup of each, and why."""
    check_picture(plot)
    load_plugins(plugin)
    from simsparse.registry import load_machine, load_workload
    from simsparse.result import dumps
    from simsparse.simulate import compare as run
    from simsparse.sparsity import parse

    wanted = [parse(text) for text in patterns.split(",") if text.strip()]
    if not wanted:
        raise InputError.expected("--patterns", patterns, "at least one pattern")
    changes = read_changes(set_, framework)
    machines = [load_machine(name, changes) for name in on]
    with working(f"comparing {len(wanted) * len(machines)} pairs"):
        work = load_workload(workload, phase=phase, batch=batch, seq=seq, context=context, dtype=dtype)
        results = run(with_methods(work, method), machines, wanted, on=ops, kernel=kernel)

    from simsparse.compared import Comparison
    from simsparse.render import comparison_table

    comparison = Comparison.of(results, [pattern.text for pattern in wanted])
    report = Report(
        lambda: comparison_table(comparison),
        lambda: dumps({"rows": comparison.rows(), "warnings": list(comparison.warnings)}),
        comparison.columns,
    )
    pictures = {}
    if plot is not None:
        from simsparse.plots import speedup_bars

        pictures[plot] = speedup_bars(comparison)
    emit(report, form, output, pictures)


def diff(
    before: Annotated[str, typer.Argument(metavar="A.json", help="A result saved by simulate --format json.")],
    after: Annotated[str, typer.Argument(metavar="B.json", help="Another one.")],
    form: FormatOption = None,
    output: Output = None,
) -> None:
    """What changed from one saved result to another: totals, rows."""
    from simsparse.diff import diff as compute
    from simsparse.diff import read_result
    from simsparse.render import difference_table
    from simsparse.result import dumps

    difference = compute(read_result(before), read_result(after))
    report = Report(lambda: difference_table(difference), lambda: dumps(difference.as_json()), difference.columns)
    emit(report, form, output)
