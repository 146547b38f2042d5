"""Several devices: what tensor and pipeline parallelism leave to each, and what they send."""

from __future__ import annotations

import pytest
from workload_tools import HEADS, HIDDEN, LAYERS, MLP, VOCABULARY

from simsparse.errors import InputError
from simsparse.ops import Stream, Transfer, TransferKind
from simsparse.simulate import simulate
from simsparse.transforms import (
    drop_layers,
    pipeline,
    tensor_parallel,
)
from simsparse.workload import Workload
from workloads.huggingface import transformer


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
