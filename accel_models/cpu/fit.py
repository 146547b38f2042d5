"""Fit the CPU constants to published measurements: `python -m accel_models.cpu.fit [FOLDER]`.

Reads `cpu.csv` of the evidence, lowers every encoder and network once, and then searches a few constants that make the
predicted latencies nearest to the measured ones (least squares of the logarithm of the ratio, rows that are far off
counting less; deterministic). What was fitted is written back to `constants/kernels.toml`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accel_models.cpu import FRACTIONS
from accel_models.cpu.constants import FILE, Constants, constants
from accel_models.cpu.machine import CpuMachine
from accel_models.cpu.measurements import READER
from accel_models.cpu.spec import CpuSpec
from simsparse.calibration.runs import Repricer, Run
from simsparse.errors import UnknownNameError
from simsparse.machine import KernelMachine
from simsparse.measurements import Measurement, Use, read_measurements
from simsparse.plan import Floats
from simsparse.predictions import workload_of
from simsparse.readings import ModelReading
from simsparse.registry import load_spec

EVIDENCE = Path(__file__).parents[3] / "shared" / "evidence" / "published"


@dataclass(frozen=True)
class Stage:
    """Constants that some systems' rows determine: fitted together, in the order of `STAGES`.

    Attributes
    ----------
    system : str
        Start of the systems' names.
    metric : str
        `latency_ms` or `items_per_s`.
    machine : str
        Rows of this one only, if given.
    """

    system: str
    metric: str
    names: tuple[str, ...]
    fitted_on: str
    machine: str = ""

    def targets(self, rows: Iterable[Measurement]) -> list[Target]:
        """Those of the rows that it is fitted on, lowered."""
        own = (row for row in rows if row.system.startswith(self.system) and row.metric == self.metric)
        found = (target_of(row) for row in own)
        return [t for t in found if t is not None and self.machine in ("", t.run.machine.name)]


STAGES = (
    Stage(
        "XNNPACK dense", "latency_ms", ("xnnpack_efficiency",),
        "XNNPACK dense MobileNets on Snapdragon 821, 835, 670",
    ),
    Stage(
        "ITREX neural engine", "latency_ms",
        ("block_share", "element_efficiency", "requantize_cycles", "framework_cycles", "barrier_cycles"),
        "ITREX encoders, int8 with 4x1 blocks, on c6i.12xlarge",
    ),
    Stage(
        "Fast Sparse ConvNets", "latency_ms", ("sparse_share",),
        "Fast Sparse ConvNets, MobileNets on Snapdragon 835",
    ),
    Stage(
        "ONNX Runtime", "items_per_s", ("mlas_efficiency",), "ONNX Runtime fp32, ResNet-50 and BERT on c6i.2xlarge",
        machine="c6i-2xlarge",
    ),
    Stage(
        "DeepSparse pruned", "items_per_s", ("generated_int8_share",),
        "DeepSparse int8, ResNet-50 and BERT on c6i.2xlarge", machine="c6i-2xlarge",
    ),
)  # fmt: skip
OUTLIER = 0.005  # log ratio from which on a row counts by its distance and no longer by the square
STEP = 1e-3  # relative, of a logarithm or logit, for slopes


@dataclass(frozen=True)
class Target:
    """A measurement, and the run it is of."""

    row: Measurement
    run: Run

    @property
    def measured_s(self) -> float:
        """Seconds of the run."""
        assert self.row.value is not None
        return (self.row.batch or 1) / self.row.value if self.row.metric == "items_per_s" else self.row.value * 1e-3


def target_of(row: Measurement) -> Target | None:
    """Lower the model of a row; None where it is not to be fitted on, or no source ships its workload."""
    reading = READER.reading(row)
    if row.use is not Use.YES or not isinstance(reading, ModelReading):
        return None
    spec = load_spec(reading.machine).with_figures(dict(reading.changes))
    assert isinstance(spec, CpuSpec)
    try:
        work = workload_of(reading)
    except UnknownNameError:
        return None
    if reading.pattern != "dense":
        work = work.with_sparsity(dict.fromkeys(reading.on, reading.pattern))
    machine = CpuMachine(spec)
    plan = machine.lower(work, kernel=reading.kernel)
    return Target(row, Run(machine, plan, np.array([float(call.count) for call in plan.calls])))


def changed(base: Constants, names: Sequence[str], values: Sequence[float]) -> Constants:
    """Constants with other values."""
    update = {name: getattr(base, name).model_copy(update={"value": v}) for name, v in zip(names, values, strict=True)}
    return base.model_copy(update=update)


def prediction(targets: Sequence[Target]) -> Callable[[Constants], Floats]:
    """A function from constants to predicted seconds, (targets,)."""
    runs = Repricer([target.run for target in targets])

    def predict(fitted: Constants) -> Floats:
        def with_them(machine: KernelMachine) -> KernelMachine:
            assert isinstance(machine, CpuMachine)
            return CpuMachine(machine.spec, fitted)

        return runs.latency_s(with_them)

    return predict


def fit_stage(stage: Stage, targets: Sequence[Target], base: Constants) -> Constants:
    """Constants with those of a stage fitted on its targets."""
    from scipy.optimize import least_squares

    predict = prediction(targets)
    log_measured = np.log([target.measured_s for target in targets])

    def log_ratio(x: Floats) -> Floats:
        values = [_value(name, float(v)) for name, v in zip(stage.names, x, strict=True)]
        ratio: Floats = np.log(predict(changed(base, stage.names, values))) - log_measured
        return ratio

    start = np.array([_free(name, getattr(base, name).value) for name in stage.names])
    found = least_squares(
        log_ratio, start, loss="soft_l1", f_scale=OUTLIER, diff_step=np.full(len(start), STEP), xtol=1e-4, ftol=1e-6
    )
    values = [float(f"{_value(name, float(v)):.4g}") for name, v in zip(stage.names, found.x, strict=True)]
    fitted = changed(base, stage.names, values)
    error = np.abs(predict(fitted) / np.exp(log_measured) - 1)
    print(f"{stage.fitted_on}: n {len(targets)}, median {np.median(error):.1%}, 90th {np.quantile(error, 0.9):.1%}")
    median = round(float(np.median(error)), 4)
    about = {"source": f"fitted: {stage.fitted_on}", "n": len(targets), "median_abs_error": median}
    return fitted.model_copy(update={name: getattr(fitted, name).model_copy(update=about) for name in stage.names})


def _value(name: str, free: float) -> float:
    """What a free number stands for: fractions through the logistic function, the rest through the exponential."""
    return 1 / (1 + math.exp(-free)) if name.endswith(FRACTIONS) else math.exp(free)


def _free(name: str, value: float) -> float:
    return math.log(value / (1 - value)) if name.endswith(FRACTIONS) else math.log(value)


def write(fitted: Constants, path: Path) -> None:
    """Write constants as TOML, in the order of the fields."""
    lines = ["# Constants of the CPU kernels. `python -m accel_models.cpu.fit` rewrites those it fits.", ""]
    for name in Constants.model_fields:
        constant = getattr(fitted, name)
        about = f'value = {constant.value}, source = "{constant.source}"'
        about += f", n = {constant.n}" if constant.n else ""
        about += f", median_abs_error = {constant.median_abs_error}" if constant.median_abs_error is not None else ""
        lines.append(f"{name} = {{ {about} }}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(folder: Path) -> None:
    """Fit all stages on the evidence in `folder` and save the constants."""
    rows = read_measurements(folder / "cpu.csv")
    fitted = constants()
    for stage in STAGES:
        fitted = fit_stage(stage, stage.targets(rows), fitted)
    write(fitted, FILE)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else EVIDENCE)
