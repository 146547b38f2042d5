"""Multiply-accumulates per clock and SM of one card, looked up for arrays of problems."""

from __future__ import annotations

import numpy as np

from accel_models.gpu.spec import GpuSpec
from simsparse.plan import COMPUTE_TYPES, Floats, ProblemColumn

C = ProblemColumn


class Rates:
    """Tables of a card's rates by type and accumulator; zero where it has none.

    Parameters
    ----------
    spec : GpuSpec
    """

    def __init__(self, spec: GpuSpec) -> None:
        full = [self._rate(spec, name) for name in COMPUTE_TYPES]
        half = [self._rate(spec, f"{name}_acc16") or self._rate(spec, name) for name in COMPUTE_TYPES]
        # fp32 has no tensor cores: its rate is that of the CUDA cores.
        simt = full[COMPUTE_TYPES.index("fp32")]
        # Lanes that multiply while an address or a load is made for each of them: on GA10x and Ada half of the lanes
        # share their path with integers (recalled from the GA102 whitepaper).
        self.fed_lanes = min(simt, 64.0)
        on_tensor_cores = np.array([name not in ("fp32", "fp64") for name in COMPUTE_TYPES])
        self._tensor = np.array([full, half]) * on_tensor_cores
        # fp16 and narrower run packed, two to an fp32 lane; fp64 at half rate on data-centre parts (assumed).
        self._simt = np.array(
            [simt / 2 if t == "fp64" else simt * (2 if t in ("fp16", "bf16") else 1) for t in COMPUTE_TYPES]
        )
        sparse = [spec.sparse_rate[n].value if n in spec.sparse_rate else 0.0 for n in COMPUTE_TYPES]
        self._sparse = np.array(sparse)

    @staticmethod
    def _rate(spec: GpuSpec, key: str) -> float:
        figure = spec.mac_rate.get(key)  # type: ignore[call-overload]
        return float(figure.value) if figure is not None else 0.0

    def tensor(self, problem: Floats) -> Floats:
        """Dense rate on tensor cores."""
        half = (problem[:, C.ACCUMULATE_BITS] == 16).astype(np.int64)
        rates: Floats = self._tensor[half, problem[:, C.COMPUTE].astype(np.int64)]
        return rates

    def sparse(self, problem: Floats) -> Floats:
        """Dense-equivalent rate with a 2:4 operand."""
        rates: Floats = self.tensor(problem) * self._sparse[problem[:, C.COMPUTE].astype(np.int64)]
        return rates

    def simt(self, problem: Floats) -> Floats:
        """Rate on CUDA cores."""
        rates: Floats = self._simt[problem[:, C.COMPUTE].astype(np.int64)]
        return rates
