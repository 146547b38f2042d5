"""Ops of transformers: attention, caches and experts do the work that they are asked for, and read what they need."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workload_tools import product

from simsparse.ops import Contraction, ContractionKind, Role, Stream, StreamKind
from simsparse.plan import ProblemColumn
from simsparse.problems import problem_of
from workloads.attention import Span
from workloads.feed_forward import experts_hit
from workloads.huggingface import shipped, transformer


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
