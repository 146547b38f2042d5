"""`dataflow explain`: which loops multiply into a count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simsparse.commands.options import FormatOption, Output
from simsparse.commands.output import Report, emit
from simsparse.errors import UnknownNameError

if TYPE_CHECKING:
    from simsparse.dataflow._arrays import Count
    from simsparse.dataflow.explain import Explanation


def explain(
    cases: Annotated[str, typer.Argument(metavar="CASES.json", help="Runs: problem, architecture, mapping.")],
    case: Annotated[str, typer.Option("--case", metavar="ID", help="The run.")],
    level: Annotated[str, typer.Option("--level", help="Where it is counted.")],
    tensor: Annotated[str, typer.Option("--tensor", help="Of which tensor.")],
    count: Annotated[
        list[str] | None, typer.Option("--count", help="reads, actual_fills, tile, instances_mean ...; repeatable.")
    ] = None,
    inputs: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where architectures.json and masks lie; default: beside CASES.")
    ] = None,
    form: FormatOption = None,
    output: Output = None,
) -> None:
    """Take counts of a run apart. A tile, times the loops that bring new words, times children, times what is left."""
    from pathlib import Path

    from simsparse.dataflow.reference import read_cases

    wanted = [_count(name) for name in count or ("reads", "actual_reads", "fills", "actual_fills")]
    (run,) = read_cases(Path(cases), Path(inputs) if inputs is not None else None, (case,))
    analysis = run.analyze()
    found = [analysis.explain(level, tensor, which) for which in wanted]
    emit(Report(lambda: "\n".join(map(str, found)), lambda: _json(found), lambda: _columns(found)), form, output)


def _count(name: str) -> Count:
    from simsparse.dataflow._arrays import Count

    known = [count.name.lower() for count in Count if count is not Count.ENERGY_PJ]
    if name.lower() not in known:
        raise UnknownNameError.near("count", name, known)
    return Count[name.upper()]


def _json(found: list[Explanation]) -> str:
    from dataclasses import asdict

    from simsparse.result import dumps

    return dumps({"explanations": [{**asdict(each), "count": each.count.name.lower()} for each in found]})


def _columns(found: list[Explanation]) -> dict[str, list[object]]:
    rows = [(each, step) for each in found for step in each.steps]
    return {
        "level": [each.level for each, _ in rows],
        "tensor": [each.tensor for each, _ in rows],
        "count": [each.count.name.lower() for each, _ in rows],
        "value": [each.value for each, _ in rows],
        "factor": [step.factor for _, step in rows],
        "what": [step.what for _, step in rows],
    }
