"""Models of two stacks: T5 (1.0, gated 1.1, Flan) and Whisper."""

from __future__ import annotations

from workloads._config import Config
from workloads.architecture import (
    LAYER_NORM,
    RMS,
    Architecture,
    Attention,
    Audio,
    Block,
    Embedding,
    Linear,
    Mlp,
    Norms,
    Stack,
    grouped,
)
from workloads.families._parts import declared_dtype, lm_head, plain_mlp, split_attention
from workloads.families.llama import Reader

_T5_NATIVE = (
    ("encoder.layers.*.mlp.", "encoder.block.*.layer.1.DenseReluDense."),
    ("decoder.layers.*.mlp.", "decoder.block.*.layer.2.DenseReluDense."),
    ("encoder.layers.*.mlp_norm", "encoder.block.*.layer.1.layer_norm"),
    ("decoder.layers.*.mlp_norm", "decoder.block.*.layer.2.layer_norm"),
    (".layers.", ".block."), ("self_attn_norm", "layer.0.layer_norm"), ("cross_attn_norm", "layer.1.layer_norm"),
    ("self_attn.", "layer.0.SelfAttention."), ("cross_attn.", "layer.1.EncDecAttention."),
    ("relative_attention_bias", "block.0.layer.0.SelfAttention.relative_attention_bias"), ("embed_tokens", "shared"),
)  # fmt: skip


def t5(config: Config) -> Architecture:
    """T5; with `feed_forward_proj` gated as in 1.1 and Flan."""
    hidden, vocabulary = config.size("d_model"), config.size("vocab_size")
    layers = config.layers("num_layers")
    buckets = config.size("relative_attention_num_buckets", default=32)
    attention_norms, mlp_norms = Norms(before="self_attn_norm"), Norms(before="mlp_norm")
    mlp = _t5_mlp(config, hidden)
    encoder = Block(_t5_attention(config, "self_attn", hidden), mlp, attention_norms, mlp_norms)
    decoder = Block(
        _t5_attention(config, "self_attn", hidden), mlp, attention_norms, mlp_norms,
        _t5_attention(config, "cross_attn", hidden), Norms(before="cross_attn_norm"),
    )  # fmt: skip
    decoder_layers = config.optional_size("num_decoder_layers", most=10_000) or layers
    return Architecture(
        family="t5",
        embedding=Embedding(vocabulary, hidden, hidden),
        encoder=Stack("encoder", grouped([encoder] * layers), hidden, RMS, "final_layer_norm", False, buckets),
        decoder=Stack("decoder", grouped([decoder] * decoder_layers), hidden, RMS, "final_layer_norm", True, buckets),
        heads=(lm_head(vocabulary, hidden, tied=config.flag("tie_word_embeddings", default=True)),),
        dtype=declared_dtype(config),
        longest=config.size("n_positions", default=512),
        native=_T5_NATIVE,
    )


def _t5_attention(config: Config, name: str, hidden: int) -> Attention:
    heads = config.size("num_heads")
    size = config.size("d_kv", default=64)
    return split_attention(name, hidden, heads, heads, size, bias=(False,) * 4, names=("q", "k", "v", "o"))


def _t5_mlp(config: Config, hidden: int) -> Mlp:
    size = config.size("d_ff")
    if not config.text("feed_forward_proj", default="relu").startswith("gated"):
        return plain_mlp(hidden, size, ("wi", "wo"), bias=False)
    return Mlp("mlp", Linear("wi_1", size, hidden), Linear("wo", hidden, size), Linear("wi_0", size, hidden))


def whisper(config: Config) -> Architecture:
    """Whisper."""
    hidden, vocabulary = config.size("d_model"), config.size("vocab_size")
    mlp_norms = Norms(before="final_layer_norm")
    attention_norms = Norms(before="self_attn_layer_norm")
    encoder = Block(
        _whisper_attention(config, "self_attn", "encoder", hidden),
        plain_mlp(hidden, config.size("encoder_ffn_dim"), ("fc1", "fc2"), bias=True),
        attention_norms,
        mlp_norms,
    )
    decoder = Block(
        _whisper_attention(config, "self_attn", "decoder", hidden),
        plain_mlp(hidden, config.size("decoder_ffn_dim"), ("fc1", "fc2"), bias=True),
        attention_norms,
        mlp_norms,
        _whisper_attention(config, "cross_attn", "decoder", hidden),
        Norms(before="cross_attn_layer_norm"),
    )
    encoders, decoders = config.layers("encoder_layers"), config.layers("decoder_layers")
    tied = config.flag("tie_word_embeddings", default=True)
    return Architecture(
        family="whisper",
        embedding=Embedding(vocabulary, hidden, hidden, config.size("max_target_positions")),
        encoder=Stack("encoder", grouped([encoder] * encoders), hidden, LAYER_NORM, "layer_norm", causal=False),
        decoder=Stack("decoder", grouped([decoder] * decoders), hidden, LAYER_NORM, "layer_norm", causal=True),
        heads=(lm_head(vocabulary, hidden, tied=tied),),
        front=Audio(config.size("num_mel_bins"), config.size("max_source_positions")),
        dtype=declared_dtype(config),
        native=(
            (".mlp.fc", ".fc"), ("cross_attn", "encoder_attn"), ("lm_head", "proj_out"),
            ("embed_tokens", "decoder.embed_tokens"), ("embed_positions", "decoder.embed_positions"),
            ("encoder.decoder.embed_positions", "encoder.embed_positions"),
        ),
    )  # fmt: skip


def _whisper_attention(config: Config, name: str, stack: str, hidden: int) -> Attention:
    heads = config.size(f"{stack}_attention_heads")
    size = config.divided(hidden, heads, "d_model over heads")
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    return split_attention(name, hidden, heads, heads, size, bias=(True, False, True, True), names=names)


READERS: dict[str, Reader] = {"t5": t5, "whisper": whisper}
