"""The accelerator as a machine: schedules of products, priced in closed form over arrays.

The rule that combines the terms of a call, with double buffering:

    latency = max(head + array + skew + starved + tail, dram, vector, update) + reduction
    array   = compute + padding + dependency + exchange

Memory, vector engine and update engine work while the array does, tile by tile: while a tile is computed the next is
loaded and the output before stored, and what these take longer is `starved`, summed over tiles. So an operand that
stays, which is loaded in a burst, holds up the array although memory is fast enough on the whole. `head` is the memory
time of the first tiles, before anything runs, and `tail` what the last takes to leave. `reduction` is the part of
making N:M weights that nothing hides. Without double buffering nothing overlaps: `array + skew + dram + vector +
update + reduction`.

A call is bound by the largest part of the sum that is the latency; but by memory or an engine, if it takes longer than
array and skew: whatever holds up the chain then comes from there.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from accel_models.fpga._schedule import paced_all
from accel_models.fpga.columns import Mapping, Product
from accel_models.fpga.kernels import MULTIPLIED, DenseKernel, NMKernel, ShrunkKernel, StreamKernel, reuse, stored_bytes
from accel_models.fpga.resources import check_buffers, check_resources, fabric_figures
from accel_models.fpga.spec import Hardware, SatSpec, hardware_row
from accel_models.fpga.tiles import stream_pieces, tile_work
from simsparse.machine import KernelMachine
from simsparse.ops import StreamKind
from simsparse.plan import COMPUTE_TYPES, Floats, Ints, Plan, Prices, ProblemColumn, ProblemKind, Provenance
from simsparse.sites import Fusions
from simsparse.tiles import TileWork

C = ProblemColumn
H = Hardware
_OPTIMIZER = list(StreamKind).index(StreamKind.OPTIMIZER)


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


TERM_NAMES = tuple(term.name.lower() for term in Term)
ARRAY = slice(Term.COMPUTE, Term.SKEW + 1)
CHAIN = slice(Term.COMPUTE, Term.TAIL + 1)
LEVEL_NAMES = ("dram", "bram")
ENERGY_NAMES = ("arithmetic", "bram", "dram", "static")


class SatMachine(KernelMachine):
    """One accelerator on one card.

    Raises
    ------
    UnsupportedError, InputError
        If it does not fit the device, or its buffers hold no tile.
    """

    fusions = Fusions(epilogue=True)

    def __init__(self, spec: SatSpec) -> None:
        check_buffers(spec)
        check_resources(spec)
        self.spec = spec
        self.name = spec.name
        self.hardware = hardware_row(spec)
        self.kernels = (
            DenseKernel(self.hardware),
            NMKernel(self.hardware),
            ShrunkKernel(self.hardware),
            StreamKernel(),
        )

    @property
    def memory_bytes(self) -> float:
        """Capacity of the card's memory."""
        return self.spec.memory_bytes.value

    @property
    def dram_bytes_per_s(self) -> float:
        """Peak bandwidth of the card's memory."""
        return self.spec.dram_peak_bytes_per_s

    def peak_flops_per_s(self, type_name: str, sparse: bool = False) -> float:
        """Peak of the array in the types that its elements multiply; twice that, where they take 2:4."""
        if COMPUTE_TYPES.index(type_name) not in MULTIPLIED:
            return 0.0
        elements = self.spec.array_rows.value * self.spec.array_cols.value
        faster = 2.0 if sparse and self.spec.nm_max_m.value >= 4 else 1.0
        return 2.0 * elements * self.spec.clock_hz.value * faster

    @property
    def provenance(self) -> Provenance:
        """Hashes of spec and element costs, figures nobody looked up, figures this project chose."""
        costs = fabric_figures(self.spec.fabric.value)
        figures = [*self.spec.figures(), *((f"fabric.{name}", figure) for name, figure in costs.figures())]
        return Provenance(
            spec_hash=self.spec.digest(),
            constants_hash=hashlib.sha256(costs.model_dump_json().encode()).hexdigest()[:12],
            unverified=tuple(name for name, figure in figures if figure.unverified),
            assumed=tuple(name for name, figure in figures if figure.assumed),
        )

    def tiles(self, plan: Plan) -> TileWork:
        """The tiles of a plan, for the event simulation."""
        return tile_work(self.hardware, plan)

    def price_rows(self, problem: Floats, mapping: Floats, kernel: Ints) -> Prices:
        """What mapped rows cost; see the module."""
        return price(self.hardware, problem, mapping)


def price(hardware: Floats, problem: Floats, mapping: Floats) -> Prices:
    """What mapped rows cost on machines of `hardware` (one row for all, or one each)."""
    hw = hardware.T[:, :, None].reshape(len(Hardware), -1)
    gemm = problem[:, C.KIND] == ProblemKind.GEMM
    batch, n = problem[:, C.BATCH], problem[:, C.N]
    macs = np.where(gemm, batch * problem[:, C.M] * n * problem[:, C.K], 0.0)
    fraction = np.where(gemm, mapping[:, Mapping.KEPT] / np.maximum(mapping[:, Mapping.GROUP], 1.0), 0.0)
    executed = np.where(gemm, batch * mapping[:, Mapping.M] * n * mapping[:, Mapping.K], 0.0) * fraction
    stored = stored_bytes(problem, mapping)
    dram_bytes = mapping[:, Mapping.A_BYTES] + mapping[:, Mapping.B_BYTES] + problem[:, C.READ_BYTES] + stored
    bram_bytes = mapping[:, Mapping.BRAM_BYTES] + 2.0 * np.abs(dram_bytes)

    terms = _terms(hw, problem, mapping, executed, dram_bytes)
    terms[gemm, Term.HEAD : Term.DRAM] = _ends_of_products(hardware, problem, mapping, gemm)
    terms[~gemm, Term.HEAD : Term.DRAM] = _ends_of_streams(
        hardware, problem, terms[:, Term.VECTOR] + terms[:, Term.UPDATE], gemm
    )
    latency, bound = combine(terms, hw[H.DOUBLE] > 0)

    flops_each = problem[:, C.STREAM_FLOPS]
    energy = np.empty((len(problem), len(ENERGY_NAMES)))
    energy[:, 0] = (executed + flops_each) * hw[H.MAC_J]
    energy[:, 1] = bram_bytes * hw[H.BRAM_J]
    energy[:, 2] = dram_bytes * hw[H.DRAM_J]
    energy[:, 3] = latency * hw[H.STATIC_W]
    dynamic = energy[:, 0] + energy[:, 1] + energy[:, 2]
    peak = hw[H.ROWS] * hw[H.COLS] * hw[H.CLOCK_HZ]
    compulsory = _operand_bytes(problem, mapping, fraction) + problem[:, C.READ_BYTES] + stored
    return Prices(
        latency_s=latency,
        energy_j=dynamic + energy[:, 3],
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


def _terms(hw: Floats, problem: Floats, mapping: Floats, executed_macs: Floats, dram_bytes: Floats) -> Floats:
    """Seconds of each term, (n, len(Term))."""
    useful = executed_macs / (hw[H.ROWS] * hw[H.COLS])
    array, issue, stall = (mapping[:, m] for m in (Mapping.ARRAY_CYCLES, Mapping.ISSUE_CYCLES, Mapping.STALL_CYCLES))
    renews = problem[:, C.STREAM_KIND] == _OPTIMIZER
    cycles = np.zeros((len(problem), len(Term)))
    for term, value in (
        (Term.COMPUTE, useful), (Term.PADDING, issue - useful), (Term.DEPENDENCY, stall),
        (Term.EXCHANGE, array - issue - stall), (Term.SKEW, mapping[:, Mapping.SKEW_CYCLES]),
        (Term.DRAM, dram_bytes / hw[H.DRAM_BYTES_PER_CYCLE]),
        (Term.VECTOR, np.where(renews, 0.0, problem[:, C.STREAM_FLOPS] / hw[H.VECTOR_OPS])),
        (Term.UPDATE, np.where(renews, problem[:, C.M] / hw[H.UPDATE_LANES], 0.0)),
        (Term.REDUCTION, mapping[:, Mapping.REDUCTION_CYCLES]),
    ):  # fmt: skip
        cycles[:, term] = value
    # Differences of counts may round below zero.
    seconds: Floats = np.maximum(cycles, 0.0) / hw[H.CLOCK_HZ][:, None]
    return seconds


def _ends_of_products(hardware: Floats, problem: Floats, mapping: Floats, gemm: NDArray[np.bool_]) -> Floats:
    """Seconds of head, starved and tail of products, (n, 3); zero without double buffering, where all is in `dram`."""
    problem, x = problem[gemm], mapping[gemm]
    hw = np.broadcast_to(hardware, (len(gemm), len(H)))[gemm]
    product = _with_epilogues(problem, x)
    pace = np.empty(len(product))
    paced_all(hw, product, x, pace)
    starved = np.maximum(pace - x[:, Mapping.ARRAY_CYCLES] - x[:, Mapping.SKEW_CYCLES], 0.0)
    last_m = x[:, Mapping.M] - (x[:, Mapping.TILES_M] - 1.0) * x[:, Mapping.TILE_M]
    last = last_m * (problem[:, C.N] - (x[:, Mapping.TILES_N] - 1.0) * x[:, Mapping.TILE_N])
    # What an epilogue reads comes with the last step of an output.
    read = np.where(x[:, Mapping.TILES_K] == 1, product[:, Product.FUSED_BYTES], 0.0)
    head = x[:, Mapping.HEAD_BYTES] + x[:, Mapping.TILE_M] * x[:, Mapping.TILE_N] * read
    elementwise = problem[:, C.STREAM_FLOPS] / _outputs(problem, x) / hw[:, H.VECTOR_OPS]
    bandwidth = hw[:, H.DRAM_BYTES_PER_CYCLE]
    tail = last * (elementwise + product[:, Product.C_BYTES] / bandwidth)
    seconds: Floats = np.stack([head / bandwidth, starved, tail], axis=1)
    return seconds * (hw[:, H.DOUBLE] / hw[:, H.CLOCK_HZ])[:, None]


def _ends_of_streams(hardware: Floats, problem: Floats, work_s: Floats, gemm: NDArray[np.bool_]) -> Floats:
    """The same of streams, whose pieces are all alike: the first comes, the last is worked on and leaves."""
    problem, hw = problem[~gemm], np.broadcast_to(hardware, (len(gemm), len(H)))[~gemm]
    pieces = stream_pieces(problem)
    bytes_per_s = hw[:, H.DRAM_BYTES_PER_CYCLE] * hw[:, H.CLOCK_HZ]
    load, store = (problem[:, column] / pieces / bytes_per_s for column in (C.READ_BYTES, C.WRITE_BYTES))
    work = work_s[~gemm] / pieces
    # Beside the first piece another is loaded, beside the last one stored, beside the others both.
    several = np.maximum(load, work) + (pieces - 2.0) * np.maximum(load + store, work) + np.maximum(store, work) - work
    seconds: Floats = np.stack([load, np.where(pieces > 1.0, several, 0.0), work + store], axis=1)
    return seconds * hw[:, H.DOUBLE, None]


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
    beside = terms[:, [Term.DRAM, Term.VECTOR, Term.UPDATE]]
    overlapped = np.maximum(chain, beside.max(axis=1))
    apart = chain + beside.sum(axis=1)
    latency = np.where(double, overlapped, apart) + terms[:, Term.REDUCTION]
    # With overlap either the array or the longest beside it bounds, though the chain that it holds up is longer still.
    counted = terms.copy()
    by_array = ~double | (array >= beside.max(axis=1))
    counted[:, [Term.DRAM, Term.VECTOR, Term.UPDATE]] *= (~double | ~by_array)[:, None]
    counted[:, CHAIN] *= by_array[:, None]
    return latency, np.argmax(counted, axis=1).astype(np.int64)


def _operand_bytes(problem: Floats, mapping: Floats, fraction: Floats) -> Floats:
    """Bytes of the distinct operands of products, kept weights without indices; 0 of streams."""
    m, n, k = mapping[:, Mapping.M], problem[:, C.N], mapping[:, Mapping.K]
    a = m * k * fraction * problem[:, C.A_BITS]
    b = k * n * problem[:, C.B_BITS] / reuse(problem)
    total: Floats = problem[:, C.BATCH] * (a + b) / 8
    return total
