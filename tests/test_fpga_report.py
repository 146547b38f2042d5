"""`simsparse report sat`: the figures that the model has to show, beside those that are published."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest

from accel_models.fpga.published import published
from accel_models.fpga.report import SatReport, ablation_table, as_data, report, speedup_table, text
from accel_models.fpga.study import ASSUMED, limits
from accel_models.fpga.training import average
from simsparse.cli import main


@lru_cache
def found() -> SatReport:
    return report()


def test_unfitted_speedup() -> None:
    """2:8 gains 1.75 on average in the paper; nothing here is fitted to it."""
    assert 1.6 <= found().average <= 1.9
    assert all(1.0 < row.speedup < row.bound <= 2.0 for row in found().speedups)


def test_one_constant_fitted_to_the_average() -> None:
    fitted = found().fitted
    assert average(fitted.rows) == pytest.approx(1.75, abs=0.05)
    assert 1 <= fitted.value < fitted.unfitted
    assert all(1.0 < row.speedup < row.bound for row in fitted.rows)


def test_arithmetic_bounds_are_reached_in_the_limit() -> None:
    assert [row.bound for row in found().limits] == pytest.approx([1.5, 2.0, 2.4])
    for row in found().limits:
        assert row.reached == pytest.approx(row.bound, rel=1e-3)
        assert row.reached < row.bound
    smaller = limits("sat-vcu1525", size=512)
    assert all(small.reached < large.reached for small, large in zip(smaller, found().limits, strict=True))


def test_every_part_is_worth_something_and_the_reason_is_named() -> None:
    for part in found().ablations:
        pairs = zip(part.rows, found().speedups, strict=True)
        assert all(without.sparse.latency_s > whole.sparse.latency_s for without, whole in pairs), part.part
    named = {part.part: part for part in found().ablations}
    interleave, ahead, scheduling = (
        named[name] for name in ("interleave mapping", "pre-generation", "offline scheduling")
    )
    assert interleave.share + ahead.share + scheduling.share == pytest.approx(1.0)
    assert (interleave.reason, ahead.reason) == ("dependency", "online")
    assert min(interleave.share, ahead.share, scheduling.share) > 0


def test_assumptions_are_swung() -> None:
    rows = {row.assumption: row for row in found().sensitivities}
    assert set(rows) == {*ASSUMED, "batch sizes", "channels of the networks"}
    for row in rows.values():
        for value in (row.low, row.high):
            assert value is None or 1.0 < value < 2.0
            assert (value is None) <= bool(row.note)
    vector = rows["vector_ops_per_cycle"]
    assert vector.low is not None
    assert vector.high is not None
    assert vector.low < found().average < vector.high


def test_figures_of_papers_are_those_of_the_evidence(evidence: Path) -> None:
    rows = []
    for name in ("sat.csv", "fpga.csv"):
        with (evidence / "published" / name).open(encoding="utf-8") as file:
            rows += list(csv.DictReader(file))
    claims = {
        "speedup_vs_dense": "speedup", "throughput_gain_min": "throughput_gain_min",
        "throughput_gain_max": "throughput_gain_max", "energy_eff_gain_min": "energy_gain_min",
        "energy_eff_gain_max": "energy_gain_max",
    }  # fmt: skip
    for metric, field in claims.items():
        (value,) = {row["value"] for row in rows if row["metric"] == metric and row["system"] == "SAT + BDWP"}
        assert getattr(published().sat, field).value == float(value)
    trains = [row for row in rows if row["phase"] == "train"]
    for rival in published().rival:
        name = rival.system.partition(",")[0].partition(" ")[0]
        for figure in (rival.gflops_per_s, rival.gflops_per_j):
            if figure is not None:
                given = {row["value"] for row in trains if name in row["system"] and row["metric"].startswith(FIGURES)}
                assert f"{figure.value:g}" in given, rival


FIGURES = ("throughput_G", "energy_eff_GFLOPS_per_W")


def test_readme_has_the_figures(root: Path) -> None:
    readme = (root / "accel_models" / "fpga" / "README.md").read_text(encoding="utf-8")
    speedups = (speedup_table(rows) for rows in (found().speedups, found().fitted.rows))
    for lines in (*speedups, ablation_table(found().ablations)):
        table = "\n".join(lines)
        assert table in readme, table


def test_report_is_text_and_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accel_models.fpga.report.report", lambda on, sparsity: found())
    assert main(["report", "sat"]) == 0
    printed = capsys.readouterr().out
    assert "\n".join(text(found())) in printed
    assert "2.97 to 25.22 | 1.36 to 3.58" in printed
    assert "not given" in printed
    assert main(["report", "sat", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["schema_version"] == 1
    assert data["average"] == found().average
    assert json.loads(json.dumps(as_data(found())))["resources"]["needed"]["dsp"] == found().needed.dsp
    assert main(["report", "tpu"]) == 2
    assert capsys.readouterr().err == "simsparse: DESIGN is 'tpu', expected one of sat\n"


def test_the_published_average_is_fitted_to_in_its_own_pattern_only() -> None:
    """The paper's 1.75 is of 2:8; elements that take groups of 16 run 2:32 as 2:16, and the report says it."""
    other = replace(found(), pattern="2:32", fitted=None)
    lines = list(text(other))
    assert not any("One constant fitted" in line for line in lines)
    assert any(line.startswith("Published: 1.75 on average in 2:8") for line in lines)
    assert lines[1] == "Elements take groups of 16 at most: 2:32 runs as the sparsest N:M it implies."
    assert as_data(other)["fitted"] is None
    assert "Elements take" not in "\n".join(text(found()))


def test_a_machine_of_another_family_has_no_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "sat", "--on", "a100-sxm-80gb"]) == 2
    complaint = "machine 'a100-sxm-80gb' is no N:M trainer, expected one of the family fpga"
    assert capsys.readouterr().err == f"simsparse: {complaint}\n"
