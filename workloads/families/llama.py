"""LLaMA and its relatives: pre-norm, rotary, gated feed-forward, grouped queries, experts."""

from __future__ import annotations

from collections.abc import Callable

from workloads._config import Config
from workloads.architecture import (
    LAYER_NORM,
    RMS,
    Architecture,
    Attention,
    Block,
    Embedding,
    Linear,
    Mlp,
    Moe,
    Norm,
    Norms,
    Stack,
    grouped,
)
from workloads.families._parts import (
    declared_dtype,
    fused_attention,
    gated_mlp,
    lm_head,
    plain_mlp,
    rotated,
    split_attention,
    windows,
)

BEFORE_ATTENTION = Norms(before="input_layernorm")
BEFORE_MLP = Norms(before="post_attention_layernorm")
EXPERT_NAMES = tuple((f".mlp.experts.{x}", f".mlp.experts.*.{x}") for x in ("gate_proj", "up_proj", "down_proj"))


def llama(config: Config) -> Architecture:
    """LLaMA 1, 2, 3."""
    hidden, heads = _hidden(config), config.size("num_attention_heads")
    kv_heads = config.size("num_key_value_heads", default=heads)
    bias = config.flag("attention_bias", "bias", default=False)
    attention = _attention(config, hidden, heads, kv_heads, bias=(bias,) * 4)
    mlp = gated_mlp("mlp", hidden, config.size("intermediate_size"), bias=config.flag("mlp_bias", default=False))
    return _decoder(config, [_block(attention, mlp)] * _layers(config))


def mistral(config: Config) -> Architecture:
    """Mistral: every layer slides where a window is set."""
    return _mistral_like(config, _dense_mlp(config))


def mixtral(config: Config) -> Architecture:
    """Mixtral."""
    hidden, experts = _hidden(config), config.size("num_local_experts", "num_experts")
    expert = gated_mlp("experts", hidden, config.size("intermediate_size"))
    router = Linear("gate", experts, hidden)
    native = (
        (".mlp.experts.gate_proj", ".block_sparse_moe.experts.*.w1"),
        (".mlp.experts.down_proj", ".block_sparse_moe.experts.*.w2"),
        (".mlp.experts.up_proj", ".block_sparse_moe.experts.*.w3"),
        (".mlp.gate", ".block_sparse_moe.gate"),
    )
    moe = Moe("mlp", experts, config.size("num_experts_per_tok"), router, expert)
    return _mistral_like(config, moe, native)


def qwen2(config: Config) -> Architecture:
    """Qwen2: biases on query, key and value; upper layers may slide."""
    return _qwen(config, [_dense_mlp(config)] * _layers(config), bias=(True, True, True, False))


def qwen3(config: Config) -> Architecture:
    """Qwen3: a norm of each query and key head."""
    bias = config.flag("attention_bias", default=False)
    return _qwen(config, [_dense_mlp(config)] * _layers(config), bias=(bias,) * 4, qk_norm=RMS)


def qwen2_moe(config: Config) -> Architecture:
    """Qwen2-MoE: experts of their own size beside a shared one with a gate."""
    hidden = _hidden(config)
    shared = gated_mlp("shared_expert", hidden, config.size("shared_expert_intermediate_size"))
    moe = _qwen_experts(config, shared, Linear("shared_expert_gate", 1, hidden))
    bias = config.flag("qkv_bias", default=True)
    return _qwen(config, _sparse_layers(config, moe), bias=(bias, bias, bias, False))


def qwen3_moe(config: Config) -> Architecture:
    """Qwen3-MoE."""
    bias = config.flag("attention_bias", default=False)
    moe = _qwen_experts(config, None, None)
    return _qwen(config, _sparse_layers(config, moe), bias=(bias,) * 4, qk_norm=RMS)


def gemma2(config: Config) -> Architecture:
    """Gemma 2: norms before and after each branch, every other layer slides."""
    hidden, heads, layers = _hidden(config), config.size("num_attention_heads"), _layers(config)
    bias = config.flag("attention_bias", default=False)
    attention = split_attention(
        "self_attn", hidden, heads, config.size("num_key_value_heads", default=heads),
        size := config.size("head_dim", default=256), bias=(bias,) * 4, rotary=size,
    )  # fmt: skip
    mlp = gated_mlp("mlp", hidden, config.size("intermediate_size"))
    around_attention = Norms(before="input_layernorm", branch="post_attention_layernorm")
    around_mlp = Norms(before="pre_feedforward_layernorm", branch="post_feedforward_layernorm")
    window = config.optional_size("sliding_window")
    sliding = windows(config, layers, window, sliding_by_default=range(0, layers, 2))
    blocks = [Block(attention, mlp, around_attention, around_mlp, window=size) for size in sliding]
    return _decoder(config, blocks, tied=True)


def phi3(config: Config) -> Architecture:
    """Phi-3: query, key and value in one matrix, gate and up in another."""
    hidden, heads, layers = _hidden(config), config.size("num_attention_heads"), _layers(config)
    kv_heads = config.size("num_key_value_heads", default=heads)
    head_size = config.divided(hidden, heads, "hidden_size over heads")
    attention = fused_attention(
        hidden, heads, kv_heads, head_size, names=("qkv_proj", "o_proj"), bias=False,
        rotary=rotated(config, head_size, 1.0),
    )  # fmt: skip
    size = config.size("intermediate_size")
    up, down = Linear("gate_up_proj", 2 * size, hidden), Linear("down_proj", hidden, size)
    block = _block(attention, Mlp("mlp", up, down, gated_up=True), config.optional_size("sliding_window"))
    return _decoder(config, [block] * layers)


def starcoder2(config: Config) -> Architecture:
    """StarCoder2: layer norms and biases, a plain feed-forward, all layers slide."""
    hidden, heads, layers = _hidden(config), config.size("num_attention_heads"), _layers(config)
    bias = config.flag("use_bias", default=True)
    attention = _attention(config, hidden, heads, config.size("num_key_value_heads"), bias=(bias,) * 4)
    mlp = plain_mlp(hidden, config.size("intermediate_size"), ("c_fc", "c_proj"), bias=bias)
    block = _block(attention, mlp, config.optional_size("sliding_window"))
    return _decoder(config, [block] * layers, norm=LAYER_NORM, tied=True)


def _hidden(config: Config) -> int:
    return config.size("hidden_size")


def _layers(config: Config) -> int:
    return config.layers("num_hidden_layers")


def _dense_mlp(config: Config) -> Mlp:
    return gated_mlp("mlp", _hidden(config), config.size("intermediate_size"))


def _attention(
    config: Config, hidden: int, heads: int, kv_heads: int, *, bias: tuple[bool, bool, bool, bool],
    qk_norm: Norm | None = None,
) -> Attention:  # fmt: skip
    size = config.optional_size("head_dim") or config.divided(hidden, heads, "hidden_size over heads")
    return split_attention(
        "self_attn", hidden, heads, kv_heads, size, bias=bias, rotary=rotated(config, size, 1.0), qk_norm=qk_norm
    )


def _block(attention: Attention, feed_forward: Mlp | Moe, window: int | None = None) -> Block:
    return Block(attention, feed_forward, BEFORE_ATTENTION, BEFORE_MLP, window=window)


def _mistral_like(config: Config, feed_forward: Mlp | Moe, native: tuple[tuple[str, str], ...] = ()) -> Architecture:
    heads = config.size("num_attention_heads")
    kv_heads = config.size("num_key_value_heads", default=heads)
    attention = _attention(config, _hidden(config), heads, kv_heads, bias=(False,) * 4)
    block = _block(attention, feed_forward, config.optional_size("sliding_window"))
    return _decoder(config, [block] * _layers(config), native=native)


def _qwen(
    config: Config, feed_forwards: list[Mlp | Moe] | list[Mlp], *, bias: tuple[bool, bool, bool, bool],
    qk_norm: Norm | None = None,
) -> Architecture:  # fmt: skip
    heads, layers = config.size("num_attention_heads"), _layers(config)
    kv_heads = config.size("num_key_value_heads", default=heads)
    attention = _attention(config, _hidden(config), heads, kv_heads, bias=bias, qk_norm=qk_norm)
    used = config.flag("use_sliding_window", default=False)
    window = config.optional_size("sliding_window", least=0) if used else None
    # Only the layers from `max_window_layers` on slide.
    full = config.optional_size("max_window_layers", least=0) or 0
    sliding = windows(config, layers, window or None, sliding_by_default=range(full, layers))
    blocks = [_block(attention, ff, size) for ff, size in zip(feed_forwards, sliding, strict=True)]
    return _decoder(config, blocks)


def _qwen_experts(config: Config, shared: Mlp | None, shared_gate: Linear | None) -> Moe:
    hidden, experts = _hidden(config), config.size("num_experts", "num_local_experts")
    expert = gated_mlp("experts", hidden, config.size("moe_intermediate_size"))
    router = Linear("gate", experts, hidden)
    return Moe("mlp", experts, config.size("num_experts_per_tok"), router, expert, shared, shared_gate)


def _sparse_layers(config: Config, moe: Moe) -> list[Mlp | Moe]:
    """Experts in every `decoder_sparse_step`-th layer that is not in `mlp_only_layers`."""
    step = config.size("decoder_sparse_step", default=1)
    dense_layers = set(config.items("mlp_only_layers", int) or [])
    dense = _dense_mlp(config)
    return [moe if layer not in dense_layers and (layer + 1) % step == 0 else dense for layer in range(_layers(config))]


EXPERT_NAMES = tuple(
    (f".mlp.experts.{name}", f".mlp.experts.*.{name}") for name in ("gate_proj", "up_proj", "down_proj")
)


def _decoder(
    config: Config, blocks: list[Block], *, norm: Norm = RMS, tied: bool = False,
    native: tuple[tuple[str, str], ...] = EXPERT_NAMES,
) -> Architecture:  # fmt: skip
    """The model around the blocks; `tied` is the family's default for embeddings."""
    hidden, vocabulary = _hidden(config), config.size("vocab_size")
    tied = config.flag("tie_word_embeddings", default=tied)
    return Architecture(
        family=config.text("model_type", default=""),
        embedding=Embedding(vocabulary, hidden, hidden),
        encoder=None,
        decoder=Stack("", grouped(blocks), hidden, norm, "norm", causal=True),
        heads=(lm_head(vocabulary, hidden, tied=tied),),
        dtype=declared_dtype(config),
        longest=config.optional_size("max_position_embeddings"),
        native=native,
    )


Reader = Callable[[Config], Architecture]
READERS: dict[str, Reader] = {
    "llama": llama, "mistral": mistral, "mixtral": mixtral, "qwen2": qwen2, "qwen3": qwen3, "qwen2_moe": qwen2_moe,
    "qwen3_moe": qwen3_moe, "gemma2": gemma2, "phi3": phi3, "starcoder2": starcoder2,
}  # fmt: skip
