"""Timed products as a CSV of measurements, in the columns that `validate` reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

COLUMNS = (
    "id", "system", "device", "op", "M", "N", "K", "batch", "dtype", "metric", "value", "source", "quality", "note",
    "sparse_operand", "pattern_text", "framework", "phase", "use",
)  # fmt: skip


@dataclass(frozen=True)
class Timed:
    """A product that a profiler saw, once or often.

    Attributes
    ----------
    system : str
        What ran it, in words that the alias tables of machines know.
    device, dtype, pattern : str
    sparse_operand : str
        `A`, `B`, or empty.
    kernel : str
        Name in the profile.
    m, n, k, batch : int
    seconds : tuple of float
        Of each run; one figure where the profile holds only a median.
    runs : int
    note : str
        What else is to be known.
    """

    system: str
    device: str
    dtype: str
    pattern: str
    sparse_operand: str
    kernel: str
    m: int
    n: int
    k: int
    batch: int
    seconds: tuple[float, ...]
    runs: int
    note: str = ""


def table(timed: Sequence[Timed], source: str, made: str = "profile") -> str:
    """The rows as CSV text; the value is the median in microseconds, `made` begins their ids."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, each in enumerate(timed, 1):
        low, high = min(each.seconds) * 1e6, max(each.seconds) * 1e6
        spread = f"{low:.3f} to {high:.3f}" if len(each.seconds) > 1 else ""
        note = "; ".join(filter(None, (f"median over {each.runs} runs", spread, each.kernel, each.note)))
        writer.writerow(
            (
                f"{made}-{number:04d}", each.system, each.device, "GEMM", each.m, each.n, each.k, each.batch,
                each.dtype, "latency_us", f"{median(each.seconds) * 1e6:.6g}", source, "measured",
                note, each.sparse_operand, each.pattern, "kernel",
                "gemm", "yes",
            )
        )  # fmt: skip
    return text.getvalue()
