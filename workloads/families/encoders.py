"""Encoders: BERT, RoBERTa, DistilBERT as bare models (BERT's with pooler), ViT as classifier."""

from __future__ import annotations

from workloads._config import Config
from workloads.architecture import (
    LAYER_NORM,
    Architecture,
    Block,
    Embedding,
    Head,
    Linear,
    Norms,
    Patches,
    Stack,
    grouped,
)
from workloads.families._parts import declared_dtype, plain_mlp, split_attention
from workloads.families.llama import Reader


def bert(config: Config) -> Architecture:
    """BERT."""
    return _bert(config, reserved=0, token_types=2)


def roberta(config: Config) -> Architecture:
    """RoBERTa: positions start after the padding index."""
    padding = config.optional_size("pad_token_id", least=0)
    return _bert(config, reserved=1 + (1 if padding is None else padding), token_types=1)


def _bert(config: Config, *, reserved: int, token_types: int) -> Architecture:
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    positions = config.size("max_position_embeddings")
    head_size = config.divided(hidden, heads, "hidden_size over heads")
    attention = split_attention(
        "self_attn", hidden, heads, heads, head_size, bias=(True,) * 4, names=("query", "key", "value", "output")
    )
    mlp = plain_mlp(hidden, config.size("intermediate_size"), ("intermediate", "output"), bias=True)
    block = Block(attention, mlp, Norms(after="self_attn_norm"), Norms(after="mlp_norm"))
    return Architecture(
        family=config.text("model_type", default=""),
        embedding=Embedding(
            config.size("vocab_size"), hidden, hidden, _positions(config, positions, reserved), reserved,
            config.size("type_vocab_size", default=token_types), LAYER_NORM,
        ),
        encoder=Stack(
            "", grouped([block] * config.layers("num_hidden_layers")), hidden, LAYER_NORM, None, causal=False
        ),
        decoder=None,
        heads=(Head(Linear("pooler", hidden, hidden, bias=True), per_sequence=True, activation=True),),
        dtype=declared_dtype(config),
        native=(
            ("embed_tokens", "embeddings.word_embeddings"), ("embed_positions", "embeddings.position_embeddings"),
            ("embed_token_types", "embeddings.token_type_embeddings"), ("embed_norm", "embeddings.LayerNorm"),
            ("layers.", "encoder.layer."), ("self_attn_norm", "attention.output.LayerNorm"),
            ("mlp_norm", "output.LayerNorm"), ("self_attn.output", "attention.output.dense"),
            ("self_attn.", "attention.self."), ("mlp.intermediate", "intermediate.dense"),
            ("mlp.output", "output.dense"), ("pooler.", "pooler.dense."),
        ),
    )  # fmt: skip


def _positions(config: Config, positions: int, reserved: int) -> int:
    if positions <= reserved:
        raise config.error("max_position_embeddings", positions, f"more than the {reserved} reserved ones")
    return positions


def distilbert(config: Config) -> Architecture:
    """DistilBERT: no token types, no pooler."""
    hidden, heads = config.size("dim", "hidden_size"), config.size("n_heads", "num_attention_heads")
    head_size = config.divided(hidden, heads, "dim over heads")
    attention = split_attention(
        "self_attn", hidden, heads, heads, head_size, bias=(True,) * 4, names=("q_lin", "k_lin", "v_lin", "out_lin")
    )
    mlp = plain_mlp(hidden, config.size("hidden_dim"), ("lin1", "lin2"), bias=True)
    block = Block(attention, mlp, Norms(after="sa_layer_norm"), Norms(after="output_layer_norm"))
    layers = config.layers("n_layers", "num_hidden_layers")
    return Architecture(
        family="distilbert",
        embedding=Embedding(
            config.size("vocab_size"), hidden, hidden, config.size("max_position_embeddings"), norm=LAYER_NORM
        ),
        encoder=Stack("", grouped([block] * layers), hidden, LAYER_NORM, None, causal=False),
        decoder=None,
        heads=(),
        dtype=declared_dtype(config),
        native=(
            ("embed_tokens", "embeddings.word_embeddings"), ("embed_positions", "embeddings.position_embeddings"),
            ("embed_norm", "embeddings.LayerNorm"), ("layers.", "transformer.layer."), ("self_attn.", "attention."),
            (".mlp.", ".ffn."),
        ),
    )  # fmt: skip


def vit(config: Config) -> Architecture:
    """ViT: with a classifier, or with the pooler if `architectures` says `ViTModel`."""
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    head_size = config.divided(hidden, heads, "hidden_size over heads")
    bias = config.flag("qkv_bias", default=True)
    attention = split_attention(
        "self_attn", hidden, heads, heads, head_size, bias=(bias, bias, bias, True),
        names=("query", "key", "value", "output"),
    )  # fmt: skip
    mlp = plain_mlp(hidden, config.size("intermediate_size"), ("fc1", "fc2"), bias=True)
    block = Block(attention, mlp, Norms(before="layernorm_before"), Norms(before="layernorm_after"))
    layers = config.layers("num_hidden_layers")
    bare = config.items("architectures", str) == ["ViTModel"]
    size = config.size("pooler_output_size", default=hidden)
    pooler = Head(Linear("pooler", size, hidden, bias=True), per_sequence=True, activation=True)
    classifier = Head(Linear("classifier", _labels(config), hidden, bias=True), per_sequence=True)
    return Architecture(
        family="vit",
        embedding=None,
        encoder=Stack("", grouped([block] * layers), hidden, LAYER_NORM, "layernorm", causal=False),
        decoder=None,
        heads=(pooler if bare else classifier,),
        front=Patches(
            config.size("image_size", default=224),
            config.size("patch_size", default=16),
            config.size("num_channels", default=3),
        ),
        dtype=declared_dtype(config),
        native=(
            ("layers.", "encoder.layer."), ("self_attn.output", "attention.output.dense"),
            ("self_attn.", "attention.attention."), ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
            ("patch_embedding.", "embeddings.patch_embeddings.projection."), ("class_token", "embeddings.cls_token"),
            ("embed_positions.weight", "embeddings.position_embeddings"), ("pooler.", "pooler.dense."),
        ),
    )  # fmt: skip


def _labels(config: Config) -> int:
    """Classes: as many as `id2label` names, else `num_labels`, else two as in transformers."""
    return len(config.section("id2label").data) or config.size("num_labels", default=2)


READERS: dict[str, Reader] = {"bert": bert, "roberta": roberta, "distilbert": distilbert, "vit": vit}
