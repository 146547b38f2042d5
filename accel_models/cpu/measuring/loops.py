"""Loops that are timed, compiled by numba: streams over memory, gathers, an empty parallel region, a product by rows.

Integers are summed, as their order may change without fast-math, so that the loops are vectorised.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Singles = NDArray[np.float32]
Indices = NDArray[np.int32]
FEW = 8


@njit(parallel=True, cache=True, nogil=True)
def read(data: Words, passes: int, sums: Words) -> None:
    """Each thread its row of `data` (threads, words), so many times."""
    for thread in prange(data.shape[0]):
        total = np.uint64(0)
        row = data[thread]
        for turn in range(passes):
            mark = np.uint64(turn)
            for i in range(row.shape[0]):
                total += row[i] ^ mark
        sums[thread] = total


@njit(parallel=True, cache=True, nogil=True)
def write(data: Words, passes: int) -> None:
    """The same, overwriting."""
    for thread in prange(data.shape[0]):
        row = data[thread]
        for turn in range(passes):
            for i in range(row.shape[0]):
                row[i] = np.uint64(turn)


@njit(parallel=True, cache=True, nogil=True)
def copy(data: Words, target: Words, passes: int) -> None:
    """The same, from one array to another."""
    for thread in prange(data.shape[0]):
        row, out = data[thread], target[thread]
        for turn in range(passes):
            mark = np.uint64(turn)
            for i in range(row.shape[0]):
                out[i] = row[i] ^ mark


@njit(parallel=True, cache=True, nogil=True)
def gather(data: Words, index: Indices, sums: Words) -> None:
    """Words of `data` in the order of each thread's row of `index`."""
    for thread in prange(index.shape[0]):
        total = np.uint64(0)
        row = index[thread]
        for i in range(row.shape[0]):
            total += data[row[i]]
        sums[thread] = total


@njit(parallel=True, cache=True, nogil=True)
def nothing(threads: int, sums: Words) -> None:
    """A parallel region with nothing in it."""
    for thread in prange(threads):
        sums[thread] = np.uint64(thread)


@njit(cache=True, nogil=True)
def chain(steps: int) -> int:
    """Additions and exclusive ors, each of which waits for the one before: two cycles a step on any core."""
    value = np.uint64(1)
    for i in range(steps):
        value = (value + np.uint64(i)) ^ np.uint64(0x5DEECE66D)
    return int(value)


@njit(parallel=True, cache=True, nogil=True)
def csr_spmm(start: Indices, index: Indices, value: Singles, b: Singles, c: Singles) -> None:
    """C (M, N) = A B, A in CSR, B (K, N): four nonzeros of a row of A at a time go into the sums of all tokens.

    Fewer than `FEW` tokens have scalar sums, one after the other.
    """
    rows, tokens = c.shape
    for m in prange(rows):
        out = c[m]
        if tokens < FEW:
            for j in range(tokens):
                total = np.float32(0)
                for p in range(start[m], start[m + 1]):
                    total += value[p] * b[index[p], j]
                out[j] = total
            continue
        out[:] = np.float32(0)
        p, end = start[m], start[m + 1]
        while p + 4 <= end:
            a0, a1, a2, a3 = value[p], value[p + 1], value[p + 2], value[p + 3]
            b0, b1, b2, b3 = b[index[p]], b[index[p + 1]], b[index[p + 2]], b[index[p + 3]]
            for j in range(tokens):
                out[j] += (a0 * b0[j] + a1 * b1[j]) + (a2 * b2[j] + a3 * b3[j])
            p += 4
        while p < end:
            a0, b0 = value[p], b[index[p]]
            for j in range(tokens):
                out[j] += a0 * b0[j]
            p += 1
