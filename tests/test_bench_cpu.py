"""What `make bench-cpu` says of its rows: which of dense and sparse is faster, and how calibrations repeat."""

from __future__ import annotations

from pathlib import Path

import pytest
from cpu_kernels import PARTS, Group, Rows, groups
from cpu_tables import Timing, repeated, sides

from accel_models.cpu.measuring.machine import Line
from accel_models.cpu.measuring.products import ONE_THREAD, Product
from simsparse.measurements import Measurement, read_measurements

NAN = float("nan")


def timing(system: str, pattern: str, measured_s: float, predicted_s: float, threads: int = 2) -> Timing:
    """Of a product of 64 x 8 x 32."""
    row = Measurement(
        "r", f"{system} 1.0", "here", "latency_s", measured_s, m=64, n=8, k=32, pattern=pattern, threads=threads
    )
    return Timing(row, 1, predicted_s)


def test_the_fastest_sparse_run_stands_against_the_fastest_dense_one() -> None:
    timings = [
        timing("numpy", "dense", 2.0, 2.0), timing("onnxruntime", "dense", 3.0, 1.0),
        timing("numba-csr", "unstructured:0.5", 2.5, 1.5), timing("scipy-csr", "unstructured:0.5", 4.0, 4.0, 1),
        timing("scipy-csr", "unstructured:0.9", 1.5, 0.5, 1), timing("scipy-bsr", "block4x4:0.9", 0.1, 0.1, 1),
        timing("numba-csr", "unstructured:0.8", 1.0, NAN), timing("numpy", "dense", 0.1, 0.1, 1),
    ]  # fmt: skip
    # At two threads: numpy's 2.0 measured, ONNX Runtime's 1.0 predicted; scipy has one thread wherever it runs.
    key = (64, 8, 32)
    assert sides(timings, 2, measured=True) == {
        (*key, "unstructured:0.5"): False, (*key, "unstructured:0.9"): True, (*key, "unstructured:0.8"): True,
    }  # fmt: skip
    assert sides(timings, 2, measured=False)[*key, "unstructured:0.9"]
    assert (*key, "unstructured:0.8") not in sides(timings, 2, measured=False)
    # At one thread numpy alone is dense, and faster than either run of scipy.
    assert sides(timings, 1, measured=True) == {(*key, "unstructured:0.5"): False, (*key, "unstructured:0.9"): False}


def test_calibrations_agree_or_say_that_they_do_not() -> None:
    runs = [
        {"steady": (1.0, False), "far": (1.0, False), "told": (1.0, True), "once": (1.0, False)},
        {"steady": (1.09, False), "far": (1.2, False), "told": (2.0, False)},
        {"steady": (1.05, False), "far": (1.1, False), "told": (1.5, False)},
    ]
    assert repeated(runs) == (3, pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_groups_cover_every_model_in_every_part() -> None:
    found = groups(quick=False)
    assert [group.part for group in found] == sorted(group.part for group in found)
    for part in range(1, PARTS + 1):
        models = {group.model for group in found if group.part == part}
        assert models == {"LLaMA-7B", "OPT-1.3B", "BERT-base", "MobileNet"}
    assert len({(group.m, group.n, group.k) for group in found}) == len(found)
    assert not {product.system for product in found[0].products(2)} & set(ONE_THREAD)


def test_timed_rows_are_kept_at_once_and_found_again(tmp_path: Path) -> None:
    path, group, other = tmp_path / "rows.csv", Group(2, "BERT-base", 64, 8, 32), Group(2, "BERT-base", 64, 1, 32)
    line = Line("numba-csr", "s", 0.0, 1e-5, 0.02, 9, Product("numba-csr", 64, 8, 32, 0.5), 2)
    Rows(path).add(group, [(line, "0.60")])
    again = Rows(path)
    assert again.has(group)
    assert not again.has(other)
    (row,) = read_measurements(path)
    assert (row.id, row.system, row.value, row.threads) == ("cpu-2-0000", "numba-csr 0.60", 1e-5, 2)
    assert (row.m, row.n, row.k, row.pattern, row.sparse_operand) == (64, 8, 32, "unstructured:0.5", "A")
    assert row.batch == 1
    assert [file.name for file in tmp_path.iterdir()] == ["rows.csv"]
