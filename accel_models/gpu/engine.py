"""Tiles on SMs: one compiled function prices a mapped product, another tries the tile menu with it.

The rule that combines the terms of a product:

    core    = (compute^p + smem^p + l2^p + issue^p)^(1/p)
    latency = launch + ((core + tail + imbalance + fill)⁴ + dram⁴)^¼ + link + power

The fourth root is a maximum that is soft where SM work and memory traffic are nearly equal: waves start with loads.
`core` is what the SMs need if every SM had the same share; `tail` the wait for SMs that got one tile more, `imbalance`
for SMs whose tiles hold more nonzeros, `fill` for the latency at both ends of a tile and for results that are stored
while nothing else runs on the SM. Multiplication, shared memory, L2 and decoding overlap imperfectly: warps wait on
barriers for whichever is late. p is 2 where warps load fragments themselves, and larger where the tensor cores read
shared memory on their own (Hopper and data-centre Blackwell). `power` is what a clock lowered to the power limit adds.
"""

from __future__ import annotations

import numpy as np

from accel_models.gpu.columns import Card, Map, Term
from simsparse.compiled import compiled
from simsparse.plan import Floats, Ints

# Enum members as plain integers: numba freezes them into the compiled code.
M, N, K, BATCH = int(Map.M), int(Map.N), int(Map.K), int(Map.BATCH)
RATE, EXECUTED, EFFICIENCY = int(Map.RATE), int(Map.EXECUTED), int(Map.EFFICIENCY)
A_BYTES, B_BYTES, C_BYTES = int(Map.A_BYTES), int(Map.B_BYTES), int(Map.C_BYTES)
A_STORED, B_KEPT, ISSUE, IMBALANCE = int(Map.A_STORED), int(Map.B_KEPT), int(Map.ISSUE), int(Map.IMBALANCE)
GROUP, MOST_M, THROUGH_L1 = int(Map.GROUP), int(Map.MOST_M), int(Map.THROUGH_L1)
SECOND, ROUND_S, AT_ONCE = int(Map.SECOND), int(Map.ROUND_S), int(Map.AT_ONCE)
LAUNCH_S, RASTER, MENU = int(Map.LAUNCH_S), int(Map.RASTER), int(Map.MENU)
TILE_M, TILE_N, SPLIT_K, RESIDENT = int(Map.TILE_M), int(Map.TILE_N), int(Map.SPLIT_K), int(Map.RESIDENT)
DRAM_FRACTION, B_TOUCHED, LARGEST = int(Map.DRAM_FRACTION), int(Map.B_TOUCHED), int(Map.LARGEST)
SM_COUNT, CLOCK_HZ, DRAM_RATE = int(Card.SM_COUNT), int(Card.CLOCK_HZ), int(Card.DRAM_BYTES_PER_S)
L2_BYTES, L2_RATE, SMEM_RATE = int(Card.L2_BYTES), int(Card.L2_BYTES_PER_CLOCK), int(Card.SMEM_BYTES_PER_CLOCK)
REGISTERS, FILL_S, SMEM_SHARE = int(Card.REGISTERS), int(Card.FILL_S), int(Card.SMEM_SHARE)
SMEM_BYTES = int(Card.SMEM_BYTES)
WARP_M, WARP_N = int(Card.WARP_M), int(Card.WARP_N)
MULTICAST, OVERLAP = int(Card.MULTICAST), int(Card.OVERLAP)
TDP_W, IDLE_W, WAIT_W = int(Card.TDP_W), int(Card.IDLE_W), int(Card.WAIT_W)
POWER_EXPONENT = int(Card.POWER_EXPONENT)
T_COMPUTE, T_SMEM, T_L2, T_ISSUE = int(Term.COMPUTE), int(Term.SMEM), int(Term.L2), int(Term.ISSUE)
T_DRAM, T_FILL, T_LAUNCH = int(Term.DRAM), int(Term.FILL), int(Term.LAUNCH)
T_LINK, T_POWER = int(Term.LINK), int(Term.POWER)
T_TAIL, T_IMBALANCE = int(Term.TAIL), int(Term.IMBALANCE)
# The first energies of `ENERGIES` (multiplications, shared memory, L2) go with the SM clock; the next one is spent
# while SMs wait.
ON_CLOCK = 3
# Bytes moved ride behind the terms in the row that `product_terms` fills.
W_DRAM, W_L2, W_SMEM = len(Term), len(Term) + 1, len(Term) + 2
WORK_WIDTH = len(Term) + 3

# Thread-block tiles (M, N) libraries ship (recalled). Menus: 0 tensor cores, 1 CUDA cores, 2 N:M on CUDA cores (large,
# medium and small of NM-SpMM), 3 and 4 row-split kernels on CUDA and tensor cores, whose M counts groups of rows,
# 5 SparTA.
TILES = np.array(
    [
        [256, 128, 0], [128, 256, 0], [128, 128, 0], [256, 64, 0], [64, 256, 0], [128, 64, 0], [64, 128, 0],
        [64, 64, 0], [128, 32, 0], [32, 128, 0], [32, 64, 0], [256, 16, 0], [64, 16, 0], [16, 64, 0], [16, 16, 0],
        [128, 128, 1], [128, 64, 1], [64, 128, 1], [64, 64, 1], [256, 8, 1], [32, 32, 1], [32, 8, 1], [16, 8, 1],
        [128, 64, 2], [64, 32, 2], [32, 32, 2],
        [4, 64, 3], [4, 32, 3], [4, 16, 3], [4, 8, 3],
        [4, 64, 4], [4, 32, 4], [4, 16, 4], [4, 8, 4],
        [128, 128, 5],
    ],
    dtype=np.float64,
)  # fmt: skip
TENSOR_TILES, LANE_TILES, NM_TILES, LANE_ROWS, TENSOR_ROWS, ONE_TILE = 0, 1, 2, 3, 4, 5
SPLITS = np.array([1.0, 2.0, 4.0, 8.0, 16.0])


@compiled
def resident_blocks(tile_m: float, tile_n: float, k: float, card: Floats) -> float:
    """Thread blocks an SM holds at once, eight at most.

    Registers hold fp32 accumulators, and half as many again for fragments; shared memory up to four stages of 32
    values of 16 bits along the reduction. All assumed, after CUTLASS' kernels.
    """
    by_registers = np.floor(card[REGISTERS] / (1.5 * tile_m * tile_n + 2048.0))
    by_smem = np.floor(card[SMEM_BYTES] / (2.0 * min(k, 128.0) * (tile_m + tile_n)))
    return float(min(max(min(by_registers, by_smem), 1.0), 8.0))


@compiled
def dram_bytes(row: Floats, card: Floats, blocks_m: float, blocks_n: float, at_once: float) -> float:
    """Bytes of A, B and C from and to memory.

    Blocks that run at once form a rectangle of the block grid and walk along one axis: the operand they walk along is
    read once a pass, the other stays in L2 if the rectangle's strip of it fits. A kernel without a shared raster walks
    along M, one column of blocks at a time. The shares of L2 that operands may fill are assumed.
    """
    batch, l2 = row[BATCH], card[L2_BYTES]
    a = row[M] * row[K] * row[A_STORED]
    b = row[N] * row[K] * row[B_BYTES] * row[B_TOUCHED]
    c = row[M] * row[N] * row[C_BYTES]
    if a + b <= 0.8 * l2 or min(a, b) <= 0.4 * l2:
        return float(batch * (a + b + c))
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
    return float(batch * ((min(along_m, along_n) if row[RASTER] > 0.0 else along_m) + c))


@compiled
def core_seconds(compute: float, smem: float, l2: float, issue: float, power: float) -> float:
    """`core` of the rule: `(compute^p + smem^p + l2^p + issue^p)^(1/p)` for p of 2 or 4."""
    a, b, c, d = compute * compute, smem * smem, l2 * l2, issue * issue
    return float(np.sqrt(np.sqrt(a * a + b * b + c * c + d * d)) if power > 2.0 else np.sqrt(a + b + c + d))


@compiled
def beside(on_sms: float, dram: float) -> float:
    """SM work and memory traffic, of which a little does not overlap: `(on_sms⁴ + dram⁴)^¼`."""
    a, b = on_sms * on_sms, dram * dram
    return float(np.sqrt(np.sqrt(a * a + b * b)))


@compiled
def rows_that_meet(row: Floats, card: Floats, groups: float) -> float:
    """Groups of A's rows that find in L1 what one of them fetched of B.

    Those of the block and of the other blocks of the SM that work on the same columns of B, of which those that an SM
    runs at once are spread over K: L1 holds a part of that way.
    """
    others = row[M] / row[GROUP] / card[SM_COUNT]
    held = card[SMEM_BYTES] / (row[TILE_N] * row[B_BYTES])
    return float(max(min(groups + others, row[AT_ONCE] * held / row[K]), 1.0))


@compiled
def product_terms(row: Floats, card: Floats, work: Floats, limit_s: float) -> float:
    """Fill `work` with the terms of a product at the tile in `row`; return its time before any power limit.

    Where the SMs alone take `limit_s` or longer, memory is left out: the caller has something faster already.
    """
    on_lanes, sms = row[MENU] == LANE_TILES or row[MENU] == NM_TILES or row[MENU] == LANE_ROWS, card[SM_COUNT]
    clock = card[CLOCK_HZ]
    tile_m, tile_n, split = row[TILE_M], row[TILE_N], row[SPLIT_K]
    blocks_m, blocks_n = np.ceil(row[M] / tile_m), np.ceil(row[N] / tile_n)
    blocks = blocks_m * blocks_n * row[BATCH] * split
    k = np.ceil(row[K] / split) if split > 1.0 else row[K]
    share = blocks / sms
    rounds = np.ceil(share)
    busy = min(blocks, sms)

    mma = tile_m * tile_n * k / (row[RATE] * row[EFFICIENCY] * clock)
    side_m = min(tile_m, 32.0 if on_lanes else card[WARP_M])
    side_n = min(tile_n, 64.0 if on_lanes else card[WARP_N])
    warps = np.ceil(tile_m / side_m) * np.ceil(tile_n / side_n)
    # A tile loads what any of its groups needs, a warp reads what each of its own groups needs.
    groups = max(tile_m / row[GROUP], 1.0)
    meet = rows_that_meet(row, card, groups) if row[THROUGH_L1] > 0.0 else groups
    union = (1.0 - (1.0 - row[B_KEPT]) ** meet) * groups / meet if row[B_KEPT] < 1.0 else 1.0
    # What lies beyond the matrix is not loaded.
    load = (min(tile_m, row[M]) * row[A_BYTES] + min(tile_n, row[N]) * row[B_BYTES] * union) * k
    read = row[B_BYTES] * row[B_KEPT] * max(side_m / row[GROUP], 1.0)
    smem_bytes = warps * (side_m * row[A_BYTES] + side_n * read) * k
    # What is gathered through L1 is not written to shared memory first.
    gathered = row[THROUGH_L1] > 0.0
    smem_bytes += 0.0 if gathered else load
    smem = smem_bytes / (card[SMEM_RATE] * card[SMEM_SHARE] * (row[THROUGH_L1] if gathered else 1.0) * clock)
    stored = tile_m * tile_n * row[C_BYTES]
    # Blocks of a cluster share one operand, the more of them there are.
    shared = 2.0 * blocks_m * blocks_n / (blocks_m * blocks_n + 1.0)
    l2_bytes = load / (min(card[MULTICAST], shared) if row[MENU] == TENSOR_TILES else 1.0) + stored
    # An SM takes at most 64 bytes a clock (recalled, since Volta); all of them share what L2 delivers.
    l2 = l2_bytes / (min(64.0, card[L2_RATE] / busy) * clock)
    issue = tile_m * k * row[ISSUE] / clock

    core = core_seconds(mma, smem, l2, issue, card[OVERLAP])
    # Resident blocks begin and end together, and only the last round's results are waited for. They go to L2 if it has
    # room for them: a quarter of it, assumed.
    together = busy * stored
    rate = card[L2_RATE] * clock if together <= 0.25 * card[L2_BYTES] else card[DRAM_RATE] * row[DRAM_FRACTION]
    # Blocks of single rows are so many that some always work while others wait.
    waits = 1.0 if row[THROUGH_L1] > 0.0 else np.ceil(rounds / row[RESIDENT])
    wait = waits * (row[ROUND_S] if row[ROUND_S] > 0.0 else card[FILL_S])
    if gathered and row[ROUND_S] > 0.0:
        # A chain of loads along a row is waited for only beyond what other rows do in the meantime.
        wait = max(wait - rounds * core, 0.0)
    fill = wait + together / rate
    if split > 1.0:
        # Partial sums go to L2 in fp32 and come back, in a kernel of its own.
        fill += row[M] * row[N] * row[BATCH] * split * 8.0 / (card[L2_RATE] * clock) + 0.5 * row[LAUNCH_S]
    fill += row[M] * row[K] * row[BATCH] * row[SECOND] / (sms * clock)
    on_sms = rounds * core * row[IMBALANCE] + fill
    if row[LAUNCH_S] + on_sms >= limit_s:
        return float(row[LAUNCH_S] + on_sms)
    traffic = dram_bytes(row, card, blocks_m, blocks_n, min(busy * row[RESIDENT], blocks))
    dram = traffic / (card[DRAM_RATE] * row[DRAM_FRACTION])

    work[T_COMPUTE], work[T_SMEM], work[T_L2], work[T_ISSUE] = share * mma, share * smem, share * l2, share * issue
    work[T_DRAM], work[T_FILL], work[T_LAUNCH] = dram, fill, row[LAUNCH_S]
    work[T_TAIL] = (rounds - share) * core
    work[T_IMBALANCE] = rounds * core * (row[IMBALANCE] - 1.0)
    work[T_LINK] = work[T_POWER] = 0.0
    work[W_DRAM], work[W_L2], work[W_SMEM] = traffic, blocks * l2_bytes, blocks * smem_bytes
    return float(row[LAUNCH_S] + beside(on_sms, dram))


@compiled
def least_seconds(row: Floats, card: Floats) -> float:
    """What no tile can beat: the multiplications on all SMs, or the operands once from memory."""
    macs = row[M] * row[N] * row[K] * row[BATCH]
    mma = macs / (row[RATE] * row[EFFICIENCY] * card[CLOCK_HZ] * card[SM_COUNT])
    moved = row[M] * row[K] * row[A_STORED] + row[N] * row[K] * row[B_BYTES] * row[B_TOUCHED]
    return float(row[LAUNCH_S] + max(mma, row[BATCH] * moved / (card[DRAM_RATE] * row[DRAM_FRACTION])))


@compiled
def tile_rows(tile: int, row: Floats) -> float:
    """Rows of A of a tile of the menu."""
    return float(TILES[tile, 0] * (row[GROUP] if TILES[tile, 2] == LANE_ROWS or TILES[tile, 2] == TENSOR_ROWS else 1.0))


@compiled
def choose_tiles(mapping: Floats, card: Floats, limit_s: Floats) -> Floats:
    """Set tile, split and resident blocks of every row to the fastest of the row's menu, in place.

    Returns the time of each, (n,); infinity, with tiles left open, where no tile can beat `limit_s`.
    """
    work = np.empty(WORK_WIDTH)
    times = np.empty(mapping.shape[0])
    for i in range(mapping.shape[0]):
        row = mapping[i]
        times[i] = np.inf
        if least_seconds(row, card) >= limit_s[i]:
            continue
        best, best_tile, best_split = np.inf, -1, 1.0
        for tile in range(TILES.shape[0]):
            if TILES[tile, 2] != row[MENU]:
                continue
            tile_m, tile_n = tile_rows(tile, row), TILES[tile, 1]
            if tile_m > row[MOST_M]:
                continue
            # A tile twice as large as the problem only adds padding.
            padded = (tile_m >= 2.0 * row[M] and tile_m > 16.0) or (tile_n >= 2.0 * row[N] and tile_n > 16.0)
            if padded and row[MENU] != ONE_TILE:
                continue
            row[TILE_M], row[TILE_N] = tile_m, tile_n
            row[RESIDENT] = resident_blocks(tile_m, tile_n, row[K], card)
            blocks = np.ceil(row[M] / tile_m) * np.ceil(row[N] / tile_n) * row[BATCH]
            # Who takes the largest tile that fills the SMs splits the reduction only if none does. That parts are 256
            # long at least, and four rounds of blocks at most, is assumed.
            most_blocks = card[SM_COUNT] * (4.0 if row[LARGEST] == 0.0 or blocks < card[SM_COUNT] else 0.0)
            for split in SPLITS:
                if split > 1.0 and (row[MENU] > LANE_TILES or blocks * split > most_blocks or row[K] < split * 256.0):
                    break
                row[SPLIT_K] = split
                time_s = product_terms(row, card, work, best)
                if time_s < best:
                    best, best_tile, best_split = time_s, tile, split
            if row[LARGEST] > 0.0 and blocks >= card[SM_COUNT]:
                break
        row[TILE_M], row[TILE_N], row[SPLIT_K] = tile_rows(best_tile, row), TILES[best_tile, 1], best_split
        row[RESIDENT] = resident_blocks(row[TILE_M], row[TILE_N], row[K], card)
        times[i] = best
    return times


@compiled
def price_products(mapping: Floats, card: Floats, work: Floats) -> None:
    """Terms and bytes of mapped products into `work`, (n, WORK_WIDTH)."""
    for i in range(mapping.shape[0]):
        product_terms(mapping[i], card, work[i], np.inf)


@compiled
def waiting_seconds(core: float, dram: float, busy_s: float, clock: float) -> float:
    """How long SMs hold work and are not busy with it, at a fraction of the clock; launches and links left out."""
    return float(max(beside(core / clock, dram) - busy_s / clock, 0.0))


@compiled
def clock_that_fits(
    row: Floats, busy_s: float, card: Floats, core: float, on_clock: float, others: float
) -> float:  # fmt: skip
    """Fraction of the clock at which mean power fits, by bisection; at least a tenth.

    A lower clock stretches what runs on the SMs, whose energy falls with the voltage; memory keeps its pace and energy.
    """
    low, high = 0.1, 1.0
    room_w, exponent = card[TDP_W] - card[IDLE_W], card[POWER_EXPONENT]
    around = row[T_LAUNCH] + row[T_LINK]
    for _ in range(40):
        clock = 0.5 * (low + high)
        energy = on_clock * clock ** (exponent - 1.0) + others
        energy += card[WAIT_W] * clock**exponent * waiting_seconds(core, row[T_DRAM], busy_s, clock)
        if energy > room_w * (around + beside(core / clock, row[T_DRAM])):
            high = clock
        else:
            low = clock
    return low


@compiled
def combine(
    work: Floats, busy_s: Floats, energies: Floats, card: Floats, latency_s: Floats, dynamic_j: Floats, bound: Ints
) -> None:  # fmt: skip
    """Apply the rule and the power limit to calls of any kind, in place.

    Parameters
    ----------
    work : (n, WORK_WIDTH) ndarray
        Terms; the power term is filled in here.
    busy_s : (n,) ndarray
        How long the SMs multiply, or hold no work; else they wait.
    energies : (n, len(ENERGIES)) ndarray
        Dynamic energies at the full clock, scaled down here; those of waiting and of the idle card are filled in.
    latency_s, dynamic_j, bound : (n,) ndarray
        Results.
    """
    room_w = card[TDP_W] - card[IDLE_W]
    last = energies.shape[1] - 1
    for i in range(work.shape[0]):
        row = work[i]
        core = core_seconds(row[T_COMPUTE], row[T_SMEM], row[T_L2], row[T_ISSUE], card[OVERLAP])
        core += row[T_TAIL] + row[T_IMBALANCE] + row[T_FILL]
        around = row[T_LAUNCH] + row[T_LINK]
        time_s = around + beside(core, row[T_DRAM])
        wait = card[WAIT_W] * waiting_seconds(core, row[T_DRAM], busy_s[i], 1.0)
        on_clock = 0.0
        for j in range(ON_CLOCK):
            on_clock += energies[i, j]
        others = 0.0
        for j in range(ON_CLOCK + 1, last):
            others += energies[i, j]
        if on_clock + wait + others > room_w * time_s:
            clock = clock_that_fits(row, busy_s[i], card, core, on_clock, others)
            slower_s = around + beside(core / clock, row[T_DRAM])
            row[T_POWER] = slower_s - time_s
            time_s = slower_s
            wait = card[WAIT_W] * clock ** card[POWER_EXPONENT] * waiting_seconds(core, row[T_DRAM], busy_s[i], clock)
            scale = clock ** (card[POWER_EXPONENT] - 1.0)
            for j in range(ON_CLOCK):
                energies[i, j] *= scale
            on_clock *= scale
        energies[i, ON_CLOCK] = wait
        energies[i, last] = card[IDLE_W] * time_s
        latency_s[i], dynamic_j[i] = time_s, on_clock + wait + others
        bound[i] = T_POWER if row[T_POWER] > 0.0 else np.argmax(row[:T_POWER])
