"""What the benchmarks share: medians of repeated runs, and a line that puts a figure beside its target."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def median_seconds(action: Callable[[], object], repeats: int = 7) -> float:
    """Median wall time of several calls."""
    return median(seconds(action) for _ in range(repeats))


def medians_side_by_side(commands: Sequence[Sequence[str]], repeats: int = 7) -> list[float]:
    """Median wall time of each command, run in turns, so that whatever else the machine does meets them all."""
    took: list[list[float]] = [[] for _ in commands]
    for _ in range(repeats):
        for times, command in zip(took, commands, strict=True):
            times.append(seconds(partial(quiet, command)))
    return [median(times) for times in took]


def quiet(command: Sequence[str]) -> None:
    """Run a command that must succeed; what it prints is dropped."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def python(statement: str) -> list[str]:
    """The command that runs a statement in a fresh interpreter."""
    return [sys.executable, "-c", statement]


def report(what: str, figure: str, target: str = "") -> None:
    """One aligned line."""
    print(f"{what:58} {figure:>16}   {target}".rstrip(), flush=True)
