"""Structured slicing: the residual stream loses features, and every matrix the rows or columns that go with them."""

from __future__ import annotations

from dataclasses import replace

from simsparse.errors import InputError, UnsupportedError
from simsparse.ops import Contraction, Op, Role, Stream, Tensor, Transfer, plain_axes
from simsparse.transforms.residual import ResidualStream, axis_at, residual_stream
from simsparse.transforms.resize import (
    check_inference,
    check_unstaged,
    memory_of,
    resized_weights,
    with_axis,
    with_extents,
    with_shapes,
)
from simsparse.workload import Weight, Workload

# Sizes that kernels like, as in the reference implementation.
ROUND_TO = 8


def slice_model(workload: Workload, fraction: float, *, shortcut: bool = True) -> Workload:
    """Delete a fraction of the residual stream's features, as SliceGPT does [1]_.

    Matrices that read the stream lose columns, those that write it rows; embeddings, head, norms and all that moves
    along the stream shrink with it. Heads, the width of the MLP and the KV cache stay. Speedup is over the whole model.

    Parameters
    ----------
    fraction : float
        Above 0, below 1; what is left is rounded to a multiple of 8.
    shortcut : bool
        Add the square matrix that each residual sum of a layer needs on its shortcut, since every block has a rotation
        of its own: two a layer, one where attention and MLP run in parallel.

    Raises
    ------
    InputError
        For a fraction outside (0, 1), or a training step.
    UnsupportedError
        If the workload has no residual stream, or weights that no op of this step reads.

    Notes
    -----
    Parameters of norms are kept; SliceGPT folds them into the matrices, which is a rounding error of the whole.

    References
    ----------
    .. [1] Ashkboos et al., SliceGPT, ICLR 2024, arXiv:2401.15024, section 3 and figure 4.
    """
    if not 0.0 < fraction < 1.0:
        raise InputError.expected("fraction to slice off", fraction, "above 0 and below 1")
    check_inference(workload, "slicing")
    check_unstaged(workload, "slicing")
    stream = residual_stream(workload)
    pairs = [(op, _sliced(op, stream, fraction)) for op in workload.ops]
    weights = list(resized_weights(workload, pairs, {}, "slicing"))
    ops: list[Op] = []
    made = {op.name for op in workload.ops}
    for _, op in pairs:
        around = stream.shortcuts.get((op.name, op.layers))
        wanted = shortcut and op.layers and f"{op.name}.shortcut" not in made
        if wanted and around is not None and isinstance(op, Stream):
            product, op = _with_shortcut(op, around)
            weights.append(Weight(product.a, product.layers))
            ops.append(product)
        ops.append(op)
    return workload.transformed(
        f"slice {fraction:g}" + ("" if shortcut else " without shortcuts"),
        ops=tuple(ops), weights=tuple(weights), origin=workload.origin or workload, **memory_of(workload, ops),
    )  # fmt: skip


def _left(width: int, fraction: float) -> int:
    return max(ROUND_TO, ROUND_TO * round(width * (1.0 - fraction) / ROUND_TO))


def _sliced(op: Op, stream: ResidualStream, fraction: float) -> Op:
    tensors = [(t, axis) for t in (*op.inputs, *op.outputs) if (axis := stream.axis(t)) is not None]
    if isinstance(op, Contraction):
        extents = {_label(op, t, axis): _left(t.shape[axis], fraction) for t, axis in tensors}
        return with_extents(op, extents) if extents else op
    shapes = {t: with_axis(t, axis, _left(t.shape[axis], fraction)) for t, axis in tensors}
    if isinstance(op, Transfer):
        return replace(op, tensor=replace(op.tensor, shape=shapes.get(op.tensor, op.tensor.shape)))
    return with_shapes(op, shapes) if isinstance(op, Stream) else op


def _label(op: Contraction, tensor: Tensor, axis: int) -> str:
    """The dimension that runs over a tensor's features."""
    extents = dict(op.dims)
    labels = [label for label, _ in axis_at(op, tensor, axis) or () if extents[label] == tensor.shape[axis]]
    if len(labels) != 1:
        raise UnsupportedError(f"{op.name} mixes the features of {tensor.name}, expected products over whole features")
    return labels[0]


def _with_shortcut(op: Stream, name: str) -> tuple[Contraction, Stream]:
    """A square matrix on the shortcut of a residual sum, and the sum that reads what it makes."""
    x = next(t for t in op.reads if t.name == name)
    *lead, width = x.shape
    rows = tuple(f"n{index}" for index in range(len(lead)))
    weight = Tensor(f"{op.name}.shortcut.weight", (width, width), x.dtype, Role.WEIGHT)
    out = replace(x, name=f"{op.name}.shortcut.out")
    product = Contraction(
        f"{op.name}.shortcut", (("m", width), *zip(rows, lead, strict=True), ("k", width)), weight, x, out,
        plain_axes("mk"), plain_axes((*rows, "k")), plain_axes((*rows, "m")), layers=op.layers,
    )  # fmt: skip
    return product, replace(op, reads=tuple(out if t is x else t for t in op.reads))
