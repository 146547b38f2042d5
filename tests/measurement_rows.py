"""Tables of measurements that tests write."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Row = Mapping[str, object]
Write = Callable[..., Path]
GEMM = {"id": "1", "system": "best", "device": "toy", "metric": "latency_us", "value": 10, "M": 64, "N": 128, "K": 256}


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows as a CSV file with the columns that any of them has."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="", encoding="utf-8") as lines:
        table = csv.DictWriter(lines, columns, restval="")
        table.writeheader()
        table.writerows(rows)
    return path
