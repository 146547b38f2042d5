"""How far steps of whole models are off beyond their kernels: what `Intervals.common` says.

Of every measured step the part of log(measured / predicted) that its kernels' intervals leave; the bounds of what all
calls have in common are quantiles of it, with as many rows outside on either side. Frameworks differ from model to
model, so coverage is counted with the rows of one model left out at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accel_models.gpu.evidence import model_steps
from accel_models.gpu.fitted import Constants
from accel_models.gpu.fitting import spec_of
from accel_models.gpu.interval_fit import Bools, bounds_of
from accel_models.gpu.intervals import Factors, Intervals
from accel_models.gpu.machine import GpuMachine
from accel_models.gpu.search import rounded
from simsparse.errors import SimsparseError
from simsparse.outcomes import Outcome, in_metric, interval_in_metric
from simsparse.plan import Floats
from simsparse.predictions import model_outcome
from simsparse.readings import Changes


@dataclass(frozen=True)
class Steps:
    """Measured steps of models beside their predictions.

    Attributes
    ----------
    model : (n,) ndarray of str
    speedup : (n,) ndarray of bool
        Whether a row says a speedup; else a time or a rate.
    off : (n,) ndarray
        log(measured / predicted).
    known : (n,) ndarray
        How far the kernels' interval reaches on that side, as a positive logarithm.
    """

    model: NDArray[np.str_]
    speedup: NDArray[np.bool_]
    off: Floats
    known: Floats

    def beyond(self) -> Floats:
        """What the kernels leave, in quadrature, with the sign of `off`."""
        return np.asarray(np.sign(self.off) * np.sqrt(np.maximum(self.off**2 - self.known**2, 0.0)))


def steps(folder: Path, constants: Constants, known: Intervals) -> Steps:
    """All rows of single cards whose phase is a step of a model, with kernels' intervals only."""
    found = list(_steps(folder, constants, known.model_copy(update={"common": (1.0, 1.0, 1.0, 1.0)})))
    model, speedup, off, inside = zip(*found, strict=True)
    return Steps(np.array(model), np.array(speedup), np.array(off), np.array(inside))


def _steps(folder: Path, constants: Constants, known: Intervals) -> Iterator[tuple[str, bool, float, float]]:
    machines: dict[tuple[str, Changes], GpuMachine] = {}
    for row, reading in model_steps(folder):
        key = (reading.machine, reading.changes)
        if key not in machines:
            machines[key] = GpuMachine(spec_of(*key), constants, known)
        try:
            run = model_outcome(reading, machines[key])
            predicted, bounds = in_metric(run, row.metric), interval_in_metric(run, row.metric)
        except SimsparseError:
            continue
        if bounds is not None and row.value is not None:
            off = float(np.log(row.value / predicted))
            side = bounds[1] if off > 0 else bounds[0]
            known_off = abs(float(np.log(side / predicted)))
            if row.metric.startswith("speedup"):
                yield reading.workload, True, off, known_off
            else:
                yield reading.workload, False, off if _is_time(row.metric) else -off, known_off


def common_factors(found: Steps) -> Factors:
    """Factors of the steps that were measured; those of times for speedups too where no speedup was."""
    times = bounds_of(found.beyond()[~found.speedup])
    gains = bounds_of(found.beyond()[found.speedup]) if found.speedup.any() else -times[::-1]
    low, high, least, most = (rounded(float(value)) for value in np.exp([*times, *gains]))
    return low, high, least, most


def models_covered(found: Steps) -> Bools:
    """Which steps lie in intervals made without the rows of their model."""
    inside = np.zeros(found.off.size, dtype=bool)
    beyond = found.beyond()
    for model in np.unique(found.model):
        for speedup in (False, True):
            rows = (found.model == model) & (found.speedup == speedup)
            others = (found.model != model) & (found.speedup == speedup)
            if rows.any() and others.any():
                low, high = bounds_of(beyond[others])
                inside[rows] = (beyond[rows] >= low) & (beyond[rows] <= high)
    return inside


def _is_time(metric: str) -> bool:
    """Whether a longer run has more of a metric."""
    return in_metric(replace(_RUN, latency_s=2.0), metric) > in_metric(_RUN, metric)


_RUN = Outcome("", 1.0, 1.0, 1.0, 1.0, 1.0)
