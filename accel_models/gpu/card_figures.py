"""What a card is before anything is fitted: its rates, and its row of `Card` columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel_models.gpu.columns import CARD_WIDTH, Card
from accel_models.gpu.rates import Rates
from accel_models.gpu.spec import GpuSpec
from simsparse.energy import energy_table
from simsparse.plan import Floats

# How tensor cores get their operands, by major compute capability: warps of 64 x 64 load fragments (Volta to Ada, and
# consumer Blackwell); a warp group of 64 x 256 reads shared memory itself (Hopper); one thread block's tile (B200).
# Hopper's and B200's clusters share one of two operands between two blocks; B200's pairs of blocks also read one
# operand from shared memory together. Recalled from NVIDIA's tuning guides; how many reads that saves on average, and
# the exponents of the engine's rule, are assumed.
_FRAGMENTS = {Card.WARP_M: 64.0, Card.WARP_N: 64.0, Card.MULTICAST: 1.0, Card.SMEM_SHARE: 1.0, Card.OVERLAP: 2.0}
_ARCHITECTURE = {
    "7": _FRAGMENTS,
    "8": _FRAGMENTS,
    "9": {Card.WARP_M: 64.0, Card.WARP_N: 256.0, Card.MULTICAST: 1.5, Card.SMEM_SHARE: 1.0, Card.OVERLAP: 4.0},
    "10": {Card.WARP_M: 128.0, Card.WARP_N: 256.0, Card.MULTICAST: 2.0, Card.SMEM_SHARE: 1.5, Card.OVERLAP: 4.0},
    "12": {**_FRAGMENTS, Card.OVERLAP: 4.0},
}


@dataclass(frozen=True)
class CardFigures:
    """Figures of a spec as arrays; fits that try many constants on a card make them once.

    Attributes
    ----------
    rates : Rates
    row : (CARD_WIDTH,) ndarray
        Without clock, fill latency and power exponent, which are fitted; L2's rate as measured.
    """

    rates: Rates
    row: Floats

    @classmethod
    def of(cls, spec: GpuSpec) -> CardFigures:
        """Those of a card."""
        table, row = energy_table(), np.zeros(CARD_WIDTH)
        node = spec.process_nm.value
        link = spec.link_bytes_per_s or spec.host_bytes_per_s
        for column, value in (
            (Card.SM_COUNT, spec.sm_count.value), (Card.L2_BYTES, spec.l2_bytes.value),
            (Card.DRAM_BYTES_PER_S, spec.dram_bandwidth_bytes_per_s.value),
            (Card.L2_BYTES_PER_CLOCK, spec.l2_bytes_per_clock.value),
            (Card.SMEM_BYTES_PER_CLOCK, spec.smem_bytes_per_clock.value),
            (Card.REGISTERS, spec.registers_per_sm.value), (Card.SMEM_BYTES, spec.smem_bytes_per_sm.value),
            (Card.TDP_W, spec.tdp_w.value), (Card.IDLE_W, spec.idle_w.value),
            (Card.LINK_BYTES_PER_S, link.value), (Card.HOST_BYTES_PER_S, spec.host_bytes_per_s.value),
            *_ARCHITECTURE[spec.compute_capability.value.split(".")[0]].items(),
            (Card.L2_J_PER_BYTE, table.cache_j_per_byte(spec.l2_bytes.value, node)),
            (Card.DRAM_J_PER_BYTE, table.dram_j_per_byte(spec.dram_kind.value)),
            (Card.SMEM_J_PER_BYTE, table.cache_j_per_byte(spec.smem_bytes_per_sm.value, node)),
            (Card.LINK_J_PER_BYTE, table.link_j_per_byte("nvlink" if spec.link_bytes_per_s else "pcie")),
        ):  # fmt: skip
            row[column] = value
        return cls(Rates(spec), row)
