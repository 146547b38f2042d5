"""Measured kernels as arrays, for the fit: one `Block` per card and kernel."""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from accel_models.gpu.measurements import READER
from accel_models.gpu.twins import dense_twins
from simsparse.errors import SimsparseError
from simsparse.measurements import Measurement, csv_files, read_measurements
from simsparse.plan import Floats, Ints
from simsparse.predictions import attention_of
from simsparse.problems import gemm_problems
from simsparse.readings import AttentionReading, GemmReading, ModelReading
from simsparse.simulate import without_pattern
from simsparse.sparsity import DENSE

# Where commands look for measurements that are given no folder.
EVIDENCE = Path("../shared/evidence/published")
SHAPE_GROUPS = 5
# Of figures read off plots whose notes say nothing.
READING_ERROR = 0.02
_SAID = re.compile(r"\+-\s*([\d.]+)\s*(%?)")


@dataclass(frozen=True)
class Block:
    """Measured runs of one kernel on one card, all as times or all as speedups over the best dense kernel.

    Attributes
    ----------
    ids : tuple of str
        Of the rows.
    problem, dense : (n, PROBLEM_WIDTH) ndarray
        What ran, and the dense job that a speedup is over.
    measured : (n,) ndarray
        Seconds, or speedups.
    speedup : bool
        Which of them.
    group : (n,) ndarray of int
        Shapes are dealt out to `SHAPE_GROUPS` groups by a checksum.
    noise : (n,) ndarray
        Relative error of a figure read off a plot; 0 for others.
    dense_s : (n,) ndarray
        Measured time of the dense product of the same shape, device and source; NaN where there is none.
    """

    machine: str
    kernel: str
    ids: tuple[str, ...]
    problem: Floats
    dense: Floats
    measured: Floats
    speedup: bool
    group: Ints
    noise: Floats
    dense_s: Floats

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: Ints) -> Block:
        """Some of the rows."""
        ids = tuple(self.ids[i] for i in index)
        rows = {
            name: getattr(self, name)[index] for name in ("problem", "dense", "measured", "group", "noise", "dense_s")
        }
        return replace(self, ids=ids, **rows)

    @cached_property
    def weights(self) -> Floats:
        """Every distinct problem has the same weight, and a card weight by the root of their number."""
        _, inverse, counts = np.unique(self.problem, axis=0, return_inverse=True, return_counts=True)
        weight = 1.0 / counts[inverse.ravel()]
        return np.asarray(weight / np.sqrt(weight.sum()))


@dataclass(frozen=True)
class _Run:
    row: Measurement
    problem: Floats
    dense: Floats
    measured: float
    speedup: bool
    dense_s: float


def read(folder: Path) -> list[Block]:
    """Measured kernels of all CSV files of a folder, by card and kernel.

    Taken are rows with `use = yes` of bare kernels: products (phase `gemm`) as times or speedups, attention as
    speedups.
    """
    rows = [row for path in csv_files([folder])[0] for row in read_measurements(path)]
    twins = dense_twins(rows)
    found: dict[tuple[str, str, bool], list[_Run]] = defaultdict(list)
    for index, row in enumerate(rows):
        dense_s = twins[index][1] if index in twins else np.nan
        for machine, kernel, run in _runs(row, dense_s):
            found[machine, kernel, run.speedup].append(run)
    return [_block(*key, runs) for key, runs in sorted(found.items())]


def model_steps(folder: Path) -> Iterator[tuple[Measurement, ModelReading]]:
    """Measured steps of models, with how each row is read."""
    for row in (row for path in csv_files([folder])[0] for row in read_measurements(path) if row.scored):
        reading = READER.reading(row)
        if isinstance(reading, ModelReading) and not isinstance(reading, AttentionReading):
            yield row, reading


def _runs(row: Measurement, dense_s: float) -> Iterator[tuple[str, str, _Run]]:
    """The run of a row, unless it is none of a bare kernel that is known."""
    reading = READER.reading(row) if row.scored else None
    speedup = row.metric == "speedup_vs_dense"
    measured = row.value if speedup else row.seconds
    if measured is None or not isinstance(reading, (GemmReading, AttentionReading)) or reading.changes:
        return
    if reading.kernel == "best" or (isinstance(reading, GemmReading) and row.product is None):
        return
    try:
        problem, dense = _problems(row, reading)
    except SimsparseError:
        return
    yield reading.machine, reading.kernel, _Run(row, problem, dense, measured, speedup, dense_s)


def _problems(row: Measurement, reading: GemmReading | AttentionReading) -> tuple[Floats, Floats]:
    """What ran, and the same dense in the activations' type."""
    if isinstance(reading, AttentionReading):
        attention = attention_of(reading)
        return attention[0], without_pattern(attention)[0]
    assert row.product is not None
    weight = reading.weight_dtype or reading.dtype
    sparse, dense = (
        gemm_problems(
            *row.product, pattern=pattern, sparse_operand=reading.operand, a_dtype=a_dtype, b_dtype=reading.dtype,
            accumulate_bits=reading.accumulate_bits,
        )[0]
        for pattern, a_dtype in ((reading.pattern, weight), (DENSE, reading.dtype))
    )  # fmt: skip
    return sparse, dense


def _block(machine: str, kernel: str, speedup: bool, runs: Sequence[_Run]) -> Block:
    return Block(
        machine, kernel, tuple(run.row.id for run in runs), np.stack([run.problem for run in runs]),
        np.stack([run.dense for run in runs]),
        np.array([run.measured for run in runs]), speedup, np.array([_group(run) for run in runs]),
        np.array([reading_error(run.row) for run in runs]), np.array([run.dense_s for run in runs]),
    )  # fmt: skip


def _group(run: _Run) -> int:
    shape = run.row.product or (run.row.model, run.row.seq, run.row.batch)
    return zlib.crc32(repr(shape).encode()) % SHAPE_GROUPS


def reading_error(row: Measurement) -> float:
    """Relative error with which a figure was read off a plot, by its note; 0 for figures that were printed."""
    if row.quality != "figure_digitized" or row.value is None:
        return 0.0
    said = _SAID.search(row.note)
    if said is None:
        return READING_ERROR
    return float(said[1]) / (100.0 if said[2] else row.value)
