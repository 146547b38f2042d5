"""Import of Timeloop and Sparseloop YAML: what files say is what the engine gets; what is not covered is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simsparse.cli import main
from simsparse.dataflow import (
    Action,
    ActionKind,
    FixedStructured,
    LevelMapping,
    Loop,
    LoopKind,
    Mapping,
    Option,
    Rank,
    RankFormat,
    TensorFormat,
    UniformRandom,
    analyze,
)
from simsparse.dataflow.timeloop import Imported, read_timeloop
from simsparse.errors import SimsparseError

X, Y = LoopKind.X, LoopKind.Y
CONV = ("architecture", "problem", "mapping")


@pytest.fixture(scope="module")
def data() -> Path:
    return Path(__file__).parent / "data"


def conv(data: Path, folder: Path, *changes: tuple[str, str, str]) -> Imported:
    """The convolution with texts of its files replaced."""
    texts = {name: (data / "timeloop_conv" / f"{name}.yaml").read_text() for name in CONV}
    for name, old, new in changes:
        assert old in texts[name]
        texts[name] = texts[name].replace(old, new)
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return read_timeloop([folder / f"{name}.yaml" for name in CONV])


def test_a_convolution_with_merges_containers_and_bypass(data: Path, tmp_path: Path) -> None:
    found = conv(data, tmp_path)
    assert found.problem is not None
    assert found.architecture is not None
    assert found.problem.shape("Inputs") == (1, 16, 29, 16)  # stride 2 along P
    buffer = found.architecture.level("global_buffer")
    assert (buffer.capacity_words, buffer.block_words, buffer.read_words_per_cycle) == (8192 * 16, 16, 16)
    assert found.architecture.level("pe_spad").instances == found.architecture.compute.instances == 16
    everything = ("Weights", "Inputs", "Outputs")
    assert found.mapping == Mapping((
        LevelMapping("DRAM", everything, (Loop("Q", 14), Loop("M", 4))),
        LevelMapping("global_buffer", ("Inputs", "Outputs"), (Loop("P", 14),), (Loop("C", 16, X),)),
        LevelMapping("pe_spad", everything, (Loop("M", 8), Loop("S", 3), Loop("R", 3))),
    ))  # fmt: skip
    assert analyze(found.problem, found.architecture, found.mapping).cycles == 14 * 4 * 14 * 8 * 9
    assert found.clock_hz == pytest.approx(5e8)
    assert "no ERT" in found.notes[-1]


def test_imperfect_factors(data: Path, tmp_path: Path) -> None:
    """P=14 as one step of 8 and one of 6."""
    outer, inner = ("mapping", "P=1 Q=14", "P=2 Q=14"), ("mapping", "P=14", '"P=8,6"')
    found = conv(data, tmp_path, outer, inner)
    assert found.mapping is not None
    assert found.mapping.imperfect
    assert [loop.factor for part in found.mapping.levels for loop in part.loops if loop.dim == "P"] == [2, 8]
    with pytest.raises(SimsparseError, match="last steps of factor P=8 at global_buffer is 5, expected 6, which its"):
        conv(data, tmp_path, outer, ("mapping", "P=14", '"P=8,5"'))


def test_formats_actions_densities_and_energies(data: Path) -> None:
    found = read_timeloop([data / "timeloop_sparse" / "all.yaml"])
    assert found.problem is not None
    assert found.architecture is not None
    assert found.mapping is not None
    assert found.problem.tensor("A").density == UniformRandom(0.25)
    assert found.problem.tensor("B").density == FixedStructured(0.5)
    store, buffer = found.architecture.levels
    # Coordinates of 3 bits take 4 of a store of 64.
    coordinates = Rank(RankFormat.COORDINATE, 4.0)
    assert store.formats == {"A": TensorFormat((Rank(RankFormat.UNCOMPRESSED, 0.0, 16.0), coordinates))}
    runs = Rank(RankFormat.RUN_LENGTH, 4.0, 0.0, frozenset("MK"))
    assert buffer.formats == {"A": TensorFormat((runs,), inner_first=False)}
    assert buffer.actions == (
        Action(ActionKind.SKIPPING, (Option("B", ("A",)),)), Action(ActionKind.GATING, (Option("Z", ("A", "B")),)),
    )  # fmt: skip
    assert found.architecture.compute.gating
    assert store.energies.charges()[:2] == (60.0, 70.0)
    assert buffer.energies.charges()[:2] == (1.0, 1.5)
    assert found.mapping.levels[0].spatial == (Loop("N", 2, Y), Loop("M", 2, X))
    assert found.mapping.levels[1].temporal == (Loop("M", 4), Loop("N", 4), Loop("K", 16))
    analysis = analyze(found.problem, found.architecture, found.mapping)
    assert np.isfinite(analysis.energy_j)
    assert found.notes == ("mapper of all.yaml has no effect here: settings of Timeloop's search",)


BAD = [
    ("mapping", "Q=14", "Q=7", "factors of dimension Q multiply to 7, expected its bound 14"),
    ("mapping", "Q=14", "W=14", "dimension of a factor at DRAM is 'W', expected one of C, M, R"),
    ("mapping", "Q=14", "Q=a", "factor at DRAM is 'Q=a', expected DIM=FACTOR or DIM=FACTOR,LAST"),
    ("mapping", "bypass: [Weights]", "bypass: [Wheights]", "tensor that bypasses global_buffer is 'Wheights'"),
    ("mapping", "permutation: C\n", "permutation: [Z]\n", "dimension of the permutation at PE is 'Z'"),
    ("mapping", "type: spatial", "type: spacial", "type of a directive on PE is 'spacial', expected temporal, spatial"),
    ("mapping", "mapping:\n- target: DRAM", "mapping:\n- DRAM\n- target: DRAM", "mapping is no list of nodes"),
    ("problem", "C: 16", "C: 2*8", "dimension C is '2*8', expected a number (formulas are not evaluated)"),
    ("problem", "Wstride: 2", "Wstrode: 2", "no dimension of the problem is named 'Wstrode'; near names: Wstride"),
    ("problem", "[R, Wdilation]", "[R, Wdil]", "no coefficient in the projection of Inputs is named 'Wdil'"),
    ("problem", "[[C]]\n      - [[M]]", "C\n      - [[M]]", "projection of Weights is"),
    ("problem", "read_write: True", "read_write: False", "data spaces that are written is 'none', expected one"),
    ("problem", "    data_spaces:", "    spaces:", "data_spaces of the problem is None, expected a list of nodes"),
    ("architecture", "meshX: 16", "meshX: 1.5", "meshX of PE is 1.5, expected a whole number of at least 1"),
    ("architecture", "depth: 192", "depth: 2**8", "attribute depth of pe_spad is '2**8', expected a number"),
    ("architecture", "depth: 192, width: 8, datawidth: 8", "depth: 192", "component pe_spad has no datawidth"),
    ("architecture", "  nodes:", "  subtree:", "architecture has no nodes, expected a list of !Component"),
    ("architecture", "2e-9", "0", "global_cycle_seconds is 0.0, expected a time above 0"),
]


@pytest.mark.parametrize(("file", "old", "new", "message"), BAD)
def test_bad_input_is_one_sentence(
    file: str, old: str, new: str, message: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in CONV:
        text = (data / "timeloop_conv" / f"{name}.yaml").read_text()
        assert name != file or old in text
        (tmp_path / f"{name}.yaml").write_text(text.replace(old, new) if name == file else text)
    assert main(["dataflow", "import", *(str(tmp_path / f"{name}.yaml") for name in CONV)]) == 2
    *notes, error = capsys.readouterr().err.splitlines()
    assert message in error
    assert all("has no effect" in note or "no ERT" in note for note in notes)
