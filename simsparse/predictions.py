"""From readings to outcomes: products in arrays, one price call per machine and kernel; models one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

import numpy as np

from simsparse.dtypes import dtype
from simsparse.errors import SimsparseError, UnsupportedError
from simsparse.intervals import Bounds
from simsparse.measurements import Measurement
from simsparse.ops import ContractionKind, Role, Stream, StreamKind, Tensor
from simsparse.outcomes import Outcome
from simsparse.plan import Floats, Ints, Machine
from simsparse.problems import attention_problem, gemm_problems, problem_of
from simsparse.readings import (
    AnyReading,
    AttentionReading,
    GemmReading,
    ModelReading,
    Reading,
    StreamReading,
    SumReading,
    Unreadable,
)
from simsparse.registry import load_machine, load_workload
from simsparse.result import Result
from simsparse.simulate import GemmEstimate, simulate, without_pattern
from simsparse.sparsity import DENSE, NM, Pattern, parse
from simsparse.transforms import apply_method, quantize_weights
from simsparse.transforms.dynamic_masks import compress
from simsparse.workload import Workload

Answer = Outcome | Unreadable
_ON_SCORES = ("attn-block", "attn-token")


def predict(rows: Sequence[Measurement], readings: Sequence[AnyReading | Unreadable]) -> list[Answer]:
    """The outcome of each row, or why there is none."""
    answers: dict[int, Answer] = {}
    products: list[_Product] = []
    passes: dict[int, list[Answer]] = {}
    known: dict[Reading, Answer] = {}
    for index, (row, reading) in enumerate(zip(rows, readings, strict=True)):
        match reading:
            case Unreadable():
                answers[index] = reading
            case SumReading():
                products.extend(_Product(index, *each) for each in reading.products)
                passes[index] = [_beside(_one(each)) for each in reading.streams]
            case GemmReading() if row.product is not None:
                products.append(_Product(index, row.product, reading, row.batch or 1))
            case Reading():
                if reading not in known:
                    known[reading] = _one(reading)
                answers[index] = known[reading]
    answers |= _sums(products, passes)
    return [answers[index] for index in range(len(rows))]


def _sums(products: Sequence[_Product], passes: Mapping[int, Sequence[Answer]]) -> dict[int, Answer]:
    """Outcomes of rows from those of their products and of passes beside them, by index of row."""
    alike: dict[tuple[object, ...], list[_Product]] = defaultdict(list)
    for product in products:
        alike[product.reading.machine, product.reading.changes, product.reading.kernel].append(product)
    parts: dict[int, list[Answer]] = defaultdict(list)
    for group in alike.values():
        for product, answer in zip(group, _products(group), strict=True):
            parts[product.index].append(answer)
    return {index: _sum([*found, *passes.get(index, ())]) for index, found in parts.items()}


def _beside(answer: Answer) -> Answer:
    """A pass that the dense run of a sum does without."""
    return replace(answer, dense_latency_s=0.0, dense_energy_j=0.0) if isinstance(answer, Outcome) else answer


def _sum(parts: Sequence[Answer]) -> Answer:
    """One after the other; without an outcome if one part has none."""
    runs = [part for part in parts if isinstance(part, Outcome)]
    if len(runs) < len(parts):
        return next(part for part in parts if isinstance(part, Unreadable))
    if len(runs) == 1:
        return runs[0]
    totals = {
        name: sum(getattr(run, name) for run in runs)
        for name in ("latency_s", "dense_latency_s", "energy_j", "dense_energy_j", "flops")
    }
    longest = max(runs, key=lambda run: run.latency_s)
    whole = replace(longest, **totals)
    return replace(whole, latency_interval_s=_sum_of_times(runs), speedup_interval=_sum_of_speedups(runs))


def _sum_of_times(runs: Sequence[Outcome]) -> Bounds | None:
    """The interval of runs one after the other, which are off together."""
    bounds = [run.latency_interval_s for run in runs if run.latency_interval_s is not None]
    return (sum(low for low, _ in bounds), sum(high for _, high in bounds)) if len(bounds) == len(runs) else None


def _sum_of_speedups(runs: Sequence[Outcome]) -> Bounds | None:
    gains = [(run.dense_latency_s, run.speedup_interval) for run in runs if run.speedup_interval is not None]
    if len(gains) < len(runs):
        return None
    dense_s = sum(dense for dense, _ in gains)
    least, most = (dense_s / sum(dense / bounds[side] for dense, bounds in gains) for side in (0, 1))
    return least, most


def _one(reading: Reading) -> Answer:
    try:
        return outcome(reading)
    except SimsparseError as error:
        return Unreadable(str(error))


@singledispatch
def outcome(reading: Reading) -> Outcome:
    """Price a reading that says all there is to know.

    Raises
    ------
    SimsparseError
    """
    raise UnsupportedError(f"readings of type {type(reading).__name__} are not priced")


@outcome.register
def _(reading: ModelReading) -> Outcome:
    return model_outcome(reading, load_machine(reading.machine, dict(reading.changes)))


def model_outcome(reading: ModelReading, machine: Machine) -> Outcome:
    """The step of a model on a machine, which need not be the shipped one that the reading names.

    Raises
    ------
    SimsparseError
    """
    work = workload_of(reading)
    # Papers compare narrow weights with the activations' type.
    reference = workload_of(replace(reading, weight_dtype="")) if reading.weight_dtype else None
    sparsity = {} if reading.pattern == "dense" else dict.fromkeys(reading.on, reading.pattern)
    result = simulate(work, machine, sparsity=sparsity, kernel=reading.kernel, baseline=reference)
    again_s, again_j = _verification(reading, machine)
    spent: dict[str, float] = defaultdict(float)
    for call, latency_s in zip(result.plan.calls, result.prices.latency_s.tolist(), strict=True):
        spent[call.kernel] += latency_s * call.count
    return Outcome(
        max(spent, key=lambda name: spent[name]), result.latency_s + again_s, result.dense_latency_s,
        result.energy_j + again_j, result.dense_energy_j, float(work.flops), work.batch * reading.instances,
        work.tokens * reading.instances, result.footprint.total_bytes, *_bounds(result, again_s), work.devices,
    )  # fmt: skip


def _verification(reading: ModelReading, machine: Machine) -> tuple[float, float]:
    """Time and energy of a token's share of the dense steps that check tokens."""
    if reading.verify is None:
        return 0.0, 0.0
    step = simulate(workload_of(replace(reading, seq=reading.verify)), machine)
    return step.latency_s / reading.verify, step.energy_j / reading.verify


def _bounds(result: Result, again_s: float) -> tuple[Bounds | None, Bounds | None]:
    """Intervals of time and speedup, in proportion where dense steps check tokens."""
    more = 1.0 + again_s / result.latency_s
    time_s, gain = result.latency_interval_s, result.speedup_interval
    return (
        None if time_s is None else (time_s[0] * more, time_s[1] * more),
        None if gain is None else (gain[0] / more, gain[1] / more),
    )


@outcome.register
def _(reading: AttentionReading) -> Outcome:
    problem = attention_of(reading)
    machine = load_machine(reading.machine, dict(reading.changes))
    return _estimate(machine, problem, without_pattern(problem), reading.kernel)[0]


@outcome.register
def _(reading: StreamReading) -> Outcome:
    problem = stream_of(reading)
    machine = load_machine(reading.machine, dict(reading.changes))
    return _estimate(machine, problem, problem, reading.kernel)[0]


def stream_of(reading: StreamReading) -> Floats:
    """The pass of a reading as a problem, (1, PROBLEM_WIDTH).

    Raises
    ------
    SimsparseError
        For a matrix that is packed to a pattern that is no N:M.
    """
    matrix = Tensor("matrix", (reading.rows, reading.columns), dtype(reading.dtype), Role.WEIGHT)
    if reading.kind is StreamKind.COPY:
        return problem_of(Stream("copy", reading.kind, (matrix,), (matrix,)))[None]
    pattern = parse(reading.pattern)
    if not isinstance(pattern, NM):
        raise UnsupportedError(f"pattern {reading.pattern!r} is no N:M to pack a matrix to")
    return problem_of(compress(matrix, pattern))[None]


def attention_of(reading: AttentionReading) -> Floats:
    """The attention of a reading as a problem, (1, PROBLEM_WIDTH).

    Raises
    ------
    SimsparseError
        For a workload without attention, or a pattern that is none of scores.
    """
    work = _workload(reading)
    if reading.pattern != "dense":
        if not reading.pattern.startswith(_ON_SCORES):
            raise UnsupportedError(f"pattern {reading.pattern!r} is none of attention scores")
        work = work.with_sparsity({"*": reading.pattern})
    found = list(work.contractions())
    score = next((op for op in found if op.kind is ContractionKind.SCORE), None)
    value = next((op for op in found if op.kind is ContractionKind.VALUE), None)
    if score is None or value is None:
        raise UnsupportedError(f"workload {work.name!r} has no attention")
    return attention_problem(score, value)[None]


def workload_of(reading: ModelReading) -> Workload:
    """The workload of a reading before its pattern, or the part of it that was timed.

    Raises
    ------
    SimsparseError
    """
    return _part(_workload(reading), reading.part)


def _workload(reading: ModelReading) -> Workload:
    work = load_workload(
        reading.workload,
        phase=reading.phase,
        batch=reading.batch,
        seq=reading.seq,
        context=reading.context,
        dtype=reading.dtype,
    )
    if reading.weight_dtype:
        work = quantize_weights(work, reading.weight_dtype)
    for method in reading.methods:
        work = apply_method(work, method)
    return work


def _part(work: Workload, glob: str) -> Workload:
    """Only the contractions with a weight that a glob names, once for all their layers."""
    if not glob:
        return work
    from fnmatch import fnmatchcase

    kept = tuple(op for op in work.contractions() if op.weight is not None and fnmatchcase(op.name, glob))
    if not kept:
        raise UnsupportedError(f"workload {work.name!r} has no contraction with a weight named {glob!r}")
    return replace(work, ops=kept)


@dataclass(frozen=True)
class _Product:
    """A product of a row: which row, its M, N and K, how it is read, and how many of them run side by side."""

    index: int
    shape: tuple[int, int, int]
    reading: GemmReading
    batch: int = 1


@dataclass(frozen=True)
class _Batch:
    """Rows of products that one call can price."""

    machine: Machine
    kernel: str
    problem: Floats
    dense: Floats

    def take(self, index: Ints) -> _Batch:
        return replace(self, problem=self.problem[index], dense=self.dense[index])


def _products(rows: Sequence[_Product]) -> list[Answer]:
    """Outcomes of products that share machine and kernel, in the order of `rows`."""
    head = rows[0].reading
    try:
        machine = load_machine(head.machine, dict(head.changes))
    except SimsparseError as error:
        return [Unreadable(str(error))] * len(rows)
    answers: dict[int, Answer] = {}
    alike: dict[GemmReading, list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        alike[row.reading].append(position)
    problems, dense = [], []
    kept: list[int] = []
    for reading, group in alike.items():
        members = [rows[position] for position in group]
        try:
            problems.append(_problems(members, reading, parse(reading.pattern), reading.weight_dtype or reading.dtype))
            dense.append(_problems(members, reading, DENSE, reading.dtype))
            kept.extend(group)
        except SimsparseError as error:
            answers |= dict.fromkeys(group, Unreadable(str(error)))
    if kept:
        batch = _Batch(machine, head.kernel, np.concatenate(problems), np.concatenate(dense))
        answers |= dict(zip(kept, _priced(batch), strict=True))
    return [answers[position] for position in range(len(rows))]


def _problems(rows: Sequence[_Product], reading: GemmReading, pattern: Pattern, weight: str) -> Floats:
    """Problems of rows with the same reading; the dense ones have the type of the activations throughout."""
    m, n, k, batch = np.array([(*row.shape, row.batch) for row in rows]).T
    return gemm_problems(
        m, n, k, pattern=pattern, sparse_operand=reading.operand, a_dtype=weight, b_dtype=reading.dtype,
        accumulate_bits=reading.accumulate_bits, batch=batch,
    )  # fmt: skip


def _priced(batch: _Batch) -> list[Answer]:
    """Price all rows at once; where one cannot be, halve until it stands alone with its reason."""
    try:
        return list(_estimate(batch.machine, batch.problem, batch.dense, batch.kernel))
    except SimsparseError as error:
        rows = len(batch.problem)
        if rows == 1 or (batch.kernel != "best" and batch.kernel not in batch.machine.kernel_names):
            return [Unreadable(str(error))] * rows
    halves = np.array_split(np.arange(rows), 2)
    return [answer for half in halves for answer in _priced(batch.take(half))]


def _estimate(machine: Machine, problem: Floats, dense: Floats, kernel: str) -> list[Outcome]:
    """Outcomes of bare problems, with the best kernels for `dense` as baseline."""
    found = GemmEstimate.of(machine, problem, dense, kernel=kernel)
    columns = (
        found.plan.kernel, found.latency_s, found.dense_latency_s, found.energy_j, found.dense_energy_j,
        found.prices.flops,
    )  # fmt: skip
    times, gains = _pairs(found.latency_interval_s, len(problem)), _pairs(found.speedup_interval, len(problem))
    return [
        Outcome(
            machine.kernel_names[index], latency_s, dense_s, energy_j, dense_j, flops, latency_interval_s=time,
            speedup_interval=gain,
        )
        for index, latency_s, dense_s, energy_j, dense_j, flops, time, gain in zip(
            *(column.tolist() for column in columns), times, gains, strict=True
        )
    ]  # fmt: skip


def _pairs(bounds: Floats | None, count: int) -> list[Bounds | None]:
    if bounds is None:
        return [None] * count
    return [(low, high) for low, high in bounds.tolist()]
