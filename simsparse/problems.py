"""Ops as problem rows: the numbers that machines price (`simsparse.plan.ProblemColumn`)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simsparse.dtypes import DType, dtype
from simsparse.errors import InputError
from simsparse.ops import (
    MAX_BYTES,
    Contraction,
    ContractionKind,
    Op,
    Role,
    Stream,
    StreamKind,
    Tensor,
    Transfer,
    TransferKind,
)
from simsparse.plan import COMPUTE_TYPES, PROBLEM_WIDTH, Floats, ProblemColumn, ProblemKind, TrainStage
from simsparse.sparsity import DENSE, Pattern, PatternKind, parse

C = ProblemColumn
MAX_EXTENT = 2**40
_STREAM_CODES = {kind: index for index, kind in enumerate(StreamKind)}
_TRANSFER_CODES = {kind: index for index, kind in enumerate(TransferKind)}
# Suffixes of the ops that the expansion into a training step adds; all others run forward.
_STAGES = {
    "grad_input": TrainStage.INPUT_GRADIENT,
    "grad": TrainStage.INPUT_GRADIENT,
    "accumulate": TrainStage.INPUT_GRADIENT,
    "grad_weight": TrainStage.WEIGHT_GRADIENT,
    "update": TrainStage.UPDATE,
}


def compute_code(a: DType, b: DType) -> int:
    """Code of the type in which A times B is multiplied: their common type, else that of the wider operand."""
    wider = a if a.value_bits >= b.value_bits else b
    return COMPUTE_TYPES.index(wider.name if wider.name in COMPUTE_TYPES else "fp32")


def gemm_problems(
    m: ArrayLike,
    n: ArrayLike,
    k: ArrayLike,
    *,
    pattern: str | Pattern = DENSE,
    sparse_operand: str = "A",
    a_dtype: str | DType = "fp16",
    b_dtype: str | DType | None = None,
    c_dtype: str | DType | None = None,
    accumulate_bits: int = 32,
    batch: ArrayLike = 1,
    density: ArrayLike | None = None,
    other_density: ArrayLike = 1.0,
) -> Floats:
    """Problem rows of products `C[M,N] = A[M,K] · B[K,N]`.

    Parameters
    ----------
    m, n, k, batch : array_like of int, broadcast to (n,)
    pattern : str or Pattern
        Of the sparse operand; N:M along K.
    sparse_operand : "A" or "B"
        A product whose B is sparse is priced as its transpose, `Cᵀ = Bᵀ · Aᵀ`.
    density : array_like, optional
        Densities that replace the pattern's, one a row (for sweeps over sparsity).

    other_density : array_like
        Fraction of the operand without the pattern that is nonzero, for machines that skip zeros of both.

    Returns
    -------
    (n, PROBLEM_WIDTH) ndarray

    Raises
    ------
    InputError
        For an extent below 1 or above 2^40, no extents or ones that do not broadcast, an operand that is not A or B, a
        density outside [0, 1], a pattern of attention scores.
    """
    if sparse_operand not in ("A", "B"):
        raise InputError.expected("sparse_operand", sparse_operand, "'A' or 'B'")
    if accumulate_bits not in (16, 32, 64):
        raise InputError.expected("accumulate_bits", accumulate_bits, "16, 32 or 64")
    if sparse_operand == "B":
        m, n = n, m
    densities = 1.0 if density is None else np.asarray(density, dtype=np.float64)
    m, n, k, batch, kept = _side_by_side(m, n, k, batch, densities)
    for label, extent in (("M", m), ("N", n), ("K", k), ("batch", batch)):
        _check_extents(label if sparse_operand == "A" else {"M": "N", "N": "M"}.get(label, label), extent)
    a = dtype(a_dtype)
    b = dtype(b_dtype) if b_dtype is not None else a
    c = dtype(c_dtype) if c_dtype is not None else _output_type(a, b)
    pairs = combinations([np.asarray(extent, dtype=np.float64) for extent in (m, n, k)], 2)
    largest = max(float(np.max(x * y * batch)) for x, y in pairs) * max(a.bits, b.bits, c.bits) / 8
    if largest >= MAX_BYTES:
        raise InputError.expected("M, N, K", f"{largest:.3g} bytes", "operands of fewer than 2^63 bytes")
    rows = _blank(len(m), ProblemKind.GEMM)
    for column, value in (
        (C.BATCH, batch), (C.M, m), (C.N, n), (C.K, k), (C.A_BITS, a.bits), (C.B_BITS, b.bits), (C.C_BITS, c.bits),
        (C.COMPUTE, compute_code(a, b)), (C.ACCUMULATE_BITS, accumulate_bits), (C.A_IS_WEIGHT, 1.0),
    ):  # fmt: skip
        rows[:, column] = value
    rows[:, C.PATTERN :] = _of_operand(parse(pattern)).columns()
    if density is not None:
        if not bool(np.all((kept >= 0) & (kept <= 1))):
            raise InputError.expected("density", density, "fractions from 0 to 1")
        rows[:, C.PATTERN + 1] = kept
    other = np.broadcast_to(np.asarray(other_density, dtype=np.float64), m.shape)
    if not bool(np.all((other >= 0) & (other <= 1))):
        raise InputError.expected("other_density", other_density, "fractions from 0 to 1")
    rows[:, C.B_DENSITY] = other
    return rows


def _side_by_side(*columns: ArrayLike) -> tuple[np.ndarray, ...]:
    """Numbers of products, broadcast to one row a product."""
    found = [np.atleast_1d(np.asarray(column)) for column in columns]
    rows = max((len(column) for column in found), default=0)
    if any(column.ndim > 1 or len(column) not in (1, rows) for column in found) or rows == 0:
        shapes = ", ".join(str(column.shape) for column in found)
        raise InputError.expected("shapes of M, N, K, batch, density", shapes, "single numbers and (n,) of one n ≥ 1")
    return np.broadcast_arrays(*found)


def _check_extents(label: str, extent: NDArray[Any]) -> None:
    if not np.issubdtype(extent.dtype, np.number) or bool(np.any(extent != np.floor(extent))):
        raise InputError.expected(label, extent.tolist()[0] if extent.size == 1 else "not whole", "a whole number")
    if bool(np.any(extent < 1)) or bool(np.any(extent > MAX_EXTENT)):
        wrong = extent[(extent < 1) | (extent > MAX_EXTENT)][0]
        raise InputError.expected(label, wrong.item(), "from 1 to 2^40")


def _output_type(a: DType, b: DType) -> DType:
    """What a product is stored as by default: the wider operand's type, at least 16 bits."""
    wider = a if a.value_bits >= b.value_bits else b
    return wider if wider.value_bits >= 16 else dtype("fp16")


def _template() -> Floats:
    row = np.zeros(PROBLEM_WIDTH)
    for column, value in (
        (C.BATCH, 1), (C.M, 1), (C.N, 1), (C.K, 1), (C.A_BITS, 16), (C.B_BITS, 16), (C.C_BITS, 16), (C.NEEDED, 1),
        (C.COMPUTE, COMPUTE_TYPES.index("fp16")), (C.ACCUMULATE_BITS, 32), (C.STREAM_KIND, -1), (C.TRANSFER_KIND, -1),
        (C.DEVICES, 1), (C.B_DENSITY, 1), (C.CONV_REUSE, 1),
    ):  # fmt: skip
        row[column] = value
    row[C.PATTERN :] = DENSE.columns()
    return row


_TEMPLATE = _template()


def _of_operand(pattern: Pattern) -> Pattern:
    if pattern.kind in (PatternKind.ATTENTION_BLOCK, PatternKind.ATTENTION_TOKEN):
        raise InputError.expected("pattern", pattern.text, "one of a matrix: this one is of the scores of attention")
    return pattern


def _blank(count: int, kind: ProblemKind) -> Floats:
    rows = np.tile(_TEMPLATE, (count, 1))
    rows[:, C.KIND] = kind
    return rows


def _blank_row(kind: ProblemKind) -> Floats:
    row = _TEMPLATE.copy()
    row[C.KIND] = kind
    return row


def problem_of(op: Op, *, training: bool = False) -> Floats:
    """The row of one op, of a training step or not, shape (PROBLEM_WIDTH,)."""
    if isinstance(op, Contraction):
        return _contraction(op, training)
    if isinstance(op, Stream):
        return _stream(op, training)
    if isinstance(op, Transfer):
        row = _blank_row(ProblemKind.TRANSFER)
        row[C.READ_BYTES] = op.tensor.dense_bytes
        row[C.TRANSFER_KIND] = _TRANSFER_CODES[op.kind]
        row[C.DEVICES] = op.devices
        row[C.TRAIN_STAGE] = train_stage(op.name, training)
        return row
    raise InputError.expected("op", type(op).__name__, "a Contraction, Stream or Transfer")


def _contraction(op: Contraction, training: bool) -> Floats:
    row = _blank_row(ProblemKind.GEMM)
    view = op.gemm
    row[C.BATCH], row[C.M], row[C.N], row[C.K] = view.batch, view.m, view.n, view.k
    if op.groups is not None:
        # Expectations: groups hit, and columns (or, of a weight gradient, the reduction) of one of them.
        row[C.BATCH] *= op.groups[0] / max(1, round(op.groups[0]))
        ragged = C.K if len(op.out.shape) > len(op.out_axes) else C.N
        row[ragged] *= op.macs / (row[C.BATCH] * row[C.M] * row[C.N] * row[C.K])
    row[C.A_BITS], row[C.B_BITS], row[C.C_BITS] = op.a.dtype.bits, op.b.dtype.bits, op.out.dtype.bits
    row[C.COMPUTE] = compute_code(op.a.dtype, op.b.dtype)
    row[C.NEEDED] = op.needed
    row[C.A_IS_WEIGHT] = op.a.role is Role.WEIGHT
    row[C.B_DENSITY] = op.b.pattern.density if op.kind is ContractionKind.MATMUL else 1.0
    if op.kind is ContractionKind.CONV:
        expanded, columns = (op.a, view.m) if op.b.role is Role.WEIGHT else (op.b, view.n)
        row[C.CONV_REUSE] = view.batch * columns * view.k / expanded.elements
    row[C.TRAIN_STAGE] = train_stage(op.name, training)
    scores = {ContractionKind.SCORE: op.out, ContractionKind.VALUE: op.b}.get(op.kind)
    row[C.PATTERN :] = (scores if scores is not None else op.a).pattern.columns()
    return row


def train_stage(op_name: str, training: bool) -> TrainStage:
    """Which part of a training step an op is, by the suffix its name got in the expansion."""
    return _STAGES.get(op_name.rpartition(".")[2], TrainStage.FORWARD) if training else TrainStage.NONE


def _stream(op: Stream, training: bool) -> Floats:
    row = _blank_row(ProblemKind.STREAM)
    row[C.READ_BYTES] = sum(t.dense_bytes for t in op.reads)
    row[C.WRITE_BYTES] = sum(t.dense_bytes for t in op.writes)
    row[C.STREAM_FLOPS] = op.flops
    row[C.STREAM_KIND] = _STREAM_CODES[op.kind]
    row[C.TRAIN_STAGE] = train_stage(op.name, training)
    row[C.M] = max((t.elements for t in op.writes), default=1)
    return row


def attention_problem(score: Contraction, value: Contraction, *, training: bool = False) -> Floats:
    """One row for score, softmax and value together: M cached tokens, N queries, K head size."""
    row = _contraction(score, training)
    row[C.KIND] = ProblemKind.ATTENTION
    row[C.VALUE_SIZE] = value.gemm.m
    row[C.C_BITS] = value.out.dtype.bits
    return row


def with_epilogue(row: Floats, streams: Sequence[Stream], produced: Tensor, kept: frozenset[str]) -> Floats:
    """The row of a kernel that also runs `streams` on what it makes.

    Parameters
    ----------
    produced : Tensor
        What the kernel makes; the streams pass it on among themselves without memory.
    kept : frozenset of str
        Names of tensors that something else reads later, so that they are written even inside the chain.

    Returns
    -------
    (PROBLEM_WIDTH,) ndarray
        READ_BYTES and WRITE_BYTES hold what the chain adds to the kernel's own traffic; what `produced` no longer
        writes is subtracted.
    """
    row = row.copy()
    inside = {produced.name}
    if produced.name not in kept:
        row[C.WRITE_BYTES] -= produced.dense_bytes
    for index, stream in enumerate(streams):
        row[C.READ_BYTES] += sum(t.dense_bytes for t in stream.reads if t.name not in inside)
        row[C.STREAM_FLOPS] += stream.flops
        last = index == len(streams) - 1
        row[C.WRITE_BYTES] += sum(t.dense_bytes for t in stream.writes if last or t.name in kept)
        inside.update(t.name for t in stream.writes)
    return row
