"""Points of a sweep to rows of figures; neighbours share their workload, machine and dense baseline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, reduce

from simsparse.errors import SimsparseError
from simsparse.grid import Point, methods_of
from simsparse.plan import HasArea, Machine
from simsparse.registry import load_machine, load_workload
from simsparse.result import Baseline
from simsparse.simulate import baseline_of, dense_twin, simulate
from simsparse.transforms import apply_method
from simsparse.workload import Workload


@dataclass(frozen=True)
class Figures:
    """What a point costs; all None with `error` set where it cannot run. Names and units as in `Result`."""

    latency_s: float | None = None
    dense_latency_s: float | None = None
    speedup: float | None = None
    energy_j: float | None = None
    dense_energy_j: float | None = None
    energy_gain: float | None = None
    tokens_per_s: float | None = None
    tokens_per_j: float | None = None
    bound: str | None = None
    flops: float | None = None
    total_bytes: float | None = None
    fits: bool | None = None
    largest_batch: int | None = None
    area_mm2: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Answer:
    """The figures of a point, and the step that ran: what the spec left open has its value here."""

    figures: Figures
    step: Step


@dataclass(frozen=True)
class Step:
    """Axes that a model has defaults for; None where it does not say."""

    phase: str | None = None
    seq: int | None = None
    context: int | None = None


def evaluate(points: Iterable[Point]) -> list[Answer]:
    """The answer to each point; one that cannot run has its reason in `error`."""
    shared = _Shared()
    return [_answer(point, shared) for point in points]


class _Shared:
    """What points have in common, made once."""

    def __init__(self) -> None:
        self.workload = cache(_workload)
        self.machine = cache(_machine)
        self.sparse = cache(self._sparse)
        self.baseline = cache(self._baseline)

    def _sparse(self, key: _WorkloadKey, on: str, pattern: str) -> Workload:
        work = self.workload(key)
        return work if pattern == "dense" else work.with_sparsity({on: pattern})

    def _baseline(self, key: _WorkloadKey, machine: _MachineKey) -> Baseline:
        return baseline_of(dense_twin(self.workload(key)), self.machine(machine))


_WorkloadKey = tuple[str, str | None, int, int | None, int | None, str, str]
_MachineKey = tuple[str, tuple[tuple[str, object], ...]]


def _workload(key: _WorkloadKey) -> Workload:
    name, phase, batch, seq, context, dtype, method = key
    work = load_workload(name, phase=phase, batch=batch, seq=seq, context=context, dtype=dtype)
    return reduce(apply_method, methods_of(method), work)


def _machine(key: _MachineKey) -> Machine:
    name, changes = key
    return load_machine(name, dict(changes))


def _answer(point: Point, shared: _Shared) -> Answer:
    key = (point.workload, point.phase, point.batch, point.seq, point.context, point.dtype, point.method)
    machine = (point.machine, point.changes)
    step = Step()
    try:
        work = shared.workload(key)
        step = Step(str(work.phase), work.seq, work.context)
        target = shared.machine(machine)
        result = simulate(
            shared.sparse(key, point.on, point.pattern),
            target,
            kernel=point.kernel,
            baseline=shared.baseline(key, machine),
        )
    except SimsparseError as error:
        return Answer(Figures(error=str(error)), step)
    memory = result.footprint
    figures = Figures(
        result.latency_s, result.dense_latency_s, result.speedup, result.energy_j, result.dense_energy_j,
        result.energy_gain, result.tokens_per_s, result.tokens_per_j, result.bound, float(result.workload.flops),
        memory.total_bytes, memory.fits, memory.largest_batch,
        target.area_mm2 if isinstance(target, HasArea) else None,
    )  # fmt: skip
    return Answer(figures, step)
