"""The command line: what it prints, what it writes, what it loads."""

from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import typer

import simsparse
from simsparse.cli import app, main
from simsparse.sparsity import EXAMPLES

SIMULATE = ["simulate", "toy-model", "--on", "toy", "--seq", "512"]
ESTIMATE_KEYS = {"latency_s", "dense_latency_s", "speedup", "energy_j", "dense_energy_j", "bound"}


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["schema_version"] == 1
    return data


@pytest.mark.usefixtures("toy")
class TestSimulate:
    def test_table_fits_80_columns_and_ends_in_totals(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*SIMULATE, "--sparsity", "*.mlp.*=2:4"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        assert not any(line != line.rstrip() for line in lines)
        assert "mlp.up_proj    2:4         2  42.9 µs  47.7%    2.00×  compute" in lines
        assert "latency     90.1 µs, dense 176 µs" in lines
        assert "speedup     1.95× over dense" in lines
        assert "bound       compute 95%, dram 5%" in lines

    def test_verbose_adds_terms_alternatives_and_sources(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*SIMULATE, "--sparsity", "4:8", "--verbose"]) == 0
        text = capsys.readouterr().out
        assert "the pattern is not 2:4" in text
        assert "terms of one call" in text
        assert "unverified  memory_bytes" in text

    def test_a_pipe_gets_whole_names_and_units(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command = ["simulate", "llama-2-7b", "--on", "a100-sxm-80gb", "--phase", "decode", "--verbose"]
        monkeypatch.delenv("COLUMNS", raising=False)
        assert main(command) == 0
        lines = capsys.readouterr().out.splitlines()
        of_one_call = [line for line in lines if re.match(r"post_attention_layernorm  \d", line)]
        assert len(of_one_call) == 1
        assert any(line.startswith("layers.*.post_attention_layernorm ") for line in lines)
        monkeypatch.setenv("COLUMNS", "60")
        assert main(command) == 0
        text = capsys.readouterr().out
        assert re.search(r"post_att\w*… +\d", text)
        # Of figures nothing is cut, however narrow it is.
        figures = re.findall(r"(?<= )[\d.]+ [mµn]?s(?= |$)", text, re.MULTILINE)
        assert len(figures) > 100
        assert not re.search(r"[\d ]…", text)

    def test_json_is_that_of_python(self, capsys: pytest.CaptureFixture[str]) -> None:
        data = run_json(capsys, *SIMULATE, "--sparsity", "2:4")
        result = simsparse.simulate("toy-model", "toy", sparsity={"*": "2:4"}, seq=512)
        assert data == json.loads(result.to_json())
        assert set(data) >= ESTIMATE_KEYS | {"calls"}

    def test_csv_has_a_line_a_call(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*SIMULATE, "--format", "csv"]) == 0
        rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
        assert [row["ops"] for row in rows] == ["layers.*.norm", "layers.*.mlp.up_proj", "layers.*.mlp.down_proj"]

    def test_later_patterns_win_and_seeds_are_kept(self, capsys: pytest.CaptureFixture[str]) -> None:
        flags = ["--sparsity", "2:4", "--sparsity", "*.down_proj=dense", "--seed", "7"]
        data = run_json(capsys, *SIMULATE, *flags)
        assert [call["kernel"] for call in data["calls"]] == ["dense", "2:4", "dense"]
        assert data["transforms"] == ["sparsity *=2:4, *.down_proj=dense (seed 7)"]

    def test_output_takes_its_form_from_the_suffix(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for name, start in (("a.json", "{"), ("a.csv", "ops,kernel"), ("a.txt", "toy-model on toy")):
            assert main([*SIMULATE, "-o", str(tmp_path / name)]) == 0
            assert (tmp_path / name).read_text().startswith(start)
        assert capsys.readouterr().out == ""
        assert main([*SIMULATE, "--plot", str(tmp_path / "a.png")]) == 0
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
        assert len(list(tmp_path.iterdir())) == 4

    def test_an_output_that_is_no_file_is_written_to(self, tmp_path: Path) -> None:
        link, real = tmp_path / "link.json", tmp_path / "real.json"
        real.write_text("")
        link.symlink_to(real)
        assert main([*SIMULATE, "--output", str(link)]) == 0
        assert link.is_symlink()
        assert json.loads(real.read_text())["machine"] == "toy"
        assert main([*SIMULATE, "--output", os.devnull]) == 0
        assert not Path(os.devnull).is_file()


@pytest.mark.usefixtures("toy")
class TestOthers:
    def test_gemm(self, capsys: pytest.CaptureFixture[str]) -> None:
        product = ["gemm", "1024", "1024", "1024", "--on", "toy"]
        data = run_json(capsys, *product, "--sparsity", "2:4", "--sparse-operand", "B")
        assert set(data) >= ESTIMATE_KEYS
        assert data["latency_s"] == 2 * 1024**3 / 2 / 100e12
        assert data["speedup"] == 2.0
        assert data["alternatives"] == [{"kernel": "dense", "latency_s": 2 * 1024**3 / 100e12, "reason": "slower"}]
        assert main([*product, "--verbose"]) == 0
        assert "2:4            –  the pattern is not 2:4" in capsys.readouterr().out

    def test_headers_say_what_was_assumed(self, capsys: pytest.CaptureFixture[str]) -> None:
        for arguments, head in (
            (["simulate", "gpt2", "--on", "toy"], "gpt2 on toy: prefill, batch 1, seq 1024 (assumed), fp16"),
            (["simulate", "gpt2", "--on", "toy", "--seq", "7"], "gpt2 on toy: prefill, batch 1, seq 7, fp16"),
            (
                ["compare", "llama-2-7b", "--on", "toy", "--phase", "decode", "--patterns", "2:4"],
                "llama-2-7b: decode, batch 1, context 2048 (assumed), fp16",
            ),
            (
                ["extract", "llama-2-7b", "--phase", "decode", "--context", "0"],
                "llama-2-7b: decode, batch 1, context 0, fp16, 1 tokens",
            ),
        ):
            assert main(arguments) == 0
            assert capsys.readouterr().out.splitlines()[0] == head

    def test_the_baseline_of_methods_is_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        methods = ["--method", "quantize:int8", "--method", "slice:0.25"]
        data = run_json(capsys, "simulate", "llama-3.2-1b", "--on", "toy", *methods)
        assert data["baseline"] == "dense on the best kernels, with quantize int8 too, without slice 0.25"
        assert (data["seq"], data["context"], data["assumed"]) == (2048, 0, ["seq", "context"])
        assert main(["simulate", "llama-3.2-1b", "--on", "toy", "--method", "tp:2"]) == 0
        assert "baseline    dense on the best kernels, with tensor parallel 2 too" in capsys.readouterr().out

    def test_gemm_says_why_a_pattern_is_not_used(self, capsys: pytest.CaptureFixture[str]) -> None:
        product = ["gemm", "1024", "1024", "1024", "--on", "toy", "--sparsity"]
        assert main([*product, "4:8"]) == 0
        assert "not used  4:8: 2:4: the pattern is not 2:4" in capsys.readouterr().out
        assert run_json(capsys, *product, "4:8")["pattern_unused"] == "2:4: the pattern is not 2:4"
        assert run_json(capsys, *product, "2:4")["pattern_unused"] is None
        assert run_json(capsys, *product, "dense")["pattern_unused"] is None

    def test_gemm_table(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shapes = tmp_path / "shapes.csv"
        shapes.write_text("M,N,K,pattern\n4096,512,1024,\n100,200,300,2:4\n4096,512,1024,1:4\n")
        rows = run_json(capsys, "gemm", "--csv", str(shapes), "--on", "toy", "--sparsity", "4:8")["rows"]
        assert isinstance(rows, list)
        assert [row["pattern"] for row in rows] == ["4:8", "2:4", "1:4"]
        assert [row["speedup"] for row in rows][::2] == [1.0, 2.0]
        single = run_json(capsys, "gemm", "100", "200", "300", "--on", "toy", "--sparsity", "2:4")
        assert rows[1] == {key: single[key] for key in rows[1]}
        for form in ("table", "csv"):
            assert main(["gemm", "--csv", str(shapes), "--on", "toy", "--format", form]) == 0
            assert len(capsys.readouterr().out.splitlines()) == 4

    def test_compare(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["compare", "toy-model", "--on", "toy", "--patterns", "dense,2:4,4:8", "--seq", "512"]
        rows = run_json(capsys, *arguments, "--plot", str(tmp_path / "bars.svg"))["rows"]
        assert [(row["pattern"], row["speedup"] > 1) for row in rows] == [
            ("dense", False),
            ("2:4", True),
            ("4:8", False),
        ]
        assert b"<svg" in (tmp_path / "bars.svg").read_bytes()

    def test_compare_says_what_does_not_fit(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("toy_machine.Toy.memory_bytes", 25e6)
        arguments = ["compare", "toy-model", "--on", "toy", "--patterns", "dense,2:4"]
        data = run_json(capsys, *arguments)
        assert [row["memory_fits"] for row in data["rows"]] == [False, True]
        assert data["warnings"] == ["does not fit toy, which has 0.025 GB: dense 0.0336 GB"]
        assert main(arguments) == 0
        assert capsys.readouterr().out.count("warning  does not fit toy") == 1

    def test_extract(self, capsys: pytest.CaptureFixture[str]) -> None:
        data = run_json(capsys, "extract", "toy-model", "--seq", "3", "--batch", "2")
        assert (data["parameters"], data["flops"]) == (4 * 1024 * 4096, 4 * 2 * 6 * 1024 * 4096)
        assert sum(op["flops"] for op in data["ops"]) == data["flops"]
        # Bytes are of both layers, too: weight and input.
        assert data["ops"][1]["read_bytes"] == 2 * 2 * (4096 * 1024 + 6 * 1024)

    def test_diff(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        saved = [str(tmp_path / name) for name in ("a.json", "b.json")]
        assert main([*SIMULATE, "--output", saved[0]]) == 0
        assert main([*SIMULATE, "--sparsity", "2:4", "--output", saved[1]]) == 0
        assert main(["diff", *saved]) == 0
        assert "layers.*.mlp.up_proj    kernel" in capsys.readouterr().out
        assert main(["diff", saved[0], saved[0]]) == 0
        assert capsys.readouterr().out == "no difference\n"

    def test_lists_include_what_plugins_bring(self, capsys: pytest.CaptureFixture[str]) -> None:
        machines = run_json(capsys, "machines")["machines"]
        assert {"machine": "toy", "family": "plug-in", "title": ""} in machines
        assert {"workload": "toy-model", "source": "toy_model"} in run_json(capsys, "workloads")["workloads"]
        counted = {row["workload"]: row for row in run_json(capsys, "workloads", "--parameters")["workloads"]}
        assert counted["toy-model"]["parameters"] == 4 * 1024 * 4096
        assert (counted["gpt2"]["source"], counted["gpt2"]["phase"]) == ("huggingface", "prefill")

    def test_a_command_can_come_from_elsewhere(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def tune(rows: int) -> None:
            """Fit constants."""
            typer.echo(f"fitted to {rows} rows")

        class Entry:
            name = "tune"

            def load(self) -> object:
                return tune

        monkeypatch.setattr("simsparse.cli.entry_points", lambda **_: [Entry()])
        assert main(["tune", "3"]) == 0
        assert capsys.readouterr().out == "fitted to 3 rows\n"
        assert main(["--help"]) == 0
        assert "Fit constants." in capsys.readouterr().out


@pytest.mark.parametrize("group", [[], ["dataflow"]])
def test_what_commands_do_is_said_whole(
    group: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a terminal of 80 columns, the first sentence of each fits beside its name."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*group, "--help"]) == 0
    _, commands = capsys.readouterr().out.split("Commands:\n")
    assert len(commands.splitlines()) >= 5
    assert "..." not in commands


def test_formats(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["formats", "--shape", "4096x4096", "--sparsity", "2:4", "--dtype", "fp16"]
    rows = {row["format"]: row for row in run_json(capsys, *arguments)["formats"]}
    assert rows["2:4"]["ratio"] == 0.5625
    assert rows["venom"] == {**dict.fromkeys(rows["venom"]), "format": "venom", "reason": "2:4 is no V:N:M pattern"}


def test_patterns_explains_each_form(capsys: pytest.CaptureFixture[str]) -> None:
    rows = run_json(capsys, "patterns")["patterns"]
    assert [row["pattern"] for row in rows] == list(EXAMPLES)
    assert all(row["meaning"] for row in rows)


def test_machines_show_prints_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["machines", "show", "a100-sxm-80gb"]) == 0
    text = capsys.readouterr().out
    assert 'family = "gpu"' in text
    copy = tmp_path / "mine.toml"
    copy.write_text(text)
    assert main(["machines", "show", str(copy)]) == 0
    assert capsys.readouterr().out == text


def test_unverified_figures_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    rows = run_json(capsys, "machines", "--unverified")["figures"]
    sources = {row["source"].partition(":")[0].split()[0] for row in rows}
    assert sources == {"recalled", "assumed"}


def test_a_changed_figure_changes_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    product = ["gemm", "32", "4096", "4096", "--on", "a100-sxm-80gb"]
    before = run_json(capsys, *product)
    after = run_json(capsys, *product, "--set", "dram_bandwidth_bytes_per_s=1e11")
    assert before["bound"] == after["bound"] == "dram"
    assert after["latency_s"] > 3 * before["latency_s"]


def test_version_and_bare_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"simsparse {simsparse.__version__}\n"
    assert main([]) == 0
    names = {"simulate", "compare", "extract", "gemm", "formats", "workloads", "machines", "patterns", "sweep",
             "validate", "diff", "breakeven", "explain", "calibrate", "measurements", "dataflow", "trace"}  # fmt: skip
    assert names <= set(capsys.readouterr().out.split())
    assert names == set(typer.main.get_command(app).commands)
