"""A network written down layer by layer, as in a framework's `forward`, becomes ops and weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simsparse.dtypes import DType
from simsparse.ops import Op, Role, Stream, StreamKind, Tensor, linear
from simsparse.workload import Phase, Weight, Workload
from workloads.convolution import convolution
from workloads.merging import merge_layers


class Network:
    """Ops and weights as they are added; feature maps are `(images, channels, height, width)`.

    Parameters
    ----------
    batch : int
        Images.
    dtype : DType
        Of weights and activations.
    training : bool
        Batch norms take statistics of the batch, in passes of their own; at inference they are folded into the
        convolution before them and only their shift is left, in its epilogue.
    """

    def __init__(self, batch: int, dtype: DType, *, training: bool = False) -> None:
        self.batch = batch
        self.dtype = dtype
        self.training = training
        self.ops: list[Op] = []
        self.weights: list[Weight] = []

    def image(self, channels: int, side: int) -> Tensor:
        """The input."""
        return self._activation("image", (self.batch, channels, side, side))

    def conv(
        self, name: str, x: Tensor, channels: int, kernel: int = 3, *, stride: int = 1, padding: int | None = None,
        groups: int = 1, bias: bool = False,
    ) -> Tensor:  # fmt: skip
        """A convolution; padding keeps the extent (divided by the stride) unless given."""
        pad = kernel // 2 if padding is None else padding
        weight = self._weight(f"{name}.weight", (channels, x.shape[1] // groups, kernel, kernel))
        side = (x.shape[2] + 2 * pad - kernel) // stride + 1
        out = self._activation(f"{name}.out", (self.batch, channels, side, side))
        self.ops.append(convolution(name, weight, x, out, stride=(stride, stride), groups=groups))
        return self._biased(name, out) if bias else out

    def linear(self, name: str, x: Tensor, outputs: int) -> Tensor:
        """A layer with bias on `(images, features)`."""
        weight = self._weight(f"{name}.weight", (outputs, math.prod(x.shape[1:])))
        out = self._activation(f"{name}.out", (self.batch, outputs))
        self.ops.append(linear(name, weight, x, out, tokens=self.batch))
        return self._biased(name, out)

    def batch_norm(self, name: str, x: Tensor) -> Tensor:
        """Scale and shift of each channel; see `training`."""
        channels = (x.shape[1],)
        scale, shift = self._weight(f"{name}.weight", channels), self._weight(f"{name}.bias", channels)
        if self.training:  # mean and variance, then the normalised value: two reads and a write
            return self._stream(name, StreamKind.NORM, (x, x, scale, shift), x.shape, flops_each=8)
        return self._stream(name, StreamKind.BIAS, (x, shift), x.shape, flops_each=1, epilogue=True)

    def relu(self, name: str, x: Tensor) -> Tensor:
        """Any cheap activation."""
        return self._stream(name, StreamKind.ACTIVATION, (x,), x.shape, flops_each=1, epilogue=True)

    def add(self, name: str, x: Tensor, shortcut: Tensor) -> Tensor:
        """The residual sum; `x` is what was made last."""
        return self._stream(name, StreamKind.RESIDUAL, (x, shortcut), x.shape, flops_each=1, epilogue=True)

    def pool(self, name: str, x: Tensor, kernel: int, *, stride: int | None = None, padding: int = 0) -> Tensor:
        """Largest or mean of a window."""
        side = (x.shape[2] + 2 * padding - kernel) // (stride or kernel) + 1
        return self._stream(name, StreamKind.POOL, (x,), (*x.shape[:2], side, side), flops_each=kernel * kernel)

    def global_pool(self, name: str, x: Tensor) -> Tensor:
        """Largest or mean of each channel, `(images, channels)`."""
        return self._stream(name, StreamKind.POOL, (x,), x.shape[:2], flops_each=x.shape[2] * x.shape[3])

    def workload(self, name: str) -> Workload:
        """What was added, as one pass, identical layers together."""
        ops, weights = merge_layers(self.ops, self.weights)
        return Workload(
            name, Phase.ENCODE, self.batch, self.batch, self.dtype, ops, weights,
            activation_bytes=live_bytes(self.ops), unit="image",
        )  # fmt: skip

    def _biased(self, name: str, x: Tensor) -> Tensor:
        bias = self._weight(f"{name}.bias", (x.shape[1],))
        return self._stream(f"{name}.add_bias", StreamKind.BIAS, (x, bias), x.shape, flops_each=1, epilogue=True)

    def _stream(
        self, name: str, kind: StreamKind, reads: tuple[Tensor, ...], shape: tuple[int, ...], *, flops_each: int,
        epilogue: bool = False,
    ) -> Tensor:  # fmt: skip
        out = self._activation(f"{name}.out", shape)
        self.ops.append(Stream(name, kind, reads, (out,), flops=float(flops_each * out.elements), epilogue=epilogue))
        return out

    def _activation(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return Tensor(name, shape, self.dtype, Role.ACTIVATION)

    def _weight(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = Tensor(name, shape, self.dtype, Role.WEIGHT)
        self.weights.append(Weight(tensor))
        return tensor


def live_bytes(ops: Sequence[Op]) -> float:
    """Largest sum of activations alive at once: from the op that makes one to the last that reads it.

    What an epilogue makes takes the place of its first input, if nothing reads that later.
    """
    last_read = {tensor.name: index for index, op in enumerate(ops) for tensor in op.inputs}
    alive: dict[str, float] = {}
    peak = 0.0
    for index, op in enumerate(ops):
        alive |= {t.name: t.dense_bytes for t in (*op.inputs, *op.outputs) if t.role is not Role.WEIGHT}
        if isinstance(op, Stream) and op.epilogue and last_read[op.reads[0].name] == index:
            alive.pop(op.reads[0].name, None)
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last_read.get(name, 0) > index}
    return peak
