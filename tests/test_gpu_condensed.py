"""Constant fan-in on a GPU (SRigL): how rows are read, what the kernel runs, and how near it comes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simsparse import estimate_gemm
from simsparse.errors import UnsupportedError
from simsparse.validate import validate

TOKENS = [1, 16, 256, 1024, 2048]


def times_s(fan_in: int) -> np.ndarray:
    return estimate_gemm(
        "titan-v", 768, TOKENS, 3072, pattern=f"{fan_in}:3072", dtype="fp32", kernel="condensed"
    ).latency_s  # fmt: skip


def test_few_tokens_wait_for_the_chain_of_loads_and_many_for_the_gathers() -> None:
    some, twice = times_s(154), times_s(308)
    assert some[0] == pytest.approx(some[1], rel=0.01)  # one token or sixteen
    assert (twice[:2] - some[:2]) == pytest.approx(154 * 1.3e-7, rel=0.01)
    assert twice[-1] / twice[-2] == pytest.approx(2.0, rel=0.05)
    assert np.all(twice > some)


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="rows do not all have as many nonzeros"):
        estimate_gemm("titan-v", 768, 1, 3072, pattern="unstructured:0.9", dtype="fp32", kernel="condensed")


def test_measured_rows(evidence: Path) -> None:
    """Host time of 20 µs a call is in the rows, and is not predicted: where the card takes longer it does not show."""
    rows = validate([evidence / "published" / "gpu_other.csv"], systems=["SRigL*transposed own kernel"]).rows
    assert len(rows) == 48
    assert {row.kernel for row in rows} == {"condensed"}
    beyond_host = [abs(row.error) for row in rows if row.measured > 30.0]
    assert len(beyond_host) >= 30
    assert np.median(beyond_host) <= 0.12
    assert max(beyond_host) <= 0.37
    short = [row for row in rows if row.pattern == "unstructured:0.99" and row.measured < 21.5]
    assert short
    assert all(row.predicted < row.measured for row in short)
