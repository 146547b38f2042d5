"""What mapped calls cost on one card: products through the compiled engine, the rest in a few array operations."""

from __future__ import annotations

import numpy as np

from accel_models.gpu.columns import ENERGIES, LEVELS, TERMS, Card, Map, Term
from accel_models.gpu.engine import LANE_ROWS, LANE_TILES, NM_TILES, WORK_WIDTH, combine, price_products
from simsparse.machine import is_any
from simsparse.ops import TransferKind
from simsparse.plan import Floats, Prices, ProblemColumn, ProblemKind, TrainStage

C = ProblemColumn
# Queries of one thread block (FlashAttention-2's, recalled), and the fewest cached tokens of a part where a decode
# splits its cache (assumed).
QUERY_BLOCK, SPLIT_KEYS = 128.0, 256.0
# Kernels of a gate: pool queries, pool keys, multiply, choose (assumed).
GATE_LAUNCHES = 4.0
_HOST = list(TransferKind).index(TransferKind.HOST_DEVICE)
_ALL_REDUCE = list(TransferKind).index(TransferKind.ALL_REDUCE)
_DRAM, _L2, _SMEM = (LEVELS.index(name) for name in ("dram", "l2", "smem"))
_BYTE_ENERGY = {_DRAM: Card.DRAM_J_PER_BYTE, _L2: Card.L2_J_PER_BYTE, _SMEM: Card.SMEM_J_PER_BYTE}
_POINT = list(TransferKind).index(TransferKind.POINT_TO_POINT)


class Work:
    """Arrays filled kind by kind; `terms` holds the terms, then the bytes of each level."""

    def __init__(self, count: int) -> None:
        self.terms = np.zeros((count, WORK_WIDTH))
        self.link_bytes = np.zeros(count)
        self.macs = np.zeros(count)
        self.on_lanes = np.zeros(count, dtype=bool)
        self.flops = np.zeros(count)
        self.compulsory_bytes = np.zeros(count)


def price(problem: Floats, mapping: Floats, card: Floats, mac_j: Floats, peak_macs_per_s: Floats) -> Prices:
    """Price n calls.

    Parameters
    ----------
    problem : (n, PROBLEM_WIDTH) ndarray
    mapping : (n, MAP_WIDTH) ndarray
    card : (CARD_WIDTH,) ndarray
    mac_j : (3, len(COMPUTE_TYPES)) ndarray
        Energy of a multiply-accumulate: on tensor cores with 32 and with 16 accumulator bits, on CUDA cores.
    peak_macs_per_s : (n,) ndarray
        Highest rate any kernel of the card could reach on the call, for the roofline.
    """
    work = Work(len(problem))
    kind = problem[:, C.KIND]
    for which, fill in (
        (ProblemKind.GEMM, _products), (ProblemKind.ATTENTION, _attention),
        (ProblemKind.STREAM, _streams), (ProblemKind.TRANSFER, _transfers),
    ):  # fmt: skip
        rows = np.flatnonzero(kind == which)
        if rows.size == len(problem):
            fill(work, rows, problem, mapping, card)
        elif rows.size:
            fill(work, rows, problem[rows], mapping[rows], card)
    work.terms[:, Term.LAUNCH] += mapping[:, Map.WAIT_S]
    return _finish(work, problem, card, mac_j, peak_macs_per_s)


def _products(work: Work, rows: np.ndarray, problem: Floats, mapping: Floats, card: Floats) -> None:
    filled = np.empty((rows.size, WORK_WIDTH))
    price_products(np.ascontiguousarray(mapping), card, filled)
    extra = problem[:, C.READ_BYTES] + problem[:, C.WRITE_BYTES]
    shared = 1.0 - 1.0 / problem[:, C.CONV_REUSE]
    # A convolution reads each pixel once; the tiles' walk over the unrolled matrix stays in L2.
    extra = extra - shared * mapping[:, Map.N] * mapping[:, Map.K] * mapping[:, Map.B_BYTES] * mapping[:, Map.BATCH]
    moved = np.maximum(filled[:, len(TERMS) + _DRAM] + extra, 0.0)
    filled[:, len(TERMS) + _DRAM] = moved
    filled[:, Term.DRAM] = moved / (card[Card.DRAM_BYTES_PER_S] * mapping[:, Map.DRAM_FRACTION])
    work.terms[rows] = filled
    dense = problem[:, C.BATCH] * problem[:, C.M] * problem[:, C.N] * problem[:, C.K]
    done = mapping[:, Map.BATCH] * mapping[:, Map.M] * mapping[:, Map.N] * mapping[:, Map.K]
    cut = done < dense
    work.flops[rows] = 2.0 * dense
    work.on_lanes[rows] = is_any(mapping[:, Map.MENU], (LANE_TILES, NM_TILES, LANE_ROWS))
    work.macs[rows] = np.where(cut, done, dense * mapping[:, Map.EXECUTED])
    stored = mapping[:, Map.M] * mapping[:, Map.K] * mapping[:, Map.A_STORED]
    once = mapping[:, Map.N] * mapping[:, Map.K] * mapping[:, Map.B_BYTES] * mapping[:, Map.B_TOUCHED]
    out = mapping[:, Map.M] * mapping[:, Map.N] * mapping[:, Map.C_BYTES]
    work.compulsory_bytes[rows] = np.maximum(mapping[:, Map.BATCH] * (stored + once + out) + extra, 0.0)


def _attention(work: Work, rows: np.ndarray, problem: Floats, mapping: Floats, card: Floats) -> None:
    batch, keys, queries = (problem[:, c] for c in (C.BATCH, C.M, C.N))
    sizes = problem[:, C.K] + problem[:, C.VALUE_SIZE]
    executed, read = mapping[:, Map.EXECUTED], mapping[:, Map.B_KEPT]
    clock, sms = card[Card.CLOCK_HZ], card[Card.SM_COUNT]
    blocks = np.ceil(queries / QUERY_BLOCK)
    # Decode splits the cache over SMs (flash-decoding), so that blocks are never fewer than SMs for long caches.
    splits = np.clip(np.floor(sms / (batch * blocks)), 1.0, np.maximum(1.0, np.floor(keys / SPLIT_KEYS)))
    share = batch * blocks * splits / sms
    padded = blocks * np.minimum(QUERY_BLOCK, np.ceil(queries / 16.0) * 16.0)
    # The backward pass makes the scores again and has four products of its own where the forward has two.
    backward = is_any(problem[:, C.TRAIN_STAGE], (TrainStage.INPUT_GRADIENT, TrainStage.WEIGHT_GRADIENT))
    passes = np.where(backward, 2.5, 1.0)
    macs = batch * padded * keys * sizes * executed * passes
    core_s = macs / (mapping[:, Map.RATE] * mapping[:, Map.EFFICIENCY] * sms * clock)
    issue_s = batch * padded * keys * executed * mapping[:, Map.ISSUE] * passes / (sms * clock)
    # Backward, keys, values, queries and outputs are read, and as many gradients written.
    both = np.where(backward, 2.0, 1.0)
    cache = batch * keys * sizes * mapping[:, Map.A_BYTES] * read * both
    ends = batch * queries * sizes * mapping[:, Map.C_BYTES] * both
    # A block passes over the whole cache, or over the part its causal mask leaves.
    l2 = cache * blocks * np.where(blocks > 1, problem[:, C.NEEDED], 1.0) + ends
    gated = mapping[:, Map.SECOND] > 0.0
    chosen = gated * batch * (keys + queries) * problem[:, C.K] * mapping[:, Map.A_BYTES]
    dram = cache + ends + chosen + problem[:, C.READ_BYTES] + problem[:, C.WRITE_BYTES]
    terms = work.terms
    terms[rows, Term.COMPUTE], terms[rows, Term.ISSUE] = core_s, issue_s
    terms[rows, Term.L2] = l2 / (card[Card.L2_BYTES_PER_CLOCK] * clock)
    terms[rows, Term.DRAM] = dram / (card[Card.DRAM_BYTES_PER_S] * mapping[:, Map.DRAM_FRACTION])
    terms[rows, Term.TAIL] = np.maximum(core_s, issue_s) * (np.ceil(share) / share - 1.0)
    # Blocks of queries that look up which blocks they need wait in every round.
    terms[rows, Term.FILL] = card[Card.FILL_S] * (1.0 + (splits > 1)) + mapping[:, Map.ROUND_S] * np.ceil(share)
    terms[rows, Term.LAUNCH] = mapping[:, Map.LAUNCH_S] * (1.0 + GATE_LAUNCHES * gated)
    terms[rows, len(TERMS) + _DRAM], terms[rows, len(TERMS) + _L2] = dram, l2
    work.macs[rows] = macs
    work.flops[rows] = 2.0 * batch * queries * keys * sizes * both
    work.compulsory_bytes[rows] = dram


def _streams(work: Work, rows: np.ndarray, problem: Floats, mapping: Floats, card: Floats) -> None:
    moved = np.maximum(problem[:, C.READ_BYTES] + problem[:, C.WRITE_BYTES], 0.0)
    # What the kernel before left in L2 is not read from memory again; half of it stays, assumed.
    cached = moved <= 0.5 * card[Card.L2_BYTES]
    dram = np.where(cached, 0.0, moved)
    work.terms[rows, Term.L2] = moved / (card[Card.L2_BYTES_PER_CLOCK] * card[Card.CLOCK_HZ])
    work.terms[rows, Term.DRAM] = dram / (card[Card.DRAM_BYTES_PER_S] * mapping[:, Map.DRAM_FRACTION])
    cycles = problem[:, C.STREAM_FLOPS] * mapping[:, Map.ISSUE]
    work.terms[rows, Term.ISSUE] = cycles / (card[Card.SM_COUNT] * card[Card.CLOCK_HZ])
    work.terms[rows, Term.FILL] = card[Card.FILL_S]
    work.terms[rows, Term.LAUNCH] = mapping[:, Map.LAUNCH_S]
    work.terms[rows, len(TERMS) + _DRAM], work.terms[rows, len(TERMS) + _L2] = dram, moved
    work.compulsory_bytes[rows] = dram


def _transfers(work: Work, rows: np.ndarray, problem: Floats, mapping: Floats, card: Floats) -> None:
    which, devices = problem[:, C.TRANSFER_KIND], np.maximum(problem[:, C.DEVICES], 1.0)
    # A ring passes each byte (d-1)/d times over a link, twice for an all-reduce.
    ring = (devices - 1.0) / devices * np.where(which == _ALL_REDUCE, 2.0, 1.0)
    moved = problem[:, C.READ_BYTES] * np.where((which == _HOST) | (which == _POINT), 1.0, ring)
    rate = np.where(which == _HOST, card[Card.HOST_BYTES_PER_S], card[Card.LINK_BYTES_PER_S])
    work.terms[rows, Term.LINK] = moved / (rate * mapping[:, Map.DRAM_FRACTION])
    work.terms[rows, Term.LAUNCH] = mapping[:, Map.LAUNCH_S]
    work.link_bytes[rows] = moved


def _finish(work: Work, problem: Floats, card: Floats, mac_j: Floats, peak_macs_per_s: Floats) -> Prices:
    """Combine terms by the rule of `engine`, apply the power limit, add up energy."""
    count = len(problem)
    units = np.where(work.on_lanes, 2, (problem[:, C.ACCUMULATE_BITS] == 16).astype(np.int64))
    energies = np.empty((count, len(ENERGIES)))
    energies[:, 0] = work.macs * mac_j[units, problem[:, C.COMPUTE].astype(np.int64)]
    for column, level in ((1, _SMEM), (2, _L2), (4, _DRAM)):
        energies[:, column] = work.terms[:, len(TERMS) + level] * card[_BYTE_ENERGY[level]]
    energies[:, 5] = work.link_bytes * card[Card.LINK_J_PER_BYTE]
    latency_s, dynamic_j, bound = np.empty(count), np.empty(count), np.empty(count, dtype=np.int64)
    # What CUDA cores issue beside multiplications is in the energy of these; a tensor core needs next to nothing.
    # In the tail most SMs hold no work.
    loop = work.terms[:, [Term.COMPUTE, Term.SMEM, Term.L2, Term.ISSUE]]
    busy_s = np.where(work.on_lanes, np.sqrt(np.sum(loop**2, axis=1)), loop[:, 0])
    busy_s += work.terms[:, Term.TAIL] + work.terms[:, Term.IMBALANCE]
    combine(work.terms, busy_s, energies, card, latency_s, dynamic_j, bound)
    ideal_s = np.maximum(work.macs / peak_macs_per_s, work.compulsory_bytes / card[Card.DRAM_BYTES_PER_S])
    return Prices(
        latency_s=latency_s,
        energy_j=dynamic_j + energies[:, -1],
        dynamic_j=dynamic_j,
        terms_s=work.terms[:, : len(TERMS)],
        bound=bound,
        level_bytes=work.terms[:, len(TERMS) :],
        roofline_s=ideal_s,
        flops=work.flops,
        energy_terms_j=energies,
        term_names=TERMS,
        level_names=LEVELS,
        energy_names=ENERGIES,
    )
