"""What the tests of described architectures share: designs with changes, costs of a product, runs of the artifact."""

from __future__ import annotations

from dataclasses import replace

from accel_models.asic import FAMILY
from accel_models.asic.machine import AsicMachine
from simsparse.dataflow.analysis import Analysis, analyze
from simsparse.dataflow.design import DesignSpec
from simsparse.dataflow.mapping import Mapping
from simsparse.dataflow.reference import Case
from simsparse.dataflow.roles import bound, roles_of
from simsparse.plan import ProblemColumn as C
from simsparse.problems import gemm_problems
from simsparse.registry import load_machine

NAMES = {"Z": "C", "Weights": "A", "Inputs": "B", "Outputs": "C"}
UNLIMITED = {f"levels.DRAM.{way}_words_per_cycle": 1e12 for way in ("read", "write")}


def design(name: str, **changes: object) -> DesignSpec:
    found = FAMILY.spec(FAMILY.files[name])
    assert isinstance(found, DesignSpec)
    changed = found.with_figures(changes) if changes else found
    assert isinstance(changed, DesignSpec)
    return changed


def machine(name: str, changes: dict[str, object] | None = None) -> AsicMachine:
    found = load_machine(name, changes)
    assert isinstance(found, AsicMachine)
    return found


def product(
    on: AsicMachine, m: int, n: int, k: int, pattern: str = "dense", b_density: float = 1.0, *, kernel: str = "best",
    dtype: str = "int8",
) -> tuple[float, float]:  # fmt: skip
    """Cycles and energy of a product."""
    row = gemm_problems(m, n, k, pattern=pattern, a_dtype=dtype)
    row[:, C.B_DENSITY] = b_density
    prices = on.price(on.lower_problems(row, kernel=kernel))
    return float(prices.latency_s[0] * on.spec.clock_hz.value), float(prices.energy_j[0])


def by_design(case: Case, spec: DesignSpec, *, sparse: bool = True, rounding: str = "sparseloop") -> Analysis:
    """A run of the artifact on the architecture of a design file."""
    tensors = tuple(replace(tensor, name=NAMES.get(tensor.name, tensor.name)) for tensor in case.problem.tensors)
    problem = replace(case.problem, tensors=tensors, output="C")
    parts = (
        replace(
            part, level=level, keep=tuple(NAMES.get(t, t) for t in part.keep),
            streamed=tuple(NAMES.get(t, t) for t in part.streamed),
        )
        for part, level in zip(case.mapping.levels, spec.levels, strict=True)
    )  # fmt: skip
    architecture = bound(spec.architecture(sparse=sparse), roles_of(problem))
    return analyze(problem, architecture, Mapping(tuple(parts)), rounding)
