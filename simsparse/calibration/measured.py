"""What a family gives that measures the machine it runs on: a spec, how it was measured, and what to distrust."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from simsparse.calibration.overlay import figure_toml
from simsparse.result import dumps
from simsparse.specs import Spec

NOISY = 0.10  # spread from which on a figure is flagged
# Told what is being measured and which share of the whole is done.
Watch = Callable[[str, float], None]


@dataclass(frozen=True)
class Timed:
    """One measured quantity.

    Attributes
    ----------
    median : float
        In `unit`, over the rounds of the measurement.
    spread : float
        Distance between the fastest and the slowest round, over the median.
    """

    what: str
    unit: str
    median: float
    spread: float
    samples: int

    @property
    def noisy(self) -> bool:
        """Whether rounds differ too much for the median to be trusted."""
        return self.spread > NOISY


@dataclass(frozen=True)
class Point:
    """A timed product, to be drawn under the rooflines: multiply-adds of nonzeros count two operations."""

    label: str
    flops_per_byte: float
    flops_per_s: float


@dataclass(frozen=True)
class MeasuredMachine:
    """A machine as it was measured.

    Attributes
    ----------
    peaks_flops_per_s : tuple of (type, rate)
    bytes_per_s : tuple of (level, rate)
        Of all threads together.
    warnings : tuple of str
        What was too noisy to trust, or could not be measured.
    """

    spec: Spec
    figures: tuple[Timed, ...]
    points: tuple[Point, ...]
    peaks_flops_per_s: tuple[tuple[str, float], ...]
    bytes_per_s: tuple[tuple[str, float], ...]
    warnings: tuple[str, ...] = ()

    def to_toml(self) -> str:
        """The spec as a machine file, headed by what was timed."""
        lines = [self.spec.title, "", "What was timed: median of the rounds, how far they lie apart, samples."]
        lines += [f"  {f.what}: {f.median:.4g} {f.unit}, {f.spread:.1%}, {f.samples}" for f in self.figures]
        lines += [f"Warning: {text}" for text in self.warnings]
        return "\n".join([*(f"# {line}".rstrip() for line in lines), "", *spec_toml(self.spec), ""])

    def to_json(self) -> str:
        """One JSON object with `schema_version`."""
        return dumps({
            "machine": self.spec.name, "title": self.spec.title, "warnings": list(self.warnings),
            "figures": [{**asdict(f), "noisy": f.noisy} for f in self.figures],
            "peaks_flops_per_s": dict(self.peaks_flops_per_s), "bytes_per_s": dict(self.bytes_per_s),
        })  # fmt: skip


def spec_toml(spec: Spec) -> list[str]:
    """Lines of TOML: the identity, figures, then the tables of figures."""
    lines = [f"{key} = {json.dumps(getattr(spec, key))}" for key in ("name", "family", "title") if getattr(spec, key)]
    tables: dict[str, list[str]] = {}
    for name, figure in spec.figures():
        *path, last = name.split(".")
        entry = f"{last} = {figure_toml(figure)}"
        if path:
            tables.setdefault(".".join(path), []).append(entry)
        else:
            lines.append(entry)
    for table, entries in tables.items():
        lines += ["", f"[{table}]", *entries]
    return lines
