"""Ops of an attention: projections, norms and rotation of heads, cache, the two products, output.

Score is `K · Qᵀ` with M cached tokens, N queries of all heads that share a key-value head, K the head size; value is
`Vᵀ · P` with M the head size and K the cached tokens. Both are batched over sequences and key-value heads, so that
what grouped queries reuse is seen. Their names are `MODULE.score`, `MODULE.softmax`, `MODULE.context`.
"""

from __future__ import annotations

from dataclasses import dataclass

from simsparse.ops import Contraction, ContractionKind, Role, StreamKind, Tensor, plain_axes
from workloads._oplist import ROTARY_FLOPS, SOFTMAX_FLOPS, OpList
from workloads.architecture import RMS, Attention, Latent, Linear


@dataclass(frozen=True)
class Span:
    """Tokens of a stack in one step.

    Attributes
    ----------
    batch : int
    new : int
        Tokens of each sequence that run through the stack.
    cached : int
        Tokens of each sequence whose keys and values are cached already.
    keeps : bool
        Whether the new ones are cached as well.
    decode : bool
        Whether this is a decoding step, where cross attention and latent attention work from the cache alone.
    """

    batch: int
    new: int
    cached: int = 0
    keeps: bool = False
    decode: bool = False

    @property
    def rows(self) -> int:
        """New tokens of the whole batch."""
        return self.batch * self.new

    def keys(self, window: int | None) -> int:
        """Tokens that some new token may look at: all, or those the windows of the new ones reach."""
        return self.new + (self.cached if window is None else min(self.cached, window - 1))

    def kept(self, window: int | None) -> int:
        """Tokens in the cache after the step."""
        return self.new + self.cached if window is None else min(self.new + self.cached, window)

    def needed(self, window: int | None) -> float:
        """Fraction of (query, key) pairs that a causal mask with this window leaves, exactly."""
        width = window or self.new + self.cached
        growing = max(0, min(self.new, width - self.cached))
        pairs = growing * self.cached + growing * (growing + 1) // 2 + (self.new - growing) * width
        return pairs / (self.new * self.keys(window))


def self_attention(
    ops: OpList, module: str, spec: Attention, x: Tensor, span: Span, *, causal: bool, window: int | None,
    position_bias: Tensor | None,
) -> Tensor:  # fmt: skip
    """Attention of a sequence to itself; returns the output `[rows, hidden]`."""
    needed = span.needed(window) if causal else 1.0
    if spec.latent is not None:
        return _latent_attention(ops, module, spec, spec.latent, x, span, needed)
    q, k, v = _projected(ops, module, spec, x, span.rows)
    if spec.qk_norm is not None:
        q, k = (
            ops.norm(f"{module}.{name}", spec.qk_norm, t, size=spec.head_size)
            for name, t in zip(spec.qk_norm_names, (q, k), strict=True)
        )
    if spec.rotary:
        _rotate(ops, module, (q, spec.heads * spec.rotary), (k, spec.kv_heads * spec.rotary), span.rows)
    keys = span.keys(window)
    key_shape = (span.batch, spec.kv_heads, keys, spec.head_size)
    value_shape = (span.batch, spec.kv_heads, keys, spec.value_size)
    if span.keeps:
        _append(ops, module, spec, k, v, span, window)
    if span.cached:
        k = ops.tensor(f"{module}.k_cache", key_shape, Role.KV_CACHE)
        v = ops.tensor(f"{module}.v_cache", value_shape, Role.KV_CACHE)
    else:
        k, v = ops.tensor(k.name, key_shape), ops.tensor(v.name, value_shape)
    mixed = _products(ops, module, spec.queries_per_kv, q.name, k, v, span, needed, position_bias)
    return _output(ops, module, spec, mixed, span.rows)


def cross_attention(ops: OpList, module: str, spec: Attention, x: Tensor, memory: Tensor, span: Span) -> Tensor:
    """Attention to the encoder's output `[batch · source, hidden]`: keys and values made once, then cached."""
    source = memory.shape[0] // span.batch
    query, key, value = spec.projections
    q = ops.linear(f"{module}.{query.name}", query, x, span.rows)
    shape = (span.batch, spec.kv_heads, source, spec.head_size)
    if span.decode:
        k, v = (ops.tensor(f"{module}.{label}_cache", shape, Role.KV_CACHE) for label in "kv")
        for layer in (key, value):
            _declare(ops, module, layer)
    else:
        k, v = (
            ops.tensor(ops.linear(f"{module}.{layer.name}", layer, memory, memory.shape[0]).name, shape)
            for layer in (key, value)
        )
    mixed = _products(ops, module, spec.queries_per_kv, q.name, k, v, span, 1.0, None)
    return _output(ops, module, spec, mixed, span.rows)


def _declare(ops: OpList, module: str, layer: Linear) -> None:
    """List weights that no op of this step reads."""
    ops.weight(f"{module}.{layer.name}.weight", (layer.outputs, layer.inputs))
    if layer.bias:
        ops.weight(f"{module}.{layer.name}.bias", (layer.outputs,))


def _projected(ops: OpList, module: str, spec: Attention, x: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value; views of one tensor where one matrix makes all three."""
    made = [ops.linear(f"{module}.{layer.name}", layer, x, rows) for layer in spec.projections]
    names = [t.name for t in made] if len(made) == 3 else [made[0].name] * 3
    widths = (spec.heads * spec.head_size, spec.kv_heads * spec.head_size, spec.kv_heads * spec.value_size)
    q, k, v = (ops.tensor(name, (rows, width)) for name, width in zip(names, widths, strict=True))
    return q, k, v


def _rotate(ops: OpList, module: str, q: tuple[Tensor, int], k: tuple[Tensor, int], rows: int) -> None:
    """Rotate that many values of each query and key row, in place."""
    parts = tuple(ops.tensor(t.name, (rows, width)) for t, width in (q, k))
    flops = ROTARY_FLOPS * sum(t.elements for t in parts)
    ops.stream(StreamKind.ROTARY, f"{module}.rotary", parts, parts, flops=flops)


def _append(
    ops: OpList, module: str, spec: Attention, k: Tensor, v: Tensor, span: Span, window: int | None
) -> None:  # fmt: skip
    """Write new keys and values, as many as stay in the window, to the cache."""
    new = min(span.new, span.kept(window))
    written = tuple(
        ops.tensor(f"{module}.{label}_cache", (span.batch, spec.kv_heads, new, size), Role.KV_CACHE)
        for label, size in (("k", spec.head_size), ("v", spec.value_size))
    )
    read = tuple(ops.tensor(t.name, w.shape) for t, w in zip((k, v), written, strict=True))
    ops.stream(StreamKind.COPY, f"{module}.cache_append", read, written)


def _products(
    ops: OpList, module: str, shared: int, q_name: str, k: Tensor, v: Tensor, span: Span, needed: float,
    position_bias: Tensor | None,
) -> Tensor:  # fmt: skip
    """Score, softmax and value; `shared` query heads read each key-value head."""
    (batch, heads, keys, size), value_size = k.shape, v.shape[-1]
    q = ops.tensor(q_name, (batch, heads, shared, span.new, size))
    scores = ops.tensor(f"{module}.scores", (batch, heads, shared, span.new, keys), Role.SCORE)
    dims = (("b", batch), ("h", heads), ("g", shared), ("s", span.new), ("t", keys))
    ops.contraction(
        Contraction(
            f"{module}.score", (*dims, ("d", size)), k, q, scores, plain_axes("bhtd"), plain_axes("bhgsd"),
            plain_axes("bhgst"), ContractionKind.SCORE, needed=needed, layers=ops.current_layers,
        )
    )  # fmt: skip
    reads = (scores,) if position_bias is None else (scores, position_bias)
    flops = SOFTMAX_FLOPS * needed * scores.elements
    ops.stream(StreamKind.SOFTMAX, f"{module}.softmax", reads, (scores,), flops=flops)
    out = ops.tensor(f"{module}.context.out", (batch, heads, shared, span.new, value_size))
    return ops.contraction(
        Contraction(
            f"{module}.context", (*dims, ("d", value_size)), v, scores, out, plain_axes("bhtd"), plain_axes("bhgst"),
            plain_axes("bhgsd"), ContractionKind.VALUE, needed=needed, layers=ops.current_layers,
        )
    )  # fmt: skip


def _output(ops: OpList, module: str, spec: Attention, mixed: Tensor, rows: int) -> Tensor:
    x = ops.tensor(mixed.name, (rows, spec.output.inputs))
    return ops.linear(f"{module}.{spec.output.name}", spec.output, x, rows)


def _latent_attention(
    ops: OpList, module: str, spec: Attention, latent: Latent, x: Tensor, span: Span, needed: float
) -> Tensor:
    """DeepSeek-V2's: expanded to full heads for a prompt, absorbed into the query and output for decoding.

    Absorbed, a head's query is multiplied by its key matrix and scores the cached latents themselves, which all heads
    share; the mixed latents are multiplied by its value matrix [1]_.

    References
    ----------
    .. [1] DeepSeek-V2, arXiv:2405.04434, section 2.1.3.
    """
    rows, cached_size = span.rows, latent.rank + latent.rope
    q = _latent_query(ops, module, spec, latent, x, rows)
    joint = Linear("kv_a_proj_with_mqa", cached_size, x.shape[-1], spec.output.bias)
    c = ops.linear(f"{module}.{joint.name}", joint, x, rows)
    normed = ops.norm(f"{module}.kv_a_layernorm", RMS, ops.tensor(c.name, (rows, latent.rank)))
    _rotate(ops, module, (q, spec.heads * latent.rope), (c, latent.rope), rows)
    cache = ops.tensor(f"{module}.latent_cache", (span.batch, 1, span.keys(None), cached_size), Role.KV_CACHE)
    if span.keeps:
        written = ops.tensor(cache.name, (span.batch, 1, span.new, cached_size), Role.KV_CACHE)
        parts = (normed, ops.tensor(c.name, (rows, latent.rope)))
        ops.stream(StreamKind.COPY, f"{module}.cache_append", parts, (written,))
    expand = Linear("kv_b_proj", spec.heads * (latent.nope + spec.value_size), latent.rank)
    if span.decode:
        _declare(ops, module, expand)
        mixed = _absorbed(ops, module, spec, latent, q, cache, span, needed)
    else:
        k, v = _expanded(ops, module, spec, latent, expand, (normed, c) if not span.cached else (cache, cache), span)
        mixed = _products(ops, module, 1, q.name, k, v, span, needed, None)
    return _output(ops, module, spec, mixed, rows)


def _latent_query(ops: OpList, module: str, spec: Attention, latent: Latent, x: Tensor, rows: int) -> Tensor:
    hidden, width = x.shape[-1], spec.heads * spec.head_size
    if latent.query_rank is None:
        return ops.linear(f"{module}.q_proj", Linear("q_proj", width, hidden), x, rows)
    down = Linear("q_a_proj", latent.query_rank, hidden, spec.output.bias)
    low = ops.norm(f"{module}.q_a_layernorm", RMS, ops.linear(f"{module}.q_a_proj", down, x, rows))
    return ops.linear(f"{module}.q_b_proj", Linear("q_b_proj", width, latent.query_rank), low, rows)


def _expanded(
    ops: OpList, module: str, spec: Attention, latent: Latent, expand: Linear, source: tuple[Tensor, Tensor],
    span: Span,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Keys and values of all heads, from the latents and the rotated part that all heads share."""
    keys = span.keys(None)
    rows = span.batch * keys
    latents, rotated = (
        Tensor(t.name, (rows, size), t.dtype, t.role)
        for t, size in zip(source, (latent.rank, latent.rope), strict=True)
    )
    made = ops.linear(f"{module}.{expand.name}", expand, latents, rows)
    k = ops.tensor(f"{module}.key_concat.out", (span.batch, spec.heads, keys, spec.head_size))
    part = ops.tensor(made.name, (rows, spec.heads * latent.nope))
    ops.stream(StreamKind.COPY, f"{module}.key_concat", (part, rotated), (k,))
    return k, ops.tensor(made.name, (span.batch, spec.heads, keys, spec.value_size))


def _absorbed(
    ops: OpList, module: str, spec: Attention, latent: Latent, q: Tensor, cache: Tensor, span: Span, needed: float
) -> Tensor:
    """Attention in the space of the latents, between two products with the halves of `kv_b_proj`, head by head."""
    rows = span.rows
    nope = ops.tensor(q.name, (rows, spec.heads, latent.nope))
    q_latent = _per_head(ops, module, "absorb_query", latent.rank, latent.nope, nope)
    # The rotated part of the query goes along as it is.
    ops.stream(
        StreamKind.COPY,
        f"{module}.query_concat",
        (q_latent, ops.tensor(q.name, (rows, spec.heads, latent.rope))),
        (joined := ops.tensor(f"{module}.query_concat.out", (rows, spec.heads, latent.rank + latent.rope)),),
    )
    values = ops.tensor(cache.name, (*cache.shape[:-1], latent.rank), Role.KV_CACHE)
    mixed = _products(ops, module, spec.heads, joined.name, cache, values, span, needed, None)
    per_head = ops.tensor(mixed.name, (rows, spec.heads, latent.rank))
    return _per_head(ops, module, "absorb_value", spec.value_size, latent.rank, per_head)


def _per_head(ops: OpList, module: str, name: str, outputs: int, inputs: int, x: Tensor) -> Tensor:
    """A product with a matrix of its own for each head, a part of `kv_b_proj`."""
    rows, heads, _ = x.shape
    weight = Tensor(f"{module}.kv_b_proj.weight", (heads, outputs, inputs), ops.kind, Role.WEIGHT)
    out = ops.tensor(f"{module}.kv_b_proj.{name}.out", (rows, heads, outputs))
    return ops.contraction(
        Contraction(
            f"{module}.kv_b_proj.{name}", (("h", heads), ("m", outputs), ("n", rows), ("k", inputs)), weight, x, out,
            plain_axes("hmk"), plain_axes("nhk"), plain_axes("nhm"), layers=ops.current_layers,
        )
    )  # fmt: skip
