"""What N:M buys in a training step: time and energy dense and sparse, beside the bound that arithmetic sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from accel_models.fpga.columns import Mapping as Map
from accel_models.fpga.machine import SatMachine
from accel_models.fpga.schemes import Scheme
from simsparse.errors import UnsupportedError
from simsparse.machine import BEST
from simsparse.ops import Contraction, ContractionKind
from simsparse.plan import Floats, Plan, ProblemColumn, ProblemKind, TrainStage
from simsparse.registry import load_machine, load_workload
from simsparse.workload import Workload

C = ProblemColumn
# Networks and batch sizes are assumptions of this project: the evidence marks the paper's as unverified.
NETWORKS = (
    ("resnet-9", 128),
    ("vgg-19-cifar100", 128),
    ("vit-cifar100", 128),
    ("resnet-18-tiny", 128),
    ("resnet-50", 64),
)
# From the lowered plan of a step to the one that is priced.
Change = Callable[[SatMachine, Plan], Plan]
_ATTENTION = (ContractionKind.SCORE, ContractionKind.VALUE)


@dataclass(frozen=True)
class Step:
    """A training step on a machine.

    Attributes
    ----------
    latency_s, energy_j, flops : float
        FLOPs are dense.
    executed_macs : float
        Multiply-accumulates that patterns leave, as the products run.
    terms_s : tuple of (name, float)
        Sums of the terms of all calls.
    """

    latency_s: float
    energy_j: float
    flops: float
    executed_macs: float
    terms_s: tuple[tuple[str, float], ...]

    @property
    def flops_per_s(self) -> float:
        """Dense work over time."""
        return self.flops / self.latency_s

    @property
    def flops_per_j(self) -> float:
        """Dense work over energy."""
        return self.flops / self.energy_j


@dataclass(frozen=True)
class TrainingSpeedup:
    """One network's training step, dense and with a scheme."""

    network: str
    batch: int
    dense: Step
    sparse: Step

    @property
    def speedup(self) -> float:
        """Dense time over sparse time."""
        return self.dense.latency_s / self.sparse.latency_s

    @property
    def bound(self) -> float:
        """Multiply-accumulates dense over sparse: no machine that runs them at one rate can gain more from them."""
        return self.dense.executed_macs / self.sparse.executed_macs


def accelerator(name: str, changes: Mapping[str, object] | None = None) -> SatMachine:
    """A machine of this family by name.

    Raises
    ------
    UnsupportedError
        For a machine of another family.
    """
    machine = load_machine(name, changes or {})
    if not isinstance(machine, SatMachine):
        raise UnsupportedError(f"machine {name!r} is no N:M trainer, expected one of the family fpga")
    return machine


@lru_cache
def _dense(network: str, batch: int) -> Workload:
    return load_workload(network, phase="train", batch=batch)


@lru_cache
def _sparse(network: str, batch: int, scheme: Scheme, pattern: str) -> Workload:
    return scheme(_dense(network, batch), pattern)


def step(machine: SatMachine, workload: Workload, change: Change | None = None, *, kernel: str = BEST) -> Step:
    """Lower and price a training step; the sum of its calls."""
    plan = machine.lower(workload, kernel=kernel)
    if change is not None:
        plan = change(machine, plan)
    counts = np.array([call.count for call in plan.calls], dtype=np.float64)
    prices = machine.price(plan)
    terms = counts @ prices.terms_s
    return Step(
        latency_s=float(counts @ prices.latency_s),
        energy_j=float(counts @ prices.energy_j),
        flops=float(counts @ prices.flops),
        executed_macs=float(counts @ _executed(plan)),
        terms_s=tuple(zip(prices.term_names, terms.tolist(), strict=True)),
    )


def _executed(plan: Plan) -> Floats:
    problem, x = plan.problem, plan.mapping
    kept = x[:, Map.KEPT] / np.maximum(x[:, Map.GROUP], 1.0)
    macs = problem[:, C.BATCH] * problem[:, C.N] * x[:, Map.M] * x[:, Map.K] * kept
    return np.where(problem[:, C.KIND] == ProblemKind.GEMM, macs, 0.0)


def training_speedup(
    network: str,
    batch: int,
    machine: SatMachine,
    pattern: str,
    scheme: Scheme = Scheme.BDWP,
    change: Change | None = None,
) -> TrainingSpeedup:
    """Price a training step dense and with N:M.

    Raises
    ------
    UnsupportedError
        If elements take the pattern of no product, with the reason.
    SimsparseError
    """
    sparse = _sparse(network, batch, scheme, pattern)
    found = TrainingSpeedup(
        network, batch, step(machine, _dense(network, batch), change), step(machine, sparse, change)
    )
    refusals = _refusals(machine, sparse) if found.bound == 1.0 else ()
    if refusals:
        raise UnsupportedError(f"machine {machine.name!r} runs {network} dense in {pattern}: {'; '.join(refusals)}")
    return found


def _refusals(machine: SatMachine, workload: Workload) -> Sequence[str]:
    """Why products with patterns could not run by them; nothing where dense is just faster."""
    calls = [call for call in machine.lower(workload).calls if call.pattern not in ("", "dense")]
    others = [other for call in calls for other in call.alternatives]
    return sorted({o.reason for o in others if o.kernel == "sat-nm" and o.latency_s is None})


def training_speedups(
    machine: SatMachine, pattern: str, scheme: Scheme = Scheme.BDWP, *,
    networks: Sequence[tuple[str, int]] = NETWORKS, change: Change | None = None,
) -> list[TrainingSpeedup]:  # fmt: skip
    """All of `networks`."""
    return [training_speedup(network, batch, machine, pattern, scheme, change) for network, batch in networks]


def average(rows: Sequence[TrainingSpeedup]) -> float:
    """Mean speedup."""
    return sum(row.speedup for row in rows) / len(rows)


def widened(factor: float) -> Change:
    """Networks whose layers all have `factor` times as many channels (heads, in attention)."""

    def change(machine: SatMachine, plan: Plan) -> Plan:
        assert plan.workload is not None
        ops = {op.name: op for op in plan.workload.ops}
        heads = [ops[call.ops[0]] for call in plan.calls]
        rows, renewed = plan.problem.copy(), np.array([op.name.endswith(".update") for op in heads])
        attends = np.array([isinstance(op, Contraction) and op.kind in _ATTENTION for op in heads])
        gemm = (rows[:, C.KIND] == ProblemKind.GEMM) & ~attends
        to_weight = rows[:, C.TRAIN_STAGE] == TrainStage.WEIGHT_GRADIENT
        scale = np.where(renewed, factor**2, factor)
        for column in (C.READ_BYTES, C.WRITE_BYTES, C.STREAM_FLOPS):
            rows[:, column] *= scale
        for column, chosen in (
            (C.M, gemm | renewed), (C.K, gemm & ~to_weight), (C.N, gemm & to_weight), (C.BATCH, attends),
        ):  # fmt: skip
            rows[:, column] = np.where(chosen, np.maximum(np.rint(rows[:, column] * scale), 1.0), rows[:, column])
        return machine.lowered_again(plan, rows)

    return change


def sparse_step(network: str, batch: int, machine: SatMachine, pattern: str) -> Step:
    """A step of BDWP whose products run N:M even where dense would be faster."""
    return step(machine, _sparse(network, batch, Scheme.BDWP, pattern), kernel="sat-nm")
