"""`validate`: predictions beside measurements, scored per system and device."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simsparse.errors import InputError, SimsparseError
from simsparse.measurements import Measurement, Use, csv_files, names_one_pattern, read_measurements
from simsparse.outcomes import in_metric
from simsparse.predictions import Answer, predict
from simsparse.readings import AnyReading, GemmReading, Reader, Unreadable
from simsparse.registry import load_machine, machine_names, readers
from simsparse.result import dumps

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Group", "Reader", "Row", "ValidationReport", "validate"]


@dataclass(frozen=True)
class Row:
    """One measurement beside its prediction, in the row's own metric.

    Attributes
    ----------
    predicted : float or None
        None if it was not priced; `reason` says why.
    error : float or None
        `predicted / measured - 1`; -1 for a row that names one pattern and was not priced; None where nothing counts.
    low, high : float or None
        Bounds of the prediction; None, as no model gives intervals yet.
    """

    id: str
    system: str
    device: str
    metric: str
    machine: str
    kernel: str
    pattern: str
    measured: float | None
    predicted: float | None
    error: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def priced(self) -> bool:
        """Whether there is a prediction."""
        return self.predicted is not None


@dataclass(frozen=True)
class Group:
    """Scores of the rows of one system on one device in one metric.

    Attributes
    ----------
    n : int
        Scored rows; `priced` of them have a prediction.
    median_abs_error, p90_abs_error : float or None
        Of all rows that count: priced ones, and unpriced ones that name one pattern, at 100 %.
    bias : float or None
        Median of the signed errors of priced rows.
    kendall_tau : float or None
        Rank correlation (tau-b) of measured and predicted; None for fewer than two different values.
    unpriced : tuple of (reason, count)
    """

    system: str
    device: str
    metric: str
    n: int
    priced: int
    median_abs_error: float | None
    p90_abs_error: float | None
    bias: float | None
    kendall_tau: float | None
    unpriced: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class ValidationReport:
    """All groups and rows, with the claims apart.

    Attributes
    ----------
    groups : tuple of Group
    rows : tuple of Row
        Scored ones.
    claims : tuple of Row
        Maxima, averages and other claims beside predictions; never scored.
    skipped : tuple of str
        Files in the folders named that hold no measurements.
    """

    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    claims: tuple[Row, ...] = ()
    skipped: tuple[str, ...] = ()

    @cached_property
    def overall(self) -> Group:
        """All rows as one group; its tau is None, as ranks of different metrics do not compare."""
        return _score(("all", "all", "all"), self.rows, ranked=False)

    def summary(self) -> dict[str, object]:
        """As plain values: `groups`, `rows`, `claims`, `overall`, `skipped`."""
        return {
            "groups": [_plain(group) for group in self.groups],
            "rows": [asdict(row) for row in self.rows],
            "claims": [asdict(row) for row in self.claims],
            "overall": _plain(self.overall),
            "skipped": list(self.skipped),
        }

    def to_json(self) -> str:
        """One JSON object with `schema_version`."""
        return dumps(self.summary())

    def to_frame(self) -> pd.DataFrame:
        """The scored rows and the claims (`use`) as a DataFrame."""
        import pandas as pd

        scored = [{**asdict(row), "use": str(Use.YES)} for row in self.rows]
        return pd.DataFrame(scored + [{**asdict(row), "use": str(Use.CLAIM)} for row in self.claims])

    def __rich__(self) -> object:
        from simsparse.validate_render import validation_table

        return validation_table(self)


def _plain(group: Group) -> dict[str, object]:
    return {**asdict(group), "unpriced": [{"reason": reason, "n": count} for reason, count in group.unpriced]}


def validate(
    paths: str | Path | Iterable[str | Path],
    *,
    systems: Sequence[str] = (),
    devices: Sequence[str] = (),
    phases: Sequence[str] = (),
) -> ValidationReport:
    """Predict measurements and score the predictions.

    Parameters
    ----------
    paths : path or paths
        CSV files in the columns of `simsparse.measurements`, or folders with such files.
    systems, devices, phases : sequence of glob
        Only rows whose text matches one of them, case ignored; all if empty.

    Raises
    ------
    InputError
        For a path without measurements, a cell that cannot be read, globs that match no row.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    files, skipped = csv_files(given)
    if not files:
        raise InputError.expected("measurements", ", ".join(map(str, given)), "a CSV file with measurements")
    found = [row for file in files for row in read_measurements(file) if row.use is not Use.NO]
    kept = [
        row for row in found if _fits(row.system, systems) and _fits(row.device, devices) and _fits(row.phase, phases)
    ]
    if not kept:
        globs = ", ".join([*systems, *devices, *phases]) or "none"
        raise InputError.expected("filter", globs, f"at least one of the {len(found)} rows to match")
    known = list(readers())
    readings = [read_row(row, known) for row in kept]
    answers = predict(kept, readings)
    rows = [_row(*each) for each in zip(kept, readings, answers, strict=True)]
    scored = tuple(row for row, source in zip(rows, kept, strict=True) if source.scored)
    claims = tuple(row for row, source in zip(rows, kept, strict=True) if not source.scored)
    return ValidationReport(tuple(_groups(scored)), scored, claims, tuple(str(path) for path in skipped))


def _fits(text: str, globs: Sequence[str]) -> bool:
    return not globs or any(fnmatchcase(text.lower(), glob.lower()) for glob in globs)


def read_row(row: Measurement, known: Sequence[Reader]) -> AnyReading | Unreadable:
    """Ask each reader; a device that is the name of a machine needs none."""
    for reader in known:
        reading = reader.reading(row)
        if reading is not None:
            return reading
    if row.device in machine_names():
        return _direct(row)
    return Unreadable(f"no machine is known by {row.device!r}")


def _direct(row: Measurement) -> AnyReading | Unreadable:
    """A product on a machine that no reader speaks for: the kernel named like the system, else the fastest."""
    if row.phase != "gemm" or row.product is None:
        return Unreadable(f"no reader knows the machine {row.device!r}, and the row is no single product")
    kernel = row.system if row.system in load_machine(row.device).kernel_names else "best"
    bits = 16 if row.accumulate == "fp16" else 32
    pattern = row.pattern or "dense"
    return GemmReading(row.device, (), kernel, pattern, row.dtype or "fp16", "", row.sparse_operand or "A", bits)


def _row(source: Measurement, reading: AnyReading | Unreadable, answer: Answer) -> Row:
    machine = "" if isinstance(reading, Unreadable) else reading.machine
    predicted, kernel, reason = None, "", ""
    if isinstance(answer, Unreadable):
        reason = answer.reason
    else:
        try:
            predicted, kernel = in_metric(answer, source.metric), answer.kernel
        except SimsparseError as refused:
            reason = str(refused)
    return Row(
        source.id, source.system, source.device, source.metric, machine, kernel, source.pattern, source.value,
        predicted, _error(source, predicted), reason=reason,
    )  # fmt: skip


def _error(source: Measurement, predicted: float | None) -> float | None:
    """Signed relative error; -1 where a scored row names one pattern and has no prediction."""
    if predicted is not None:
        return predicted / source.value - 1 if source.value else None
    return -1.0 if source.scored and names_one_pattern(source) else None


def _groups(rows: Sequence[Row]) -> Iterator[Group]:
    members: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        members[row.system, row.device, row.metric].append(row)
    for name, inside in members.items():
        yield _score(name, inside)


def _score(name: tuple[str, str, str], rows: Sequence[Row], *, ranked: bool = True) -> Group:
    priced = [row for row in rows if row.priced]
    errors = np.array([row.error for row in rows if row.error is not None])
    signed = np.array([row.error for row in priced])
    reasons = Counter(row.reason for row in rows if not row.priced)
    return Group(
        *name,
        n=len(rows),
        priced=len(priced),
        median_abs_error=float(np.median(np.abs(errors))) if errors.size else None,
        p90_abs_error=float(np.quantile(np.abs(errors), 0.9)) if errors.size else None,
        bias=float(np.median(signed)) if signed.size else None,
        kendall_tau=_kendall_tau(priced) if ranked else None,
        unpriced=tuple(reasons.most_common()),
    )


def _kendall_tau(rows: Sequence[Row]) -> float | None:
    """Tau-b of measured and predicted; None where either is constant."""
    pairs = [(row.measured, row.predicted) for row in rows if row.measured is not None and row.predicted is not None]
    measured, predicted = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    if len(np.unique(measured)) < 2 or len(np.unique(predicted)) < 2:
        return None
    from scipy.stats import kendalltau

    tau = float(kendalltau(measured, predicted).statistic)
    return tau if math.isfinite(tau) else None
