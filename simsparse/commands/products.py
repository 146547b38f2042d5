"""`gemm` and `formats`: single products, tables of products, ways to store a matrix."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from simsparse.commands.options import (
    DTypeName,
    FormatOption,
    Kernel,
    On,
    Output,
    Plugin,
    Set,
    load_plugins,
    read_changes,
)
from simsparse.commands.output import Report, emit, working
from simsparse.errors import InputError

if TYPE_CHECKING:
    from simsparse.plan import Machine
    from simsparse.products import PricedProducts

_M = Annotated[int | None, typer.Argument(metavar="M", help="Rows of A: outputs.", show_default=False)]
_N = Annotated[int | None, typer.Argument(metavar="N", help="Columns of B: tokens.", show_default=False)]
_K = Annotated[int | None, typer.Argument(metavar="K", help="The reduction.", show_default=False)]
_Pattern = Annotated[str, typer.Option("--sparsity", metavar="PATTERN", help="Pattern of the sparse operand.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (gemm, formats):
        app.command()(command)


def gemm(
    on: On,
    m: _M = None,
    n: _N = None,
    k: _K = None,
    csv: Annotated[str | None, typer.Option(metavar="FILE", help="A table of products with columns M, N, K.")] = None,
    sparsity: _Pattern = "dense",
    sparse_operand: Annotated[str, typer.Option(metavar="A|B", help="Which operand has the pattern.")] = "A",
    dtype: DTypeName = "fp16",
    accumulate: Annotated[str, typer.Option(metavar="fp32|fp16|int32", help="What sums are kept in.")] = "fp32",
    kernel: Kernel = "best",
    set_: Set = None,
    form: FormatOption = None,
    output: Output = None,
    plugin: Plugin = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also terms and the other kernels.")] = False,
) -> None:
    """Time and energy of a product, or of a table of products. C[M,N] = A[M,K] · B[K,N]."""
    load_plugins(plugin)
    from simsparse.products import Products, Style, price_products, read_products
    from simsparse.registry import load_machine

    style = Style(sparsity, sparse_operand, dtype, accumulate)
    machine = load_machine(on, read_changes(set_))
    if csv is None:
        priced = price_products(machine, Products([_extents(m, n, k)], [style]), kernel)
        emit(_of_one(machine, priced, verbose), form, output)
        return
    if (m, n, k) != (None, None, None):
        raise InputError("M, N, K are given beside --csv, expected either of them")
    with working(f"pricing {csv}"):
        emit(_of_table(machine, price_products(machine, read_products(csv, style), kernel)), form, output)


def _extents(m: int | None, n: int | None, k: int | None) -> tuple[int, int, int, int]:
    from simsparse.products import checked_extent

    found = []
    for label, extent in (("M", m), ("N", n), ("K", k)):
        if extent is None:
            raise InputError(f"{label} is missing, expected M N K or --csv FILE")
        found.append(checked_extent(label, extent))
    return found[0], found[1], found[2], 1


def _of_one(machine: Machine, priced: PricedProducts, verbose: bool) -> Report:
    from simsparse.products import other_kernels, why_dense_taken
    from simsparse.render import product_table
    from simsparse.result import dumps

    others, prices = other_kernels(machine, priced), priced.estimate.prices
    unused = why_dense_taken(machine, priced)

    def as_json() -> str:
        parts: dict[str, object] = {
            "terms_s": dict(zip(prices.term_names, prices.terms_s[0].tolist(), strict=True)),
            "level_bytes": dict(zip(prices.level_names, prices.level_bytes[0].tolist(), strict=True)),
            "energy_terms_j": dict(zip(prices.energy_names, prices.energy_terms_j[0].tolist(), strict=True)),
            "pattern_unused": unused or None,
            "alternatives": [asdict(other) for other in others],
        }
        return dumps({"machine": machine.name, **priced.rows()[0], **parts})

    return Report(lambda: product_table(priced, unused, others if verbose else ()), as_json, priced.columns)


def _of_table(machine: Machine, priced: PricedProducts) -> Report:
    from simsparse.render import products_table
    from simsparse.result import dumps

    return Report(
        lambda: products_table(priced), lambda: dumps({"machine": machine.name, "rows": priced.rows()}), priced.columns
    )


def formats(
    shape: Annotated[str, typer.Option(metavar="ROWSxCOLUMNS", help="Outputs x reduction.")],
    sparsity: _Pattern = "2:4",
    dtype: DTypeName = "fp16",
    form: FormatOption = None,
    output: Output = None,
) -> None:
    """Bytes of a matrix in every format, values and metadata."""
    match = re.fullmatch(r"(\d{1,20})x(\d{1,20})", shape.strip().lower())
    if match is None:
        raise InputError.expected("--shape", shape, "ROWSxCOLUMNS, such as 4096x4096")
    from simsparse.dtypes import dtype as read_dtype
    from simsparse.formats import table as format_table
    from simsparse.ops import MAX_BYTES
    from simsparse.render import formats_table
    from simsparse.result import dumps

    if int(match[1]) * int(match[2]) * read_dtype(dtype).bits / 8 >= MAX_BYTES:
        raise InputError.expected("--shape", shape, "a matrix of fewer than 2^63 bytes")
    rows = format_table((int(match[1]), int(match[2])), sparsity, dtype)
    columns: dict[str, list[object]] = {
        "format": [row.name for row in rows],
        "value_bytes": [row.stored.value_bits / 8 if row.stored else None for row in rows],
        "metadata_bytes": [row.stored.metadata_bits / 8 if row.stored else None for row in rows],
        "bytes": [row.stored.bytes if row.stored else None for row in rows],
        "ratio": [row.ratio for row in rows],
        "reason": [row.reason for row in rows],
    }

    def as_json() -> str:
        lines = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return dumps({"shape": [int(match[1]), int(match[2])], "sparsity": sparsity, "dtype": dtype, "formats": lines})

    emit(Report(lambda: formats_table(rows), as_json, lambda: columns), form, output)
