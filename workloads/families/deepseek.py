"""DeepSeek-V2: latent attention, shared experts beside routed ones, dense first layers."""

from __future__ import annotations

from workloads._config import Config
from workloads.architecture import RMS, Architecture, Attention, Block, Embedding, Latent, Linear, Moe, Stack, grouped
from workloads.families._parts import declared_dtype, gated_mlp, lm_head
from workloads.families.llama import BEFORE_ATTENTION, BEFORE_MLP, EXPERT_NAMES, Reader


def deepseek_v2(config: Config) -> Architecture:
    """DeepSeek-V2 and V2-Lite."""
    hidden, vocabulary, layers = (
        config.size("hidden_size"),
        config.size("vocab_size"),
        config.layers("num_hidden_layers"),
    )
    attention = _attention(config, hidden)
    dense = gated_mlp("mlp", hidden, config.size("intermediate_size"))
    first_dense = config.optional_size("first_k_dense_replace", least=0) or 0
    moe = _experts(config, hidden) if first_dense < layers else dense
    forwards = [dense if layer < first_dense else moe for layer in range(layers)]
    blocks = [Block(attention, ff, BEFORE_ATTENTION, BEFORE_MLP) for ff in forwards]
    tied = config.flag("tie_word_embeddings", default=False)
    return Architecture(
        family="deepseek_v2",
        embedding=Embedding(vocabulary, hidden, hidden),
        encoder=None,
        decoder=Stack("", grouped(blocks), hidden, RMS, "norm", causal=True),
        heads=(lm_head(vocabulary, hidden, tied=tied),),
        dtype=declared_dtype(config),
        longest=config.optional_size("max_position_embeddings"),
        native=EXPERT_NAMES,
    )


def _attention(config: Config, hidden: int) -> Attention:
    heads, value_size = config.size("num_attention_heads"), config.size("v_head_dim")
    latent = Latent(
        rank=config.size("kv_lora_rank"),
        rope=config.size("qk_rope_head_dim"),
        nope=config.size("qk_nope_head_dim"),
        query_rank=config.optional_size("q_lora_rank"),
    )
    bias = config.flag("attention_bias", default=False)
    output = Linear("o_proj", hidden, heads * value_size, bias)
    head_size = latent.nope + latent.rope
    return Attention("self_attn", heads, heads, head_size, value_size, (), output, latent.rope, latent=latent)


def _experts(config: Config, hidden: int) -> Moe:
    experts, size = config.size("n_routed_experts", "num_local_experts"), config.size("moe_intermediate_size")
    shared = config.optional_size("n_shared_experts", least=0)
    return Moe(
        "mlp",
        experts,
        config.size("num_experts_per_tok"),
        Linear("gate", experts, hidden),
        gated_mlp("experts", hidden, size),
        gated_mlp("shared_experts", hidden, size * shared) if shared else None,
    )


READERS: dict[str, Reader] = {"deepseek_v2": deepseek_v2}
