"""GEMM of a BLAS that is given bare matrices (numpy), so that it packs the weight anew in every call."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel_models.cpu.kernels.dense import DenseGemm
from accel_models.cpu.kernels.microkernel import Tile, simd_tile
from accel_models.cpu.kernels.rows import GemmRows, gemm_rows
from simsparse.machine import Refusal
from simsparse.plan import Floats


class BlasGemm(DenseGemm):
    """OpenBLAS under numpy: one token is a GEMV that streams the weight; more tokens first copy it into panels."""

    name = "gemm-blas"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Other architectures, integers, and types that it would have to convert."""
        yield from super().refusals(problem)
        yield np.full(len(problem), not self.chip.x86), "its efficiency is known for x86"
        rows = gemm_rows(problem, self.chip)
        yield rows.a_bits < 32, "a BLAS has no types of fewer than 32 bits"

    @property
    def tile(self) -> Tile:
        """Its microkernel."""
        return simd_tile(self.chip, self.chip.constants.blas_efficiency.value)

    def conversion(self, rows: GemmRows, m: Floats, k: Floats) -> Floats:
        """Packing: a register at a time, where there is more than one token."""
        registers = rows.batch * m * k * rows.a_bits / 8 / self.chip.vector_bytes
        return np.where(rows.n > 1, registers * self.chip.constants.pack_cycles.value, 0.0)
