"""DeepSparse as it decides by itself: dense below a sparsity, pairs of tokens or generated code above, fast or not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel_models.cpu.chip import Chip
from accel_models.cpu.kernels.base import CpuKernel
from accel_models.cpu.kernels.dense import DenseGemm
from accel_models.cpu.kernels.gemv import CompressedGemv
from accel_models.cpu.kernels.rows import Bools, gemm_rows
from accel_models.cpu.kernels.spmm import FEWEST_TOKENS, GeneratedSpmm, stays_dense
from simsparse.machine import Kernel, Refusal
from simsparse.plan import Floats


class Engine(CpuKernel):
    """The kernel that the engine would take, of those that are priced by themselves too; never faster than the best."""

    name = "deepsparse"
    format = "bitmap"

    def __init__(self, chip: Chip) -> None:
        super().__init__(chip)
        self.parts: tuple[Kernel, ...] = (DenseGemm(chip), CompressedGemv(chip), GeneratedSpmm(chip))

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """What the kernel that it takes cannot run."""
        for part, own in zip(self.parts, self._taken(problem), strict=True):
            for mask, reason in part.refusals(problem):
                yield own & mask, reason

    def map(self, problem: Floats) -> Floats:
        """See `Kernel.map`."""
        mapped = [part.map(problem) for part in self.parts]
        return np.select([own[:, None] for own in self._taken(problem)], mapped)

    def _taken(self, problem: Floats) -> tuple[Bools, Bools, Bools]:
        """Rows that each of the kernels runs."""
        rows = gemm_rows(problem, self.chip)
        dense = stays_dense(rows, self.chip)
        few = rows.n < FEWEST_TOKENS
        return dense, ~dense & few, ~dense & ~few
