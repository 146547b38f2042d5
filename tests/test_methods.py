"""Transforms together and by name: they compose or say why not, and packages and the command line name them."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workload_tools import weight_bytes

from simsparse import registry
from simsparse.cli import main
from simsparse.errors import InputError, SimsparseError, UnknownNameError
from simsparse.transforms import (
    apply_method,
    drop_layers,
    pipeline,
    quantize_weights,
    slice_model,
    tensor_parallel,
    with_sparsity,
)
from simsparse.workload import Workload
from workloads.huggingface import transformer

SMALL = ("opt-125m", "gpt2", "tinyllama-1.1b", "bert-mini", "pythia-6.9b")


@settings(deadline=None, max_examples=25)
@given(name=st.sampled_from(SMALL), fraction=st.floats(0.05, 0.9), pattern=st.sampled_from(["2:4", "unstructured:0.8"]))
def test_slicing_and_patterns_commute(name: str, fraction: float, pattern: str) -> None:
    work = transformer(name, seq=8)
    globs = {"*.self_attn.*": pattern}
    first, then = (
        slice_model(with_sparsity(work, globs), fraction),
        with_sparsity(slice_model(work, fraction), globs),
    )
    assert (first.ops, first.weights, first.parameters) == (then.ops, then.weights, then.parameters)


@settings(deadline=None, max_examples=25)
@given(name=st.sampled_from(SMALL), devices=st.sampled_from([1, 2, 4]), fraction=st.sampled_from([0.25, 0.5]))
def test_devices_share_the_flops_however_transforms_are_ordered(name: str, devices: int, fraction: float) -> None:
    work = transformer(name, seq=8)
    part = tensor_parallel(work, devices)
    padding = 2 * work.tokens * (devices - 1) * 2048  # rows of vocabulary that fill up the last share
    assert work.flops <= devices * part.flops <= work.flops + padding
    sliced, divided = (
        slice_model(part, fraction, shortcut=False),
        tensor_parallel(slice_model(work, fraction, shortcut=False), devices),
    )
    assert (sliced.flops, sliced.weights) == (divided.flops, divided.weights)
    assert [op.name for op in sliced.ops] == [op.name for op in divided.ops]


@settings(deadline=None, max_examples=25)
@given(count=st.integers(1, 11), extra=st.integers(1, 11))
def test_dropping_adds_up(count: int, extra: int) -> None:
    work = transformer("opt-125m", seq=8)
    less = drop_layers(work, count)
    each = (work.parameters - drop_layers(work, 1).parameters) * count
    assert less.parameters == work.parameters - each
    if count + extra < 12:
        twice = drop_layers(less, extra)
        assert twice.parameters == drop_layers(work, count + extra).parameters
        assert twice.origin is work


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.sampled_from(
            ["slice:0.25", "drop:2", "quantize:int8", "tp:2", "pipeline:2", "slice:0.5", "drop:1-3", "tp:1"]
        ),
        max_size=4,
    )
)
def test_methods_compose_or_say_why_not(texts: list[str]) -> None:
    work = transformer("opt-125m", phase="decode", context=64)
    made, refused = work, ""
    for text in texts:
        try:
            made = apply_method(made, text)
        except InputError as error:
            refused = str(error)
            break
    if refused:
        assert "expected" in refused
        return
    assert len(made.transforms) == sum(text != "tp:1" for text in texts)
    assert weight_bytes(made) <= weight_bytes(work)
    assert (made.origin is None) == (not any(text.startswith(("slice", "drop")) for text in texts))


def test_the_baseline_is_the_same_job_on_the_same_devices(llama: Workload) -> None:
    made = quantize_weights(tensor_parallel(slice_model(llama, 0.25), 2))
    assert made.origin == quantize_weights(tensor_parallel(llama, 2))
    assert pipeline(drop_layers(llama, 8), 2).origin == pipeline(llama, 2)


def test_methods_by_name(llama: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apply_method(llama, "drop:0.25") == drop_layers(llama, 8)
    assert apply_method(llama, "drop:3,20-22") == drop_layers(llama, [3, 20, 21, 22])
    assert apply_method(llama, "quantize:int4@*.mlp.*") == quantize_weights(llama, "int4", "*.mlp.*")
    monkeypatch.setattr(registry, "_ADDED", registry._Registry())

    def renamed(workload: Workload, argument: str) -> Workload:
        return workload.transformed(f"renamed {argument}", name=argument)

    registry.register(renamed)
    assert apply_method(llama, "renamed:other").name == "other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prune", "no method is named 'prune'; known: bdwp, bdwp-activations, drop, dynamic, offload, pipeline"),
        ("slice:much", "argument of slice is 'much', expected a fraction, such as slice:0.25"),
        ("slice:nan", "fraction to slice off is nan, expected above 0 and below 1"),
        ("tp:-2", "argument of tp is '-2', expected a number of devices, such as tp:2"),
        ("pipeline:0", "devices is 0, expected at least 1"),
        ("drop:30-40", "layer to drop of layers is 32, expected one of 0-31"),
        ("quantize:int3", "dtype is 'int3', expected one of "),
    ],
)
def test_bad_methods_in_one_sentence(llama: Workload, text: str, message: str) -> None:
    with pytest.raises(SimsparseError) as caught:
        apply_method(llama, text)
    assert str(caught.value).startswith(message)


def test_packages_add_methods(llama: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("deeper", "simsparse.transforms.by_name:apply_method", "simsparse.methods")
    monkeypatch.setattr(registry, "_entries", lambda group: (entry,) if group == "simsparse.methods" else ())
    assert apply_method(llama, "deeper:drop:8") == drop_layers(llama, 8)
    with pytest.raises(
        UnknownNameError, match=r"known: deeper, drop, dynamic, offload, pipeline, quantize, slice, tp$"
    ):
        apply_method(llama, "nothing")


def test_methods_on_the_command_line(toy: None, capsys: pytest.CaptureFixture[str]) -> None:
    load = ["llama-2-7b", "--phase", "decode", "--batch", "2", "--context", "512"]
    methods = ["--method", "slice:0.25", "--method", "tp:2"]
    assert main(["extract", *load, *methods, "--format", "json"]) == 0
    extracted = json.loads(capsys.readouterr().out)
    assert extracted["transforms"] == ["slice 0.25", "tensor parallel 2"]
    assert main(["simulate", *load, *methods, "--on", "toy", "--sparsity", "*.mlp.*=2:4", "--format", "json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["transforms"] == ["slice 0.25", "tensor parallel 2", "sparsity *.mlp.*=2:4"]
    assert result["parameters"] == extracted["parameters"]
    assert result["speedup"] > 1
    assert main(["compare", *load, *methods, "--on", "toy", "--patterns", "dense,2:4", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[1]["speedup"] > rows[0]["speedup"] > 1
    assert main(["extract", "llama-2-7b", "--method", "slice"]) == 2
    assert capsys.readouterr().err == "simsparse: argument of slice is '', expected a fraction, such as slice:0.25\n"
