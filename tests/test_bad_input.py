"""Bad input: exit status 2, one line on stderr that names what is wrong, nothing left behind."""

from __future__ import annotations

import json
import math
import os
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import simsparse
from simsparse import sparsity
from simsparse.cli import main
from simsparse.commands.options import read_changes, read_sparsity
from simsparse.errors import InputError, SimsparseError
from simsparse.problems import gemm_problems
from simsparse.products import Style, read_products
from simsparse.registry import load_spec

ROOT = Path(__file__).resolve().parents[1]
TOY = ["simulate", "toy-model", "--on", "toy"]
GEMM = ["gemm", "64", "64", "64", "--on", "toy"]
A100 = ["gemm", "64", "64", "64", "--on", "a100-sxm-80gb"]


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line a failing command leaves."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("simsparse: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: None) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["simulate", "toy-modle", "--on", "toy"], "no workload is named 'toy-modle'; near names: toy-model"),
        (["simulate", "llama-2-8b", "--on", "toy"], "near names: llama-3-8b, llama-2-7b"),
        (["simulate", "toy-model", "--on", "tyo"], "no machine is named 'tyo'; near names: toy"),
        (["simulate", "toy-model"], "Missing option '--on'"),
        (["simulate", "--on", "toy"], "Missing argument 'WORKLOAD'"),
        ([*TOY, "--sparsity", "2;4"], "pattern is '2;4', expected a form such as dense, 2:4"),
        ([*TOY, "--sparsity", "5:4"], "pattern is '5:4', expected N from 0 to M"),
        ([*TOY, "--sparsity", "2:0"], "M of N:M is 0, expected at least 1"),
        ([*TOY, "--sparsity", "unstructured:1.5"], "sparsity of unstructured is 1.5, expected a fraction from 0 to 1"),
        ([*TOY, "--sparsity", "*.mpl.*=2:4"], "no op that takes 2:4 is named '*.mpl.*'; near names: layers.*.mlp"),
        ([*TOY, "--sparsity", "*=attn-token:0.5"], "no op that takes attn-token:0.5 is named '*'"),
        ([*TOY, "--sparsity", "=2:4"], "--sparsity is '=2:4', expected GLOB=PATTERN"),
        ([*TOY, "--sparsity", "mask:none.npy"], "none.npy"),
        ([*TOY, "--kernel", "3:4"], "no kernel of toy is named '3:4'; near names: 2:4"),
        ([*TOY, "--kernel", "2:4"], "kernel '2:4' of toy runs no op of this workload: the pattern is not 2:4"),
        ([*TOY, "--dtype", "fp15"], "dtype is 'fp15', expected one of fp64"),
        ([*TOY, "--phase", "prefil"], "phase is 'prefil', expected one of prefill, decode, encode, train"),
        ([*TOY, "--batch", "0"], "batch is 0, expected at least 1"),
        ([*TOY, "--batch", "-3"], "batch is -3, expected at least 1"),
        ([*TOY, "--batch", "many"], "Invalid value for '--batch'"),
        ([*TOY, "--batch", str(2**62)], "expected fewer than 2^63 bytes"),
        ([*TOY, "--seq", str(2**70)], "expected fewer than 2^63 bytes"),
        (["simulate", "llama-2-7b", "--on", "toy", "--seq", "0"], "seq is 0, expected"),
        (["simulate", "llama-2-7b", "--on", "toy", "--context", "-1"], "context is -1, expected"),
        ([*TOY, "--set", "memory_bytes=1"], "machine 'toy' was registered as an object, expected a spec"),
        ([*TOY, "--format", "xml"], "Invalid value for '--format'"),
        ([*TOY, "--output", "none/out.json"], "output is 'none/out.json', expected a path that can be written"),
        ([*TOY, "--output", "."], "output is '.', expected a path that can be written"),
        (
            [*TOY, "--plot", "picture.xyz", "--output", "a.json"],
            "--plot is 'picture.xyz', expected a file that ends in",
        ),
        ([*TOY, "--plot", "none/picture.png", "--output", "a.json"], "output is 'none/picture.png', expected"),
        ([*TOY, "--plugin", "no_such_module"], "--plugin is 'no_such_module', expected a module"),
        (["compare", "toy-model", "--on", "toy", "--patterns", ","], "--patterns is ',', expected at least one"),
        (["compare", "toy-model", "--on", "toy", "--patterns", "dense,2:"], "pattern is '2:', expected a form"),
        (["gemm", "64", "64", "--on", "toy"], "K is missing, expected M N K or --csv FILE"),
        (["gemm", "64", "64", "1.5", "--on", "toy"], "Invalid value for 'K'"),
        (["gemm", "64", "0", "64", "--on", "toy"], "N is 0, expected from 1 to 2^40"),
        (["gemm", str(2**70), "64", "64", "--on", "toy"], f"M is {2**70}, expected from 1 to 2^40"),
        (["gemm", *["1099511627776"] * 3, "--on", "toy"], "expected operands of fewer than 2^63 bytes"),
        (["gemm", "--on", "toy", "--", "-5", "64", "64"], "M is -5, expected from 1 to 2^40"),
        ([*GEMM, "--sparse-operand", "C"], "sparse_operand is 'C', expected 'A' or 'B'"),
        ([*GEMM, "--sparsity", f"{10**20}:{10**25}"], f"M of N:M is {10**25}, expected at most 1,048,576"),
        ([*GEMM, "--sparsity", f"vector{2**40}:0.9"], "of vector is 1099511627776, expected at most 1,048,576"),
        ([*GEMM, "--sparsity", f"2:{'4' * 5000}"], "expected a form such as dense"),
        (
            [*GEMM, "--sparsity", "attn-block64:0.9"],
            "pattern is 'attn-block64:0.9', expected one of a matrix: this one is of the scores of attention",
        ),
        ([*GEMM, "--sparsity", "attn-token:0.5"], "this one is of the scores of attention"),
        ([*GEMM, "--accumulate", "fp8"], "accumulate is 'fp8', expected one of fp32, fp16, int32"),
        ([*GEMM, "--csv", "shapes.csv"], "M, N, K are given beside --csv"),
        (["gemm", "--csv", "none.csv", "--on", "toy"], "file 'none.csv' is no readable CSV"),
        (
            [*A100, "--set", "sm_cuont=1"],
            "no field of machine 'a100-sxm-80gb' is named 'sm_cuont'; near names: sm_count",
        ),
        ([*A100, "--set", "sm_count"], "--set is 'sm_count', expected FIELD=VALUE"),
        ([*A100, "--set", "sm_count=-4"], "sm_count.value is -4, expected"),
        ([*A100, "--set", "sm_count=lots"], "sm_count.value is 'lots', expected"),
        ([*A100, "--set", "boost_clock_hz=nan"], "boost_clock_hz.value is nan, expected"),
        ([*A100, "--set", "family=cpu"], "family is"),
        (["formats", "--shape", "4096"], "--shape is '4096', expected ROWSxCOLUMNS"),
        (["formats", "--shape", "99999999999x99999999999"], "expected a matrix of fewer than 2^63 bytes"),
        (["formats", "--shape", f"8x{'9' * 5000}"], "expected ROWSxCOLUMNS"),
        (["formats", "--shape", "0x5"], "shape is (0, 5), expected two sides of at least 1"),
        (["formats", "--shape", "8x8", "--dtype", "f7"], "dtype is 'f7'"),
        (["machines", "show", "a1000"], "no machine is named 'a1000'; near names"),
        (["machines", "show", "toy"], "toy"),
        (["extract", "toy-model", "--batch", "0"], "batch is 0"),
        (["diff", "none.json", "none.json"], "file 'none.json' is no readable JSON"),
        (["validate", "none.csv"], "none.csv"),
        (["sweep", "none.toml", "--out", "parts"], "none.toml"),
        (["smulate"], "No such command 'smulate'"),
        ([*TOY, "--sparstiy", "2:4"], "No such option: --sparstiy"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_one_line_and_nothing_left(
    arguments: list[str], says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in complaint(arguments, capsys)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("= {", "= "), "is no readable TOML"),
        (('family = "gpu"', 'family = "gpo"'), "family in 'mine.toml' is 'gpo', expected one of"),
        (("sm_count =", "sm_cuont ="), "machine file 'mine.toml': "),
        (("\nsm_count = { value = 108", "\nspeed = 3\nsm_count = { value = 108"), "unknown key 'speed', expected"),
        (("sm_count = { value = 108", "sm_count = { value = 0"), "sm_count.value is 0, expected"),
        (("sm_count = { value = 108", "sm_count = { valeu = 108"), "field 'sm_count.value' is missing"),
    ],
)
def test_bad_machine_files(
    change: tuple[str, str], says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["machines", "show", "a100-sxm-80gb", "--output", "mine.toml"]) == 0
    text = (folder / "mine.toml").read_text()
    assert change[0] in text
    (folder / "mine.toml").write_text(text.replace(*change))
    assert says in complaint(["gemm", "64", "64", "64", "--on", "mine.toml"], capsys)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no column M"),
        ("M,N\n1,2\n", "has no column K"),
        ("M,N,K,colour\n1,2,3,red\n", "has a column 'colour'"),
        ("M,N,K\n", "has no rows"),
        ("M,N,K\n1,2,3\n4,x,6\n", "N in line 3 of 'shapes.csv' is 'x', expected a whole number"),
        ("M,N,K\n1,2\n", "K in line 2 of 'shapes.csv' is '', expected a whole number"),
        ("M,N,K\n0,2,3\n", "M in line 2 of 'shapes.csv' is 0, expected from 1 to 2^40"),
        ("M,N,K,pattern\n1,2,3,9:4\n", "line 2 of 'shapes.csv': pattern is '9:4'"),
        ("M,N,K,dtype\n1,2,3,fp17\n", "line 2 of 'shapes.csv': dtype is 'fp17'"),
        ("M,N,K,sparse_operand\n1,2,3,C\n", "line 2 of 'shapes.csv': sparse_operand is 'C'"),
        ("M,N,K\n1,2,3\n\xff\xfe\n", "is no readable CSV"),
    ],
)
def test_bad_tables_of_products(text: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "shapes.csv").write_bytes(text.encode("latin-1"))
    assert says in complaint(["gemm", "--csv", "shapes.csv", "--on", "toy", "--output", "out.csv"], capsys)
    assert [path.name for path in folder.iterdir()] == ["shapes.csv"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no readable JSON"),
        ("[" * 100_000, "is no readable JSON"),
        ("[]", "has no list 'calls'"),
        ('{"calls": [], "schema_version": 99}', "schema_version of 'saved.json' is 99, expected 1"),
        ('{"calls": [3], "schema_version": 1}', "has a call without text 'ops'"),
    ],
)
def test_bad_saved_results(text: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "saved.json").write_text(text)
    assert says in complaint(["diff", "saved.json", "saved.json"], capsys)


def test_a_broken_plugin_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken_plugin.py").write_text("1 / 0\n")
    said = complaint([*TOY, "--plugin", "broken_plugin"], capsys)
    assert "--plugin is 'broken_plugin', expected a module that can be imported (ZeroDivisionError" in said


def test_a_failed_write_keeps_the_old_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "out.json").write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert "(No space left on device)" in complaint([*TOY, "--output", "out.json"], capsys)
    assert [path.name for path in folder.iterdir()] == ["out.json"]
    assert (folder / "out.json").read_text() == "before"


def test_only_what_plugs_in_can_be_registered() -> None:
    with pytest.raises(
        InputError, match="registered object is 'int', expected a machine, family, source, reader or method"
    ):
        simsparse.register(3)


@pytest.mark.parametrize(
    "extents", [([], [], []), (8, [], 8), ([8, 8], [8, 8, 8], 8), ([[8, 8], [8, 8]], 8, 8), ([8, 8], 8, 8, [0.5] * 3)]
)
def test_products_that_do_not_stand_side_by_side(extents: tuple[object, ...]) -> None:
    m, n, k, *density = extents
    with pytest.raises(InputError, match=r"^shapes of M, N, K, batch, density .*expected single numbers and \(n,\)"):
        gemm_problems(m, n, k, density=density[0] if density else None)


def outcome(function: Callable[..., Any], *arguments: object) -> Any:
    """What a function gives, or the error of ours that it raises; any other error fails the test."""
    try:
        return function(*arguments)
    except SimsparseError as error:
        return error


numbers = st.integers(0, 300)
fractions = st.floats(0, 1, allow_nan=False).map(lambda x: round(x, 6))
patterns = st.one_of(
    st.tuples(numbers, numbers.filter(bool)).map(lambda nm: f"{min(nm)}:{max(nm)}"),
    st.tuples(st.integers(1, 99), fractions).map(lambda p: f"vector{p[0]}:{p[1]:g}"),
    st.tuples(st.integers(1, 99), st.integers(1, 99), fractions).map(lambda p: f"block{p[0]}x{p[1]}:{p[2]:g}"),
    st.tuples(st.sampled_from(["unstructured", "rows", "slice", "act", "attn-token"]), fractions).map(
        lambda p: f"{p[0]}:{p[1]:g}"
    ),
)


@given(patterns)
def test_patterns_read_back_what_they_say(text: str) -> None:
    pattern = sparsity.parse(text)
    assert sparsity.parse(pattern.text) == pattern
    assert 0 <= pattern.density <= 1
    assert len(pattern.columns()) == len(sparsity.PatternColumn)


@given(st.text(alphabet=string.printable + "٣½∞", max_size=30) | patterns.map(lambda text: text[::-1]))
def test_any_text_is_a_pattern_or_an_input_error(text: str) -> None:
    found = outcome(sparsity.parse, text)
    assert isinstance(found, InputError) or 0 <= found.density <= 1


@given(st.lists(st.text(max_size=20)))
def test_any_sparsity_flags_are_patterns_or_an_input_error(texts: list[str]) -> None:
    found = outcome(read_sparsity, texts)
    assert isinstance(found, InputError) or all(glob.strip() == glob != "" for glob in found)


@given(st.lists(st.text(max_size=20)))
def test_any_changes_are_fields_or_an_input_error(texts: list[str]) -> None:
    changes = outcome(read_changes, texts)
    if isinstance(changes, InputError):
        assert "--set is" in str(changes)
    else:
        assert all(field and isinstance(value, (bool, int, float, str)) for field, value in changes.items())


@given(st.integers() | st.floats(allow_nan=False) | st.booleans())
def test_changes_read_back_numbers(value: float) -> None:
    text = json.dumps(value) if not (isinstance(value, float) and math.isinf(value)) else str(value)
    (read,) = read_changes([f" a.b = {text} "]).values()
    assert read == value
    assert type(read) is type(value)


fields = st.sampled_from(
    ["sm_count", "mac_rate.fp16", "name", "aliases", "dram_kind", "mac_rate", "mac_rate.fp16.value"]
)


@given(fields | st.text(max_size=12), st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8))
def test_any_change_of_a_spec_is_a_spec_or_an_error(field: str, value: object) -> None:
    changed = outcome(load_spec("a100-sxm-80gb").with_figures, {field: value})
    if isinstance(changed, SimsparseError):
        assert "a100-sxm-80gb" in str(changed)
    else:
        assert dict(changed.figures())[field].value == value


@given(st.text(max_size=80))
def test_any_table_is_products_or_an_input_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    path.write_text("M,N,K,pattern\n1,2,3,2:4\n" + text, encoding="utf-8", errors="replace", newline="")
    products = outcome(read_products, path, Style())
    if isinstance(products, InputError):
        assert "fuzzed.csv" in str(products)
    else:
        assert products.extents[0] == (1, 2, 3, 1)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}', "is naming 'model-00001-of-00002.safetensors'"),
        ('{"weight_map": {"a": "../../../etc/passwd"}}', "is naming '../../../etc/passwd', expected a .safetensors"),
        ('{"weight_map": 3}', "is without a weight_map from tensors to files"),
        ("{", "is no valid JSON"),
    ],
)
def test_an_index_without_its_weights_is_not_priced_as_dense(
    index: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_bytes((ROOT / "workloads/configs/gpt2.json").read_bytes())
    (model / "model.safetensors.index.json").write_text(index)
    found = complaint(["extract", "model"], capsys)
    assert says in found
    assert "model.safetensors.index.json" in found


def test_onnx_without_its_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    said = complaint(["simulate", "model.onnx", "--on", "a100-sxm-80gb"], capsys)
    assert said == "simsparse: workload 'model.onnx' needs ONNX, expected the extra onnx to be installed\n"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: simsparse.simulate("toy-model", 5), "machine is 5, expected a name, the path of a TOML file or"),
        (lambda: simsparse.simulate(5, "toy"), "workload is a builtins.int, expected a name, a path or a Workload"),
        (lambda: simsparse.simulate("toy-model", "toy", batch="4"), "batch is '4', expected a whole number"),
        (lambda: simsparse.simulate("toy-model", "toy", seq=2.5), "seq is 2.5, expected a whole number"),
        (lambda: simsparse.simulate("toy-model", "toy", sparsity=0.5), "sparsity is 0.5, expected a pattern, GLOB"),
        (lambda: simsparse.simulate("toy-model", "toy", sparsity={"*": 0.5}), "sparsity is {'*': 0.5}, expected"),
        (lambda: simsparse.simulate("toy-model", "toy", kernel=3), "kernel is 3, expected best or the name of"),
        (lambda: simsparse.compare("toy-model", "toy", 4), "pattern is '4', expected a form such as"),
        (lambda: simsparse.estimate_gemm("toy", 8, 8, 8, kernel=3), "no kernel of toy is named '3'"),
        (lambda: simsparse.sweep(3), "sweep is 3, expected the path of a TOML file or a mapping of axes"),
        (lambda: simsparse.compare("toy-model", "toy", []), "patterns is [], expected at least one"),
        (lambda: simsparse.compare("toy-model", [], "2:4"), "machines is [], expected at least one"),
        (
            lambda: simsparse.simulate(simsparse.load_workload("toy-model"), "toy", batch=4),
            "batch is 4, expected nothing beside a Workload",
        ),
    ],
)
@pytest.mark.usefixtures("toy")
def test_wrong_types_in_python_get_one_sentence(call: Callable[[], object], says: str) -> None:
    with pytest.raises(SimsparseError) as error:
        call()
    assert str(error.value).startswith(says)


@pytest.mark.usefixtures("toy")
def test_python_takes_what_the_command_line_takes() -> None:
    wanted = simsparse.simulate("toy-model", "toy", sparsity={"*": "2:4"}).latency_s
    for form in ("2:4", "*=2:4", ["*=dense", "*=2:4"], sparsity.parse("2:4")):
        assert simsparse.simulate("toy-model", "toy", sparsity=form).latency_s == wanted
    (one,) = simsparse.compare("toy-model", "toy", "2:4")
    assert one.latency_s == wanted
    assert simsparse.simulate(simsparse.load_workload("toy-model"), simsparse.load_machine("toy")).speedup == 1.0
