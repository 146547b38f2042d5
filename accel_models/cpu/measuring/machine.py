"""`measure`: this machine as a spec, from what it says and what was timed, with constants fitted to timed products."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from accel_models.cpu.measuring.identity import Identity, identity
from accel_models.cpu.measuring.plan import LEVEL_NAMES, MEMORY
from accel_models.cpu.measuring.products import Product
from accel_models.cpu.measuring.spec_of import Bandwidths, spec_of
from accel_models.cpu.measuring.worker import environment
from accel_models.cpu.spec import CpuSpec
from simsparse.calibration.fit import Fit, fit_rows
from simsparse.calibration.measured import NOISY, MeasuredMachine, Point, Timed, Watch, spec_toml
from simsparse.errors import SimsparseError, UnsupportedError
from simsparse.measurements import Measurement
from simsparse.specs import Figure

ROUNDS = 3  # processes for each thread count: what differs from one to the next tells how far a figure can be trusted
ALONE_S, TOGETHER_S = 8.0, 5.0  # of a round, for one thread, and for all
TOO_NOISY = 0.3  # spread from which on a product is not fitted to
MOST_WARNINGS = 5
FITTED_SHARE = 0.9  # of the whole time, when the fit begins


@dataclass(frozen=True)
class Line:
    """A line of a worker that tells of a timing."""

    name: str
    unit: str
    amount: float
    median_s: float
    spread: float
    samples: int
    product: Product | None
    threads: int

    @property
    def what(self) -> str:
        """In words."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        if self.product is None:
            return f"{self.name}, {threads}"
        p = self.product
        return f"{p.system} {p.m}x{p.n}x{p.k} {p.pattern}, {threads}"

    @property
    def rate(self) -> float:
        """Amount per second."""
        return self.amount / self.median_s

    def timed(self) -> Timed:
        """As a figure: products in seconds, the rest as rates where there is an amount."""
        middle = self.rate if self.amount and self.product is None else self.median_s
        return Timed(self.what, self.unit, middle, self.spread, self.samples)

    def point(self) -> Point:
        """A product under the rooflines."""
        assert self.product is not None
        p = self.product
        kept = 1 - p.sparsity
        stored = p.m * p.k * kept * (8 if p.sparsity else 4)
        return Point(p.system, self.amount / (stored + 4 * p.n * (p.k + p.m)), self.rate)


def measure(name: str, watch: Watch) -> MeasuredMachine:
    """Measure this machine in less than a minute.

    Raises
    ------
    UnsupportedError
        Where it does not say what it is, or its timings fail.
    """
    here = identity()
    budgets = {1: ALONE_S} | ({here.usable: TOGETHER_S} if here.usable > 1 else {})
    lines: list[Line] = []
    warnings = list(_limits(here))
    start, whole = 0.0, ROUNDS * sum(budgets.values())
    for turn in range(ROUNDS):
        for threads, budget_s in budgets.items():
            share = FITTED_SHARE * budget_s / whole
            for said in _worker(threads, budget_s):
                if "share" in said:
                    doing = f"{said['doing']}, threads: {threads}, round {turn + 1} of {ROUNDS}"
                    watch(doing, start + share * float(str(said["share"])))
                elif "warning" in said:
                    warnings.append(str(said["warning"]))
                else:
                    lines.append(_line(said, threads))
            start += share
    watch("fitting constants", FITTED_SHARE)
    return _machine(here, name, merged(lines), list(dict.fromkeys(warnings)))


def merged(lines: Iterable[Line]) -> list[Line]:
    """One line for all rounds of a timing: the median round, and the distance between the extremes over it as spread.

    That says how a figure repeats, which samples one after the other do not: they share the process, its pages and the
    neighbours of the moment. What only one round timed keeps the spread of its samples.
    """
    rounds: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        rounds[line.what].append(line)
    return [_merged(own) if len(own) > 1 else own[0] for own in rounds.values()]


def _merged(own: Sequence[Line]) -> Line:
    times = [line.median_s for line in own]
    middle = median(times)
    return replace(
        own[0], median_s=middle, spread=(max(times) - min(times)) / middle, samples=sum(line.samples for line in own)
    )


def _limits(here: Identity) -> Iterator[str]:
    """What keeps the measurement from saying all."""
    if here.usable == 1:
        yield "there is one core only: how anything scales with threads is not measured"
    if here.quota is not None and here.quota < here.cores:
        yield f"the container gives time for {here.quota:g} of {here.cores} cores"
    busy = os.getloadavg()[0]
    if busy > 0.5:
        yield f"other programs are running (load {busy:.1f}): repeat it when the machine is idle"


def _worker(threads: int, budget_s: float) -> Iterator[dict[str, object]]:
    command = [sys.executable, "-m", "accel_models.cpu.measuring.worker", str(threads), str(budget_s)]
    # What it says of errors goes into a file: a pipe that nobody reads would fill up and stop it.
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, env=environment(threads), stdout=subprocess.PIPE, stderr=errors, text=True)
        with process:
            assert process.stdout is not None
            try:
                for text in process.stdout:
                    yield json.loads(text)
                code = process.wait()
            finally:
                process.kill()
        errors.seek(0)
        told = errors.read().strip().splitlines()
    if code != 0:
        why = told[-1] if told else f"exit status {code}"
        raise UnsupportedError(f"timing with {threads} threads failed, expected it to end: {why}")


def _line(said: dict[str, object], threads: int) -> Line:
    product = said["product"]
    return Line(
        str(said["name"]), str(said["unit"]), float(str(said["amount"])), float(str(said["median_s"])),
        float(str(said["spread"])), int(str(said["samples"])),
        Product(**product) if isinstance(product, dict) else None, threads,
    )  # fmt: skip


def _machine(here: Identity, name: str, lines: list[Line], warnings: list[str]) -> MeasuredMachine:
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    rates = {(line.name, line.threads): line.rate for line in lines if line.amount and line.product is None}
    core = {level: rates[f"read {text}", 1] for level, text in LEVEL_NAMES.items() if (f"read {text}", 1) in rates}
    memory = max(rates[f"{what} memory", here.usable] for what in ("read", "copy"))
    spec = spec_of(here, name, rates["clock", 1], Bandwidths(core, max(memory, core[MEMORY])), date)
    timed = [line for line in lines if line.product is not None]
    spec = _fitted(spec, timed, date, warnings)
    figures = tuple(line.timed() for line in lines)
    noisy = [figure.what for figure in figures if figure.noisy]
    if noisy:
        some = "; ".join(noisy[:MOST_WARNINGS]) + (" ..." if len(noisy) > MOST_WARNINGS else "")
        warnings.append(
            f"{len(noisy)} of {len(figures)} figures differ by more than {NOISY:.0%} from round to round: {some}"
        )
    best = {text: max(line.rate for line in lines if line.name == f"peak {text}") for text in _types(lines)}
    widest = here.usable
    drawn = [line for line in timed if line.threads == widest] or timed
    bandwidth = [(t, rates[f"read {t}", widest]) for t in LEVEL_NAMES.values() if (f"read {t}", widest) in rates]
    return MeasuredMachine(
        spec, figures, tuple(line.point() for line in drawn), tuple(best.items()),
        tuple(bandwidth), tuple(warnings),
    )  # fmt: skip


def _types(lines: Iterable[Line]) -> list[str]:
    return list(dict.fromkeys(line.name.removeprefix("peak ") for line in lines if line.name.startswith("peak ")))


def _fitted(spec: CpuSpec, timed: list[Line], date: str, warnings: list[str]) -> CpuSpec:
    """The spec with the constants that the products determine; with a warning and those that ship, if none."""
    if not timed:
        warnings.append("no constant was fitted, those that ship are kept: no product was timed")
        return spec
    alone = [line for line in timed if line.threads == 1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{spec.name}.toml"
        path.write_text("\n".join(spec_toml(spec)), encoding="utf-8")
        try:
            found = _fit(timed, path)
        except SimsparseError as error:
            # Threads that wait for a core that others keep busy take any time; one thread is timed by its own clock.
            warnings.append(f"products on all threads were left out of the fit: {error}")
            try:
                found = _fit(alone, path)
            except SimsparseError as again:
                warnings.append(f"no constant was fitted, those that ship are kept: {again}")
                return spec
    source = f"measured on {date}: fitted to {found.n} products, median error {found.after.median:.1%}"
    values = {constant.field: float(f"{constant.after:.4g}") for constant in found.fitted}
    best = max((values.get(f"constants.{text}_efficiency", 0.0) for text in ("blas", "mlas")), default=0.0)
    if best > 0:
        values["constants.onednn_efficiency"] = best
    changed = spec.with_figures({field: Figure[float](value=v, source=source) for field, v in values.items()})
    assert isinstance(changed, CpuSpec)
    return changed


def _fit(lines: Iterable[Line], path: Path) -> Fit:
    """The constants of the machine at `path` that timed products determine."""
    rows = [measurement(line, path.stem, f"m-{i}") for i, line in enumerate(lines) if line.spread < TOO_NOISY]
    return fit_rows(rows, str(path), source="products timed here")


def measurement(line: Line, machine: str, row: str) -> Measurement:
    """A timed product as a row of measurements."""
    assert line.product is not None
    p = line.product
    return Measurement(
        row, p.system, machine, "latency_s", line.median_s, phase="gemm", m=p.m, n=p.n, k=p.k, dtype="fp32",
        pattern=p.pattern, sparse_operand="A" if p.sparsity else "", threads=line.threads, framework="kernel",
    )  # fmt: skip
