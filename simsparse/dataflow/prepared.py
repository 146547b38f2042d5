"""A problem on an architecture as arrays, ready to have mappings evaluated by the compiled code."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simsparse.dataflow._arrays import (
    Asked,
    Count,
    Counts,
    DensityArrays,
    DensityKind,
    Ints,
    MachineArrays,
    Scratch,
    Total,
)
from simsparse.dataflow.architecture import Architecture
from simsparse.dataflow.density import UniformRandom, empty_table
from simsparse.dataflow.measured import Answers
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.rounding import Rounding
from simsparse.errors import InputError

MISSING = 64  # questions noted in one go


@dataclass(frozen=True, eq=False)
class Prepared:
    """Arrays of one problem on one architecture; mappings are added by `run`."""

    problem: Problem
    architecture: Architecture
    rounding: Rounding
    density: DensityArrays
    machine: MachineArrays
    answers: Answers

    def scratch(self, n_loops: int) -> Scratch:
        """Work space for mappings of up to `n_loops` loops."""
        levels, tensors, width = len(self.architecture.levels), len(self.problem.names), self.problem.width
        ranks = self.machine.rank_code.shape[2]
        return Scratch(
            extents=np.ones((levels + 1, width), np.int64),
            start=np.zeros(levels + 1, np.int64),
            spatial_start=np.zeros(levels, np.int64),
            step=np.zeros(max(1, n_loops), np.int64),
            outside=np.zeros(n_loops + 1),
            instances=np.zeros(levels + 1),
            shift=np.zeros(width, np.int64),
            box=np.zeros(width, np.int64),
            part=np.zeros(width, np.int64),
            fiber=np.ones((levels, tensors, ranks)),
            span=np.ones((levels, tensors, ranks, width), np.int64),
            below=np.ones((levels, tensors, ranks, width), np.int64),
            own_loops=np.zeros(max(1, n_loops), np.int64),
            saved=np.zeros(tensors),
            own=np.zeros(tensors),
            rounds=np.zeros(tensors),
            ranks=np.zeros((ranks, 2)),
        )

    def counts(self) -> Counts:
        """Room for the results of one mapping."""
        levels, tensors = len(self.architecture.levels), len(self.problem.names)
        ranks = self.machine.rank_code.shape[2]
        return Counts(
            counts=np.zeros((levels, tensors, len(Count))),
            metadata=np.zeros((levels, tensors, ranks, 3, 3, 2)),
            metadata_max=np.zeros((levels, tensors, ranks, 2)),
            levels=np.zeros((levels + 1, 2)),
            totals=np.zeros(len(Total)),
        )

    def run(self, loops: Ints, stored: Ints) -> Counts:
        """Evaluate one mapping; answer what the compiled code asks and evaluate again until it asks nothing."""
        from simsparse.dataflow._cost import evaluate

        scratch, result = self.scratch(len(loops)), self.counts()
        missing, n_missing = np.zeros((MISSING, 4 + self.problem.width), np.int64), np.zeros(1, np.int64)
        while True:
            n_missing[0] = 0
            asked = Asked(self.answers.keys, self.answers.values, missing, n_missing)
            evaluate(
                self.problem.arrays, self.density, self.machine, asked, loops, len(loops), stored, int(self.rounding),
                scratch, result,
            )  # fmt: skip
            if n_missing[0] == 0:
                return result
            self.answers.add(missing[: n_missing[0]])


def prepare(problem: Problem, architecture: Architecture, rounding: Rounding = Rounding.EXACT) -> Prepared:
    """Arrays of a problem on an architecture.

    Raises
    ------
    InputError
        If a format, an action or a condition names a tensor that the problem does not have.
    """
    architecture.check_tensors(problem.names)
    return Prepared(
        problem, architecture, rounding, _density_arrays(problem, rounding), _machine_arrays(problem, architecture),
        Answers(problem, rounding),
    )  # fmt: skip


def _density_arrays(problem: Problem, rounding: Rounding) -> DensityArrays:
    n_axes = problem.arrays.coefficients.shape[1]
    n = len(problem.tensors)
    units, nonzero, means = np.ones(n), np.ones(n), np.ones(n)
    granule, tables = np.ones((n, n_axes), np.int64), [np.ones(1)] * n
    for t, tensor in enumerate(problem.tensors):
        density, shape = tensor.density, problem.shape(tensor.name)
        means[t] = density.mean
        if isinstance(density, UniformRandom):
            granule[t, : len(shape)] = density.granule(shape)
            units[t] = math.prod(-(-extent // g) for extent, g in zip(shape, density.granule(shape), strict=True))
            nonzero[t] = density.nonzero_of(units[t], rounding)
            means[t] = nonzero[t] / units[t]
            tables[t] = empty_table(units[t], nonzero[t])
    longest = max(len(table) for table in tables)
    return DensityArrays(
        kind=np.array([_kind(tensor.density.kind, tensor.density.mean) for tensor in problem.tensors]),
        density=means,
        units=units,
        nonzero=nonzero,
        granule=granule,
        granule_words=granule.prod(axis=1).astype(np.float64),
        empty=np.array([np.pad(table, (0, longest - len(table))) for table in tables]),
        empty_length=np.array([len(table) for table in tables]),
    )


def _kind(kind: DensityKind, mean: float) -> int:
    return int(DensityKind.DENSE if mean >= 1.0 and kind is not DensityKind.RANDOM else kind)


def _machine_arrays(problem: Problem, architecture: Architecture) -> MachineArrays:
    levels, names = architecture.levels, problem.names
    most = max(1, *(len(layout.ranks) for level in levels for layout in level.formats.values()), 1)
    shape = (len(levels), len(names))
    dims = {dim: 1 << d for d, dim in enumerate(problem.dim_names)}
    n_ranks, inner_first, compressed = (np.zeros(shape, np.int64) for _ in range(3))
    code, taken = np.zeros((*shape, most), np.int64), np.zeros((*shape, most), np.int64)
    bits = np.zeros((*shape, most, 2))
    actions: list[tuple[int, int, int, int, int]] = []
    for at, level in enumerate(levels):
        for name, layout in level.formats.items():
            t = names.index(name)
            n_ranks[at, t], inner_first[at, t] = len(layout.ranks), layout.inner_first
            compressed[at, t] = layout.compressed
            for r, rank in enumerate(reversed(layout.ranks)):
                code[at, t, r] = rank.format.code
                bits[at, t, r] = rank.metadata_bits, rank.payload_bits
                for dim in rank.dims:
                    if dim not in dims:
                        where = f"dimension of rank {r} of tensor {name} at level {level.name}"
                        raise InputError.expected(where, dim, f"one of {', '.join(dims)}")
                    taken[at, t, r] |= dims[dim]
        for group, action in enumerate(level.actions):
            for option in action.options:
                on = sum(1 << names.index(name) for name in option.on)
                actions.append((at, group, int(action.kind.code), names.index(option.target), on))
    return MachineArrays(
        block_words=np.array([level.block_words for level in levels], np.float64),
        word_bits=np.array([level.word_bits for level in levels], np.float64),
        metadata_width_bits=np.array([level.metadata_width_bits for level in levels], np.float64),
        read_words_per_cycle=np.array([level.read_words_per_cycle for level in levels], np.float64),
        write_words_per_cycle=np.array([level.write_words_per_cycle for level in levels], np.float64),
        capacity_words=np.array([level.capacity_words for level in levels], np.float64),
        n_ranks=n_ranks,
        rank_code=code,
        rank_bits=bits,
        rank_dims=taken,
        inner_first=inner_first,
        compressed=compressed,
        actions=np.array(actions, np.int64).reshape(len(actions), 5),
        compute_gates=int(architecture.compute.gating),
        compute_skips=int(architecture.compute.skipping),
        charges_pj=np.array([level.energies.charges() for level in levels]),
        compute_pj=np.array(architecture.compute.energies.charges()),
    )
