"""Which design for a workload: thousands of them priced side by side, those that no other beats, the best in a budget.

designs = sweep_designs("resnet-18", batch=128, on="sat-vcu1525")
found = designs.choose(["dsp<=4000"], Minimise.ENERGY)
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from accel_models.fpga.design_prices import Calls, calls_of, price_designs
from accel_models.fpga.design_space import AXES, PATTERNS, Space, space
from accel_models.fpga.pareto import Budget, budget, front
from accel_models.fpga.resources import RESOURCES
from accel_models.fpga.schemes import Scheme, dense_ends
from accel_models.fpga.spec import SatSpec
from accel_models.fpga.training import accelerator
from simsparse.errors import InputError
from simsparse.plan import Floats, Ints
from simsparse.registry import load_workload
from simsparse.sparsity import DENSE
from simsparse.sweep import Progress, Watch
from simsparse.transforms import with_sparsity
from simsparse.workload import Phase, Workload

CHUNK = 2048  # designs priced at once


class Minimise(StrEnum):
    """What the best design has least of."""

    TIME = "time"
    ENERGY = "energy"
    EDP = "edp"


_MINIMISED = {Minimise.TIME: "latency_s", Minimise.ENERGY: "energy_j", Minimise.EDP: "edp_js"}


# Figures of a design beside those of `AXES` and `RESOURCES`.
PRICED = ("share", "latency_s", "energy_j", "edp_js", "power_w")
COLUMNS = (*AXES, *RESOURCES, *PRICED)


@dataclass(frozen=True)
class Choice:
    """Designs within budgets that no other of them beats.

    Attributes
    ----------
    within : (n,) ndarray of bool
        Designs within the budgets.
    front : (n,) ndarray of int
        Rows of the designs, by ascending time.
    best : int
        The row, one of `front`, that has least of what is minimised.
    """

    budgets: tuple[Budget, ...]
    minimise: Minimise
    within: NDArray[np.bool_]
    front: Ints
    best: int


@dataclass(frozen=True)
class Designs:
    """Designs that fit a card, with time and energy of a workload on each.

    Attributes
    ----------
    spec : SatSpec
        What all have in common.
    latency_s, energy_j : (n,) ndarray
        Of one pass of the workload: a training step, or an inference.
    """

    workload: str
    spec: SatSpec
    space: Space
    latency_s: Floats
    energy_j: Floats

    def __len__(self) -> int:
        """Designs that fit."""
        return len(self.latency_s)

    @cached_property
    def columns(self) -> Mapping[str, Floats]:
        """Figures of all designs by name; budgets are on these."""
        priced = (
            self.space.share, self.latency_s, self.energy_j, self.latency_s * self.energy_j,
            self.energy_j / self.latency_s,
        )  # fmt: skip
        return dict(zip(COLUMNS, (*self.space.figures.T, *self.space.needed.T, *priced), strict=True))

    def table(self, rows: Ints | slice = slice(None)) -> dict[str, Sequence[object]]:
        """Columns of some designs, the sparsity first."""
        sparsity = np.array(self.space.sparsities)[self.space.sparsity[rows]].tolist()
        return {"sparsity": sparsity} | {name: column[rows].tolist() for name, column in self.columns.items()}

    def choose(self, budgets: Sequence[str] = (), minimise: Minimise = Minimise.TIME) -> Choice:
        """The front of time, energy and share of the card among designs within budgets, and the best of it.

        Raises
        ------
        InputError
            For what is no budget, or budgets that no design meets.
        UnknownNameError
            For a column that there is not.
        """
        read = tuple(budget(text, COLUMNS) for text in budgets)
        within = np.ones(len(self), dtype=bool)
        for one in read:
            within &= one.keeps(self.columns[one.column])
        rows = np.flatnonzero(within)
        if not rows.size:
            closest = read[-1].column
            low, high = self.columns[closest].min(), self.columns[closest].max()
            raise InputError.expected(
                "--budget", " ".join(one.text for one in read),
                f"one that a design meets ({closest} is {low:g} to {high:g})",
            )  # fmt: skip
        found = rows[front(self.latency_s[rows], self.energy_j[rows], self.space.share[rows])]
        wanted = self.columns[_MINIMISED[minimise]][found]
        # Of equally good designs that with least energy, then the smallest.
        best = np.lexsort((self.space.share[found], self.energy_j[found], wanted))[0]
        return Choice(read, minimise, within, found, int(found[best]))


def with_pattern(workload: Workload, pattern: str, scheme: Scheme = Scheme.BDWP) -> Workload:
    """The workload with N:M where a scheme of training has it; at inference on weights of all but the two ends.

    Raises
    ------
    InputError
    """
    if pattern == "dense":
        return workload
    if workload.phase is Phase.TRAIN:
        return scheme(workload, pattern)
    first, last = dense_ends(workload)
    return with_sparsity(workload, {"*": pattern, first: DENSE, last: DENSE})


def sweep_designs(
    workload: str | Workload, *, on: str = "sat-vcu1525", phase: str = "train", batch: int = 1, seq: int | None = None,
    axes: Mapping[str, Sequence[float]] | None = None, patterns: Sequence[str] = PATTERNS,
    scheme: Scheme = Scheme.BDWP, jobs: int = 1, progress: Watch | None = None,
) -> Designs:  # fmt: skip
    """Price a workload on all designs of some axes that a card has room for.

    Parameters
    ----------
    on : str
        The machine whose card it is, and whose figures hold where no axis changes them.
    axes : mapping of field to values
        In place of those of `AXES`.
    patterns : sequence of str
        `dense` or N:M; elements of a design take the M of its pattern.
    scheme : Scheme
        Which products of a training step are N:M.
    jobs : int
        Threads.
    progress : callable, optional
        Told how far it is, after every chunk.

    Raises
    ------
    SimsparseError
        For a machine of another family, and for axes, patterns or a workload that cannot be.
    """
    if jobs < 1:
        raise InputError.expected("jobs", jobs, "at least 1")
    spec = accelerator(on).spec
    found = space(spec, axes or {}, patterns)
    work = load_workload(workload, phase=phase, batch=batch, seq=seq)
    calls = [_calls(found, on, work, index, scheme) for index in range(len(patterns))]
    latency_s, energy_j = np.empty(len(found.sparsity)), np.empty(len(found.sparsity))
    chunks = [
        rows[at : at + CHUNK]
        for rows in (np.flatnonzero(found.sparsity == index) for index in range(len(patterns)))
        for at in range(0, len(rows), CHUNK)
    ]

    def price_chunk(rows: Ints) -> int:
        own = calls[found.sparsity[rows[0]]]
        assert own is not None
        latency_s[rows], energy_j[rows] = price_designs(own, found.hardware[rows])
        return len(rows)

    begun, done = time.monotonic(), 0
    with ThreadPoolExecutor(jobs) as pool:
        for count in pool.map(price_chunk, chunks):
            done += count
            if progress is not None:
                progress(Progress(done, len(latency_s), 0, time.monotonic() - begun))
    return Designs(work.name, spec, found, latency_s, energy_j)


def _calls(found: Space, on: str, work: Workload, index: int, scheme: Scheme) -> Calls | None:
    """The calls in one pattern, as a design that fits runs them; None where no design does."""
    rows = np.flatnonzero(found.sparsity == index)
    if not rows.size:
        return None
    example = accelerator(on, found.changes(int(rows[0])))
    return calls_of(example, with_pattern(work, found.sparsities[index], scheme))
