"""Memory that activations take while ops run."""

from __future__ import annotations

from collections.abc import Sequence

from simsparse.ops import Op, Role, Stream, Tensor

# Fused attention never stores scores; weights, caches and optimizer state are counted apart.
_ELSEWHERE = (Role.WEIGHT, Role.SCORE, Role.KV_CACHE, Role.OPTIMIZER)


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
