"""Compiled: room for a number of lanes, and what is done to whole rows of lanes."""

from __future__ import annotations

import math

import numpy as np

from simsparse.dataflow._arrays import Box, Count, Counts, Floats, LevelColumn, Note, PerTensor, Row, Scratch, Total
from simsparse.dataflow._kernel import kernel

N_COUNTS, N_TOTALS, N_ROWS = len(Count), len(Total), len(Row)
N_BOXES, N_PER_TENSOR, N_NOTES = len(Box), len(PerTensor), len(Note)


@kernel
def fill(value: float, out: Floats) -> None:
    """Set all lanes."""
    for w in range(len(out)):
        out[w] = value


@kernel
def copy(source: Floats, out: Floats) -> None:
    """Copy a row."""
    for w in range(len(out)):
        out[w] = source[w]


@kernel
def copy_box(source: Floats, out: Floats) -> None:
    """Copy the extents of all dimensions."""
    for d in range(len(out)):
        for w in range(out.shape[1]):
            out[d, w] = source[d, w]


@kernel
def fill_box(value: float, out: Floats) -> None:
    """Set the extents of all dimensions."""
    for d in range(len(out)):
        for w in range(out.shape[1]):
            out[d, w] = value


@kernel
def product(a: Floats, b: Floats, out: Floats) -> None:
    """Product of two rows, into a third."""
    for w in range(len(out)):
        out[w] = a[w] * b[w]


@kernel
def add(source: Floats, out: Floats) -> None:
    """Add a row to another."""
    for w in range(len(out)):
        out[w] += source[w]


@kernel
def add_held(store: Floats, level: int, words: int, bits: int, own: Floats, held: Floats) -> None:
    """Add the words that a tensor takes of a level: data, and metadata that has no store of its own.

    They stand in the columns `words` and `bits` of its counts.
    """
    add(own[words], held)
    per_word = store[level, LevelColumn.METADATA_BITS_PER_WORD]
    if not math.isinf(per_word):
        metadata = own[bits]
        for w in range(len(held)):
            held[w] += metadata[w] / per_word


@kernel
def times(source: Floats, out: Floats) -> None:
    """Multiply a row by another."""
    for w in range(len(out)):
        out[w] *= source[w]


@kernel
def new_counts(levels: int, tensors: int, ranks: int, lanes: int) -> Counts:
    """Room for results; rows that a loop order leaves alone stay 0."""
    return Counts(
        np.zeros((levels, tensors, N_COUNTS, lanes)),
        np.zeros((levels, tensors, ranks, 3, 3, 2, lanes)),
        np.zeros((levels, tensors, ranks, 2, lanes)),
        np.ones((levels + 1, 3, lanes)),
        np.zeros((N_TOTALS, lanes)),
    )


@kernel
def new_scratch(levels: int, tensors: int, dims: int, ranks: int, loops: int, lanes: int) -> Scratch:
    """Work space for mappings of a number of loops; outside all loops, and inside them, products are 1."""
    return Scratch(
        np.zeros((levels + 1, 2 + 2 * tensors), np.int64),
        np.ones((levels + 1, dims, lanes)),
        np.zeros((loops, lanes)),
        np.ones((loops + 1, lanes)),
        np.ones((levels + 1, lanes)),
        np.zeros((levels + 1, tensors, lanes)),
        np.zeros((N_BOXES, dims, lanes)),
        np.ones((levels, tensors, ranks, lanes)),
        np.ones((levels, tensors, ranks, dims, lanes)),
        np.ones((levels, tensors, ranks, dims, lanes)),
        np.zeros(loops + 1, np.int64),
        np.zeros((ranks, 2), np.int64),
        np.zeros((N_PER_TENSOR, tensors, lanes)),
        np.zeros((N_NOTES, lanes), np.int64),
        np.zeros((ranks, 2, lanes)),
        np.zeros((N_ROWS, lanes)),
        np.zeros((levels + 1, lanes)),
        np.ones((loops, lanes)),
        np.ones((levels + 1, dims, lanes)),
        np.ones((loops, lanes)),
        np.ones((loops + 1, lanes)),
        np.ones((levels + 1, lanes)),
        np.ones((levels + 1, lanes)),
    )
