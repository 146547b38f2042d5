"""The residual stream of a transformer: which tensors carry its features, found from how ops are joined.

A residual sum has an operand that is read elsewhere too: what the branch set out from. What such sums make is the
stream; so is all that passes its features on one by one (norms, biases, gathers, sums), and the tables tied to them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from simsparse.errors import UnsupportedError
from simsparse.ops import Axis, Contraction, Op, Role, Stream, StreamKind, Tensor
from simsparse.workload import Workload

# Streams that keep features apart, so that all their tensors of the stream's width belong to it.
FEATUREWISE = (StreamKind.NORM, StreamKind.RESIDUAL, StreamKind.BIAS, StreamKind.ACTIVATION, StreamKind.GATHER)
# `[rows, features]` or `[batch, rows, features]`; sums of images have more.
_MOST_AXES = 3


@dataclass(frozen=True)
class ResidualStream:
    """Tensors that carry the residual stream.

    Attributes
    ----------
    widths : mapping of tensor name to int
        Features of each.
    shortcuts : mapping of (op name, layers) to tensor name
        The residual sums, and which operand of each is the shortcut around the branch.
    """

    widths: Mapping[str, int]
    shortcuts: Mapping[tuple[str, tuple[int, ...]], str]

    def axis(self, tensor: Tensor) -> int | None:
        """Where a tensor has the stream's features, counted from the end; None for a tensor that has none."""
        width = self.widths.get(tensor.name)
        return None if width is None else feature_axis(tensor.shape, width)


def residual_stream(workload: Workload) -> ResidualStream:
    """Find the residual stream of a workload.

    Raises
    ------
    UnsupportedError
        If it has none, as convolutional networks.
    """
    shortcuts = dict(_shortcuts(workload.ops))
    widths: dict[str, int] = {}
    for op in workload.ops:
        if (op.name, op.layers) in shortcuts:
            widths[op.outputs[0].name] = op.outputs[0].shape[-1]
    if not widths:
        raise UnsupportedError(f"{workload.name} has no residual stream, expected a transformer")
    known = -1
    while len(widths) > known:
        known = len(widths)
        for op in workload.ops:
            for name, width in _joined(op, widths):
                widths.setdefault(name, width)
    return ResidualStream(widths, shortcuts)


def _shortcuts(ops: Sequence[Op]) -> Iterator[tuple[tuple[str, tuple[int, ...]], str]]:
    readers: defaultdict[str, set[str]] = defaultdict(set)
    for op in ops:
        if isinstance(op, (Contraction, Stream)):
            for tensor in op.inputs:
                readers[tensor.name].add(op.name)
    shared = {name for name, by in readers.items() if len(by) > 1}
    # Where a matrix lies on the shortcut, it reads what the branch set out from.
    shared.update(op.out.name for op in ops if isinstance(op, Contraction) and op.weight and op.b.name in shared)
    for op in ops:
        if isinstance(op, Stream) and op.kind is StreamKind.RESIDUAL and len(op.writes[0].shape) <= _MOST_AXES:
            around = [t.name for t in op.reads if t.role is not Role.WEIGHT and t.name in shared]
            if around:
                yield (op.name, op.layers), around[-1]


def _joined(op: Op, widths: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Tensors of an op that carry the stream because another one of the op does."""
    if isinstance(op, Contraction):
        weight = op.weight
        if weight is not None and weight.name in widths:
            axis = feature_axis(weight.shape, widths[weight.name])
            shared = None if axis is None else axis_at(op, weight, axis)
            for tensor in (op.a, op.b, op.out):
                if shared is not None and shared == axis_at(op, tensor, -1):
                    yield tensor.name, widths[weight.name]
    elif isinstance(op, Stream) and op.kind in FEATUREWISE:
        tensors = [t for t in (*op.reads, *op.writes) if t.role is not Role.INDEX]
        width = next((widths[t.name] for t in tensors if t.name in widths), None)
        if width is not None:
            yield from ((t.name, width) for t in tensors if feature_axis(t.shape, width) is not None)


def feature_axis(shape: tuple[int, ...], width: int) -> int | None:
    """Which axis, counted from the end, holds that many features: the last, or the channels of an image."""
    if shape[-1] == width:
        return -1
    return 1 - len(shape) if len(shape) > 2 and shape[1] == width else None


def axis_at(op: Contraction, tensor: Tensor, axis: int) -> Axis | None:
    """The dimensions that index an axis, counted from the end, of an operand or the output; None for the experts'."""
    axes = {id(op.a): op.a_axes, id(op.b): op.b_axes, id(op.out): op.out_axes}[id(tensor)]
    return axes[axis] if -axis <= len(axes) else None
