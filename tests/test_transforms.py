"""Transforms: what each leaves of shapes, weights, FLOPs and memory, in closed form; and that they compose."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsparse import registry
from simsparse.cli import main
from simsparse.errors import InputError, SimsparseError, UnknownNameError, UnsupportedError
from simsparse.ops import Contraction, Stream, Transfer, TransferKind
from simsparse.simulate import simulate
from simsparse.transforms import (
    apply_method,
    drop_layers,
    pipeline,
    put_patterns,
    quantize_weights,
    slice_model,
    tensor_parallel,
    with_sparsity,
)
from simsparse.workload import Workload
from workloads.convnet import SOURCE as CONVNETS
from workloads.huggingface import transformer

HIDDEN, HEADS, MLP, LAYERS, VOCABULARY = 4096, 32, 11008, 32, 32000  # llama-2-7b


@pytest.fixture(scope="module")
def llama() -> Workload:
    return transformer("llama-2-7b", phase="decode", batch=2, context=512)


def patterns_of(workload: Workload, name: str) -> dict[str, tuple[int, ...]]:
    """Layers by pattern of the weights of an op."""
    return {op.a.pattern.text: op.layers for op in workload.contractions() if op.name == name}


def weight_bytes(workload: Workload) -> float:
    return sum(weight.tensor.dense_bytes * weight.count for weight in workload.weights)


# Patterns -------------------------------------------------------------------------------------------------------------


def test_later_globs_win_and_layers_split(llama: Workload) -> None:
    sparse = with_sparsity(llama, {"*.mlp.*": "2:4", "layers.0.*": "unstructured:0.9", "*.down_proj": "dense"})
    assert patterns_of(sparse, "layers.*.mlp.up_proj") == {
        "unstructured:0.9": (0,),
        "2:4": tuple(range(1, 32)),
    }
    assert patterns_of(sparse, "layers.*.mlp.down_proj") == {"dense": tuple(range(32))}
    assert patterns_of(sparse, "layers.*.self_attn.q_proj")["unstructured:0.9"] == (0,)
    assert patterns_of(sparse, "lm_head") == {"dense": ()}
    stored = {w.tensor.pattern.text: w.layers for w in sparse.weights if w.tensor.name.endswith("up_proj.weight")}
    assert stored == patterns_of(sparse, "layers.*.mlp.up_proj")
    assert (sparse.parameters, sparse.flops) == (llama.parameters, llama.flops)
    assert sparse.transforms == ("sparsity *.mlp.*=2:4, layers.0.*=unstructured:0.9, *.down_proj=dense",)


@pytest.mark.parametrize(
    "glob", ["layers.?.mlp.up_proj", "layers.[0-9].mlp.up_proj", "layers.[0-9].mlp.up_proj.weight"]
)
def test_globs_match_ops_and_weights_layer_by_layer(llama: Workload, glob: str) -> None:
    assert patterns_of(with_sparsity(llama, {glob: "2:4"}), "layers.*.mlp.up_proj")["2:4"] == tuple(range(10))


def test_epilogues_are_split_with_the_op_they_follow() -> None:
    opt = with_sparsity(transformer("opt-125m", seq=64), {"layers.3.mlp.fc1": "2:4"})
    names = [(op.name, op.layers) for op in opt.ops if op.name.startswith("layers.*.mlp.fc1") and op.layers == (3,)]
    start = next(i for i, op in enumerate(opt.ops) if (op.name, op.layers) == names[0])
    assert [op.name for op in opt.ops[start : start + 3]] == [
        "layers.*.mlp.fc1",
        "layers.*.mlp.fc1.add_bias",
        "layers.*.mlp.act",
    ]
    assert {op.layers for op in opt.ops[start : start + 3]} == {(3,)}


def test_a_glob_that_matches_nothing_names_its_neighbours(llama: Workload) -> None:
    with pytest.raises(UnknownNameError, match=r"no op that takes 2:4 is named '\*\.mpl\.up_proj'; near .*up_proj"):
        with_sparsity(llama, {"*.mpl.up_proj": "2:4"})
    with pytest.raises(UnknownNameError, match=r"no op that takes attn-token:0.5 is named 'lm_head'; .*self_attn"):
        with_sparsity(llama, {"lm_head": "attn-token:0.5"})


def test_attention_patterns_go_on_scores_alone(llama: Workload) -> None:
    sparse = with_sparsity(llama, {"*": "attn-token:0.5"})
    for op in sparse.contractions():
        scores = [t for t in (op.a, op.b, op.out) if t.name.endswith(".scores")]
        assert {t.pattern.text for t in scores} <= {"attn-token:0.5"}
        assert op.a.pattern.text == "dense"
    assert sum(op.out.pattern.text == "attn-token:0.5" for op in sparse.contractions()) == 1


def test_embeddings_take_no_pattern_but_tied_heads_do(llama: Workload) -> None:
    stored = {w.tensor.name: w.tensor.pattern.text for w in with_sparsity(llama, {"*": "2:4"}).weights}
    assert (stored["embed_tokens.weight"], stored["lm_head.weight"], stored["norm.weight"]) == ("dense", "2:4", "dense")
    tied = with_sparsity(transformer("gpt2", seq=8), {"*": "2:4"})
    assert next(w for w in tied.weights if w.tensor.name == "embed_tokens.weight").tensor.pattern.text == "2:4"


def test_transposed_weights_of_training_follow_if_asked() -> None:
    step = transformer("bert-tiny", phase="train", seq=32)
    name = "layers.*.mlp.output.grad_input"
    assert patterns_of(with_sparsity(step, {"*.mlp.*": "2:4"}), name) == {"2:4": (0, 1)}
    assert patterns_of(with_sparsity(step, {"*.mlp.*": "2:4"}, backward=False), name) == {"unstructured:0.5": (0, 1)}


def test_a_function_may_choose(llama: Workload) -> None:
    from simsparse.sparsity import parse

    chosen = put_patterns(llama, lambda tensor, _: parse("2:4") if ".7." in tensor else None, "every seventh")
    assert patterns_of(chosen, "layers.*.mlp.up_proj")["2:4"] == (7,)
    assert chosen.transforms == ("every seventh",)


# Slicing --------------------------------------------------------------------------------------------------------------


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


# Depth ----------------------------------------------------------------------------------------------------------------


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


# Types ----------------------------------------------------------------------------------------------------------------


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


# Parallelism ----------------------------------------------------------------------------------------------------------


def test_megatron_divides_llama(llama: Workload) -> None:
    part = tensor_parallel(llama, 4)
    shapes = {op.name.removeprefix("layers.*."): op.gemm for op in part.contractions()}
    assert (shapes["self_attn.q_proj"].m, shapes["self_attn.q_proj"].k) == (HIDDEN // 4, HIDDEN)
    assert (shapes["self_attn.o_proj"].m, shapes["self_attn.o_proj"].k) == (HIDDEN, HIDDEN // 4)
    assert (shapes["mlp.up_proj"].m, shapes["mlp.down_proj"].k) == (MLP // 4, MLP // 4)
    assert shapes["self_attn.score"].batch == 2 * HEADS // 4
    assert 4 * part.flops == llama.flops
    assert part.devices == 4
    assert part.kv_cache_bytes == pytest.approx(llama.kv_cache_bytes / 4)
    norms = (2 * LAYERS + 1) * HIDDEN
    assert 4 * (part.parameters - norms) == llama.parameters - norms
    moved = {(op.name, op.kind, op.count): op.tensor.shape for op in part.ops if isinstance(op, Transfer)}
    assert moved == {
        ("embed_tokens.all_reduce", TransferKind.ALL_REDUCE, 1): (2, HIDDEN),
        ("layers.*.self_attn.o_proj.all_reduce", TransferKind.ALL_REDUCE, 32): (2, HIDDEN),
        ("layers.*.mlp.down_proj.all_reduce", TransferKind.ALL_REDUCE, 32): (2, HIDDEN),
        ("lm_head.all_gather", TransferKind.ALL_GATHER, 1): (2, VOCABULARY),
    }
    acts = next(op for op in part.ops if op.name == "layers.*.mlp.act")
    assert isinstance(acts, Stream)
    assert {t.shape for t in (*acts.reads, *acts.writes)} == {(2, MLP // 4)}


def test_partial_sums_wait_for_whoever_needs_them() -> None:
    """Branches in parallel are reduced once; biases come before; experts after their outputs are combined."""
    falcon = tensor_parallel(transformer("falcon-40b", phase="decode"), 8)
    assert sum(op.count for op in falcon.ops if isinstance(op, Transfer)) == 60 + 2
    for name, maker in (("opt-125m", "mlp.fc2.add_bias"), ("mixtral-8x7b", "mlp.combine")):
        ops = tensor_parallel(transformer(name, seq=8), 2).ops
        index = next(i for i, op in enumerate(ops) if op.name == f"layers.*.{maker}.all_reduce")
        assert (ops[index - 1].name, ops[index + 1].name) == (f"layers.*.{maker}", "layers.*.mlp_residual")


def test_latent_attention_divides_heads_and_keeps_its_cache() -> None:
    deepseek = transformer("deepseek-v2-lite", phase="decode", context=128)
    part = tensor_parallel(deepseek, 4)
    assert part.kv_cache_bytes == deepseek.kv_cache_bytes
    score = next(op for op in part.contractions() if op.name.endswith(".score"))
    assert (score.gemm.n, score.a.shape) == (4, (1, 1, 129, 576))
    stored = next(w for w in part.weights if w.tensor.name.endswith("kv_b_proj.weight"))
    assert stored.tensor.shape == (16 * 256 // 4, 512)


def test_what_does_not_divide_says_so(llama: Workload) -> None:
    with pytest.raises(InputError, match=r"self_attn.score is 1, expected a multiple of 2$"):
        tensor_parallel(transformer("falcon-7b", phase="decode"), 2)
    with pytest.raises(InputError, match="q_proj is 4096, expected a multiple of 3"):
        tensor_parallel(llama, 3)
    with pytest.raises(InputError, match="divided among 2 devices already"):
        tensor_parallel(tensor_parallel(llama, 2), 2)
    assert tensor_parallel(llama, 1) is llama


def test_stages_of_a_pipeline(llama: Workload) -> None:
    staged = pipeline(llama, 4)
    sent = [op for op in staged.ops if isinstance(op, Transfer)]
    assert [(op.kind, op.layers, op.tensor.shape) for op in sent] == [
        (TransferKind.POINT_TO_POINT, (7, 15, 23), (2, HIDDEN))
    ]
    assert (staged.flops, staged.devices, staged.stages) == (llama.flops, 4, 4)
    layers = 8 * (4 * HIDDEN * HIDDEN + 3 * HIDDEN * MLP + 2 * HIDDEN)
    assert staged.parameters == layers + VOCABULARY * HIDDEN + HIDDEN  # the last stage: with norm and head
    assert staged.kv_cache_bytes == pytest.approx(llama.kv_cache_bytes / 4)
    with pytest.raises(InputError, match="is 33, expected at most the 32 layers"):
        pipeline(llama, 33)
    with pytest.raises(InputError, match="dropping layers comes after pipeline, expected it before"):
        drop_layers(staged, 8)


def test_a_tied_table_lies_on_both_ends_and_memory_goes_to_all_decoder_stages() -> None:
    gpt2 = transformer("gpt2", seq=64)
    table, positions, norm = 50257 * 768, 1024 * 768, 2 * 768
    layers = gpt2.parameters - table - positions - norm
    assert pipeline(gpt2, 2).parameters == layers / 2 + table + norm  # the last stage, with logits, is the larger
    t5 = [op for op in pipeline(transformer("t5-small", seq=64), 4).ops if isinstance(op, Transfer)]
    memory = [op.layers for op in t5 if op.tensor.name == "encoder.final_layer_norm.out"]
    assert memory == [(2,)]


def test_energy_of_all_devices_of_a_pipeline(toy: None, llama: Workload) -> None:
    one, staged = (simulate(work, "toy") for work in (llama, pipeline(llama, 4)))
    dynamic = float(staged.prices.dynamic_j @ staged.counts)
    assert staged.all_devices_energy_j == pytest.approx(dynamic + 4 * (staged.energy_j - dynamic))
    assert one.all_devices_energy_j == one.energy_j
    assert one.tokens_per_j == pytest.approx(llama.tokens / one.energy_j)
    part = simulate(tensor_parallel(llama, 4), "toy")
    assert part.all_devices_energy_j == pytest.approx(4 * part.energy_j)


# Together -------------------------------------------------------------------------------------------------------------

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


# Names ----------------------------------------------------------------------------------------------------------------


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
        ("prune", "no method is named 'prune'; known: bdwp, bdwp-activations, drop, offload, pipeline"),
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


def test_shortcut_products_come_before_their_sum(llama: Workload) -> None:
    ops = slice_model(llama, 0.25).ops
    index = next(i for i, op in enumerate(ops) if op.name == "layers.*.mlp_residual.shortcut")
    product, total = ops[index], ops[index + 1]
    assert isinstance(product, Contraction)
    assert product.b.name == "layers.*.attention_residual.out"
    assert isinstance(total, Stream)
    assert [t.name for t in total.reads] == ["layers.*.mlp.down_proj.out", product.out.name]


def test_packages_add_methods(llama: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("deeper", "simsparse.transforms.by_name:apply_method", "simsparse.methods")
    monkeypatch.setattr(registry, "_entries", lambda group: (entry,) if group == "simsparse.methods" else ())
    assert apply_method(llama, "deeper:drop:8") == drop_layers(llama, 8)
    with pytest.raises(UnknownNameError, match=r"known: deeper, drop, offload, pipeline, quantize, slice, tp$"):
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
