"""Patterns as numbers: codes of the classes, and the columns that arrays of kernel calls hold."""

from __future__ import annotations

from enum import IntEnum


class PatternKind(IntEnum):
    """Codes of the pattern classes in arrays."""

    DENSE = 0
    NM = 1
    VNM = 2
    NMV = 3
    VECTOR = 4
    BLOCK = 5
    UNSTRUCTURED = 6
    ROWS = 7
    SLICE = 8
    ACTIVATION = 9
    ATTENTION_BLOCK = 10
    ATTENTION_TOKEN = 11
    MEASURED = 12


class PatternColumn(IntEnum):
    """Columns of a pattern in arrays of kernel calls."""

    KIND = 0
    DENSITY = 1
    N = 2  # N of N:M, else 0
    M = 3  # M of N:M, else 0
    HEIGHT = 4  # rows (outputs) that share one index: V, L, v, R; else 1
    WIDTH = 5  # columns (reduction) of a block: C; else 1
    ROW_CV = 6  # measured std/mean of nonzeros per row; -1 where the closed form holds
    HOLDS = 7  # bit set of `HELD_NM` that a measured mask satisfies; 0 elsewhere
    OCCUPIED_0 = 8  # measured fraction of nonempty tiles, one column for each of `MEASURED_TILES`; -1 elsewhere
    OCCUPIED_1 = 9
    OCCUPIED_2 = 10
    OCCUPIED_3 = 11
    OCCUPIED_4 = 12


# N:M relations looked for in a real mask, in the order of the bits of `PatternColumn.HOLDS`.
HELD_NM = ((2, 4), (1, 4), (4, 8), (2, 8), (1, 8), (1, 2), (4, 16), (2, 16), (1, 16))
# Tiles (rows, columns) whose occupancy is measured in a real mask.
MEASURED_TILES = ((4, 1), (1, 4), (16, 16), (32, 32), (64, 64))
