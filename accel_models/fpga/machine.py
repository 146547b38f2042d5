"""The accelerator as a machine: schedules of products, priced in closed form over arrays.

The rule that combines the terms of a call, with double buffering:

    latency = max(head + array + skew + tail, dram, vector, update) + reduction
    array   = compute + padding + dependency + exchange

Memory, vector engine and update engine work while the array does. `head` is the memory time of the first tiles, before
anything runs, and `tail` that of the last, so that memory-bound calls count neither twice. `reduction` is the part of
making N:M weights that nothing hides. Without double buffering nothing overlaps: `array + skew + dram + vector +
update + reduction`. A call is bound by the largest part of the sum that is the latency.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from accel_models.fpga.columns import Mapping
from accel_models.fpga.kernels import DenseKernel, NMKernel, StreamKernel, reuse
from accel_models.fpga.resources import check_buffers, check_resources, fabric_figures
from accel_models.fpga.spec import Hardware, SatSpec, hardware_row
from accel_models.fpga.tiles import tile_work
from simsparse.machine import KernelMachine
from simsparse.ops import StreamKind
from simsparse.plan import Floats, Ints, Plan, Prices, ProblemColumn, ProblemKind, Provenance
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
    TAIL = 6
    DRAM = 7
    VECTOR = 8
    UPDATE = 9
    REDUCTION = 10


TERM_NAMES = tuple(term.name.lower() for term in Term)
ARRAY_TERMS = slice(Term.COMPUTE, Term.TAIL + 1)
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
        self.kernels = (DenseKernel(self.hardware), NMKernel(self.hardware), StreamKernel())

    @property
    def memory_bytes(self) -> float:
        """Capacity of the card's memory."""
        return self.spec.memory_bytes.value

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
    macs = np.where(gemm, problem[:, C.BATCH] * problem[:, C.M] * problem[:, C.N] * problem[:, C.K], 0.0)
    fraction = np.where(gemm, mapping[:, Mapping.KEPT] / np.maximum(mapping[:, Mapping.GROUP], 1.0), 0.0)
    extra_bytes = problem[:, C.READ_BYTES] + problem[:, C.WRITE_BYTES]
    dram_bytes = mapping[:, Mapping.A_BYTES] + mapping[:, Mapping.B_BYTES] + mapping[:, Mapping.C_BYTES] + extra_bytes
    bram_bytes = mapping[:, Mapping.BRAM_BYTES] + 2.0 * np.abs(dram_bytes)

    terms = _terms(hw, problem, mapping, macs * fraction, dram_bytes)
    latency, bound = combine(terms, hw[H.DOUBLE] > 0)

    flops_each = problem[:, C.STREAM_FLOPS]
    energy = np.empty((len(problem), len(ENERGY_NAMES)))
    energy[:, 0] = (macs * fraction + flops_each) * hw[H.MAC_J]
    energy[:, 1] = bram_bytes * hw[H.BRAM_J]
    energy[:, 2] = dram_bytes * hw[H.DRAM_J]
    energy[:, 3] = latency * hw[H.STATIC_W]
    dynamic = energy[:, 0] + energy[:, 1] + energy[:, 2]
    peak = hw[H.ROWS] * hw[H.COLS] * hw[H.CLOCK_HZ]
    compulsory = _compulsory_bytes(problem, fraction, gemm) + extra_bytes
    return Prices(
        latency_s=latency,
        energy_j=dynamic + energy[:, 3],
        dynamic_j=dynamic,
        terms_s=terms,
        bound=bound,
        level_bytes=np.stack([dram_bytes, bram_bytes], axis=1),
        roofline_s=np.maximum(macs * fraction / peak, compulsory / (hw[H.DRAM_PEAK_BYTES_PER_CYCLE] * hw[H.CLOCK_HZ])),
        flops=2.0 * macs,
        energy_terms_j=energy,
        term_names=TERM_NAMES,
        level_names=LEVEL_NAMES,
        energy_names=ENERGY_NAMES,
    )


def _terms(hw: Floats, problem: Floats, mapping: Floats, executed_macs: Floats, dram_bytes: Floats) -> Floats:
    """Seconds of each term, (n, len(Term))."""
    bandwidth = hw[H.DRAM_BYTES_PER_CYCLE]
    useful = executed_macs / (hw[H.ROWS] * hw[H.COLS])
    array, issue, stall = (mapping[:, m] for m in (Mapping.ARRAY_CYCLES, Mapping.ISSUE_CYCLES, Mapping.STALL_CYCLES))
    head, tail = mapping[:, Mapping.HEAD_BYTES] / bandwidth, mapping[:, Mapping.TAIL_BYTES] / bandwidth
    # Nothing overlaps without double buffering, so that first and last tiles are part of `dram` alone.
    head, tail = (np.where(hw[H.DOUBLE] > 0, end, 0.0) for end in (head, tail))
    renews = problem[:, C.STREAM_KIND] == _OPTIMIZER
    cycles = np.empty((len(problem), len(Term)))
    for term, value in (
        (Term.COMPUTE, useful), (Term.PADDING, issue - useful), (Term.DEPENDENCY, stall),
        (Term.EXCHANGE, array - issue - stall), (Term.SKEW, mapping[:, Mapping.SKEW_CYCLES]),
        (Term.HEAD, head), (Term.TAIL, tail), (Term.DRAM, dram_bytes / bandwidth),
        (Term.VECTOR, np.where(renews, 0.0, problem[:, C.STREAM_FLOPS] / hw[H.VECTOR_OPS])),
        (Term.UPDATE, np.where(renews, problem[:, C.M] / hw[H.UPDATE_LANES], 0.0)),
        (Term.REDUCTION, mapping[:, Mapping.REDUCTION_CYCLES]),
    ):  # fmt: skip
        cycles[:, term] = value
    # Differences of counts may round below zero.
    seconds: Floats = np.maximum(cycles, 0.0) / hw[H.CLOCK_HZ][:, None]
    return seconds


def combine(terms: Floats, double: NDArray[np.bool_]) -> tuple[Floats, Ints]:
    """Latency and bound by the rule of the module."""
    chain = terms[:, ARRAY_TERMS].sum(axis=1)
    beside = terms[:, [Term.DRAM, Term.VECTOR, Term.UPDATE]]
    overlapped = np.maximum(chain, beside.max(axis=1))
    apart = chain + beside.sum(axis=1)
    latency = np.where(double, overlapped, apart) + terms[:, Term.REDUCTION]
    # With overlap only the longest of the parallel parts bounds; the array's chain counts as one of them.
    counted = terms.copy()
    hidden = double[:, None] & (beside < overlapped[:, None])
    counted[:, [Term.DRAM, Term.VECTOR, Term.UPDATE]] = np.where(hidden, 0.0, beside)
    counted[:, ARRAY_TERMS] *= (~double | (chain >= overlapped))[:, None]
    return latency, np.argmax(counted, axis=1).astype(np.int64)


def _compulsory_bytes(problem: Floats, fraction: Floats, gemm: NDArray[np.bool_]) -> Floats:
    """Bytes of distinct operands and results, kept weights without indices."""
    m, n, k = problem[:, C.M], problem[:, C.N], problem[:, C.K]
    a = m * k * fraction * problem[:, C.A_BITS]
    b = k * n * problem[:, C.B_BITS] / reuse(problem)
    return np.where(gemm, problem[:, C.BATCH] * (a + b + m * n * problem[:, C.C_BITS]) / 8, 0.0)
