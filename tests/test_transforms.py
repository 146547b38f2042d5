"""Transforms of one model: what each leaves of shapes, weights, FLOPs and memory, in closed form."""

from __future__ import annotations

import pytest
from workload_tools import HIDDEN, LAYERS, MLP, VOCABULARY, weight_bytes

from simsparse.errors import InputError, UnsupportedError
from simsparse.ops import Contraction, Stream
from simsparse.transforms import (
    drop_layers,
    quantize_weights,
    slice_model,
)
from simsparse.workload import Workload
from workloads.convnet import SOURCE as CONVNETS
from workloads.huggingface import transformer


@pytest.mark.parametrize("shortcut", [False, True])
def test_slicing_llama_in_closed_form(llama: Workload, shortcut: bool) -> None:
    cut, width = slice_model(llama, 0.25, shortcut=shortcut), 3072
    square = 2 * width * width if shortcut else 0
    layer = 4 * width * HIDDEN + 3 * width * MLP + square
    assert cut.parameters == 2 * VOCABULARY * width + LAYERS * (layer + 2 * width) + width
    scores = sum(op.flops * op.count for op in llama.contractions() if op.weight is None)
    assert cut.flops == 2 * llama.tokens * (LAYERS * layer + VOCABULARY * width) + scores
    assert cut.kv_cache_bytes == llama.kv_cache_bytes
    assert cut.origin is llama
    norms = [
        (op, cut_op) for op, cut_op in zip(llama.ops, cut.ops, strict=False) if op.name.endswith("input_layernorm")
    ]
    for whole, op in norms:
        assert isinstance(op, Stream)
        assert isinstance(whole, Stream)
        assert {t.shape[-1] for t in (*op.reads, *op.writes)} == {width}
        assert op.flops == 0.75 * whole.flops


def test_slicing_opt_in_closed_form() -> None:
    opt = transformer("opt-1.3b", seq=128)
    cut, width, hidden, mlp = slice_model(opt, 0.3, shortcut=False), 1432, 2048, 8192
    matrices = 4 * width * hidden + 2 * width * mlp
    vectors = 3 * hidden + width + mlp + width + 4 * width
    assert cut.parameters == (50272 + 2050) * width + 24 * (matrices + vectors) + 2 * width


@pytest.mark.parametrize(
    "name", ["deepseek-v2-lite", "falcon-40b", "gemma-2-2b", "qwen1.5-moe-a2.7b", "vit-base", "t5-small"]
)
def test_every_family_keeps_three_quarters(name: str) -> None:
    whole = transformer(name, seq=16)
    cut = slice_model(whole, 0.25, shortcut=False)
    assert cut.parameters == pytest.approx(0.75 * whole.parameters, rel=2e-3)
    around = {op.name for op in slice_model(whole, 0.25).ops if op.name.endswith(".shortcut")}
    assert len(around) == {"falcon-40b": 1, "t5-small": 5}.get(name, 2)


def test_what_cannot_be_sliced_says_why(llama: Workload) -> None:
    resnet = CONVNETS.load("resnet-18", phase=None, batch=1, seq=None, context=None, dtype="fp16")
    with pytest.raises(UnsupportedError, match=r"^resnet-18 has no residual stream, expected a transformer$"):
        slice_model(resnet, 0.25)
    with pytest.raises(InputError, match=r"^fraction to slice off is 1.0, expected above 0 and below 1$"):
        slice_model(llama, 1.0)
    with pytest.raises(UnsupportedError, match=r"no op of this decode step reads decoder.*cross_attn\.k"):
        slice_model(transformer("t5-small", phase="decode"), 0.25)
    with pytest.raises(InputError, match="expected prefill, decode or encode"):
        slice_model(transformer("bert-tiny", phase="train", seq=8), 0.25)


def test_dropped_layers_take_ops_weights_and_cache_along(llama: Workload) -> None:
    layer = 4 * HIDDEN * HIDDEN + 3 * HIDDEN * MLP + 2 * HIDDEN
    less = drop_layers(llama, 8)
    assert less.parameters == llama.parameters - 8 * layer
    assert less.kv_cache_bytes == pytest.approx(llama.kv_cache_bytes * 24 / 32)
    assert less.activation_bytes == llama.activation_bytes
    assert less.transforms == ("drop layers 23-30",)
    assert next(op for op in less.ops if op.layers).layers == (*range(23), 31)
    assert less.origin is llama


def test_dropped_layers_of_windows_and_of_training() -> None:
    gemma = transformer("gemma-2-2b", seq=8192)  # every other layer keeps a window of 4096
    assert drop_layers(gemma, [0, 2]).kv_cache_bytes == pytest.approx(gemma.kv_cache_bytes * (11 + 26) / (13 + 26))
    step = transformer("bert-base", phase="train", seq=64)
    less = drop_layers(step, 0.5)
    assert less.optimizer_bytes == pytest.approx(step.optimizer_bytes * less.parameters / step.parameters)
    assert less.activation_bytes < 0.6 * step.activation_bytes


def test_layers_of_one_stack_or_of_each() -> None:
    t5 = transformer("t5-small", seq=16)
    assert drop_layers(t5, 2).transforms == ("drop encoder.layers 3-4, decoder.layers 3-4",)
    only = drop_layers(t5, [1], stack="encoder.layers")
    assert {op.count for op in only.ops if op.name.startswith("decoder.layers")} == {6}
    assert {op.count for op in only.ops if op.name.startswith("encoder.layers")} == {5}


@pytest.mark.parametrize("layers", [0, 32, [32], [], list(range(32)), 1.5])
def test_layers_that_cannot_go(llama: Workload, layers: int | float | list[int]) -> None:
    with pytest.raises(InputError, match="to drop"):
        drop_layers(llama, layers)


def test_quantised_weights_in_bytes(llama: Workload) -> None:
    narrow = quantize_weights(llama, "int4-g128", "layers.*")
    matrices = LAYERS * (4 * HIDDEN * HIDDEN + 3 * HIDDEN * MLP)
    rest = llama.parameters - matrices
    assert weight_bytes(narrow) == pytest.approx(matrices * (4 + 16 / 128) / 8 + 2 * rest)
    assert {str(t.dtype) for op in narrow.contractions() for t in (op.b, op.out)} == {"fp16"}
    assert narrow.origin is None
    assert quantize_weights(slice_model(llama, 0.25)).origin == quantize_weights(llama)


def test_some_layers_and_tied_tables_quantise() -> None:
    gpt2 = quantize_weights(transformer("gpt2", seq=8), "int8", "lm_head")
    gather = next(op for op in gpt2.ops if op.name == "embed_tokens")
    assert str(gather.inputs[0].dtype) == "int8"
    some = quantize_weights(transformer("gpt2", seq=8), "int8", "layers.[0-3].*")
    assert {op.layers for op in some.contractions() if op.a.dtype.name == "int8"} == {(0, 1, 2, 3)}


@pytest.mark.parametrize("kind", ["fp16", "fp32", "bool"])
def test_types_that_are_no_narrower(llama: Workload, kind: str) -> None:
    with pytest.raises(InputError, match="expected a number of fewer bits than fp16"):
        quantize_weights(llama, kind)


def test_shortcut_products_come_before_their_sum(llama: Workload) -> None:
    ops = slice_model(llama, 0.25).ops
    index = next(i for i, op in enumerate(ops) if op.name == "layers.*.mlp_residual.shortcut")
    product, total = ops[index], ops[index + 1]
    assert isinstance(product, Contraction)
    assert product.b.name == "layers.*.attention_residual.out"
    assert isinstance(total, Stream)
    assert [t.name for t in total.reads] == ["layers.*.mlp.down_proj.out", product.out.name]
