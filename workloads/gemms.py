"""A table of GEMM shapes as a workload: a CSV with columns M, N, K and, if wanted, name, count, dtype, pattern, batch.

`C[M,N] = A[M,K] · B[K,N]` with A the weight: M outputs, N tokens. `count` repeats a row with weights of its own,
`batch` makes it that many products in one call, `pattern` is that of A.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from simsparse.dtypes import dtype as read_dtype
from simsparse.errors import InputError
from simsparse.ops import Contraction, Role, Tensor, plain_axes
from simsparse.sparsity import DENSE, parse
from simsparse.workload import Phase, Weight, Workload

REQUIRED = ("M", "N", "K")
OPTIONAL = ("name", "count", "dtype", "pattern", "batch")
MAX_EXTENT = 2**40
MAX_COUNT = 100_000


def read_gemms(path: str | Path, *, dtype: str = "fp16") -> Workload:
    """Read a table; `dtype` is that of rows which name none.

    Raises
    ------
    InputError
        If the file is no such table; the row is named.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            rows = list(csv.reader(handle, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as failed:
        raise InputError.expected("table of GEMMs", str(path), f"a readable CSV file ({_one_line(failed)})") from None
    columns = _columns(path, rows[0] if rows else [])
    ops: list[Contraction] = []
    for number, cells in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            raise InputError(f"row {number} of {path.name!r} has {len(cells)} cells, expected {len(columns)}")
        row = {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}
        ops.append(_gemm(f"row {number} of {path.name!r}", row, {op.name for op in ops}, dtype))
    if not ops:
        raise InputError(f"table of GEMMs {path.name!r} has no rows, expected at least one")
    weights = tuple(Weight(op.a, op.layers) for op in ops)
    activations = max(op.b.dense_bytes + op.out.dense_bytes for op in ops)
    return Workload(
        path.stem, Phase.ENCODE, 1, 1, read_dtype(dtype), tuple(ops), weights, activation_bytes=activations, unit="run"
    )


def _columns(path: Path, header: list[str]) -> list[str]:
    known = {name.lower(): name for name in (*REQUIRED, *OPTIONAL)}
    columns = [known.get(cell.strip().lower(), "") for cell in header]
    if not all(columns) or len(set(columns)) != len(columns) or not set(REQUIRED) <= set(columns):
        expectation = f"{', '.join(REQUIRED)} and any of {', '.join(OPTIONAL)}, each once"
        raise InputError.expected(f"header of {path.name!r}", ",".join(header)[:120], expectation)
    return columns


def _gemm(where: str, row: Mapping[str, str], taken: set[str], default_dtype: str) -> Contraction:
    m, n, k = (_whole(where, label, row[label], MAX_EXTENT) for label in REQUIRED)
    batch = _whole(where, "batch", row.get("batch") or "1", MAX_EXTENT)
    count = _whole(where, "count", row.get("count") or "1", MAX_COUNT)
    try:
        kind, pattern = read_dtype(row.get("dtype") or default_dtype), parse(row.get("pattern") or DENSE)
    except InputError as wrong:
        raise InputError(f"{where}: {wrong}") from None
    name = _free_name(row.get("name") or f"gemm_{m}x{n}x{k}", taken, count)
    many = (batch,) if batch > 1 else ()
    labels = "b" if many else ""
    a = Tensor(f"{name}.weight", (*many, m, k), kind, Role.WEIGHT, pattern)
    b = Tensor(f"{name}.in", (*many, n, k), kind, Role.ACTIVATION)
    out = Tensor(f"{name}.out", (*many, n, m), kind, Role.ACTIVATION)
    dims = (*(("b", batch) for _ in many), ("m", m), ("n", n), ("k", k))
    a_axes, b_axes, out_axes = (plain_axes(f"{labels}{pair}") for pair in ("mk", "nk", "nm"))
    layers = tuple(range(count)) if count > 1 else ()
    return Contraction(name, dims, a, b, out, a_axes, b_axes, out_axes, layers=layers)


def _free_name(wanted: str, taken: set[str], count: int) -> str:
    """The name, with the place of its copies marked, and a number if it is taken."""
    base = wanted.replace("*", "_")
    form = "{}.*" if count > 1 else "{}"
    number = 1
    while form.format(base if number == 1 else f"{base}_{number}") in taken:
        number += 1
    return form.format(base if number == 1 else f"{base}_{number}")


def _whole(where: str, label: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and 1 <= int(text) <= most):
        raise InputError.expected(f"{label} in {where}", text, f"a whole number from 1 to {most}")
    return int(text)


def _one_line(failed: Exception) -> str:
    return str(getattr(failed, "strerror", None) or failed).splitlines()[0]


class GemmSource:
    """Workload source for `*.csv`."""

    def names(self) -> list[str]:
        """It only reads files."""
        return []

    def accepts(self, spec: str) -> bool:
        """Whether it is a CSV by name."""
        return spec.lower().endswith(".csv")

    def load(
        self, spec: str, *, phase: str | None = None, batch: int = 1, seq: int | None = None,
        context: int | None = None, dtype: str = "fp16",
    ) -> Workload:  # fmt: skip
        """Read a table; all sizes stand in it, so that nothing but `dtype` may be asked for."""
        for label, value, default in (("phase", phase, None), ("batch", batch, 1), ("seq", seq, None)):
            if value not in (default, None, Phase.ENCODE):
                raise InputError.expected(label, value, "nothing for a table of GEMMs, whose columns give all sizes")
        if context is not None:
            raise InputError.expected("context", context, "nothing for a table of GEMMs, whose columns give all sizes")
        return read_gemms(spec, dtype=dtype)


SOURCE = GemmSource()
