"""The list of ops that a builder fills: every method appends ops and the weights they read, and returns what they make.

Names: a weight is `MODULE.weight` or `MODULE.bias`; what an op makes is `OP.out`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from simsparse import ops as op_types
from simsparse.ops import Contraction, Op, Role, Stream, StreamKind, Tensor
from simsparse.workload import Weight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simsparse.dtypes import DType
    from workloads.architecture import Linear, Norm

# Elementwise operations a value, as counted for `Stream.flops`.
NORM_FLOPS = 6.0
SOFTMAX_FLOPS = 5.0
ACTIVATION_FLOPS = 4.0
ROTARY_FLOPS = 3.0


class OpList:
    """Ops and weights of a model under construction.

    Parameters
    ----------
    kind : DType
        Of weights and activations.
    cache_kind : DType
        Of the KV cache.
    """

    def __init__(self, kind: DType, cache_kind: DType) -> None:
        self.kind = kind
        self.cache_kind = cache_kind
        self.ops: list[Op] = []
        self.weights: list[Weight] = []
        self._layers: tuple[int, ...] = ()
        self._stored: set[tuple[str, tuple[int, ...]]] = set()

    @contextmanager
    def layers(self, layers: tuple[int, ...]) -> Iterator[None]:
        """What is added inside stands for each of `layers`."""
        self._layers = layers
        yield
        self._layers = ()

    def tensor(self, name: str, shape: tuple[int, ...], role: Role = Role.ACTIVATION) -> Tensor:
        """A tensor of the default type, or of the cache's."""
        return Tensor(name, shape, self.cache_kind if role is Role.KV_CACHE else self.kind, role)

    def weight(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A stored parameter; listed once if named again."""
        tensor = Tensor(name, shape, self.kind, Role.WEIGHT)
        if (name, self._layers) not in self._stored:
            self._stored.add((name, self._layers))
            self.weights.append(Weight(tensor, self._layers))
        return tensor

    def contraction(self, op: Contraction) -> Tensor:
        """Append a product made elsewhere."""
        self.ops.append(op)
        return op.out

    @property
    def current_layers(self) -> tuple[int, ...]:
        """Layers that what is added now stands for."""
        return self._layers

    def linear(self, module: str, layer: Linear, x: Tensor, tokens: int, *, weight: Tensor | None = None) -> Tensor:
        """A layer with its bias; `weight` where another module owns it."""
        weight = weight or self.weight(f"{module}.weight", (layer.outputs, layer.inputs))
        out = self.tensor(f"{module}.out", (tokens, layer.outputs))
        self.ops.append(op_types.linear(module, weight, x, out, tokens=tokens, layers=self._layers))
        if layer.bias:
            out = self.bias(module, out, layer.outputs)
        return out

    def bias(self, module: str, x: Tensor, size: int) -> Tensor:
        """Add a module's bias to what it made."""
        bias = self.weight(f"{module}.bias", (size,))
        return self.elementwise(StreamKind.BIAS, f"{module}.add_bias", (x, bias))

    def elementwise(
        self, kind: StreamKind, name: str, reads: tuple[Tensor, ...], *, flops_per_value: float = 1.0
    ) -> Tensor:
        """A stream shaped like its first input, which may run in the kernel that makes it."""
        out = self.tensor(f"{name}.out", reads[0].shape)
        self.stream(kind, name, reads, (out,), flops=flops_per_value * out.elements, epilogue=True)
        return out

    def stream(
        self, kind: StreamKind, name: str, reads: tuple[Tensor, ...], writes: tuple[Tensor, ...], *,
        flops: float = 0.0, epilogue: bool = False,
    ) -> None:  # fmt: skip
        """Any stream."""
        self.ops.append(Stream(name, kind, reads, writes, flops, epilogue, layers=self._layers))

    def norm(self, module: str, norm: Norm, x: Tensor, *, size: int | None = None) -> Tensor:
        """A norm over the last `size` values (default: the whole last axis) of `x`."""
        size = size or x.shape[-1]
        parameters = [self.weight(f"{module}.{label}", (size,)) for label in ("weight", "bias") if getattr(norm, label)]
        out = self.tensor(f"{module}.out", x.shape)
        self.stream(StreamKind.NORM, module, (x, *parameters), (out,), flops=NORM_FLOPS * x.elements)
        return out

    def gather(self, name: str, table: Tensor, rows: int, index: Tensor | None = None) -> Tensor:
        """Rows of a table; reads no more than these."""
        read = Tensor(table.name, (rows, table.shape[-1]), table.dtype, table.role)
        out = self.tensor(f"{name}.out", read.shape)
        self.stream(StreamKind.GATHER, name, (read,) if index is None else (read, index), (out,))
        return out
