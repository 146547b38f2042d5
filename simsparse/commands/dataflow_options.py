"""What `dataflow map` and `dataflow compare` share: the design, the layer, the objective, zeros of the inputs."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from simsparse.commands.options import read_changes
from simsparse.commands.output import SLOW_S, console
from simsparse.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from simsparse.dataflow.comparison import Design
    from simsparse.dataflow.dataflows import Dataflow
    from simsparse.dataflow.objective import Objective
    from simsparse.ops import Contraction

Layer = Annotated[str, typer.Option(metavar="NAME", help="The op, such as layers.0.mlp.up_proj.")]
Goal = Annotated[
    str,
    typer.Option("--objective", metavar="GOAL", help="latency, energy, edp, or blend:W with a weight W of latency."),
]
Inputs = Annotated[str, typer.Option(metavar="act:F", help="Fraction of the inputs that is zero, at random places.")]
Budget = Annotated[int, typer.Option(help="Mappings to evaluate in each search where there are more.")]
Cores = Annotated[int, typer.Option(help="Cores that evaluate mappings.")]


def read_design(name: str, changes: Sequence[str] | None) -> Design:
    """A machine that is described by levels and dataflows, with `--set`.

    Raises
    ------
    SimsparseError
        For any other machine, or a change that it does not take.
    """
    from simsparse.dataflow.comparison import Design
    from simsparse.dataflow.design import DesignSpec
    from simsparse.registry import load_machine

    machine = load_machine(name, read_changes(changes))
    if not isinstance(machine, Design) or not isinstance(machine.spec, DesignSpec):
        raise InputError.expected("--on", name, "a design that is described by levels and dataflows, such as stc")
    return machine


def read_layer(
    workload: str, layer: str, phase: str | None, batch: int, seq: int | None, context: int | None
) -> Contraction:
    """The op of a name; one op stands for the same layer of all blocks.

    Raises
    ------
    UnknownNameError
        For a layer that the workload does not have.
    """
    from fnmatch import fnmatchcase

    from simsparse.registry import load_workload

    ops = list(load_workload(workload, phase=phase, batch=batch, seq=seq, context=context).contractions())
    for op in ops:
        if fnmatchcase(layer, op.name):
            return op
    raise UnknownNameError.near("layer", layer, [op.name for op in ops])


def read_goal(text: str) -> Objective:
    """An objective from its text.

    Raises
    ------
    InputError
        For what is none.
    """
    from simsparse.dataflow.objective import NAMED, Objective

    if text in NAMED:
        return NAMED[text]
    word, _, weight = text.partition(":")
    try:
        latency = float(weight)
    except ValueError:
        word = ""
    if word != "blend":
        raise InputError.expected("--objective", text, f"{', '.join(NAMED)} or blend:W with W from 0 to 1")
    return Objective.blend(latency)


def read_inputs(text: str) -> float:
    """The density of the inputs.

    Raises
    ------
    InputError
        For a pattern that is not one of inputs.
    """
    from simsparse.sparsity import Activation, Dense, parse

    pattern = parse(text)
    if not isinstance(pattern, (Activation, Dense)):
        raise InputError.expected("--inputs", text, "dense or act:F with F the fraction zero")
    return float(pattern.density)


def chosen_flows(known: Sequence[Dataflow], text: str | None) -> tuple[Dataflow, ...]:
    """The dataflows that a list of names asks for; all without one.

    Raises
    ------
    UnknownNameError
        For a name that is none of them.
    """
    by_name = {flow.name: flow for flow in known}
    names = list(by_name) if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in by_name:
            raise UnknownNameError.near("dataflow", name, by_name)
    return tuple(by_name[name] for name in names)


@contextlib.contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how many searches are done, once they have taken two seconds."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    begin = time.monotonic()
    with Progress(*columns, console=console(sys.stderr), transient=True, disable=not sys.stderr.isatty()) as shown:
        task = shown.add_task(what, total=None, visible=False)

        def watch(done: int, total: int) -> None:
            shown.update(task, completed=done, total=total, visible=time.monotonic() - begin > SLOW_S)

        yield watch
