"""Kernel calls as arrays, and what a machine must answer about them: `lower`, `price`, `events`.

A *problem* is a row of numbers that says what is to be computed, in terms every machine understands
(`ProblemColumn`). A *mapping* is a row of numbers that says how one kernel of one family computes it (tile, split,
stored bytes); each family names its own mapping columns. `price` takes both, and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from simsparse.errors import InputError
from simsparse.sparsity import PatternColumn

if TYPE_CHECKING:
    from simsparse.tiles import TileWork
    from simsparse.workload import Workload

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class ProblemKind(IntEnum):
    """What a problem row is."""

    GEMM = 0
    ATTENTION = 1  # score, softmax and value in one
    STREAM = 2
    TRANSFER = 3


class ProblemColumn(IntEnum):
    """Columns of a problem row. Bits are of stored values; bytes and FLOPs are of one call."""

    KIND = 0
    BATCH = 1  # independent products (heads, experts, groups)
    M = 2  # outputs of a layer; cached tokens of an attention
    N = 3  # tokens, pixels; queries of an attention (times query heads that share a KV head)
    K = 4  # reduction; head size of an attention
    A_BITS = 5  # per value, scales included
    B_BITS = 6
    C_BITS = 7
    COMPUTE = 8  # code of the multiplication type, `COMPUTE_TYPES`
    ACCUMULATE_BITS = 9
    NEEDED = 10  # fraction of an attention's score matrix that is needed (about a half if causal)
    VALUE_SIZE = 11  # head size of the values of an attention, else 0
    READ_BYTES = 12  # streams: bytes read; contractions: bytes a fused epilogue adds
    WRITE_BYTES = 13  # streams: bytes written; contractions: bytes a fused epilogue adds (negative: saves)
    STREAM_FLOPS = 14  # elementwise operations (of a stream, or of a fused epilogue)
    STREAM_KIND = 15  # code: index in list(StreamKind), -1 otherwise
    TRANSFER_KIND = 16  # code: index in list(TransferKind), -1 otherwise
    DEVICES = 17  # participants of a transfer
    A_IS_WEIGHT = 18  # 1 where A is a stored weight (may be packed beforehand)
    B_DENSITY = 19  # fraction of B that is nonzero (dual-side sparsity)
    CONV_REUSE = 20  # elements im2col would make per distinct element of B (1 for a matmul)
    TRAIN_STAGE = 21  # `TrainStage`
    PATTERN = 22  # first of the columns of A's pattern (of the scores, in an attention), as in `PatternColumn`


class TrainStage(IntEnum):
    """Which part of a training step a call belongs to; at inference, and for bare products, none."""

    NONE = 0
    FORWARD = 1
    INPUT_GRADIENT = 2
    WEIGHT_GRADIENT = 3
    UPDATE = 4


PROBLEM_WIDTH = int(ProblemColumn.PATTERN) + len(PatternColumn)
# Multiplication types, in the order of `ProblemColumn.COMPUTE` codes.
COMPUTE_TYPES = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8", "int4", "fp4")


def pattern_column(problem: Floats, column: PatternColumn) -> Floats:
    """A column of A's pattern in an array of problems, shape (n,)."""
    return problem[:, int(ProblemColumn.PATTERN) + int(column)]


@dataclass(frozen=True)
class Prices:
    """What an array of n kernel calls costs, one call each.

    Attributes
    ----------
    latency_s : (n,) ndarray
    energy_j : (n,) ndarray
        `dynamic_j` plus what the idle machine burns in the meantime.
    dynamic_j : (n,) ndarray
    terms_s : (n, t) ndarray
        Times that `latency_s` is combined from by the machine's rule, in the order of `term_names`.
    bound : (n,) ndarray of int
        Index into `term_names` of what bounds the call.
    level_bytes : (n, l) ndarray
        Bytes moved at each of `level_names`.
    roofline_s : (n,) ndarray
        Lower bound: the larger of arithmetic over peak and compulsory bytes over peak bandwidth.
    flops : (n,) ndarray
        Dense (effective) FLOPs.
    term_names, level_names : tuple of str
    energy_terms_j : (n, e) ndarray, and its `energy_names`
        Parts that add up to `energy_j`.
    interval : (n, 4) ndarray, optional
        Bounds of 80 % intervals over the predictions, as in `simsparse.intervals.IntervalColumn`; None where the
        machine does not know how far it is off.
    common_interval : (4,) ndarray, optional
        The same for what all calls of a workload are off together.
    """

    latency_s: Floats
    energy_j: Floats
    dynamic_j: Floats
    terms_s: Floats
    bound: Ints
    level_bytes: Floats
    roofline_s: Floats
    flops: Floats
    energy_terms_j: Floats
    term_names: tuple[str, ...]
    level_names: tuple[str, ...]
    energy_names: tuple[str, ...]
    interval: Floats | None = None
    common_interval: Floats | None = None

    def __len__(self) -> int:
        return len(self.latency_s)

    def take(self, index: Ints | Sequence[int]) -> Prices:
        """The rows at `index`."""
        rows = {name: getattr(self, name)[index] for name in _PRICE_ARRAYS}
        return self._with(rows, None if self.interval is None else self.interval[index])

    def _with(self, rows: Mapping[str, NDArray[Any]], interval: Floats | None) -> Prices:
        return Prices(
            **rows, term_names=self.term_names, level_names=self.level_names, energy_names=self.energy_names,
            interval=interval, common_interval=self.common_interval,
        )  # fmt: skip


_PRICE_ARRAYS = (
    "latency_s", "energy_j", "dynamic_j", "terms_s", "bound", "level_bytes", "roofline_s", "flops", "energy_terms_j",
)  # fmt: skip


def concatenate(parts: Sequence[Prices]) -> Prices:
    """Prices of one machine, one after the other."""
    rows = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _PRICE_ARRAYS}
    intervals = [part.interval for part in parts if part.interval is not None]
    return parts[0]._with(rows, np.concatenate(intervals) if len(intervals) == len(parts) else None)


@dataclass(frozen=True)
class Alternative:
    """A kernel that was tried and not taken: its time, or the reason why it cannot run."""

    kernel: str
    latency_s: float | None
    reason: str


@dataclass(frozen=True)
class Call:
    """Names of one row of a plan: which ops it covers, with which kernel, how often, and what else was tried."""

    ops: tuple[str, ...]
    kernel: str
    count: int
    pattern: str
    alternatives: tuple[Alternative, ...] = ()
    layers: tuple[int, ...] = ()
    format: str = "dense"


@dataclass(frozen=True)
class Plan:
    """Kernel calls of one workload, or of bare problems, on one machine.

    Attributes
    ----------
    machine : str
    calls : tuple of Call
        Empty for bare problems.
    problem : (n, PROBLEM_WIDTH) ndarray
    mapping : (n, q) ndarray
        In the family's mapping columns.
    kernel : (n,) ndarray of int
        Index into the family's kernels.
    """

    machine: str
    calls: tuple[Call, ...]
    problem: Floats
    mapping: Floats
    kernel: Ints
    workload: Workload | None = field(default=None, compare=False)

    def covering(self, globs: Collection[str]) -> Plan:
        """The calls that cover an op which one of the globs names.

        Raises
        ------
        InputError
            If none does.
        """
        rows = [
            row
            for row, call in enumerate(self.calls)
            if any(fnmatchcase(name, glob) for name in call.ops for glob in globs)
        ]
        if not rows:
            some = ", ".join(call.ops[0] for call in self.calls[:3])
            raise InputError.expected("op", " ".join(globs), f"a glob that names an op of the plan, such as {some}")
        return replace(
            self, calls=tuple(self.calls[row] for row in rows), problem=self.problem[rows], mapping=self.mapping[rows],
            kernel=self.kernel[rows],
        )  # fmt: skip


# Fields of specs and tables that hold a figure for each type that is multiplied.
_BY_TYPE = frozenset({"mac_rate", "sparse_rate", "macs_per_cycle", "multiply_pj"})


@dataclass(frozen=True)
class Provenance:
    """Where a machine's numbers come from."""

    spec_hash: str
    constants_hash: str
    unverified: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def of_types(self, types: Collection[str]) -> Provenance:
        """Without rates and multiplication energies of types that are not among `types`."""

        def used(name: str) -> bool:
            field, *keys = name.rpartition(": ")[2].split(".")
            return field not in _BY_TYPE or not keys or keys[0] in types

        return replace(self, unverified=tuple(filter(used, self.unverified)), assumed=tuple(filter(used, self.assumed)))


@runtime_checkable
class Machine(Protocol):
    """What the core asks of a machine; anything that answers can be registered."""

    @property
    def name(self) -> str:
        """As a user names it."""

    @property
    def memory_bytes(self) -> float:
        """What weights, cache and activations must fit in; infinite where it does not matter."""

    @property
    def provenance(self) -> Provenance:
        """Hashes, and figures nobody looked up."""

    @property
    def kernel_names(self) -> tuple[str, ...]:
        """Names of its kernels, in the order of the codes in `Plan.kernel`."""

    def lower(self, workload: Workload, *, kernel: str = "best") -> Plan:
        """Decide which kernels run the workload, and how."""

    def lower_problems(self, problem: Floats, *, kernel: str = "best") -> Plan:
        """The same for bare problem rows; the plan has no `calls`."""

    def price(self, plan: Plan) -> Prices:
        """What each call of the plan costs, in closed form."""


@runtime_checkable
class HasRooflines(Protocol):
    """What a machine answers whose results can be drawn under its roofline; its `level_names` have a `dram`."""

    @property
    def dram_bytes_per_s(self) -> float:
        """Peak bandwidth of the memory that weights lie in."""

    def peak_flops_per_s(self, type_name: str, sparse: bool = False) -> float:
        """Peak of a type in `COMPUTE_TYPES`; effective with `sparse`, where zeros of 2:4 count. 0 where unsupported."""


@dataclass(frozen=True)
class Fact:
    """A figure that a price is made of.

    Attributes
    ----------
    topic : str
        What it belongs to: `tiles`, `work`, `rates`, `constants` …
    name : str
    value : float or str
    unit : str
        Empty for counts, fractions and texts.
    source : str
        Where it comes from: a datasheet, a fit, or how it is computed from others.
    """

    topic: str
    name: str
    value: float | str
    unit: str = ""
    source: str = ""


@runtime_checkable
class HasFacts(Protocol):
    """What a machine answers that can take the price of a call apart (`simsparse.explain`)."""

    @property
    def rule(self) -> str:
        """How terms combine to a latency, in formulas."""

    def facts(self, plan: Plan, row: int) -> tuple[Fact, ...]:
        """What the price of one call of a plan is made of, the machine's figures with their sources among it."""


def rule_of(text: str | None) -> str:
    """The first indented formulas of a module's docstring: where a family writes down how its terms combine."""
    lines = (text or "").splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("    ")), len(lines))
    last = next((i for i in range(first, len(lines)) if not lines[i].startswith("    ")), len(lines))
    return "\n".join(line[4:] for line in lines[first:last])


@runtime_checkable
class HasEvents(Protocol):
    """What a machine answers whose plans can be run event by event (`simsparse.events`)."""

    def tiles(self, plan: Plan) -> TileWork:
        """The tiles of each call, from the plan's mapping; nothing from `price`."""


@runtime_checkable
class HasFit(Protocol):
    """What a machine answers whose constants were fitted on rows of measurements."""

    @property
    def fitted_rows(self) -> frozenset[str]:
        """Names (`id`) of those rows."""


@runtime_checkable
class HasArea(Protocol):
    """What a machine answers whose spec says how large it is."""

    @property
    def area_mm2(self) -> float | None:
        """Of the chip; None where a figure is missing."""


@dataclass(frozen=True)
class Roofs:
    """The rooflines a result is drawn under: FLOP/s by name (`fp16`, `fp16 2:4`), and bytes/s of memory."""

    flops_per_s: tuple[tuple[str, float], ...]
    dram_bytes_per_s: float


def compute_types(problem: Floats) -> list[str]:
    """The types in which the products of `problem` are multiplied."""
    products = np.isin(problem[:, ProblemColumn.KIND], (ProblemKind.GEMM, ProblemKind.ATTENTION))
    return [COMPUTE_TYPES[int(code)] for code in np.unique(problem[products, ProblemColumn.COMPUTE])]


def roofs(machine: Machine, problem: Floats) -> Roofs | None:
    """Rooflines of the multiplication types that `problem` uses; None where the machine gives none."""
    if not isinstance(machine, HasRooflines):
        return None
    types = compute_types(problem)
    peaks: list[tuple[str, float]] = []
    for name in types:
        dense, sparse = machine.peak_flops_per_s(name), machine.peak_flops_per_s(name, sparse=True)
        peaks += [(name, dense)] if dense > 0 else []
        peaks += [(f"{name} 2:4", sparse)] if sparse > dense else []
    return Roofs(tuple(peaks), machine.dram_bytes_per_s)
