"""A product as the kernels of a CPU see it: extents, bytes and types of each row, as named arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel_models.cpu.chip import FP32, INT8, TYPE_BITS, Chip
from simsparse.plan import Floats, Ints, ProblemColumn

C = ProblemColumn
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class GemmRows:
    """n products `C[M,N] = A[M,K] · B[K,N]`, `batch` of each; every field is (n,).

    Attributes
    ----------
    kind : int
        Code of the type it is multiplied in.
    native : bool
        A is stored as that type, so that no value is converted.
    b_bytes, c_bytes : float
        Of distinct activations read and results written, over the batch, with those of a fused epilogue.
    activations : float
        Distinct values of B and of C, over the batch.
    epilogue_flops : float
        Elementwise operations of the epilogue.
    pattern : (n, columns) ndarray
    """

    batch: Floats
    m: Floats
    n: Floats
    k: Floats
    kind: Ints
    native: Bools
    a_bits: Floats
    b_bits: Floats
    b_bytes: Floats
    c_bytes: Floats
    activations: Floats
    epilogue_flops: Floats
    weight: Bools
    pattern: Floats

    def __len__(self) -> int:
        return len(self.m)

    @property
    def macs(self) -> Floats:
        """Multiply-accumulates of the dense product."""
        return self.batch * self.m * self.n * self.k

    @property
    def a_bytes(self) -> Floats:
        """Bytes of A stored dense, over the batch."""
        return self.batch * self.m * self.k * self.a_bits / 8


def gemm_rows(problem: Floats, chip: Chip) -> GemmRows:
    """Read products from problem rows."""
    batch, m, n, k, a_bits, b_bits = (problem[:, c] for c in (C.BATCH, C.M, C.N, C.K, C.A_BITS, C.B_BITS))
    kind = chip.arithmetic[problem[:, C.COMPUTE].astype(np.int64)]
    reuse = np.maximum(problem[:, C.CONV_REUSE], 1e-9)
    c_bytes = batch * m * n * problem[:, C.C_BITS] / 8
    return GemmRows(
        batch, m, n, k, kind,
        native=a_bits == TYPE_BITS[kind],
        a_bits=a_bits,
        b_bits=b_bits,
        b_bytes=batch * n * k * b_bits / 8 / reuse + problem[:, C.READ_BYTES],
        c_bytes=np.maximum(c_bytes + problem[:, C.WRITE_BYTES], 0.0),
        activations=batch * n * (k / reuse + m),
        epilogue_flops=problem[:, C.STREAM_FLOPS],
        weight=problem[:, C.A_IS_WEIGHT] > 0,
        pattern=problem[:, C.PATTERN :],
    )  # fmt: skip


def convert_cycles(rows: GemmRows, chip: Chip, kind: Ints | None = None) -> Floats:
    """Cycles to bring as many of A's values as a register has 32-bit lanes into the type `kind`, (n,).

    Whole registers are converted, by instructions that share the ports of the multiply-adds: four bits become int8
    (a mask and a shift for two registers), int8 becomes floating point, 16 bits become fp32. Scales of groups are
    applied to sums and cost next to nothing.
    """
    wanted = TYPE_BITS[rows.kind if kind is None else kind]
    bits = np.floor(rows.a_bits)  # the share of a group's scale is a fraction of a bit
    c = chip.constants
    unpack = np.where(bits <= 4, c.unpack4_instructions.value * 8 / wanted, 0.0)
    widen8 = np.where((bits <= 8) & (wanted > 8), c.widen8_instructions.value, 0.0)
    widen16 = np.where((bits == 16) & (wanted > 16), c.widen16_instructions.value, 0.0)
    cycles: Floats = (unpack + widen8 + widen16) * wanted / 32 / chip.fma_ports
    return cycles


def requantize_cycles(rows: GemmRows, chip: Chip) -> Floats:
    """Cycles in which a framework quantises the activations of int8 ops and changes their layout, (n,)."""
    quantized = (rows.kind == INT8) & (rows.b_bits == 8)
    each = chip.constants.requantize_cycles.value if chip.in_framework else 0.0
    return np.where(quantized, rows.activations * each, 0.0)


def is_float(rows: GemmRows) -> Bools:
    """Multiplied in floating point."""
    result: Bools = rows.kind != INT8
    return result


def fp32_kind(rows: GemmRows) -> Ints:
    """Type codes of kernels that multiply everything in fp32."""
    return np.full(len(rows), FP32)
