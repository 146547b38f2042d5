"""A training step from a forward pass: every op gets its backward ops, every weight its update.

For a product with a weight: `OP.grad_input` (the transposed weight times the output's gradient) and `OP.grad_weight`.
For a product of two activations, A plays the weight's part: `score.grad_input` is the queries' gradient,
`score.grad_weight` the keys'. A stream gets `OP.grad`, a weight `WEIGHT.update`, a result that nothing reads
`OP.loss`. The gradient of tensor `T` is `T.grad`; where several ops read `T`, each further part is added by
`….accumulate`, an epilogue. (What all layers read, such as an encoder's output, is added up once, not in each layer.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum

from simsparse.activations import LINEAR_STREAMS, SUM_STREAMS, activation_bytes
from simsparse.dtypes import DType, dtype
from simsparse.errors import InputError
from simsparse.ops import Contraction, ContractionKind, Op, Role, Stream, StreamKind, Tensor
from simsparse.sparsity import DENSE
from simsparse.workload import Phase, Weight, Workload
from workloads.convolution import conv_gradients

FP32 = dtype("fp32")
_LOSS_FLOPS = 8.0


class Optimizer(Enum):
    """How weights are updated: fp32 values kept for each weight besides a master copy, and operations a value."""

    SGD = (0, 2.0)
    MOMENTUM = (1, 4.0)
    ADAM = (2, 12.0)

    @property
    def moments(self) -> int:
        """State tensors of each weight."""
        return self.value[0]

    @property
    def flops_per_value(self) -> float:
        """Elementwise operations for each parameter."""
        return self.value[1]

    @classmethod
    def named(cls, name: str | Optimizer) -> Optimizer:
        """Read `sgd`, `momentum` or `adam`."""
        if isinstance(name, Optimizer):
            return name
        if not isinstance(name, str) or name.upper() not in cls.__members__:
            raise InputError.expected("optimizer", name, f"one of {', '.join(m.lower() for m in cls.__members__)}")
        return cls[name.upper()]


def training_step(workload: Workload, optimizer: str | Optimizer = Optimizer.ADAM) -> Workload:
    """Forward, backward and update of a pass over a batch.

    Weights below 32 bits have an fp32 master copy, which the update reads and writes with the moments; both count as
    `optimizer_bytes`, together with the gradients of all weights.

    Raises
    ------
    InputError
        For an unknown optimizer, or a workload that is no plain forward pass.
    """
    rule = Optimizer.named(optimizer)
    if workload.phase not in (Phase.PREFILL, Phase.ENCODE):
        raise InputError.expected("phase of the forward pass", str(workload.phase), "prefill or encode")
    backward = [*_losses(workload.ops), *_Backward(workload.ops).walk()]
    updates = (_update(weight, rule) for weight in workload.weights)
    ops = (*workload.ops, *backward, *updates)
    return replace(
        workload,
        phase=Phase.TRAIN,
        ops=ops,
        kv_cache_bytes=0.0,
        activation_bytes=activation_bytes(ops),
        optimizer_bytes=sum(_state_bytes(w.tensor, rule) * w.count for w in workload.weights),
    )


def _losses(ops: Sequence[Op]) -> Iterator[Stream]:
    """A loss on each result that no op reads, as cross entropy: from logits to their gradient."""
    read = {tensor.name for op in ops for tensor in op.inputs}
    for op in ops:
        for tensor in op.outputs:
            if tensor.name not in read and tensor.role is Role.ACTIVATION:
                flops = _LOSS_FLOPS * tensor.elements
                yield Stream(f"{op.name}.loss", StreamKind.SOFTMAX, (tensor,), (_gradient(tensor),), flops)


class _Backward:
    """The walk from the last op to the first. `_grads` holds the gradient of each tensor that later ops read."""

    def __init__(self, ops: Sequence[Op]) -> None:
        self._ops = ops
        self._grads: dict[str, Tensor] = {}
        # Whole sizes of what ops make: smaller reads of the same name are parts, whose gradients are no sums.
        self._made: dict[str, int] = {}
        for op in ops:
            for tensor in op.outputs:
                self._made[tensor.name] = max(tensor.elements, self._made.get(tensor.name, 0))

    def walk(self) -> Iterator[Op]:
        """Backward ops, in order."""
        for op in reversed(self._ops):
            if isinstance(op, Contraction):
                yield from self._product(op)
            elif isinstance(op, Stream) and op.kind in SUM_STREAMS:
                yield from self._sum(op)
            elif isinstance(op, Stream):
                yield self._stream(op)

    def _product(self, op: Contraction) -> Iterator[Op]:
        gradient = self._taken(op.out)
        is_conv = op.kind is ContractionKind.CONV
        to_input, to_weight = (conv_gradients if is_conv else _product_gradients)(op, gradient)
        yield from self._credited(op.a, to_weight)
        if op.b.name in self._made:  # the data needs no gradient
            yield from self._credited(op.b, to_input)

    def _credited(self, tensor: Tensor, op: Contraction) -> Iterator[Op]:
        """The op that makes a gradient of `tensor`, and the addition to what later ops gave it."""
        before = None if tensor.role is Role.WEIGHT else self._grads.get(tensor.name)
        if before is None or tensor.elements < self._made[tensor.name]:
            self._grads[tensor.name] = op.out
            yield op
            return
        op = op.with_tensors(out=replace(op.out, name=f"{op.name}.out"))
        yield op
        yield self._added(op.name, op.out, before, tensor.name, op.layers)

    def _sum(self, op: Stream) -> Iterator[Op]:
        """A sum passes its gradient on as it is: only parameters, and terms that are read elsewhere too, need work."""
        gradient = self._taken(op.writes[0])
        parts = tuple(_gradient(source) for source in op.reads if source.role is Role.WEIGHT)
        if parts:
            yield Stream(f"{op.name}.grad", op.kind, (gradient,), parts, float(gradient.elements), layers=op.layers)
        for source in op.reads:
            if source.role is Role.WEIGHT:
                self._grads[source.name] = _gradient(source)
            elif source.name in self._grads:
                yield self._added(f"{op.name}.grad", gradient, self._grads[source.name], source.name, op.layers)
            else:
                self._grads[source.name] = gradient

    def _stream(self, op: Stream) -> Stream:
        gradients = tuple(self._taken(t) for t in op.writes if t.role is not Role.INDEX)
        sources = tuple(t for t in op.reads if t.role is not Role.INDEX)
        indices = tuple(t for t in (*op.reads, *op.writes) if t.role is Role.INDEX)
        # A norm that branches off the residual stream adds to the gradient that is there, in one pass.
        waiting = tuple(replace(self._grads[t.name], shape=t.shape) for t in sources if self._waits(t, op))
        parts = tuple(_gradient(t) for t in sources)
        for source, part in zip(sources, parts, strict=True):
            self._grads[source.name] = part
        reads = (*gradients, *(() if op.kind in LINEAR_STREAMS else sources), *indices, *waiting)
        return Stream(f"{op.name}.grad", op.kind, reads, parts, flops=2.0 * op.flops, layers=op.layers)

    def _waits(self, tensor: Tensor, op: Stream) -> bool:
        """Whether later ops gave a gradient of `tensor`; of weights only tables that a head is tied to."""
        return tensor.name in self._grads and (tensor.role is not Role.WEIGHT or op.kind is StreamKind.GATHER)

    def _taken(self, tensor: Tensor) -> Tensor:
        """The gradient of what an op made, in the shape the op sees."""
        gradient = self._grads.pop(tensor.name, None) or _gradient(tensor)
        return replace(gradient, shape=tensor.shape)

    def _added(self, name: str, made: Tensor, before: Tensor, source: str, layers: tuple[int, ...]) -> Stream:
        total = replace(made, name=f"{name}.accumulate.out")
        self._grads[source] = total
        return Stream(
            f"{name}.accumulate", StreamKind.RESIDUAL, (made, before), (total,), float(made.elements), True,
            layers=layers,
        )  # fmt: skip


def _product_gradients(op: Contraction, gradient: Tensor) -> tuple[Contraction, Contraction]:
    """Gradients of B (A transposed times the gradient) and of A (the gradient times B, or B times the gradient)."""
    kinds = {
        ContractionKind.SCORE: (ContractionKind.VALUE, ContractionKind.VALUE),
        ContractionKind.VALUE: (ContractionKind.SCORE, ContractionKind.VALUE),
    }
    to_input_kind, to_weight_kind = kinds.get(op.kind, (op.kind, op.kind))
    a = op.a
    if a.role is Role.WEIGHT:
        shape = (*a.shape[:-2], a.shape[-1], a.shape[-2])
        axes = (*op.a_axes[:-2], op.a_axes[-1], op.a_axes[-2])
        a = replace(a, shape=shape, pattern=a.pattern.transposed(), transposed=True)
    else:
        axes = op.a_axes
    to_input = replace(
        op, name=f"{op.name}.grad_input", kind=to_input_kind, a=a, b=gradient, out=_gradient(op.b), a_axes=axes,
        b_axes=op.out_axes, out_axes=op.b_axes,
    )  # fmt: skip
    # Scores stay operand B of an attention product, where patterns on them are looked for.
    first, second = (gradient, op.out_axes), (op.b, op.b_axes)
    if op.kind is ContractionKind.SCORE:
        first, second = second, first
    to_weight = replace(
        op, name=f"{op.name}.grad_weight", kind=to_weight_kind, a=first[0], b=second[0], out=_gradient(op.a),
        a_axes=first[1], b_axes=second[1], out_axes=op.a_axes,
    )  # fmt: skip
    return to_input, to_weight


def _gradient(tensor: Tensor) -> Tensor:
    """`T.grad`: of scores it is a score matrix with their pattern, of all else a dense gradient."""
    if tensor.role is Role.SCORE:
        return replace(tensor, name=f"{tensor.name}.grad")
    return replace(tensor, name=f"{tensor.name}.grad", role=Role.GRADIENT, pattern=DENSE, transposed=False)


def _update(weight: Weight, rule: Optimizer) -> Stream:
    """Read the gradient and the state, write the state and the weight."""
    tensor = weight.tensor
    state = [
        Tensor(f"{tensor.name}.moment_{index + 1}", tensor.shape, FP32, Role.OPTIMIZER) for index in range(rule.moments)
    ]
    if _has_master(tensor.dtype):
        state.append(Tensor(f"{tensor.name}.master", tensor.shape, FP32, Role.OPTIMIZER))
        reads: tuple[Tensor, ...] = (_gradient(tensor), *state)
    else:
        reads = (_gradient(tensor), *state, tensor)
    flops = rule.flops_per_value * tensor.elements
    return Stream(f"{tensor.name}.update", StreamKind.OPTIMIZER, reads, (*state, tensor), flops, layers=weight.layers)


def _has_master(kind: DType) -> bool:
    return kind.value_bits < 32


def _state_bytes(tensor: Tensor, rule: Optimizer) -> float:
    state = 4.0 * (rule.moments + _has_master(tensor.dtype))
    return state * tensor.elements + tensor.dense_bytes
