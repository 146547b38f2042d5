"""Where GPU predictions stand: `python -m accel_models.gpu.report [EVIDENCE] [--groups]`.

Errors against measurements of others, pooled over named groups of rows, beside what is asked of them. Speedups are over
the measured dense product of the same shape, device and source (`twins`), and predicted over predicted. `--groups` also
lists every system and device, and the rank correlation of every series of shapes.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from accel_models.gpu.evidence import EVIDENCE
from accel_models.gpu.twins import dense_twins, source_of
from simsparse.measurements import Measurement, read_measurements
from simsparse.plan import Floats
from simsparse.validate import Row, validate

FILES = ("gpu24", "gpu_nm_cudacore", "gpu_other", "attention", "activation", "structured")
# Series of shapes whose speedups spread by less are noise; fewer shapes have no rank.
SPREAD, FEWEST = 1.1, 5
LEAST_TAU, LEAST_SERIES_TAU = 0.8, 0.5


@dataclass(frozen=True)
class Case:
    """A measured row beside its prediction, both in its own metric or both as speedups.

    Attributes
    ----------
    measured, predicted : float
        The prediction is NaN where there is none.
    speedup : bool
        Whether they are speedups over dense.
    """

    source: Measurement
    row: Row
    measured: float
    predicted: float
    speedup: bool

    @property
    def error(self) -> float:
        """Absolute, relative; 1 without a prediction."""
        return abs(self.predicted / self.measured - 1.0) if np.isfinite(self.predicted) else 1.0


@dataclass(frozen=True)
class RowGroup:
    """Rows that are scored together, and what is asked of their median and 90th percentile."""

    title: str
    systems: str
    median: float
    p90: float
    devices: str = "."
    speedup: bool = False
    patterns: str = "."

    def holds(self, case: Case) -> bool:
        """Whether a case is one of them."""
        return (
            case.speedup is self.speedup
            and re.search(self.systems, case.source.system) is not None
            and re.search(self.devices, case.source.device) is not None
            and re.search(self.patterns, case.source.pattern) is not None
        )


_TENSOR_24 = r"^(cuSPARSELt|CUTLASS|PyTorch (SparseSemiStructured|semi-structured))"
GROUPS = (
    RowGroup("cuBLAS tensor core, 3090 and A100", r"^(cuBLAS(?! SGEMM)|PyTorch dense matmul)", 0.04, 0.13, "3090|A100",
             patterns="^dense|^slice"),
    RowGroup("cuSPARSELt and CUTLASS 2:4", _TENSOR_24, 0.05, 0.15, patterns="^2:4"),
    RowGroup("speedup of 2:4 over dense", _TENSOR_24, 0.04, 0.12, speedup=True),
    RowGroup("Spatha, and its 2:4 baselines", "^Spatha", 0.06, 0.18),
    RowGroup("CLASP, Sputnik fp16 (3090)", "^(CLASP|Sputnik)", 0.12, 0.30, "sm_86"),
    RowGroup("cuBLAS SGEMM", "^cuBLAS SGEMM", 0.03, 0.08),
    RowGroup("NM-SpMM", "^NM-SpMM", 0.08, 0.20),
    RowGroup("nmSPARSE, Sputnik fp32", "^(nmSPARSE|Sputnik)", 0.12, 0.30, "PCIe|^RTX 3090$"),
    RowGroup("Flash-LLM, SparTA, Sputnik (A100)", "^(FlashLLM|SparTA|Sputnik)", 0.08, 0.25, "SXM4"),
    RowGroup("ProSparse operators", "^ProSparse", 0.10, 0.20),
    RowGroup("block-sparse prefill, KV-gather decode", "^SeerAttention", 0.06, 0.18, speedup=True),
)  # fmt: skip


def cases(folder: Path) -> list[Case]:
    """Kernels of the evidence beside their predictions: as printed, and speedups over dense twins."""
    files = [folder / f"{name}.csv" for name in FILES]
    source = [row for path in files for row in read_measurements(path)]
    rows = {row.id: row for row in validate(files).rows}
    seconds = {i: _seconds(row, rows[row.id]) for i, row in enumerate(source) if row.scored and row.phase == "gemm"}
    found = [
        Case(source[i], rows[source[i].id], source[i].value or np.nan, _number(rows[source[i].id].predicted), False)
        for i, (measured, _) in seconds.items()
        if np.isfinite(measured)
    ]
    for i, (twin, dense_s) in dense_twins(source).items():
        measured, predicted = dense_s / seconds[i][0], seconds[twin][1] / seconds[i][1]
        found.append(Case(source[i], rows[source[i].id], measured, predicted, True))
    found += [
        Case(row, rows[row.id], row.value, _number(rows[row.id].predicted), True) for row in source
        if row.scored and row.framework == "kernel" and row.metric == "speedup_vs_dense" and row.value is not None
    ]  # fmt: skip
    return found


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _seconds(source: Measurement, row: Row) -> tuple[float, float]:
    """Measured and predicted time of a product; NaN where there is none."""
    measured = source.seconds
    if measured is None or source.value is None or row.predicted is None:
        return (np.nan if measured is None else measured), np.nan
    ratio = row.predicted / source.value
    return measured, measured * (ratio if source.metric.startswith("latency") else 1.0 / ratio)


def tau(chosen: Sequence[Case]) -> float:
    """Kendall's tau of measured and predicted; NaN where either is constant."""
    from scipy.stats import kendalltau

    pairs = np.array([(case.measured, case.predicted) for case in chosen if np.isfinite(case.predicted)])
    return float(kendalltau(*pairs.T).statistic) if len(pairs) >= FEWEST else np.nan


def by_source(all_cases: Sequence[Case]) -> Iterator[tuple[str, list[Case]]]:
    """Speedups of each source that has enough of them."""
    yield from _series(all_cases, lambda case: (source_of(case.source),))


def at_equal_sparsity(all_cases: Sequence[Case]) -> Iterator[tuple[str, list[Case]]]:
    """Speedups of one system and pattern on one device over shapes, where they spread."""
    found = _series(all_cases, lambda case: (case.source.system, case.source.device, case.source.pattern))
    for name, chosen in found:
        measured = [case.measured for case in chosen]
        if max(measured) > SPREAD * min(measured):
            yield name, chosen


def _series(all_cases: Sequence[Case], key: Callable[[Case], tuple[str, ...]]) -> Iterator[tuple[str, list[Case]]]:
    chosen = sorted((case for case in all_cases if case.speedup and case.row.priced), key=key)
    for name, members in groupby(chosen, key):
        inside = list(members)
        if len(inside) >= FEWEST:
            yield ", ".join(name), inside


def _score(chosen: Sequence[Case]) -> Floats:
    return np.quantile([case.error for case in chosen], [0.5, 0.9])


def _mark(value: float, most: float) -> str:
    return f"{value:6.1%} {'≤' if value <= most else '>'} {most:.0%}"


def lines(all_cases: Sequence[Case], *, every_group: bool = False) -> Iterator[str]:
    """The report."""
    yield f"{'rows':42} {'n':>5} {'priced':>6}  {'median':12}  {'90th percentile':14}"
    for group in GROUPS:
        chosen = [case for case in all_cases if group.holds(case)]
        if chosen:
            median, p90 = _score(chosen)
            priced = sum(case.row.priced for case in chosen)
            counts = f"{len(chosen):5d} {priced:6d}"
            yield f"{group.title:42} {counts}  {_mark(median, group.median):12}  {_mark(p90, group.p90)}"
    yield from _ranks(all_cases, every_group=every_group)
    if every_group:
        yield from _systems(all_cases)


def _ranks(all_cases: Sequence[Case], *, every_group: bool) -> Iterator[str]:
    for name, chosen in by_source(all_cases):
        yield f"tau of speedups, {name[:60]:60} {len(chosen):5d}  {tau(chosen):.2f} (asked: {LEAST_TAU})"
    series = [(name, chosen, tau(chosen)) for name, chosen in at_equal_sparsity(all_cases)]
    found = np.array([each for _, _, each in series if np.isfinite(each)])
    enough = float(np.mean(found >= LEAST_SERIES_TAU))
    yield (
        f"tau among shapes at equal sparsity: median {np.median(found):.2f} over {len(found)} series, {enough:.0%} of "
        f"them at least {LEAST_SERIES_TAU}"
    )
    if every_group:
        yield from (f"  {name:75} {len(chosen):4d}  {each:.2f}" for name, chosen, each in series)


def _systems(all_cases: Sequence[Case]) -> Iterator[str]:
    groups: dict[tuple[str, str, bool], list[Case]] = defaultdict(list)
    for case in all_cases:
        groups[case.source.system, case.source.device, case.speedup].append(case)
    for (system, device, speedup), chosen in sorted(groups.items()):
        priced = [case.predicted / case.measured - 1.0 for case in chosen if case.row.priced]
        if priced:
            median, p90 = _score(chosen)
            what = "speedup" if speedup else "printed"
            figures = f"{len(chosen):5d} {median:6.1%} {p90:6.1%} {np.median(priced):+6.1%}"
            yield f"  {system[:45]:45} {device[:20]:20} {what}  {figures}"


def main(*arguments: str) -> None:
    """Print the report."""
    folder = next((Path(text) for text in arguments if not text.startswith("-")), EVIDENCE)
    print("\n".join(lines(cases(folder), every_group="--groups" in arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
