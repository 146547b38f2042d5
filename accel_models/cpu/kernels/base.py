"""What the product kernels share: from cycles and stored bytes to a mapping row."""

from __future__ import annotations

import numpy as np

from accel_models.cpu.chip import Chip
from accel_models.cpu.columns import MapColumn, mapping
from accel_models.cpu.kernels.microkernel import Work, result_work
from accel_models.cpu.kernels.rows import GemmRows, requantize_cycles
from accel_models.cpu.kernels.traffic import traffic
from simsparse.machine import Kernel
from simsparse.occupancy import expected_maximum
from simsparse.plan import Floats, Ints, ProblemKind
from simsparse.sparsity import PatternColumn


class CpuKernel(Kernel):
    """A kernel of one chip."""

    kinds = (ProblemKind.GEMM,)

    def __init__(self, chip: Chip) -> None:
        self.chip = chip


def gemm_mapping(
    rows: GemmRows,
    chip: Chip,
    *,
    macs: Floats,
    kind: Ints,
    core: Work,
    efficiency: float,
    index_cycles: Floats | float,
    a_bytes: Floats,
    l1_fills: Floats,
    reread: Floats | float = 0.0,
    m_units: Floats,
    n_units: Floats,
    roof_macs: Floats,
    uneven: Floats | float = 1.0,
) -> Floats:
    """Mapping rows of products.

    Parameters
    ----------
    macs, roof_macs : (n,) ndarray
        Executed with padding, and without.
    core : Work
        Of the microkernel; `efficiency` is the share of its issue-limited rate that it sustains.
    index_cycles : (n,) ndarray
        Of all cores' vector ports for indices, decompression and conversion.
    a_bytes : (n,) ndarray
        A as stored, over the batch.
    l1_fills : (n,) ndarray
        Bytes from L2 towards the cores.
    reread : (n,) ndarray
        Bytes of A that the kernel asks for again after all of it has passed.
    m_units, n_units : (n,) ndarray
        Pieces that rows and columns can be cut into.
    """
    moved = traffic(rows, chip, a_bytes, m_units=m_units, n_units=n_units, reread=reread)
    issued = core + result_work(chip, rows.batch * rows.m * rows.n, rows.epilogue_flops)
    converted = index_cycles + requantize_cycles(rows, chip)
    best = np.maximum(chip.rates, chip.matrix_rates)[kind]
    return mapping(len(rows), chip, {
        MapColumn.MACS: macs,
        MapColumn.TYPE: kind,
        MapColumn.CORE_CYCLES: issued.cycles / efficiency,
        MapColumn.INDEX_CYCLES: converted,
        MapColumn.L2_BYTES: np.maximum(l1_fills, moved.l3),
        MapColumn.L3_BYTES: np.maximum(moved.l3, moved.dram) if chip.has_l3 else 0.0,
        MapColumn.DRAM_BYTES: moved.dram,
        MapColumn.UNITS: rows.batch * m_units * n_units,
        MapColumn.UNEVEN: uneven,
        MapColumn.WEIGHT_BYTES: np.where(rows.weight, a_bytes, 0.0),
        MapColumn.INSTRUCTIONS: issued.instructions + converted * chip.fma_ports,
        MapColumn.ROOF_CYCLES: roof_macs / best,
        MapColumn.ROOF_BYTES: moved.cold,
    })  # fmt: skip


def unevenness(rows: GemmRows, chip: Chip) -> Floats:
    """Nonzeros of the fullest thread over the mean, where each thread takes an equal part of the outputs, (n,)."""
    share = np.maximum(rows.m * rows.batch / chip.threads, 1.0)
    shares = np.minimum(float(chip.threads), rows.m * rows.batch)
    fullest = expected_maximum(rows.pattern, share, rows.k, shares)
    mean = share * rows.k * rows.pattern[:, PatternColumn.DENSITY]
    return np.where(mean > 0, np.maximum(fullest / np.where(mean > 0, mean, 1.0), 1.0), 1.0)
