"""The one builder of transformers: an `Architecture` and the lengths of a step become a `Workload`.

Modules of equal layers are one op with their indices. FLOPs follow PyTorch's counter: the full score matrix, the
language-model head on all new positions.
"""

from __future__ import annotations

from dataclasses import dataclass

from simsparse.activations import activation_bytes
from simsparse.dtypes import DType
from simsparse.errors import InputError, UnsupportedError
from simsparse.ops import StreamKind, Tensor
from simsparse.workload import Phase, Workload
from workloads._oplist import ACTIVATION_FLOPS, OpList
from workloads.architecture import Architecture, Audio, Block, Embedding, Head, Norms, Patches, Stack
from workloads.attention import Span, cross_attention, self_attention
from workloads.embedding import TOKENS, embed_audio, embed_patches, embed_tokens
from workloads.feed_forward import feed_forward

DEFAULT_LENGTH = 2048


@dataclass(frozen=True)
class Step:
    """What is run.

    Attributes
    ----------
    phase : Phase
        Not TRAIN: that is expanded from a pass by `workloads.training`.
    batch : int
    new : int
        Tokens of each sequence; in a model of two stacks, of the decoder (and of a text encoder, unless `source`).
    cached : int
        Tokens of each sequence cached before.
    source : int, optional
        Tokens of each sequence the encoder sees, where it is no image or audio; `None` for as many as the decoder has.
    keeps_cache : bool
        Whether keys and values are written to a cache.
    """

    phase: Phase
    batch: int
    new: int
    cached: int = 0
    source: int | None = None
    keeps_cache: bool = True

    @property
    def span(self) -> Span:
        """The decoder's (or only stack's) tokens."""
        return Span(self.batch, self.new, self.cached, self.keeps_cache, self.phase is Phase.DECODE)


def build(name: str, arch: Architecture, step: Step, kind: DType, cache_kind: DType) -> Workload:
    """Ops, weights and memory of one step of a model.

    Raises
    ------
    UnsupportedError
        If the model has no such phase.
    InputError
        If the sequence is longer than its learned positions.
    """
    _check(name, arch, step)
    # Stacks that do not run in this phase are built aside, for their weights.
    ops, aside = OpList(kind, cache_kind), OpList(kind, cache_kind)
    length, decodes = source_length(arch, step), step.phase is not Phase.ENCODE
    x = None
    if arch.encoder is not None:
        x = _encoder(aside if step.phase is Phase.DECODE else ops, arch, arch.encoder, Span(step.batch, length))
    if arch.decoder is not None:
        x = _decoder(ops if decodes else aside, arch, arch.decoder, step.span, x)
    assert x is not None
    for head in arch.heads:
        x = _head(ops if decodes or arch.decoder is None else aside, arch.embedding, head, x, step.batch)
    listed = set(ops.weights)
    images = isinstance(arch.front, Patches)
    return Workload(
        name, step.phase, step.batch, _tokens(arch, step, length), kind, tuple(ops.ops),
        (*ops.weights, *(weight for weight in aside.weights if weight not in listed)),
        kv_cache_bytes=_cache_bytes(arch, step, length, cache_kind),
        activation_bytes=activation_bytes(ops.ops),
        unit="image" if images else "token",
        seq=None if images else step.new if decodes else length,
        context=None if images else step.cached,
    )  # fmt: skip


def _tokens(arch: Architecture, step: Step, length: int) -> int:
    """New tokens of the decoder; in an encoder pass those of the encoder, or images."""
    if isinstance(arch.front, Patches):
        return step.batch
    return step.batch * (length if step.phase is Phase.ENCODE else step.new)


def source_length(arch: Architecture, step: Step) -> int:
    """Tokens of each sequence in the encoder."""
    if isinstance(arch.front, Patches):
        return arch.front.tokens
    if isinstance(arch.front, Audio):
        return arch.front.positions
    return step.source or step.new + step.cached


def _check(name: str, arch: Architecture, step: Step) -> None:
    if arch.decoder is None and step.phase is not Phase.ENCODE:
        raise UnsupportedError(f"{name} has no decoder, expected phase encode or train instead of {step.phase}")
    if arch.encoder is None and step.phase is Phase.ENCODE:
        raise UnsupportedError(f"{name} has no encoder, expected phase prefill, decode or train instead of encode")
    most = arch.embedding.usable_positions if arch.embedding is not None else None
    runs_decoder = step.phase is not Phase.ENCODE or arch.decoder is None
    if runs_decoder and most is not None and step.new + step.cached > most:
        raise InputError.expected(
            f"length of {name} (context + seq)", step.new + step.cached, f"at most its {most} learned positions"
        )


def _encoder(ops: OpList, arch: Architecture, stack: Stack, span: Span) -> Tensor:
    """The encoder's output, `[rows, hidden]`."""
    prefix = f"{stack.name}." if stack.name else ""
    if isinstance(arch.front, Patches):
        x = embed_patches(ops, arch.front, stack.hidden, span.batch)
    elif isinstance(arch.front, Audio):
        x = embed_audio(ops, arch.front, prefix, stack.hidden, span.batch)
    else:
        x = embed_tokens(ops, _embedding(arch), prefix, span)
    return _stack(ops, stack, x, span, None)


def _decoder(ops: OpList, arch: Architecture, stack: Stack, span: Span, memory: Tensor | None) -> Tensor:
    """The decoder's output; `memory` is that of the encoder."""
    prefix = f"{stack.name}." if stack.name else ""
    return _stack(ops, stack, embed_tokens(ops, _embedding(arch), prefix, span), span, memory)


def _embedding(arch: Architecture) -> Embedding:
    if arch.embedding is None:
        raise InputError(f"{arch.family} has no token embedding, expected one before its stack")
    return arch.embedding


def _stack(ops: OpList, stack: Stack, x: Tensor, span: Span, memory: Tensor | None) -> Tensor:
    """All layers and the final norm."""
    bias = _relative_bias(ops, stack, span) if stack.relative_buckets else None
    for block, layers in stack.groups:
        with ops.layers(layers):
            x = _block(ops, stack, block, x, span, memory, bias)
    return x if stack.final_norm is None else ops.norm(stack.prefixed(stack.final_norm), stack.norm, x)


def _relative_bias(ops: OpList, stack: Stack, span: Span) -> Tensor:
    """The bias on scores that all layers share: `[heads, new, keys]`, gathered from a table of buckets."""
    heads, keys = stack.groups[0][0].attention.heads, span.keys(None)
    name = stack.prefixed("relative_attention_bias")
    table = ops.weight(f"{name}.weight", (stack.relative_buckets, heads))
    bias = ops.tensor(f"{name}.out", (heads, span.new, keys))
    ops.stream(StreamKind.GATHER, name, (table,), (bias,))
    return bias


def _block(
    ops: OpList, stack: Stack, block: Block, x: Tensor, span: Span, memory: Tensor | None, bias: Tensor | None
) -> Tensor:
    """One layer."""
    prefix = stack.prefixed("layers.*")
    normed = _normed(ops, stack, prefix, block.attention_norms.before, x)
    attended = self_attention(
        ops, f"{prefix}.{block.attention.name}", block.attention, normed, span, causal=stack.causal,
        window=block.window, position_bias=bias,
    )  # fmt: skip
    attended = _normed(ops, stack, prefix, block.attention_norms.branch, attended)
    if block.parallel:
        source = x if block.mlp_norms.before is not None else normed
        normed = _normed(ops, stack, prefix, block.mlp_norms.before, source)
        mixed = feed_forward(ops, prefix, block.feed_forward, normed)
        return _sum(ops, f"{prefix}.residual", (mixed, attended, x))
    x = _joined(ops, stack, f"{prefix}.attention_residual", prefix, block.attention_norms, attended, x)
    if block.cross is not None:
        assert memory is not None
        normed = _normed(ops, stack, prefix, block.cross_norms.before, x)
        crossed = cross_attention(ops, f"{prefix}.{block.cross.name}", block.cross, normed, memory, span)
        x = _joined(ops, stack, f"{prefix}.cross_residual", prefix, block.cross_norms, crossed, x)
    mixed = feed_forward(ops, prefix, block.feed_forward, _normed(ops, stack, prefix, block.mlp_norms.before, x))
    mixed = _normed(ops, stack, prefix, block.mlp_norms.branch, mixed)
    return _joined(ops, stack, f"{prefix}.mlp_residual", prefix, block.mlp_norms, mixed, x)


def _normed(ops: OpList, stack: Stack, prefix: str, name: str | None, x: Tensor) -> Tensor:
    return x if name is None else ops.norm(f"{prefix}.{name}", stack.norm, x)


def _joined(ops: OpList, stack: Stack, name: str, prefix: str, norms: Norms, branch: Tensor, x: Tensor) -> Tensor:
    """The residual sum, and the norm after it where a model has one."""
    return _normed(ops, stack, prefix, norms.after, _sum(ops, name, (branch, x)))


def _sum(ops: OpList, name: str, terms: tuple[Tensor, ...]) -> Tensor:
    return ops.elementwise(StreamKind.RESIDUAL, name, terms, flops_per_value=len(terms) - 1.0)


def _head(ops: OpList, embedding: Embedding | None, head: Head, x: Tensor, batch: int) -> Tensor:
    layer = head.linear
    if head.per_sequence:
        x = ops.tensor(x.name, (batch, x.shape[-1]))
    weight = None
    if head.tied_to is not None and embedding is not None:
        weight = ops.weight(f"{TOKENS}.weight", (embedding.vocabulary, embedding.width))
    out = ops.linear(layer.name, layer, x, x.shape[0], weight=weight)
    if head.activation:
        return ops.elementwise(StreamKind.ACTIVATION, f"{layer.name}.act", (out,), flops_per_value=ACTIVATION_FLOPS)
    return out


def _cache_bytes(arch: Architecture, step: Step, source: int, kind: DType) -> float:
    """Keys and values kept after the step: of the decoder's tokens within their windows, and of the encoder's."""
    if arch.decoder is None or step.phase is Phase.ENCODE or not step.keeps_cache:
        return 0.0
    values = 0
    for block, layers in arch.decoder.groups:
        kept = step.span.kept(block.window) * block.attention.cached_per_token
        crossed = source * block.cross.cached_per_token if block.cross is not None else 0
        values += len(layers) * (kept + crossed)
    return kind.bytes_of(step.batch * values)
