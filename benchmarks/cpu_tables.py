"""What comes of the rows that `cpu_kernels.py` timed: predicted beside measured, by system, threads and shape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from measuring import report

from accel_models.cpu.measuring.identity import identity
from accel_models.cpu.measuring.products import ONE_THREAD
from simsparse.calibration.fit import fit_rows
from simsparse.errors import SimsparseError
from simsparse.measurements import Measurement
from simsparse.outcomes import Outcome
from simsparse.plan import Floats
from simsparse.predictions import predict
from simsparse.registry import load_spec, readers
from simsparse.validate import read_row

FEW = 16  # tokens


@dataclass(frozen=True)
class Timing:
    """A row as it was timed, the part of the benchmark that it is of, and the seconds predicted."""

    row: Measurement
    part: int
    predicted_s: float

    @property
    def system(self) -> str:
        """Without its version."""
        return self.row.system.split()[0]

    @property
    def measured_s(self) -> float:
        """As the row says."""
        assert self.row.value is not None
        return self.row.value

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted_s / self.measured_s

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, N and K."""
        row = self.row
        assert row.m is not None
        assert row.n is not None
        assert row.k is not None
        return row.m, row.n, row.k

    @property
    def shape_class(self) -> str:
        """How many tokens, and which level of this machine holds the dense weight."""
        m, n, k = self.shape
        tokens = "1 token" if n == 1 else f"2-{FEW} tokens" if n <= FEW else "more tokens"
        here = identity()
        sizes = [(f"L{level}", here.cache(level)) for level in (2, 3)]
        place = next((name for name, cache in sizes if cache and 8 * m * k <= cache.capacity_bytes), "memory")
        return f"{tokens}, {place}"


def predicted(rows: Sequence[Measurement], on: str) -> Floats:
    """Predicted seconds; not a number where a row cannot be priced."""
    own = [replace(row, device=on) for row in rows]
    answers = predict(own, [read_row(row, list(readers())) for row in own])
    return np.array([answer.latency_s if isinstance(answer, Outcome) else np.nan for answer in answers])


def errors(what: str, timings: Iterable[Timing], target: str = "") -> None:
    """One line: median and 90th percentile of absolute errors, and the median of signed ones."""
    ratio = np.array([t.ratio for t in timings])
    ratio = ratio[~np.isnan(ratio)]
    if ratio.size:
        error = np.abs(ratio - 1)
        figure = f"{np.median(error):.1%} / {np.quantile(error, 0.9):.1%}"
        report(f"{what}, {ratio.size}", figure, target or f"median {np.median(ratio) - 1:+.0%}")


def by_class(timings: Sequence[Timing], names: Sequence[str], target: str) -> None:
    """Errors of some systems: of all, with each thread count, by system and by system, threads and class of shape."""
    own = [t for t in timings if t.system in names]
    errors(", ".join(names), own, target)
    for threads in sorted({t.row.threads or 1 for t in own}):
        here = [t for t in own if (t.row.threads or 1) == threads]
        errors(f"  threads: {threads}", here)
        for name in names:
            of_name = [t for t in here if t.system == name]
            errors(f"    {name}", of_name)
            for text in sorted({t.shape_class for t in of_name}):
                errors(f"      {text}", [t for t in of_name if t.shape_class == text])


Key = tuple[int, int, int, str]


def sides(timings: Iterable[Timing], threads: int, *, measured: bool) -> dict[Key, bool]:
    """Whether the fastest sparse run beats the fastest dense one, by M, N, K and pattern, where there are both.

    Systems that have one thread only stand beside the others whatever their threads; blocks are left out, as they are
    another weight.
    """
    dense: dict[tuple[int, int, int], float] = defaultdict(lambda: np.inf)
    sparse: dict[Key, float] = defaultdict(lambda: np.inf)
    for t in timings:
        time_s = t.measured_s if measured else t.predicted_s
        if np.isnan(time_s) or t.row.pattern.startswith("block"):
            continue
        if t.row.threads != threads and t.system not in ONE_THREAD:
            continue
        if t.row.pattern == "dense":
            dense[t.shape] = min(dense[t.shape], time_s)
        else:
            key = (*t.shape, t.row.pattern)
            sparse[key] = min(sparse[key], time_s)
    return {key: time_s < dense[key[:3]] for key, time_s in sparse.items() if key[:3] in dense}


def which_is_faster(timings: Sequence[Timing]) -> None:
    """Share of points where the faster of dense and sparse is predicted, of all and by threads."""
    right: dict[int, list[bool]] = {}
    for threads in sorted({t.row.threads or 1 for t in timings}):
        truth, said = (sides(timings, threads, measured=measured) for measured in (True, False))
        right[threads] = [said.get(key) == faster for key, faster in truth.items()]
    every = [answer for answers in right.values() for answer in answers]
    if every:
        report(f"which of dense and sparse is faster, {len(every)} points", f"{np.mean(every):.1%}", "92 %")
    for threads, answers in right.items():
        report(f"  threads: {threads}, {len(answers)} points", f"{np.mean(answers):.1%}")


Figures = dict[str, tuple[float, bool]]


def repeated(runs: Sequence[Figures]) -> tuple[int, float, float]:
    """How calibrations of the same machine agree; each says of figures their medians, and whether they are noisy.

    Returns
    -------
    figures : int
        That all of them have.
    told : float
        Share within 10 % of each other, or flagged in one of them.
    flagged : float
    """
    common = [name for name in runs[0] if all(name in run for run in runs)]
    apart = [max(run[n][0] for run in runs) > 1.1 * min(run[n][0] for run in runs) for n in common]
    flagged = [any(run[n][1] for run in runs) for n in common]
    told = [not a or f for a, f in zip(apart, flagged, strict=True)]
    return len(common), float(np.mean(told)), float(np.mean(flagged))


def half_of_shapes(rows: Sequence[Measurement], on: str, out: Path) -> list[Timing]:
    """DeepSparse on every other shape, with constants fitted on those between; none if they cannot be fitted."""
    shapes = sorted({(row.m, row.k) for row in rows if row.m and row.k})
    plain = [replace(row, device=load_spec(on).name) for row in rows]
    first, second = ([row for row in plain if (row.m, row.k) in shapes[part::2]] for part in (0, 1))
    try:
        found = fit_rows(first, on, source="half of the shapes")
    except SimsparseError as error:
        report("DeepSparse could not be fitted", "", str(error))
        return []
    path = out / "deepsparse.toml"
    path.write_text(found.overlay(load_spec(on), Path(on).name, "deepsparse").to_toml(), encoding="utf-8")
    report(f"DeepSparse, the half that was fitted, {found.n}", f"{found.after.median:.1%} / {found.after.p90:.1%}")
    return [Timing(row, 0, s) for row, s in zip(second, predicted(second, str(path)).tolist(), strict=True)]
