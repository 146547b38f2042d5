"""Constants of one machine fitted to rows of measurements: least squares of log ratios, robust and deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from simsparse.calibration.cases import Case, Cases, cases_of
from simsparse.calibration.identify import MOST_ERROR, determined, standard_errors
from simsparse.calibration.overlay import Overlay
from simsparse.calibration.runs import Repricer
from simsparse.calibration.tunable import Tunable
from simsparse.errors import InputError, UnknownNameError, UnsupportedError
from simsparse.machine import KernelMachine
from simsparse.measurements import Measurement, read_measurements
from simsparse.plan import Floats
from simsparse.registry import Family, families, load_spec
from simsparse.result import dumps
from simsparse.specs import Figure, Spec

STEP = 1e-2  # of a free number, for slopes
OUTLIER = 0.1  # log ratio from which on a row's weight falls
FARTHEST = np.log(50.0)  # a free number moves no further than this from where it starts
FOLDS = 5
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Errors:
    """Absolute relative errors of predictions: median and 90th percentile."""

    median: float
    p90: float

    @classmethod
    def of(cls, log_ratio: Floats) -> Errors:
        """Of predicted over measured."""
        error = np.abs(np.expm1(log_ratio))
        return cls(float(np.median(error)), float(np.quantile(error, 0.9)))


@dataclass(frozen=True)
class Fitted:
    """A constant before and after, and the standard error of its logarithm."""

    field: str
    before: float
    after: float
    standard_error: float

    @property
    def within(self) -> float:
        """Relative standard error of the value."""
        return float(np.expm1(self.standard_error))


@dataclass(frozen=True)
class Fit:
    """What came of a fit.

    Attributes
    ----------
    machine : str
        As it was named; `source` the table.
    n, groups : int
        Rows it was fitted to, and groups of rows that cross-validation keeps together.
    others : int
        Rows of other machines in the table.
    left_out : tuple of (field, reason)
        Constants that the rows do not determine.
    unpriced : tuple of (reason, count)
        Rows of the machine that cannot be priced.
    before, after, crossed : Errors
        With the constants as they were, as fitted, and of each row as fitted without its group.
    """

    machine: str
    source: str
    n: int
    groups: int
    others: int
    fitted: tuple[Fitted, ...]
    left_out: tuple[tuple[str, str], ...]
    unpriced: tuple[tuple[str, int], ...]
    before: Errors
    after: Errors
    crossed: Errors

    def overlay(self, spec: Spec, base: str, name: str) -> Overlay:
        """The figures as an overlay named `name` on a spec that `base` leads to."""
        figures = {f.field: Figure[float](value=float(f"{f.after:.5g}"), source=self._said(f)) for f in self.fitted}
        return Overlay(base=base, base_hash=spec.digest(), name=name, figures=figures)

    def _said(self, constant: Fitted) -> str:
        return (
            f"fitted: {self.n} rows of {self.source}; {constant.before:.4g} before; median error"
            f" {self.before.median:.1%} before, {self.after.median:.1%} after, {self.crossed.median:.1%} in"
            " cross-validation"
        )

    def to_json(self) -> str:
        """One JSON object with `schema_version`."""
        return dumps(asdict(self))


def fit(path: str | Path, on: str, fields: Sequence[str] = ()) -> Fit:
    """Fit constants of machine `on` to the rows of a CSV file.

    Parameters
    ----------
    path : path
        In the columns of `simsparse.measurements`.
    on : str
        Name or TOML path of a machine; rows of others are left alone.
    fields : sequence of str, optional
        Constants to fit; by default those that the rows determine, of all that the family says are free.

    Raises
    ------
    SimsparseError
        For a table that cannot be read, without rows of the machine or with absurd values, a field that is not free,
        and constants that the rows do not determine.
    """
    return fit_rows(read_measurements(Path(path)), on, fields, source=Path(path).name)


def fit_rows(rows: Sequence[Measurement], on: str, fields: Sequence[str] = (), *, source: str) -> Fit:
    """The same of rows that are read already; `source` is what they are called.

    Raises
    ------
    SimsparseError
        As `fit`.
    """
    family, spec = family_of(on)
    free = {tunable.field: tunable for tunable in family.tunables(spec)}
    if not free:
        raise UnsupportedError(f"family {family.family!r} has no constants to fit, expected a machine of another")
    for field in fields:
        if field not in free:
            raise UnknownNameError.near(f"free constant of {on}", field, free)
    read = cases_of(rows, on)
    problem = _Problem(family, spec, read.cases)
    chosen, at, left_out = _chosen(problem, [free[name] for name in fields or free], named=bool(fields))
    return _fitted(problem, chosen, at, left_out, read, on, source)


def family_of(on: str) -> tuple[Family, Spec]:
    """The family and the spec of a machine.

    Raises
    ------
    InputError
        For a machine that is fitted already.
    """
    spec = load_spec(on)
    if on.endswith(".toml") and any(figure.source.startswith("fitted: ") for _, figure in spec.figures()):
        raise InputError.expected("--on", on, "a machine, not one that is fitted already")
    return families()[spec.family], spec


class _Problem:
    """Log ratios of predictions to measurements as functions of free numbers."""

    def __init__(self, family: Family, spec: Spec, cases: Sequence[Case]) -> None:
        self.family, self.spec, self.cases = family, spec, cases
        self.dense = [i for i, case in enumerate(cases) if case.dense is not None]
        self._runs = Repricer([case.run for case in cases])
        self._over = Repricer([case.dense for case in cases if case.dense is not None])

    def log_ratio(self, tunables: Sequence[Tunable], free: Floats) -> Floats:
        """Logarithm of predicted over measured, (rows,); of rates and speedups too."""
        values = {t.field: t.of(float(x)) for t, x in zip(tunables, free, strict=True)}

        def changed(machine: KernelMachine) -> KernelMachine:
            built = self.family.build(machine.spec.with_figures(values))  # with the threads and instances of the rows
            assert isinstance(built, KernelMachine)
            return built

        latency_s, over = self._runs.latency_s(changed), np.full(len(self.cases), np.nan)
        over[self.dense] = self._over.latency_s(changed)
        ratios = [
            case.predicted(time_s, None if case.dense is None else dense_s) / case.measured
            for case, time_s, dense_s in zip(self.cases, latency_s.tolist(), over.tolist(), strict=True)
        ]
        return np.log(ratios)

    def jacobian(self, tunables: Sequence[Tunable], free: Floats) -> Floats:
        """Slopes of the log ratios by differences, (rows, constants)."""
        here = self.log_ratio(tunables, free)
        steps = STEP * np.eye(len(free))
        return np.column_stack([(self.log_ratio(tunables, free + step) - here) / STEP for step in steps])

    def of(self, rows: Sequence[int]) -> _Problem:
        """The same for some of the rows."""
        return _Problem(self.family, self.spec, [self.cases[i] for i in rows])

    def solve(self, tunables: Sequence[Tunable]) -> Floats:
        """Free numbers that bring the predictions nearest to what was measured."""
        from scipy.optimize import least_squares

        start = np.array([t.free for t in tunables])

        def residuals(free: Floats) -> Floats:
            return self.log_ratio(tunables, free)

        def slopes(free: Floats) -> Floats:
            return self.jacobian(tunables, free)

        found = least_squares(
            residuals,
            start,
            jac=slopes,
            bounds=(start - FARTHEST, np.minimum(start + FARTHEST, [max(t.most, t.free + 1e-9) for t in tunables])),
            loss="soft_l1",
            f_scale=OUTLIER,
            ftol=TOLERANCE,
            xtol=TOLERANCE,
            max_nfev=40,
        )
        solution: Floats = found.x
        return solution


_Left = list[tuple[str, str]]


def _chosen(problem: _Problem, free: Sequence[Tunable], *, named: bool) -> tuple[list[Tunable], Floats, _Left]:
    """Constants that the rows determine, tried at the start and again where the fit ends, and the free numbers there.

    Raises
    ------
    UnsupportedError
        If none is, or one that was asked for by name is not.
    """
    chosen, left_out = list(free), list[tuple[str, str]]()
    at_start = True
    while chosen:
        at = np.array([t.free for t in chosen]) if at_start else problem.solve(chosen)
        reasons = _undetermined(problem, chosen, at, at_end=not at_start)
        if not reasons and not at_start:
            return chosen, at, left_out
        at_start = False
        left_out += reasons
        if named and reasons:
            break
        chosen = [t for t in chosen if t.field not in dict(reasons)]
    field, reason = left_out[0]
    rows = len(problem.cases)
    raise UnsupportedError(f"{rows} rows do not determine {field}: {reason}")


def _undetermined(problem: _Problem, chosen: Sequence[Tunable], at: Floats, *, at_end: bool) -> _Left:
    jacobian = problem.jacobian(chosen, at)
    _, left_out = determined(jacobian, [t.field for t in chosen])
    if left_out or not at_end:
        return left_out
    start = np.array([t.free for t in chosen])
    away = np.abs(at - start) > FARTHEST * 0.99
    if away.any():
        return [(chosen[int(np.argmax(away))].field, "the nearer predictions come, the further it runs away")]
    errors = standard_errors(jacobian, problem.log_ratio(chosen, at))
    worst = int(np.argmax(errors))
    if errors[worst] > MOST_ERROR:
        return [(chosen[worst].field, f"known only within a factor of {np.exp(errors[worst]):.1f}")]
    return []


def _fitted(
    problem: _Problem, chosen: Sequence[Tunable], at: Floats, left_out: _Left, read: Cases, on: str, source: str
) -> Fit:  # fmt: skip
    start = np.array([t.free for t in chosen])
    after = problem.log_ratio(chosen, at)
    errors = standard_errors(problem.jacobian(chosen, at), after)
    crossed, groups = _crossed(problem, chosen)
    fitted = [
        Fitted(t.field, t.value, t.of(float(x)), float(e)) for t, x, e in zip(chosen, at, errors, strict=True)
    ]  # fmt: skip
    return Fit(
        on, source, len(problem.cases), groups, read.others, tuple(fitted), tuple(left_out), read.left_out,
        Errors.of(problem.log_ratio(chosen, start)), Errors.of(after), Errors.of(crossed),
    )  # fmt: skip


def _crossed(problem: _Problem, chosen: Sequence[Tunable]) -> tuple[Floats, int]:
    """Log ratios of rows with the constants that all others give, group by group in at most `FOLDS` parts."""
    groups = list(dict.fromkeys(case.group for case in problem.cases))
    member = np.array([groups.index(case.group) for case in problem.cases])
    count = len(groups)
    if count < 2:  # one model or matrix: rows stand for themselves
        member = np.arange(len(problem.cases))
    fold = member % min(FOLDS, int(member.max()) + 1)
    result = np.empty(len(problem.cases))
    for part in np.unique(fold).tolist():
        at = problem.of(np.flatnonzero(fold != part).tolist()).solve(chosen)
        result[fold == part] = problem.log_ratio(chosen, at)[fold == part]
    return result, count
