"""What a workload is made of: contractions (einsums), streams (anything bound by bytes) and transfers.

All three are frozen values. An op that is the same in many layers is one value with `layers`, the indices of those
layers; its name keeps a `*` where the index stands (`layers.*.mlp.up_proj`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from simsparse.dtypes import DType
from simsparse.errors import InputError
from simsparse.sparsity import DENSE, Pattern

MAX_BYTES = 2**63


class Role(StrEnum):
    """What a tensor is for; it decides what may be pruned and what has to stay in memory."""

    WEIGHT = "weight"
    ACTIVATION = "activation"
    SCORE = "score"
    KV_CACHE = "kv_cache"
    GRADIENT = "gradient"
    OPTIMIZER = "optimizer"
    INDEX = "index"


@dataclass(frozen=True)
class Tensor:
    """A named tensor.

    Attributes
    ----------
    name : str
        Unique within a workload; ops that share a name share the data.
    shape : tuple of int
        Extents, all at least 1.
    dtype : DType
    role : Role
    pattern : Pattern
        What is zero in it. Over a weight, N:M runs along the reduction.
    transposed : bool
        This is the transposed view of the tensor that owns the name (a weight in the input-gradient product).
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    role: Role
    pattern: Pattern = DENSE
    transposed: bool = False

    def __post_init__(self) -> None:
        for extent in self.shape:
            if extent < 1:
                raise InputError.expected(f"shape of {self.name}", self.shape, "extents of at least 1")
        if self.dense_bytes >= MAX_BYTES:
            raise InputError.expected(f"shape of {self.name}", self.shape, "fewer than 2^63 bytes")

    @cached_property
    def elements(self) -> int:
        """Values, zeros included."""
        return math.prod(self.shape)

    @cached_property
    def dense_bytes(self) -> float:
        """Bytes if stored dense."""
        return self.dtype.bytes_of(self.elements)


# An axis of a tensor is a sum of dimensions with coefficients: (("p", 2), ("r", 1)) is 2·p + r (stride 2).
Axis = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Op(ABC):
    """What all ops share.

    Attributes
    ----------
    name : str
        With a `*` for the layer index where `layers` is not empty.
    layers : tuple of int
        Layers this op stands for; empty for an op that occurs once.
    """

    name: str
    layers: tuple[int, ...] = field(default=(), kw_only=True)

    @property
    def count(self) -> int:
        """How many times it runs."""
        return max(1, len(self.layers))

    def instances(self) -> list[tuple[int, str]]:
        """Layer index and full name of each instance; `[(0, name)]` for an op that occurs once."""
        if not self.layers:
            return [(0, self.name)]
        return [(layer, self.name.replace("*", str(layer), 1)) for layer in self.layers]

    @property
    @abstractmethod
    def inputs(self) -> tuple[Tensor, ...]:
        """Tensors it reads."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[Tensor, ...]:
        """Tensors it writes."""


class ContractionKind(StrEnum):
    """How a contraction is met in practice; pricing differs for the two attention products."""

    MATMUL = "matmul"
    CONV = "conv"
    SCORE = "score"  # softmax input: K · Qᵀ
    VALUE = "value"  # Vᵀ · P


@dataclass(frozen=True)
class GemmView:
    """A contraction as `batch` independent products `C[M,N] = A[M,K] · B[K,N]`."""

    batch: int
    m: int
    n: int
    k: int


@dataclass(frozen=True)
class Contraction(Op):
    """An einsum of two tensors over named dimensions.

    Dimensions found in A, B and the output are batch; in A and output M; in B and output N; in A and B only K.
    For a layer with weights A is the weight: M is output features, N tokens (or pixels), K the reduction.

    Attributes
    ----------
    dims : tuple of (name, extent)
    a, b, out : Tensor
    a_axes, b_axes, out_axes : tuple of Axis
        How the dimensions index each tensor; an axis may be a sum (`stride·p + dilation·r`).
    kind : ContractionKind
    groups : tuple (hit, total), optional
        Ragged grouping (mixture of experts): the N columns are dealt out to `hit` of `total` matrices A, each column
        to one. A holds all `total` on its first axis, which is no dimension. FLOPs count each column once.
    needed : float
        Fraction of the score matrix that is needed (causal: about a half; a sliding window: less). FLOPs still count
        all of it, as PyTorch's counter does; pricing does not.
    """

    dims: tuple[tuple[str, int], ...]
    a: Tensor
    b: Tensor
    out: Tensor
    a_axes: tuple[Axis, ...]
    b_axes: tuple[Axis, ...]
    out_axes: tuple[Axis, ...]
    kind: ContractionKind = ContractionKind.MATMUL
    groups: tuple[float, int] | None = None
    needed: float = 1.0

    def __post_init__(self) -> None:
        extents = dict(self.dims)
        for label, extent in self.dims:
            if extent < 1:
                raise InputError.expected(f"{self.name}: dimension {label}", extent, "at least 1")
        if not 0.0 < self.needed <= 1.0:
            raise InputError.expected(f"{self.name}: needed", self.needed, "a fraction above 0, at most 1")
        for axes in (self.a_axes, self.b_axes, self.out_axes):
            for label in _labels(axes):
                if label not in extents:
                    raise InputError.expected(f"{self.name}: axis", label, f"one of {', '.join(extents)}")

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """A and B."""
        return (self.a, self.b)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The product."""
        return (self.out,)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of the dense product, of one instance."""
        return math.prod(extent for _, extent in self.dims)

    @property
    def flops(self) -> int:
        """Two per MAC."""
        return 2 * self.macs

    @cached_property
    def gemm(self) -> GemmView:
        """The product as a batch of GEMMs.

        With `groups`, hit groups are rounded, and the tokens of one, rounded up, are N; or K, where the output holds
        the groups (the weight gradient of a mixture of experts). Prices take the expectations instead.
        """
        in_a, in_b, in_out = (set(_labels(x)) for x in (self.a_axes, self.b_axes, self.out_axes))
        sizes = {"batch": 1, "m": 1, "n": 1, "k": 1}
        for label, extent in self.dims:
            if label in in_a and label in in_b:
                sizes["batch" if label in in_out else "k"] *= extent
            else:
                sizes["m" if label in in_a else "n"] *= extent
        if self.groups is not None:
            hit = max(1, round(self.groups[0]))
            sizes["batch"] *= hit
            ragged = "k" if len(self.out.shape) > len(self.out_axes) else "n"
            sizes[ragged] = -(-sizes[ragged] // hit)
        return GemmView(**sizes)

    @property
    def weight(self) -> Tensor | None:
        """The operand that is a weight, if any."""
        return next((t for t in self.inputs if t.role is Role.WEIGHT), None)

    def with_tensors(
        self, *, a: Tensor | None = None, b: Tensor | None = None, out: Tensor | None = None
    ) -> Contraction:  # fmt: skip
        """The same product over other tensors, where they are given."""
        return replace(self, a=a or self.a, b=b or self.b, out=out or self.out)


def _labels(axes: Iterable[Axis]) -> Iterable[str]:
    return (label for axis in axes for label, _ in axis)


def plain_axes(labels: str | Iterable[str]) -> tuple[Axis, ...]:
    """Axes that are one dimension each: `"mk"` or `["out", "in"]`."""
    return tuple(((label, 1),) for label in labels)


class StreamKind(StrEnum):
    """What a stream does; kernels that fuse ask for it."""

    NORM = "norm"
    SOFTMAX = "softmax"
    ACTIVATION = "activation"
    GATHER = "gather"
    ROTARY = "rotary"
    RESIDUAL = "residual"
    BIAS = "bias"
    TOPK = "topk"
    POOL = "pool"
    OPTIMIZER = "optimizer"
    PRUNE = "prune"
    COMPRESS = "compress"
    COPY = "copy"


@dataclass(frozen=True)
class Stream(Op):
    """An op whose time is that of its bytes.

    Attributes
    ----------
    kind : StreamKind
    reads, writes : tuple of Tensor
        What crosses memory when it runs alone. A gather reads only the rows it needs: give a tensor of that shape.
    flops : float
        Elementwise operations of one instance.
    epilogue : bool
        May run inside the kernel that makes its first input (bias, activation, residual, gate), as real libraries do.
    """

    kind: StreamKind
    reads: tuple[Tensor, ...]
    writes: tuple[Tensor, ...]
    flops: float = 0.0
    epilogue: bool = False

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """`reads`."""
        return self.reads

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """`writes`."""
        return self.writes


class TransferKind(StrEnum):
    """Who talks to whom."""

    ALL_REDUCE = "all_reduce"
    ALL_GATHER = "all_gather"
    REDUCE_SCATTER = "reduce_scatter"
    POINT_TO_POINT = "point_to_point"
    HOST_DEVICE = "host_device"


@dataclass(frozen=True)
class Transfer(Op):
    """Data that moves between devices.

    Attributes
    ----------
    kind : TransferKind
    tensor : Tensor
        What is moved (whole, before sharding).
    devices : int
        Participants.
    """

    kind: TransferKind
    tensor: Tensor
    devices: int = 2

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The moved tensor."""
        return (self.tensor,)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The moved tensor."""
        return (self.tensor,)


def linear(
    name: str, weight: Tensor, x: Tensor, out: Tensor, *, tokens: int, layers: tuple[int, ...] = (),
    groups: tuple[float, int] | None = None,
) -> Contraction:  # fmt: skip
    """A layer `out[tokens, M] = x[tokens, K] · weight[M, K]ᵀ` as a contraction with A = weight.

    With `groups`, `weight` is `[total, M, K]` and `tokens` counts each token once per expert it visits.
    """
    m, k = weight.shape[-2:]
    return Contraction(
        name, (("m", m), ("n", tokens), ("k", k)), weight, x, out, plain_axes("mk"), plain_axes("nk"), plain_axes("nm"),
        layers=layers, groups=groups,
    )  # fmt: skip
