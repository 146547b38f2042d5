"""What is bound by bytes: elementwise kernels, and transfers between devices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel_models.gpu.columns import MAP_WIDTH, Map
from accel_models.gpu.fitted import FamilyConstants
from simsparse.machine import Kernel, Refusal
from simsparse.plan import Floats, ProblemKind


class Elementwise(Kernel):
    """Norms, softmax, gathers, activations, optimizers: one pass over memory."""

    name = "stream"
    kinds = (ProblemKind.STREAM,)

    def __init__(self, constants: FamilyConstants) -> None:
        self.constants = constants

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """None."""
        yield from ()

    def map(self, problem: Floats) -> Floats:
        """Launch and the fraction of bandwidth."""
        rows = np.zeros((len(problem), MAP_WIDTH))
        rows[:, Map.LAUNCH_S] = self.constants.launch_s
        rows[:, Map.DRAM_FRACTION] = self.constants.dram_fraction
        return rows


class Link(Elementwise):
    """Collectives over the card's links, and copies from and to the host."""

    name = "link"
    kinds = (ProblemKind.TRANSFER,)
