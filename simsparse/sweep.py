"""`sweep`: a grid of points in chunks; each chunk becomes a Parquet part keyed by the hash of its points.

A sweep that was killed goes on where it was: parts that exist are not computed again, and the table is put together
from parts in the order of the grid, so that it does not depend on who made them when.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from simsparse.errors import InputError, SimsparseError
from simsparse.grid import Grid, SweepSpec
from simsparse.registry import adopt, registered
from simsparse.sweep_parts import Part, check, join, make, parts_of

if TYPE_CHECKING:
    import pandas as pd

TABLE = "table.parquet"


@dataclass(frozen=True)
class Progress:
    """How far a sweep is: points, and seconds since it was started.

    Attributes
    ----------
    done, total : int
        Points; `done` counts those found from an earlier run, which are `resumed`.
    elapsed_s : float
    """

    done: int
    total: int
    resumed: int
    elapsed_s: float

    @property
    def rate(self) -> float:
        """Points per second of this run."""
        return (self.done - self.resumed) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Expected time to go; None before the first chunk is done."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


Watch = Callable[[Progress], None]
Source = SweepSpec | Mapping[str, object] | str | Path


def sweep(spec: Source, out: str | Path | None = None, *, jobs: int = 1, progress: Watch | None = None) -> pd.DataFrame:
    """Simulate every point of a grid.

    Parameters
    ----------
    spec : path, mapping or SweepSpec
        Axes, see `simsparse.grid.SweepSpec`.
    out : path, optional
        Folder for the parts and `table.parquet`; a second run with it goes on. None keeps nothing.
    jobs : int
        Processes.
    progress : callable, optional
        Gets a `Progress` after each chunk.

    Returns
    -------
    DataFrame
        A row a point in the order of the grid: its axes, and the fields of `simsparse.evaluate.Figures`.

    Raises
    ------
    SimsparseError
        For a bad spec, a folder that cannot be written, a part that is broken.
    """
    import pandas as pd

    with _folder(out) as folder:
        return pd.read_parquet(run_sweep(spec, folder, jobs=jobs, progress=progress))


def run_sweep(spec: Source, out: str | Path, *, jobs: int = 1, progress: Watch | None = None) -> Path:
    """As `sweep`, but leave the table on disk and return its path; memory does not grow with the grid."""
    if jobs < 1:
        raise InputError.expected("jobs", jobs, "at least 1")
    if not str(out):
        raise InputError.expected("output", out, "a folder")
    grid = Grid(SweepSpec.read(spec))
    folder = Path(out)
    try:
        (folder / "parts").mkdir(parents=True, exist_ok=True)
        for left_over in (folder / "parts").glob("*.tmp"):
            left_over.unlink()
        parts = list(parts_of(grid, folder / "parts"))
        _compute(grid, parts, jobs, progress)
        return join(grid, parts, folder / TABLE)
    except OSError as error:
        raise InputError.expected("output", str(out), f"a folder that can be written ({error.strerror})") from None


@contextmanager
def _folder(out: str | Path | None) -> Iterator[str | Path]:
    if out is not None:
        yield out
        return
    with TemporaryDirectory(prefix="simsparse-sweep-") as folder:
        yield folder


def _compute(grid: Grid, parts: Sequence[Part], jobs: int, progress: Watch | None) -> None:
    """Make the parts that are missing."""
    began, total = time.monotonic(), len(grid)
    missing = []
    for part in parts:
        if part.path.exists():
            check(grid, part)
        else:
            missing.append(part)
    resumed = total - sum(part.stop - part.start for part in missing)
    done = resumed
    if progress is not None:
        progress(Progress(done, total, resumed, 0.0))
    for part in _made(grid, missing, min(jobs, len(missing))):
        done += part.stop - part.start
        if progress is not None:
            progress(Progress(done, total, resumed, time.monotonic() - began))


def _made(grid: Grid, parts: Sequence[Part], jobs: int) -> Iterator[Part]:
    """Make parts, here or in processes, and yield each when it is on disk."""
    if jobs <= 1:
        for part in parts:
            make(grid, part)
            yield part
        return
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (grid, _pickled_registry()))
    waiting, queue = set[Future[Part]](), iter(parts)
    try:
        while True:
            free = range(2 * jobs - len(waiting))
            waiting |= {pool.submit(_work, part) for _, part in zip(free, queue, strict=False)}
            if not waiting:
                break
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)
    except BrokenProcessPool:
        raise SimsparseError("a process of the sweep died, expected it to live (memory may be short)") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pickled_registry() -> bytes:
    try:
        return pickle.dumps(registered())
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise InputError(f"a registered object cannot go to another process ({error}), expected jobs to be 1") from None


_GRID: list[Grid] = []  # of this worker process


def _start_worker(grid: Grid, added: bytes) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    adopt(pickle.loads(added))
    _GRID[:] = [grid]


def _die_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _work(part: Part) -> Part:
    make(_GRID[0], part)
    return part
