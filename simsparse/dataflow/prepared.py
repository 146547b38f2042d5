"""A problem on an architecture as arrays, ready to have mappings evaluated by the compiled code."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from simsparse.dataflow import _cost
from simsparse.dataflow._arrays import (
    ActionColumn,
    Asked,
    ComputeColumn,
    Counts,
    DensityKind,
    Detail,
    Floats,
    Ints,
    LevelColumn,
    PlaceColumn,
    Scratch,
    Spec,
    TensorColumn,
    WordColumn,
)
from simsparse.dataflow._kernel import Kernel
from simsparse.dataflow._lanes import new_counts, new_scratch
from simsparse.dataflow.architecture import Architecture
from simsparse.dataflow.density import UniformRandom, empty_table
from simsparse.dataflow.measured import Answers
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.rounding import Rounding
from simsparse.errors import InputError

MISSING = 64  # questions noted in one go
FEW_RUNS = 1000  # of plain Python, in one process


@dataclass(frozen=True, eq=False)
class Prepared:
    """Arrays of one problem on one architecture; mappings are added by `run`."""

    problem: Problem
    architecture: Architecture
    rounding: Rounding
    spec: Spec
    answers: Answers

    def scratch(self, n_loops: int) -> Scratch:
        """Work space for one mapping of `n_loops` loops."""
        levels, tensors, ranks = self.spec.kinds.shape[:3]
        return new_scratch(levels, tensors, self.problem.width, ranks, n_loops, 1)

    def asked(self, room: int = MISSING) -> Asked:
        """The answers so far, and room for questions."""
        missing = np.zeros((room, 4 + self.problem.width), np.int64)
        return Asked(self.answers.keys, self.answers.values, missing, np.zeros(1, np.int64))

    def run(self, loops: Ints, factors: Floats, stored: Ints) -> Counts:
        """Evaluate one mapping; answer what the compiled code asks and evaluate again until it asks nothing."""
        levels, tensors, ranks = self.spec.kinds.shape[:3]
        scratch, result = self.scratch(len(loops)), new_counts(levels, tensors, ranks, 1)
        while True:
            asked = self.asked()
            _evaluate()(*self.spec, *asked, *scratch, *result, loops, factors, stored, Detail.ALL)
            if asked.n_missing[0] == 0:
                return Counts(*(part[..., 0] for part in result))
            self.answers.add(asked.missing[: asked.n_missing[0]])


def _evaluate() -> Callable[..., None]:
    """`evaluate`, as machine code once enough single mappings have been evaluated in plain Python."""
    Kernel.runs += 1
    if Kernel.runs == FEW_RUNS and isinstance(_cost.evaluate, Kernel):
        _cost.evaluate.compile()
    return _cost.evaluate


def prepare(problem: Problem, architecture: Architecture, rounding: Rounding = Rounding.EXACT) -> Prepared:
    """Arrays of a problem on an architecture.

    Raises
    ------
    InputError
        If a format, an action or a condition names a tensor, or a rank a dimension, that the problem does not have.
    """
    architecture.check_tensors(problem.names)
    answers = Answers(problem, rounding)
    tensors, words, odds = _tensor_arrays(problem, rounding, answers)
    places, kinds, rank_bits = _format_arrays(problem, architecture)
    compute = np.zeros(len(ComputeColumn) + 2)
    compute[ComputeColumn.GATES], compute[ComputeColumn.SKIPS] = (
        architecture.compute.gating,
        architecture.compute.skipping,
    )
    compute[ComputeColumn.ACTUAL_PJ :] = architecture.compute.energies.charges()
    spec = Spec(
        tensors, words, _axes(problem), odds, _level_array(architecture), places, kinds, rank_bits,
        _actions(problem, architecture), compute, problem.names.index(problem.output), int(rounding),
        np.array([extent for _, extent in problem.dims] + [1] * (problem.width - len(problem.dims)), np.float64),
    )  # fmt: skip
    return Prepared(problem, architecture, rounding, spec, answers)


def _axes(problem: Problem) -> Ints:
    index = {dim: d for d, dim in enumerate(problem.dim_names)}
    most = max(1, *(len(tensor.axes) for tensor in problem.tensors))
    axes = np.zeros((len(problem.tensors), most, problem.width), np.int64)
    for t, tensor in enumerate(problem.tensors):
        for a, axis in enumerate(tensor.axes):
            for dim, coefficient in axis:
                axes[t, a, index[dim]] = coefficient
    return axes


def _tensor_arrays(problem: Problem, rounding: Rounding, answers: Answers) -> tuple[Ints, Floats, Floats]:
    bit = {dim: 1 << d for d, dim in enumerate(problem.dim_names)}
    most = max(1, *(len(tensor.axes) for tensor in problem.tensors))
    tensors = np.ones((len(problem.tensors), TensorColumn.GRANULE + most), np.int64)
    words, tables = np.ones((len(problem.tensors), len(WordColumn))), []
    for t, tensor in enumerate(problem.tensors):
        density, shape = tensor.density, problem.shape(tensor.name)
        tensors[t, TensorColumn.RELEVANT] = sum(bit[dim] for dim in tensor.dims)
        tensors[t, TensorColumn.SIMPLE] = all(len(axis) == 1 and axis[0][1] == 1 for axis in tensor.axes)
        tensors[t, TensorColumn.N_AXES] = len(tensor.axes)
        full = density.mean >= 1.0 and density.kind is not DensityKind.RANDOM
        tensors[t, TensorColumn.DENSITY_KIND] = DensityKind.DENSE if full else density.kind
        words[t, WordColumn.SIZE], words[t, WordColumn.DENSITY] = math.prod(shape), answers.met(t)
        table = np.ones(1)
        if isinstance(density, UniformRandom):
            granule = density.granule(shape)
            units = math.prod(-(-extent // g) for extent, g in zip(shape, granule, strict=True))
            nonzero = density.nonzero_of(units, rounding)
            tensors[t, TensorColumn.GRANULE : TensorColumn.GRANULE + len(shape)] = granule
            words[t, WordColumn.NONZERO], words[t, WordColumn.GRANULE] = nonzero, math.prod(granule)
            words[t, WordColumn.DENSITY] = nonzero / units
            table = empty_table(units, nonzero)
        tensors[t, TensorColumn.ODDS_LENGTH] = len(table)
        tables.append(table)
    longest = max(len(table) for table in tables)
    return tensors, words, np.array([np.pad(table, (0, longest - len(table))) for table in tables])


def _level_array(architecture: Architecture) -> Floats:
    store = np.zeros((len(architecture.levels), len(LevelColumn) + 16))
    for at, level in enumerate(architecture.levels):
        store[at, LevelColumn.BLOCK_WORDS], store[at, LevelColumn.WORD_BITS] = level.block_words, level.word_bits
        store[at, LevelColumn.METADATA_WIDTH_BITS] = level.metadata_width_bits
        store[at, LevelColumn.READ_RATE] = level.read_words_per_cycle
        store[at, LevelColumn.WRITE_RATE] = level.write_words_per_cycle
        store[at, LevelColumn.AHEAD_WORDS] = math.inf if level.loads_ahead else level.capacity_words / 2.0
        apart = level.metadata_capacity_bits
        store[at, LevelColumn.METADATA_BITS_PER_WORD] = level.word_bits if apart is None else math.inf
        store[at, LevelColumn.METADATA_CAPACITY_BITS] = math.inf if apart is None else apart
        store[at, LevelColumn.CHARGES :] = level.energies.charges()
    return store


def _format_arrays(problem: Problem, architecture: Architecture) -> tuple[Ints, Ints, Floats]:
    levels, names = architecture.levels, problem.names
    bit = {dim: 1 << d for d, dim in enumerate(problem.dim_names)}
    most = max([1, *(len(layout.ranks) for level in levels for layout in level.formats.values())])
    places = np.zeros((len(levels), len(names), len(PlaceColumn)), np.int64)
    kinds = np.zeros((len(levels), len(names), most, 2), np.int64)
    bits = np.zeros((len(levels), len(names), most, 2))
    for at, level in enumerate(levels):
        for name, layout in level.formats.items():
            t = names.index(name)
            places[at, t] = len(layout.ranks), layout.inner_first, layout.compressed
            for r, rank in enumerate(reversed(layout.ranks)):
                for dim in rank.dims:
                    if dim not in bit:
                        where = f"dimension of rank {r} of tensor {name} at level {level.name}"
                        raise InputError.expected(where, dim, f"one of {', '.join(bit)}")
                kinds[at, t, r] = rank.format.code, sum(bit[dim] for dim in rank.dims)
                bits[at, t, r] = rank.metadata_bits or 0.0, rank.payload_bits
    return places, kinds, bits


def _actions(problem: Problem, architecture: Architecture) -> Ints:
    names = problem.names
    rows = [
        (at, group, action.kind.code, names.index(option.target), sum(1 << names.index(name) for name in option.on))
        for at, level in enumerate(architecture.levels)
        for group, action in enumerate(level.actions)
        for option in action.options
    ]
    return np.array(rows, np.int64).reshape(len(rows), len(ActionColumn))
