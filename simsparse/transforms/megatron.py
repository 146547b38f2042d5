"""Tensor parallelism: every matrix divided among devices, as Megatron does, with the exchanges that this needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from simsparse.errors import InputError
from simsparse.ops import Contraction, Op, Role, Stream, StreamKind, Tensor, Transfer, TransferKind
from simsparse.transforms.resize import (
    check_inference,
    check_unstaged,
    memory_of,
    resized_weights,
    with_axis,
    with_extents,
    with_shapes,
)
from simsparse.transforms.sharding import Sharding, looks_up, sharding, shares
from simsparse.workload import Workload


def tensor_parallel(workload: Workload, devices: int) -> Workload:
    """Divide every layer among devices; what remains is the work, weights and memory of one of them [1]_.

    Matrices that read the residual stream are divided by outputs (and attention by key-value heads), those that write
    it by reduction, followed by an all-reduce of their partial sums before anything needs these whole. Embeddings and
    head are divided by vocabulary, padded up, with an all-reduce and an all-gather. Norms, routers and what else lies
    along the stream run on every device. Speedup is over the same split.

    Parameters
    ----------
    devices : int
        1 changes nothing.

    Raises
    ------
    InputError
        If heads or features do not divide, the workload is divided already, or it is a training step.
    UnsupportedError
        If the workload has no residual stream, or weights that no op of this step reads.

    References
    ----------
    .. [1] Shoeybi et al., Megatron-LM, arXiv:1909.08053, section 3.
    """
    if devices < 1:
        raise InputError.expected("devices", devices, "at least 1")
    if devices == 1:
        return workload
    check_inference(workload, "tensor parallelism")
    check_unstaged(workload, "tensor parallelism")
    if workload.devices > 1:
        raise InputError(f"{workload.name} is divided among {workload.devices} devices already, expected one")
    split = _Split(sharding(workload), devices, workload.ops)
    pairs = [(op, split.op(op)) for op in workload.ops]
    tables = {
        (w.tensor.name, -2, w.tensor.shape[-2]): split.up(w.tensor.shape[-2])
        for w in workload.weights
        if w.tensor.name in split.plan.tables
    }
    weights = tuple(resized_weights(workload, pairs, tables, "tensor parallelism"))
    ops = tuple(_with_exchanges(pairs, split))
    return workload.transformed(
        f"tensor parallel {devices}",
        ops=ops,
        weights=weights,
        devices=devices,
        origin=tensor_parallel(workload.origin, devices) if workload.origin is not None else None,
        **memory_of(workload, ops),
    )


class _Split:
    """Ops as one of `devices` sees them."""

    def __init__(self, plan: Sharding, devices: int, ops: Sequence[Op]) -> None:
        self.plan = plan
        self.devices = devices
        self._labels = {op: plan.divided(op) for op in ops if isinstance(op, Contraction)}
        # Where tensors of a name with so many axes are divided, as products see them; and the extents divided.
        self._axes: dict[tuple[str, int], int] = {}
        self._heads: set[int] = set()
        for op, label in self._labels.items():
            if label is not None:
                self._note(op, label)

    def _note(self, op: Contraction, label: str) -> None:
        for tensor, axes in ((op.a, op.a_axes), (op.b, op.b_axes), (op.out, op.out_axes)):
            for index, axis in enumerate(axes):
                if axis == ((label, 1),):
                    at = index + len(tensor.shape) - len(axes)
                    self._axes[tensor.name, len(tensor.shape)] = at
                    self._heads.add(tensor.shape[at])

    def up(self, extent: int) -> int:
        """A device's share, rounded up."""
        return -(-extent // self.devices)

    def op(self, op: Op) -> Op:
        """The op of one device."""
        if isinstance(op, Contraction):
            return self._product(op, self._labels[op])
        if not isinstance(op, Stream):
            return op
        if looks_up(op):
            # Each device holds an even part of the rows that are asked for, on average.
            rows = {t: with_axis(t, 0, self.up(t.shape[0])) for t in op.reads if t.role is Role.WEIGHT}
            return with_shapes(op, rows)
        tensors = (*op.reads, *op.writes)
        return with_shapes(op, {t: self._shape(t) for t in tensors if shares(op, t, self.plan.whole)})

    def _product(self, op: Contraction, label: str | None) -> Contraction:
        if label is None:
            return op
        extent = dict(op.dims)[label]
        if extent % self.devices and op.out.name not in self.plan.results:
            what = "heads" if op.weight is None else "features"
            raise InputError.expected(
                f"{what} that devices share in {op.name}", extent, f"a multiple of {self.devices}"
            )
        return with_extents(op, {label: self.up(extent)})

    def _shape(self, tensor: Tensor) -> tuple[int, ...]:
        axis = self._axes.get((tensor.name, len(tensor.shape)))
        if axis is None:
            heads = (
                (i for i, extent in enumerate(tensor.shape) if extent in self._heads) if len(tensor.shape) > 2 else ()
            )
            axis = next(iter(heads), -1)
        return with_axis(tensor, axis, self.up(tensor.shape[axis]))


@dataclass(frozen=True)
class _Partial:
    """Sums that each device has only a part of, and the op that made them."""

    tensor: Tensor
    maker: Op

    def exchange(self, kind: TransferKind, devices: int) -> Transfer:
        name = f"{self.maker.name}.{kind}"
        return Transfer(name, kind, self.tensor, devices, layers=self.maker.layers)


def _with_exchanges(pairs: Sequence[tuple[Op, Op]], split: _Split) -> Iterator[Op]:
    """The ops, with partial sums reduced just before an op that needs them whole, and results gathered."""
    read = {t.name for before, _ in pairs for t in before.inputs}
    waiting: dict[str, list[_Partial]] = {}
    for before, op in pairs:
        arriving = [t.name for t in op.inputs if t.name in waiting]
        passes = bool(arriving) and _passes_parts_on(op, waiting)
        parts = [part for name in dict.fromkeys(arriving) for part in waiting.pop(name)]
        if parts and not passes:
            yield from (part.exchange(TransferKind.ALL_REDUCE, split.devices) for part in _summed(op, parts))
        yield op
        if passes or _makes_parts(before, op, split.plan):
            waiting.setdefault(op.outputs[0].name, []).append(_Partial(op.outputs[0], op))
        for whole, part in zip(before.outputs, op.outputs, strict=True):
            if whole.name not in read and whole.shape != part.shape and whole.role is Role.ACTIVATION:
                yield _Partial(whole, op).exchange(TransferKind.ALL_GATHER, split.devices)
    for parts in waiting.values():
        yield from (part.exchange(TransferKind.ALL_REDUCE, split.devices) for part in parts)


def _makes_parts(before: Op, op: Op, plan: Sharding) -> bool:
    if isinstance(op, Contraction):
        return before is not op and op.out.name in plan.whole
    return looks_up(op)


def _passes_parts_on(op: Op, waiting: Mapping[str, object]) -> bool:
    """Whether an op may run on partial sums: it moves them, adds them up, or adds a bias (on one device)."""
    if not isinstance(op, Stream):
        return False
    if op.kind is StreamKind.RESIDUAL:
        return all(t.name in waiting for t in op.reads)
    return op.kind in (StreamKind.GATHER, StreamKind.BIAS) and op.reads[0].name in waiting


def _summed(op: Op, parts: list[_Partial]) -> list[_Partial]:
    """What has to be reduced before an op; a residual sum first adds up branches that ran in parallel."""
    if isinstance(op, Stream) and op.kind is StreamKind.RESIDUAL:
        alike = {part.tensor.name: part for part in parts}
        first = next(iter(alike))
        return [part for part in parts if part.tensor.name == first]
    return parts
