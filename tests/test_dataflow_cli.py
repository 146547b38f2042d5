"""`dataflow compare` and `dataflow map` from the shell: tables with bars, loop nests, JSON, CSV, pictures."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simsparse.cli import app, main
from simsparse.dataflow.bars import bar, shown_most

LAYER = ["llama-2-7b", "--budget", "4000", "--layer", "layers.0.mlp.up_proj"]


def printed(*arguments: str) -> str:
    return CliRunner().invoke(app, ["dataflow", *arguments], catch_exceptions=False).stdout


def test_compare_prints_a_table_with_bars() -> None:
    lines = printed("compare", *LAYER, "--on", "stc", "--patterns", "dense,2:4,unstructured:0.8").splitlines()
    table, said = lines[1 : lines.index("")], lines[lines.index("") + 1 :]
    assert [line.split()[0] for line in table if not line.startswith(" ")] == ["dense", "2:4", "unstructured:0.8"]
    best = [line for line in table if " * " in line]
    assert len(table) == 15
    assert len(best) == 3
    assert all("█" in line for line in table)
    assert best[0].count("█") > best[1].count("█")
    assert "2.00×" in best[1]
    assert said[0].startswith("* dense (mode dense): ")
    # What no mode takes runs as dense, and the answer says so.
    assert any(line.startswith("* unstructured:0.8 (mode dense): ") for line in said)


def test_compare_for_programs_and_as_a_picture(tmp_path: Path) -> None:
    arguments = ["compare", *LAYER, "--on", "stc", "--patterns", "dense,2:4", "--dataflows", "native,output-stationary"]
    picture = tmp_path / "bars.png"
    rows = json.loads(printed(*arguments, "--format", "json", "--plot", str(picture)))["rows"]
    assert [(row["pattern"], row["dataflow"], row["mode"]) for row in rows] == [
        ("dense", "native", "dense"), ("dense", "output-stationary", "dense"),
        ("2:4", "native", "2:4"), ("2:4", "output-stationary", "2:4"),
    ]  # fmt: skip
    assert [row["best"] for row in rows].count(True) == 2
    assert max(row["speedup"] for row in rows) == pytest.approx(2, rel=0.01)
    table = list(csv.DictReader(io.StringIO(printed(*arguments, "--format", "csv"))))
    assert [float(row["latency_s"]) for row in table] == [row["latency_s"] for row in rows]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_dataflow_of_the_design_stands_for_the_textbook_one_of_its_name() -> None:
    arguments = ["compare", *LAYER, "--seq", "16", "--on", "sparse-array", "--patterns", "dense", "--format", "json"]
    names = [row["dataflow"] for row in json.loads(printed(*arguments))["rows"]]
    assert sorted(names) == ["input-stationary", "output-stationary", "row-stationary", "weight-stationary"]


def test_what_a_design_does_not_take_is_said_once() -> None:
    arguments = ["compare", *LAYER, "--on", "eyeriss-v2-pe", "--patterns", "rows:0.5", "--dataflows"]
    lines = printed(*arguments, "native,row-stationary").splitlines()
    assert [line.split()[-2:] for line in lines[1:3]] == [["–", "–"]] * 2
    assert " ".join(lines[4:]).startswith(
        "– native, row-stationary: no mode of eyeriss-v2-pe takes rows:0.5: the pattern says nothing"
    )


def test_zeros_of_inputs_speed_up_a_dual_side_design() -> None:
    arguments = ["compare", *LAYER, "--on", "dstc", "--patterns", "unstructured:0.5", "--dataflows", "native"]
    dense, sparse = (
        json.loads(printed(*arguments, "--inputs", inputs, "--format", "json"))["rows"][0]
        for inputs in ("dense", "act:0.6")
    )
    assert sparse["latency_s"] < 0.8 * dense["latency_s"]
    assert sparse["energy_j"] < dense["energy_j"]


def mapped(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed("map", *LAYER, "--on", "stc", *arguments, "--format", "json"))
    return found


def test_map_prints_a_loop_nest(tmp_path: Path) -> None:
    picture = tmp_path / "front.png"
    text = printed("map", *LAYER, "--on", "stc", "--pattern", "2:4", "--dataflow", "native", "--plot", str(picture))
    nest = text.split("\n\n")[1].splitlines()
    assert nest[0] == "DRAM keeps A B C"
    assert nest[-1].strip() == "MAC: C += A · B"
    assert any(line.strip().startswith("spread ") and line.endswith(" along y") for line in nest)
    indents = [len(line) - len(line.lstrip()) for line in nest]
    assert indents == list(range(0, 2 * len(nest), 2))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_map_for_programs() -> None:
    found = mapped("--pattern", "2:4", "--objective", "edp", "--no-padding")
    assert found["levels"][1]["words_held"] <= found["levels"][1]["capacity_words"]
    assert sum(level["energy_j"] for level in found["levels"]) == pytest.approx(found["energy_j"])
    loops = [loop for level in found["mapping"] for loop in level["loops"]]
    assert math.prod(factor for _, factor, _ in loops) == 2048 * 4096 * 11008
    costs = [(point["latency_s"], point["energy_j"]) for point in found["pareto"]]
    assert costs == sorted(costs)


def test_map_keeps_to_its_constraints() -> None:
    free, tight = mapped("--objective", "energy"), mapped("--objective", "energy", "--limit", "SMEM=4096")
    assert tight["levels"][1]["words_held"] <= 4096 < free["levels"][1]["words_held"]
    assert tight["energy_j"] > free["energy_j"]
    assert mapped("--dataflow", "output-stationary")["dataflow"] == "output-stationary"
    # A design point is a --set away.
    wide = mapped("--dataflow", "native", "--set", "levels.LRF.fanout_x=32")
    assert wide["levels"][-1]["instances"] == 2048


def test_the_table_of_one_run_says_what_each_level_does(evidence: Path) -> None:
    text = printed("analyze", str(evidence / "sparseloop" / "cases.json"), "--case", "fig1/0.8/bitmask")
    summary, accesses = text.split("\n\n")
    assert summary.splitlines()[1].split()[0] == "fig1/0.8/bitmask"
    cells = {tuple(line.split()[:2]): line.split()[2:] for line in accesses.splitlines()[1:]}
    # A fifth of the reads of a bitmask's Buffer is gated, and none skipped.
    assert cells["Buffer", "A"][1:6] == ["1.34", "M", "335,000", "0", "1.68"]
    assert cells["Reg", "Z"][0] == "1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["map", *LAYER, "--on", "stc", "--limit", "SMEM=1"], "level SMEM would hold"),
        (["map", *LAYER, "--on", "stc", "--limit", "SMEM"], "--limit is 'SMEM', expected LEVEL=WORDS"),
        (["map", *LAYER, "--on", "stc", "--limit", "SNEM=9"], "no level is named 'SNEM'; near names: SMEM"),
        (["map", *LAYER, "--on", "stc", "--dataflow", "weigth"], "near names: weight-stationary"),
        (["map", *LAYER, "--on", "stc", "--objective", "speed"], "--objective is 'speed', expected latency, energy"),
        (["map", *LAYER, "--on", "stc", "--objective", "blend:2"], "weight of latency is 2.0, expected a number from"),
        (["map", *LAYER, "--on", "stc", "--inputs", "2:4"], "--inputs is '2:4', expected dense or act:F"),
        (["map", *LAYER, "--on", "stc", "--set", "levels.SMEM.capacity=9"], "near names: levels.SMEM.capacity_words"),
        (["map", *LAYER, "--on", "h100-sxm-80gb"], "expected a design that is described by levels"),
        (["map", *LAYER[:-1], "layers.0.mlp.up", "--on", "stc"], "near names: layers.*.mlp.up_proj"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataflow", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_bars_are_cut_where_one_would_hide_the_others() -> None:
    top = shown_most([[4.0, 5.0, 100.0], [2.0]])
    assert top == 8.0
    assert bar(4.0, top, 8) == "████"
    assert bar(4.5, top, 8) == "████▌"
    assert bar(100.0, top, 8) == "███████▸"
    assert shown_most([[1.0, 1.5]]) == 1.5
