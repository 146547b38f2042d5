"""Weights with as many nonzeros in every row (constant fan-in), stored as a dense table of values and places."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accel_models.gpu.columns import Map
from accel_models.gpu.kernels.base import C, P, pattern_of
from accel_models.gpu.kernels.unstructured import Sputnik
from simsparse.machine import Refusal
from simsparse.plan import Floats
from simsparse.sparsity import PatternKind


class Condensed(Sputnik):
    """SRigL's kernel over transposed activations: a thread an output and token walks along the output's nonzeros.

    Activations are gathered through L1 as Sputnik's are. No row is longer than another, but a thread waits for a place
    before it can ask for the activation there: `fill_s` passes for every nonzero of an output, whatever the batch.
    """

    name = "condensed"
    patterns = (PatternKind.NM,)
    made_for = "rows do not all have as many nonzeros"

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Nothing kept."""
        yield from super().refusals(problem)
        yield pattern_of(problem)[:, P.N] < 1, "nothing is kept"

    def map(self, problem: Floats) -> Floats:
        """Rows of one length, and a chain of loads along them."""
        rows = super().map(problem)
        rows[:, Map.IMBALANCE] = 1.0
        fan_in = np.ceil(problem[:, C.K] * pattern_of(problem)[:, P.DENSITY])
        rows[:, Map.ROUND_S] = fan_in * self.constants.fill_s
        return rows
