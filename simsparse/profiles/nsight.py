"""Kernel tables of Nsight Systems (`nsys stats --report cuda_gpu_kern_sum --format csv`, or `cuda_gpu_trace`) and of
Nsight Compute (`ncu --csv`, metric Duration). They know no shapes: a second table gives those by kernel name.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from simsparse.errors import InputError
from simsparse.profiles.rows import Timed

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "nsecond": 1e-9,
    "usecond": 1e-6,
    "msecond": 1e-3,
    "second": 1.0,
}
_DURATION = "gpu__time_duration.sum"
_NEEDED = ("kernel", "M", "N", "K")
_OPTIONAL = {"batch": "1", "dtype": "fp16", "pattern": "dense", "sparse_operand": "", "system": "cuBLAS"}


@dataclass(frozen=True)
class Shape:
    """What kernels whose name a glob matches compute."""

    kernel: str
    m: int
    n: int
    k: int
    batch: int
    dtype: str
    pattern: str
    sparse_operand: str
    system: str


@dataclass(frozen=True)
class _Runs:
    """Times of a kernel; `count` runs stand behind them."""

    seconds: tuple[float, ...]
    count: int


def read_shapes(path: Path) -> list[Shape]:
    """Shapes by glob, from a CSV with columns kernel, M, N, K and, optionally, batch, dtype, pattern, sparse_operand,
    system.

    Raises
    ------
    InputError
    """
    shapes = []
    for number, row in _table(path, "kernel"):
        missing = [name for name in _NEEDED if not row.get(name)]
        if missing:
            raise InputError.expected(
                f"line {number} of {path.name!r}", ", ".join(row), f"{', '.join(missing)} among them"
            )
        cells = {name: row.get(name) or default for name, default in _OPTIONAL.items()}
        m, n, k, batch = (
            _count(row.get(name) or cells.get(name, ""), name, number, path) for name in ("M", "N", "K", "batch")
        )
        operand = cells["sparse_operand"] or ("" if cells["pattern"] == "dense" else "A")
        shapes.append(
            Shape(row["kernel"], m, n, k, batch, cells["dtype"], cells["pattern"], operand, cells["system"])
        )  # fmt: skip
    return shapes


def read_nsight(path: Path, shapes: Sequence[Shape], device: str) -> tuple[list[Timed], list[str]]:
    """Kernels of a table that a shape is known for, and the names of the others.

    Raises
    ------
    InputError
        For what is no such table, no device, or if no kernel has a shape.
    """
    if not device:
        raise InputError("tables of Nsight name no device, expected --device")
    runs = _kernels(path)
    timed, unknown = [], []
    for name, taken in runs.items():
        shape = next((each for each in shapes if fnmatchcase(name, each.kernel)), None)
        if shape is None:
            unknown.append(name)
            continue
        timed.append(
            Timed(
                shape.system, device, shape.dtype, shape.pattern, shape.sparse_operand, name, shape.m, shape.n, shape.k,
                shape.batch, taken.seconds, taken.count,
            )
        )  # fmt: skip
    if not timed:
        raise InputError.expected(f"shapes for {path.name!r}", "none that match", f"one for {unknown[0]!r}")
    return timed, unknown


def _kernels(path: Path) -> dict[str, _Runs]:
    rows = _table(path, "Name", "Kernel Name")
    header = set(rows[0][1])
    if "Metric Name" in header:
        return _of_ncu(rows, path)
    if _DURATION in header:
        return _of_raw_ncu(rows, path)
    for middle, total in (("Med", "Instances"), ("Avg", "Instances"), ("Duration", "")):
        column = next((name for name in header if name.partition(" (")[0] == middle), None)
        if column is not None:
            unit = _unit(column.partition(" (")[2].rstrip(")"), path)
            return _collected(rows, column, total, unit, path)
    raise InputError.expected(f"columns of {path.name!r}", ", ".join(header), "Med (ns), Avg (ns) or Duration (ns)")


def _collected(
    rows: Sequence[tuple[int, Mapping[str, str]]], column: str, total: str, unit: float, path: Path
) -> dict[str, _Runs]:
    found: dict[str, _Runs] = {}
    for number, row in rows:
        before = found.get(row["Name"], _Runs((), 0))
        count = _count(row[total], total, number, path) if total in row else 1
        seconds = _number(row[column], column, number, path) * unit
        found[row["Name"]] = _Runs((*before.seconds, seconds), before.count + count)
    return found


def _of_ncu(rows: Sequence[tuple[int, Mapping[str, str]]], path: Path) -> dict[str, _Runs]:
    found: dict[str, list[float]] = defaultdict(list)
    for number, row in rows:
        if row.get("Metric Name") in ("Duration", _DURATION):
            seconds = _number(row.get("Metric Value", ""), "Metric Value", number, path)
            found[row["Kernel Name"]].append(seconds * _unit(row.get("Metric Unit", ""), path))
    if not found:
        raise InputError.expected(f"metrics of {path.name!r}", "no Duration", "Duration among them")
    return {name: _Runs(tuple(seconds), len(seconds)) for name, seconds in found.items()}


def _of_raw_ncu(rows: Sequence[tuple[int, Mapping[str, str]]], path: Path) -> dict[str, _Runs]:
    """`ncu --page raw --csv`: a column a metric; the first row has their units and names no kernel."""
    (_, units), *runs = rows
    found: dict[str, list[float]] = defaultdict(list)
    for number, row in runs:
        seconds = _number(row[_DURATION], _DURATION, number, path) * _unit(units[_DURATION], path)
        found[row["Kernel Name"]].append(seconds)
    if not found:
        raise InputError.expected(f"rows of {path.name!r}", 0, "at least one below that of the units")
    return {name: _Runs(tuple(seconds), len(seconds)) for name, seconds in found.items()}


def _table(path: Path, *names: str) -> list[tuple[int, dict[str, str]]]:
    """Rows with their lines, from the line on that names the columns; profilers print other lines before it."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        start = next((i for i, line in enumerate(lines) if set(names) & set(next(csv.reader([line]), []))), None)
        if start is None:
            raise InputError.expected("table", str(path), f"a CSV with a column {' or '.join(names)}")
        reader = csv.DictReader(lines[start:], strict=True)
        rows = [
            (start + reader.line_num, {key: (value or "").strip() for key, value in row.items() if key is not None})
            for row in reader
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError.expected("table", str(path), f"a CSV that can be read ({reason})") from None
    if not rows:
        raise InputError.expected(f"rows of {path.name!r}", 0, "at least one")
    return rows


def _unit(text: str, path: Path) -> float:
    if text not in _UNITS:
        raise InputError.expected(f"unit of time in {path.name!r}", text, f"one of {', '.join(_UNITS)}")
    return _UNITS[text]


def _number(text: str, column: str, number: int, path: Path) -> float:
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise InputError.expected(f"{column} in line {number} of {path.name!r}", text, "a number above zero")
    return value


def _count(text: str, column: str, number: int, path: Path) -> int:
    value = _number(text, column, number, path)
    if value != int(value):
        raise InputError.expected(f"{column} in line {number} of {path.name!r}", text, "a whole number")
    return int(value)
