"""Rows of measurements as runs of one machine, with what each row's metric makes of a latency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import numpy as np

from simsparse.calibration.runs import Run
from simsparse.errors import InputError, UnsupportedError
from simsparse.machine import BEST, KernelMachine
from simsparse.measurements import Measurement
from simsparse.outcomes import METRICS, Outcome, in_metric
from simsparse.plan import Plan
from simsparse.predictions import predict, stream_of, workload_of
from simsparse.problems import gemm_problems
from simsparse.readings import (
    AnyReading,
    AttentionReading,
    Changes,
    GemmReading,
    ModelReading,
    Reading,
    StreamReading,
    SumReading,
    Unreadable,
)
from simsparse.registry import load_machine, load_spec, readers
from simsparse.validate import read_row

FAR_OFF = 1000.0  # times: so far from the prediction, a value is in another unit
FASTER_THAN_PEAK = 1.5  # times: more than the clock explains, so that the row is left out
ABSURD = 10.0  # times the peak: no noise, so that the table is refused
MOST_TOO_FAST = 0.1  # of the rows: with more it is refused too, as that of another machine


@dataclass(frozen=True)
class Case:
    """A measurement, its run, and the dense run it is over where it is a speedup."""

    row: Measurement
    outcome: Outcome
    run: Run
    dense: Run | None

    @property
    def measured(self) -> float:
        """In the row's metric."""
        assert self.row.value is not None
        return self.row.value

    @property
    def group(self) -> tuple[object, ...]:
        """Rows of one group are too alike for one to check what was fitted to the others: one model, or one matrix."""
        return (self.row.model,) if self.row.model else (self.row.m, self.row.k)

    def predicted(self, latency_s: float, dense_s: float | None) -> float:
        """In the row's metric."""
        changed = replace(self.outcome, latency_s=latency_s)
        return in_metric(changed if dense_s is None else replace(changed, dense_latency_s=dense_s), self.row.metric)


@dataclass(frozen=True)
class Cases:
    """Those rows of a table that a machine can be fitted to.

    Attributes
    ----------
    others : int
        Rows of other machines.
    left_out : tuple of (reason, count)
        Rows of this machine that cannot be priced, or are faster than it can be.
    """

    cases: tuple[Case, ...]
    others: int
    left_out: tuple[tuple[str, int], ...]


def cases_of(rows: Sequence[Measurement], on: str) -> Cases:
    """The rows that are of machine `on` (a name or a path), lowered.

    Raises
    ------
    InputError
        If none is, a metric is unknown, or a value cannot be one of such a run.
    """
    own = _own_rows(rows, on)
    lowering = _Lowering()
    found: list[Case] = []
    reasons: Counter[str] = Counter()
    answers = predict([row for row, _ in own], [reading for _, reading in own])
    for (row, reading), answer in zip(own, answers, strict=True):
        if isinstance(answer, Unreadable) or isinstance(reading, (Unreadable, AttentionReading)):
            reasons[answer.reason if isinstance(answer, Unreadable) else "attention alone is not fitted"] += 1
        else:
            found.append(lowering.case(row, reading, answer))
    possible, too_fast = _possible(found)
    if too_fast:
        reasons[f"over {FASTER_THAN_PEAK:g} times the peak of {on}: {', '.join(too_fast)}"] = len(too_fast)
    if not possible:
        reason, _ = reasons.most_common(1)[0]
        raise UnsupportedError(f"none of the {len(own)} rows of {on} can be fitted to: {reason}")
    return Cases(possible, sum(row.scored for row in rows) - len(own), tuple(reasons.most_common()))


def _possible(cases: Sequence[Case]) -> tuple[tuple[Case, ...], list[str]]:
    """Cases that the machine can be as fast as, and ids of the rows it cannot.

    Raises
    ------
    InputError
        If these are many, or one is absurd: then the table is wrong, or of another machine.
    """
    beyond = [_beyond_peak(case) for case in cases]
    too_fast = [case for case, times in zip(cases, beyond, strict=True) if times > FASTER_THAN_PEAK]
    many = len(too_fast) > max(1.0, MOST_TOO_FAST * len(cases))
    for case, times in zip(cases, beyond, strict=True):
        if times > ABSURD or (many and times > FASTER_THAN_PEAK):
            others = f", as are {len(too_fast) - 1} other rows" if many else ""
            allowed = f"no faster than peak arithmetic and memory allow ({_at_peak(case):.3g}){others}"
            raise InputError.expected(f"value of row {case.row.id}", case.measured, allowed)
    possible = tuple(case for case, times in zip(cases, beyond, strict=True) if times <= FASTER_THAN_PEAK)
    return possible, [case.row.id for case in too_fast]


def _own_rows(rows: Sequence[Measurement], on: str) -> list[tuple[Measurement, AnyReading | Unreadable]]:
    """Rows of machine `on` with their readings."""
    known = list(readers())
    spec = load_spec(on)

    def reading(row: Measurement) -> AnyReading | Unreadable | None:
        named = replace(row, device=on)
        if row.device in (on, spec.name, *spec.aliases):
            return read_row(named, known)
        found = read_row(row, known)
        if isinstance(found, Unreadable) or found.machine not in (on, spec.name):
            return None
        return found if found.machine == on else read_row(named, known)

    read = ((row, reading(row)) for row in rows if row.scored)
    own = [(replace(row, device=on), found) for row, found in read if found is not None]
    if not own:
        devices = ", ".join(sorted({row.device for row in rows})[:3]) or "none"
        raise InputError.expected("device of the measurements", devices, f"rows of {on}, the machine to be fitted")
    for row, _ in own:
        if row.metric not in METRICS:
            raise InputError.expected(f"metric of row {row.id}", row.metric, f"one of {', '.join(METRICS)}")
    return own


class _Lowering:
    """Lowers readings; machines with the same changes are one."""

    def __init__(self) -> None:
        self._machine = cache(_machine)

    def case(self, row: Measurement, reading: AnyReading, outcome: Outcome) -> Case:
        over = row.metric.startswith("speedup")
        case = Case(row, outcome, self._run(row, reading), self._run(row, _dense(reading)) if over else None)
        _check_unit(case)
        return case

    def _run(self, row: Measurement, reading: AnyReading) -> Run:
        match reading:
            case SumReading():
                products = [self._product(shape, each) for shape, each in reading.products]
                return _joined([*products, *(self._pass(each) for each in reading.streams)])
            case GemmReading() if row.product is not None:
                return self._product(row.product, reading, row.batch or 1)
            case StreamReading():
                return self._pass(reading)
            case ModelReading():
                return self._model(reading)
        raise UnsupportedError(f"row {row.id} is no product, no pass and no model")

    def _product(self, shape: tuple[int, int, int], reading: GemmReading, batch: int = 1) -> Run:
        machine = self._machine(reading.machine, reading.changes)
        problem = gemm_problems(
            *shape, pattern=reading.pattern, sparse_operand=reading.operand,
            a_dtype=reading.weight_dtype or reading.dtype, b_dtype=reading.dtype,
            accumulate_bits=reading.accumulate_bits, batch=batch,
        )  # fmt: skip
        return Run(machine, machine.lower_problems(problem, kernel=reading.kernel), np.ones(1))

    def _pass(self, reading: StreamReading) -> Run:
        machine = self._machine(reading.machine, reading.changes)
        return Run(machine, machine.lower_problems(stream_of(reading), kernel=reading.kernel), np.ones(1))

    def _model(self, reading: ModelReading) -> Run:
        machine = self._machine(reading.machine, reading.changes)
        work = workload_of(reading)
        if reading.pattern != "dense":
            work = work.with_sparsity(dict.fromkeys(reading.on, reading.pattern))
        plan = machine.lower(work, kernel=reading.kernel)
        return Run(machine, plan, np.array([float(call.count) for call in plan.calls]))


def _dense(reading: AnyReading) -> AnyReading:
    """What a speedup is over: the same on the best dense kernels, weights as wide as activations."""
    if isinstance(reading, SumReading):
        return SumReading(tuple((shape, _plain(each)) for shape, each in reading.products))
    return _plain(reading)


R = TypeVar("R", bound=Reading)


def _plain(reading: R) -> R:
    return replace(reading, pattern="dense", kernel=BEST, weight_dtype="")


def _machine(name: str, changes: Changes) -> KernelMachine:
    machine = load_machine(name, dict(changes))
    if not isinstance(machine, KernelMachine):
        raise UnsupportedError(f"machine {name!r} is not made of kernels, expected one whose times can be fitted")
    return machine


def _joined(runs: Sequence[Run]) -> Run:
    """Products one after the other."""
    first = runs[0].plan
    columns = [np.concatenate([getattr(run.plan, name) for run in runs]) for name in ("problem", "mapping", "kernel")]
    plan = Plan(first.machine, (), columns[0], columns[1], columns[2].astype(np.int64))
    return Run(runs[0].machine, plan, np.concatenate([run.counts for run in runs]))


def _check_unit(case: Case) -> None:
    """Refuse a figure in another unit."""
    row = case.row
    now = case.predicted(case.outcome.latency_s, case.outcome.dense_latency_s)
    if not 1 / FAR_OFF < case.measured / now < FAR_OFF:
        wanted = f"something like {now:.3g} for this run: is the unit {row.metric}?"
        raise InputError.expected(f"value of row {row.id}", case.measured, wanted)


def _beyond_peak(case: Case) -> float:
    """How many times faster than peak arithmetic and memory allow a row is; 0 where its metric is no time or rate."""
    if case.dense is not None:
        return 0.0
    at_peak, slower = _at_peak(case), case.predicted(2 * _least_s(case), None)
    if at_peak == slower:
        return 0.0
    return at_peak / case.measured if slower > at_peak else case.measured / at_peak


def _least_s(case: Case) -> float:
    return float(case.run.counts @ case.run.machine.price(case.run.plan).roofline_s)


def _at_peak(case: Case) -> float:
    """In the row's metric."""
    return case.predicted(_least_s(case), None)
