"""What passes through in pieces and needs no tile: elementwise ops, updates of weights, making N:M weights.

A piece is loaded, worked on by the vector or the update engine, then by the reduction engine, and stored. Meanwhile
others are loaded and stored.
"""

from __future__ import annotations

import numpy as np

from accel_models.fpga.spec import Hardware as H
from simsparse.ops import StreamKind
from simsparse.plan import Floats, ProblemColumn

C = ProblemColumn
PIECE_BYTES = 65536.0
_OPTIMIZER = list(StreamKind).index(StreamKind.OPTIMIZER)


def pieces_of(read_bytes: Floats, write_bytes: Floats) -> Floats:
    """How many pieces streams pass through in."""
    pieces: Floats = np.maximum(np.ceil(np.maximum(read_bytes, write_bytes) / PIECE_BYTES), 1.0)
    return pieces


def renews(problem: Floats) -> Floats:
    """1 for updates of weights, which have an engine of their own."""
    found: Floats = (problem[:, C.STREAM_KIND] == _OPTIMIZER).astype(np.float64)
    return found


def worked_cycles(hw: Floats, problem: Floats) -> Floats:
    """Cycles of the vector engine, or of the update engine, for each call; `hw` has columns of `Hardware` first."""
    of_update, elementwise = problem[:, C.M] / hw[H.UPDATE_LANES], problem[:, C.STREAM_FLOPS] / hw[H.VECTOR_OPS]
    cycles: Floats = np.where(renews(problem) > 0, of_update, elementwise)
    return cycles


def moving_cycles(hw: Floats, moved_bytes: Floats) -> Floats:
    """Cycles of memory for single bursts of so many bytes."""
    cycles: Floats = (moved_bytes + np.where(moved_bytes > 0, hw[H.GAP_BYTES], 0.0)) / hw[H.DRAM_BYTES_PER_CYCLE]
    return cycles


def ends(hw: Floats, moved: tuple[Floats, Floats], work: tuple[Floats, Floats], pieces: Floats) -> Floats:
    """Cycles until the first piece is there, from then to the last, and of the last; with double buffering, (n, 3).

    Parameters
    ----------
    moved : bytes read and written, each (n,)
    work : cycles of the vector or update engine, and of the reduction engine, each (n,)
    """
    load, store = (moving_cycles(hw, total / pieces) for total in moved)
    first, second = (total / pieces for total in work)
    # Either memory rests only when the last piece is worked on and those before are stored, or the slower engine never.
    behind = np.where(second > 0, 2.0, 1.0) * store
    by_memory = pieces * (load + store) + np.maximum(first + second - behind, 0.0)
    by_engine = load + first + second + (pieces - 1.0) * np.maximum(first, second) + store
    last = first + second + store
    cycles: Floats = np.stack([load, np.maximum(by_memory, by_engine) - load - last, last], axis=1)
    return cycles
