"""Multiply-accumulates per clock and SM of one card, looked up for arrays of problems."""

from __future__ import annotations

import numpy as np

from accel_models.gpu.spec import GpuSpec
from simsparse.plan import COMPUTE_TYPES, Floats, ProblemColumn

C = ProblemColumn
# Lanes whose instruction an SM issues in a clock: four schedulers, 32 lanes (since Volta).
ISSUE_LANES = 128.0
# Warps that an SM holds at once, where they are not 64, by compute capability (recalled: CUDA programming guide).
WARPS = {"7.5": 32.0, "8.6": 48.0, "8.7": 48.0, "8.9": 48.0, "12.0": 48.0, "12.1": 48.0}


def capability_of(spec: GpuSpec) -> float:
    """Compute capability as a number: 8.6."""
    return float(spec.compute_capability.value)


class Rates:
    """Tables of a card's rates by type and accumulator; zero where it has none.

    Parameters
    ----------
    spec : GpuSpec
    """

    def __init__(self, spec: GpuSpec) -> None:
        full = [spec.rate(name) for name in COMPUTE_TYPES]
        half = [spec.rate(f"{name}_acc16") or spec.rate(name) for name in COMPUTE_TYPES]
        # fp32 has no tensor cores: its rate is that of the CUDA cores.
        simt = full[COMPUTE_TYPES.index("fp32")]
        on_tensor_cores = np.array([name != "fp32" for name in COMPUTE_TYPES])
        self._tensor = np.array([full, half]) * on_tensor_cores
        # Types that CUDA cores multiply: fp32 and the 16-bit ones (bf16 since 8.0), widened for an fp32 accumulator and
        # two to a lane for one of their own.
        capability = capability_of(spec)
        types = ("fp32", "fp16", "bf16") if capability >= 8.0 else ("fp32", "fp16")
        wide = np.array([name in types for name in COMPUTE_TYPES])
        packed = np.array([2.0 if name in ("fp16", "bf16") else 1.0 for name in COMPUTE_TYPES])
        self._simt = simt * np.array([wide, wide * packed])
        self.capability = capability
        self.smem_bytes_per_clock = spec.smem_bytes_per_clock.value
        self.warps = WARPS.get(spec.compute_capability.value, 64.0)
        self.clock_hz = spec.boost_clock_hz.value
        self._sparse = np.array([spec.sparse_gain(name) for name in COMPUTE_TYPES])

    def tensor(self, problem: Floats) -> Floats:
        """Dense rate on tensor cores."""
        half = (problem[:, C.ACCUMULATE_BITS] == 16).astype(np.int64)
        rates: Floats = self._tensor[half, problem[:, C.COMPUTE].astype(np.int64)]
        return rates

    def sparse(self, problem: Floats) -> Floats:
        """Dense-equivalent rate with a 2:4 operand."""
        rates: Floats = self.tensor(problem) * self._sparse[problem[:, C.COMPUTE].astype(np.int64)]
        return rates

    def issued(self, problem: Floats, others: float) -> Floats:
        """Rate on CUDA cores where `others` instructions come with every multiplication.

        Four schedulers issue an instruction for 32 lanes each clock. GA100 has lanes for half of that, so that other
        instructions fit beside multiplications; on GA10x, Ada and later cards they take slots of multiplications.
        """
        return np.minimum(self.simt(problem), ISSUE_LANES / (1.0 + others))

    def simt(self, problem: Floats) -> Floats:
        """Rate on CUDA cores."""
        half = (problem[:, C.ACCUMULATE_BITS] == 16).astype(np.int64)
        rates: Floats = self._simt[half, problem[:, C.COMPUTE].astype(np.int64)]
        return rates
