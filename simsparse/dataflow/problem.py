"""What is computed: any contraction of tensors whose axes are sums of dimensions, with the density of each tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from simsparse.dataflow._arrays import DensityKind
from simsparse.dataflow.density import DENSE, Density, of_pattern
from simsparse.errors import InputError, UnknownNameError
from simsparse.ops import Axis, Contraction


@dataclass(frozen=True)
class Operand:
    """A tensor of a problem.

    Attributes
    ----------
    name : str
    axes : tuple of Axis
        How dimensions index it; an axis may be a sum, such as `(("p", 2), ("r", 1))`.
    density : Density
    """

    name: str
    axes: tuple[Axis, ...]
    density: Density = DENSE

    @cached_property
    def dims(self) -> frozenset[str]:
        """Dimensions that index it."""
        return frozenset(dim for axis in self.axes for dim, _ in axis)


@dataclass(frozen=True)
class Problem:
    """A contraction: the sum over all points of the dimensions of the product of the inputs.

    Attributes
    ----------
    dims : tuple of (name, extent)
    tensors : tuple of Operand
        Inputs and the output.
    output : str
        Name of the tensor that is written.

    Raises
    ------
    InputError
        For an extent below 1, an axis over an unknown dimension, a dimension on two axes of one tensor, a mask of
        another shape than its tensor.
    """

    dims: tuple[tuple[str, int], ...]
    tensors: tuple[Operand, ...]
    output: str
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        extents = dict(self.dims)
        for dim, extent in self.dims:
            if extent < 1:
                raise InputError.expected(f"dimension {dim}", extent, "at least 1")
        if self.output not in self.names:
            raise UnknownNameError.near("tensor", self.output, self.names)
        for tensor in self.tensors:
            seen: set[str] = set()
            for axis in tensor.axes:
                for dim, coefficient in axis:
                    if dim not in extents:
                        raise InputError.expected(f"axis of tensor {tensor.name}", dim, f"one of {', '.join(extents)}")
                    if dim in seen:
                        raise InputError(f"dimension {dim} is twice in tensor {tensor.name}, expected once")
                    if coefficient < 1:
                        raise InputError.expected(
                            f"coefficient of {dim} in tensor {tensor.name}", coefficient, "1 or more"
                        )
                    seen.add(dim)
            tensor.density.check(tensor.name, self.shape(tensor.name))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors."""
        return tuple(tensor.name for tensor in self.tensors)

    @cached_property
    def dim_names(self) -> tuple[str, ...]:
        """Names of the dimensions."""
        return tuple(dim for dim, _ in self.dims)

    @cached_property
    def operations(self) -> int:
        """Multiply-accumulates of the dense problem."""
        return math.prod(extent for _, extent in self.dims)

    @cached_property
    def masked(self) -> bool:
        """Whether a tensor has a real mask."""
        return any(tensor.density.kind is DensityKind.ASKED for tensor in self.tensors)

    def tensor(self, name: str) -> Operand:
        """The tensor of a name."""
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise UnknownNameError.near("tensor", name, self.names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Extents of a tensor along its axes; the halo of a sum of dimensions is in it."""
        extents = dict(self.dims)
        return tuple(1 + sum(c * (extents[dim] - 1) for dim, c in axis) for axis in self.tensor(name).axes)

    def with_densities(self, densities: Mapping[str, Density]) -> Problem:
        """The same problem with other densities."""
        for name in densities:
            self.tensor(name)
        return replace(self, tensors=tuple(replace(t, density=densities.get(t.name, t.density)) for t in self.tensors))

    @classmethod
    def gemm(cls, m: int, n: int, k: int, a: Density = DENSE, b: Density = DENSE) -> Problem:
        """`C[M,N] = A[M,K] · B[K,N]`."""
        axes = {"A": "MK", "B": "KN", "C": "MN"}
        density = {"A": a, "B": b}
        tensors = tuple(
            Operand(name, tuple(((dim, 1),) for dim in dims), density.get(name, DENSE)) for name, dims in axes.items()
        )
        return cls((("M", m), ("N", n), ("K", k)), tensors, "C")

    @classmethod
    def from_contraction(cls, op: Contraction) -> Problem:
        """A contraction of a workload, with the patterns of its tensors as densities; tensors are A, B and C.

        One that is grouped raggedly is taken as its batch of products.
        """
        if op.groups is not None:
            view = op.gemm
            return replace(cls.gemm(view.m, view.n, view.k).batched(view.batch), name=op.name)
        parts = (("A", op.a, op.a_axes), ("B", op.b, op.b_axes), ("C", op.out, op.out_axes))
        plain = cls(op.dims, tuple(Operand(name, axes) for name, _, axes in parts), "C", name=op.name)
        return plain.with_densities(
            {name: of_pattern(tensor.pattern, *plain.rank_and_lead(name)) for name, tensor, _ in parts if name != "C"}
        )

    def rank_and_lead(self, name: str) -> tuple[int, int]:
        """Axes of a tensor, and how many of them come first that are batches: dimensions of all tensors."""
        axes = self.tensor(name).axes
        shared = set(self.dim_names).intersection(*(tensor.dims for tensor in self.tensors))
        of_batches = [all(dim in shared for dim, _ in axis) for axis in axes]
        return len(axes), next((at for at, batch in enumerate(of_batches) if not batch), len(axes))

    def batched(self, count: int) -> Problem:
        """As many of this problem, each with tensors of its own."""
        tensors = tuple(replace(tensor, axes=((("batch", 1),), *tensor.axes)) for tensor in self.tensors)
        return replace(self, dims=(("batch", count), *self.dims), tensors=tensors)

    def covered(self, extents: Mapping[str, int]) -> Problem:
        """What loops over larger extents work on: the problem itself, as edges are clipped; padded with a real mask."""
        return self.padded(extents) if self.masked and extents != dict(self.dims) else self

    def padded(self, extents: Mapping[str, int]) -> Problem:
        """The same problem with larger extents; the padding is zero, and stored as zeros of the tensor are."""
        grown = replace(
            self,
            dims=tuple((dim, extents.get(dim, extent)) for dim, extent in self.dims),
            tensors=tuple(replace(tensor, density=DENSE) for tensor in self.tensors),
        )
        return grown.with_densities(
            {t.name: t.density.padded(self.shape(t.name), grown.shape(t.name)) for t in self.tensors}
        )

    @property
    def width(self) -> int:
        """Columns of dimensions in the arrays."""
        return max(2, len(self.dims))
