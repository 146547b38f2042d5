"""What the accelerator runs: products dense or N:M on the array, streams on its vector and update engines."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from accel_models.fpga._search import schedule
from accel_models.fpga.columns import Mapping, Product
from accel_models.fpga.generation import expanded, group_bytes, made_before
from accel_models.fpga.spec import Hardware
from simsparse.machine import Kernel, Refusal
from simsparse.occupancy import implies_nm
from simsparse.plan import COMPUTE_TYPES, Floats, Plan, ProblemColumn, ProblemKind, pattern_column
from simsparse.sparsity import HELD_NM, PatternColumn, PatternKind

C = ProblemColumn
MULTIPLIED = tuple(COMPUTE_TYPES.index(name) for name in ("fp16", "bf16"))
_GROUPED = (PatternKind.NM, PatternKind.VNM, PatternKind.NMV)
# N:M looked for where a pattern has none of its own that the elements take, sparsest first.
_OFFERED = tuple(sorted(HELD_NM, key=lambda nm: nm[0] / nm[1]))


def executed_nm(problem: Floats, max_m: float) -> tuple[Floats, Floats]:
    """N and M by which each row runs, two (n,) arrays; 1 of 1 where its pattern holds no N:M that elements take.

    Its own N:M where M fits; else the sparsest of those offered that it implies.
    """
    patterns = problem[:, C.PATTERN :]
    n, m = np.ones(len(problem)), np.ones(len(problem))
    for offered_n, offered_m in reversed(_OFFERED):
        if offered_m <= max_m:
            holds = implies_nm(patterns, offered_n, offered_m)
            n, m = np.where(holds, offered_n, n), np.where(holds, offered_m, m)
    own_n, own_m = pattern_column(problem, PatternColumn.N), pattern_column(problem, PatternColumn.M)
    own = np.isin(pattern_column(problem, PatternColumn.KIND), _GROUPED) & (own_m <= max_m)
    # An empty group still takes one step.
    return np.where(own, np.maximum(own_n, 1.0), n), np.where(own, own_m, m)


def reuse(problem: Floats) -> Floats:
    """Elements im2col makes of each value of B that is read; strided 1 x 1 convolutions skip what they do not need."""
    return np.maximum(problem[:, C.CONV_REUSE], 1.0) / expanded(problem)


def stored_bytes(problem: Floats, mapping: Floats) -> Floats:
    """Bytes that each row writes: its output, with what a fused epilogue adds, or writes in its place."""
    return np.maximum(mapping[:, Mapping.C_BYTES] + problem[:, C.WRITE_BYTES], 0.0)


def products(problem: Floats, n: Floats, m: Floats) -> Floats:
    """What the schedule needs of each row, (len(problem), len(Product))."""
    a_bytes = group_bytes(problem, n, m)
    rows = np.zeros((len(problem), len(Product)))
    for column, value in (
        (Product.BATCH, problem[:, C.BATCH]), (Product.M, problem[:, C.M]), (Product.N, problem[:, C.N]),
        (Product.K, problem[:, C.K]), (Product.KEPT, n), (Product.GROUP, m), (Product.A_GROUP_BYTES, a_bytes),
        (Product.A_READ_BYTES, a_bytes / expanded(problem)),
        (Product.B_BYTES, problem[:, C.B_BITS] / 8 / reuse(problem)),
        (Product.C_BYTES, problem[:, C.C_BITS] / 8), (Product.SUM_BYTES, problem[:, C.ACCUMULATE_BITS] / 8),
    ):  # fmt: skip
        rows[:, column] = value
    return rows


def padding_note(plan: Plan) -> tuple[str, ...]:
    """A sentence on the reductions that are padded to whole groups, if any: how many, and the one padded most."""
    k, m = plan.mapping[:, Mapping.K], np.maximum(plan.mapping[:, Mapping.GROUP], 1.0)
    padded = np.ceil(k / m) * m
    rows = np.flatnonzero((plan.mapping[:, Mapping.KEPT] < m) & (padded > k))
    if not rows.size:
        return ()
    worst = rows[int(np.argmax(padded[rows] / k[rows]))]
    name = plan.calls[worst].ops[0] if plan.calls else f"row {worst}"
    return (
        f"M does not divide the reduction of {len(rows)} products, which are padded to whole groups: at most from "
        f"{k[worst]:.0f} to {padded[worst]:.0f} ({name})",
    )


def _other_type(problem: Floats) -> NDArray[np.bool_]:
    return ~np.isin(problem[:, C.COMPUTE], MULTIPLIED)


class DenseKernel(Kernel):
    """A product with every weight multiplied, zeros too."""

    name = "sat-dense"

    def __init__(self, hardware: Floats) -> None:
        self.hardware = hardware

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Types the elements do not multiply."""
        yield _other_type(problem), "elements multiply fp16 and bf16 only"

    def map(self, problem: Floats) -> Floats:
        """Best dataflow and tiles."""
        one = np.ones(len(problem))
        return schedule(self.hardware, products(problem, one, one))


class NMKernel(Kernel):
    """A product whose A is N:M along the reduction: elements multiply N of every M."""

    name = "sat-nm"

    def __init__(self, hardware: Floats) -> None:
        self.hardware = hardware
        self.max_m = float(hardware[0, Hardware.MAX_M])

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Types, and patterns that hold no N:M which elements take."""
        yield _other_type(problem), "elements multiply fp16 and bf16 only"
        yield pattern_column(problem, PatternColumn.KIND) == PatternKind.DENSE, "nothing is zero"
        n, m = executed_nm(problem, self.max_m)
        wide = np.isin(pattern_column(problem, PatternColumn.KIND), _GROUPED) & (
            pattern_column(problem, PatternColumn.M) > self.max_m
        )
        yield wide & (n >= m), f"M is larger than the {self.max_m:.0f} that elements take"
        yield n >= m, "the pattern guarantees no N:M with N < M along the reduction"

    def map(self, problem: Floats) -> Floats:
        """Best dataflow and tiles."""
        n, m = executed_nm(problem, self.max_m)
        return made_before(self.hardware, problem, schedule(self.hardware, products(problem, n, m)))


class ShrunkKernel(DenseKernel):
    """A smaller dense product: what is left when whole outputs or slices of the reduction are gone."""

    name = "sat-shrunk"
    patterns = (PatternKind.ROWS, PatternKind.SLICE)
    made_for = "no whole rows or slices are zero"

    def map(self, problem: Floats) -> Floats:
        """Best dataflow and tiles of what is left."""
        kept = pattern_column(problem, PatternColumn.DENSITY)
        column = np.where(pattern_column(problem, PatternColumn.KIND) == PatternKind.ROWS, int(C.M), int(C.K))
        rows, shrunk = np.arange(len(problem)), problem.copy()
        shrunk[rows, column] = np.maximum(np.rint(shrunk[rows, column] * kept), 1.0)
        return super().map(shrunk)


class StreamKernel(Kernel):
    """Norms, activations, residuals and the update of weights, bound by memory or by their engine."""

    name = "sat-stream"
    kinds = (ProblemKind.STREAM,)

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """None."""
        return iter(())

    def map(self, problem: Floats) -> Floats:
        """Nothing to choose."""
        return np.zeros((len(problem), len(Mapping)))
