"""Kernel calls of measurements, lowered once and priced again and again while figures of the machine change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from simsparse.machine import KernelMachine
from simsparse.plan import Floats, Plan


@dataclass(frozen=True)
class Run:
    """Calls that were timed together, one after the other.

    Attributes
    ----------
    machine : KernelMachine
        That the plan was made by.
    counts : (n,) ndarray
        How often each call of the plan runs.
    """

    machine: KernelMachine
    plan: Plan
    counts: Floats


class Repricer:
    """Latencies of many runs on changed machines: calls of runs that share a machine are mapped and priced at once.

    Kernels stay those that were chosen; how they run a call (tiles, traffic) is worked out again.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        groups: dict[int, list[int]] = defaultdict(list)
        for index, run in enumerate(runs):
            groups[id(run.machine.mapper_of(run.plan))].append(index)
        self._groups = list(groups.values())

    def latency_s(self, changed: Callable[[KernelMachine], KernelMachine]) -> Floats:
        """Latencies on the machines that `changed` makes of those of the runs, (runs,)."""
        result = np.empty(len(self.runs))
        made: dict[int, KernelMachine] = {}
        for members in self._groups:
            first = self.runs[members[0]]
            if id(first.machine) not in made:
                made[id(first.machine)] = changed(first.machine)
            machine = made[id(first.machine)].mapper_of(first.plan)
            latency_s = _reprice(machine, [self.runs[i].plan for i in members])
            start = 0
            for i in members:
                counts = self.runs[i].counts
                result[i] = float(counts @ latency_s[start : start + len(counts)])
                start += len(counts)
        return result


def _reprice(machine: KernelMachine, plans: Sequence[Plan]) -> Floats:
    """Latencies of the calls of all plans, mapped anew."""
    problem = np.concatenate([plan.problem for plan in plans])
    kernel = np.concatenate([plan.kernel for plan in plans])
    mapping = np.zeros((len(problem), plans[0].mapping.shape[1]))
    for index in np.unique(kernel).tolist():
        rows = np.flatnonzero(kernel == index)
        mapping[rows], _ = machine.map_rows(problem[rows], index, np.full(len(rows), np.inf))
    return machine.price_rows(problem, mapping, kernel).latency_s
