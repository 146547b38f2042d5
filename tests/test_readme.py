"""What the README shows works as it is printed, and what it points to exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def run(command: list[str], folder: Path) -> str:
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_ten_lines_of_python(page: str, tmp_path: Path) -> None:
    (code,) = blocks(page, "python")
    assert len([line for line in code.splitlines() if line]) == 10
    printed = run([sys.executable, "-W", "error", "-c", code], tmp_path)
    assert re.match(r"1\.\d\d times as fast as dense, \d\.\d\d J, bound by dram\n", printed)
    # Faster memory leaves less to gain from weights that need not be read.
    gains = [float(gain) for gain in re.findall(r"B/s: (\d+\.\d+) times", printed)]
    assert len(gains) == 3
    assert gains == sorted(gains, reverse=True)
    assert (tmp_path / "llama.png").stat().st_size > 10_000


def test_lines_of_shell(page: str, tmp_path: Path) -> None:
    first, dataflows = blocks(page, "sh")
    simulated, compared, priced = (run(["sh", "-c", command], tmp_path) for command in first.splitlines())
    assert "mlp.up_proj" in simulated
    assert "unstructured:0.9" in compared
    assert "cusparselt" in priced
    # The others take seconds, or files of the reader's; tests of the dataflow commands run their like.
    compared = run(["sh", "-c", dataflows.splitlines()[0]], tmp_path)
    assert "2:4" in compared


def test_the_grid_of_a_sweep(page: str, tmp_path: Path) -> None:
    (study,) = blocks(page, "toml")
    (tmp_path / "study.toml").write_text(study)
    (command,) = re.findall(r"`(simsparse sweep [^`]+) --jobs 8`", page)
    printed = run(["sh", "-c", command], tmp_path)
    assert printed == f"48 rows in {Path('study', 'table.parquet')}\n"


def test_files_and_make_targets_exist(page: str, root: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page)
    assert len(links) >= 5
    assert [link for link in links if not (root / link).is_file()] == []
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:`|^    )make ([a-z]+)", page, re.MULTILINE))
    assert targets >= {"demo", "test", "picture", "table"}
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []
