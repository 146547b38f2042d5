"""Columns of the arrays that pass between kernels, schedule and price."""

from __future__ import annotations

from enum import IntEnum


class Product(IntEnum):
    """Columns of what the schedule searches for: one product, as the array is to run it."""

    BATCH = 0
    M = 1
    N = 2
    K = 3
    KEPT = 4  # weights an element multiplies per group; dense is 1 of 1
    GROUP = 5
    A_GROUP_BYTES = 6  # a group of A on chip: its kept values and their indices
    A_READ_BYTES = 7  # a group of A as memory holds it
    B_BYTES = 8  # a value of B, by distinct values: im2col is made on chip
    C_BYTES = 9
    SUM_BYTES = 10  # a partial sum
    FUSED_BYTES = 11  # that come with a value of the output; the schedule leaves them out


class Mapping(IntEnum):
    """Columns of a mapping: the tiles of one product, what each moves and takes, and the totals.

    Tiles run over three loops: the reduction innermost; OUTER says which of A and B stays while the other loop runs.
    Bytes of a tile are of a full one. Totals are over the batch. Of streams only what the reduction engine does counts.
    """

    DATAFLOW = 0  # 0 weight-stationary, 1 output-stationary
    KEPT = 1
    GROUP = 2
    HELD = 3  # groups an element holds at once (weight-stationary; else 0)
    TILE_M = 4
    TILE_N = 5
    TILE_K = 6
    TILES_M = 7
    TILES_N = 8
    TILES_K = 9
    OUTER = 10  # 0: M outside, tiles of A stay; 1: N outside, tiles of B stay
    A_TILE_BYTES = 11  # read from memory
    B_TILE_BYTES = 12
    ARRAY_CYCLES = 13  # the array, all tiles: ISSUE + STALL + weights or sums that did not move in time
    ISSUE_CYCLES = 14  # multiply-accumulates issued one a cycle, idle elements included
    STALL_CYCLES = 15  # waits for the sum of the same output
    SKEW_CYCLES = 16  # first weights in, wavefront across the array, last sums out
    A_BYTES = 17  # memory traffic
    B_BYTES = 18
    C_BYTES = 19
    BRAM_BYTES = 20  # through the buffers, on the array's side
    M = 21  # outputs and reduction that are computed: fewer than the problem's where whole rows or slices are gone
    K = 22
    REDUCTION_GROUPS = 23  # that the reduction engine looks at: before a product, or beside an update
    REDUCTION_M = 24  # weights of each
    REDUCTION_READ_BYTES = 25  # for it, besides what an update reads
    REDUCTION_WRITE_BYTES = 26  # N:M copies; less what they are written in place of
