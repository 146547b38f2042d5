"""Score, softmax and value in one pass over the cached tokens (flash attention), block by block of queries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel_models.cpu.chip import TYPE_BITS
from accel_models.cpu.columns import MapColumn, mapping
from accel_models.cpu.kernels.base import CpuKernel
from accel_models.cpu.kernels.microkernel import dense_work, simd_tile, vector_work
from simsparse.machine import Refusal
from simsparse.plan import Floats, ProblemColumn, ProblemKind
from simsparse.sparsity import PatternColumn, PatternKind

C = ProblemColumn
QUERIES = 64.0  # of a block, whose scores stay in L1
_SPARSE = (PatternKind.ATTENTION_BLOCK, PatternKind.ATTENTION_TOKEN)


class FusedAttention(CpuKernel):
    """Scores never leave the core; masked and pruned blocks are skipped.

    Keys and values of more tokens than there are queries come from memory (a cache that other layers have displaced);
    otherwise the step itself has just made them.
    """

    name = "attention"
    kinds = (ProblemKind.ATTENTION,)

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """None."""
        del problem
        return iter(())

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        chip, tile, c = self.chip, simd_tile(self.chip), self.chip.constants
        batch, m, n, k, v = (problem[:, c] for c in (C.BATCH, C.M, C.N, C.K, C.VALUE_SIZE))
        kind = chip.arithmetic[problem[:, C.COMPUTE].astype(np.int64)]
        pattern = problem[:, C.PATTERN :]
        pruned = np.isin(pattern[:, PatternColumn.KIND], _SPARSE)
        kept = np.where(pruned, pattern[:, PatternColumn.DENSITY], 1.0)
        needed = problem[:, C.NEEDED] * kept
        products = dense_work(chip, tile, kind, m, n, k) + dense_work(chip, tile, kind, v, n, m)
        scores = batch * m * n * needed
        keys = batch * m * (k + v) * problem[:, C.A_BITS] / 8
        native = problem[:, C.A_BITS] == TYPE_BITS[kind]
        converted = np.where(native, 0.0, c.widen16_instructions.value / chip.fma_ports)
        blocks = np.ceil(n / QUERIES)
        conversion = batch * m * (k + v) * kept * blocks / chip.lanes * converted
        # Blocks of queries share nothing but the keys; a long cache is also cut for few queries.
        cut = np.maximum(np.ceil(m / 256), 1.0)
        queries = batch * n * (k * problem[:, C.B_BITS] + v * problem[:, C.C_BITS]) / 8
        streamed = keys * np.where(blocks > 1, needed * blocks, kept)
        cold = np.where(m > n, keys * kept, 0.0)
        room = np.maximum(keys + queries - chip.shared_bytes, 0.0)
        dram = np.maximum(cold, np.where(m > n, 0.0, room))
        beyond_l2 = np.where(keys / batch > chip.l2_bytes / 2, streamed, keys * kept)
        l3 = np.maximum(beyond_l2 + queries, dram) if chip.has_l3 else 0.0
        multiply = products.times(batch * needed)
        softmax = vector_work(chip, scores / chip.lanes * c.exp_cycles.value * chip.fma_ports)
        macs = batch * m * n * (k + v) * needed
        return mapping(len(problem), chip, {
            MapColumn.MACS: macs,
            MapColumn.TYPE: kind,
            MapColumn.CORE_CYCLES: multiply.cycles / tile.efficiency + softmax.cycles / c.element_efficiency.value,
            MapColumn.INDEX_CYCLES: conversion,
            MapColumn.L2_BYTES: np.maximum(streamed + queries, l3),
            MapColumn.L3_BYTES: l3,
            MapColumn.DRAM_BYTES: dram,
            MapColumn.UNITS: batch * blocks * cut,
            MapColumn.INSTRUCTIONS: multiply.instructions + softmax.instructions + conversion * chip.fma_ports,
            MapColumn.ROOF_CYCLES: macs / np.maximum(chip.rates, chip.matrix_rates)[kind],
            MapColumn.ROOF_BYTES: cold,
        })  # fmt: skip
