"""Workloads from Hugging Face configs: exact counts of all families, whatever a config's spelling."""

from __future__ import annotations

import json
from pathlib import Path

import networkx
import pytest
from workload_tools import changed, product

from simsparse.errors import UnsupportedError
from simsparse.ops import Role, Tensor
from simsparse.workload import Phase
from workloads.families import READERS
from workloads.huggingface import SOURCE, HuggingFaceSource, checkpoint_names, load_config, shipped, transformer

COUNTED = json.loads((Path(__file__).parent / "data" / "models.json").read_text(encoding="utf-8"))["models"]


IN_EVIDENCE = (
    "bert-base", "bert-large", "distilbert", "gemma-2-2b", "gpt2", "llama-2-70b", "llama-2-7b", "mistral-7b",
    "mixtral-8x7b", "mpt-7b", "opt-125m", "opt-6.7b", "phi-2", "qwen2-7b", "t5-base", "vit-base", "vit-large",
    "whisper-large-v2",
)  # fmt: skip


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


def test_lengths_have_defaults() -> None:
    assert transformer("llama-2-7b").tokens == 2048
    assert transformer("bert-base", batch=3).tokens == 3 * 512
    assert transformer("bert-base").phase is Phase.ENCODE
    assert transformer("vit-base", batch=5).tokens == 5
    assert product(transformer("llama-2-7b", phase="decode"), "layers.*.self_attn.score").gemm.m == 2049
    assert product(transformer("gpt2", phase="decode"), "layers.*.self_attn.score").gemm.m == 1024
    assert str(transformer("llama-3-8b").dtype) == "bf16"
    assert str(transformer("gpt2").dtype) == "fp16"


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


def test_rotary_models_may_run_past_their_positions() -> None:
    assert transformer("llama-2-7b", seq=8192).tokens == 8192


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
