"""The tiles of scheduled calls, for the event simulation: what each loads, how long the array takes it, what it stores.

All of it follows from the mapping: extents of full and last tiles, the order of the loops, bytes of a tile. The loops
are batch, outer, inner, and the reduction. A tile of A (or B) is read when it is not the one that lies there. What a
fused elementwise op reads comes with the last tile of an output, and what it writes goes with the output, in proportion
to its size; its operations are the work of the vector engine on the output.

Streams pass through in pieces of `STREAM_BYTES`: they need no buffer that holds a tile.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel_models.fpga._schedule import cycles_of_tiles
from accel_models.fpga.columns import Mapping as Map
from accel_models.fpga.kernels import stored_bytes
from accel_models.fpga.spec import Hardware as H
from simsparse.ops import StreamKind
from simsparse.plan import Floats, Plan, ProblemColumn, ProblemKind
from simsparse.tiles import LOOPS, Place, TileWork

C = ProblemColumn
STREAM_BYTES = 16384.0
_OPTIMIZER = list(StreamKind).index(StreamKind.OPTIMIZER)


def tile_work(hardware: Floats, plan: Plan) -> TileWork:
    """The tiles of a plan on the machine of `hardware`, shape (1, len(Hardware))."""
    hw, problem, mapping = hardware[0], plan.problem, plan.mapping
    count = len(problem)
    work = TileWork(
        loops=np.ones((count, LOOPS), dtype=np.int64),
        load_bytes=np.zeros((count, 3, 3, 3, 3)),
        compute_s=np.zeros((count, 3, 3, 3, 3)),
        post_s=np.zeros((count, 3, 3, 3)),
        store_bytes=np.zeros((count, 3, 3, 3)),
        prologue_s=mapping[:, Map.REDUCTION_CYCLES] / hw[H.CLOCK_HZ],
        fill_s=mapping[:, Map.SKEW_CYCLES] / hw[H.CLOCK_HZ],
        bytes_per_s=float(hw[H.DRAM_BYTES_PER_CYCLE] * hw[H.CLOCK_HZ]),
        depth=2 if hw[H.DOUBLE] else 1,
    )
    gemm = problem[:, C.KIND] == ProblemKind.GEMM
    for rows, fill in ((np.flatnonzero(gemm), _products), (np.flatnonzero(~gemm), _streams)):
        if rows.size:
            fill(work, rows, hw, problem[rows], mapping[rows])
    return work


def _streams(work: TileWork, rows: np.ndarray, hw: Floats, problem: Floats, mapping: Floats) -> None:
    """Pieces that are all alike."""
    del mapping
    reads, writes = problem[:, C.READ_BYTES], problem[:, C.WRITE_BYTES]
    pieces = stream_pieces(problem)
    work.loops[rows, 0] = pieces
    work.load_bytes[rows] = (reads / pieces)[:, None, None, None, None]
    work.store_bytes[rows] = (writes / pieces)[:, None, None, None]
    work.post_s[rows] = (_elementwise_s(hw, problem) / pieces)[:, None, None, None]


def stream_pieces(problem: Floats) -> Floats:
    """How many pieces streams pass through in."""
    larger = np.maximum(problem[:, C.READ_BYTES], problem[:, C.WRITE_BYTES])
    pieces: Floats = np.maximum(np.ceil(larger / STREAM_BYTES), 1.0)
    return pieces


def _elementwise_s(hw: Floats, problem: Floats) -> Floats:
    """Seconds of the vector engine, or of the update engine, for a call."""
    renews = problem[:, C.STREAM_KIND] == _OPTIMIZER
    cycles = np.where(renews, problem[:, C.M] / hw[H.UPDATE_LANES], problem[:, C.STREAM_FLOPS] / hw[H.VECTOR_OPS])
    seconds: Floats = cycles / hw[H.CLOCK_HZ]
    return seconds


def _products(work: TileWork, rows: np.ndarray, hw: Floats, problem: Floats, mapping: Floats) -> None:
    """Tiles of products, with (n, outputs, tokens, reduction) as axes until the loops are put in order."""
    m = _sizes(mapping[:, Map.M], mapping[:, Map.TILE_M], mapping[:, Map.TILES_M])[:, :, None, None]
    n = _sizes(problem[:, C.N], mapping[:, Map.TILE_N], mapping[:, Map.TILES_N])[:, None, :, None]
    k = _sizes(mapping[:, Map.K], mapping[:, Map.TILE_K], mapping[:, Map.TILES_K])[:, None, None, :]
    group = mapping[:, Map.GROUP, None, None, None]
    groups = np.ceil(k / group)
    share = (m * n)[..., 0] / (problem[:, C.BATCH] * mapping[:, Map.M] * problem[:, C.N])[:, None, None]
    a_read, b_read = _read(mapping)
    of_full = mapping[:, :, None, None, None]
    a = m * groups * of_full[:, Map.A_TILE_BYTES] / (of_full[:, Map.TILE_M] * np.ceil(of_full[:, Map.TILE_K] / group))
    b = n * k * of_full[:, Map.B_TILE_BYTES] / (of_full[:, Map.TILE_N] * of_full[:, Map.TILE_K])
    load = a * a_read + b * b_read
    last = np.where(mapping[:, Map.TILES_K] > 1, Place.LAST, Place.FIRST)
    load[np.arange(len(load)), :, :, last] += share * problem[:, C.READ_BYTES, None, None]
    work.loops[rows] = _loops(problem, mapping)
    tokens_outside = mapping[:, Map.OUTER] == 1
    work.load_bytes[rows] = _in_loops(load, tokens_outside)
    work.compute_s[rows] = _in_loops(_array_cycles(hw, mapping, m, n, groups) / hw[H.CLOCK_HZ], tokens_outside)
    work.store_bytes[rows] = _in_loops(share * stored_bytes(problem, mapping)[:, None, None], tokens_outside)
    work.post_s[rows] = _in_loops(share * _elementwise_s(hw, problem)[:, None, None], tokens_outside)


def _in_loops(tiles: Floats, tokens_outside: NDArray[np.bool_]) -> Floats:
    """From axes (n, outputs, tokens, …) to (n, batch, outer, inner, …); all of a batch are alike."""
    swap = tokens_outside.reshape(-1, *(1,) * (tiles.ndim - 1))
    ordered = np.where(swap, np.swapaxes(tiles, 1, 2), tiles)[:, None]
    return np.broadcast_to(ordered, (len(tiles), *(3,) * tiles.ndim))


def _sizes(extent: Floats, tile: Floats, tiles: Floats) -> Floats:
    """Extents of the first, a middle and the last tile, shape (n, 3)."""
    return np.stack([tile, tile, extent - (tiles - 1.0) * tile], axis=1)


def _array_cycles(hw: Floats, mapping: Floats, m: Floats, n: Floats, groups: Floats) -> Floats:
    shape = np.broadcast_shapes(m.shape, n.shape, groups.shape)
    extents = np.stack([np.broadcast_to(part, shape) for part in (m, n, groups)], axis=-1)
    kept, held = (np.broadcast_to(mapping[:, c, None, None, None], shape).ravel() for c in (Map.KEPT, Map.HELD))
    cycles = np.empty(kept.size)
    cycles_of_tiles(hw, kept, held, extents.reshape(-1, 3), cycles)
    return cycles.reshape(shape)


def _read(mapping: Floats) -> tuple[Floats, Floats]:
    """1 where a tile of A, and of B, has to be read, by place along outputs, tokens and the reduction: (n, 3, 3, 1)."""
    m_outside, once = mapping[:, Map.OUTER] == 0, mapping[:, Map.TILES_K] == 1
    a_stays = once & (m_outside | (mapping[:, Map.TILES_M] == 1))
    b_stays = once & (~m_outside | (mapping[:, Map.TILES_N] == 1))
    first = np.array([1.0, 0.0, 0.0])
    a = np.where(a_stays[:, None], first, 1.0)[:, None, :, None]
    b = np.where(b_stays[:, None], first, 1.0)[:, :, None, None]
    return a, b


def _loops(problem: Floats, mapping: Floats) -> Floats:
    m, n, m_outside = mapping[:, Map.TILES_M], mapping[:, Map.TILES_N], mapping[:, Map.OUTER] == 0
    outer, inner = np.where(m_outside, m, n), np.where(m_outside, n, m)
    return np.stack([problem[:, C.BATCH], outer, inner, mapping[:, Map.TILES_K]], axis=1)
