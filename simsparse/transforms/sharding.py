"""What tensor parallelism keeps whole on every device, and which dimension of each product it divides.

Everything is divided that need not be whole. Whole are the residual stream and what lies along it, what a norm or a
top-k looks at across all features, indices, inputs, convolutions, and what gathers from a vocabulary table make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from simsparse.errors import UnsupportedError
from simsparse.ops import Axis, Contraction, ContractionKind, Op, Role, Stream, StreamKind, Tensor
from simsparse.transforms.residual import residual_stream
from simsparse.workload import Workload

_SPREADING = (StreamKind.RESIDUAL, StreamKind.BIAS, StreamKind.ACTIVATION, StreamKind.GATHER)


@dataclass(frozen=True)
class Sharding:
    """What stays whole, by name.

    Attributes
    ----------
    whole : frozenset of str
        Tensors that every device holds in full; all others are divided.
    tables : frozenset of str
        Embedding tables, divided by rows (vocabulary).
    results : frozenset of str
        Tensors that no product comes after; their features may be padded up to a multiple of the devices.
    """

    whole: frozenset[str]
    tables: frozenset[str]
    results: frozenset[str]

    def divided(self, op: Contraction) -> str | None:
        """The dimension of a product that the devices share; None where each computes all of it.

        Raises
        ------
        UnsupportedError
            If none can be shared.
        """
        in_a, in_b, in_out = (_plain(axes) for axes in (op.a_axes, op.b_axes, op.out_axes))
        a_whole = op.a.role is Role.WEIGHT or op.a.name in self.whole
        b_whole, out_whole = op.b.name in self.whole, op.out.name in self.whole
        if a_whole and b_whole and out_whole:
            return None
        if op.a.role is Role.WEIGHT:
            if b_whole:
                options = [x for x in in_a if x in in_out and x not in in_b]
            elif out_whole:
                options = [x for x in in_a if x in in_b and x not in in_out]
            else:
                options = [x for x in in_a if x in in_b and x in in_out]
        elif b_whole or out_whole:
            options = []
        elif a_whole:
            # Keys and values that all heads share: the heads are queries side by side.
            options = [x for x in in_b if x in in_out and x not in in_a]
        else:
            options = [x for x in reversed(in_a) if x in in_b and x in in_out]
        if not options:
            raise UnsupportedError(f"tensor parallelism finds no dimension of {op.name} that devices can share")
        return options[0]


def _plain(axes: Sequence[Axis]) -> list[str]:
    return [axis[0][0] for axis in axes if len(axis) == 1]


def sharding(workload: Workload) -> Sharding:
    """Find what stays whole.

    Raises
    ------
    UnsupportedError
        If the workload has no residual stream.
    """
    tables = {t.name for op in workload.ops if looks_up(op) for t in op.inputs if t.role is Role.WEIGHT}
    whole = set(residual_stream(workload).widths) | set(_to_begin_with(workload.ops, tables))
    known = -1
    while len(whole) > known:
        known = len(whole)
        for op in workload.ops:
            if isinstance(op, Stream):
                whole.update(_spread(op, whole))
    return Sharding(frozenset(whole), frozenset(tables), frozenset(_results(workload.ops)))


def looks_up(op: Op) -> bool:
    """Whether an op gathers rows of a table by index: an embedding."""
    if not isinstance(op, Stream) or op.kind is not StreamKind.GATHER:
        return False
    return {Role.WEIGHT, Role.INDEX} <= {t.role for t in op.reads}


def _to_begin_with(ops: Sequence[Op], tables: Set[str]) -> Iterator[str]:
    made = {t.name for op in ops for t in op.outputs}
    for op in ops:
        for tensor in op.inputs:
            is_input = tensor.name not in made and tensor.role is Role.ACTIVATION
            if is_input or tensor.role is Role.INDEX:
                yield tensor.name
        if looks_up(op):
            yield from (t.name for t in op.outputs)
        if isinstance(op, Contraction):
            if op.kind is ContractionKind.CONV:
                yield from (op.b.name, op.out.name)
            if op.a.name in tables:
                yield op.b.name


def _spread(op: Stream, whole: Set[str]) -> Iterator[str]:
    """Tensors of a stream that must be whole because others are, or because of what it does."""
    every = [t.name for t in (*op.reads, *op.writes) if t.role is not Role.INDEX]
    data = [t.name for t in op.reads if t.role not in (Role.INDEX, Role.WEIGHT)]
    mixes = op.kind is StreamKind.TOPK or (op.kind is StreamKind.NORM and _normalises_rows(op))
    if mixes or (op.kind in _SPREADING and any(name in whole for name in every)):
        yield from every
    elif data and all(name in whole for name in data):
        yield from (t.name for t in op.writes)


def _normalises_rows(op: Stream) -> bool:
    """Whether a norm runs over whole rows rather than over each head."""
    return all(t.shape[-1] == op.reads[0].shape[-1] for t in op.reads if t.role is Role.WEIGHT)


def _results(ops: Sequence[Op]) -> set[str]:
    """Names that only streams stand behind."""
    before_products: set[str] = set()
    for op in reversed(ops):
        if isinstance(op, Contraction) or any(t.name in before_products for t in op.outputs):
            before_products.update(t.name for t in op.inputs)
    return {t.name for op in ops for t in op.outputs} - before_products


def shares(op: Stream, tensor: Tensor, whole: Set[str]) -> bool:
    """Whether a tensor of a stream is divided: parameters of each head, such as those of its norm, are not."""
    if tensor.name in whole or tensor.role is Role.INDEX:
        return False
    per_head = tensor.role is Role.WEIGHT and len(tensor.shape) == 1 and tensor.shape != op.reads[0].shape[-1:]
    return not per_head
