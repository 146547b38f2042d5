"""The dataflow search: mappings evaluated per second, over plain Python in the same run; searches; memory."""

from __future__ import annotations

import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import median

import numpy as np
from measuring import median_seconds, quiet, report, seconds

from simsparse import load_workload
from simsparse.dataflow import (
    Action,
    ActionKind,
    Architecture,
    Compute,
    Constraints,
    Objective,
    Option,
    Problem,
    Rank,
    RankFormat,
    Storage,
    TensorFormat,
    UniformRandom,
    _batch,
    analyze,
)
from simsparse.dataflow import map as find
from simsparse.dataflow._batch import Outcome
from simsparse.dataflow._kernel import Kernel
from simsparse.dataflow.dataflows import ANY, NAMED
from simsparse.dataflow.energies import ComputeEnergies, StorageEnergies
from simsparse.dataflow.mapspace import Order, orders
from simsparse.dataflow.prepared import Prepared, prepare
from simsparse.ops import Role
from simsparse.sparsity import DENSE, parse

FIRST = "first"
MANY, SINGLES = 400_000, 40
PATTERNS = ("dense", "2:4", "1:4", "unstructured:0.5", "unstructured:0.8", "block4x1:0.8")


def machine(sparse: bool = False) -> Architecture:
    """DRAM of 64 bit a cycle, 2 MB of SRAM, 32 x 32 elements; sparse: A as bitmask, B and C skipped on it."""
    layout = {"A": TensorFormat((Rank(RankFormat.BITMASK, 1.0, 0.0, frozenset("MK")),))} if sparse else {}
    skips = (Action(ActionKind.SKIPPING, (Option("B", ("A",)), Option("C", ("A",)))),) if sparse else ()
    levels = (
        Storage("DRAM", read_words_per_cycle=8, write_words_per_cycle=8, energies=_pj(100.0), formats=layout),
        Storage("SRAM", capacity_words=2 << 20, read_words_per_cycle=64, write_words_per_cycle=64, energies=_pj(2.0),
                formats=layout),
        Storage("PE", 1024, 32, 32, capacity_words=64, energies=_pj(0.1), formats=layout, actions=skips),
    )  # fmt: skip
    return Architecture(
        levels, Compute("MAC", 1024, 32, 32, skipping=sparse, energies=ComputeEnergies({"mac_random": 1}))
    )


def _pj(energy: float) -> StorageEnergies:
    return StorageEnergies({"read": energy, "write": energy})


class Evaluations:
    """Random mappings of one order, for the inner loop alone."""

    def __init__(self, problem: Problem, architecture: Architecture) -> None:
        self.problem, self.architecture = problem, architecture
        self.prepared: Prepared = prepare(problem, architecture)
        # Of the orders, one with the reduction along one mesh axis.
        starts = orders(problem, architecture, ANY)
        self.order: Order = starts[len(starts) // 4]
        rng = np.random.default_rng(0)
        self.picks = np.stack([rng.integers(0, size, MANY) for size in self.order.sizes])
        self.outcomes = np.empty((len(Outcome), MANY))
        self.room = np.array([level.capacity_words for level in architecture.levels], np.float64)
        instances = (*(level.instances for level in architecture.levels), architecture.compute.instances)
        self.available = np.array(instances, np.float64)
        self.plain_s = seconds(lambda: [self.single(index) for index in range(SINGLES)]) / SINGLES

    def part(self, picks: np.ndarray, outcomes: np.ndarray) -> None:
        """Evaluate some of them on this thread."""
        _batch.evaluate_many(
            *self.prepared.spec, *self.prepared.asked(), self.order.loops, self.order.stored, self.order.splits, picks,
            self.room, self.available, 0, outcomes,
        )  # fmt: skip

    def on_cores(self, cores: int) -> float:
        """Seconds for all of them."""
        cuts = [np.ascontiguousarray(part) for part in np.array_split(self.picks, cores, axis=1)]
        outs = [np.empty((len(Outcome), part.shape[1])) for part in cuts]
        with ThreadPoolExecutor(cores) as pool:
            return seconds(lambda: list(pool.map(self.part, cuts, outs)))

    def single(self, index: int) -> float:
        """Cycles of one mapping by `analyze`."""
        mapping = self.order.mapping(self.picks[:, index], self.problem, self.architecture)
        return analyze(self.problem, self.architecture, mapping).cycles

    def print(self, what: str, target: str) -> None:
        """Rate, its ratio to plain Python, and whether both agree."""
        self.part(self.picks, self.outcomes)
        rate = MANY / median_seconds(lambda: self.part(self.picks, self.outcomes), repeats=5)
        same = all(self.single(i) == self.outcomes[Outcome.CYCLES, i] for i in range(SINGLES))
        report(f"mappings, {what}, one core", f"{rate:,.0f} /s", target)
        report("  over the same in plain Python, one at a time", f"{rate * self.plain_s:,.0f} x")
        report("  the same bit for bit", "yes" if same else "NO", "yes")


def speed() -> None:
    """The inner loop."""
    gemm = Problem.gemm(4096, 4096, 4096)
    dense = Evaluations(gemm, machine())
    sparse = Evaluations(gemm.with_densities({"A": UniformRandom(0.3)}), machine(sparse=True))
    if isinstance(_batch.evaluate_many, Kernel):
        _batch.evaluate_many.compile()
    dense.print("dense GEMM, 3 levels", "at least 10,000,000 /s")
    sparse.print("sparse, compression and skipping", "at least 2,000,000 /s")
    pairs = [(dense.on_cores(1), dense.on_cores(2)) for _ in range(5)]
    report("two cores over one, median of 5", f"{median(one / two for one, two in pairs):.2f} x", "at least 1.6 x")


def fewest_cycles(problem: Problem, architecture: Architecture) -> float:
    """A bound that no mapping beats: all elements busy all the time; where it is met, it is the optimum."""
    return problem.operations / architecture.compute.instances


def searches() -> None:
    """One GEMM, the layers of a model, the model."""
    gemm, dense = Problem.gemm(4096, 4096, 4096), machine()
    took = median_seconds(lambda: find(gemm, dense), repeats=5)
    found = find(gemm, dense)
    above = found.best.cycles / fewest_cycles(gemm, dense) - 1.0
    report("best mapping of a 4096^3 GEMM", f"{took:.3f} s", "at most 0.25 s; ZigZag 3.3 s, AccelForge 56 s")
    report("  cycles above the lower bound of any mapping", f"{above:.2%}", "at most 1 %")
    flows = Constraints(tuple(NAMED.values()))
    model = load_workload("llama-2-7b", phase="prefill", seq=2048)
    layer = [op for op in model.contractions() if "layers" in op.name]
    for what, ops, patterns, target in (
        (f"{len(layer)} GEMMs of a LLaMA-2-7B layer, dense, 2:4", layer, PATTERNS[:2], "at most 2 s; ZigZag 21.6 s"),
        ("all GEMMs of llama-2-7b, 6 patterns", list(model.contractions()), PATTERNS, "at most 5 s"),
    ):  # fmt: skip
        problems = {}
        for op in ops:
            for text in patterns:
                bare = op.with_tensors(a=replace(op.a, pattern=DENSE), b=replace(op.b, pattern=DENSE))
                sparse = bare.with_tensors(a=replace(bare.a, pattern=parse(text))) if op.a.role is Role.WEIGHT else bare
                problems[sparse.dims, text if op.a.role is Role.WEIGHT else "dense"] = Problem.from_contraction(sparse)
        began = time.perf_counter()
        for (_, text), problem in problems.items():
            find(problem, machine(sparse=text != "dense"), Objective.LATENCY, flows)
        report(what, f"{time.perf_counter() - began:.2f} s", target)


if __name__ == "__main__" and sys.argv[1:] == [FIRST]:
    find(Problem.gemm(4096, 4096, 4096), machine())
elif __name__ == "__main__":
    speed()
    searches()
    report("memory of all this", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB", "at most 400 MB")
    report(
        "first search in a new process, warm cache",
        f"{median_seconds(lambda: quiet([sys.executable, __file__, FIRST]), 3):.2f} s",
        "at most 2 s",
    )
