"""The tiles of scheduled calls, for the event simulation: what each loads, how long the array takes it, what it stores.

All of it follows from the mapping: extents of full and last tiles, the order of the loops, bytes of a tile; cycles of
the array are counted pass by pass (`walk.py`). The loops are batch, outer, inner, and the reduction. A tile of A (or B)
is read when it is not the one that lies there. What a fused elementwise op reads comes with the last tile of an output,
and what it writes goes with the output, in proportion to its size; its operations are the work of the vector engine on
the output.

Streams pass through in pieces (`streams.py`). So does what the reduction engine makes before a product starts: it is a
stage of its own, ahead of the product's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel_models.fpga import streams
from accel_models.fpga._tiling import staying
from accel_models.fpga.columns import Mapping as Map
from accel_models.fpga.generation import engine_cycles
from accel_models.fpga.kernels import stored_bytes
from accel_models.fpga.spec import Hardware as H
from accel_models.fpga.walk import Grid, Work, ends, walked
from simsparse.plan import Floats, Ints, Plan, ProblemColumn, ProblemKind
from simsparse.tiles import LOOPS, Place, TileWork

C = ProblemColumn


def tile_work(hardware: Floats, plan: Plan) -> TileWork:
    """The tiles of a plan on the machine of `hardware`, shape (1, len(Hardware))."""
    hw, problem, mapping = hardware[0], plan.problem, plan.mapping
    gemm = problem[:, C.KIND] == ProblemKind.GEMM
    before = np.flatnonzero(gemm & (mapping[:, Map.REDUCTION_GROUPS] > 0))
    call = np.concatenate([np.arange(len(problem)), before])
    kind = np.concatenate([np.where(gemm, _PRODUCT, _STREAM), np.full(len(before), _BEFORE)])
    # What is made before a product runs ahead of it.
    order = np.lexsort((kind, call))
    call, kind = call[order], kind[order]
    work = _blank(hw, call, streams.renews(problem)[call] > 0)
    for wanted, fill in ((_BEFORE, _made_before), (_PRODUCT, _products), (_STREAM, _streams)):
        stages = np.flatnonzero(kind == wanted)
        if stages.size:
            fill(work, stages, hw, problem[call[stages]], mapping[call[stages]])
    return work


_BEFORE, _PRODUCT, _STREAM = range(3)


def _blank(hw: Floats, call: Ints, updates: NDArray[np.bool_]) -> TileWork:
    tiles, outputs = ((len(call), *(3,) * axes) for axes in (LOOPS, LOOPS - 1))
    return TileWork(
        loops=np.ones((len(call), LOOPS), dtype=np.int64),
        load_bytes=np.zeros(tiles),
        compute_s=np.zeros(tiles),
        dependency_s=np.zeros(tiles),
        exchange_s=np.zeros(tiles),
        post_s=np.zeros(outputs),
        reduce_s=np.zeros(outputs),
        store_bytes=np.zeros(outputs),
        updates=updates,
        fill_s=np.zeros(len(call)),
        call=call,
        clock_hz=float(hw[H.CLOCK_HZ]),
        bytes_per_s=float(hw[H.DRAM_BYTES_PER_CYCLE] * hw[H.CLOCK_HZ]),
        gap_s=float(hw[H.GAP_BYTES] / (hw[H.DRAM_BYTES_PER_CYCLE] * hw[H.CLOCK_HZ])),
        depth=2 if hw[H.DOUBLE] else 1,
    )


def _streams(work: TileWork, stages: Ints, hw: Floats, problem: Floats, mapping: Floats) -> None:
    write = np.maximum(problem[:, C.WRITE_BYTES] + mapping[:, Map.REDUCTION_WRITE_BYTES], 0.0)
    worked = streams.worked_cycles(hw, problem)
    _pass(work, stages, hw, (problem[:, C.READ_BYTES], write), (worked, engine_cycles(hw, mapping)))


def _made_before(work: TileWork, stages: Ints, hw: Floats, problem: Floats, mapping: Floats) -> None:
    moved = mapping[:, Map.REDUCTION_READ_BYTES], mapping[:, Map.REDUCTION_WRITE_BYTES]
    _pass(work, stages, hw, moved, (np.zeros(len(problem)), engine_cycles(hw, mapping)))


def _pass(
    work: TileWork, stages: Ints, hw: Floats, moved: tuple[Floats, Floats], cycles: tuple[Floats, Floats]
) -> None:
    """Pieces that are all alike, through the vector or update engine and the reduction engine."""
    pieces = streams.pieces_of(*moved)
    work.loops[stages, 0] = pieces
    work.load_bytes[stages] = (moved[0] / pieces)[:, None, None, None, None]
    work.store_bytes[stages] = (moved[1] / pieces)[:, None, None, None]
    work.post_s[stages] = (cycles[0] / pieces / hw[H.CLOCK_HZ])[:, None, None, None]
    work.reduce_s[stages] = (cycles[1] / pieces / hw[H.CLOCK_HZ])[:, None, None, None]


def _products(work: TileWork, stages: Ints, hw: Floats, problem: Floats, mapping: Floats) -> None:
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
    outside = mapping[:, Map.OUTER] == 1
    worked = streams.worked_cycles(hw, problem) / hw[H.CLOCK_HZ]
    work.loops[stages] = _loops(problem, mapping)
    work.load_bytes[stages] = _in_loops(load, outside)
    work.store_bytes[stages] = _in_loops(share * stored_bytes(problem, mapping)[:, None, None], outside)
    work.post_s[stages] = _in_loops(share * worked[:, None, None], outside)
    cycles, fill = _array_cycles(hw, mapping, m, n, groups)
    for part, array in enumerate((work.compute_s, work.dependency_s, work.exchange_s)):
        array[stages] = _in_loops(cycles[part] / hw[H.CLOCK_HZ], outside)
    work.fill_s[stages] = fill / hw[H.CLOCK_HZ]


def _array_cycles(hw: Floats, mapping: Floats, m: Floats, n: Floats, groups: Floats) -> tuple[Floats, Floats]:
    """Cycles of multiplying, dependency and exchange of each tile, (3, n, 3, 3, 3); and of the ends of a call, (n,)."""
    rows, cols, depth, turns = (int(hw[column]) for column in (H.ROWS, H.COLS, H.DEPTH, H.INTERLEAVE))
    grid = Grid(rows, cols, depth, turns, bool(hw[H.DOUBLE]))
    shape = np.broadcast_shapes(m.shape, n.shape, groups.shape)
    tiles = np.stack([np.broadcast_to(part, shape) for part in (m, n, groups)], axis=-1)
    cycles, fill = np.empty((3, *shape)), np.empty(len(mapping))
    for row, (kept, held) in enumerate(mapping[:, [Map.KEPT, Map.HELD]].tolist()):
        work = [Work(int(o), _whole(t), _whole(g), int(kept), int(held)) for o, t, g in tiles[row].reshape(-1, 3)]
        found = [walked(grid, of_tile) for of_tile in work]
        for part, name in enumerate(("multiply", "dependency", "exchange")):
            cycles[part, row] = np.array([getattr(one, name) for one in found]).reshape(shape[1:])
        fill[row] = ends(grid, work[0], work[-1])
    return cycles, fill


def _whole(expected: float) -> int:
    """Extents that are expectations (tokens of an expert) as whole ones."""
    return int(np.ceil(expected))


def _in_loops(tiles: Floats, tokens_outside: NDArray[np.bool_]) -> Floats:
    """From axes (n, outputs, tokens, …) to (n, batch, outer, inner, …); all of a batch are alike."""
    swap = tokens_outside.reshape(-1, *(1,) * (tiles.ndim - 1))
    ordered = np.where(swap, np.swapaxes(tiles, 1, 2), tiles)[:, None]
    return np.broadcast_to(ordered, (len(tiles), *(3,) * tiles.ndim))


def _sizes(extent: Floats, tile: Floats, tiles: Floats) -> Floats:
    """Extents of the first, a middle and the last tile, shape (n, 3)."""
    return np.stack([tile, tile, extent - (tiles - 1.0) * tile], axis=1)


def _read(mapping: Floats) -> tuple[Floats, Floats]:
    """1 where a tile of A, and of B, has to be read, by place along outputs, tokens and the reduction: (n, 3, 3, 1)."""
    a_stays, b_stays = staying(*(mapping[:, x] for x in (Map.TILES_M, Map.TILES_N, Map.TILES_K, Map.OUTER)))
    first = np.array([1.0, 0.0, 0.0])
    a = np.where(a_stays[:, None], first, 1.0)[:, None, :, None]
    b = np.where(b_stays[:, None], first, 1.0)[:, :, None, None]
    return a, b


def _loops(problem: Floats, mapping: Floats) -> Floats:
    m, n, m_outside = mapping[:, Map.TILES_M], mapping[:, Map.TILES_N], mapping[:, Map.OUTER] == 0
    outer, inner = np.where(m_outside, m, n), np.where(m_outside, n, m)
    return np.stack([problem[:, C.BATCH], outer, inner, mapping[:, Map.TILES_K]], axis=1)
