"""The kernels of CPUs; of equally fast ones the earlier is taken."""

from __future__ import annotations

from accel_models.cpu.chip import Chip
from accel_models.cpu.kernels.attention import FusedAttention
from accel_models.cpu.kernels.base import CpuKernel
from accel_models.cpu.kernels.blas import BlasGemm
from accel_models.cpu.kernels.dense import ConvertGemm, DenseGemm, Depthwise, DotGemm, MatrixGemm, MlasGemm, ShrunkGemm
from accel_models.cpu.kernels.engine import Engine
from accel_models.cpu.kernels.gemv import CompressedGemv, GroupedGemm, SkippingGemv
from accel_models.cpu.kernels.rows_of_tokens import BsrSpmm, CsrSpmm, RowSpmm
from accel_models.cpu.kernels.spmm import Block4x1, GeneratedInt8, GeneratedSpmm, XnnSpmm
from accel_models.cpu.kernels.streams import NoTransfer, StreamKernel


def kernels_of(chip: Chip) -> tuple[CpuKernel, ...]:
    """All kernels, for one chip."""
    return (
        DenseGemm(chip),
        MatrixGemm(chip),
        MlasGemm(chip),
        BlasGemm(chip),
        ConvertGemm(chip),
        DotGemm(chip),
        ShrunkGemm(chip),
        Depthwise(chip),
        Block4x1(chip),
        *(XnnSpmm(chip, height) for height in (1, 2, 4)),
        GeneratedSpmm(chip),
        GeneratedInt8(chip),
        CsrSpmm(chip),
        RowSpmm(chip),
        BsrSpmm(chip),
        CompressedGemv(chip),
        Engine(chip),
        GroupedGemm(chip),
        SkippingGemv(chip),
        FusedAttention(chip),
        StreamKernel(chip),
        NoTransfer(chip),
    )
