"""Ops whose time is that of their bytes, and transfers, which a CPU alone has not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel_models.cpu.chip import FP32
from accel_models.cpu.columns import MapColumn, mapping
from accel_models.cpu.kernels.base import CpuKernel
from simsparse.machine import Refusal
from simsparse.ops import StreamKind
from simsparse.plan import Floats, ProblemColumn, ProblemKind

C = ProblemColumn
_KINDS = list(StreamKind)
_COLD = tuple(_KINDS.index(kind) for kind in (StreamKind.GATHER, StreamKind.OPTIMIZER, StreamKind.PRUNE))
_EXPONENTIAL = tuple(_KINDS.index(kind) for kind in (StreamKind.SOFTMAX, StreamKind.ACTIVATION))
_PIECE = 4096.0  # bytes below which threads do not share


class StreamKernel(CpuKernel):
    """Vector code over tensors: from the shared cache as far as they fit, gathers and optimizers from memory."""

    name = "stream"
    kinds = (ProblemKind.STREAM,)

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """None."""
        del problem
        return iter(())

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        chip = self.chip
        read, written = problem[:, C.READ_BYTES], problem[:, C.WRITE_BYTES]
        moved = np.maximum(read + written, 1.0)
        kind = problem[:, C.STREAM_KIND]
        made = np.where(np.isin(kind, _EXPONENTIAL), problem[:, C.M], 0.0)
        vectors = problem[:, C.STREAM_FLOPS] / chip.fma_ports + made * chip.constants.exp_cycles.value
        cold = np.where(np.isin(kind, _COLD), read, 0.0)
        dram = np.maximum(cold, moved - chip.shared_bytes)
        return mapping(len(problem), chip, {
            MapColumn.TYPE: FP32,
            MapColumn.CORE_CYCLES: vectors / chip.lanes / chip.constants.element_efficiency.value,
            MapColumn.L2_BYTES: moved,
            MapColumn.L3_BYTES: moved if chip.has_l3 else 0.0,
            MapColumn.DRAM_BYTES: dram,
            MapColumn.UNITS: np.ceil(moved / _PIECE),
            MapColumn.INSTRUCTIONS: vectors / chip.lanes * chip.fma_ports,
            MapColumn.ROOF_BYTES: cold,
        })  # fmt: skip


class NoTransfer(CpuKernel):
    """Says why there are none."""

    name = "transfer"
    kinds = (ProblemKind.TRANSFER,)

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """All."""
        yield np.ones(len(problem), dtype=np.bool_), "a CPU by itself has no other device to send data to"

    def map(self, problem: Floats) -> Floats:
        """Never reached: everything is refused."""
        return mapping(len(problem), self.chip, {})
