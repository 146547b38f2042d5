"""Columns of the arrays a GPU is priced from: how a kernel maps a problem, and what a card is."""

from __future__ import annotations

from enum import IntEnum


class Map(IntEnum):
    """How one kernel runs one problem.

    "Per element" means per element of the dense matrix; a 2:4 operand of 16 bits moves 1.125 bytes per element.
    """

    M = 0  # executed extents; slices and idle neurons are already cut off
    N = 1
    K = 2
    BATCH = 3
    RATE = 4  # dense-equivalent multiply-accumulates per clock and SM at peak
    EXECUTED = 5  # fraction of the dense multiply-accumulates that hardware performs
    A_BYTES = 6  # bytes per element of A that a tile loads, metadata included
    B_BYTES = 7  # bytes per element of B
    C_BYTES = 8
    A_STORED = 9  # bytes per element of A in memory
    B_KEPT = 10  # fraction of B's rows that one group of A's rows needs
    ISSUE = 11  # SM cycles per element of A that a tile loads, spent on decoding and addressing
    IMBALANCE = 12  # busiest SM over mean, of the main loop
    EFFICIENCY = 13  # fraction of RATE the main loop sustains when nothing else bounds it
    LAUNCH_S = 14
    RASTER = 15  # 1: tiles are ordered to share both operands in L2; 0: along M only
    TILE_M = 16
    TILE_N = 17
    SPLIT_K = 18
    RESIDENT = 19  # thread blocks an SM holds at once
    MENU = 20  # which tile menu the kernel chooses from
    DRAM_FRACTION = 21  # of peak memory bandwidth that the kernel's streams reach
    B_TOUCHED = 22  # fraction of B's rows that any tile reads
    LARGEST = 23  # 1: the library takes the largest tile that gives every SM a block; 0: the fastest
    GROUP = 24  # rows of A that choose their rows of B together
    MOST_M = 25  # rows of A that a tile may have
    THROUGH_L1 = 26  # over shared memory: rate of rows of B that each group fetches through L1; 0: tiles share them
    SECOND = 27  # SM cycles per element of A that overlap with nothing: a second kernel, the ends of rows
    ROUND_S = 28  # latency of a round of thread blocks; 0: the card's
    WAIT_S = 29  # for the host, before the launch
    AT_ONCE = 30  # rows of A that an SM works on at once, where groups fetch B through L1


MAP_WIDTH = len(Map)


class Card(IntEnum):
    """What prices depend on, of one card. Rates are at the clock in CLOCK_HZ."""

    SM_COUNT = 0
    CLOCK_HZ = 1
    DRAM_BYTES_PER_S = 2
    L2_BYTES = 3
    L2_BYTES_PER_CLOCK = 4
    SMEM_BYTES_PER_CLOCK = 5  # per SM
    REGISTERS = 6
    SMEM_BYTES = 7  # per SM
    TDP_W = 8
    IDLE_W = 9
    FILL_S = 10  # latency from the start of a tile to its first multiplication, and of its end
    POWER_EXPONENT = 11  # dynamic power goes with the clock to this power
    L2_J_PER_BYTE = 12
    DRAM_J_PER_BYTE = 13
    SMEM_J_PER_BYTE = 14
    LINK_BYTES_PER_S = 15  # per direction
    HOST_BYTES_PER_S = 16
    LINK_J_PER_BYTE = 17
    WARP_M = 18  # operand rows and columns that one shared-memory read serves
    WARP_N = 19
    MULTICAST = 20  # tiles that one L2 read serves, on average (thread block clusters)
    SMEM_SHARE = 21  # tiles that one shared-memory read serves (B200: pairs of blocks)
    OVERLAP = 22  # how well tensor cores and shared memory overlap; see the engine's rule
    WAIT_W = 23  # of SMs that hold work and do not multiply, all of them at the full clock


CARD_WIDTH = len(Card)

TERMS = ("compute", "smem", "l2", "issue", "dram", "fill", "launch", "tail", "imbalance", "link", "power")
LEVELS = ("dram", "l2", "smem")
ENERGIES = ("mac", "smem", "l2", "wait", "dram", "link", "idle")  # see `engine.ON_CLOCK`


class Term(IntEnum):
    """Positions in `TERMS`."""

    COMPUTE = 0
    SMEM = 1
    L2 = 2
    ISSUE = 3
    DRAM = 4
    FILL = 5
    LAUNCH = 6
    TAIL = 7
    IMBALANCE = 8
    LINK = 9
    POWER = 10
