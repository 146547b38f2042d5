"""Measurements as rows of CSV: what was run, on what, and the figure that came out.

The columns are those of the project's evidence tables; `id, system, device, metric, value` must be there, all others
may be absent. A cell that cannot be read is an error that names its row, column and value.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from simsparse.errors import InputError
from simsparse.sparsity import parse

REQUIRED = ("id", "system", "device", "metric", "value")
UNVERIFIED = "memory_unverified"
MAX_COUNT = 2**40


# Metrics that say the time of a product.
_SECONDS = {"latency_s": 1.0, "latency_ms": 1e-3, "latency_us": 1e-6}
_RATES = ("tflops", "tflops_effective")


class Use(StrEnum):
    """What a row is good for."""

    YES = "yes"  # one measurement of one configuration: scored
    CLAIM = "claim"  # maxima, averages, abstracts: shown beside the prediction, not scored
    NO = "no"  # contradictory, unverified or no run at all


@dataclass(frozen=True)
class Measurement:
    """One row. Text columns are empty, counts None where the table does not say.

    Attributes
    ----------
    id, system, device, op, model, dtype, baseline, source, note, metric, quality, framework : str
        As in the table.
    phase : str
        `gemm`, `attention-prefill`, `attention-decode`, `prefill`, `decode`, `encode`, `train`, `op`, or empty for
        specifications; without that column, `gemm` where M, N and K are given.
    m, n, k, batch, threads, instances, devices : int or None
    seq : str
        Tokens; some sources write two (`128+512`).
    pattern : str
        `pattern_text`, or `pattern` in tables without it. Empty where no single name says it.
    sparse_operand : str
        `A`, `B`, `AB`, `mask` or empty.
    accumulate : str
        `fp32`, `fp16`, `int32` or empty.
    value : float or None
        None only where the row is not scored and its value is text.
    use : Use
    """

    id: str
    system: str
    device: str
    metric: str
    value: float | None
    op: str = ""
    phase: str = ""
    m: int | None = None
    n: int | None = None
    k: int | None = None
    model: str = ""
    seq: str = ""
    batch: int | None = None
    dtype: str = ""
    pattern: str = ""
    sparse_operand: str = ""
    accumulate: str = ""
    threads: int | None = None
    instances: int | None = None
    devices: int | None = None
    framework: str = ""
    quality: str = ""
    baseline: str = ""
    source: str = ""
    note: str = ""
    use: Use = Use.YES

    @property
    def scored(self) -> bool:
        """Whether a prediction is held against it."""
        return self.use is Use.YES

    @property
    def seconds(self) -> float | None:
        """Time of a single product, from a latency or a rate of dense work; None where the metric is neither."""
        if self.value is None:
            return None
        if self.metric in _SECONDS:
            return self.value * _SECONDS[self.metric]
        if self.metric in _RATES and self.product is not None:
            m, n, k = self.product
            return 2.0 * m * n * k / (self.value * 1e12)
        return None

    @property
    def product(self) -> tuple[int, int, int] | None:
        """M, N and K, where all are given."""
        if self.m is None or self.n is None or self.k is None:
            return None
        return self.m, self.n, self.k


def read_measurements(path: Path) -> list[Measurement]:
    """Read one CSV file.

    Raises
    ------
    InputError
        If it cannot be read, lacks a required column, or has a bad cell.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            return list(_rows(lines, path.name))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError.expected("measurements", str(path), f"a CSV file that can be read ({reason})") from None


def missing_columns(path: Path) -> tuple[str, ...]:
    """Columns that a file of measurements must have and this one lacks."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            header = next(csv.reader(lines), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return REQUIRED
    return tuple(name for name in REQUIRED if name not in header)


def _rows(lines: Iterable[str], name: str) -> Iterator[Measurement]:
    reader = csv.DictReader(lines, strict=True)
    header = reader.fieldnames or ()
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        raise InputError.expected(f"columns of {name}", ", ".join(header), f"{', '.join(missing)} among them")
    for cells in reader:
        where = f"row {reader.line_num} of {name}"
        if None in cells or None in cells.values():
            raise InputError.expected(where, len(header), "as many cells as the header has columns")
        yield _measurement({key: (value or "").strip() for key, value in cells.items()}, where)


def _measurement(cells: Mapping[str, str], where: str) -> Measurement:
    m, n, k = (_count(cells, column, where) for column in ("M", "N", "K"))
    has_product = m is not None and n is not None and k is not None
    phase = cells.get("phase", "gemm" if has_product else "")
    use = _use(cells, phase, where)
    return Measurement(
        id=cells["id"],
        system=cells["system"],
        device=cells["device"],
        metric=cells["metric"],
        value=_value(cells, use, where),
        phase=phase,
        m=m,
        n=n,
        k=k,
        batch=_count(cells, "batch", where),
        threads=_count(cells, "threads", where),
        instances=_count(cells, "instances", where),
        devices=_count(cells, "devices", where),
        pattern=_pattern(cells),
        use=use,
        **{column: cells.get(column, "") for column in _TEXTS},
    )


_TEXTS = (
    "op", "model", "seq", "dtype", "sparse_operand", "accumulate", "framework", "quality", "baseline",
    "source", "note",
)  # fmt: skip


def _use(cells: Mapping[str, str], phase: str, where: str) -> Use:
    """Rows without that column are measurements, unless they are specifications or written down from memory."""
    text = cells.get("use", "")
    if text not in ("", *Use):
        raise InputError.expected(f"use in {where}", text, f"one of {', '.join(Use)}")
    if cells.get("quality") == UNVERIFIED or (not text and not phase):
        return Use.NO
    return Use(text or Use.YES)


def _pattern(cells: Mapping[str, str]) -> str:
    """The readable pattern; in tables without that column `pattern` itself, or dense where that is empty too."""
    if "pattern_text" in cells:
        return cells["pattern_text"]
    return cells.get("pattern", "") or "dense"


def _value(cells: Mapping[str, str], use: Use, where: str) -> float | None:
    try:
        value = float(cells["value"])
    except ValueError:
        value = math.nan
    if math.isfinite(value) and (value > 0 or use is not Use.YES):
        return value
    if use is Use.YES:
        raise InputError.expected(f"value in {where}", cells["value"], "a number above zero")
    return None


def _count(cells: Mapping[str, str], column: str, where: str) -> int | None:
    text = cells.get(column, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value >= 1 and value == math.floor(value) and value <= MAX_COUNT):
        raise InputError.expected(f"{column} in {where}", text, "a whole number from 1 to 2^40")
    return int(value)


def names_one_pattern(row: Measurement) -> bool:
    """Whether a row says by one name what is zero, so that not pricing it is a failure."""
    if not row.pattern:
        return False
    try:
        parse(row.pattern)
    except InputError:
        return False
    return True


def csv_files(paths: Iterable[str | Path]) -> tuple[list[Path], list[Path]]:
    """CSV files named or in the folders named, and apart those in folders that hold no measurements.

    Raises
    ------
    InputError
        For a path that is neither, or a folder without CSV files.
    """
    found: list[Path] = []
    skipped: list[Path] = []
    for path in map(Path, paths):
        if path.is_file():
            found.append(path)
            continue
        inside = sorted(path.rglob("*.csv"))
        if not inside:
            raise InputError.expected("measurements", str(path), "a CSV file or a folder with some")
        for file in inside:
            (skipped if missing_columns(file) else found).append(file)
    return found, skipped
