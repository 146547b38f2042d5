"""Magnitude pruning: each pattern is met exactly, and what is kept is what is large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from tensor_bytes import entry, file_of

from simsparse.errors import InputError, UnknownNameError, UnsupportedError
from simsparse.masks import measure
from simsparse.sparsity import parse
from workloads.prune import prune, prune_folder
from workloads.tensor_files import float_values, stored_tensors

WEIGHT = np.random.default_rng(7).standard_normal((64, 96)).astype(np.float32)


@pytest.mark.parametrize(
    "text",
    ["dense", "2:4", "1:4", "2:8", "nmv8:2:4", "vnm16:2:8", "unstructured:0.9", "block4x1:0.75", "block16x16:0.5",
     "vector8:0.75", "rows:0.25", "slice:0.25"],
)  # fmt: skip
def test_density_is_met_and_nothing_else_changes(text: str) -> None:
    pruned = prune(WEIGHT, text)
    assert measure(pruned).density == pytest.approx(parse(text).density, abs=1 / WEIGHT.size)
    kept = pruned != 0
    np.testing.assert_array_equal(pruned[kept], WEIGHT[kept])


def test_structure_is_met() -> None:
    assert measure(prune(WEIGHT, "2:4")).implies(parse("2:4"))
    assert not measure(WEIGHT).implies(parse("2:4"))
    assert measure(prune(WEIGHT, "vnm16:2:8")).implies(parse("2:8"))
    shared = (prune(WEIGHT, "nmv8:2:4") != 0).reshape(8, 8, 96)
    assert (shared == shared[:, :1]).all()
    columns = (prune(WEIGHT, "vnm16:2:8") != 0).reshape(4, 16, 12, 8).any(1).sum(2)
    assert columns.max() <= 4
    blocks = (prune(WEIGHT, "block4x1:0.75") != 0).reshape(16, 4, 96)
    assert (blocks == blocks[:, :1]).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 37), st.integers(0, 4), st.integers(0, 99))
def test_the_largest_of_each_group_stay(rows: int, cols: int, n: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((rows, cols))
    pruned = prune(values, f"{n}:4")
    for start in range(0, cols, 4):
        group = np.abs(values[:, start : start + 4])
        expected = np.sort(group, axis=1)[:, ::-1][:, :n]
        found = np.sort(np.abs(pruned[:, start : start + 4]), axis=1)[:, ::-1][:, :n]
        np.testing.assert_array_equal(found, expected)


def test_patterns_of_activations_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"act:0\.5"):
        prune(WEIGHT, "act:0.5")


def test_a_folder_of_bf16(tmp_path: Path) -> None:
    import ml_dtypes

    bits = WEIGHT.astype(ml_dtypes.bfloat16).view(np.uint16)
    header = {"up.weight": entry("BF16", [64, 96], [0, 12288]), "norm": entry("BF16", [64, 96], [12288, 24576])}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "model.safetensors").write_bytes(file_of(header, bits.tobytes() * 2))
    (tmp_path / "in" / "config.json").write_text("{}")
    assert prune_folder(tmp_path / "in", tmp_path / "out", {"*.weight": "2:4"}) == ("up.weight",)
    up, norm = stored_tensors(tmp_path / "out")
    np.testing.assert_array_equal(norm.map(), bits)
    np.testing.assert_array_equal(float_values(up, up.map()), prune(float_values(up, bits), "2:4"))
    assert (tmp_path / "out" / "config.json").read_text() == "{}"


def test_gpt2_weights_are_pruned_along_their_reduction(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    names = ("h.0.mlp.c_fc.weight", "wte.weight")
    save_file(dict.fromkeys(names, WEIGHT), tmp_path / "in" / "model.safetensors")
    (tmp_path / "in" / "config.json").write_text('{"model_type": "gpt2"}')
    prune_folder(tmp_path / "in", tmp_path / "out", {"*": "1:4"})
    pruned = load_file(tmp_path / "out" / "model.safetensors")
    np.testing.assert_array_equal(pruned[names[0]].T, prune(WEIGHT.T, "1:4"))
    np.testing.assert_array_equal(pruned[names[1]], prune(WEIGHT, "1:4"))


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    save_file({"w": WEIGHT}, tmp_path / "model.safetensors")
    with pytest.raises(UnknownNameError, match="no weight tensor is named 'x'"):
        prune_folder(tmp_path, tmp_path / "out", {"x": "2:4"})
    with pytest.raises(UnsupportedError):
        prune_folder(tmp_path, tmp_path / "out", {"w": "act:0.5"})
    with pytest.raises(InputError, match="expected a folder that does not exist"):
        prune_folder(tmp_path, tmp_path, {"w": "2:4"})
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
