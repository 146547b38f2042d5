"""Fit the constants of `constants/kernels.toml`: `python -m accel_models.gpu.fit EVIDENCE_FOLDER`.

Rows of single products (phase `gemm`, use `yes`) are read by the same aliases as `validate`. The clock fraction of each
card comes from its dense tensor-core rows (fp32 multiplications where it has no others); efficiency, fill and issue
cycles of each kernel from that kernel's rows, by a pattern search on the mean absolute log error, every shape with the
same weight. The search has no randomness: the same rows give the same file.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accel_models.gpu import FAMILY
from accel_models.gpu.fitted import FOLDER, CardConstants, Constants, FamilyConstants, constants
from accel_models.gpu.machine import GpuMachine
from accel_models.gpu.spec import GpuSpec
from simsparse.alias_reader import AliasReader
from simsparse.errors import SimsparseError
from simsparse.measurements import Measurement, csv_files, read_measurements
from simsparse.plan import Floats
from simsparse.problems import gemm_problems
from simsparse.readings import GemmReading

# What a kernel's rows may move, with the step of the first round (a factor).
FREE = {"efficiency": 1.1, "issue_cycles": 2.0, "launch_s": 1.5, "dram_fraction": 1.05}
# The search runs from each of these and keeps the best.
STARTS = (
    {"efficiency": 0.8, "issue_cycles": 0.05, "launch_s": 3e-6, "dram_fraction": 0.85},
    {"efficiency": 0.4, "issue_cycles": 0.01, "launch_s": 3e-6, "dram_fraction": 0.8},
    {"efficiency": 0.2, "issue_cycles": 0.5, "launch_s": 1e-5, "dram_fraction": 0.9},
)
MOST = {"efficiency": 1.0, "issue_cycles": 8.0, "launch_s": 1e-4}
# Efficiency of cuBLAS and the clock fraction of the cards are one degree of freedom; many of its rows wait for memory.
# Rows of the activation-sparse operators are short enough to tell their launch.
SPECIAL = {"cublas": ("dram_fraction",), "act-gemv": ("launch_s", "issue_cycles")}
ROUNDS = 40
FEWEST_ROWS = 8


@dataclass(frozen=True)
class Rows:
    """Measured products of one kernel on one card."""

    machine: str
    kernel: str
    problem: Floats
    seconds: Floats
    weight: Floats


def measured_seconds(row: Measurement) -> float | None:
    """Time of a product in a row's own metric; None where it says no time."""
    if row.value is None or row.product is None:
        return None
    scale = {"latency_ms": 1e-3, "latency_us": 1e-6, "latency_s": 1.0}.get(row.metric)
    if scale is not None:
        return row.value * scale
    if row.metric in ("tflops", "tflops_effective"):
        m, n, k = row.product
        return 2.0 * m * n * k / (row.value * 1e12)
    return None


def read(folder: Path, reader: AliasReader) -> list[Rows]:
    """Measured products of all CSV files of a folder, by card and kernel."""
    found: dict[tuple[str, str], list[tuple[Floats, float]]] = defaultdict(list)
    for path in csv_files([folder])[0]:
        for row in read_measurements(path):
            reading = reader.reading(row) if row.scored else None
            seconds = measured_seconds(row)
            if not isinstance(reading, GemmReading) or seconds is None or row.product is None:
                continue
            if reading.kernel == "best" or reading.changes:
                continue
            try:
                problem = gemm_problems(
                    *row.product, pattern=reading.pattern, sparse_operand=reading.operand,
                    a_dtype=reading.weight_dtype or reading.dtype, b_dtype=reading.dtype,
                    accumulate_bits=reading.accumulate_bits,
                )  # fmt: skip
            except SimsparseError:
                continue
            found[reading.machine, reading.kernel].append((problem[0], seconds))
    return [_rows(*key, pairs) for key, pairs in sorted(found.items())]


def _rows(machine: str, kernel: str, pairs: Sequence[tuple[Floats, float]]) -> Rows:
    problem = np.stack([p for p, _ in pairs])
    _, inverse, counts = np.unique(problem, axis=0, return_inverse=True, return_counts=True)
    weight = 1.0 / counts[inverse.ravel()]
    return Rows(machine, kernel, problem, np.array([s for _, s in pairs]), weight)


class Fit:
    """Constants under change, and the error they make on measured rows."""

    def __init__(self, rows: Sequence[Rows], start: Constants) -> None:
        self.rows = rows
        self.constants = start
        self._specs = {r.machine: FAMILY.spec(FAMILY.files[r.machine]) for r in rows}

    def errors(self, rows: Rows, trial: Constants) -> Floats:
        """Predicted over measured of each row."""
        spec = self._specs[rows.machine]
        assert isinstance(spec, GpuSpec)
        machine = GpuMachine(spec, trial)
        plan = machine.lower_problems(rows.problem, kernel=rows.kernel)
        return np.asarray(machine.price(plan).latency_s / rows.seconds)

    def loss(self, chosen: Sequence[Rows], trial: Constants) -> float:
        """Weighted mean of |log(predicted / measured)|."""
        ratio = np.concatenate([np.abs(np.log(self.errors(r, trial))) for r in chosen])
        return float(np.average(ratio, weights=np.concatenate([r.weight for r in chosen])))

    def search(
        self, chosen: Sequence[Rows], start: Mapping[str, float], steps: Mapping[str, float],
        build: Callable[[Mapping[str, float]], Constants],
    ) -> dict[str, float]:  # fmt: skip
        """Pattern search: try each parameter up and down, halve the steps when nothing helps."""
        best, factors = dict(start), dict(steps)
        lowest = self.loss(chosen, build(best))
        for _ in range(ROUNDS):
            improved = False
            for name, factor in factors.items():
                for tried in (best[name] * factor, best[name] / factor):
                    point = best | {name: min(tried, MOST.get(name, 1.0))}
                    loss = self.loss(chosen, build(point))
                    if loss < lowest - 1e-6:
                        best, lowest, improved = point, loss, True
            if not improved:
                factors = {name: factor**0.5 for name, factor in factors.items()}
                if max(factors.values()) < 1.002:
                    break
        return best

    def cards(self) -> None:
        """Clock fraction of each card from its dense rows."""
        fractions: dict[str, CardConstants] = {}
        for machine in sorted({r.machine for r in self.rows}):
            dense = [r for r in self.rows if r.machine == machine and r.kernel == "cublas"]
            dense = dense or [r for r in self.rows if r.machine == machine and r.kernel == "cublas-simt"]
            if sum(len(r.seconds) for r in dense) < FEWEST_ROWS:
                continue

            def build(point: Mapping[str, float], name: str = machine) -> Constants:
                card = CardConstants(clock_fraction=point["clock_fraction"], fitted_on="")
                return self.constants.model_copy(update={"cards": {**self.constants.cards, name: card}})

            found = self.search(dense, {"clock_fraction": 0.9}, {"clock_fraction": 1.1}, build)
            count = sum(len(r.seconds) for r in dense)
            fractions[machine] = CardConstants(
                clock_fraction=_rounded(found["clock_fraction"]), fitted_on=f"{count} rows of {dense[0].kernel}"
            )
        default = float(np.mean([card.clock_fraction for card in fractions.values()]))
        self.constants = self.constants.model_copy(
            update={"cards": fractions, "default_clock_fraction": _rounded(default)}
        )

    def fill(self) -> None:
        """Latency at the ends of a tile, from the dense tensor-core rows of all cards."""
        dense = [r for r in self.rows if r.kernel == "cublas"]

        def build(point: Mapping[str, float]) -> Constants:
            return self.constants.model_copy(update={"fill_s": point["fill_s"]})

        found = self.search(dense, {"fill_s": 1e-6}, {"fill_s": 1.5}, build)
        self.constants = build({"fill_s": _rounded(found["fill_s"])})

    def kernel(self, name: str, free: Sequence[str]) -> None:
        """Constants of one kernel from its rows on all cards."""
        chosen = [r for r in self.rows if r.kernel == name]
        count = sum(len(r.seconds) for r in chosen)
        old = self.constants.of(name)
        if count < FEWEST_ROWS:
            return

        def build(point: Mapping[str, float]) -> Constants:
            changed = old.model_copy(update=dict(point))
            return self.constants.model_copy(update={"kernels": {**self.constants.kernels, name: changed}})

        steps = {field: FREE[field] for field in free}
        ends = [
            self.search(chosen, {field: start[field] for field in free}, steps, build) if free else {}
            for start in STARTS
        ]
        best = min(ends, key=lambda point: self.loss(chosen, build(point)))
        fitted = build({field: _rounded(value) for field, value in best.items()})
        off = np.concatenate([np.abs(self.errors(r, fitted) - 1.0) for r in chosen])
        cards = ", ".join(sorted({r.machine for r in chosen}))
        done = fitted.of(name).model_copy(
            update={
                "fitted_on": f"gemm rows on {cards}",
                "n": count,
                "median_abs_error": _rounded(float(np.median(off))),
            }
        )
        self.constants = fitted.model_copy(update={"kernels": {**fitted.kernels, name: done}})


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def write(found: Constants) -> str:
    """The constants as TOML."""
    lines = [
        "# Written by `python -m accel_models.gpu.fit`. Units: see accel_models/gpu/fitted.py.",
        f"fill_s = {found.fill_s}",
        f"power_exponent = {found.power_exponent}",
        f"default_clock_fraction = {found.default_clock_fraction}",
    ]
    for name, card in found.cards.items():
        lines += ["", f"[cards.{name}]", f"clock_fraction = {card.clock_fraction}", f'fitted_on = "{card.fitted_on}"']
    for name, kernel in found.kernels.items():
        lines += ["", f"[kernels.{name}]", *_kernel_lines(kernel)]
    return "\n".join(lines) + "\n"


def _kernel_lines(kernel: FamilyConstants) -> list[str]:
    numbers = ("efficiency", "launch_s", "dram_fraction", "issue_cycles")
    lines = [f"{field} = {getattr(kernel, field)!r}" for field in numbers]
    lines += [f'fitted_on = "{kernel.fitted_on}"', f"n = {kernel.n}"]
    if kernel.median_abs_error is not None:
        lines.append(f"median_abs_error = {kernel.median_abs_error}")
    return lines


def main(folder: str) -> None:
    """Fit everything, print the error of each kernel, write the file."""
    reader = AliasReader(Path(__file__).with_name("measurements.toml"))
    fit = Fit(read(Path(folder), reader), constants())
    for _ in range(3):  # each depends on the others
        fit.cards()
        fit.fill()
        fit.kernel("cublas", SPECIAL["cublas"])
    for name in fit.constants.kernels:
        free = SPECIAL.get(name, ("efficiency", "issue_cycles"))
        if fit.constants.of(name).issue_cycles == 0.0:
            free = tuple(field for field in free if field != "issue_cycles")
        fit.kernel(name, free)
        done = fit.constants.of(name)
        print(f"{name:18} n {done.n:5d}  median |error| {done.median_abs_error}  {done.fitted_on}", flush=True)
    (FOLDER / "kernels.toml").write_text(write(fit.constants), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2])
