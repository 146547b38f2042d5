"""What N:M weights buy in a training step: time dense over time sparse, beside the bound that arithmetic sets.

`python -m accel_models.fpga.training [MACHINE] [N:M]` prints it for the networks of the paper (as recalled), and
again without each part of the design.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from simsparse.ops import Contraction, Role
from simsparse.plan import Machine
from simsparse.registry import load_machine, load_workload
from simsparse.workload import Workload

# Networks and batch sizes are assumptions of this project: the evidence marks the paper's as unverified.
NETWORKS = (
    ("resnet-9", 128),
    ("vgg-19-cifar100", 128),
    ("vit-cifar100", 128),
    ("resnet-18-tiny", 128),
    ("resnet-50", 64),
)
# What the design is without one of its parts: figures of the spec that change.
ABLATIONS: tuple[tuple[str, Mapping[str, object]], ...] = (
    ("interleave mapping", {"interleave": False}),
    ("pre-generation", {"pregeneration": False}),
    ("output-stationary dataflow", {"dataflow": "ws"}),
    ("weight-stationary dataflow", {"dataflow": "os"}),
    ("double buffering", {"double_buffering": False}),
    ("all memory channels but one", {"dram_channels": 1}),
)


@dataclass(frozen=True)
class TrainingSpeedup:
    """One network's training step, dense and with N:M weights.

    Attributes
    ----------
    dense_s, sparse_s : float
    bound : float
        Multiply-accumulates dense over sparse: no machine that runs them at one rate can gain more from them.
    """

    network: str
    batch: int
    dense_s: float
    sparse_s: float
    bound: float

    @property
    def speedup(self) -> float:
        """Dense time over sparse time."""
        return self.dense_s / self.sparse_s


def bidirectional(workload: Workload, pattern: str) -> Workload:
    """Weights N:M in forward and input-gradient products; first layer and classifier dense, weight gradients too."""
    layers = [op.name for op in workload.contractions() if _reads_weight(op) and not op.a.transposed]
    return workload.with_sparsity({"*": pattern, layers[0]: "dense", layers[-1]: "dense"})


def _reads_weight(op: Contraction) -> bool:
    return op.a.role is Role.WEIGHT


@lru_cache
def _step(network: str, batch: int) -> Workload:
    return load_workload(network, phase="train", batch=batch)


def training_speedup(network: str, batch: int, machine: Machine, pattern: str) -> TrainingSpeedup:
    """Price a training step dense and with bidirectional N:M weights.

    Raises
    ------
    SimsparseError
    """
    dense = _step(network, batch)
    sparse = bidirectional(dense, pattern)
    left = sum(
        op.macs * op.count * (op.a.pattern.density if _reads_weight(op) else 1.0) for op in sparse.contractions()
    )
    return TrainingSpeedup(network, batch, step_s(dense, machine), step_s(sparse, machine), dense.flops / 2 / left)


def step_s(workload: Workload, machine: Machine) -> float:
    """Time of one step: the sum of its calls."""
    plan = machine.lower(workload)
    counts = [call.count for call in plan.calls]
    return float((machine.price(plan).latency_s * counts).sum())


def training_speedups(machine: Machine, pattern: str) -> list[TrainingSpeedup]:
    """All of `NETWORKS`."""
    return [training_speedup(network, batch, machine, pattern) for network, batch in NETWORKS]


def average(rows: Sequence[TrainingSpeedup]) -> float:
    """Mean speedup."""
    return sum(row.speedup for row in rows) / len(rows)


def table(rows: Sequence[TrainingSpeedup]) -> Iterator[str]:
    """The rows as a Markdown table, with their average."""
    yield "| network | batch | dense, ms | N:M, ms | speedup | arithmetic bound |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        times = f"{row.dense_s * 1e3:.0f} | {row.sparse_s * 1e3:.0f}"
        yield f"| {row.network} | {row.batch} | {times} | {row.speedup:.2f} | {row.bound:.2f} |"
    yield f"| average | | | | {average(rows):.2f} | |"


def ablated(machine: str, pattern: str) -> dict[str, list[TrainingSpeedup]]:
    """The same without each part of a design."""
    return {part: training_speedups(load_machine(machine, changes), pattern) for part, changes in ABLATIONS}


def ablation_table(whole: Sequence[TrainingSpeedup], without: Mapping[str, Sequence[TrainingSpeedup]]) -> Iterator[str]:
    """Average speedup without each part, and how much longer a sparse step takes, as a Markdown table."""
    yield "| without | average speedup | sparse step longer by |"
    yield "|---|---|---|"
    for part, rows in without.items():
        longer = sum(row.sparse_s / before.sparse_s for row, before in zip(rows, whole, strict=True)) / len(rows) - 1
        yield f"| {part} | {average(rows):.2f} | {longer:.1%} |"


def main(machine: str = "sat-vcu1525", pattern: str = "2:8") -> None:
    """Print both tables."""
    rows = training_speedups(load_machine(machine), pattern)
    print("\n".join([*table(rows), "", *ablation_table(rows, ablated(machine, pattern))]))


if __name__ == "__main__":
    main(*sys.argv[1:])
