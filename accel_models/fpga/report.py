"""`simsparse report sat`: what the model says of SAT, beside what is published; as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from accel_models.fpga.design_space import largest_m
from accel_models.fpga.published import Published, published
from accel_models.fpga.resources import Resources, available, needed
from accel_models.fpga.schemes import Scheme
from accel_models.fpga.study import (
    SWING,
    Ablation,
    Fit,
    Limit,
    Sensitivity,
    ablations,
    fit,
    limits,
    schemes,
    sensitivities,
)
from accel_models.fpga.training import Step, TrainingSpeedup, accelerator, average, training_speedups


@dataclass(frozen=True)
class SatReport:
    """Everything, computed."""

    machine: str
    pattern: str
    largest_m: int
    speedups: tuple[TrainingSpeedup, ...]
    fitted: Fit | None
    limits: tuple[Limit, ...]
    ablations: tuple[Ablation, ...]
    schemes: tuple[tuple[Scheme, tuple[TrainingSpeedup, ...]], ...]
    sensitivities: tuple[Sensitivity, ...]
    needed: Resources
    available: Resources
    published: Published

    @property
    def average(self) -> float:
        """Of the unfitted speedups."""
        return average(self.speedups)


def report(machine: str = "sat-vcu1525", pattern: str = "2:8") -> SatReport:
    """Compute all of it; some seconds.

    Raises
    ------
    SimsparseError
        For a machine of another family, one whose elements do not take the pattern, or no N:M pattern.
    """
    target = accelerator(machine)
    rows = training_speedups(target, pattern)
    claims = published()
    is_theirs = pattern == claims.sat.pattern
    return SatReport(
        machine=target.name,
        pattern=pattern,
        largest_m=int(target.spec.nm_max_m.value),
        speedups=tuple(rows),
        fitted=fit(machine, pattern, claims.sat.speedup.value) if is_theirs else None,
        limits=tuple(limits(machine)),
        ablations=tuple(ablations(machine, pattern, rows)),
        schemes=tuple((scheme, tuple(found)) for scheme, found in schemes(machine, pattern).items()),
        sensitivities=tuple(sensitivities(machine, pattern)),
        needed=needed(target.spec),
        available=available(target.spec),
        published=claims,
    )


def text(found: SatReport) -> Iterator[str]:
    """The report as Markdown tables."""
    yield f"Training in {found.pattern} on {found.machine}; nothing fitted"
    if largest_m(found.pattern) > found.largest_m:
        yield f"Elements take groups of {found.largest_m} at most: {found.pattern} runs as the sparsest N:M it implies."
    yield ""
    yield from speedup_table(found.speedups)
    yield ""
    yield from _published(found)
    yield ""
    yield from limit_table(found.limits)
    yield ""
    yield from ablation_table(found.ablations)
    yield ""
    yield from scheme_table(found.schemes)
    yield ""
    yield from rival_table(found)
    yield ""
    yield from sensitivity_table(found)
    yield ""
    yield from resource_table(found)


def _published(found: SatReport) -> Iterator[str]:
    """The published average, and the constant fitted to it where it is of the same pattern."""
    claims, fitted = found.published.sat, found.fitted
    figure = f"{claims.speedup.value:g} on average in {claims.pattern} ({claims.speedup.source})"
    yield f"Published: {figure}; per network nothing is published."
    if fitted is None:
        return
    yield ""
    yield f"One constant fitted to {claims.speedup.value:g}: {fitted.field} {fitted.value:g}"
    yield f"in place of {fitted.unfitted:g}, because {fitted.why}."
    yield ""
    yield from speedup_table(fitted.rows)


def speedup_table(rows: Sequence[TrainingSpeedup]) -> Iterator[str]:
    """The networks, with their average."""
    yield "| network | batch | dense, ms | N:M, ms | speedup | arithmetic bound |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        times = f"{row.dense.latency_s * 1e3:.0f} | {row.sparse.latency_s * 1e3:.0f}"
        yield f"| {row.network} | {row.batch} | {times} | {row.speedup:.2f} | {row.bound:.2f} |"
    yield f"| average | | | | {average(rows):.2f} | |"


def limit_table(rows: Sequence[Limit]) -> Iterator[str]:
    """Arithmetic bounds of three equal products."""
    yield "| three equal products | arithmetic bound | reached where memory is free |"
    yield "|---|---|---|"
    for row in rows:
        yield f"| {row.pattern} | {row.bound:.2f} | {row.reached:.4f} |"


def ablation_table(rows: Sequence[Ablation]) -> Iterator[str]:
    """What each part is worth."""
    yield "| without | average speedup | sparse step longer by | share of the three named parts | grows most |"
    yield "|---|---|---|---|---|"
    for row in rows:
        share = f"{row.share:.1%}" if row.share else ""
        yield f"| {row.part} | {average(row.rows):.2f} | {row.longer:.1%} | {share} | {row.reason} |"


def scheme_table(rows: Sequence[tuple[Scheme, Sequence[TrainingSpeedup]]]) -> Iterator[str]:
    """Average speedup and bound of each scheme."""
    yield "| scheme | N:M | average speedup | average bound |"
    yield "|---|---|---|---|"
    for scheme, found in rows:
        bound = sum(row.bound for row in found) / len(found)
        yield f"| {scheme.name} | {scheme.value} | {average(found):.2f} | {bound:.2f} |"


def rival_table(found: SatReport) -> Iterator[str]:
    """Dense GFLOP/s and per joule of this model beside those of earlier FPGA trainers."""
    claims = found.published.sat
    rates = [row.sparse.flops_per_s / 1e9 for row in found.speedups]
    efficiencies = [row.sparse.flops_per_j / 1e9 for row in found.speedups]
    yield "| trainer | work | GFLOP/s | GFLOP/J | this model over it, throughput | energy efficiency |"
    yield "|---|---|---|---|---|---|"
    yield f"| this model, {found.pattern} | the five networks | {_range(rates)} | {_range(efficiencies)} | | |"
    for rival in found.published.rival:
        rate, efficiency = rival.gflops_per_s.value, rival.gflops_per_j.value if rival.gflops_per_j else None
        gains = [x / rate for x in rates], [x / efficiency for x in efficiencies] if efficiency else None
        cells = f"{rate:g} | {f'{efficiency:g}' if efficiency else 'not given'}"
        ratios = f"{_range(gains[0])} | {_range(gains[1]) if gains[1] else 'not given'}"
        yield f"| {rival.system} ({rival.device}) | {rival.work} | {cells} | {ratios} |"
    published_gains = (
        f"{claims.throughput_gain_min.value:g} to {claims.throughput_gain_max.value:g} | "
        f"{claims.energy_gain_min.value:g} to {claims.energy_gain_max.value:g}"
    )
    yield f"| published of SAT over earlier trainers | which ones is not in the evidence | | | {published_gains} |"


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.3g} to {high:.3g}"


def sensitivity_table(found: SatReport) -> Iterator[str]:
    """The average where one assumption is lower or higher."""
    yield f"| assumption | average at -{SWING:.0%} | at +{SWING:.0%} |"
    yield "|---|---|---|"
    yield f"| none changed | {found.average:.3f} | {found.average:.3f} |"
    for row in found.sensitivities:
        cells = (f"{value:.3f}" if value is not None else "does not fit" for value in (row.low, row.high))
        yield f"| {row.assumption} | {' | '.join(cells)} |"


def resource_table(found: SatReport) -> Iterator[str]:
    """What the design takes of its device."""
    yield "| resource | needed | of the device | share |"
    yield "|---|---|---|---|"
    has = asdict(found.available)
    for name, takes in asdict(found.needed).items():
        share = f"{takes / has[name]:.0%}" if has[name] else ""
        yield f"| {name} | {takes:.0f} | {has[name]:.0f} | {share} |"


def as_data(found: SatReport) -> dict[str, object]:
    """The report as JSON data; times in seconds, energies in joules."""
    return {
        "machine": found.machine,
        "pattern": found.pattern,
        "average": found.average,
        "published": found.published.sat.model_dump(),
        "speedups": [_row(row) for row in found.speedups],
        "fitted": _fitted(found.fitted) if found.fitted is not None else None,
        "limits": [asdict(row) for row in found.limits],
        "ablations": [
            {
                "part": row.part, "average": average(row.rows), "longer": row.longer, "share": row.share,
                "reason": row.reason,
            }
            for row in found.ablations
        ],
        "schemes": [
            {
                "scheme": scheme.name, "what": scheme.value, "average": average(rows),
                "speedups": [_row(row) for row in rows],
            }
            for scheme, rows in found.schemes
        ],
        "rivals": [rival.model_dump() for rival in found.published.rival],
        "sensitivities": [asdict(row) for row in found.sensitivities],
        "resources": {"needed": asdict(found.needed), "available": asdict(found.available)},
    }  # fmt: skip


def _fitted(found: Fit) -> dict[str, object]:
    return {
        "field": found.field, "unfitted": found.unfitted, "value": found.value, "why": found.why,
        "average": average(found.rows), "speedups": [_row(row) for row in found.rows],
    }  # fmt: skip


def _row(row: TrainingSpeedup) -> dict[str, object]:
    return {
        "network": row.network, "batch": row.batch, "speedup": row.speedup, "bound": row.bound,
        "dense": _step(row.dense), "sparse": _step(row.sparse),
    }  # fmt: skip


def _step(found: Step) -> dict[str, object]:
    return {
        "latency_s": found.latency_s, "energy_j": found.energy_j, "flops_per_s": found.flops_per_s,
        "flops_per_j": found.flops_per_j, "terms_s": dict(found.terms_s),
    }  # fmt: skip
