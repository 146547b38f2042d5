"""Shapes that change: of contractions by dimension, of stored weights as their ops see them, and of memory by share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from simsparse.activations import activation_bytes
from simsparse.errors import InputError, UnsupportedError
from simsparse.ops import Axis, Contraction, Op, Role, Stream, StreamKind, Tensor
from simsparse.workload import Memory, Phase, Weight, Workload


def with_extents(op: Contraction, extents: Mapping[str, int]) -> Contraction:
    """The contraction with other extents of some dimensions, and its tensors to match."""
    old = dict(op.dims)
    dims = tuple((label, extents.get(label, extent)) for label, extent in op.dims)
    a, b, out = (
        _resized(tensor, axes, old, extents)
        for tensor, axes in ((op.a, op.a_axes), (op.b, op.b_axes), (op.out, op.out_axes))
    )
    return replace(op, dims=dims, a=a, b=b, out=out)


def _resized(tensor: Tensor, axes: Sequence[Axis], old: Mapping[str, int], new: Mapping[str, int]) -> Tensor:
    shape = list(tensor.shape)
    offset = len(shape) - len(axes)
    for index, axis in enumerate(axes):
        for label, _ in axis:
            if label in new:
                shape[offset + index] = shape[offset + index] // old[label] * new[label]
    return replace(tensor, shape=tuple(shape))


def with_shapes(op: Stream, shapes: Mapping[Tensor, tuple[int, ...]]) -> Stream:
    """The stream over tensors of other shapes, with operations in proportion to what it writes."""
    reads, writes = (
        tuple(replace(t, shape=shapes.get(t, t.shape)) for t in tensors) for tensors in (op.reads, op.writes)
    )
    before, after = (sum(t.elements for t in tensors) for tensors in (op.writes, writes))
    return replace(op, reads=reads, writes=writes, flops=op.flops * after / before if before else op.flops)


def with_axis(tensor: Tensor, axis: int, extent: int) -> tuple[int, ...]:
    """The tensor's shape with another extent of the axis, counted from the end."""
    shape = list(tensor.shape)
    shape[axis] = extent
    return tuple(shape)


def resized_weights(
    workload: Workload, pairs: Iterable[tuple[Op, Op]], changes: Mapping[tuple[str, int, int], int], what: str
) -> Iterator[Weight]:
    """Stored weights as resized ops see them.

    Parameters
    ----------
    pairs : iterable of (Op, Op)
        Each op before and after.
    changes : mapping of (weight name, axis from the end, extent) to extent
        What no op shows, such as the rows of a table that is only gathered from.

    Raises
    ------
    UnsupportedError
        If no op of the step reads some weight, so that nothing says what becomes of it.
    """
    new = dict(changes)
    seen: set[str] = set()
    for before, after in pairs:
        for old, made in zip(before.inputs, after.inputs, strict=False):
            if old.role is Role.WEIGHT:
                seen.add(old.name)
                for axis in range(-len(old.shape), 0):
                    if made.shape[axis] != old.shape[axis]:
                        new[old.name, axis, old.shape[axis]] = made.shape[axis]
    for weight in workload.weights:
        if weight.tensor.name not in seen:
            raise UnsupportedError(
                f"{what} needs to see every weight at work, but no op of this {workload.phase} step reads "
                f"{weight.tensor.name}"
            )
        yield replace(weight, tensor=_stored(weight.tensor, new))


def _stored(tensor: Tensor, new: Mapping[tuple[str, int, int], int]) -> Tensor:
    shape = list(tensor.shape)
    for (name, axis, old), extent in new.items():
        if name != tensor.name:
            continue
        if -axis > len(shape):
            # Ops see the first axis as two (heads, outputs of each).
            shape[0] = shape[0] // old * extent
        elif tensor.shape[axis] == old:
            shape[axis] = extent
    return replace(tensor, shape=tuple(shape))


def memory_of(workload: Workload, ops: Sequence[Op]) -> Memory:
    """`kv_cache_bytes`, `activation_bytes` and `optimizer_bytes` of a workload that runs `ops` instead of its own.

    Each in proportion: to bytes of cached tensors, to the activation peak, to state that optimizers read.
    """

    def share(measure: Callable[[Sequence[Op]], float]) -> float:
        return _ratio(measure(ops), measure(workload.ops))

    return Memory(
        kv_cache_bytes=workload.kv_cache_bytes * share(_cache_bytes),
        activation_bytes=workload.activation_bytes * share(activation_bytes),
        optimizer_bytes=workload.optimizer_bytes * share(_state_bytes),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _cache_bytes(ops: Sequence[Op]) -> float:
    largest: dict[tuple[str, tuple[int, ...]], float] = {}
    for op in ops:
        for tensor in (*op.inputs, *op.outputs):
            if tensor.role is Role.KV_CACHE:
                key = (tensor.name, op.layers)
                largest[key] = max(largest.get(key, 0.0), tensor.dense_bytes * op.count)
    return sum(largest.values())


def _state_bytes(ops: Sequence[Op]) -> float:
    return sum(
        tensor.dense_bytes * op.count
        for op in ops
        if isinstance(op, Stream) and op.kind is StreamKind.OPTIMIZER
        for tensor in op.reads
        if tensor.role in (Role.OPTIMIZER, Role.GRADIENT)
    )


def check_inference(workload: Workload, what: str) -> None:
    """Raise if the workload is a training step.

    Raises
    ------
    InputError
    """
    if workload.phase is Phase.TRAIN:
        raise InputError.expected(f"phase of the workload for {what}", "train", "prefill, decode or encode")


def check_unstaged(workload: Workload, what: str) -> None:
    """Raise if the workload was cut into pipeline stages, which has to come last.

    Raises
    ------
    InputError
    """
    if workload.stages > 1:
        raise InputError(f"{what} comes after pipeline, expected it before")
