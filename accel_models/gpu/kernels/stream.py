"""What is bound by bytes: elementwise kernels, pruning and packing for 2:4, and transfers between devices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from accel_models.gpu.columns import MAP_WIDTH, Map
from accel_models.gpu.fitted import FamilyConstants
from simsparse.machine import Kernel, Refusal
from simsparse.ops import StreamKind
from simsparse.plan import Floats, ProblemColumn, ProblemKind

_COMPRESS = list(StreamKind).index(StreamKind.COMPRESS)


class Elementwise(Kernel):
    """Norms, softmax, gathers, activations, optimizers: one pass over memory."""

    name = "stream"
    kinds = (ProblemKind.STREAM,)

    def __init__(self, constants: FamilyConstants) -> None:
        self.constants = constants

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """What chooses and packs as it copies."""
        yield _compresses(problem), "packing 2:4 is more than a pass over memory"

    def map(self, problem: Floats) -> Floats:
        """Launch and the fraction of bandwidth."""
        rows = np.zeros((len(problem), MAP_WIDTH))
        rows[:, Map.LAUNCH_S] = self.constants.launch_s
        rows[:, Map.DRAM_FRACTION] = self.constants.dram_fraction
        return rows


class Compress(Elementwise):
    """Two of every four chosen anew and packed, along rows and along columns, as training with dynamic masks does.

    PyTorch's `_sparse_semi_structured_tile`: a 4 x 4 tile is sorted and filled greedily, so that its rows and columns
    keep two each. Dense values are read once; values and metadata of both orientations are written. `issue_cycles` are
    those of an SM for every element: sorting takes longer than the bytes.
    """

    name = "compress-24"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """All else."""
        yield ~_compresses(problem), "nothing is packed"

    def map(self, problem: Floats) -> Floats:
        """Issue slots for every element."""
        rows = super().map(problem)
        rows[:, Map.ISSUE] = self.constants.issue_cycles
        return rows


def _compresses(problem: Floats) -> NDArray[np.bool_]:
    compresses: NDArray[np.bool_] = problem[:, ProblemColumn.STREAM_KIND] == _COMPRESS
    return compresses


class Link(Elementwise):
    """Collectives over the card's links, and copies from and to the host."""

    name = "link"
    kinds = (ProblemKind.TRANSFER,)
