"""Products as the engine sees them, the width of their values, and what an analysis costs as a row of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from simsparse.dataflow._arrays import Count, Total
from simsparse.dataflow.analysis import Analysis
from simsparse.dataflow.architecture import Architecture
from simsparse.dataflow.problem import Problem
from simsparse.ops import Contraction, ContractionKind, Role
from simsparse.plan import Floats, ProblemColumn
from simsparse.sparsity import DENSE, PatternColumn, PatternKind

C = ProblemColumn
_DENSE = np.array(DENSE.columns())
# Columns of a mapping before those of the levels, and columns of each level.
LATENCY_S, COMPUTE_S, WAIT_S, COMPUTE_J, LIVE_MACS, LEAST_BYTES, FIRST_LEVEL = range(7)
LEVEL_S, LEVEL_BYTES, LEVEL_J, LEVEL_WIDTH = range(4)


@dataclass(frozen=True)
class Product:
    """A product to be mapped: shape, what is zero, and bits of the wider operand."""

    shape: Problem
    pattern: Floats
    b_density: float
    bits: float


def product_of(op: Contraction, row: Floats) -> Product:
    """A contraction of a workload; patterns on scores say nothing about operands, which are multiplied densely.

    Probabilities of a causal or windowed attention are zero where no score is needed, as if at random places; of the
    scores themselves, which are outputs, no condition of a design knows beforehand which ones are needed.
    """
    bare = op.with_tensors(a=replace(op.a, pattern=DENSE), b=replace(op.b, pattern=DENSE))
    if op.kind in (ContractionKind.SCORE, ContractionKind.VALUE):
        pattern, density = _DENSE, op.needed if op.b.role is Role.SCORE else 1.0
    else:
        pattern, density = _of_operands(row, op.b.pattern.density)
    return Product(Problem.from_contraction(bare), pattern, density, max(op.a.dtype.bits, op.b.dtype.bits))


def product_of_row(row: Floats) -> Product:
    """A bare product; of a convolution the matrices that im2col makes."""
    base = Problem.gemm(int(row[C.M]), int(row[C.N]), int(row[C.K]))
    batch = int(row[C.BATCH])
    pattern, density = _of_operands(row, float(row[C.B_DENSITY]))
    shape = base.batched(batch) if batch > 1 else base
    return Product(shape, pattern, density, float(max(row[C.A_BITS], row[C.B_BITS])))


def _of_operands(row: Floats, b_density: float) -> tuple[Floats, float]:
    """Pattern of A and density of B; a pattern of neurons stands with the weights, but its zeros are inputs."""
    pattern = pattern_of(row)
    if pattern[PatternColumn.KIND] == PatternKind.ACTIVATION:
        return _DENSE, b_density * float(pattern[PatternColumn.DENSITY])
    return pattern, b_density


def pattern_of(row: Floats) -> Floats:
    """The pattern columns of a problem row, (len(PatternColumn),)."""
    return np.asarray(row[C.PATTERN : C.PATTERN + len(PatternColumn)])


def words_of(bits: float, word_bits: float) -> int:
    """Words that a value takes; the scale it shares with its group does not count."""
    return -(-int(bits) // int(word_bits))


def widened(architecture: Architecture, words: int) -> Architecture:
    """The architecture for values of several words, in steps of `words`² clocks: one multiplication of such values."""
    if words == 1:
        return architecture
    levels = tuple(
        replace(
            level, word_bits=level.word_bits * words, capacity_words=_shared(level.capacity_words, words),
            read_words_per_cycle=level.read_words_per_cycle * words,
            write_words_per_cycle=level.write_words_per_cycle * words,
            energies=replace(
                level.energies,
                table_pj={
                    action: energy * (1 if "metadata" in action else words)
                    for action, energy in level.energies.table_pj.items()
                },
            ),
        )
        for level in architecture.levels
    )  # fmt: skip
    return replace(architecture, levels=levels)


def _shared(capacity: float, words: int) -> float:
    """Values that fit; a register for one word is as wide as the value."""
    return capacity if capacity <= 1.0 or math.isinf(capacity) else capacity // words


def mapped_row(analysis: Analysis, shape: Problem, words: int, clock_hz: float) -> Floats:
    """What an analysis costs, in the columns of a mapping."""
    step_s = words**2 / clock_hz
    row = np.zeros(FIRST_LEVEL + LEVEL_WIDTH * len(analysis.architecture.levels))
    row[LATENCY_S], row[COMPUTE_S] = analysis.cycles * step_s, analysis.total(Total.COMPUTE_CYCLES) * step_s
    row[WAIT_S] = analysis.total(Total.WAIT_CYCLES) * step_s
    row[COMPUTE_J] = analysis.total(Total.COMPUTE_ENERGY_PJ) * words**2 * 1e-12
    row[LIVE_MACS] = analysis.total(Total.ACTUAL) + analysis.total(Total.GATED)
    kept = sum(analysis.problem.tensor(name).density.mean * float(np.prod(shape.shape(name))) for name in ("A", "B"))
    levels = analysis.architecture.levels
    row[LEAST_BYTES] = kept * levels[0].word_bits / 8.0
    for at, level in enumerate(levels):
        counts = analysis.result.counts[at]
        reads, writes = counts[:, Count.READ_WORDS], counts[:, Count.WRITE_WORDS]
        start = FIRST_LEVEL + LEVEL_WIDTH * at
        cycles = max(reads.sum() / level.read_words_per_cycle, writes.sum() / level.write_words_per_cycle)
        # What moves while all else waits is in the wait, and not in the cycles of the level.
        row[start + LEVEL_S] = min(cycles * analysis.stretch(level.name), analysis.level_cycles(level.name)) * step_s
        row[start + LEVEL_BYTES] = ((reads + writes) * counts[:, Count.INSTANCES_MAX]).sum() * level.word_bits / 8.0
        row[start + LEVEL_J] = counts[:, Count.ENERGY_PJ].sum() * 1e-12
    return row
