"""Timing on machines that do other things as well: jobs in turns, medians, and how far samples spread.

Threads of a pool go on spinning for a while after their work is done: OpenBLAS as long as `worker.SPINNING` says, ONNX
Runtime and OpenMP for some milliseconds. On a machine with few cores they keep those of the next library from its
cores, whose barriers then wait for a time slice (4 ms and more for a product of 0.1 ms). So jobs of one pool go one
after the other, and a pool begins when those before it have gone to sleep.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

LEAST_S = 2e-4  # of a sample: shorter jobs are repeated within one
BURST_S, MOST_IN_BURST = 5e-3, 5  # samples of a job in a turn: for so long, so many at most
MOST_TURNS, FEWEST_TURNS = 6, 3
SETTLE_S = 0.05  # until the threads of any pool sleep


@dataclass(frozen=True)
class Job:
    """Something to time.

    Attributes
    ----------
    name : str
    run : callable
        Does it once.
    alone : bool
        It runs in this thread only, so that CPU time of the thread says how long it takes whatever else runs.
    pool : str
        The library whose threads it runs on; of no importance where it is alone.
    """

    name: str
    run: Callable[[], object]
    alone: bool = False
    pool: str = ""

    @property
    def spins(self) -> str:
        """The pool that it wakes, empty if none."""
        return "" if self.alone else self.pool


@dataclass(frozen=True)
class Sample:
    """Seconds of a job: median, half the distance between quartiles over the median, and how many samples."""

    name: str
    median_s: float
    spread: float
    samples: int


def sample_of(name: str, seconds: Sequence[float]) -> Sample:
    """Median and spread of samples."""
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist()
    return Sample(name, median, (high - low) / 2 / median, len(seconds))


def measured(jobs: Sequence[Job], budget_s: float, done: Callable[[float], None] = lambda _: None) -> list[Sample]:
    """Time jobs in turns, so that whatever else the machine does meets them all, until the time is up.

    Parameters
    ----------
    budget_s : float
        For all of them; each has at least `FEWEST_TURNS` turns.
    done : callable
        Told the share that is done, after every turn.

    Returns
    -------
    list of Sample
        In the order of `jobs`.
    """
    took: list[list[float]] = [[] for _ in jobs]
    by_pool = sorted(range(len(jobs)), key=lambda i: jobs[i].spins)
    pools = [list(members) for _, members in groupby(by_pool, key=lambda i: jobs[i].spins)]
    repeats = {i: _repeats(jobs[i]) for i in by_pool}
    began = time.perf_counter()
    for turn in range(MOST_TURNS):
        for members in pools:
            if len(pools) > 1:
                time.sleep(SETTLE_S)
            for i in members:
                _burst(jobs[i], repeats[i], took[i])
        spent = time.perf_counter() - began
        done(min(max(spent / budget_s, (turn + 1) / MOST_TURNS), 1.0))
        if turn + 1 >= FEWEST_TURNS and spent > budget_s:
            break
    return [sample_of(job.name, seconds) for job, seconds in zip(jobs, took, strict=True)]


def _burst(job: Job, count: int, took: list[float]) -> None:
    """Add the samples of a turn, after a run that wakes threads and fills caches."""
    if job.spins:
        job.run()
    end = time.perf_counter() + BURST_S
    for _ in range(MOST_IN_BURST):
        took.append(_timed(job, count))
        if time.perf_counter() > end:
            break


def _repeats(job: Job) -> int:
    """How often a job runs in a sample: after a first run, which compiles and packs, as long as `LEAST_S` takes."""
    job.run()
    once = _timed(job, 1)
    if once < BURST_S:
        once = min(once, _timed(job, 1))
    return max(1, int(np.ceil(LEAST_S / max(once, 1e-8))))


def _timed(job: Job, count: int) -> float:
    clock = time.thread_time if job.alone else time.perf_counter
    began = clock()
    for _ in range(count):
        job.run()
    return (clock() - began) / count
