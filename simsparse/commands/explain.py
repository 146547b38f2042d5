"""`explain`: one prediction taken apart, a bare product or the calls of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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
    Output,
    Phase,
    Plugin,
    Seq,
    Set,
    load_plugins,
    read_changes,
    read_sparsity,
    with_methods,
)
from simsparse.commands.output import Report, emit, working
from simsparse.errors import InputError

if TYPE_CHECKING:
    from simsparse.explain import Explanation


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(explain)


def explain(
    what: Annotated[list[str], typer.Argument(metavar="M N K | WORKLOAD", help="A product, or a model with --op.")],
    on: On,
    sparsity: Annotated[
        list[str] | None,
        typer.Option("--sparsity", "--pattern", metavar="PATTERN", help="Pattern; of a model also GLOB=PATTERN."),
    ] = None,
    sparse_operand: Annotated[str, typer.Option(metavar="A|B", help="Of a product: which operand has it.")] = "A",
    accumulate: Annotated[str, typer.Option(metavar="fp32|fp16|int32", help="Of a product.")] = "fp32",
    op: Annotated[str | None, typer.Option(metavar="GLOB", help="Of a model: the ops to explain.")] = None,
    phase: Phase = None,
    batch: Batch = 1,
    seq: Seq = None,
    context: Context = None,
    method: Methods = None,
    dtype: DTypeName = "fp16",
    kernel: Kernel = "best",
    framework: Framework = None,
    set_: Set = None,
    form: FormatOption = None,
    output: Output = None,
    plugin: Plugin = None,
) -> None:
    """Why a prediction is what it is, beside dense."""
    load_plugins(plugin)
    from simsparse.explain import explain_calls, explain_product
    from simsparse.registry import load_machine, load_workload
    from simsparse.simulate import simulate

    machine = load_machine(on, read_changes(set_, framework))
    if len(what) == 1:
        if op is None:
            raise InputError(f"--op is missing, expected the glob of the ops of {what[0]!r} to explain")
        with working(f"simulating {what[0]}"):
            work = load_workload(what[0], phase=phase, batch=batch, seq=seq, context=context, dtype=dtype)
            work = with_methods(work, method).with_sparsity(read_sparsity(sparsity))
            found = explain_calls(machine, simulate(work, machine, kernel=kernel), op)
    else:
        from simsparse.products import Products, Style, price_products

        if len(sparsity or ()) > 1:
            raise InputError.expected("--sparsity", ", ".join(sparsity or ()), "one pattern for a product")
        style = Style((sparsity or ["dense"])[0], sparse_operand, dtype, accumulate)
        priced = price_products(machine, Products([_extents(what)], [style]), kernel)
        found = (explain_product(machine, priced),)
    emit(_report(found), form, output)


def _extents(texts: list[str]) -> tuple[int, int, int, int]:
    from simsparse.products import checked_extent

    if len(texts) != 3 or not all(text.isdecimal() for text in texts):
        raise InputError.expected("what to explain", " ".join(texts), "three extents M N K, or one workload")
    m, n, k = (checked_extent(label, int(text)) for label, text in zip("MNK", texts, strict=True))
    return m, n, k, 1


def _report(found: tuple[Explanation, ...]) -> Report:
    from simsparse.explain import TITLES
    from simsparse.explain_report import explanation_tables
    from simsparse.render import spaced
    from simsparse.result import dumps

    def columns() -> dict[str, list[object]]:
        rows = [(each.job, *row) for each in found for row in each.rows()]
        return {title: [row[at] for row in rows] for at, title in enumerate(("job", *TITLES))}

    return Report(
        lambda: (
            spaced([explanation_tables(each) for each in found]) if len(found) > 1 else explanation_tables(found[0])
        ),
        lambda: dumps({"explanations": [each.as_json() for each in found]}),
        columns,
    )
