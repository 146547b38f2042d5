"""Timing on machines that do other things as well: jobs in turns, medians, and how far samples spread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_S = 2e-4  # of a sample: shorter jobs are repeated within one
MOST_SAMPLES, FEWEST_SAMPLES = 25, 3


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
    """

    name: str
    run: Callable[[], object]
    alone: bool = False


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
        For all of them; each is run at least `FEWEST_SAMPLES` times.
    done : callable
        Told the share that is done, after every turn.
    """
    repeats = [_repeats(job) for job in jobs]
    took: list[list[float]] = [[] for _ in jobs]
    began = time.perf_counter()
    for turn in range(MOST_SAMPLES):
        for job, count, seconds in zip(jobs, repeats, took, strict=True):
            seconds.append(_timed(job, count))
        spent = time.perf_counter() - began
        done(min(max(spent / budget_s, (turn + 1) / MOST_SAMPLES), 1.0))
        if turn + 1 >= FEWEST_SAMPLES and spent > budget_s:
            break
    return [sample_of(job.name, seconds) for job, seconds in zip(jobs, took, strict=True)]


def _repeats(job: Job) -> int:
    """How often a job runs in a sample: after a first run, which compiles and packs, as long as `LEAST_S` takes."""
    job.run()
    once = min(_timed(job, 1) for _ in range(2))
    return max(1, int(np.ceil(LEAST_S / max(once, 1e-8))))


def _timed(job: Job, count: int) -> float:
    clock = time.thread_time if job.alone else time.perf_counter
    began = clock()
    for _ in range(count):
        job.run()
    return (clock() - began) / count
