"""A workload: the ops of one step of a model, the weights behind them, and what can be asked of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict, Unpack

from simsparse.dtypes import DType
from simsparse.errors import InputError
from simsparse.ops import Contraction, Op, Tensor
from simsparse.sparsity import Pattern

if TYPE_CHECKING:
    import networkx


class Phase(StrEnum):
    """Which step of the model runs."""

    PREFILL = "prefill"
    DECODE = "decode"
    ENCODE = "encode"
    TRAIN = "train"


@dataclass(frozen=True)
class Weight:
    """A stored parameter tensor and the layers that own one each.

    `tensor.name` is the op's name plus what it is (`layers.*.mlp.up_proj.weight`); `layers` as in `Op`.
    A tied weight is listed once.
    """

    tensor: Tensor
    layers: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many of them there are."""
        return max(1, len(self.layers))


class Memory(TypedDict, total=False):
    """What memory holds besides the weights while a step runs, in bytes."""

    kv_cache_bytes: float
    activation_bytes: float
    optimizer_bytes: float


class Changes(Memory, total=False):
    """Fields of a workload that transforms replace."""

    name: str
    ops: tuple[Op, ...]
    weights: tuple[Weight, ...]
    devices: int
    stages: int
    origin: Workload | None


@dataclass(frozen=True)
class Workload:
    """One step of one model.

    Attributes
    ----------
    name : str
        A name a user would give: `llama-2-7b`.
    phase : Phase
    batch : int
        Sequences (or images) side by side.
    tokens : int
        Tokens (or images) the step produces results for, over the whole batch; what throughput counts.
    dtype : DType
        Default type of weights and activations.
    ops : tuple of Op
        In order of execution.
    weights : tuple of Weight
        Every parameter of the model, whether an op reads it or not.
    unit : str
        What `tokens` counts: `token`, `image`, or `run` where nobody said.
    kv_cache_bytes, activation_bytes, optimizer_bytes : float
        What memory holds besides the weights while the step runs; activation is the live peak, not the sum.
    devices : int
        How many devices share the work (tensor or pipeline parallel); ops are those of one of them.
    stages : int
        Into how many stages a naive pipeline cuts it: ops are those of all stages in turn (of one device each), memory
        and weights are of the largest stage, and while one stage works the others idle. Divides `devices`.
    transforms : tuple of str
        What was done to the extracted model, in order, as text.
    seq, context : int, optional
        New tokens of each sequence and tokens cached before, where the model counts in them.
    assumed : tuple of str
        Which of these nobody asked for.
    origin : Workload, optional
        The workload before transforms that leave work out; what speedup is over.
    """

    name: str
    phase: Phase
    batch: int
    tokens: int
    dtype: DType
    ops: tuple[Op, ...]
    weights: tuple[Weight, ...] = ()
    kv_cache_bytes: float = 0.0
    activation_bytes: float = 0.0
    optimizer_bytes: float = 0.0
    devices: int = 1
    stages: int = 1
    unit: str = "token"
    transforms: tuple[str, ...] = ()
    seq: int | None = None
    context: int | None = None
    assumed: tuple[str, ...] = ()
    origin: Workload | None = None

    def __post_init__(self) -> None:
        for label in ("batch", "tokens", "devices"):
            if getattr(self, label) < 1:
                raise InputError.expected(label, getattr(self, label), "at least 1")
        if self.stages < 1 or self.devices % self.stages:
            raise InputError.expected("stages", self.stages, f"a divisor of {self.devices} devices")
        if not self.ops:
            raise InputError(f"workload {self.name!r} has no ops, expected at least one")
        seen: dict[str, set[int]] = {}
        for op in self.ops:
            layers = seen.setdefault(op.name, set())
            if not layers.isdisjoint(op.layers or (0,)):
                raise InputError.expected("op", op.name, "a name that no other op of the workload has")
            layers.update(op.layers or (0,))

    @cached_property
    def parameters(self) -> int:
        """Stored parameters, zeros included, tied ones once."""
        return sum(w.tensor.elements * w.count for w in self.weights)

    @cached_property
    def flops(self) -> int:
        """Dense FLOPs of matmuls and convolutions (2 per MAC, full score matrix)."""
        return sum(op.flops * op.count for op in self.contractions())

    def contractions(self) -> Iterator[Contraction]:
        """The contractions, in order."""
        return (op for op in self.ops if isinstance(op, Contraction))

    def transformed(self, how: str, **changes: Unpack[Changes]) -> Workload:
        """A copy with `changes` that remembers `how` it was made."""
        return replace(self, transforms=(*self.transforms, how), **changes)

    def with_sparsity(self, patterns: Mapping[str, str | Pattern], *, seed: int = 0) -> Workload:
        """Put patterns on the tensors that globs name; see `simsparse.transforms.with_sparsity`."""
        from simsparse.transforms import with_sparsity

        return with_sparsity(self, patterns, seed=seed)

    def graph(self) -> networkx.DiGraph[int]:
        """The ops as a DAG: an edge from the op that makes a tensor to each that reads it (attribute `tensor`)."""
        import networkx as nx

        graph: networkx.DiGraph[int] = nx.DiGraph(name=self.name)
        maker: dict[str, int] = {}
        for index, op in enumerate(self.ops):
            graph.add_node(index, op=op, name=op.name)
            for tensor in op.inputs:
                if tensor.name in maker and maker[tensor.name] != index:
                    graph.add_edge(maker[tensor.name], index, tensor=tensor.name)
            for tensor in op.outputs:
                maker[tensor.name] = index
        return graph
