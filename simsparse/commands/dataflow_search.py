"""`dataflow map` and `dataflow compare`: the best mapping of one layer, and the best dataflow of each pattern."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from simsparse.commands.options import (
    Batch,
    Context,
    FormatOption,
    On,
    Output,
    Phase,
    Plot,
    Seed,
    Seq,
    WorkloadName,
)
from simsparse.commands.output import Report, check_picture, emit, working
from simsparse.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simsparse.dataflow.comparison import Choice, Design
    from simsparse.ops import Contraction

Layer = Annotated[str, typer.Option(metavar="NAME", help="The op, such as layers.0.mlp.up_proj.")]
Cores = Annotated[int, typer.Option(help="Cores that evaluate mappings.")]


class Goal(StrEnum):
    """What a search minimises."""

    LATENCY = "latency"
    ENERGY = "energy"
    EDP = "edp"


GoalOption = Annotated[Goal, typer.Option("--objective", help="What the search minimises.")]


def map_(
    workload: WorkloadName,
    layer: Layer,
    on: On,
    pattern: Annotated[str, typer.Option(metavar="PATTERN", help="What is zero in the weights.")] = "dense",
    dataflow: Annotated[str | None, typer.Option(metavar="NAME", help="Default: the best of all.")] = None,
    objective: GoalOption = Goal.LATENCY,
    phase: Phase = None,
    batch: Batch = 1,
    seq: Seq = None,
    context: Context = None,
    seed: Seed = 0,
    cores: Cores = 1,
    form: FormatOption = None,
    output: Output = None,
) -> None:
    """The best mapping of one layer on a described design, and why."""
    from simsparse.dataflow.comparison import compare as run
    from simsparse.dataflow.comparison import flows_on
    from simsparse.dataflow.objective import NAMED
    from simsparse.errors import UnsupportedError
    from simsparse.sparsity import parse

    design = _design(on)
    known = flows_on(design.spec)
    flows = [flow for flow in known if dataflow in (None, flow.name)]
    if dataflow is not None and not flows:
        raise UnknownNameError.near("dataflow", dataflow, [flow.name for flow in known])
    op = _layer(workload, layer, phase, batch, seq, context)
    with working(f"mapping {layer}"):
        choices = run(op, design, [parse(pattern)], flows, NAMED[objective.value], seed=seed, cores=cores)
    fitting = [choice for choice in choices if choice.found is not None]
    if not fitting:
        raise UnsupportedError(choices[0].why)
    best = min(fitting, key=lambda choice: _goal(choice, objective))
    emit(_mapped(best), form, output)


def compare(
    workload: WorkloadName,
    layer: Layer,
    on: On,
    patterns: Annotated[str, typer.Option(metavar="PATTERN,…", help="Patterns, separated by commas.")],
    objective: GoalOption = Goal.LATENCY,
    phase: Phase = None,
    batch: Batch = 1,
    seq: Seq = None,
    context: Context = None,
    seed: Seed = 0,
    cores: Cores = 1,
    form: FormatOption = None,
    output: Output = None,
    plot: Plot = None,
) -> None:
    """Patterns times dataflows of one layer on a described design: which is best, what bounds it."""
    check_picture(plot)
    from simsparse.dataflow.comparison import compare as run
    from simsparse.dataflow.comparison import dataflow_bars
    from simsparse.dataflow.objective import NAMED
    from simsparse.sparsity import parse

    wanted = [parse(text) for text in patterns.split(",") if text.strip()]
    if not wanted:
        raise InputError.expected("--patterns", patterns, "at least one pattern")
    design = _design(on)
    op = _layer(workload, layer, phase, batch, seq, context)
    with working(f"mapping {layer}"):
        choices = run(op, design, wanted, None, NAMED[objective.value], seed=seed, cores=cores)
    pictures = {} if plot is None else {plot: dataflow_bars(choices, f"{layer} on {on}")}
    emit(_compared(choices, objective), form, output, pictures)


def _design(name: str) -> Design:
    from simsparse.dataflow.comparison import Design
    from simsparse.dataflow.design import DesignSpec
    from simsparse.registry import load_machine

    machine = load_machine(name)
    if not isinstance(machine, Design) or not isinstance(machine.spec, DesignSpec):
        raise InputError.expected("--on", name, "a design that is described by levels and dataflows, such as stc")
    return machine


def _layer(
    workload: str, layer: str, phase: str | None, batch: int, seq: int | None, context: int | None
) -> Contraction:
    from fnmatch import fnmatchcase

    from simsparse.registry import load_workload

    ops = list(load_workload(workload, phase=phase, batch=batch, seq=seq, context=context).contractions())
    for op in ops:
        if fnmatchcase(layer, op.name):  # one op stands for the same layer of all blocks
            return op
    raise UnknownNameError.near("layer", layer, [op.name for op in ops])


def _goal(choice: Choice, objective: Goal) -> tuple[float, float]:
    """What is minimised, and the energy to decide between equals."""
    latency_s, energy_j = choice.latency_s or 0.0, choice.energy_j or 0.0
    return {Goal.LATENCY: latency_s, Goal.ENERGY: energy_j, Goal.EDP: latency_s * energy_j}[objective], energy_j


def _mapped(best: Choice) -> Report:
    from simsparse.render import plain_table
    from simsparse.result import dumps

    assert best.found is not None
    found = best.found
    loops: dict[str, list[object]] = {"level": [], "keeps": [], "loops, outermost first": []}
    for part in found.best.mapping.levels:
        loops["level"].append(part.level)
        loops["keeps"].append(" ".join((*part.keep, *(f"({name})" for name in part.streamed))))
        loops["loops, outermost first"].append(", ".join(map(str, part.loops)))

    def as_json() -> str:
        return dumps(
            {
                "pattern": best.pattern,
                "dataflow": best.dataflow,
                "cycles": found.best.cycles,
                "latency_s": best.latency_s,
                "energy_j": best.energy_j,
                "bound": found.best.bound,
                "why": found.why,
                "evaluated": found.evaluated,
                "exhaustive": found.exhaustive,
                "pareto": [{"cycles": point.cycles, "energy_j": point.energy_j} for point in found.pareto],
                "mapping": [dict(zip(loops, row, strict=True)) for row in zip(*loops.values(), strict=True)],
            }
        )

    def as_table() -> RenderableType:
        from rich.console import Group

        head = (
            f"{found.why}\n{found.best.cycles:,.0f} cycles, {best.latency_s:.4g} s, {best.energy_j:.4g} J; "
            f"{found.evaluated:,} mappings evaluated" + (", all there are" if found.exhaustive else "")
        )
        return Group(head, plain_table(loops))

    return Report(as_table, as_json, lambda: loops)


def _compared(choices: tuple[Choice, ...], objective: Goal) -> Report:
    from simsparse.render import plain_table
    from simsparse.result import dumps

    best: dict[str, Choice] = {}
    for choice in choices:
        if choice.found is not None:
            best[choice.pattern] = min(best.get(choice.pattern, choice), choice, key=lambda c: _goal(c, objective))
    columns: dict[str, list[object]] = {
        "pattern": [choice.pattern for choice in choices],
        "dataflow": [choice.dataflow for choice in choices],
        "best": ["*" if best.get(choice.pattern) is choice else "" for choice in choices],
        "latency_s": [choice.latency_s for choice in choices],
        "energy_j": [choice.energy_j for choice in choices],
        "bound": [choice.found.best.bound if choice.found else None for choice in choices],
        "why": [choice.why for choice in choices],
    }
    shown: dict[str, list[object]] = {
        **{name: columns[name] for name in ("pattern", "dataflow", "best")},
        "latency_ms": [None if c.latency_s is None else f"{1e3 * c.latency_s:.4g}" for c in choices],
        "energy_mj": [None if c.energy_j is None else f"{1e3 * c.energy_j:.4g}" for c in choices],
        "bound": [choice.found.best.bound if choice.found else choice.why for choice in choices],
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return Report(lambda: plain_table(shown), lambda: dumps({"rows": rows}), lambda: columns)
