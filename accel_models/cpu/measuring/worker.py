"""A process of its own for each thread count: libraries take theirs from the environment when they are loaded.

`python -m accel_models.cpu.measuring.worker THREADS SECONDS` prints a line of JSON for every step. What is not begun
when the time is up (compilers and other programs take some of it) is left out, memory and clock first of all timed.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accel_models.cpu.measuring.plan import Task

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# OpenBLAS spins for 2^28 cycles by default, a tenth of a second in which no other library gets its cores; 2^22 is long
# enough for calls that follow one another.
SPINNING = {"OPENBLAS_THREAD_TIMEOUT": "22"}
TOGETHER = 24  # jobs that are timed in turns
GROUPS = 8  # of them, about, that share the time of a part
LEFT_OUT_FIRST = ("products",)


def environment(threads: int) -> dict[str, str]:
    """What the process must be started with."""
    return {**os.environ, **dict.fromkeys(VARIABLES, str(threads)), **SPINNING}


def main(threads: int, budget_s: float) -> None:
    """Time everything and print it."""
    from accel_models.cpu.measuring.identity import identity
    from accel_models.cpu.measuring.plan import peaks, products, small_things, streams

    if threads == 1:
        _pin()
    here = identity()
    parts: tuple[tuple[str, Callable[[], Iterator[Task]], float], ...] = (
        ("memory", lambda: streams(here, threads), 0.2),
        ("gathers and launches", lambda: small_things(here, threads), 0.1),
        ("peaks", lambda: peaks(threads), 0.1),
        ("products", lambda: products(threads), 0.6),
    )
    done, end = 0.0, time.perf_counter() + budget_s
    for what, make, share in parts:
        tasks = make()
        _say(doing=what, share=done)
        while what not in LEFT_OUT_FIRST or time.perf_counter() < end:
            group = list(itertools.islice(tasks, TOGETHER))
            if not group:
                break
            _run(group, share * budget_s / GROUPS)
            _say(doing=what, share=min(done + share, 1 - (end - time.perf_counter()) / budget_s))
        else:
            if next(tasks, None) is not None:
                _say(warning=f"time ran out before all {what} were timed with {threads} threads")
        done += share


def _pin() -> None:
    try:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    except (AttributeError, OSError) as error:
        _say(warning=f"the measuring thread could not be pinned to a core ({error})")


def _run(tasks: Sequence[Task], budget_s: float) -> None:
    from accel_models.cpu.measuring.sampling import measured

    for task, sample in zip(tasks, measured([task.job for task in tasks], budget_s), strict=True):
        product = task.product
        _say(
            name=sample.name, unit=task.unit, amount=task.amount, median_s=sample.median_s, spread=sample.spread,
            samples=sample.samples, product=None if product is None else vars(product),
        )  # fmt: skip


def _say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
