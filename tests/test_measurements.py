"""Tables of measurements are read strictly, and predictions are put in each row's own metric."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measurement_rows import GEMM, Row, Write

from simsparse.errors import InputError, SimsparseError
from simsparse.measurements import REQUIRED, Use, read_measurements
from simsparse.outcomes import METRICS, Outcome, in_metric
from simsparse.validate import validate

pytestmark = pytest.mark.usefixtures("toy")

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
