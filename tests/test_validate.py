"""Predictions beside measurements: scores are as written, claims apart, unpriced rows count in full."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from measurement_rows import GEMM, Write
from rich.console import Console
from toy_machine import Toy

from simsparse.errors import InputError
from simsparse.plan import Plan, Prices
from simsparse.registry import registered
from simsparse.scores import Group
from simsparse.simulate import estimate_gemm
from simsparse.validate import ValidationReport, validate
from simsparse.validate_render import validation_table

pytestmark = pytest.mark.usefixtures("toy")


def only_group(report: ValidationReport) -> Group:
    (group,) = report.groups
    return group


def test_a_table_of_seven_columns_is_enough(write: Write) -> None:
    report = validate(write(GEMM))
    (row,) = report.rows
    expected = float(estimate_gemm("toy", 64, 128, 256).latency_s[0]) / 1e-6
    assert (row.predicted, row.kernel, row.reason) == (expected, "dense", "")
    assert row.error == expected / 10 - 1
    assert (row.low, row.high) == (None, None)


def test_rows_equal_single_estimates_bit_for_bit(write: Write) -> None:
    shapes = [(64 * i, 128, 4096 // i) for i in (1, 2, 4, 8, 16)]
    patterns = ["dense", "2:4", "1:4", "unstructured:0.9"]
    rows = [
        {**GEMM, "id": f"{m}-{p}-{o}", "M": m, "N": n, "K": k, "pattern_text": p, "sparse_operand": o, "phase": "gemm"}
        for m, n, k in shapes
        for p in patterns
        for o in "AB"
    ]
    report = validate(write(*rows))
    assert [row.id for row in report.rows] == [row["id"] for row in rows]
    for row, source in zip(report.rows, rows, strict=True):
        m, n, k = (int(source[x]) for x in "MNK")
        single = estimate_gemm("toy", m, n, k, pattern=source["pattern_text"], sparse_operand=source["sparse_operand"])
        assert row.predicted == float(single.latency_s[0]) / 1e-6


def test_scores_of_a_group(write: Write) -> None:
    latency_us = float(estimate_gemm("toy", 64, 128, 256).latency_s[0]) * 1e6
    longer_us = float(estimate_gemm("toy", 64, 1280, 256).latency_s[0]) * 1e6
    measured = [latency_us / 1.1, latency_us / 0.8, longer_us / 1.3]
    widths = (128, 128, 1280)
    rows = [{**GEMM, "id": i, "value": repr(v), "N": n} for i, v, n in zip("abc", measured, widths, strict=True)]
    unknown = {**GEMM, "id": "d", "pattern_text": "attn-token:0.5", "sparse_operand": "mask"}
    group = only_group(validate(write(*({"pattern_text": "dense", **row} for row in rows), unknown)))
    errors = [0.1, -0.2, 0.3]
    assert (group.n, group.priced) == (4, 3)
    assert math.isclose(group.median_abs_error, np.median([*map(abs, errors), 1.0]))
    assert math.isclose(group.p90_abs_error, np.quantile([*map(abs, errors), 1.0], 0.9))
    assert math.isclose(group.bias, 0.1)
    # One pair is tied in the prediction: tau-b is 2 concordant pairs over sqrt(3 * 2).
    assert math.isclose(group.kendall_tau, 2 / math.sqrt(6))
    ((reason, count),) = group.unpriced
    assert count == 1
    assert "mask" in reason


def test_only_rows_that_name_one_pattern_count_when_unpriced(write: Write) -> None:
    named = {**GEMM, "device": "nobody's card", "pattern_text": "2:4", "phase": "gemm"}
    unnamed = {**named, "id": "2", "pattern_text": ""}
    report = validate(write(named, unnamed))
    assert [(row.error, row.predicted) for row in report.rows] == [(-1.0, None), (None, None)]
    group = only_group(report)
    assert (group.n, group.priced, group.median_abs_error, group.bias) == (2, 0, 1.0, None)
    assert group.unpriced == (('no machine is known by "nobody\'s card"', 2),)


def test_claims_stand_apart_and_memory_is_never_scored(write: Write) -> None:
    claim = {**GEMM, "id": "claim", "use": "claim", "metric": "speedup_max", "pattern_text": "2:4", "value": 2}
    vague = {**claim, "id": "vague", "value": "1.3-2.4"}
    recalled = {**GEMM, "id": "recalled", "use": "yes", "quality": "memory_unverified"}
    plain = {**GEMM, "id": "plain", "use": "yes"}
    report = validate(write(claim, vague, recalled, plain))
    assert [row.id for row in report.rows] == ["plain"]
    assert [(row.id, row.measured) for row in report.claims] == [("claim", 2.0), ("vague", None)]
    assert report.claims[0].predicted == float(estimate_gemm("toy", 64, 128, 256, pattern="2:4").speedup[0])
    assert [group.n for group in report.groups] == [1]


def test_a_folder_is_searched_and_other_tables_in_it_are_named(write: Write, tmp_path: Path) -> None:
    write(GEMM)
    (tmp_path / "deep").mkdir()
    write({"id": 1, "cycles": 2}, name="deep/counts.csv")
    report = validate(tmp_path)
    assert len(report.rows) == 1
    assert report.skipped == (str(tmp_path / "deep" / "counts.csv"),)


def test_json_has_the_keys_of_the_schema(write: Write) -> None:
    data = json.loads(validate(write(GEMM)).to_json())
    assert data["schema_version"] == 1
    scores = "n priced median_abs_error p90_abs_error fitted held_out bias kendall_tau coverage unpriced"
    assert set(data["groups"][0]) == {"system", "device", "metric", *scores.split()}
    assert set(data["rows"][0]) >= {"id", "kernel", "measured", "predicted", "error", "low", "high", "fitted"}
    assert data["groups"][0]["kendall_tau"] is None


class FittedToy(Toy):
    """A toy that was fitted on a row, and that is 10 % off at most."""

    fitted_rows = frozenset({"in"})

    def price(self, plan: Plan) -> Prices:
        prices = super().price(plan)
        return replace(prices, interval=np.tile([0.9, 1.1, 1.0, 1.0], (len(prices), 1)))


def test_fitted_rows_stand_apart_and_intervals_are_counted(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registered(), "machines", {"toy": FittedToy()})
    latency_us = float(estimate_gemm("toy", 64, 128, 256).latency_s[0]) * 1e6
    rows = [
        {**GEMM, "id": name, "value": latency_us / ratio} for name, ratio in (("in", 1.05), ("a", 0.7), ("b", 1.08))
    ]
    report = validate(write(*rows))
    group = only_group(report)
    assert (group.fitted.n, group.held_out.n) == (1, 2)
    assert group.fitted.median_abs_error == pytest.approx(0.05)
    assert group.held_out.median_abs_error == pytest.approx((0.3 + 0.08) / 2)
    assert [row.fitted for row in report.rows] == [True, False, False]
    assert [row.covered for row in report.rows] == [True, False, True]
    assert group.coverage == pytest.approx(2 / 3)
    assert (report.rows[0].low, report.rows[0].high) == pytest.approx((0.9 * latency_us, 1.1 * latency_us))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(validation_table(report))
    assert "67% 1 5.0% 5.0% 2 19.0% 27.8%" in " ".join(console.export_text().split())


def test_the_table_shows_scores_reasons_and_claims(write: Write) -> None:
    unknown = {**GEMM, "id": "2", "device": "abacus"}
    claim = {**GEMM, "id": "3", "use": "claim", "metric": "speedup", "value": 2}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(
        validation_table(validate(write({"use": "yes", **GEMM}, {"use": "yes", **unknown}, claim)), rows=True)
    )
    lines = [line.split() for line in console.export_text().splitlines()]
    predicted = float(estimate_gemm("toy", 64, 128, 256).latency_s[0]) / 1e-6
    error = abs(predicted / 10 - 1)
    assert ["best", "toy", "latency_us", "1/1", f"{error:.1%}", f"{error:.1%}", f"{predicted / 10 - 1:+.1%}"] in lines
    assert any(line[:3] == ["best", "abacus", "1"] and "known" in line for line in lines)
    assert any(line[:1] == ["3"] and "-50.0%" in line for line in lines)


def test_frame_has_claims_too(write: Write) -> None:
    frame = validate(write(GEMM, {**GEMM, "id": "2", "use": "claim"})).to_frame()
    assert frame["use"].tolist() == ["yes", "claim"]


@pytest.mark.parametrize("options", [{"systems": ["BE*"]}, {"devices": ["to?"]}, {"phases": ["gemm"]}])
def test_filters_are_globs(write: Write, options: dict[str, list[str]]) -> None:
    path = write({**GEMM, "phase": "gemm"}, {**GEMM, "system": "other", "device": "other", "phase": "op"})
    assert [row.system for row in validate(path, **options).rows] == ["best"]
    with pytest.raises(InputError, match=r"^filter is 'nothing', expected at least one of the 2 rows to match$"):
        validate(path, **{name: ["nothing"] for name in options})


def test_dense_and_2_4_products_on_tensor_cores(evidence: Path) -> None:
    """cuBLAS and cuSPARSELt rows: median error at most 2 % (most are in the fit), at least 97 % of them priced."""
    report = validate(evidence / "published" / "gpu24.csv", systems=["cuBLAS*", "cuSPARSELt*"])
    overall = report.overall
    assert overall.n >= 150
    assert overall.priced >= 0.97 * overall.n
    assert overall.median_abs_error is not None
    assert overall.median_abs_error <= 0.02


def test_all_evidence_is_read(evidence: Path) -> None:
    report = validate(evidence)
    assert {row.id.rpartition("-")[0] for row in report.rows} >= {"gpu24", "gpu_nm_cudacore", "cpu", "attention"}
    assert all(row.priced or row.reason for row in (*report.rows, *report.claims))
    named = [row for row in report.rows if row.pattern and not row.priced]
    assert all(row.error == -1.0 for row in named)
