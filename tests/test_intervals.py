"""80 % intervals: of one call as the machine gives them, of sums by the rule, in every metric and output."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsparse import estimate_gemm, simulate
from simsparse.intervals import Calls, through
from simsparse.outcomes import METRICS, Outcome, interval_in_metric
from simsparse.plan import Prices

CARD = "a100-sxm-80gb"
RUN = Outcome("k", 2.0, 6.0, 100.0, 200.0, 4e12, latency_interval_s=(1.0, 4.0), speedup_interval=(2.5, 3.5))


def calls(seconds: list[float], kernel: list[int], rows: list[list[float]]) -> Calls:
    return Calls(np.array(seconds), np.array(kernel), np.array(rows))


def test_one_call_has_its_own_factors() -> None:
    one = calls([2.0], [0], [[0.9, 1.2, 0.8, 1.25]])
    assert one.latency_s == pytest.approx((1.8, 2.4))
    assert one.speedup(6.0) == pytest.approx((3.0 * 0.8, 3.0 * 1.25))


def test_calls_of_one_kernel_are_off_together_and_kernels_are_not() -> None:
    rows = [[0.9, 1.2, 1.0, 1.0], [0.9, 1.2, 1.0, 1.0]]
    assert calls([3.0, 4.0], [5, 5], rows).latency_s == pytest.approx((6.3, 8.4))
    low, high = calls([3.0, 4.0], [5, 6], rows).latency_s
    assert (low, high) == pytest.approx((7.0 - 0.5, 7.0 + 1.0))  # 0.1 and 0.2 of the root of 3² + 4²


def test_what_all_calls_have_in_common_does_not_average_out() -> None:
    rows = np.tile([0.9, 1.3, 1.0, 1.0], (2, 1))
    found = Calls(np.array([3.0, 4.0]), np.array([0, 1]), rows, np.array([0.9, 1.4, 0.8, 1.25]))
    assert found.latency_s == pytest.approx((7.0 - math.hypot(0.5, 0.7), 7.0 + math.hypot(1.5, 2.8)))
    assert found.speedup(14.0) == (2.0, 2.0)  # no call is changed
    sparse = replace(found, interval=np.array([[1.0, 1.0, 0.9, 1.1], [1.0, 1.0, 1.0, 1.0]]))
    slower = 7.0 + math.hypot(3.0 * (1 / 0.9 - 1), 3.0 * 0.25)  # the first call is 3 of 7 seconds
    assert sparse.speedup(14.0)[0] == pytest.approx(14.0 / slower)


def test_calls_that_are_dense_do_not_blur_a_speedup() -> None:
    both = calls([3.0, 1.0], [0, 1], [[0.5, 2.0, 1.0, 1.0], [0.5, 2.0, 0.5, 2.0]])
    assert both.speedup(6.0) == pytest.approx((6.0 / 5.0, 6.0 / 3.5))


@given(st.lists(st.tuples(st.floats(1e-6, 1), st.integers(0, 3), st.floats(0.3, 1), st.floats(1, 3)), min_size=1))
def test_a_sum_is_never_surer_than_independent_nor_less_sure_than_joint_calls(
    some: list[tuple[float, int, float, float]],
) -> None:
    seconds, kernel, low, high = map(np.array, zip(*some, strict=True))
    found = Calls(seconds, kernel, np.stack([low, high, low, high], axis=1)).latency_s
    total, joint = seconds.sum(), (seconds @ low, seconds @ high)
    apart = total - np.linalg.norm(seconds * (1 - low)), total + np.linalg.norm(seconds * (high - 1))
    assert joint[0] * (1 - 1e-9) <= found[0] <= apart[0] * (1 + 1e-9) <= total * (1 + 1e-9)
    assert joint[1] * (1 + 1e-9) >= found[1] >= apart[1] * (1 - 1e-9) >= total * (1 - 1e-9)


@pytest.mark.parametrize(
    ("metric", "bounds"),
    [
        ("latency_s", (1.0, 4.0)), ("latency_ms", (1e3, 4e3)), ("tokens_per_s", (0.25, 1.0)), ("tflops", (1.0, 4.0)),
        ("speedup_vs_dense", (2.5, 3.5)), ("energy_j", None), ("memory_GB", None), ("power_W", None),
    ],
)  # fmt: skip
def test_bounds_in_the_metric_of_a_row(metric: str, bounds: tuple[float, float] | None) -> None:
    assert interval_in_metric(RUN, metric) == (None if bounds is None else pytest.approx(bounds))
    assert interval_in_metric(replace(RUN, latency_interval_s=None, speedup_interval=None), metric) is None


def test_every_metric_lies_within_its_bounds() -> None:
    for metric, function in METRICS.items():
        bounds = interval_in_metric(RUN, metric)
        if bounds is not None:
            assert bounds[0] <= function(RUN) <= bounds[1]
    assert through(lambda x: 1.0 / x, (1.0, 4.0)) == (0.25, 1.0)


def test_gpu_predictions_lie_within_their_bounds() -> None:
    for card in (CARD, "rtx-4090"):
        for pattern in ("dense", "2:4", "unstructured:0.9"):
            found = estimate_gemm(card, [64, 4096], [1, 2048], 4096, pattern=pattern)
            for bounds, value in (
                (found.latency_interval_s, found.latency_s), (found.speedup_interval, found.speedup),
            ):  # fmt: skip
                assert bounds is not None
                assert np.all(bounds[:, 0] <= value)
                assert np.all(value <= bounds[:, 1])


def test_a_card_that_was_never_seen_is_less_sure() -> None:
    def width(card: str, kernel: str) -> float:
        bounds = estimate_gemm(card, 4096, 4096, 4096, kernel=kernel, dtype="fp32").prices.interval
        assert bounds is not None
        return float(bounds[0, 1] / bounds[0, 0])

    assert width("rtx-3090", "cublas-simt") <= width("a40", "cublas-simt") < width("rtx-4090", "cublas-simt")


def test_a_result_says_them_everywhere() -> None:
    result = simulate("opt-125m", CARD, phase="prefill", seq=512, sparsity={"*.fc*": "2:4"})
    assert result.latency_interval_s is not None
    assert result.speedup_interval is not None
    assert result.latency_interval_s[0] < result.latency_s < result.latency_interval_s[1]
    assert result.speedup_interval[0] < result.speedup < result.speedup_interval[1]
    data = json.loads(result.to_json())
    assert data["speedup_interval"] == list(result.speedup_interval)
    for call in data["calls"]:
        assert call["latency_low_s"] <= call["latency_s"] <= call["latency_high_s"]
    dense = simulate("opt-125m", CARD, phase="prefill", seq=512)
    assert dense.speedup_interval == pytest.approx((1.0, 1.0))


@pytest.mark.usefixtures("toy")
def test_prices_without_intervals_stay_without() -> None:
    found = estimate_gemm("toy", [64, 128], 32, 64)
    assert found.latency_interval_s is None
    assert found.speedup_interval is None
    with_some = estimate_gemm(CARD, [64, 128, 256], 32, 64).prices
    assert isinstance(with_some.take([2, 0]), Prices)
    assert with_some.interval is not None
    np.testing.assert_array_equal(with_some.take([2, 0]).interval, with_some.interval[[2, 0]])
    assert math.isfinite(float(with_some.interval.sum()))
