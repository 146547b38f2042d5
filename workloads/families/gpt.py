"""GPT-2 and what followed: layer norms, plain feed-forward, learned or rotary or no positions, parallel branches."""

from __future__ import annotations

from workloads._config import Config
from workloads.architecture import (
    LAYER_NORM,
    Architecture,
    Attention,
    Block,
    Embedding,
    Head,
    Linear,
    Mlp,
    Norm,
    Norms,
    Stack,
    grouped,
)
from workloads.families._parts import declared_dtype, fused_attention, lm_head, plain_mlp, rotated, split_attention
from workloads.families.llama import Reader

Native = tuple[tuple[str, str], ...]
_BLOOM_NAMES: Native = (("layers.", "h."), ("self_attn", "self_attention"), ("embed_tokens", "word_embeddings"))


def opt(config: Config) -> Architecture:
    """OPT; the 350M one norms after each branch and embeds in fewer dimensions."""
    hidden, vocabulary = config.size("hidden_size"), config.size("vocab_size")
    heads, layers = config.size("num_attention_heads"), config.layers("num_hidden_layers")
    width = config.size("word_embed_proj_dim", default=hidden)
    bias = config.flag("enable_bias", default=True)
    affine = config.flag("layer_norm_elementwise_affine", default=True)
    norm = Norm(centered=True, weight=affine, bias=affine)
    head_size = config.divided(hidden, heads, "hidden_size over heads")
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    attention = split_attention("self_attn", hidden, heads, heads, head_size, bias=(bias,) * 4, names=names)
    mlp = plain_mlp(hidden, config.size("ffn_dim"), ("fc1", "fc2"), bias=bias)
    before = config.flag("do_layer_norm_before", default=True)
    attention_norms, mlp_norms = (
        Norms(before=name) if before else Norms(after=name) for name in ("self_attn_layer_norm", "final_layer_norm")
    )
    final = before and not config.flag("_remove_final_layer_norm", default=False)
    tied = config.flag("tie_word_embeddings", default=True)
    project = () if width == hidden else (Head(Linear("project_out", width, hidden)),)
    return Architecture(
        family="opt",
        # Two rows of the position table stand for padding.
        embedding=Embedding(vocabulary, width, hidden, config.size("max_position_embeddings") + 2, reserved=2),
        encoder=None,
        decoder=Stack(
            "",
            grouped([Block(attention, mlp, attention_norms, mlp_norms)] * layers),
            hidden,
            norm,
            "final_layer_norm" if final else None,
            causal=True,
        ),
        heads=(*project, lm_head(vocabulary, width, tied=tied)),
        dtype=declared_dtype(config),
        native=((".mlp.fc", ".fc"),),
    )


def gpt2(config: Config) -> Architecture:
    """GPT-2."""
    hidden, heads = config.size("n_embd", "hidden_size"), config.size("n_head", "num_attention_heads")
    positions = config.size("n_positions", "max_position_embeddings", "n_ctx")
    head_size = config.divided(hidden, heads, "n_embd over heads")
    attention = fused_attention(hidden, heads, heads, head_size, names=("c_attn", "c_proj"), bias=True)
    mlp = plain_mlp(hidden, config.size("n_inner", default=4 * hidden), ("c_fc", "c_proj"), bias=True)
    block = Block(attention, mlp, Norms(before="ln_1"), Norms(before="ln_2"))
    native = (("layers.", "h."), ("self_attn", "attn"), ("embed_tokens", "wte"), ("embed_positions", "wpe"))
    return _decoder(
        config, hidden, [block] * config.layers("n_layer", "num_hidden_layers"), "ln_f", native, tied=True,
        positions=positions, transposed=True,
    )  # fmt: skip


def gptj(config: Config) -> Architecture:
    """GPT-J: one norm, both branches in parallel."""
    hidden, heads = config.size("n_embd", "hidden_size"), config.size("n_head", "num_attention_heads")
    head_size = config.divided(hidden, heads, "n_embd over heads")
    attention = split_attention(
        "self_attn", hidden, heads, heads, head_size, bias=(False,) * 4,
        names=("q_proj", "k_proj", "v_proj", "out_proj"), rotary=config.size("rotary_dim", default=head_size),
    )  # fmt: skip
    mlp = plain_mlp(hidden, config.size("n_inner", default=4 * hidden), ("fc_in", "fc_out"), bias=True)
    block = Block(attention, mlp, Norms(before="ln_1"), Norms(), parallel=True)
    native = (("layers.", "h."), ("self_attn", "attn"), ("embed_tokens", "wte"))
    layers = config.layers("n_layer", "num_hidden_layers")
    return _decoder(config, hidden, [block] * layers, "ln_f", native, tied=False, head_bias=True)


def gpt_neox(config: Config) -> Architecture:
    """GPT-NeoX and Pythia: both branches in parallel, a norm for each."""
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    head_size = config.divided(hidden, heads, "hidden_size over heads")
    attention = fused_attention(
        hidden, heads, heads, head_size, names=("query_key_value", "dense"),
        bias=config.flag("attention_bias", default=True), rotary=rotated(config, head_size, 0.25),
    )  # fmt: skip
    mlp = plain_mlp(hidden, config.size("intermediate_size"), ("dense_h_to_4h", "dense_4h_to_h"), bias=True)
    block = Block(
        attention, mlp, Norms(before="input_layernorm"), Norms(before="post_attention_layernorm"),
        parallel=config.flag("use_parallel_residual", default=True),
    )  # fmt: skip
    native = (("self_attn", "attention"), ("embed_tokens", "embed_in"), ("lm_head", "embed_out"))
    layers = config.layers("num_hidden_layers")
    return _decoder(config, hidden, [block] * layers, "final_layer_norm", native, tied=False)


def falcon(config: Config) -> Architecture:
    """Falcon: multi-query (7B), grouped queries with two norms (40B, once called RefinedWeb), or sequential (RW)."""
    hidden, heads = config.size("hidden_size", "n_embed"), config.size("num_attention_heads", "n_head")
    once = config.text("model_type", default="") == "RefinedWeb"
    grouped_queries = config.flag("new_decoder_architecture", default=once)
    if grouped_queries:
        kv_heads = config.size("num_kv_heads", "n_head_kv", default=heads)
    else:
        kv_heads = 1 if config.flag("multi_query", default=True) else heads
    head_size = config.divided(hidden, heads, "hidden_size over heads")
    bias = config.flag("bias", default=False)
    rotary = 0 if config.flag("alibi", default=False) else head_size
    attention = fused_attention(
        hidden, heads, kv_heads, head_size, names=("query_key_value", "dense"), bias=bias, rotary=rotary
    )
    size = config.size("ffn_hidden_size", default=4 * hidden)
    mlp = plain_mlp(hidden, size, ("dense_h_to_4h", "dense_4h_to_h"), bias=bias)
    block = _falcon_block(config, attention, mlp, grouped_queries)
    layers = config.layers("num_hidden_layers", "n_layer")
    return _decoder(config, hidden, [block] * layers, "ln_f", _BLOOM_NAMES, tied=True)


def _falcon_block(config: Config, attention: Attention, mlp: Mlp, grouped_queries: bool) -> Block:
    parallel = config.flag("parallel_attn", default=True) or grouped_queries
    norms = config.size("num_ln_in_parallel_attn", default=2 if grouped_queries else 1, most=2)
    if parallel and norms == 2:
        return Block(attention, mlp, Norms(before="ln_attn"), Norms(before="ln_mlp"), parallel=True)
    own = Norms() if parallel else Norms(before="post_attention_layernorm")
    return Block(attention, mlp, Norms(before="input_layernorm"), own, parallel=parallel)


def bloom(config: Config) -> Architecture:
    """BLOOM: ALiBi, a norm on the embeddings."""
    hidden, heads = config.size("hidden_size", "n_embed"), config.size("n_head", "num_attention_heads")
    head_size = config.divided(hidden, heads, "hidden_size over heads")
    names = ("query_key_value", "dense")
    attention = fused_attention(hidden, heads, heads, head_size, names=names, bias=True)
    mlp = plain_mlp(hidden, 4 * hidden, ("dense_h_to_4h", "dense_4h_to_h"), bias=True)
    block = Block(attention, mlp, Norms(before="input_layernorm"), Norms(before="post_attention_layernorm"))
    native = (("embed_norm", "word_embeddings_layernorm"), *_BLOOM_NAMES)
    layers = config.layers("n_layer", "num_hidden_layers")
    return _decoder(config, hidden, [block] * layers, "ln_f", native, tied=True, embed_norm=LAYER_NORM)


def mpt(config: Config) -> Architecture:
    """MPT: ALiBi, no biases at all."""
    hidden, heads = config.size("d_model", "hidden_size"), config.size("n_heads", "num_attention_heads")
    kind = config.section("attn_config").text("attn_type", default="multihead_attention")
    if kind != "multihead_attention":
        raise config.error("attn_type", kind, "multihead_attention, the only one transformers builds")
    head_size = config.divided(hidden, heads, "d_model over heads")
    attention = fused_attention(hidden, heads, heads, head_size, names=("Wqkv", "out_proj"), bias=False)
    size = config.size("expansion_ratio", default=4) * hidden
    mlp = plain_mlp(hidden, size, ("up_proj", "down_proj"), bias=False)
    block = Block(attention, mlp, Norms(before="norm_1"), Norms(before="norm_2"))
    native = (("layers.", "blocks."), ("self_attn", "attn"), (".mlp.", ".ffn."), ("embed_tokens", "wte"))
    layers = config.layers("n_layers", "num_hidden_layers")
    norm = Norm(centered=True)
    return _decoder(config, hidden, [block] * layers, "norm_f", native, tied=True, norm=norm)


def phi(config: Config) -> Architecture:
    """Phi-1 and Phi-2: one norm, both branches in parallel."""
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    head_size = config.divided(hidden, heads, "hidden_size over heads")
    normed = config.flag("qk_layernorm", default=False)
    attention = split_attention(
        "self_attn", hidden, heads, config.size("num_key_value_heads", default=heads), head_size, bias=(True,) * 4,
        names=("q_proj", "k_proj", "v_proj", "dense"), rotary=rotated(config, head_size, 0.5),
        qk_norm=LAYER_NORM if normed else None, qk_norm_names=("q_layernorm", "k_layernorm"),
    )  # fmt: skip
    mlp = plain_mlp(hidden, config.size("intermediate_size"), ("fc1", "fc2"), bias=True)
    block = Block(attention, mlp, Norms(before="input_layernorm"), Norms(), parallel=True)
    layers = config.layers("num_hidden_layers")
    return _decoder(config, hidden, [block] * layers, "final_layernorm", (), tied=False, head_bias=True)


def _decoder(
    config: Config, hidden: int, blocks: list[Block], final_norm: str, native: Native, *, tied: bool,
    norm: Norm = LAYER_NORM, positions: int = 0, embed_norm: Norm | None = None, head_bias: bool = False,
    transposed: bool = False,
) -> Architecture:  # fmt: skip
    """The model around the blocks; `tied` is the family's default for embeddings."""
    vocabulary = config.size("vocab_size")
    tied = config.flag("tie_word_embeddings", default=tied)
    return Architecture(
        family=config.text("model_type", default=""),
        embedding=Embedding(vocabulary, hidden, hidden, positions, norm=embed_norm),
        encoder=None,
        decoder=Stack("", grouped(blocks), hidden, norm, final_norm, causal=True),
        heads=(lm_head(vocabulary, hidden, tied=tied, bias=head_bias),),
        dtype=declared_dtype(config),
        longest=config.optional_size("max_position_embeddings", "max_seq_len", "n_positions", "seq_length"),
        native=native,
        stored_transposed=transposed,
    )


READERS: dict[str, Reader] = {
    "opt": opt, "gpt2": gpt2, "gptj": gptj, "gpt_neox": gpt_neox, "falcon": falcon, "RefinedWeb": falcon,
    "RefinedWebModel": falcon, "bloom": bloom, "mpt": mpt, "phi": phi,
}  # fmt: skip
