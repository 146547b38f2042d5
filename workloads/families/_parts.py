"""What several families read alike."""

from __future__ import annotations

from workloads._config import Config
from workloads.architecture import Attention, Head, Linear, Mlp, Norm


def declared_dtype(config: Config) -> str | None:
    """Type of the weights (`dtype` since transformers 5, `torch_dtype` before)."""
    return config.text("dtype", "torch_dtype", default="") or None


def rotated(config: Config, head_size: int, default: float) -> int:
    """Dimensions of a head that are rotated (`rope_parameters` since transformers 5, a key of its own before)."""
    before = config.fraction("partial_rotary_factor", "rotary_pct", default=default)
    return int(head_size * config.section("rope_parameters").fraction("partial_rotary_factor", default=before))


def windows(config: Config, layers: int, size: int | None, *, sliding_by_default: range) -> list[int | None]:
    """Sliding window of each layer: by `layer_types` where the config has them, else for a range of layers."""
    types = config.items("layer_types", str)
    if size is None:
        return [None] * layers
    if types is None:
        return [size if layer in sliding_by_default else None for layer in range(layers)]
    if len(types) < layers:
        found = f"a list of {len(types)}"
        raise config.error("layer_types", found, f"one type for each of {layers} layers")
    return [size if kind == "sliding_attention" else None for kind in types[:layers]]


def split_attention(
    name: str, hidden: int, heads: int, kv_heads: int, head_size: int, *, bias: tuple[bool, bool, bool, bool],
    names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj"), rotary: int = 0,
    qk_norm: Norm | None = None, qk_norm_names: tuple[str, str] = ("q_norm", "k_norm"),
) -> Attention:  # fmt: skip
    """Attention with query, key, value and output matrices of their own; `bias` in this order."""
    q_size, kv_size = heads * head_size, kv_heads * head_size
    projections = tuple(
        Linear(label, size, hidden, has_bias)
        for label, size, has_bias in zip(names, (q_size, kv_size, kv_size), bias, strict=False)
    )
    output = Linear(names[3], hidden, q_size, bias[3])
    return Attention(
        name, heads, kv_heads, head_size, head_size, projections, output, rotary, qk_norm, qk_norm_names
    )  # fmt: skip


def fused_attention(
    hidden: int, heads: int, kv_heads: int, head_size: int, *, names: tuple[str, str], bias: bool, rotary: int = 0,
    output_bias: bool | None = None,
) -> Attention:  # fmt: skip
    """Attention whose query, key and value come from one matrix; `names` of that one and of the output."""
    made = Linear(names[0], (heads + 2 * kv_heads) * head_size, hidden, bias)
    output = Linear(names[1], hidden, heads * head_size, bias if output_bias is None else output_bias)
    return Attention("self_attn", heads, kv_heads, head_size, head_size, (made,), output, rotary)


def plain_mlp(hidden: int, size: int, names: tuple[str, str], *, bias: bool) -> Mlp:
    """Two matrices with an activation between."""
    return Mlp("mlp", Linear(names[0], size, hidden, bias), Linear(names[1], hidden, size, bias))


def gated_mlp(name: str, hidden: int, size: int, *, bias: bool = False) -> Mlp:
    """`down(activation(gate(x)) * up(x))`."""
    return Mlp(
        name,
        Linear("up_proj", size, hidden, bias),
        Linear("down_proj", hidden, size, bias),
        Linear("gate_proj", size, hidden, bias),
    )


def lm_head(vocabulary: int, hidden: int, *, tied: bool, bias: bool = False) -> Head:
    """Logits, from the embedding table where tied."""
    return Head(Linear("lm_head", vocabulary, hidden, bias), tied_to="embed_tokens" if tied else None)
