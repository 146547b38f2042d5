"""`calibrate --from`: constants come back from rows that they made, are refused where rows do not say, and overlay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from measurement_rows import write_rows

from simsparse import estimate_gemm, load_machine
from simsparse.calibration.fit import Fit, fit
from simsparse.calibration.identify import collinearity, determined, standard_errors
from simsparse.calibration.measured import spec_toml
from simsparse.cli import main
from simsparse.errors import InputError, UnknownNameError, UnsupportedError
from simsparse.plan import Machine
from simsparse.registry import load_spec

COLUMNS = ("id", "system", "device", "metric", "value", "phase", "M", "N", "K", "dtype", "pattern_text", "threads")
Shape = tuple[int, int, int]
GEMMS: list[Shape] = [(4096, 512, 4096), (1024, 256, 1024), (2048, 1024, 512), (768, 2048, 768)]
GEMVS: list[Shape] = [(4096, 1, 4096), (11008, 1, 4096), (2048, 2, 8192), (8192, 1, 2048)]


def timings(
    truth: Machine, device: str, shapes: Sequence[Shape], patterns: Sequence[str] = ("dense",), *, dtype: str = "fp32"
) -> list[dict[str, object]]:
    """What a machine would take, as a table of measurements has it."""
    rows: list[dict[str, object]] = []
    for m, n, k in shapes:
        for pattern in patterns:
            found = estimate_gemm(truth, m, n, k, pattern=pattern, dtype=dtype)
            rows.append(dict(zip(COLUMNS, (
                f"t-{len(rows)}", found.kernel[0], device, "latency_us", found.latency_s[0] * 1e6, "gemm", m, n, k,
                dtype, pattern, "",
            ), strict=True)))  # fmt: skip
    return rows


def changes(found: Fit) -> dict[str, float]:
    return {f.field: f.after for f in found.fitted}


def test_constants_come_back_from_the_times_that_they_made(tmp_path: Path) -> None:
    true = {"constants.onednn_efficiency": 0.95, "constants.dram_fraction": 0.5}
    truth = load_machine("c6i-2xlarge", true)
    table = write_rows(tmp_path / "times.csv", timings(truth, "AWS c6i.2xlarge", GEMMS + GEMVS))
    found = fit(table, "c6i-2xlarge", list(true))
    assert changes(found) == pytest.approx(true, rel=1e-3)
    assert found.before.median > 0.02
    assert found.after.p90 < 1e-3
    assert found.crossed.p90 < 1e-2
    assert (found.n, found.groups, found.others) == (8, 7, 0)  # two share a matrix


def test_by_default_what_the_rows_determine_is_fitted_and_the_rest_said(tmp_path: Path) -> None:
    truth = load_machine("c6i-2xlarge", {"constants.onednn_efficiency": 0.95})
    table = write_rows(tmp_path / "times.csv", timings(truth, "c6i-2xlarge", GEMMS))
    found = fit(table, "c6i-2xlarge")
    assert changes(found) == pytest.approx({"constants.onednn_efficiency": 0.95}, rel=1e-3)
    reasons = dict(found.left_out)
    assert reasons["dram_core_bytes_per_s"] == "no row depends on it enough"
    assert set(reasons) | set(changes(found)) == {t.field for t in _tunables("c6i-2xlarge")}


def _tunables(name: str) -> Sequence[object]:
    from accel_models.cpu import tunables

    return tunables(load_spec(name))


def test_machines_of_other_families_and_files_are_fitted_alike(tmp_path: Path) -> None:
    """An accelerator on an FPGA whose memory is slow, by the path of its file."""
    slow = load_spec("sat-vcu1525").with_figures({"dram_bytes_per_s_per_channel": 2e8})
    path = tmp_path / "slow.toml"
    path.write_text("\n".join(spec_toml(slow)))
    truth = load_machine(str(path), {"dram_efficiency": 0.5})
    shapes = [(4096, 8, 4096), (2048, 4, 2048), (512, 8, 8192)]
    table = write_rows(tmp_path / "times.csv", timings(truth, "sat-vcu1525", shapes, dtype="fp16"))
    assert changes(fit(table, str(path), ["dram_efficiency"])) == pytest.approx({"dram_efficiency": 0.5}, rel=1e-2)
    table = write_rows(tmp_path / "fast.csv", timings(load_machine("sat-vcu1525"), "sat-vcu1525", shapes, dtype="fp16"))
    with pytest.raises(UnsupportedError, match="3 rows do not determine dram_efficiency: no row depends on it enough"):
        fit(table, "sat-vcu1525")


def test_constants_of_a_card_are_fitted_alike(tmp_path: Path) -> None:
    """By kernel and of the card, found again under the overlay's name."""
    true = {"constants.cublas.efficiency": 0.7, "constants.card.dram_fraction": 0.6}
    table = write_rows(
        tmp_path / "times.csv", timings(load_machine("rtx-3090", true), "rtx-3090", GEMMS + GEMVS, dtype="fp16")
    )
    found = fit(table, "rtx-3090", list(true))
    assert changes(found) == pytest.approx(true, rel=0.03)
    path = tmp_path / "mine.toml"
    path.write_text(found.overlay(load_spec("rtx-3090"), "rtx-3090", "mine").to_toml())
    times = [estimate_gemm(m, 2048, 2048, 2048).latency_s[0] for m in (str(path), load_machine("rtx-3090", true))]
    assert times[0] == pytest.approx(times[1], rel=0.03)
    with pytest.raises(UnknownNameError, match="no kernel with constants is named 'cubla'"):
        load_machine("rtx-3090", {"constants.cubla.efficiency": 0.5})


@pytest.mark.parametrize(
    ("shapes", "fields", "reason"),
    [
        (GEMMS, ["dram_core_bytes_per_s"], "do not determine dram_core_bytes_per_s: no row depends on it"),
        (GEMMS[:2], ["constants.onednn_efficiency"], "2 rows are too few for more than 0 constants"),
        (
            [(64, 16, 64), (48, 32, 64), (64, 32, 48), (80, 16, 64), (64, 24, 64), (96, 16, 48)],
            ["constants.call_cycles", "constants.exposed"],
            "6 rows do not determine",
        ),
    ],
)
def test_what_rows_do_not_determine_is_refused(
    tmp_path: Path, shapes: list[Shape], fields: list[str], reason: str
) -> None:
    table = write_rows(tmp_path / "times.csv", timings(load_machine("c6i-2xlarge"), "c6i-2xlarge", shapes))
    with pytest.raises(UnsupportedError, match=reason):
        fit(table, "c6i-2xlarge", fields)


def test_columns_that_point_the_same_way_cannot_be_told_apart() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 30))
    jacobian = np.column_stack([a, b, a + 1e-3 * b, 1e-3 * b])
    kept, left_out = determined(jacobian, ["a", "b", "like a", "weak"])
    assert len(kept) == 2
    assert 1 in kept
    reasons = dict(left_out)
    assert reasons["weak"] == "no row depends on it enough"
    assert any("cannot be told apart from" in reason for reason in reasons.values())
    assert collinearity(np.eye(4)[:, :2]) == pytest.approx(1.0)
    assert collinearity(np.column_stack([a, 2 * a])) == np.inf


def test_standard_errors_are_those_of_a_linear_model() -> None:
    """Of a mean: the spread over the root of the count."""
    residuals = np.array([0.1, -0.1] * 50)
    assert standard_errors(np.ones((100, 1)), residuals)[0] == pytest.approx(0.1 / 10, rel=0.01)


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    truth = load_machine("c6i-2xlarge", {"constants.onednn_efficiency": 0.95})
    table = write_rows(tmp_path / "times.csv", timings(truth, "c6i-2xlarge", GEMMS))
    path = tmp_path / "fitted.toml"
    assert main(["calibrate", "--from", str(table), "--on", "c6i-2xlarge", "-o", str(path), "--format", "json"]) == 0
    return path


def test_an_overlay_is_a_machine_and_leaves_the_datasheet_alone(fitted: Path) -> None:
    machine, truth = load_machine(str(fitted)), load_machine("c6i-2xlarge", {"constants.onednn_efficiency": 0.95})
    assert machine.name == "fitted"
    here, there = (estimate_gemm(m, 3000, 300, 3000, dtype="fp32").latency_s[0] for m in (machine, truth))
    assert here == pytest.approx(there, rel=1e-3)
    text = fitted.read_text()
    assert 'base = "c6i-2xlarge"' in text
    assert "clock_hz" not in text
    figures = dict(load_spec(str(fitted)).figures())
    source = figures["constants.onednn_efficiency"].source
    assert source.startswith("fitted: 4 rows of times.csv; 0.87 before; median error")
    assert figures["clock_hz"].source == dict(load_spec("c6i-2xlarge").figures())["clock_hz"].source


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('base = "c6i-2xlarge"', 'base = "c6i-4xlarge"', "base_hash of overlay 'other.toml' is"),
        ('base = "c6i-2xlarge"', 'base = "nothing"', "no machine is named 'nothing'"),
        ('base = "c6i-2xlarge"', 'base = "fitted.toml"', "expected a machine, not another overlay"),
        ("constants.onednn_efficiency", "constants.nonsense", "names of constants, which 'nonsense' is not"),
        ("constants.onednn_efficiency", "sm_count", "no field of machine 'c6i-2xlarge' is named 'sm_count'"),
    ],
)
def test_an_overlay_for_another_machine_is_refused(
    fitted: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    other = fitted.with_name("other.toml")
    other.write_text(fitted.read_text().replace(old, new))
    capsys.readouterr()
    assert main(["simulate", "bert-large", "--on", str(other)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


ROW = {
    "id": "r", "system": "gemm", "device": "c6i-2xlarge", "metric": "latency_us", "value": 1000, "phase": "gemm",
    "M": 1024, "N": 128, "K": 1024, "dtype": "fp32", "pattern_text": "dense",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "a100-sxm-80gb"}, "expected rows of c6i-2xlarge, the machine to be fitted"),
        ({"device": "my laptop"}, "device of the measurements is 'my laptop'"),
        ({"metric": "seconds"}, "metric of row r is 'seconds', expected one of latency_s"),
        ({"value": "-3"}, "value in row 2 of times.csv is '-3', expected a number above zero"),
        ({"value": 4e9}, "is the unit latency_us?"),
        ({"value": 20.0}, "no faster than peak arithmetic and memory allow"),
        ({"pattern_text": "2:4", "system": "ITREX"}, "none of the 1 rows of c6i-2xlarge can be fitted to"),
        ({}, "1 rows do not determine"),
    ],
)
def test_bad_tables_are_refused_in_one_line_and_leave_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], message: str
) -> None:
    table = write_rows(tmp_path / "times.csv", [{**ROW, **change}])
    target = tmp_path / "fitted.toml"
    assert main(["calibrate", "--from", str(table), "--on", "c6i-2xlarge", "-o", str(target)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["times.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,system,device,value\n1,gemm,c6i-2xlarge,3\n", "expected metric among them"),
        ("id,system,device,metric,value\n1,gemm,c6i-2xlarge\n", "expected as many cells as the header has columns"),
        ("", "expected id, system, device, metric, value among them"),
        ("id,system,device,metric,value\n", "device of the measurements is 'none', expected rows of c6i-2xlarge"),
    ],
)
def test_tables_that_lack_columns_or_rows_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    table = tmp_path / "times.csv"
    table.write_text(text)
    assert main(["calibrate", "--from", str(table), "--on", "c6i-2xlarge", "-o", str(tmp_path / "fitted.toml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == [table]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "x.toml"], "calibrate has nothing to do, expected cpu, gpu, or --from"),
        (["-o", "x.csv", "cpu"], "expected a file that ends in .toml"),
        (["-o", "x.toml", "fpga"], "machine to measure is 'fpga', expected one of cpu, gpu"),
        (["-o", "x.toml", "cpu", "--on", "c6i-large"], "expected nothing beside cpu, which is measured here"),
    ],
)
def test_bad_arguments_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["calibrate", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_row_that_beats_the_peak_is_left_out_and_named_and_many_refuse_the_table(tmp_path: Path) -> None:
    """A timer that stopped early, or a peak that was measured on a busy machine, ends no fit; another machine does."""
    truth = load_machine("c6i-2xlarge", {"constants.onednn_efficiency": 0.95})
    rows = timings(truth, "c6i-2xlarge", [*GEMMS, *GEMVS])
    rows[0]["value"] = float(str(rows[0]["value"])) / 2.5
    found = fit(write_rows(tmp_path / "times.csv", rows), "c6i-2xlarge", ["constants.onednn_efficiency"])
    assert found.unpriced == (("over 1.5 times the peak of c6i-2xlarge: t-0", 1),)
    assert changes(found) == pytest.approx({"constants.onednn_efficiency": 0.95}, rel=1e-3)
    rows[1]["value"] = float(str(rows[1]["value"])) / 2.5
    with pytest.raises(InputError, match=r"^value of row t-0 is .*, expected no faster than .*, as are 1 other rows$"):
        fit(write_rows(tmp_path / "times.csv", rows), "c6i-2xlarge")


def test_published_rows_of_a_phone_are_fitted_better_and_hold_without_their_model(evidence: Path) -> None:
    found = fit(evidence / "published" / "cpu.csv", "snapdragon-835", ["constants.xnnpack_efficiency"])
    assert found.n == 13
    assert found.after.p90 < found.before.p90  # near what all phones together give
    assert found.crossed.median < 0.06


def test_a_fitted_machine_is_not_fitted_again(fitted: Path) -> None:
    with pytest.raises(InputError, match="expected a machine, not one that is fitted already"):
        fit(fitted.with_name("times.csv"), str(fitted))
