"""`dataflow map`: the best mapping of one layer as a loop nest, why it is best, and the front beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from simsparse.commands.dataflow_options import (
    Budget,
    Cores,
    Goal,
    Inputs,
    Layer,
    chosen_flows,
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
from simsparse.commands.output import Report, check_picture, emit, working
from simsparse.dataflow.budget import BUDGET
from simsparse.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simsparse.dataflow.analysis import Analysis
    from simsparse.dataflow.comparison import Choice
    from simsparse.dataflow.search import Found


def map_(
    workload: WorkloadName,
    layer: Layer,
    on: On,
    pattern: Annotated[str, typer.Option(metavar="PATTERN", help="What is zero in the weights.")] = "dense",
    inputs: Inputs = "dense",
    dataflow: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Keep to these; default: the best of all.")
    ] = None,
    objective: Goal = "latency",
    least_utilisation: Annotated[float, typer.Option(metavar="F", help="Least fraction of the array in use.")] = 0.0,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="LEVEL=WORDS", help="Fill no more of a level; repeatable.")
    ] = None,
    mean_occupancy: Annotated[
        bool, typer.Option("--mean-occupancy", help="Tiles fit on average, not in the worst case.")
    ] = False,
    no_padding: Annotated[bool, typer.Option("--no-padding", help="Factors divide the dimensions.")] = False,
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
    """The best mapping of one layer on a described design. As a loop nest, and why; --plot draws the Pareto front.

    A value takes one word of the design, whatever its type; `simulate` prices wider ones.
    """
    check_picture(plot)
    load_plugins(plugin)
    from simsparse.dataflow.comparison import choose, flows_on
    from simsparse.dataflow.objective import Constraints
    from simsparse.sparsity import parse

    design, goal, density, zeros = read_design(on, set_), read_goal(objective), read_inputs(inputs), parse(pattern)
    limits = Constraints(
        chosen_flows(flows_on(design.spec), dataflow), least_utilisation, _limits(limit or ()), mean_occupancy,
        not no_padding,
    )  # fmt: skip
    op = read_layer(workload, layer, phase, batch, seq, context)
    with working(f"mapping {op.name}"):
        choice = choose(op, design, zeros, limits, goal, b_density=density, budget=budget, seed=seed, cores=cores)
    if choice.found is None:
        raise UnsupportedError(choice.why)
    pictures = {}
    if plot is not None:
        from simsparse.dataflow.pictures import pareto_front

        pictures[plot] = pareto_front(choice.found, choice.clock_hz, f"{workload}: {op.name} ({pattern}) on {on}")
    emit(_report(choice, choice.found), form, output, pictures)


def _limits(texts: Sequence[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        level, _, words = text.partition("=")
        try:
            found[level] = float(words)
        except ValueError:
            raise InputError.expected("--limit", text, "LEVEL=WORDS") from None
    return found


def _report(choice: Choice, found: Found) -> Report:
    from simsparse.result import dumps

    best = found.best
    levels = [asdict(level) for level in _levels(best)]

    def as_json() -> str:
        return dumps(
            {
                "pattern": choice.pattern,
                "mode": choice.mode,
                "dataflow": choice.dataflow,
                "cycles": best.cycles,
                "latency_s": choice.latency_s,
                "energy_j": choice.energy_j,
                "bound": best.bound,
                "why": found.why,
                "evaluated": found.evaluated,
                "exhaustive": found.exhaustive,
                "levels": levels,
                "mapping": [
                    {
                        "level": part.level,
                        "keep": part.keep,
                        "streamed": part.streamed,
                        "loops": [[loop.dim, loop.factor, loop.kind.name.lower()] for loop in part.loops],
                    }
                    for part in best.mapping.levels
                ],
                "pareto": [
                    {
                        "latency_s": point.cycles / choice.clock_hz,
                        "cycles": point.cycles,
                        "energy_j": point.energy_j,
                        "dataflow": point.dataflow,
                    }
                    for point in found.pareto
                ],
            }
        )

    columns = {name: [level[name] for level in levels] for name in levels[0]}
    return Report(lambda: _shown(choice, found), as_json, lambda: columns)


@dataclass(frozen=True)
class _Level:
    """What a level holds, moves and burns; the compute is the last one."""

    level: str
    keeps: str
    words_held: float | None
    capacity_words: float | None
    instances: int
    cycles: float
    energy_j: float


def _levels(best: Analysis) -> tuple[_Level, ...]:
    from simsparse.dataflow._arrays import Count, Total

    energies, compute = best.energies_j(), best.architecture.compute
    storages = tuple(
        _Level(
            level.name,
            " ".join((*part.keep, *(f"({name})" for name in part.streamed))),
            sum(best.count(level.name, name, Count.OCCUPANCY_MAX) for name in part.keep),
            level.capacity_words,
            level.instances,
            best.level_cycles(level.name),
            energies[level.name],
        )
        for level, part in zip(best.architecture.levels, best.mapping.levels, strict=True)
    )
    cycles = best.total(Total.COMPUTE_CYCLES)
    return (*storages, _Level(compute.name, "", None, None, compute.instances, cycles, energies[compute.name]))


def nest_lines(best: Analysis) -> Iterator[str]:
    """The mapping as nested loops: `for` in time, `spread` over the mesh, the tensors of a level where it starts."""
    depth = 0
    for part in best.mapping.levels:
        streams = f", passes {' '.join(part.streamed)}" if part.streamed else ""
        yield f"{'  ' * depth}{part.level}{' keeps ' + ' '.join(part.keep) if part.keep else ''}{streams}"
        for loop in part.loops:
            if loop.factor > 1:
                depth += 1
                spread = loop in part.spatial
                along = f" along {loop.kind.name.lower()}" if spread else ""
                yield f"{'  ' * depth}{'spread' if spread else 'for'} {loop.dim} in {loop.factor}{along}"
        depth += 1
    output = best.problem.output
    inputs = " · ".join(name for name in best.problem.names if name != output)
    yield f"{'  ' * depth}{best.architecture.compute.name}: {output} += {inputs}"


def _shown(choice: Choice, found: Found) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from simsparse.render import plain, si, table

    best = found.best
    rows = [
        (
            level.level, level.keeps,
            "" if level.words_held is None else f"{plain(level.words_held)} of {_room(level.capacity_words)}",
            f"{level.instances:,}", plain(level.cycles), si(level.energy_j, "J"),
        )
        for level in _levels(best)
    ]  # fmt: skip
    every = ", all there are" if found.exhaustive else ""
    front = f"{len(found.pareto)} on the Pareto front" if len(found.pareto) > 1 else "none beats it in either"
    return Group(
        Text(
            f"{si(choice.latency_s or 0.0, 's')} ({best.cycles:,.0f} cycles), {si(choice.energy_j or 0.0, 'J')}, "
            f"mode {choice.mode}\n{found.why}\n{found.evaluated:,} mappings evaluated{every}; {front}\n"
        ),
        Text("\n".join(nest_lines(best)) + "\n"),
        table(("level", "keeps", "words held", "instances", "cycles", "energy"), rows,
              right=("words held", "instances", "cycles", "energy")),
    )  # fmt: skip


def _room(words: float | None) -> str:
    from simsparse.render import plain

    return "∞" if words is None or math.isinf(words) else plain(words)
