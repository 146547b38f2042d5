"""What one kernel call is to the pricing: columns of a mapping row, terms of a price, levels and parts of energy."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import numpy as np

from accel_models.cpu.chip import Chip
from simsparse.plan import Floats, Ints


class MapColumn(IntEnum):
    """Columns of a mapping row; work is that of one call, all threads together."""

    MACS = 0  # multiply-accumulates executed, padding included
    TYPE = 1  # code of the arithmetic type, index in `chip.TYPES`
    CORE_CYCLES = 2  # core cycles of arithmetic
    INDEX_CYCLES = 3  # core cycles of indices, decompression and conversion
    L2_BYTES = 4  # from L2 towards the cores
    L3_BYTES = 5  # from the shared cache into private ones
    DRAM_BYTES = 6
    UNITS = 7  # pieces of work that threads share
    UNEVEN = 8  # work of the fullest thread's share over the mean, by where nonzeros are
    OVERHEAD_CYCLES = 9  # of one thread, before and after the work
    WEIGHT_BYTES = 10  # stored bytes of A where it is a weight
    INSTRUCTIONS = 11  # vector instructions: multiply-adds, loads and others
    ROOF_CYCLES = 12  # core cycles at peak rate, no padding
    ROOF_BYTES = 13  # bytes that must come from memory


WIDTH = len(MapColumn)


class Term(IntEnum):
    """Times a latency is combined from."""

    COMPUTE = 0
    INDEX = 1
    IMBALANCE = 2
    L2 = 3
    L3 = 4
    DRAM = 5
    OVERHEAD = 6
    EXPOSED = 7  # what of the shorter ones the longest does not hide
    POWER = 8  # what the power limit adds


TERM_NAMES = tuple(term.name.lower() for term in Term)
LEVEL_NAMES = ("l2", "l3", "dram")
ENERGY_NAMES = ("arithmetic", "instructions", "l2", "l3", "dram", "idle")


def mapping(count: int, chip: Chip, columns: Mapping[MapColumn, Floats | Ints | float]) -> Floats:
    """Mapping rows of the given columns; by default units and unevenness are 1, the overhead the chip's, others 0."""
    rows = np.zeros((count, WIDTH))
    rows[:, MapColumn.OVERHEAD_CYCLES] = chip.overhead_cycles
    rows[:, MapColumn.UNITS] = 1.0
    rows[:, MapColumn.UNEVEN] = 1.0
    for column, value in columns.items():
        rows[:, column] = value
    return rows
