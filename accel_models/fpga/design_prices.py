"""Time and energy of a workload on many designs: what designs have in common is scheduled and priced once.

A product's schedule hangs on array, buffers, memory and clock; its price on the width of the vector engine besides, and
of the reduction engine where that runs before it; elementwise calls and updates on none of the array. Every part is
priced by the functions that price a single machine, on rows of hardware that stand for all that are alike, and calls
are added up in order: a design's time is that of its own machine, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from accel_models.fpga._search import search_all
from accel_models.fpga.columns import Mapping
from accel_models.fpga.generation import made_before, with_updates
from accel_models.fpga.kernels import executed_nm, products
from accel_models.fpga.machine import SatMachine
from accel_models.fpga.pricing import price
from accel_models.fpga.spec import Hardware as H
from simsparse.plan import Floats, Ints, Plan, ProblemColumn, ProblemKind
from simsparse.workload import Workload

C = ProblemColumn
SCHEDULED = (
    H.ROWS, H.COLS, H.MAX_M, H.WEIGHT_BUFFER, H.ACTIVATION_BUFFER, H.OUTPUT_BUFFER, H.CLOCK_HZ,
    H.DRAM_BYTES_PER_CYCLE, H.GAP_BYTES,
)  # fmt: skip
STREAMED = (H.CLOCK_HZ, H.DRAM_BYTES_PER_CYCLE, H.GAP_BYTES, H.VECTOR_OPS, H.UPDATE_LANES, H.REDUCTION_LANES)


@dataclass(frozen=True)
class Calls:
    """The calls of a workload, alike on all designs but for how products run.

    Attributes
    ----------
    plan : Plan
        As one machine runs it.
    counts : (calls,) ndarray
    product : (calls,) ndarray of bool
    distinct : (u, columns) ndarray
        Different products.
    which : (products,) ndarray of int
        Which of them each product is.
    """

    plan: Plan
    counts: Floats
    product: NDArray[np.bool_]
    distinct: Floats
    which: Ints


@dataclass(frozen=True)
class _Products:
    """Products on hardware that differs in what they hang on: (h, u) each; `sparse` where they run N:M."""

    latency_s: Floats
    energy_j: Floats
    mapping: Floats
    sparse: NDArray[np.bool_]


def calls_of(machine: SatMachine, workload: Workload) -> Calls:
    """The calls of a workload on designs like a machine.

    Raises
    ------
    UnsupportedError
        If an op has no kernel.
    """
    plan = machine.lower(workload)
    counts = np.array([call.count for call in plan.calls], dtype=np.float64)
    product = plan.problem[:, C.KIND] == ProblemKind.GEMM
    distinct, which = np.unique(plan.problem[product], axis=0, return_inverse=True)
    return Calls(plan, counts, product, distinct, which)


def price_designs(calls: Calls, hardware: Floats) -> tuple[Floats, Floats]:
    """Seconds and joules of a workload on each design.

    Parameters
    ----------
    hardware : (n, len(Hardware)) ndarray
        Designs that take the same N:M.

    Returns
    -------
    latency_s, energy_j : (n,) ndarray
    """
    # What clocks burn hangs on all of a design, so it comes last.
    hardware, clocked_w = hardware.copy(), hardware[:, H.CLOCKED_W].copy()
    hardware[:, H.CLOCKED_W] = 0.0
    of_products, product_of = _alike(hardware, (*SCHEDULED, H.VECTOR_OPS, H.REDUCTION_LANES))
    if not _made_online(calls, hardware):
        of_products, product_of = _alike(hardware, (*SCHEDULED, H.VECTOR_OPS))
    found = _products(calls, of_products)
    choices, choice_of = np.unique(found.sparse, axis=0, return_inverse=True)
    chosen = choice_of[product_of]
    of_streams, stream_of = _alike(np.column_stack([hardware, chosen]), (*STREAMED, len(H)))
    streams = _streams(calls, found, choices, of_streams)

    total = np.zeros((2, len(hardware)))
    products_seen, streams_seen = 0, 0
    for call, count in enumerate(calls.counts):
        if calls.product[call]:
            own = calls.which[products_seen]
            each = found.latency_s[product_of, own], found.energy_j[product_of, own]
            products_seen += 1
        else:
            each = streams[0][stream_of, streams_seen], streams[1][stream_of, streams_seen]
            streams_seen += 1
        total[0] += count * each[0]
        total[1] += count * (each[1] + each[0] * clocked_w)
    return total[0], total[1]


def _alike(hardware: Floats, columns: tuple[int, ...]) -> tuple[Floats, Ints]:
    """Rows that stand for all that agree in `columns`, and which stands for each."""
    _, first, which = np.unique(hardware[:, list(columns)], axis=0, return_index=True, return_inverse=True)
    return hardware[first], which


def _made_online(calls: Calls, hardware: Floats) -> bool:
    """Whether the reduction engine works before any product that runs N:M."""
    n, m = executed_nm(calls.distinct, hardware[0, H.MAX_M])
    stub = np.zeros((len(n), len(list(Mapping))))
    stub[:, Mapping.KEPT], stub[:, Mapping.GROUP] = n, m
    alike = np.repeat(hardware[:1], len(n), axis=0)
    return bool(made_before(alike, calls.distinct, stub)[:, Mapping.REDUCTION_M].any())


def _products(calls: Calls, hardware: Floats) -> _Products:
    """Every product dense, and N:M where its pattern lets it; the faster of the two."""
    n, m = executed_nm(calls.distinct, hardware[0, H.MAX_M])
    packed = np.flatnonzero(n < m)
    one = np.ones(len(n))
    latency_s, energy_j, mapping = _priced(hardware, calls.distinct, one, one)
    sparse = np.zeros(latency_s.shape, dtype=bool)
    if packed.size:
        other = _priced(hardware, calls.distinct[packed], n[packed], m[packed])
        faster = other[0] < latency_s[:, packed]
        sparse[:, packed] = faster
        rows, at = np.nonzero(faster)
        for target, source in zip((latency_s, energy_j, mapping), other, strict=True):
            target[rows, packed[at]] = source[rows, at]
    return _Products(latency_s, energy_j, mapping, sparse)


def _priced(hardware: Floats, problem: Floats, n: Floats, m: Floats) -> tuple[Floats, Floats, Floats]:
    """Latency and energy, (h, u), and mapping, (h, u, len(Mapping)), of every product on every row of hardware."""
    mapping = _scheduled(hardware, products(problem, n, m))
    rows, tiled = np.repeat(hardware, len(problem), axis=0), np.tile(problem, (len(hardware), 1))
    mapping = made_before(rows, tiled, mapping.reshape(-1, mapping.shape[2]))
    prices = price(rows, tiled, mapping)
    shape = (len(hardware), len(problem))
    return prices.latency_s.reshape(shape), prices.energy_j.reshape(shape), mapping.reshape(*shape, -1)


def _scheduled(hardware: Floats, wanted: Floats) -> Floats:
    """Mappings of products on every row of hardware, (h, u, len(Mapping))."""
    rows, row_of = _alike(hardware, SCHEDULED)
    distinct, which = np.unique(wanted, axis=0, return_inverse=True)
    found = np.zeros((len(rows) * len(distinct), len(list(Mapping))))
    search_all(np.repeat(rows, len(distinct), axis=0), np.tile(distinct, (len(rows), 1)), found)
    mapping: Floats = found.reshape(len(rows), len(distinct), -1)[row_of][:, which]
    return mapping


def _streams(calls: Calls, found: _Products, choices: NDArray[np.bool_], hardware: Floats) -> tuple[Floats, Floats]:
    """Latency and energy of streams, (h, streams); the last column of `hardware` says how products run."""
    problem = calls.plan.problem[~calls.product]
    if not len(problem):
        return np.zeros((len(hardware), 0)), np.zeros((len(hardware), 0))
    made = [_updates(calls, found, choice, hardware[:1]) for choice in choices]
    distinct, which = np.unique(np.column_stack([problem, *made]), axis=0, return_inverse=True)
    width = problem.shape[1]
    mapping = distinct[:, width:].reshape(len(distinct), len(choices), -1)
    chosen = mapping[:, hardware[:, -1].astype(np.int64)].swapaxes(0, 1)
    rows = np.repeat(hardware[:, : len(H)], len(distinct), axis=0)
    tiled = np.tile(distinct[:, :width], (len(hardware), 1))
    prices = price(rows, tiled, np.ascontiguousarray(chosen).reshape(len(tiled), -1))
    shape = (len(hardware), len(distinct))
    return prices.latency_s.reshape(shape)[:, which], prices.energy_j.reshape(shape)[:, which]


def _updates(calls: Calls, found: _Products, choice: NDArray[np.bool_], hardware: Floats) -> Floats:
    """Mappings of streams beside products that run as `choice` says: what updates make hangs on nothing else."""
    example = int(np.flatnonzero((found.sparse == choice).all(axis=1))[0])
    mapping = np.zeros((len(calls.product), found.mapping.shape[2]))
    mapping[calls.product] = found.mapping[example][calls.which]
    updated: Floats = with_updates(hardware, replace(calls.plan, mapping=mapping)).mapping[~calls.product]
    return updated
