"""Which dataflow is best for a product at a pattern, on a described design: every pattern by every dataflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from simsparse.dataflow._arrays import Floats
from simsparse.dataflow.architecture import Architecture
from simsparse.dataflow.dataflows import NAMED, Dataflow, of_design
from simsparse.dataflow.density import Density
from simsparse.dataflow.design import DesignSpec, ModeSpec
from simsparse.dataflow.objective import Constraints, Objective
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.search import BUDGET, Found
from simsparse.dataflow.search import map as find
from simsparse.errors import InputError, UnsupportedError
from simsparse.ops import Contraction
from simsparse.sparsity import DENSE, Pattern

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


class Way(Protocol):
    """One way to run a design."""

    @property
    def mode(self) -> ModeSpec:
        """What it takes advantage of."""

    def refuses(self, pattern: Floats) -> str:
        """Why it cannot run an A of this pattern; empty if it can."""

    def density_a(self, pattern: Floats, rank: int) -> Density:
        """The density of an A with this many axes."""


@runtime_checkable
class Design(Protocol):
    """A machine that is described by levels."""

    @property
    def spec(self) -> DesignSpec:
        """Its description."""

    @property
    def kernels(self) -> Sequence[Way]:
        """Its ways to run."""


@dataclass(frozen=True, eq=False)
class Choice:
    """A pattern with a dataflow.

    Attributes
    ----------
    pattern, dataflow : str
    found : Found or None
        None where nothing fits or no mode takes the pattern; `why` says which.
    why : str
    clock_hz : float
    """

    pattern: str
    dataflow: str
    found: Found | None
    why: str
    clock_hz: float

    @property
    def latency_s(self) -> float | None:
        """Of the best mapping."""
        return None if self.found is None else self.found.best.cycles / self.clock_hz

    @property
    def energy_j(self) -> float | None:
        """Of the best mapping."""
        return None if self.found is None else self.found.best.energy_j


def flows_on(spec: DesignSpec) -> tuple[Dataflow, ...]:
    """The native dataflows of a design and the named ones, with what its levels keep."""
    native = of_design(spec)
    kept = [replace(flow, keeps=native[0].keeps, streams=native[0].streams) for flow in NAMED.values()]
    return (*native, *kept)


def compare(
    op: Contraction,
    design: Design,
    patterns: Sequence[Pattern],
    flows: Sequence[Dataflow] | None = None,
    objective: Objective = Objective.LATENCY,
    *,
    budget: int = BUDGET,
    seed: int = 0,
    cores: int = 1,
) -> tuple[Choice, ...]:
    """The best mapping of each pattern of A with each dataflow; a value takes one word of the design.

    Raises
    ------
    InputError
        For no pattern.
    """
    if not patterns:
        raise InputError("a comparison has no pattern, expected at least one")
    bare = Problem.from_contraction(op.with_tensors(a=replace(op.a, pattern=DENSE), b=replace(op.b, pattern=DENSE)))
    rank, spec = len(bare.shape("A")), design.spec
    choices = []
    for pattern in patterns:
        columns = np.array(pattern.columns())
        problems: dict[bool, Problem] = {}  # by whether formats and actions are off
        for way in design.kernels:
            if not way.refuses(columns):
                problems[way.mode.dense] = bare.with_densities({"A": way.density_a(columns, rank)})
        for flow in flows or flows_on(spec):
            found, why = _best(problems, spec, flow, objective, budget, seed, cores)
            choices.append(Choice(pattern.text, flow.name, found, why, spec.clock_hz.value))
    return tuple(choices)


def _best(
    problems: dict[bool, Problem], spec: DesignSpec, flow: Dataflow, objective: Objective, budget: int, seed: int,
    cores: int,
) -> tuple[Found | None, str]:  # fmt: skip
    best, why = None, "no mode of the design takes the pattern"
    for dense, problem in problems.items():
        architecture: Architecture = spec.architecture(sparse=not dense)
        try:
            found = find(problem, architecture, objective, Constraints((flow,)), budget=budget, seed=seed, cores=cores)
        except UnsupportedError as error:
            why = str(error)
            continue
        if best is None or _cost(found, objective) < _cost(best, objective):
            best, why = found, found.why
    return best, why


def _cost(found: Found, objective: Objective) -> float:
    return float(objective.score(np.array([[found.best.cycles], [found.best.energy_j * 1e12]]))[0])


def dataflow_bars(choices: Sequence[Choice], title: str, path: str | Path | None = None) -> Figure:
    """Latency by pattern, a bar for each dataflow."""
    from matplotlib.figure import Figure as Canvas

    patterns, flows = (
        list(dict.fromkeys(names)) for names in zip(*((c.pattern, c.dataflow) for c in choices), strict=True)
    )
    figure = Canvas(figsize=(max(5.0, 1.6 + 0.3 * len(choices)), 3.6), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(flows)
    for index, flow in enumerate(flows):
        own = [choice.latency_s for choice in choices if choice.dataflow == flow]
        places = [place + (index - (len(flows) - 1) / 2) * width for place in range(len(patterns))]
        axes.bar(places, [1e3 * (latency or 0.0) for latency in own], width, label=flow)
    axes.set_xticks(range(len(patterns)), patterns)
    axes.set_ylabel("latency, ms")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
