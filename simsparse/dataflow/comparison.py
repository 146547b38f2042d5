"""Which dataflow is best for a product at a pattern, on a described design: every pattern by every dataflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from simsparse.dataflow._arrays import Floats
from simsparse.dataflow.budget import BUDGET
from simsparse.dataflow.dataflows import NAMED, Dataflow, of_design
from simsparse.dataflow.density import Density
from simsparse.dataflow.design import DesignSpec, ModeSpec
from simsparse.dataflow.objective import Constraints, Objective
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.search import Found
from simsparse.dataflow.search import map as find
from simsparse.errors import InputError, UnsupportedError
from simsparse.ops import Contraction
from simsparse.sparsity import DENSE, Pattern


class Way(Protocol):
    """One way to run a design."""

    @property
    def mode(self) -> ModeSpec:
        """What it takes advantage of."""

    def refuses(self, pattern: Floats) -> str:
        """Why it cannot run an A of this pattern; empty if it can."""

    def density_a(self, pattern: Floats, rank: int, lead: int) -> Density:
        """The density of an A with `rank` axes, the first `lead` of them batches."""

    def density_b(self, density: float) -> Density:
        """The density of a B of which this fraction is nonzero."""


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
    mode : str
        That the design runs it in; empty where nothing was found.
    found : Found or None
        None where nothing fits or no mode takes the pattern; `why` says which.
    why : str
    clock_hz : float
    """

    pattern: str
    dataflow: str
    mode: str
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

    def score(self, objective: Objective) -> float:
        """Logarithm of what is minimised; infinite where nothing was found."""
        return np.inf if self.found is None else _score(self.found, objective)


def flows_on(spec: DesignSpec) -> tuple[Dataflow, ...]:
    """The native dataflows of a design, and the named ones where it has none of that name."""
    native = of_design(spec)
    return (*native, *(flow for name, flow in NAMED.items() if name not in spec.dataflows))


def compare(
    op: Contraction,
    design: Design,
    patterns: Sequence[Pattern],
    flows: Sequence[Dataflow] | None = None,
    objective: Objective = Objective.LATENCY,
    *,
    b_density: float = 1.0,
    budget: int = BUDGET,
    seed: int = 0,
    cores: int = 1,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Choice, ...]:
    """The best mapping of each pattern of A with each dataflow; a value takes one word of the design.

    Parameters
    ----------
    b_density : float
        Fraction of B (the inputs) that is nonzero, at random places.
    watch : callable
        Told how many searches are done, of how many.

    Raises
    ------
    InputError
        For no pattern.
    """
    if not patterns:
        raise InputError("a comparison has no pattern, expected at least one")
    pairs = [(pattern, flow) for pattern in patterns for flow in flows or flows_on(design.spec)]
    choices = []
    for done, (pattern, flow) in enumerate(pairs):
        watch(done, len(pairs))
        limits = Constraints((flow,))
        choices.append(
            choose(op, design, pattern, limits, objective, b_density=b_density, budget=budget, seed=seed, cores=cores)
        )
    return tuple(choices)


def choose(
    op: Contraction,
    design: Design,
    pattern: Pattern,
    limits: Constraints,
    objective: Objective = Objective.LATENCY,
    *,
    b_density: float = 1.0,
    budget: int = BUDGET,
    seed: int = 0,
    cores: int = 1,
) -> Choice:
    """The best mapping of an op whose A has a pattern, over the modes of the design that take it."""
    spec = design.spec
    columns = np.array(pattern.columns())
    reasons = "; ".join(dict.fromkeys(way.refuses(columns) for way in design.kernels))
    why = f"no mode of {spec.name} takes {pattern.text}: {reasons}"
    best = Choice(pattern.text, limits.dataflows[0].name, "", None, why, spec.clock_hz.value)
    for mode, problem in _problems(op, design, pattern, b_density).items():
        architecture = spec.architecture(sparse=not spec.modes[mode].dense)
        try:
            found = find(problem, architecture, objective, limits, budget=budget, seed=seed, cores=cores)
        except UnsupportedError as error:
            best = best if best.found else replace(best, why=str(error))
            continue
        if _score(found, objective) < best.score(objective):
            best = replace(best, dataflow=found.dataflow, mode=mode, found=found, why=found.why)
    return best


def _problems(op: Contraction, design: Design, pattern: Pattern, b_density: float) -> dict[str, Problem]:
    """The op as each mode sees it that takes the pattern."""
    bare = Problem.from_contraction(op.with_tensors(a=replace(op.a, pattern=DENSE), b=replace(op.b, pattern=DENSE)))
    columns, (rank, lead) = np.array(pattern.columns()), bare.rank_and_lead("A")
    names = {id(mode): name for name, mode in design.spec.modes.items()}
    return {
        names[id(way.mode)]: bare.with_densities(
            {"A": way.density_a(columns, rank, lead), "B": way.density_b(b_density)}
        )
        for way in design.kernels
        if not way.refuses(columns)
    }  # fmt: skip


def _score(found: Found, objective: Objective) -> float:
    return float(objective.score(np.array([[found.best.cycles], [found.best.energy_j * 1e12]]))[0])
