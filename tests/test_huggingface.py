"""Workloads from Hugging Face configs: exact counts, attention and experts counted right, bad configs refused."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsparse.errors import InputError, SimsparseError, UnknownNameError, UnsupportedError
from simsparse.ops import Contraction, ContractionKind, Role, Stream, StreamKind, Tensor
from simsparse.plan import ProblemColumn
from simsparse.problems import problem_of
from simsparse.workload import Phase, Workload
from workloads.attention import Span
from workloads.families import READERS
from workloads.feed_forward import experts_hit
from workloads.huggingface import SOURCE, HuggingFaceSource, checkpoint_names, load_config, shipped, transformer

COUNTED = json.loads((Path(__file__).parent / "data" / "models.json").read_text(encoding="utf-8"))["models"]
IN_EVIDENCE = (
    "bert-base", "bert-large", "distilbert", "gemma-2-2b", "gpt2", "llama-2-70b", "llama-2-7b", "mistral-7b",
    "mixtral-8x7b", "mpt-7b", "opt-125m", "opt-6.7b", "phi-2", "qwen2-7b", "t5-base", "vit-base", "vit-large",
    "whisper-large-v2",
)  # fmt: skip


def product(workload: Workload, name: str, layer: int = 0) -> Contraction:
    """The contraction of that name that stands for a layer."""
    return next(op for op in workload.contractions() if op.name == name and layer in (op.layers or (layer,)))


def changed(name: str, **changes: object) -> dict[str, object]:
    """A shipped config with other values; `...` takes a key away."""
    config = {**load_config(name), **changes}
    return {key: value for key, value in config.items() if value is not ...}


def test_evidence_lists_no_model_that_is_not_checked(evidence: Path) -> None:
    assert set(json.loads((evidence / "hf" / "reference.json").read_text())) == set(IN_EVIDENCE)


@pytest.mark.parametrize("name", IN_EVIDENCE)
def test_counts_equal_those_of_the_evidence(evidence: Path, name: str) -> None:
    expected = json.loads((evidence / "hf" / "reference.json").read_text())[name]
    for spec in (str(evidence / "hf" / f"{name}.json"), name):
        workload = transformer(spec, batch=2, seq=128)
        assert workload.name == name
        assert workload.parameters == expected["params"]
        if "flops_batch2_seq128" in expected:
            assert workload.flops == expected["flops_batch2_seq128"]


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_counts_equal_those_of_transformers(name: str) -> None:
    workload = transformer(name, batch=2, seq=128)
    # transformers 5 ties the head of T5 1.1, whose published weights have one of its own.
    untied = 32128 * 2048 if name == "flan-t5-xl" else 0
    assert workload.parameters == COUNTED[name]["parameters"] + untied
    assert workload.flops == COUNTED[name]["flops"]


def test_every_family_is_counted_and_every_shipped_model_too() -> None:
    assert set(COUNTED) == set(shipped())
    assert len(shipped()) >= 25
    families = {str(load_config(name)["model_type"]) for name in COUNTED}
    assert families | {"RefinedWeb", "RefinedWebModel"} == set(READERS)


@pytest.mark.parametrize("name", sorted(shipped()))
@pytest.mark.parametrize("phase", ["prefill", "decode", "encode", "train"])
def test_each_phase_is_one_graph_or_refused(name: str, phase: str) -> None:
    seq = None if phase == "decode" else 16
    lacking = {"encode": "no encoder", "decode": "no decoder"}.get(phase)
    encoders, both = ("bert", "roberta", "distilbert", "vit"), ("t5", "whisper")
    able = {"encode": (*encoders, *both), "decode": (*(set(READERS) - set(encoders)),)}.get(phase)
    if able is not None and load_config(name)["model_type"] not in able:
        with pytest.raises(UnsupportedError, match=f"has {lacking}, expected phase"):
            transformer(name, phase=phase, seq=seq)
        return
    workload = transformer(name, phase=phase, seq=seq)
    graph = workload.graph()
    assert networkx.is_directed_acyclic_graph(graph)
    assert networkx.number_weakly_connected_components(graph) == 1
    reference = COUNTED[name]["parameters"]
    assert workload.parameters in (reference, reference + 32128 * 2048)
    made = {t.name for op in workload.ops for t in op.outputs}
    stored = {w.tensor.name for w in workload.weights}
    given = {"input_ids", "encoder.input_ids", "decoder.input_ids", "image", "spectrogram"}
    for tensor in (t for op in workload.ops for t in op.inputs):
        cached = tensor.role in (Role.KV_CACHE, Role.OPTIMIZER)
        assert tensor.name in made | stored | given or cached, tensor.name


def test_names_answer_to_the_same_globs_in_all_families() -> None:
    for name in shipped():
        ops = {op.name for op in transformer(name, seq=8).contractions() if "layers.*." in op.name}
        assert any(".mlp." in op for op in ops)
        assert all(".mlp." in op or ".self_attn." in op or ".cross_attn." in op for op in ops), name


def test_version_4_and_5_spellings_agree(evidence: Path) -> None:
    for name in ("phi-2", "gemma-2-2b", "qwen2-7b", "mistral-7b", "gpt2", "bert-base"):
        new = transformer(evidence / "hf" / f"{name}.json", batch=2, seq=64, dtype="fp16")
        assert new == transformer(name, batch=2, seq=64, dtype="fp16")


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("qwen3-30b-a3b", {"num_experts": ..., "num_local_experts": 128}),
        ("llama-3-8b", {"torch_dtype": ..., "dtype": "bfloat16", "rope_theta": ..., "head_dim": 128}),
        ("llama-2-7b", {"num_key_value_heads": ...}),
        ("gpt-neox-20b", {"rotary_pct": ..., "rope_parameters": {"partial_rotary_factor": 0.25}}),
        ("falcon-7b", {"num_attention_heads": ..., "n_head": 71, "model_type": "RefinedWebModel"}),
        (
            "falcon-40b",
            {"num_kv_heads": ..., "n_head_kv": 8, "model_type": "RefinedWeb", "new_decoder_architecture": ...},
        ),
        ("bloom-7b1", {"hidden_size": ..., "n_embed": 4096}),
        ("mistral-7b", {"head_dim": None}),
    ],
)
def test_other_spellings_of_a_config_make_the_same_workload(name: str, spelled: dict[str, object]) -> None:
    assert transformer(changed(name, **spelled), seq=8, name=name) == transformer(name, seq=8)


@given(new=st.integers(1, 12), cached=st.integers(0, 12), window=st.none() | st.integers(1, 30))
def test_needed_fraction_counts_the_mask(new: int, cached: int, window: int | None) -> None:
    span = Span(1, new, cached)
    pairs = sum(
        1
        for query in range(cached, cached + new)
        for key in range(cached + new)
        if key <= query and (window is None or key > query - window)
    )
    reached = {k for q in range(cached, cached + new) for k in range(q + 1) if window is None or k > q - window}
    assert len(reached) <= span.keys(window)
    assert span.needed(window) == pytest.approx(pairs / (new * span.keys(window)))


def test_attention_products_show_what_grouped_queries_reuse() -> None:
    workload = transformer("llama-2-70b", phase="decode", batch=4, context=1000)
    score, value = (product(workload, f"layers.*.self_attn.{x}") for x in ("score", "context"))
    assert (score.gemm.batch, score.gemm.m, score.gemm.n, score.gemm.k) == (4 * 8, 1001, 8, 128)
    assert (value.gemm.batch, value.gemm.m, value.gemm.n, value.gemm.k) == (4 * 8, 128, 8, 1001)
    assert score.a.role is Role.KV_CACHE
    assert (score.kind, value.kind) == (ContractionKind.SCORE, ContractionKind.VALUE)
    assert workload.kv_cache_bytes == 4 * 1001 * 80 * 2 * 8 * 128 * 2
    prompt = product(transformer("llama-2-70b", seq=512), "layers.*.self_attn.score")
    assert prompt.a.role is Role.ACTIVATION
    assert prompt.needed == pytest.approx((1 + 1 / 512) / 2)


def test_decoding_costs_two_flops_a_weight_and_the_attention() -> None:
    workload = transformer("llama-2-7b", phase="decode", context=100)
    matrices = workload.parameters - 32000 * 4096 - 65 * 4096
    assert workload.flops == 2 * matrices + 4 * 32 * 4096 * 101


@given(parts=st.lists(st.integers(1, 40), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_a_prompt_in_chunks_needs_the_same_scores(parts: list[int]) -> None:
    def pairs(seq: int, context: int) -> float:
        score = product(transformer("gemma-2-2b", seq=seq, context=context), "layers.*.self_attn.score", 1)
        return score.needed * score.flops

    chunks = [pairs(part, sum(parts[:index])) for index, part in enumerate(parts)]
    assert sum(chunks) == pytest.approx(pairs(sum(parts), 0))


def test_sliding_layers_are_ops_of_their_own() -> None:
    workload = transformer("gemma-2-2b", phase="decode", context=8000)
    sliding, full = (product(workload, "layers.*.self_attn.score", layer) for layer in (0, 1))
    assert sliding.layers == tuple(range(0, 26, 2))
    assert full.layers == tuple(range(1, 26, 2))
    assert (sliding.gemm.m, full.gemm.m) == (4096, 8001)
    assert workload.kv_cache_bytes == 13 * (4096 + 8001) * 2 * 4 * 256 * workload.dtype.bits / 8
    prompt = transformer("gemma-2-2b", seq=8192)
    narrow, wide = (product(prompt, "layers.*.self_attn.score", layer) for layer in (0, 1))
    assert narrow.flops == wide.flops
    assert narrow.needed == pytest.approx(wide.needed * 0.75, rel=1e-3)


@given(experts=st.integers(1, 300), data=st.data())
def test_experts_hit_grow_from_top_k_to_all(experts: int, data: st.DataObject) -> None:
    top_k = data.draw(st.integers(1, experts))
    hits = [experts_hit(experts, top_k, tokens) for tokens in (1, 2, 8, 64, 10**9)]
    assert hits == sorted(hits)
    assert hits[0] == pytest.approx(top_k)
    assert hits[-1] == pytest.approx(experts)


def test_experts_run_on_the_tokens_they_get() -> None:
    workload = transformer("mixtral-8x7b", phase="decode", batch=4, context=16)
    up = product(workload, "layers.*.mlp.experts.up_proj")
    # 8 · (1 − 0.75⁴) = 5.47 experts share 4 · 2 visits.
    assert up.groups == (pytest.approx(8 * (1 - 0.75**4)), 8)
    row = problem_of(up)
    assert row[ProblemColumn.BATCH] * row[ProblemColumn.N] == pytest.approx(4 * 2)
    assert row[ProblemColumn.BATCH] == pytest.approx(5.47, abs=0.01)
    assert up.flops == 2 * 8 * 14336 * 4096
    assert (up.gemm.batch, up.gemm.m, up.gemm.n, up.gemm.k) == (5, 14336, 2, 4096)
    lite = transformer("deepseek-v2-lite", seq=4)
    assert product(lite, "layers.*.mlp.gate_proj").layers == (0,)
    assert product(lite, "layers.*.mlp.shared_experts.up_proj", 1).layers == tuple(range(1, 27))


def test_latent_attention_decodes_from_latents_alone() -> None:
    workload = transformer("deepseek-v2", phase="decode", batch=2, context=999)
    score = product(workload, "layers.*.self_attn.score")
    assert (score.gemm.batch, score.gemm.m, score.gemm.n, score.gemm.k) == (2, 1000, 128, 512 + 64)
    assert product(workload, "layers.*.self_attn.context").gemm.m == 512
    assert workload.kv_cache_bytes == 2 * 1000 * 60 * (512 + 64) * 2
    absorbed = [product(workload, f"layers.*.self_attn.kv_b_proj.absorb_{x}") for x in ("query", "value")]
    assert sum(op.a.elements for op in absorbed) == 512 * 128 * (128 + 128)


def test_cross_attention_makes_keys_once_and_then_reads_them() -> None:
    prompt = transformer("whisper-small", batch=2, seq=10)
    keys = product(prompt, "decoder.layers.*.cross_attn.k_proj")
    assert keys.gemm.n == 2 * 1500
    decode = transformer("whisper-small", phase="decode", batch=2, context=10)
    names = {op.name for op in decode.ops}
    assert "decoder.layers.*.cross_attn.k_proj" not in names
    assert not any(name.startswith("encoder.") for name in names)
    assert product(decode, "decoder.layers.*.cross_attn.score").gemm.m == 1500
    assert decode.kv_cache_bytes == 2 * 12 * 2 * 768 * (11 + 1500) * 2
    encode = transformer("whisper-small", phase="encode", batch=2)
    assert encode.tokens == 2 * 1500
    assert encode.flops < prompt.flops
    assert transformer("t5-small", seq=8, source=100).flops > transformer("t5-small", seq=8).flops


def test_lengths_have_defaults() -> None:
    assert transformer("llama-2-7b").tokens == 2048
    assert transformer("bert-base", batch=3).tokens == 3 * 512
    assert transformer("bert-base").phase is Phase.ENCODE
    assert transformer("vit-base", batch=5).tokens == 5
    assert product(transformer("llama-2-7b", phase="decode"), "layers.*.self_attn.score").gemm.m == 2049
    assert product(transformer("gpt2", phase="decode"), "layers.*.self_attn.score").gemm.m == 1024
    assert str(transformer("llama-3-8b").dtype) == "bf16"
    assert str(transformer("gpt2").dtype) == "fp16"


def test_caches_may_have_a_type_of_their_own() -> None:
    half, byte = (transformer("llama-3-8b", phase="decode", kv_dtype=kind) for kind in (None, "fp8"))
    assert half.kv_cache_bytes == 2 * byte.kv_cache_bytes
    score = product(byte, "layers.*.self_attn.score")
    assert (str(score.a.dtype), str(score.b.dtype)) == ("fp8", "bf16")


def test_fused_streams_follow_what_they_fuse_with() -> None:
    for name in shipped():
        ops = transformer(name, seq=8).ops
        for before, op in pairwise(ops):
            if isinstance(op, Stream) and op.epilogue:
                assert op.reads[0].name in {t.name for t in before.outputs}, (name, op.name)
        for op in ops:
            if isinstance(op, Contraction) and op.kind is ContractionKind.SCORE:
                index = ops.index(op)
                names = [after.name.rpartition(".")[2] for after in ops[index : index + 3]]
                assert names == ["score", "softmax", "context"]


def test_streams_have_the_bytes_of_their_tensors() -> None:
    workload = transformer("opt-125m", batch=2, seq=16)
    streams = {op.name: op for op in workload.ops if isinstance(op, Stream)}
    assert streams["embed_tokens"].reads[0].shape == (32, 768)
    append = streams["layers.*.self_attn.cache_append"]
    assert [t.elements for t in append.writes] == [32 * 768] * 2
    assert {t.role for t in append.writes} == {Role.KV_CACHE}
    assert streams["layers.*.mlp.act"].kind is StreamKind.ACTIVATION
    # Logits and the last hidden states live at once at the end, and nothing larger before.
    assert workload.activation_bytes == 2 * 32 * (50272 + 768)


def test_checkpoint_names_are_those_of_real_files() -> None:
    names = checkpoint_names("minilm-l6")
    assert names["layers.*.self_attn.query.weight"] == "encoder.layer.*.attention.self.query.weight"
    assert names["layers.*.self_attn.output.bias"] == "encoder.layer.*.attention.output.dense.bias"
    assert names["layers.*.mlp.output.weight"] == "encoder.layer.*.output.dense.weight"
    assert names["layers.*.mlp_norm.weight"] == "encoder.layer.*.output.LayerNorm.weight"
    assert checkpoint_names("gpt2")["layers.*.self_attn.c_attn.weight"] == "h.*.attn.c_attn.weight"
    mixtral = checkpoint_names("mixtral-8x7b")["layers.*.mlp.experts.up_proj.weight"]
    assert mixtral == "layers.*.block_sparse_moe.experts.*.w3.weight"


def test_configs_load_from_names_files_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(load_config("bert-mini")))
    for spec in (folder, folder / "config.json"):
        assert transformer(spec, seq=8, name="bert-mini") == transformer("bert-mini", seq=8)
        assert transformer(spec).name == "my-model"
        assert SOURCE.accepts(str(spec))
    assert not SOURCE.accepts("no-such-thing")
    assert not SOURCE.accepts(str(tmp_path))
    assert HuggingFaceSource().load("bert-mini", seq=8) == transformer("bert-mini", seq=8)
    assert "llama-2-7b" in SOURCE.names()


def broken(write: Callable[[Path], object]) -> Callable[[Path], object]:
    def run(folder: Path) -> object:
        path = folder / "config.json"
        write(path)
        return transformer(path)

    return run


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (broken(lambda path: None), "cannot be read"),
        (broken(lambda path: path.write_text("{")), "is not JSON"),
        (broken(lambda path: path.write_text("[1]")), "holds a list, expected a JSON object"),
        (broken(lambda path: path.write_bytes(b"\xff\xfe\x00")), "is not JSON"),
        (broken(lambda path: path.write_text("[" * 100_000)), "is not JSON"),
        (broken(lambda path: path.mkdir()), "cannot be read"),
    ],
)
def test_broken_files_are_refused(make: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        make(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed("llama-2-7b", hidden_size=...), "has no hidden_size, expected a whole number"),
        (changed("llama-2-7b", hidden_size=-4096), "hidden_size of .* is -4096, expected a whole number from 1"),
        (changed("llama-2-7b", vocab_size=0), "vocab_size of .* is 0"),
        (changed("llama-2-7b", num_hidden_layers=10**9), "num_hidden_layers .* from 1 to 10000"),
        (changed("llama-2-7b", intermediate_size=11008.5), "intermediate_size of .* is 11008.5"),
        (changed("llama-2-7b", num_attention_heads=True), "num_attention_heads of .* is True"),
        (changed("llama-2-7b", num_attention_heads=33), "4096 is not divisible by 33"),
        (changed("llama-2-7b", num_key_value_heads=5), "key-value heads is 5, expected a divisor of 32 heads"),
        (changed("llama-2-7b", hidden_size=2**31 - 1, head_dim=2**31 - 1), "fewer than 2\\^63 bytes"),
        (changed("llama-2-7b", tie_word_embeddings="no"), "is 'no', expected true or false"),
        (changed("llama-2-7b", torch_dtype="float7"), "dtype is 'float7'"),
        (changed("mixtral-8x7b", num_experts_per_tok=9), "experts per token is 9, expected at most 8"),
        (changed("gemma-2-2b", layer_types=["full_attention"]), "one type for each of 26 layers"),
        (changed("vit-base", patch_size=15), "image size is 224, expected a multiple of the patch size 15"),
        (changed("gpt-j-6b", rotary_dim=999), "rotary dimensions is 999, expected at most the head size 256"),
        (changed("phi-2", partial_rotary_factor=math.nan), "expected a number from 0 to 1"),
        (changed("llama-2-7b", model_type=7), "model_type of .* is 7, expected a string"),
    ],
)
def test_bad_configs_get_one_sentence(config: dict[str, object], message: str) -> None:
    with pytest.raises(SimsparseError, match=message) as caught:
        transformer(config)
    assert "\n" not in str(caught.value)


def test_unknown_models_are_told_the_known_ones_and_the_torch_way() -> None:
    with pytest.raises(UnknownNameError, match=r"'mamba', expected one of .*llama.*workloads\.torch"):
        transformer(changed("llama-2-7b", model_type="mamba"))
    with pytest.raises(UnknownNameError, match=r"near names: .*llama-2-7b"):
        transformer("llama2-7b")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gpt2", {"seq": 1025}, r"length of gpt2 \(context \+ seq\) is 1025, expected at most its 1024"),
        ("roberta-base", {"seq": 513}, "at most its 512 learned positions"),
        ("opt-125m", {"phase": "decode", "context": 2048}, "is 2049, expected at most its 2048"),
        ("llama-2-7b", {"batch": 0}, "batch is 0, expected a whole number"),
        ("llama-2-7b", {"batch": 1.5}, "batch is 1.5"),
        ("llama-2-7b", {"batch": True}, "batch is True"),
        ("llama-2-7b", {"seq": -1}, "seq is -1"),
        ("llama-2-7b", {"seq": 2**40, "batch": 2**40}, "2\\^63 bytes"),
        ("llama-2-7b", {"context": -1, "phase": "decode"}, "context is -1"),
        ("llama-2-7b", {"context": 5, "phase": "train"}, "context is 5, expected 0 in phase train"),
        ("llama-2-7b", {"phase": "dream"}, "phase is 'dream', expected one of prefill, decode, encode, train"),
        ("llama-2-7b", {"phase": "encode"}, "has no encoder, expected phase prefill"),
        ("bert-base", {"phase": "decode"}, "has no decoder, expected phase encode"),
        ("llama-2-7b", {"dtype": "fp17"}, "dtype is 'fp17'"),
        ("llama-2-7b", {"phase": "train", "optimizer": "lion"}, "optimizer is 'lion', expected one of sgd"),
    ],
)
def test_bad_arguments_get_one_sentence(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(SimsparseError, match=message):
        transformer(name, **options)  # type: ignore[arg-type]


def test_rotary_models_may_run_past_their_positions() -> None:
    assert transformer("llama-2-7b", seq=8192).tokens == 8192


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.sampled_from([2**31, 2**63, -(2**70), 1e300, 0.5, math.nan]),
    st.text(max_size=4), st.lists(st.integers() | st.text(max_size=3), max_size=3), st.just({}), st.just({"a": 1}),
)  # fmt: skip


@given(name=st.sampled_from(sorted(shipped())), phase=st.sampled_from(list(Phase)), data=st.data())
@settings(max_examples=250, deadline=None)
def test_any_config_makes_a_workload_or_one_sentence(name: str, phase: Phase, data: st.DataObject) -> None:
    config = load_config(name)
    keys = st.sampled_from(sorted(config))
    config |= data.draw(st.dictionaries(keys | st.sampled_from(["head_dim", "rope_parameters"]), ODD, max_size=3))
    with contextlib.suppress(SimsparseError):
        workload = transformer(config, phase=phase, batch=data.draw(st.integers(1, 3)))
        assert workload.flops > 0
        assert workload.activation_bytes > 0


def in_dictionaries(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.dictionaries(st.text(max_size=3), values)


@given(text=st.text(max_size=40) | st.recursive(ODD, in_dictionaries).map(str))
@settings(max_examples=60, deadline=None)
def test_any_text_is_no_config(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "config.json"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(SimsparseError):
        transformer(path)


def test_tensor_names_keep_their_data() -> None:
    """Ops that share a tensor's name agree on its type and role."""
    for name in ("llama-2-7b", "deepseek-v2-lite", "t5-small", "whisper-tiny", "bert-mini", "falcon-40b"):
        for phase in ("prefill", "decode"):
            if phase == "decode" and name == "bert-mini":
                continue
            seen: dict[str, Tensor] = {}
            for tensor in (t for op in transformer(name, phase=phase, seq=4).ops for t in (*op.inputs, *op.outputs)):
                first = seen.setdefault(tensor.name, tensor)
                assert (first.dtype, first.role) == (tensor.dtype, tensor.role)
