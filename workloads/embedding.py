"""How a stack gets its input: token tables, image patches, audio frames."""

from __future__ import annotations

from simsparse.dtypes import dtype
from simsparse.ops import Role, StreamKind, Tensor
from workloads._oplist import ACTIVATION_FLOPS, OpList
from workloads.architecture import Audio, Embedding, Linear, Patches
from workloads.attention import Span
from workloads.convolution import convolution

TOKENS = "embed_tokens"


def embed_tokens(ops: OpList, spec: Embedding, prefix: str, span: Span) -> Tensor:
    """Rows of the token table, plus positions, token types and a norm where the model has them: `[rows, hidden]`.

    The table is one for both stacks of a model; ops carry the stack's `prefix`.
    """
    rows = span.rows
    index = Tensor(f"{prefix}input_ids", (span.batch, span.new), dtype("int64"), Role.INDEX)
    x = ops.gather(f"{prefix}{TOKENS}", ops.weight(f"{TOKENS}.weight", (spec.vocabulary, spec.width)), rows, index)
    if spec.width != spec.hidden:
        x = ops.linear(f"{prefix}project_in", Linear("project_in", spec.hidden, spec.width), x, rows)
    for name, size in (("embed_positions", spec.positions), ("embed_token_types", spec.token_types)):
        if size:
            table = ops.weight(f"{name}.weight", (size, spec.hidden))
            read = min(rows, span.new if name == "embed_positions" else size)
            x = _add_rows(ops, f"{prefix}{name}", x, table, read)
    return x if spec.norm is None else ops.norm(f"{prefix}embed_norm", spec.norm, x)


def embed_patches(ops: OpList, spec: Patches, hidden: int, batch: int) -> Tensor:
    """Patches of each image and a class token, with positions: `[batch · tokens, hidden]`."""
    side = spec.image // spec.patch
    weight = ops.weight("patch_embedding.weight", (hidden, spec.channels, spec.patch, spec.patch))
    image = ops.tensor("image", (batch, spec.channels, spec.image, spec.image))
    out = ops.tensor("patch_embedding.out", (batch, hidden, side, side))
    stride = (spec.patch, spec.patch)
    x = ops.contraction(convolution("patch_embedding", weight, image, out, stride=stride))
    if spec.bias:
        x = ops.bias("patch_embedding", x, hidden)
    token = ops.weight("class_token", (1, 1, hidden))
    table = ops.weight("embed_positions.weight", (1, spec.tokens, hidden))
    made = ops.tensor("embed_positions.out", (batch * spec.tokens, hidden))
    ops.stream(StreamKind.RESIDUAL, "embed_positions", (x, token, table), (made,), flops=float(made.elements))
    return made


def embed_audio(ops: OpList, spec: Audio, prefix: str, hidden: int, batch: int) -> Tensor:
    """Two convolutions over the frames of each spectrogram, with positions: `[batch · positions, hidden]`."""
    x = ops.tensor("spectrogram", (batch, spec.mels, spec.frames))
    for name, stride, length in (("conv1", 1, spec.frames), ("conv2", 2, spec.positions)):
        module = f"{prefix}{name}"
        weight = ops.weight(f"{module}.weight", (hidden, x.shape[1], 3))
        out = ops.tensor(f"{module}.out", (batch, hidden, length))
        made = ops.contraction(convolution(module, weight, x, out, stride=(stride,)))
        biased = ops.bias(module, made, hidden)
        reads = (biased,)
        x = ops.elementwise(StreamKind.ACTIVATION, f"{module}.act", reads, flops_per_value=ACTIVATION_FLOPS)
    table = ops.weight(f"{prefix}embed_positions.weight", (spec.positions, hidden))
    tokens = ops.tensor(x.name, (batch * spec.positions, hidden))
    return ops.elementwise(StreamKind.RESIDUAL, f"{prefix}embed_positions", (tokens, table))


def _add_rows(ops: OpList, name: str, x: Tensor, table: Tensor, rows: int) -> Tensor:
    """`x` plus rows of a table."""
    read = Tensor(table.name, (rows, table.shape[-1]), table.dtype, table.role)
    return ops.elementwise(StreamKind.RESIDUAL, name, (x, read))
