"""Rows of measurements beside their predictions, and the scores of groups of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np


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
        Bounds of the 80 % interval of the prediction; None where the machine gives none.
    fitted : bool or None
        Whether the machine's constants were fitted on this row among others; None where the machine does not say.
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
    fitted: bool | None = None

    @property
    def priced(self) -> bool:
        """Whether there is a prediction."""
        return self.predicted is not None

    @property
    def covered(self) -> bool | None:
        """Whether the measurement lies in the interval; None without one."""
        if self.low is None or self.high is None or self.measured is None:
            return None
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class Errors:
    """Errors of some rows.

    Attributes
    ----------
    n : int
        Rows that count.
    median_abs_error, p90_abs_error : float or None
        None without any.
    """

    n: int
    median_abs_error: float | None
    p90_abs_error: float | None

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Errors:
        """Of all rows that count: priced ones, and unpriced ones that name one pattern, at 100 %."""
        errors = np.abs([row.error for row in rows if row.error is not None])
        if not errors.size:
            return cls(0, None, None)
        return cls(errors.size, float(np.median(errors)), float(np.quantile(errors, 0.9)))


@dataclass(frozen=True)
class Group:
    """Scores of the rows of one system on one device in one metric.

    Attributes
    ----------
    n : int
        Scored rows; `priced` of them have a prediction.
    errors : Errors
        Of all rows that count.
    fitted, held_out : Errors
        Those of rows that the machine's constants were fitted on, and of rows that they were not; rows of machines that
        do not say are in neither.
    bias : float or None
        Median of the signed errors of priced rows.
    kendall_tau : float or None
        Rank correlation (tau-b) of measured and predicted; None for fewer than two different values.
    coverage : float or None
        Fraction of measurements within the 80 % interval of their prediction; None without intervals.
    unpriced : tuple of (reason, count)
    """

    system: str
    device: str
    metric: str
    n: int
    priced: int
    errors: Errors
    fitted: Errors
    held_out: Errors
    bias: float | None
    kendall_tau: float | None
    coverage: float | None
    unpriced: tuple[tuple[str, int], ...]

    @property
    def median_abs_error(self) -> float | None:
        """Of all rows that count."""
        return self.errors.median_abs_error

    @property
    def p90_abs_error(self) -> float | None:
        """Of all rows that count."""
        return self.errors.p90_abs_error

    def plain(self) -> dict[str, object]:
        """As plain values."""
        return {
            "system": self.system,
            "device": self.device,
            "metric": self.metric,
            "n": self.n,
            "priced": self.priced,
            "median_abs_error": self.median_abs_error,
            "p90_abs_error": self.p90_abs_error,
            "fitted": asdict(self.fitted),
            "held_out": asdict(self.held_out),
            "bias": self.bias,
            "kendall_tau": self.kendall_tau,
            "coverage": self.coverage,
            "unpriced": [{"reason": reason, "n": count} for reason, count in self.unpriced],
        }


def score(name: tuple[str, str, str], rows: Sequence[Row], *, ranked: bool = True) -> Group:
    """Rows as one group; not `ranked` where their metrics do not compare."""
    priced = [row for row in rows if row.priced]
    signed = [row.error for row in priced if row.error is not None]
    covered = [row.covered for row in priced if row.covered is not None]
    reasons = Counter(row.reason for row in rows if not row.priced)
    return Group(
        *name,
        n=len(rows),
        priced=len(priced),
        errors=Errors.of(rows),
        fitted=Errors.of(row for row in rows if row.fitted is True),
        held_out=Errors.of(row for row in rows if row.fitted is False),
        bias=float(np.median(signed)) if signed else None,
        kendall_tau=_kendall_tau(priced) if ranked else None,
        coverage=float(np.mean(covered)) if covered else None,
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
