"""What a measurement row says a machine did, and the `Reader` protocol of those who know how to read one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from simsparse.measurements import Measurement
from simsparse.ops import StreamKind

# Spec fields a row sets, such as the threads of one instance; pairs, so that a reading can be compared.
Changes = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Reading:
    """What all kinds of readings say.

    Attributes
    ----------
    machine : str
        As `load_machine` takes it, with `changes` to its spec.
    kernel : str
        A kernel's name, or `best`.
    pattern : str
        `dense` where nothing is sparse.
    dtype, weight_dtype : str
        Of the activations, and of the weights where they differ (else empty).
    """

    machine: str
    changes: Changes
    kernel: str
    pattern: str
    dtype: str
    weight_dtype: str


@dataclass(frozen=True)
class GemmReading(Reading):
    """One product; M, N and K are the row's. `operand` is the sparse one, or that of the weights."""

    operand: str = "A"
    accumulate_bits: int = 32


@dataclass(frozen=True)
class StreamReading(Reading):
    """A pass over a matrix of `rows` x `columns`: pruned and packed to the pattern (`compress`), or copied."""

    kind: StreamKind = StreamKind.COPY
    rows: int = 1
    columns: int = 1


@dataclass(frozen=True)
class SumReading:
    """Products timed together, one after the other: M, N and K of each, and how it is read; and passes beside them."""

    products: tuple[tuple[tuple[int, int, int], GemmReading], ...]
    streams: tuple[StreamReading, ...] = ()

    @property
    def machine(self) -> str:
        """That of all of them."""
        return self.products[0][1].machine


@dataclass(frozen=True)
class ModelReading(Reading):
    """A step of a model.

    Attributes
    ----------
    workload : str
        As `load_workload` takes it, with `phase`, `batch`, `seq` and `context`.
    on : tuple of str
        Globs of the ops that have the pattern.
    instances : int
        Copies that run at once, each `batch` large.
    part : str
        Glob of the contractions that were timed; empty for the whole step.
    methods : tuple of str
        What the model went through, as `apply_method` takes it.
    verify : int, optional
        Tokens after which the dense model reads them again in one step (a decode with correction).
    """

    workload: str = ""
    phase: str | None = None
    batch: int = 1
    seq: int | None = None
    context: int | None = None
    on: tuple[str, ...] = ("*",)
    instances: int = 1
    part: str = ""
    methods: tuple[str, ...] = ()
    verify: int | None = None


@dataclass(frozen=True)
class AttentionReading(ModelReading):
    """Score, softmax and value of one layer of a model, alone."""


@dataclass(frozen=True)
class Unreadable:
    """A row that cannot be priced, with the reason."""

    reason: str


AnyReading = Reading | SumReading


@runtime_checkable
class Reader(Protocol):
    """Turns measurement rows of the devices it knows into readings."""

    def reading(self, row: Measurement) -> AnyReading | Unreadable | None:
        """How to price a row; None where its device is somebody else's."""
