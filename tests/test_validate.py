"""Predictions beside measurements: tables are read strictly, scores are as written, unpriced rows count in full."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from toy_machine import Toy

from simsparse.alias_reader import AliasReader
from simsparse.errors import InputError, SimsparseError
from simsparse.measurements import REQUIRED, Use, read_measurements
from simsparse.outcomes import METRICS, Outcome, in_metric
from simsparse.plan import Plan, Prices
from simsparse.readings import GemmReading, ModelReading, Reader, Unreadable
from simsparse.registry import registered
from simsparse.simulate import estimate_gemm, simulate
from simsparse.validate import ValidationReport, validate
from simsparse.validate_render import validation_table

pytestmark = pytest.mark.usefixtures("toy")

Row = Mapping[str, object]
Write = Callable[..., Path]
GEMM = {"id": "1", "system": "best", "device": "toy", "metric": "latency_us", "value": 10, "M": 64, "N": 128, "K": 256}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows as a CSV file with the columns that any of them has."""

    def write_rows(*rows: Row, name: str = "rows.csv") -> Path:
        path = tmp_path / name
        columns = list(dict.fromkeys(column for row in rows for column in row))
        with path.open("w", newline="", encoding="utf-8") as lines:
            table = csv.DictWriter(lines, columns, restval="")
            table.writeheader()
            table.writerows(rows)
        return path

    return write_rows


def only_group(report: ValidationReport) -> object:
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


RUN = Outcome("k", 2e-3, 6e-3, 0.5, 1.0, 4e12, items=8, tokens=16, memory_bytes=3e9)


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("latency_s", 2e-3), ("latency_ms", 2.0), ("latency_us", 2e3), ("latency_ms_per_token", 2.0), ("tflops", 2e3),
        ("tflops_effective", 2e3), ("speedup", 3.0), ("speedup_vs_dense", 3.0), ("tokens_per_s", 8e3),
        ("items_per_s", 4e3), ("power_W", 250.0), ("memory_GB", 3.0),
    ],
)  # fmt: skip
def test_metrics(metric: str, value: float) -> None:
    assert math.isclose(in_metric(RUN, metric), value)


def test_unknown_metrics_are_refused() -> None:
    assert "cycles" not in METRICS
    with pytest.raises(SimsparseError, match=r"^metric 'cycles' is none that is predicted$"):
        in_metric(RUN, "cycles")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"value": "fast"}, "value in row 2 of rows.csv is 'fast', expected a number above zero"),
        ({"value": "-1"}, "value in row 2 of rows.csv is '-1', expected a number above zero"),
        ({"value": "nan"}, "value in row 2 of rows.csv is 'nan', expected a number above zero"),
        ({"M": "0"}, "M in row 2 of rows.csv is '0', expected a whole number from 1 to 2^40"),
        ({"K": "12.5"}, "K in row 2 of rows.csv is '12.5', expected a whole number from 1 to 2^40"),
        ({"threads": "many"}, "threads in row 2 of rows.csv is 'many', expected a whole number from 1 to 2^40"),
        ({"use": "maybe"}, "use in row 2 of rows.csv is 'maybe', expected one of yes, claim, no"),
    ],
)
def test_bad_cells_name_row_column_and_value(write: Write, cells: Row, message: str) -> None:
    with pytest.raises(InputError) as error:
        validate(write({**GEMM, **cells}))
    assert str(error.value) == message


def test_missing_columns_are_named(write: Write) -> None:
    with pytest.raises(InputError, match=r"^columns of rows.csv is 'id, metric', expected system, device, value among"):
        validate(write({"id": 1, "metric": "latency_s"}))


def test_paths_without_measurements(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a CSV file or a folder with some$"):
        validate(tmp_path)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_rows_or_one_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_bytes(",".join(REQUIRED).encode() + b",M,N,K,use\n" + content)
    with contextlib.suppress(InputError):
        rows = read_measurements(path)
        assert all(row.value is not None for row in rows if row.use is Use.YES)


TABLE = r"""
family = "toys"
threads_field = "threads_used"

[[device]]
match = 'toy card'
machine = "toy"

[[device]]
match = 'toy'
reason = "only toy cards are known"

[[system]]
match = '^SpMM'
phases = ["gemm"]
kernel = "2:4"
dense_kernel = "dense"

[[system]]
match = '^SpMM'
phases = ["train"]
products = [{ m = "M", n = "N", k = "K" }, { m = "N", n = "K", k = "M", dense = true }]

[[system]]
match = '^SpMM'
on = ["*.up_proj"]

[[model]]
match = '^Toy (\w+)'
workload = 'toy-\1'
"""


@pytest.fixture
def reader(tmp_path: Path) -> AliasReader:
    (tmp_path / "toys.toml").write_text(TABLE, encoding="utf-8")
    return AliasReader(tmp_path / "toys.toml")


def read_one(reader: AliasReader, write: Write, **cells: object) -> object:
    (row,) = read_measurements(
        write({**GEMM, "device": "Toy Card 3000", "system": "SpMM v2", "phase": "gemm", **cells})
    )
    return reader.reading(row)


def test_alias_tables_turn_texts_into_readings(reader: AliasReader, write: Write) -> None:
    assert isinstance(reader, Reader)
    sparse = read_one(reader, write, pattern_text="2:4", sparse_operand="B", dtype="fp16, fp16 accumulate", threads=4)
    assert sparse == GemmReading("toy", (("threads_used", 4),), "2:4", "2:4", "fp16", "", "B", 16)
    dense = read_one(reader, write, pattern_text="dense", dtype="w4a16")
    assert dense == GemmReading("toy", (), "dense", "dense", "fp16", "int4", "B", 32)
    sliced = read_one(reader, write, pattern_text="slice:0.25", sparse_operand="B", dtype="bf16")
    assert sliced == GemmReading("toy", (), "dense", "dense", "bf16", "", "A", 32)
    decode = read_one(
        reader, write, phase="decode", model="Toy model", batch=2, seq=64, pattern_text="2:4", instances=3
    )
    assert decode == ModelReading(
        "toy", (), "best", "2:4", "fp16", "", "toy-model", "decode", 2, None, 64, ("*.up_proj",), 3
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"device": "toys"}, "only toy cards are known"),
        ({"dtype": "posit8", "pattern_text": "2:4"}, "no type is known by 'posit8'"),
        ({"pattern_text": ""}, "no single pattern says what is zero"),
        ({"pattern_text": "2:4", "sparse_operand": "AB"}, "sparse operand 'AB' is neither A nor B"),
        ({"pattern_text": "2:4", "phase": "op"}, "no model runs phase 'op'"),
        ({"pattern_text": "2:4", "phase": "encode"}, "several ops timed together, and no model that names them"),
        ({"pattern_text": "2:4", "phase": "encode", "model": "Fable"}, "no workload is known by 'Fable'"),
        ({"pattern_text": "2:4", "phase": "encode", "model": "Toy model", "devices": 2}, "runs on 2 devices together"),
    ],
)
def test_rows_that_cannot_be_read_say_why(reader: AliasReader, write: Write, cells: Row, reason: str) -> None:
    assert read_one(reader, write, **cells) == Unreadable(reason)


def test_devices_of_others_are_left_to_them(reader: AliasReader, write: Write) -> None:
    assert read_one(reader, write, device="abacus", pattern_text="2:4") is None


def test_models_are_simulated(reader: AliasReader, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registered(), "readers", [reader])
    row = {
        **GEMM, "device": "toy card", "system": "SpMM", "phase": "prefill", "model": "Toy model", "batch": 4, "seq": 32,
        "pattern_text": "2:4", "metric": "speedup_vs_dense", "value": 1.5, "M": "", "N": "", "K": "",
    }  # fmt: skip
    (found,) = validate(write(row)).rows
    expected = simulate("toy-model", "toy", sparsity={"*.up_proj": "2:4"}, phase="prefill", batch=4, seq=32)
    assert found.predicted == expected.speedup
    assert expected.speedup > 1


def test_products_timed_together_are_added(reader: AliasReader, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registered(), "readers", [reader])
    row = {
        **GEMM,
        "device": "toy card",
        "system": "SpMM",
        "phase": "train",
        "pattern_text": "2:4",
        "sparse_operand": "B",
    }
    dense = estimate_gemm("toy", 128, 256, 64)
    sparse = estimate_gemm("toy", 64, 128, 256, pattern="2:4", sparse_operand="B")
    (found,) = validate(write(row)).rows
    assert math.isclose(found.predicted or 0, float(sparse.latency_s[0] + dense.latency_s[0]) / 1e-6)
    (speedup,) = validate(write({**row, "metric": "speedup"})).rows
    whole = float(sparse.dense_latency_s[0] + dense.latency_s[0])
    assert math.isclose(speedup.predicted or 0, whole / float(sparse.latency_s[0] + dense.latency_s[0]))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[[device]]\nmatch = '('\nmachine = 'toy'", "a regular expression"),
        ("[[device]]\nmatch = 'a'", "a machine or a reason, not both"),
        ("[[system]]\nmatch = 'a'\nkernels = 'b'", "unknown key 'system.0.kernels'"),
    ],
)
def test_bad_tables_are_refused_in_one_line(tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "bad.toml").write_text(table, encoding="utf-8")
    with pytest.raises(InputError) as error:
        _ = AliasReader(tmp_path / "bad.toml").aliases
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_dense_and_2_4_products_on_tensor_cores(evidence: Path) -> None:
    """cuBLAS and cuSPARSELt rows: median error at most 12 %, at least 97 % of them priced."""
    table = evidence / "published" / "gpu24.csv"
    report = validate(table, systems=["cuBLAS*", "cuSPARSELt*"])
    overall = report.overall
    assert overall.n >= 150
    assert overall.priced >= 0.97 * overall.n
    assert overall.median_abs_error is not None
    assert overall.median_abs_error <= 0.12


def test_all_evidence_is_read(evidence: Path) -> None:
    report = validate(evidence)
    assert {row.id.rpartition("-")[0] for row in report.rows} >= {"gpu24", "gpu_nm_cudacore", "cpu", "attention"}
    assert all(row.priced or row.reason for row in (*report.rows, *report.claims))
    named = [row for row in report.rows if row.pattern and not row.priced]
    assert all(row.error == -1.0 for row in named)
