"""What the speedup of a training step hangs on: parts left out, a constant fitted, assumptions 20 % up and down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from accel_models.fpga.pricing import CHAIN, Term
from accel_models.fpga.schemes import Scheme
from accel_models.fpga.training import (
    NETWORKS,
    TrainingSpeedup,
    accelerator,
    average,
    sparse_step,
    training_speedups,
    widened,
)
from simsparse.errors import SimsparseError
from simsparse.plan import ProblemColumn, TrainStage
from simsparse.problems import gemm_problems

# What the design is without one of its parts: figures of the spec that change. First the parts that the paper names.
NAMED: tuple[tuple[str, Mapping[str, object]], ...] = (
    ("interleave mapping", {"interleave": False}),
    ("pre-generation", {"pregeneration": False}),
    ("offline scheduling", {"offline_scheduling": False}),
)
ABLATIONS = (
    *NAMED,
    ("output-stationary dataflow", {"dataflow": "ws"}),
    ("weight-stationary dataflow", {"dataflow": "os"}),
    ("double buffering", {"double_buffering": False}),
    ("all memory channels but one", {"dram_channels": 1}),
)
# Figures that nobody published, changed by this share.
SWING = 0.2
ASSUMED = (
    "array_rows", "array_cols", "clock_hz", "mac_pipeline_depth", "vector_ops_per_cycle", "update_lanes",
    "reduction_lanes", "dram_bytes_per_s_per_channel", "dram_efficiency", "dram_gap_s", "weight_buffer_bytes",
    "activation_buffer_bytes", "output_buffer_bytes", "traffic_share",
)  # fmt: skip
FITTED = "vector_ops_per_cycle"
WHY_FITTED = (
    "elementwise work is what keeps networks below their arithmetic bound on this model, and nobody published how wide "
    "SAT's engine for it is"
)


@dataclass(frozen=True)
class Ablation:
    """A design without one of its parts.

    Attributes
    ----------
    longer : float
        How much longer a sparse step takes, averaged over networks; a fraction.
    share : float
        Of the loss of all parts that the paper names, if this is one of them; else 0.
    reason : str
        What the time goes to: the term that grows most, where products run N:M even if dense would be faster.
    """

    part: str
    rows: tuple[TrainingSpeedup, ...]
    longer: float
    share: float
    reason: str


def ablations(machine: str, pattern: str, whole: Sequence[TrainingSpeedup]) -> list[Ablation]:
    """Every part left out alone."""
    rows = [training_speedups(accelerator(machine, changes), pattern) for _, changes in ABLATIONS]
    longer = [_longer(without, whole) for without in rows]
    of_named = sum(longer[: len(NAMED)])
    return [
        Ablation(
            part, tuple(without), more, more / of_named if at < len(NAMED) else 0.0, _reason(machine, pattern, changes)
        )
        for at, ((part, changes), without, more) in enumerate(zip(ABLATIONS, rows, longer, strict=True))
    ]


def _longer(without: Sequence[TrainingSpeedup], whole: Sequence[TrainingSpeedup]) -> float:
    ratios = [row.sparse.latency_s / before.sparse.latency_s for row, before in zip(without, whole, strict=True)]
    return sum(ratios) / len(ratios) - 1.0


def _reason(machine: str, pattern: str, changes: Mapping[str, object]) -> str:
    before, after = (_terms(machine, pattern, tuple(change.items())) for change in ({}, changes))
    return max(after, key=lambda name: after[name] - before.get(name, 0.0))


@lru_cache
def _terms(machine: str, pattern: str, changes: tuple[tuple[str, object], ...]) -> Mapping[str, float]:
    """Seconds that add up to the sparse steps of all networks; memory and engines count where nothing overlaps."""
    target = accelerator(machine, dict(changes))
    steps = [sparse_step(network, batch, target, pattern) for network, batch in NETWORKS]
    apart = not target.spec.double_buffering.value
    total = np.array([[value for _, value in one.terms_s] for one in steps]).sum(axis=0)
    counted = [term for term in Term if apart or term in (*list(Term)[CHAIN], Term.ONLINE)]
    return {term.name.lower(): float(total[term]) for term in counted}


@dataclass(frozen=True)
class Fit:
    """One constant, fitted so that the average meets the published one."""

    field: str
    unfitted: float
    value: float
    why: str
    rows: tuple[TrainingSpeedup, ...]


def fit(machine: str, pattern: str, target: float) -> Fit:
    """Halve the interval of the constant until it is one apart; the average grows with it."""
    low, high = 1, int(accelerator(machine).spec.vector_ops_per_cycle.value)
    unfitted = high
    while high - low > 1:
        middle = (low + high) // 2
        reached = average(training_speedups(accelerator(machine, {FITTED: middle}), pattern))
        low, high = (low, middle) if reached >= target else (middle, high)
    rows = training_speedups(accelerator(machine, {FITTED: high}), pattern)
    return Fit(FITTED, unfitted, high, WHY_FITTED, tuple(rows))


@dataclass(frozen=True)
class Sensitivity:
    """What an assumption, 20 % down and up, makes of the average; None where such a machine cannot be."""

    assumption: str
    low: float | None
    high: float | None
    note: str = ""


def sensitivities(machine: str, pattern: str) -> Iterator[Sensitivity]:
    """Every figure of `ASSUMED`, batch sizes and widths of the networks, one at a time."""
    spec = accelerator(machine).spec
    for name in ASSUMED:
        value = getattr(spec, name).value
        whole = isinstance(value, int)
        pair = [round(value * f) if whole else min(value * f, _LIMITS.get(name, float("inf"))) for f in _FACTORS]
        yield _sensitivity(machine, pattern, name, [{name: changed} for changed in pair])
    target = accelerator(machine)
    batches = ([(name, max(1, round(batch * f))) for name, batch in NETWORKS] for f in _FACTORS)
    low, high = (average(training_speedups(target, pattern, networks=each)) for each in batches)
    yield Sensitivity("batch sizes", low, high)
    low, high = (average(training_speedups(target, pattern, change=widened(f))) for f in _FACTORS)
    yield Sensitivity("channels of the networks", low, high)


_FACTORS = (1.0 - SWING, 1.0 + SWING)
_LIMITS = {"dram_efficiency": 1.0}


def _sensitivity(machine: str, pattern: str, name: str, changes: Sequence[Mapping[str, object]]) -> Sensitivity:
    found: list[float | None] = []
    note = ""
    for change in changes:
        try:
            found.append(average(training_speedups(accelerator(machine, change), pattern)))
        except SimsparseError as error:
            # A larger design may not fit its device: that is what there is to say.
            found.append(None)
            note = str(error)
    return Sensitivity(name, found[0], found[1], note)


@dataclass(frozen=True)
class Limit:
    """Speedup of three equal products, two of them N:M, beside 3 / (1 + 2 N / M)."""

    pattern: str
    bound: float
    reached: float


def limits(
    machine: str, patterns: Sequence[tuple[int, int]] = ((2, 4), (2, 8), (2, 16)), size: int = 8192
) -> list[Limit]:
    """Of products so large that nothing but arithmetic counts, on memory that is never waited for."""
    target = accelerator(machine, {"dram_bytes_per_s_per_channel": 1e30, "dram_gap_s": 0.0})
    found = []
    for n, m in patterns:
        dense, sparse = (gemm_problems(size, size, size, pattern=text) for text in ("dense", f"{n}:{m}"))
        sparse[:, ProblemColumn.TRAIN_STAGE] = TrainStage.FORWARD
        dense_s, sparse_s = (float(target.price(target.lower_problems(rows)).latency_s[0]) for rows in (dense, sparse))
        found.append(Limit(f"{n}:{m}", 3.0 / (1.0 + 2.0 * n / m), 3.0 * dense_s / (dense_s + 2.0 * sparse_s)))
    return found


def schemes(machine: str, pattern: str) -> dict[Scheme, list[TrainingSpeedup]]:
    """All schemes."""
    target = accelerator(machine)
    return {scheme: training_speedups(target, pattern, scheme) for scheme in Scheme}
