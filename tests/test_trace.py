"""`simsparse trace`: table, picture and Chrome trace of a plan run event by event."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from simsparse.cli import main

JOB = ["trace", "resnet-9", "--phase", "train", "--batch", "2", "--on", "sat-vcu1525", "--method", "bdwp:2:8"]
LAYER = ["--op", "layer2.conv*"]


def traced(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, dict[str, float]]:
    assert main([*JOB, *LAYER, "--format", "json", *options]) == 0
    data = json.loads(capsys.readouterr().out)
    return {row.pop("engine"): row for row in data["engines"]} | {"all": {"cycles": data["cycles"]}}


def test_cycles_of_engines_show_why_a_part_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    whole = traced(capsys)
    assert {"loader", "compute", "update", "reduction", "store"} < set(whole)
    assert whole["compute"]["waits_dependency"] == 0
    assert whole["compute"]["busy"] > 0.8 * whole["all"]["cycles"]
    alone = traced(capsys, "--set", "interleave=false", "--kernel", "sat-nm")
    assert alone["compute"]["waits_dependency"] > alone["compute"]["busy"]
    assert alone["compute"]["busy"] == pytest.approx(whole["compute"]["busy"], rel=0.05)
    late = traced(capsys, "--set", "pregeneration=false")
    assert late["all"]["cycles"] > whole["all"]["cycles"]
    single = traced(capsys, "--set", "double_buffering=false")
    assert single["compute"]["waits_data"] > 1.1 * whole["compute"]["waits_data"]
    for engine in set(whole) - {"all"}:
        row = whole[engine]
        assert sum(row.values()) <= whole["all"]["cycles"] * (1 + 1e-9)


def test_pictures_and_traces_are_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("trace.png", "trace.json"):
        assert main([*JOB, *LAYER, "-o", str(tmp_path / name)]) == 0
    assert "waits dependency" in capsys.readouterr().out
    assert (tmp_path / "trace.png").read_bytes().startswith(b"\x89PNG")
    trace = json.loads((tmp_path / "trace.json").read_text())
    slices = [row for row in trace["traceEvents"] if row["ph"] == "X"]
    assert {"load", "compute", "update", "reduce", "store"} <= {row["name"] for row in slices}
    # Slices of one engine do not overlap: Perfetto would nest them.
    for engine in {row["tid"] for row in slices}:
        own = sorted((row["ts"], row["ts"] + row["dur"]) for row in slices if row["tid"] == engine)
        assert all(end <= begin + 1e-6 for (_, end), (begin, _) in pairwise(own))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "trace.txt"], "--output is 'trace.txt', expected a file that ends in .json, .png, .svg, .pdf"),
        (["-o", "none/trace.png"], "output is 'none/trace.png', expected a path that can be written (No such file"),
        (["--framework", "compiled"], "no field of machine 'sat-vcu1525' is named 'framework'"),
        (["--op", "conv9"], "op is 'conv9', expected a glob that names an op of the plan, such as "),
        (["--store-share", "1"], "store_share is 1.0, expected a fraction from 0 to below 1"),
        (["--set", "dram_channels=0"], "dram_channels"),
        (["--max-events", "100"], "expected at most 100 (max_events); run fewer calls at a time"),
        (["--max-events", "8000"], "expected at most 8000 (max_events); tiles_per_call="),
        (["--batch", "0"], "batch is 0, expected at least 1"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main([*JOB, *options]) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_machine_without_events_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "bert-base", "--on", "a100-sxm-80gb"]) == 2
    assert "has no event model" in capsys.readouterr().err
