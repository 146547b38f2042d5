"""A training step from a forward pass: every op gets its backward ops, every weight its update.

For a product with a weight: `OP.grad_input` (the transposed weight times the output's gradient) and `OP.grad_weight`.
For a product of two activations, A plays the weight's part: `score.grad_input` is the queries' gradient,
`score.grad_weight` the keys'. A stream gets `OP.grad`, a weight `WEIGHT.update`. The gradient of tensor `T` is
`T.grad`; where several ops read `T`, each further part is added by `….accumulate`, an epilogue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from simsparse.dtypes import DType, dtype
from simsparse.errors import InputError
from simsparse.ops import Contraction, ContractionKind, Op, Role, Stream, StreamKind, Tensor
from simsparse.sparsity import DENSE
from simsparse.workload import Phase, Weight, Workload
from workloads._memory import is_activation, live_activation_bytes
from workloads.convolution import conv_gradients

FP32 = dtype("fp32")
# Streams whose gradient follows from the output's alone; all others read their forward inputs again.
_LINEAR = (StreamKind.RESIDUAL, StreamKind.BIAS, StreamKind.GATHER, StreamKind.COPY, StreamKind.ROTARY)


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
    `optimizer_bytes`, together with the gradients of all weights. `activation_bytes` is the larger of what the forward
    pass keeps for the backward pass in all layers, plus what one op needs at a time.

    Raises
    ------
    InputError
        For an unknown optimizer, or a workload that reads a cache or is a training step already.
    """
    rule = Optimizer.named(optimizer)
    if workload.phase not in (Phase.PREFILL, Phase.ENCODE):
        raise InputError.expected("phase of the forward pass", str(workload.phase), "prefill or encode")
    backward = _Backward(workload)
    ops = [*workload.ops, *backward.ops(), *(_update(weight, rule) for weight in workload.weights)]
    state = sum(_state_bytes(w.tensor, rule) * w.count for w in workload.weights)
    return replace(
        workload,
        phase=Phase.TRAIN,
        ops=tuple(ops),
        kv_cache_bytes=0.0,
        activation_bytes=_saved_bytes(workload) + live_activation_bytes(ops),
        optimizer_bytes=state,
    )


@dataclass
class _Backward:
    """The walk from the last op to the first. `_grads` holds the gradient of each tensor that later ops read."""

    workload: Workload

    def __post_init__(self) -> None:
        self._grads: dict[str, Tensor] = {}

    def ops(self) -> Iterator[Op]:
        """Backward ops, in order."""
        for op in reversed(self.workload.ops):
            if isinstance(op, Contraction):
                yield from self._contraction(op)
            elif isinstance(op, Stream):
                yield from self._stream(op)

    def _contraction(self, op: Contraction) -> Iterator[Op]:
        gradient = self._taken(op.out)
        if op.kind is ContractionKind.CONV:
            to_input, to_weight = conv_gradients(op, gradient)
        else:
            to_input, to_weight = _product_gradients(op, gradient)
        yield to_weight
        yield from self._credit(op.a, to_weight)
        if not _is_input(op.b):
            yield to_input
            yield from self._credit(op.b, to_input)

    def _stream(self, op: Stream) -> Iterator[Op]:
        gradients = tuple(self._taken(t) for t in op.writes if t.role is not Role.INDEX)
        sources = tuple(t for t in op.reads if t.role is not Role.INDEX)
        if op.kind is StreamKind.RESIDUAL:
            yield from self._sum(op, gradients[0], sources)
            return
        parts = tuple(_gradient(t) for t in sources)
        # A norm or activation branches off the residual stream: it adds to the gradient that is there, in one pass.
        waiting = tuple(self._grads[t.name] for t in sources if t.name in self._grads and t.role is not Role.WEIGHT)
        saved = () if op.kind in _LINEAR else tuple(t for t in op.reads if t.role is not Role.INDEX)
        indices = tuple(t for t in (*op.reads, *op.writes) if t.role is Role.INDEX)
        reads = (*gradients, *saved, *indices, *waiting)
        yield Stream(f"{op.name}.grad", op.kind, reads, parts, flops=2.0 * op.flops, layers=op.layers)
        for source, part in zip(sources, parts, strict=True):
            self._grads[source.name] = part

    def _sum(self, op: Stream, gradient: Tensor, sources: tuple[Tensor, ...]) -> Iterator[Op]:
        """A residual sum passes its gradient on as it is; only a term read elsewhere too needs an addition."""
        for source in sources:
            if source.elements != gradient.elements:  # a table added to every row: summed over them
                part = _gradient(source)
                yield Stream(f"{op.name}.grad", op.kind, (gradient,), (part,), flops=op.flops, layers=op.layers)
                self._grads[source.name] = part
            elif source.name in self._grads:
                yield self._added(f"{op.name}.grad", self._grads[source.name], gradient, source, op.layers)
            else:
                self._grads[source.name] = gradient

    def _taken(self, tensor: Tensor) -> Tensor:
        """The gradient of what an op made, in the shape the op sees. What nothing reads is the loss's to give."""
        gradient = self._grads.pop(tensor.name, None) or _gradient(tensor)
        return replace(gradient, shape=tensor.shape)

    def _credit(self, tensor: Tensor, op: Contraction) -> Iterator[Op]:
        """Note what `op` made as a gradient of `tensor`, added to what later ops gave it."""
        before = self._grads.get(tensor.name)
        self._grads[tensor.name] = op.out
        if before is not None and before.elements == op.out.elements:
            yield self._added(op.name, op.out, before, tensor, op.layers)

    def _added(self, name: str, made: Tensor, before: Tensor, tensor: Tensor, layers: tuple[int, ...]) -> Stream:
        total = replace(made, name=f"{name}.accumulate.out")
        self._grads[tensor.name] = total
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


def _is_input(tensor: Tensor) -> bool:
    """Whether nothing made it: the data needs no gradient."""
    return tensor.name in ("image", "spectrogram")


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


def _saved_bytes(workload: Workload) -> float:
    """Activations that the backward pass reads again, of all layers: inputs of products and of nonlinear streams."""
    saved: dict[tuple[str, tuple[int, ...]], float] = {}
    for op in workload.ops:
        if isinstance(op, Stream) and op.kind in _LINEAR:
            continue
        for tensor in op.inputs:
            if is_activation(tensor):
                key = (tensor.name, op.layers)
                saved[key] = max(saved.get(key, 0.0), tensor.dense_bytes * op.count)
    return sum(saved.values())
