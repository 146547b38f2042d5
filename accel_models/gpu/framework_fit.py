"""Fit what frameworks take beside kernels, on measured steps of whole models: one constant from the steps it decides.

Steps on one card in a graph give the gap between kernels, on several cards the start of a collective; eager and
compiled steps give the host's time. Each is found by itself, after the kernels. Errors are given in the fit and with
the rows of one model left out, which then stands for a framework whose constant was fitted on other models.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from accel_models.gpu.evidence import model_steps
from accel_models.gpu.fitted import Constants, FrameworkConstants, Search
from accel_models.gpu.fitting import card_of
from accel_models.gpu.frameworks import Framework
from accel_models.gpu.machine import GpuMachine
from accel_models.gpu.search import minimise
from simsparse.errors import SimsparseError
from simsparse.measurements import Measurement
from simsparse.outcomes import Outcome, in_metric
from simsparse.plan import Floats, Plan
from simsparse.predictions import workload_of
from simsparse.readings import ModelReading
from simsparse.workload import Workload

# A batch that fills memory leaves the allocator no room, which takes a time of its own.
_FULL = "out of memory"


@dataclass(frozen=True)
class Step:
    """A measured step of a model.

    Attributes
    ----------
    rows : tuple of str
        Those that are read alike; `measured_s` is their median.
    model : str
    constant : str
        The one of `FrameworkConstants` that it decides.
    machine : GpuMachine
    plan : Plan
        As lowered; launches and waits are set anew for every value that is tried.
    measured_s : float
    """

    rows: tuple[str, ...]
    model: str
    constant: str
    machine: GpuMachine
    plan: Plan
    measured_s: float

    def off(self, constants: Constants) -> float:
        """log(predicted / measured)."""
        machine = self.machine.refitted(constants)
        counts = np.array([call.count for call in self.plan.calls], dtype=np.float64)
        latency_s = machine.price(machine.paced(self.plan)).latency_s
        return float(np.log(latency_s @ counts / self.measured_s))


@dataclass(frozen=True)
class FrameworkFit:
    """Constants, and log(predicted / measured) of the steps behind each: in the fit, and with their model left out."""

    constants: FrameworkConstants
    steps: tuple[Step, ...]
    within: Floats
    outside: Floats


def fit_frameworks(folder: Path, constants: Constants) -> FrameworkFit:
    """Find the constants of frameworks for given constants of kernels."""
    found = list(measured_steps(folder, constants))
    outside = np.full(len(found), np.nan)
    best = constants.frameworks
    for name in FrameworkConstants.model_fields:
        which = [i for i, step in enumerate(found) if step.constant == name]
        best = best.model_copy(update=_best(name, [found[i] for i in which], constants))
        for model in sorted({found[i].model for i in which}):
            others = [found[i] for i in which if found[i].model != model]
            left = constants.model_copy(update={"frameworks": best.model_copy(update=_best(name, others, constants))})
            for i in which:
                if found[i].model == model and others:
                    outside[i] = found[i].off(left)
        constants = constants.model_copy(update={"frameworks": best})
    within = np.array([step.off(constants) for step in found])
    return FrameworkFit(best, tuple(found), within, outside)


def _best(name: str, steps: Sequence[Step], constants: Constants) -> dict[str, float]:
    """The value of one constant with the least mean |log| error, every model with the same weight."""
    marks = [mark for mark in FrameworkConstants.model_fields[name].metadata if isinstance(mark, Search)]
    models = Counter(step.model for step in steps)

    def loss(point: Mapping[str, float]) -> float:
        tried = constants.model_copy(update={"frameworks": constants.frameworks.model_copy(update=dict(point))})
        return sum(abs(step.off(tried)) / models[step.model] for step in steps)

    return minimise(loss, dict.fromkeys((name,), marks[0])) if steps else {}


def measured_steps(folder: Path, constants: Constants) -> Iterator[Step]:
    """Steps of models whose framework is known, once for rows that are read alike."""
    alike: dict[ModelReading, list[Measurement]] = defaultdict(list)
    for row, reading in model_steps(folder):
        if "framework" in dict(reading.changes) and _FULL not in row.note:
            alike[reading].append(row)
    for reading, members in alike.items():
        machine = card_of(reading.machine, reading.changes)
        try:
            work = workload_of(reading)
            if reading.pattern != "dense":
                work = work.with_sparsity(dict.fromkeys(reading.on, reading.pattern))
            plan = machine.refitted(constants).lower(work, kernel=reading.kernel)
        except SimsparseError:
            continue
        times = {row.id: time for row in members if (time := _seconds(row, work, reading.instances)) is not None}
        if times:
            constant = _constant(machine.framework, work)
            yield Step(tuple(times), reading.workload, constant, machine, plan, float(np.median(list(times.values()))))


def _constant(framework: Framework, work: Workload) -> str:
    if framework is Framework.GRAPH:
        return "collective_s" if work.devices > work.stages else "gap_s"
    return "eager_s" if framework is Framework.EAGER else "compiled_s"


def _seconds(row: Measurement, work: Workload, instances: int) -> float | None:
    """The time of a step, from a time or a rate; None for other metrics."""
    run = Outcome(
        "", 1.0, 1.0, 1.0, 1.0, float(work.flops), work.batch * instances, work.tokens * instances,
        devices=work.devices,
    )  # fmt: skip
    try:
        one, two = (in_metric(replace(run, latency_s=time), row.metric) for time in (1.0, 2.0))
    except SimsparseError:
        return None
    if row.value is None or row.metric.startswith(("speedup", "power")) or one == two:
        return None
    return row.value / one if two > one else one / row.value
