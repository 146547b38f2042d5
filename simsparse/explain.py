"""Why a prediction is what it is: the terms of a call beside those of its dense twin, down to tiles and sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

from simsparse.errors import UnknownNameError
from simsparse.intervals import Bounds, IntervalColumn
from simsparse.inventory import call_names
from simsparse.plan import Alternative, Fact, HasFacts, Machine, Plan, Prices, Provenance
from simsparse.products import PricedProducts, other_kernels
from simsparse.result import Result

TITLES = ("pattern", "kernel", "topic", "name", "value", "unit", "source")
Named = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Side:
    """One call: the sparse one, or what dense takes for the same work.

    Attributes
    ----------
    name : str
        The pattern.
    kernel, bound : str
    latency_s, energy_j, roofline_s, flops : float
        `roofline_s` is what arithmetic or compulsory bytes take at least; FLOPs are dense ones.
    latency_interval_s : (float, float), optional
    terms_s, level_bytes, energy_terms_j : tuple of (name, value)
    facts : tuple of Fact
    """

    name: str
    kernel: str
    bound: str
    latency_s: float
    energy_j: float
    roofline_s: float
    flops: float
    latency_interval_s: Bounds | None
    terms_s: Named
    level_bytes: Named
    energy_terms_j: Named
    facts: tuple[Fact, ...]

    @property
    def main_terms(self) -> Named:
        """Terms of at least a fiftieth of the latency, the largest first."""
        told = [(name, value) for name, value in self.terms_s if value >= 0.02 * self.latency_s]
        return tuple(sorted(told, key=lambda term: -term[1]))


@dataclass(frozen=True)
class Explanation:
    """A call taken apart.

    Attributes
    ----------
    machine, job : str
        What is explained: a shape, or an op of a model.
    sides : tuple of Side
        The call, and its dense twin unless it is dense itself on the dense kernel.
    speedup : float
    speedup_interval : (float, float), optional
    rule : str
        How terms combine; empty where the machine does not say.
    others : tuple of Alternative
    provenance : Provenance
    """

    machine: str
    job: str
    sides: tuple[Side, ...]
    speedup: float
    speedup_interval: Bounds | None
    rule: str
    others: tuple[Alternative, ...]
    provenance: Provenance

    def rows(self) -> list[tuple[object, ...]]:
        """A row in `TITLES` for each figure of each side."""
        rows: list[tuple[object, ...]] = []
        for side in self.sides:
            first = (side.name, side.kernel)
            rows += [(*first, "term", name, value, "s", "") for name, value in side.terms_s]
            rows += [(*first, "level", name, value, "B", "") for name, value in side.level_bytes]
            rows += [(*first, "energy", name, value, "J", "") for name, value in side.energy_terms_j]
            rows += [(*first, f.topic, f.name, f.value, f.unit, f.source) for f in side.facts]
        return rows

    def as_json(self) -> dict[str, object]:
        """As plain values."""
        sides = [
            {
                **asdict(side), "terms_s": dict(side.terms_s), "level_bytes": dict(side.level_bytes),
                "energy_terms_j": dict(side.energy_terms_j),
            }
            for side in self.sides
        ]  # fmt: skip
        return {
            "machine": self.machine, "job": self.job, "speedup": self.speedup,
            "speedup_interval": self.speedup_interval, "rule": self.rule, "sides": sides,
            "alternatives": [asdict(other) for other in self.others], "provenance": asdict(self.provenance),
        }  # fmt: skip


def explain_product(machine: Machine, priced: PricedProducts) -> Explanation:
    """Take the first of some priced products apart."""
    found, style = priced.estimate, priced.products.styles[0]
    m, n, k, _ = priced.products.extents[0]
    gains = found.speedup_interval
    sides = [_side(machine, found.plan, found.prices, 0, style.pattern)]
    if found.plan is not found.dense_plan:
        sides.append(_side(machine, found.dense_plan, found.dense_prices, 0, "dense"))
    return Explanation(
        found.machine, f"{m} × {n} × {k} {style.dtype}", tuple(sides), float(found.speedup[0]),
        None if gains is None else (float(gains[0, 0]), float(gains[0, 1])),
        _rule(machine), tuple(other_kernels(machine, priced)), machine.provenance,
    )  # fmt: skip


def explain_calls(machine: Machine, result: Result, glob: str) -> tuple[Explanation, ...]:
    """Take the calls of a result apart whose ops a glob names.

    Raises
    ------
    UnknownNameError
        If it names none.
    """
    calls = result.plan.calls
    rows = [row for row, call in enumerate(calls) if any(fnmatchcase(op, glob) for op in call.ops)]
    if not rows:
        raise UnknownNameError.near("op", glob, [op for call in calls for op in call.ops])
    return tuple(_call(machine, result, row) for row in rows)


def _call(machine: Machine, result: Result, row: int) -> Explanation:
    call, dense = result.plan.calls[row], result.baseline
    gain = float(result.row_dense_latency_s[row] / result.prices.latency_s[row])
    sides = [_side(machine, result.plan, result.prices, row, call.pattern or "as it is")]
    twins = (
        i for i, other in enumerate(dense.plan.calls) if other.ops == call.ops and set(call.layers) <= set(other.layers)
    )
    twin = next(twins, None)
    if twin is not None and dense.plan is not result.plan and call.pattern not in ("", "dense"):
        sides.append(_side(machine, dense.plan, dense.prices, twin, "dense"))
    bounds = result.prices.interval
    factors = None if bounds is None else bounds[row, IntervalColumn.SPEEDUP_LOW :].tolist()
    return Explanation(
        result.machine, f"{call_names(result.plan.calls)[row]} of {result.workload.name}", tuple(sides), gain,
        None if factors is None else (gain * factors[0], gain * factors[1]), _rule(machine), call.alternatives,
        result.provenance,
    )  # fmt: skip


def _rule(machine: Machine) -> str:
    return machine.rule if isinstance(machine, HasFacts) else ""


def _side(machine: Machine, plan: Plan, prices: Prices, row: int, name: str) -> Side:
    latency_s = float(prices.latency_s[row])
    times = None if prices.interval is None else prices.interval[row, : IntervalColumn.SPEEDUP_LOW].tolist()
    return Side(
        name, machine.kernel_names[int(plan.kernel[row])], prices.term_names[int(prices.bound[row])], latency_s,
        float(prices.energy_j[row]), float(prices.roofline_s[row]), float(prices.flops[row]),
        None if times is None else (latency_s * times[0], latency_s * times[1]),
        _named(prices.term_names, prices.terms_s[row].tolist()),
        _named(prices.level_names, prices.level_bytes[row].tolist()),
        _named(prices.energy_names, prices.energy_terms_j[row].tolist()),
        machine.facts(plan, row) if isinstance(machine, HasFacts) else (),
    )  # fmt: skip


def _named(names: Sequence[str], values: Sequence[float]) -> Named:
    return tuple(zip(names, values, strict=True))
