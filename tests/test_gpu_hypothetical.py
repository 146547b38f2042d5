"""Cards that do not exist: other N:M on tensor cores, and zeros of both operands skipped, beside published ratios."""

from __future__ import annotations

import csv
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from accel_models.gpu.kernels.hypothetical import condensed
from simsparse import estimate_gemm, load_machine
from simsparse.errors import InputError, UnknownNameError

CARD, DSTC = "a100-sxm-80gb", "v100-dstc-like"


def test_steps_of_packed_nonzeros_against_every_mask_of_a_group() -> None:
    for density in (0.0, 0.3, 1.0):
        expected = 0.0
        for mask in product((0, 1), repeat=8):
            chance = np.prod([density if bit else 1.0 - density for bit in mask])
            expected += chance * -(-sum(mask) // 4) * 4 / 8
        np.testing.assert_allclose(condensed(np.array([density]), 8, 4), expected, rtol=1e-12)


def test_one_of_four_at_four_times_the_rate() -> None:
    changed = load_machine(CARD, {"structured_rate.1:4": 4.0})
    found = estimate_gemm(changed, 8192, 8192, 8192, pattern="1:4")
    assert found.kernel[0] == "mma-1:4"
    terms = dict(zip(found.prices.term_names, found.prices.terms_s[0], strict=True))
    dense = dict(zip(found.prices.term_names, found.dense_prices.terms_s[0], strict=True))
    assert terms["compute"] == pytest.approx(dense["compute"] / 4 * 0.97 / 0.9, rel=0.05)
    # What it gains is less: operands still come from shared memory.
    shipped = estimate_gemm(CARD, 8192, 8192, 8192, pattern="1:4")
    assert shipped.latency_s[0] > found.latency_s[0] > found.dense_latency_s[0] / 4
    # Nobody has measured such a kernel: its interval is wider than that of the family it stands with.
    wide = found.latency_interval_s[0] / found.latency_s[0]
    known = shipped.latency_interval_s[0] / shipped.latency_s[0]
    assert wide[1] / wide[0] > known[1] / known[0]
    # A pattern that is not 1:4 does not run there, and shipped cards are as they were.
    assert (
        estimate_gemm(changed, 8192, 8192, 8192, pattern="2:4").latency_s[0]
        == (estimate_gemm(CARD, 8192, 8192, 8192, pattern="2:4").latency_s[0])
    )
    with pytest.raises(UnknownNameError, match="mma-1:4"):
        estimate_gemm(CARD, 8192, 8192, 8192, pattern="1:4", kernel="mma-1:4")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dual_side.a_group": 32}, "dual_side.a_group at most 256"),
        ({"dual_side.a_group": 32, "dual_side.a_step": 7}, "a multiple of dual_side.a_step"),
        ({"structured_rate.4:2": 2.0}, "structured_rate for N of more than N, not 4:2"),
    ],
)
def test_features_that_cannot_be(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_machine(CARD, changes)


def test_more_zeros_never_take_more_and_nothing_beats_its_roofline() -> None:
    zeros = np.linspace(0.0, 0.99, 12)
    for name in (DSTC, "a100-rm-stc-like", "a100-uni-stc-like"):
        for kept in (1.0, 0.4):
            found = estimate_gemm(
                name, 4096, 4096, 4096, pattern="unstructured:0.5", density=1.0 - zeros, other_density=kept,
                kernel="dual-side",
            )  # fmt: skip
            assert found.prices.terms_s[:, 0].argsort().tolist() == list(range(len(zeros)))[::-1]
            assert np.all(found.latency_s >= found.prices.roofline_s)


def test_dstc_beside_its_published_curve(evidence: Path) -> None:
    """Time over dense time at ten points (ISCA 2021, fig. 21): 14 % off in the median, 25 % at most; none fitted."""
    with (evidence / "published" / "asic.csv").open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["system"].startswith("DSTC dual-side")]
    assert len(rows) == 10
    zeros = np.array([[float(text) for text in re.findall(r"[AB] ([\d.]+)", row["sparsity"])] for row in rows])
    found = estimate_gemm(
        DSTC, 4096, 4096, 4096, pattern="unstructured:0.5", density=1.0 - zeros[:, 0], other_density=1.0 - zeros[:, 1],
        kernel="dual-side",
    )  # fmt: skip
    measured = np.array([float(row["value"]) for row in rows])
    error = found.latency_s / found.latency_s[0] / (measured / measured[0]) - 1.0
    assert np.median(np.abs(error)) <= 0.145
    assert np.abs(error).max() <= 0.25
