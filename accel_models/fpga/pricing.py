"""What scheduled calls cost, in closed form over arrays.

The rule that combines the terms of a call, with double buffering:

    latency = max(head + array + skew + starved + tail, dram, vector, update, reduction) + online
    array   = compute + padding + dependency + exchange

Memory and the engines beside the array work while it does, tile by tile: while a tile is computed the next is loaded
and the output before stored, and what these take longer is `starved`, summed over tiles. So an operand that stays,
which is loaded in a burst, holds up the array although memory is fast enough on the whole. `head` is the memory time of
the first tiles, before anything runs, and `tail` what the last takes to leave. `reduction` is the engine beside an
update; `online` is the time in which N:M copies of what nobody made ahead are made, before the product starts. Without
double buffering nothing overlaps: `array + skew + dram + vector + update + reduction + online`.

A call is bound by the largest part of the sum that is the latency; but by memory or an engine, if it takes longer than
array and skew: whatever holds up the chain then comes from there.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from accel_models.fpga import streams
from accel_models.fpga._tiling import paced_all
from accel_models.fpga.columns import Mapping, Product
from accel_models.fpga.generation import engine_cycles
from accel_models.fpga.kernels import reuse, stored_bytes
from accel_models.fpga.spec import Hardware
from simsparse.plan import Floats, Ints, Prices, ProblemColumn, ProblemKind

C = ProblemColumn
H = Hardware


class Term(IntEnum):
    """Columns of `Prices.terms_s`."""

    COMPUTE = 0  # the multiply-accumulates that the pattern leaves, on all elements
    PADDING = 1  # idle rows and columns, groups that M does not divide
    DEPENDENCY = 2  # waits for the sum of the same output
    EXCHANGE = 3  # weights or sums that did not move in time
    SKEW = 4
    HEAD = 5
    STARVED = 6  # waits for tiles, where loading one takes longer than computing another
    TAIL = 7
    DRAM = 8
    VECTOR = 9
    UPDATE = 10
    REDUCTION = 11
    ONLINE = 12


TERM_NAMES = tuple(term.name.lower() for term in Term)
ARRAY = slice(Term.COMPUTE, Term.SKEW + 1)
CHAIN = slice(Term.COMPUTE, Term.TAIL + 1)
BESIDE = slice(Term.DRAM, Term.REDUCTION + 1)
LEVEL_NAMES = ("dram", "bram")
ENERGY_NAMES = ("arithmetic", "bram", "dram", "static", "clock")


def price(hardware: Floats, problem: Floats, mapping: Floats) -> Prices:
    """What mapped rows cost on machines of `hardware` (one row for all, or one each)."""
    hw = hardware.T[:, :, None].reshape(len(Hardware), -1)
    gemm = problem[:, C.KIND] == ProblemKind.GEMM
    batch, n = problem[:, C.BATCH], problem[:, C.N]
    macs = np.where(gemm, batch * problem[:, C.M] * n * problem[:, C.K], 0.0)
    fraction = np.where(gemm, mapping[:, Mapping.KEPT] / np.maximum(mapping[:, Mapping.GROUP], 1.0), 0.0)
    executed = np.where(gemm, batch * mapping[:, Mapping.M] * n * mapping[:, Mapping.K], 0.0) * fraction
    stored = stored_bytes(problem, mapping)
    read = mapping[:, Mapping.A_BYTES] + mapping[:, Mapping.B_BYTES] + problem[:, C.READ_BYTES]
    made = mapping[:, Mapping.REDUCTION_READ_BYTES] + mapping[:, Mapping.REDUCTION_WRITE_BYTES]
    dram_bytes = read + stored + made
    bram_bytes = mapping[:, Mapping.BRAM_BYTES] + 2.0 * np.abs(dram_bytes)

    terms = _terms(hw, gemm, problem, mapping, executed, read, stored)
    latency, bound = combine(terms, hw[H.DOUBLE] > 0)
    flops_each = problem[:, C.STREAM_FLOPS]
    energy = np.empty((len(problem), len(ENERGY_NAMES)))
    energy[:, 0] = (executed + flops_each) * hw[H.MAC_J]
    energy[:, 1] = bram_bytes * hw[H.BRAM_J]
    energy[:, 2] = dram_bytes * hw[H.DRAM_J]
    energy[:, 3] = latency * hw[H.STATIC_W]
    energy[:, 4] = latency * hw[H.CLOCKED_W]
    dynamic = energy[:, 0] + energy[:, 1] + energy[:, 2]
    peak = hw[H.ROWS] * hw[H.COLS] * hw[H.CLOCK_HZ]
    compulsory = _operand_bytes(problem, mapping, fraction) + problem[:, C.READ_BYTES] + stored
    # An update that makes N:M copies in place of the weights writes less.
    compulsory += np.minimum(mapping[:, Mapping.REDUCTION_WRITE_BYTES], 0.0)
    return Prices(
        latency_s=latency,
        energy_j=dynamic + energy[:, 3] + energy[:, 4],
        dynamic_j=dynamic,
        terms_s=terms,
        bound=bound,
        level_bytes=np.stack([dram_bytes, bram_bytes], axis=1),
        roofline_s=np.maximum(executed / peak, compulsory / (hw[H.DRAM_PEAK_BYTES_PER_CYCLE] * hw[H.CLOCK_HZ])),
        flops=2.0 * macs,
        energy_terms_j=energy,
        term_names=TERM_NAMES,
        level_names=LEVEL_NAMES,
        energy_names=ENERGY_NAMES,
    )


def _terms(
    hw: Floats, gemm: NDArray[np.bool_], problem: Floats, mapping: Floats, executed_macs: Floats, read: Floats,
    stored: Floats,
) -> Floats:  # fmt: skip
    """Seconds of each term, (n, len(Term))."""
    cycles = np.zeros((len(problem), len(Term)))
    useful = executed_macs / (hw[H.ROWS] * hw[H.COLS])
    array, issue, stall = (mapping[:, m] for m in (Mapping.ARRAY_CYCLES, Mapping.ISSUE_CYCLES, Mapping.STALL_CYCLES))
    worked, renews = streams.worked_cycles(hw, problem), streams.renews(problem) > 0
    for term, value in (
        (Term.COMPUTE, useful), (Term.PADDING, issue - useful), (Term.DEPENDENCY, stall),
        (Term.EXCHANGE, array - issue - stall), (Term.SKEW, mapping[:, Mapping.SKEW_CYCLES]),
        (Term.VECTOR, np.where(renews, 0.0, worked)), (Term.UPDATE, np.where(renews, worked, 0.0)),
    ):  # fmt: skip
        cycles[:, term] = value
    for rows, fill in ((gemm, _products), (~gemm, _streams)):
        if rows.any():
            own = np.broadcast_to(hw, (len(Hardware), len(problem)))[:, rows]
            fill(own, rows, problem[rows], mapping[rows], (read[rows], stored[rows]), cycles)
    # Differences of counts may round below zero.
    seconds: Floats = np.maximum(cycles, 0.0) / np.broadcast_to(hw[H.CLOCK_HZ], len(problem))[:, None]
    return seconds


def _streams(
    hw: Floats, rows: NDArray[np.bool_], problem: Floats, mapping: Floats, moved: tuple[Floats, Floats], out: Floats
) -> None:
    """Head, starved and tail of streams, memory, and the reduction engine beside them."""
    read, write = moved[0], np.maximum(moved[1] + mapping[:, Mapping.REDUCTION_WRITE_BYTES], 0.0)
    pieces = streams.pieces_of(read, write)
    making = engine_cycles(hw, mapping)
    chain = streams.ends(hw, (read, write), (streams.worked_cycles(hw, problem), making), pieces)
    out[rows, Term.HEAD : Term.DRAM] = chain * hw[H.DOUBLE][:, None]
    out[rows, Term.DRAM] = pieces * (
        streams.moving_cycles(hw, read / pieces) + streams.moving_cycles(hw, write / pieces)
    )
    out[rows, Term.REDUCTION] = making


def _products(
    hw: Floats, rows: NDArray[np.bool_], problem: Floats, x: Floats, moved: tuple[Floats, Floats], out: Floats
) -> None:
    """Head, starved and tail of products, memory, and N:M copies made before."""
    product, gap = _with_epilogues(problem, x), hw[H.GAP_BYTES]
    read, stored = moved
    outputs = problem[:, C.BATCH] * x[:, Mapping.TILES_M] * x[:, Mapping.TILES_N]
    bursts = outputs * (x[:, Mapping.TILES_K] + (stored > 0))
    out[rows, Term.DRAM] = (read + stored + bursts * gap) / hw[H.DRAM_BYTES_PER_CYCLE]
    out[rows, Term.HEAD : Term.DRAM] = _ends_of_products(hw, problem, product, x) * hw[H.DOUBLE][:, None]

    online = x[:, Mapping.REDUCTION_READ_BYTES], x[:, Mapping.REDUCTION_WRITE_BYTES]
    pieces, making = streams.pieces_of(*online), engine_cycles(hw, x)
    overlapped = streams.ends(hw, online, (np.zeros(len(x)), making), pieces).sum(axis=1)
    apart = making + pieces * sum(streams.moving_cycles(hw, part / pieces) for part in online)
    out[rows, Term.ONLINE] = np.where(hw[H.DOUBLE] > 0, overlapped, apart)


def _ends_of_products(hw: Floats, problem: Floats, product: Floats, x: Floats) -> Floats:
    """Cycles of head, starved and tail, (n, 3)."""
    pace = np.empty((len(product), 2))
    paced_all(np.ascontiguousarray(hw.T), product, x, pace)
    starved = np.maximum(pace[:, 0] - x[:, Mapping.ARRAY_CYCLES] - x[:, Mapping.SKEW_CYCLES], 0.0)
    last_m = x[:, Mapping.M] - (x[:, Mapping.TILES_M] - 1.0) * x[:, Mapping.TILE_M]
    last = last_m * (problem[:, C.N] - (x[:, Mapping.TILES_N] - 1.0) * x[:, Mapping.TILE_N])
    # What an epilogue reads comes with the last step of an output.
    fused = np.where(x[:, Mapping.TILES_K] == 1, product[:, Product.FUSED_BYTES], 0.0)
    first = x[:, Mapping.A_TILE_BYTES] + x[:, Mapping.B_TILE_BYTES]
    head = streams.moving_cycles(hw, first + x[:, Mapping.TILE_M] * x[:, Mapping.TILE_N] * fused)
    elementwise = problem[:, C.STREAM_FLOPS] / _outputs(problem, x) / hw[H.VECTOR_OPS]
    # While the output before the last is still being stored, the vector engine works on the last one.
    worked = np.maximum(last * elementwise - pace[:, 1], 0.0)
    tail = worked + streams.moving_cycles(hw, last * product[:, Product.C_BYTES])
    cycles: Floats = np.stack([head, starved, tail], axis=1)
    return cycles


def _outputs(problem: Floats, mapping: Floats) -> Floats:
    """Values of the output that products compute."""
    count: Floats = problem[:, C.BATCH] * mapping[:, Mapping.M] * problem[:, C.N]
    return count


def _with_epilogues(problem: Floats, x: Floats) -> Floats:
    """Mapped products as the schedule had them, with the bytes of what is fused to them, (n, len(Product))."""
    a_tile = x[:, Mapping.TILE_M] * np.ceil(x[:, Mapping.TILE_K] / x[:, Mapping.GROUP])
    outputs = _outputs(problem, x)
    product = np.zeros((len(problem), len(Product)))
    for column, value in (
        (Product.BATCH, problem[:, C.BATCH]), (Product.M, x[:, Mapping.M]), (Product.N, problem[:, C.N]),
        (Product.K, x[:, Mapping.K]), (Product.KEPT, x[:, Mapping.KEPT]), (Product.GROUP, x[:, Mapping.GROUP]),
        (Product.A_READ_BYTES, x[:, Mapping.A_TILE_BYTES] / a_tile),
        (Product.B_BYTES, x[:, Mapping.B_TILE_BYTES] / (x[:, Mapping.TILE_N] * x[:, Mapping.TILE_K])),
        (Product.C_BYTES, stored_bytes(problem, x) / outputs),
        (Product.FUSED_BYTES, problem[:, C.READ_BYTES] / outputs),
    ):  # fmt: skip
        product[:, column] = value
    return product


def combine(terms: Floats, double: NDArray[np.bool_]) -> tuple[Floats, Ints]:
    """Latency and bound by the rule of the module."""
    chain, array = terms[:, CHAIN].sum(axis=1), terms[:, ARRAY].sum(axis=1)
    beside = terms[:, BESIDE]
    overlapped = np.maximum(chain, beside.max(axis=1))
    apart = chain + beside.sum(axis=1)
    latency = np.where(double, overlapped, apart) + terms[:, Term.ONLINE]
    # With overlap either the array or the longest beside it bounds, though the chain that it holds up is longer still.
    counted = terms.copy()
    by_array = ~double | (array >= beside.max(axis=1))
    counted[:, BESIDE] *= (~double | ~by_array)[:, None]
    counted[:, CHAIN] *= by_array[:, None]
    return latency, np.argmax(counted, axis=1).astype(np.int64)


def _operand_bytes(problem: Floats, mapping: Floats, fraction: Floats) -> Floats:
    """Bytes of the distinct operands of products, kept weights without indices; 0 of streams."""
    m, n, k = mapping[:, Mapping.M], problem[:, C.N], mapping[:, Mapping.K]
    a = m * k * fraction * problem[:, C.A_BITS]
    b = k * n * problem[:, C.B_BITS] / reuse(problem)
    total: Floats = problem[:, C.BATCH] * (a + b) / 8
    return total
