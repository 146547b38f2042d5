"""Products priced per second in arrays, beside calls one at a time, which must give the same bits."""

from __future__ import annotations

import os

os.environ["NUMBA_NUM_THREADS"] = "1"  # per core

import numpy as np
from measuring import median_seconds, report

from simsparse import estimate_gemm

MACHINE = "a100-sxm-80gb"
ARRAY, SINGLES, CHECKED = 100_000, 300, 300


def rate(pattern: str, kernel: str) -> None:
    """Print prices a second of one pattern by one policy."""
    rng = np.random.default_rng(0)
    m, n, k = (64 * rng.integers(1, 257, ARRAY) for _ in range(3))

    def array(count: int = ARRAY) -> np.ndarray:
        found = estimate_gemm(MACHINE, m[:count], n[:count], k[:count], pattern=pattern, kernel=kernel)
        return np.stack([found.latency_s, found.energy_j, found.dense_latency_s])

    def single(i: int) -> np.ndarray:
        found = estimate_gemm(MACHINE, int(m[i]), int(n[i]), int(k[i]), pattern=pattern, kernel=kernel)
        return np.stack([found.latency_s, found.energy_j, found.dense_latency_s])

    array(1000)
    many = ARRAY / median_seconds(array, repeats=5)
    one = SINGLES / median_seconds(lambda: [single(i) for i in range(SINGLES)], repeats=3)
    same = np.array_equal(array()[:, :CHECKED], np.concatenate([single(i) for i in range(CHECKED)], axis=1))
    report(f"{pattern}, kernel {kernel}, array", f"{many:,.0f} /s", "at least 300,000 /s")
    report("  one at a time", f"{one:,.0f} /s")
    report("  the same bit for bit", "yes" if same else "NO", "yes")


if __name__ == "__main__":
    for pattern, kernel in (("dense", "cublas"), ("dense", "best"), ("2:4", "cusparselt"), ("2:4", "best")):
        rate(pattern, kernel)
    rate("unstructured:0.9", "best")
