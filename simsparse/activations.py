"""Memory that activations take while ops run: the live peak; in training also what is kept for the way back."""

from __future__ import annotations

from collections.abc import Sequence

from simsparse.ops import Op, Role, Stream, StreamKind, Tensor

# Fused attention never stores scores; weights, caches and optimizer state are counted apart.
_ELSEWHERE = (Role.WEIGHT, Role.SCORE, Role.KV_CACHE, Role.OPTIMIZER)
# Streams whose gradient follows from the output's alone; all others read their forward inputs again.
LINEAR_STREAMS = (StreamKind.GATHER, StreamKind.COPY, StreamKind.ROTARY)
SUM_STREAMS = (StreamKind.RESIDUAL, StreamKind.BIAS)


def activation_bytes(ops: Sequence[Op]) -> float:
    """Most bytes of activations in memory while the ops of a step run.

    In a training step: what the forward pass keeps for the backward pass in all layers, plus the most that backward ops
    need on top at a time. The backward pass begins where the first gradient (`….grad`) is written.
    """
    start = next((i for i, op in enumerate(ops) if any(t.name.endswith(".grad") for t in op.outputs)), None)
    if start is None:
        return live_activation_bytes(ops)
    saved = _saved(ops[:start])
    weights = {t.name for op in ops for t in op.inputs + op.outputs if t.role is Role.WEIGHT}
    apart = frozenset({name for name, _ in saved} | {f"{name}.grad" for name in weights})
    return sum(saved.values()) + live_activation_bytes(ops[start:], apart=apart)


def live_activation_bytes(ops: Sequence[Op], *, apart: frozenset[str] = frozenset()) -> float:
    """Most bytes of activations alive at once, with layers run one after another.

    A tensor lives from the op that makes it to the last that reads it. What an epilogue makes takes the place of its
    first input where nothing reads that later. Scores are left out, as fused attention never stores them, and so is
    what `apart` names.
    """
    last_read = {tensor.name: index for index, op in enumerate(ops) for tensor in op.inputs}
    alive: dict[str, float] = {}
    total = peak = 0.0
    dying: dict[int, list[str]] = {}
    for index, op in enumerate(ops):
        for tensor in (*op.inputs, *op.outputs):
            size, before = tensor.dense_bytes, alive.get(tensor.name, 0.0)
            if size <= before or tensor.name in apart or not is_activation(tensor):
                continue
            if not before:
                dying.setdefault(max(index, last_read.get(tensor.name, index)), []).append(tensor.name)
            total += size - before
            alive[tensor.name] = size
        replaced = 0.0
        if isinstance(op, Stream) and op.epilogue and last_read[op.reads[0].name] == index:
            replaced = alive.get(op.reads[0].name, 0.0)
        peak = max(peak, total - replaced)
        for name in dying.pop(index, ()):
            total -= alive.pop(name, 0.0)
    return peak


def is_activation(tensor: Tensor) -> bool:
    """Whether a tensor counts as activation memory."""
    return tensor.role not in _ELSEWHERE


def _saved(ops: Sequence[Op]) -> dict[tuple[str, tuple[int, ...]], float]:
    """Bytes in all layers of what the backward pass reads again: inputs of products and of nonlinear streams."""
    saved: dict[tuple[str, tuple[int, ...]], float] = {}
    for op in ops:
        if isinstance(op, Stream) and op.kind in (*LINEAR_STREAMS, *SUM_STREAMS):
            continue
        for tensor in op.inputs:
            if is_activation(tensor):
                key = (tensor.name, op.layers)
                saved[key] = max(saved.get(key, 0.0), tensor.dense_bytes * op.count)
    return saved
