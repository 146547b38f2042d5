"""`dataflow compare`: the best dataflow of each pattern, as a table with bars and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from simsparse.commands.dataflow_options import (
    Budget,
    Cores,
    Goal,
    Inputs,
    Layer,
    chosen_flows,
    counting,
    read_design,
    read_goal,
    read_inputs,
    read_layer,
)
from simsparse.commands.options import (
    Batch,
    Context,
    FormatOption,
    On,
    Output,
    Phase,
    Plot,
    Plugin,
    Seed,
    Seq,
    Set,
    WorkloadName,
    load_plugins,
)
from simsparse.commands.output import Report, check_picture, emit
from simsparse.dataflow.budget import BUDGET
from simsparse.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simsparse.dataflow.comparison import Choice
    from simsparse.dataflow.objective import Objective

BAR = 16  # characters


def compare(
    workload: WorkloadName,
    layer: Layer,
    on: On,
    patterns: Annotated[str, typer.Option(metavar="PATTERN,…", help="Patterns of the weights, separated by commas.")],
    inputs: Inputs = "dense",
    dataflows: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Default: those of the design, and the textbook ones.")
    ] = None,
    objective: Goal = "latency",
    budget: Budget = BUDGET,
    phase: Phase = None,
    batch: Batch = 1,
    seq: Seq = None,
    context: Context = None,
    set_: Set = None,
    seed: Seed = 0,
    cores: Cores = 1,
    form: FormatOption = None,
    output: Output = None,
    plot: Plot = None,
    plugin: Plugin = None,
) -> None:
    """Patterns times dataflows of a layer on a described design. Which is best, by how much, what bounds it.

    A value takes one word of the design, whatever its type; `simulate` prices wider ones.
    """
    check_picture(plot)
    load_plugins(plugin)
    from simsparse.dataflow.comparison import compare as run
    from simsparse.dataflow.comparison import flows_on
    from simsparse.sparsity import parse

    wanted = [parse(text) for text in patterns.split(",") if text.strip()]
    if not wanted:
        raise InputError.expected("--patterns", patterns, "at least one pattern")
    design, goal, density = read_design(on, set_), read_goal(objective), read_inputs(inputs)
    flows = chosen_flows(flows_on(design.spec), dataflows)
    op = read_layer(workload, layer, phase, batch, seq, context)
    with counting(f"mapping {op.name}") as watch:
        choices = run(
            op, design, wanted, flows, goal, b_density=density, budget=budget, seed=seed, cores=cores, watch=watch
        )
    pictures = {}
    if plot is not None:
        from simsparse.dataflow.pictures import dataflow_bars

        pictures[plot] = dataflow_bars(choices, f"{workload}: {op.name} on {on}")
    emit(_report(choices, goal), form, output, pictures)


def _report(choices: tuple[Choice, ...], goal: Objective) -> Report:
    from simsparse.result import dumps

    best, base = best_of(choices, goal), _base(choices)
    columns: dict[str, list[object]] = {
        "pattern": [choice.pattern for choice in choices],
        "dataflow": [choice.dataflow for choice in choices],
        "best": [best.get(choice.pattern) is choice for choice in choices],
        "mode": [choice.mode for choice in choices],
        "latency_s": [choice.latency_s for choice in choices],
        "energy_j": [choice.energy_j for choice in choices],
        "speedup": [_speedup(choice, base) for choice in choices],
        "bound": [choice.found.best.bound if choice.found else None for choice in choices],
        "why": [choice.why for choice in choices],
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return Report(lambda: _shown(choices, best, base), lambda: dumps({"rows": rows}), lambda: columns)


def best_of(choices: Sequence[Choice], goal: Objective) -> dict[str, Choice]:
    """The best of each pattern; what fits nowhere is not among them."""
    best: dict[str, Choice] = {}
    for choice in choices:
        if choice.found is not None:
            best[choice.pattern] = min(best.get(choice.pattern, choice), choice, key=lambda c: c.score(goal))
    return best


def _base(choices: Sequence[Choice]) -> float | None:
    """The fastest dense latency."""
    return min((c.latency_s for c in choices if c.pattern == "dense" and c.latency_s is not None), default=None)


def _speedup(choice: Choice, base: float | None) -> float | None:
    return None if base is None or choice.latency_s is None else base / choice.latency_s


def _shown(choices: Sequence[Choice], best: dict[str, Choice], base: float | None) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from simsparse.dataflow.bars import bar, shown_most
    from simsparse.render import si, table, times

    groups = [[c.latency_s for c in choices if c.pattern == p and c.latency_s is not None] for p in best]
    top = shown_most(groups)
    rows = []
    named = ""
    for choice in choices:
        gain, found = _speedup(choice, base), choice.found
        latency_s, energy_j = choice.latency_s or 0.0, choice.energy_j or 0.0
        rows.append(
            (
                "" if choice.pattern == named else choice.pattern,
                "*" if best.get(choice.pattern) is choice else "",
                choice.dataflow,
                si(latency_s, "s") if found else "–",
                bar(latency_s, top, BAR) if found else "",
                "" if gain is None else times(gain),
                si(energy_j, "J") if found else "–",
                found.best.bound if found else "–",
            )
        )
        named = choice.pattern
    titles = ("pattern", "", "dataflow", "latency", " ", "speedup", "energy", "bound")
    made = table(titles, rows, right=("latency", "speedup", "energy"), gap=1)
    for index, choice in enumerate(choices):
        made.rows[index].style = "bold" if best.get(choice.pattern) is choice else ""
    said = [f"* {name} (mode {choice.mode}): {choice.why}" for name, choice in best.items()]
    failed = [choice for choice in choices if choice.found is None]
    for why in dict.fromkeys(choice.why for choice in failed):
        of = dict.fromkeys(choice.dataflow for choice in failed if choice.why == why)
        said.append(f"– {', '.join(of)}: {why}")
    return Group(made, Text(""), *map(Text, said))
