"""Timeloop specifications that become designs: the published run, the machine, what is not covered."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from asic_designs import machine, product
from typer.testing import CliRunner

from simsparse.cli import app, main
from simsparse.dataflow.timeloop import read_timeloop

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def specification(root: Path) -> list[Path]:
    return sorted((root / "tests" / "data" / "timeloop").glob("*.yaml"))


def test_imported_specification_gives_the_published_run(specification: list[Path], evidence: Path) -> None:
    """Hand-written in the schema of Timeloop 4, the first figure of Sparseloop comes out as published."""
    printed = CliRunner().invoke(
        app, ["dataflow", "import", *map(str, specification), "--format", "json"], catch_exceptions=False
    )
    (case,) = json.loads(printed.stdout)["cases"]
    rows = csv.DictReader((evidence / "sparseloop" / "fig1_formats_summary.csv").read_text().splitlines())
    published = next(row for row in rows if (row["density_label"], row["format"]) == ("0.8", "bitmask"))
    assert case["cycles"] == float(published["cycles"])
    assert case["energy_j"] * 1e6 == pytest.approx(float(published["energy_uJ"]), abs=0.0051)


def test_imported_specification_becomes_a_machine(specification: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "one-mac.toml"
    assert main(["dataflow", "import", *map(str, specification), "-o", str(path)]) == 0
    on = machine(str(path))
    imported = read_timeloop(specification)
    assert on.spec.architecture().levels[1].capacity_words == 512
    assert imported.architecture is not None
    for ours, theirs in zip(on.spec.architecture().levels, imported.architecture.levels, strict=True):
        assert ours.energies.charges() == pytest.approx(theirs.energies.charges())
        assert [rank.format for layout in ours.formats.values() for rank in layout.ranks] == [
            rank.format for layout in theirs.formats.values() for rank in layout.ranks
        ]
    dense, sparse = product(on, 64, 64, 64), product(on, 64, 64, 64, "unstructured:0.9", 0.1)
    assert sparse[0] == pytest.approx(dense[0], rel=0.01)
    assert sparse[1] < dense[1]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("problem", "version: 0.4", "version: 0.3", "version of problem in problem.yaml is 0.3, expected 0.4"),
        ("problem", "fixed-structured", "banded", "distribution of A is 'banded', expected fixed-structured"),
        ("mapping", "target: Reg", "target: Rag", "no target of the mapping is named 'Rag'; near names: Reg"),
        (
            "architecture",
            "- !Container",
            "- !Parallel",
            "node of architecture.yaml is '!Parallel', expected !Component",
        ),
        (
            "architecture",
            "depth: 512,",
            "depth: 512, multiple_buffering: 2,",
            "multiple_buffering of Buffer is not cov",
        ),
        ("architecture", "{format: B}", "{format: RLE}", "rank RLE of A at level BackingStorage has no metadata width"),
        ("architecture", "target: Z", "target: Y", "target at level Reg is 'Y', expected one of A, B, Z"),
        ("ert", "system.Buffer", "system.Bufer", "no component of the ERT is named 'Bufer'; near names: Buffer"),
        ("mapping", "mapping:", "mapping: {{x}}", "has Jinja templates, expected plain YAML"),
    ],
)
def test_what_an_import_does_not_cover_is_said_in_one_sentence(
    file: str, old: str, new: str, message: str, specification: list[Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for path in specification:
        text = path.read_text()
        if path.stem == file:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / path.name).write_text(text)
    status = main(["dataflow", "import", *(str(tmp_path / path.name) for path in specification)])
    printed = capsys.readouterr().err
    assert status == 2
    assert message in printed
    assert printed.count("\n") == 1
