"""Commands that machine families add to the command line; what they need is imported when they run."""

from __future__ import annotations

from typing import Annotated

import typer

from simsparse.commands.options import FormatOption, Output
from simsparse.commands.output import Report, emit, working
from simsparse.errors import InputError

REPORTS = {"sat": "sat-vcu1525"}


def report(
    design: Annotated[str, typer.Argument(metavar="DESIGN", help="Whose published figures are compared: sat.")],
    on: Annotated[str, typer.Option("--on", metavar="MACHINE", help="Machine of the family.")] = REPORTS["sat"],
    sparsity: Annotated[str, typer.Option("--sparsity", metavar="N:M", help="N:M of the weights.")] = "2:8",
    form: FormatOption = None,
    output: Output = None,
) -> None:
    """A published design beside its model: speedups, ablations, sensitivities, rivals, resources."""
    if design not in REPORTS:
        raise InputError.expected("DESIGN", design, f"one of {', '.join(REPORTS)}")
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
