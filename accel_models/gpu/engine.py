"""Tiles on SMs: one compiled function prices a mapped product, another tries the tile menu with it.

The rule that combines the terms of a product:

    core    = (compute^p + smem^p)^(1/p), or l2, or issue, whichever is longest
    latency = launch + fill + max(core + tail + imbalance, dram) + power

`core` is what the SMs need if every SM had the same share; `tail` the wait for SMs that got one tile more, `imbalance`
for SMs whose tiles hold more nonzeros. Tensor cores and shared memory overlap imperfectly: warps wait on barriers for
whichever of the two is late. p is 2 where warps load fragments themselves, and larger where the tensor cores read
shared memory on their own (Hopper and data-centre Blackwell). `power` is what a clock lowered to the power limit adds.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from accel_models.gpu.columns import Card, Map, Term
from simsparse.plan import Floats

# Enum members as plain integers: numba freezes them into the compiled code.
M, N, K, BATCH = int(Map.M), int(Map.N), int(Map.K), int(Map.BATCH)
RATE, EXECUTED, EFFICIENCY = int(Map.RATE), int(Map.EXECUTED), int(Map.EFFICIENCY)
A_BYTES, B_BYTES, C_BYTES = int(Map.A_BYTES), int(Map.B_BYTES), int(Map.C_BYTES)
A_STORED, B_READ, ISSUE, IMBALANCE = int(Map.A_STORED), int(Map.B_READ), int(Map.ISSUE), int(Map.IMBALANCE)
FILL_S, LAUNCH_S, RASTER, MENU = int(Map.FILL_S), int(Map.LAUNCH_S), int(Map.RASTER), int(Map.MENU)
TILE_M, TILE_N, SPLIT_K, RESIDENT = int(Map.TILE_M), int(Map.TILE_N), int(Map.SPLIT_K), int(Map.RESIDENT)
DRAM_FRACTION, B_TOUCHED = int(Map.DRAM_FRACTION), int(Map.B_TOUCHED)
SM_COUNT, CLOCK_HZ, DRAM_RATE = int(Card.SM_COUNT), int(Card.CLOCK_HZ), int(Card.DRAM_BYTES_PER_S)
L2_BYTES, L2_RATE, SMEM_RATE = int(Card.L2_BYTES), int(Card.L2_BYTES_PER_CLOCK), int(Card.SMEM_BYTES_PER_CLOCK)
REGISTERS, L2_FRACTION = int(Card.REGISTERS), int(Card.L2_FRACTION)
WARP_M, WARP_N = int(Card.WARP_M), int(Card.WARP_N)
MULTICAST, OVERLAP = int(Card.MULTICAST), int(Card.OVERLAP)
T_COMPUTE, T_SMEM, T_L2, T_ISSUE = int(Term.COMPUTE), int(Term.SMEM), int(Term.L2), int(Term.ISSUE)
T_DRAM, T_FILL, T_LAUNCH = int(Term.DRAM), int(Term.FILL), int(Term.LAUNCH)
T_TAIL, T_IMBALANCE = int(Term.TAIL), int(Term.IMBALANCE)
# Bytes moved ride behind the terms in the row that `product_terms` fills.
W_DRAM, W_L2, W_SMEM = len(Term), len(Term) + 1, len(Term) + 2
WORK_WIDTH = len(Term) + 3

# Thread-block tiles (M, N) libraries ship. Menus: 0 tensor cores, 1 CUDA cores.
TILES = np.array(
    [
        [256, 128, 0], [128, 256, 0], [128, 128, 0], [256, 64, 0], [64, 256, 0], [128, 64, 0], [64, 128, 0],
        [64, 64, 0], [128, 32, 0], [64, 16, 0], [16, 64, 0],
        [128, 128, 1], [128, 64, 1], [64, 128, 1], [64, 64, 1], [32, 32, 1], [32, 8, 1],
    ],
    dtype=np.float64,
)  # fmt: skip
SPLITS = np.array([1.0, 2.0, 4.0, 8.0, 16.0])


@njit(cache=True)
def resident_blocks(tile_m: float, tile_n: float, registers: float) -> float:
    """Thread blocks an SM holds at once: registers for fp32 accumulators, half as many again for fragments."""
    blocks = np.floor(registers / (1.5 * tile_m * tile_n + 2048.0))
    return min(max(blocks, 1.0), 8.0)


@njit(cache=True)
def dram_bytes(row: Floats, card: Floats, blocks_m: float, blocks_n: float, at_once: float) -> float:
    """Bytes of A, B and C from and to memory.

    Blocks that run at once form a rectangle of the block grid and walk along one axis: the operand they walk along is
    read once a pass, the other stays in L2 if the rectangle's strip of it fits. A kernel without a shared raster walks
    along M, one column of blocks at a time.
    """
    batch, l2 = row[BATCH], card[L2_BYTES]
    a = row[M] * row[K] * row[A_STORED]
    b = row[N] * row[K] * row[B_BYTES] * row[B_TOUCHED]
    c = row[M] * row[N] * row[C_BYTES]
    if a + b <= 0.8 * l2 or min(a, b) <= 0.4 * l2:
        return batch * (a + b + c)
    if row[RASTER] > 0.0:
        wide_m = min(max(np.sqrt(at_once * row[TILE_N] / row[TILE_M]), 1.0), blocks_m)
        wide_n = min(max(at_once / wide_m, 1.0), blocks_n)
        wide_m = min(max(at_once / wide_n, 1.0), blocks_m)
    else:
        wide_m = min(at_once, blocks_m)
        wide_n = min(max(at_once / wide_m, 1.0), blocks_n)
    a_again, b_again = a * np.ceil(blocks_n / wide_n), b * np.ceil(blocks_m / wide_m)
    a_stays = row[RASTER] > 0.0 and a * wide_m / blocks_m <= 0.5 * l2
    b_stays = b * wide_n / blocks_n <= 0.5 * l2
    along_n = (a if a_stays else a_again) + b_again
    along_m = a_again + (b if b_stays else b_again)
    return batch * ((min(along_m, along_n) if row[RASTER] > 0.0 else along_m) + c)


@njit(cache=True)
def product_terms(row: Floats, card: Floats, work: Floats) -> float:
    """Fill `work` with the terms of a product at the tile in `row`; return its time before any power limit."""
    clock, sms = card[CLOCK_HZ], card[SM_COUNT]
    tile_m, tile_n, split = row[TILE_M], row[TILE_N], row[SPLIT_K]
    blocks_m, blocks_n = np.ceil(row[M] / tile_m), np.ceil(row[N] / tile_n)
    blocks = blocks_m * blocks_n * row[BATCH] * split
    k = np.ceil(row[K] / split)
    share = blocks / sms
    rounds = np.ceil(share)
    busy = min(blocks, sms)

    mma = tile_m * tile_n * k / (row[RATE] * row[EFFICIENCY]) / clock
    side_m, side_n = min(tile_m, card[WARP_M]), min(tile_n, card[WARP_N])
    warps = np.ceil(tile_m / side_m) * np.ceil(tile_n / side_n)
    load = (tile_m * row[A_BYTES] + tile_n * row[B_BYTES] * row[B_READ]) * k
    smem_bytes = warps * (side_m * row[A_BYTES] + side_n * row[B_BYTES] * row[B_READ]) * k + load
    smem = smem_bytes / card[SMEM_RATE] / clock
    store = tile_m * tile_n * row[C_BYTES]
    l2_bytes = load / card[MULTICAST] + store
    # An SM takes at most 64 bytes a clock; all of them share what L2 delivers.
    l2_rate = min(64.0, card[L2_RATE] * card[L2_FRACTION] / busy)
    l2 = l2_bytes / l2_rate / clock
    issue = tile_m * k * row[ISSUE] / clock

    power = card[OVERLAP]
    core = max((mma**power + smem**power) ** (1.0 / power), l2, issue)
    fill = np.ceil(rounds / row[RESIDENT]) * row[FILL_S]
    traffic = dram_bytes(row, card, blocks_m, blocks_n, min(busy * row[RESIDENT], blocks))
    reduction = 0.0
    if split > 1.0:
        # Partial sums go to L2 in fp32 and come back.
        partial = row[M] * row[N] * row[BATCH] * split * 8.0
        reduction = partial / (card[L2_RATE] * card[L2_FRACTION]) / clock + 0.5 * row[LAUNCH_S]
    dram = traffic / (card[DRAM_RATE] * row[DRAM_FRACTION])

    work[:] = 0.0
    work[T_COMPUTE], work[T_SMEM], work[T_L2], work[T_ISSUE] = share * mma, share * smem, share * l2, share * issue
    work[T_DRAM] = dram
    work[T_FILL] = fill + reduction
    work[T_LAUNCH] = row[LAUNCH_S]
    work[T_TAIL] = (rounds - share) * core
    work[T_IMBALANCE] = rounds * core * (row[IMBALANCE] - 1.0)
    work[W_DRAM], work[W_L2], work[W_SMEM] = traffic, blocks * l2_bytes, blocks * smem_bytes
    return row[LAUNCH_S] + work[T_FILL] + max(share * core + work[T_TAIL] + work[T_IMBALANCE], dram)


@njit(cache=True)
def choose_tiles(mapping: Floats, card: Floats) -> None:
    """Set tile, split and resident blocks of every row to the fastest of the row's menu, in place."""
    work = np.empty(WORK_WIDTH)
    for i in range(mapping.shape[0]):
        row = mapping[i]
        best, best_tile, best_split = np.inf, 0, 1.0
        for tile in range(TILES.shape[0]):
            if TILES[tile, 2] != row[MENU]:
                continue
            row[TILE_M], row[TILE_N] = TILES[tile, 0], TILES[tile, 1]
            # A tile twice as large as the problem only adds padding.
            if (row[TILE_M] >= 2.0 * row[M] and row[TILE_M] > 16.0) or (
                row[TILE_N] >= 2.0 * row[N] and row[TILE_N] > 16.0
            ):
                continue
            row[RESIDENT] = resident_blocks(row[TILE_M], row[TILE_N], card[REGISTERS])
            blocks = np.ceil(row[M] / row[TILE_M]) * np.ceil(row[N] / row[TILE_N]) * row[BATCH]
            for split in SPLITS:
                if split > 1.0 and (blocks * split > 4.0 * card[SM_COUNT] or row[K] < split * 256.0):
                    break
                row[SPLIT_K] = split
                time_s = product_terms(row, card, work)
                if time_s < best:
                    best, best_tile, best_split = time_s, tile, split
        row[TILE_M], row[TILE_N], row[SPLIT_K] = TILES[best_tile, 0], TILES[best_tile, 1], best_split
        row[RESIDENT] = resident_blocks(row[TILE_M], row[TILE_N], card[REGISTERS])


@njit(cache=True)
def price_products(mapping: Floats, card: Floats, work: Floats) -> None:
    """Terms and bytes of mapped products into `work`, (n, WORK_WIDTH)."""
    for i in range(mapping.shape[0]):
        product_terms(mapping[i], card, work[i])
