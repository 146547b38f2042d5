"""The numbers of designs as rows, for all that is compiled or priced over arrays."""

from __future__ import annotations

import numpy as np

from accel_models.fpga.resources import RESOURCES, fabric_figures, needed_by
from accel_models.fpga.spec import Changes, Dataflow, Hardware, SatSpec, figures
from simsparse.energy import energy_table
from simsparse.plan import Floats

SUM_BITS = 32
BLOCK_BYTES = 4096.0  # buffers are made of block RAMs of this size


def hardware_rows(spec: SatSpec, changes: Changes) -> Floats:
    """The numbers of designs that differ from a spec in some fields, in the order of `Hardware`, (n, len(Hardware))."""
    figure = figures(spec, changes)
    clock, depth = figure("clock_hz"), figure("mac_pipeline_depth")
    peak = figure("dram_channels") * figure("dram_bytes_per_s_per_channel")
    reached = peak * spec.dram_efficiency.value
    energy, node = energy_table(), spec.process_nm.value
    flip_flops = needed_by(spec, changes)[:, RESOURCES.index("ff")]
    values: dict[Hardware, Floats | float] = {
        Hardware.ROWS: figure("array_rows"), Hardware.COLS: figure("array_cols"), Hardware.CLOCK_HZ: clock,
        Hardware.MAX_M: figure("nm_max_m"), Hardware.DEPTH: depth,
        Hardware.INTERLEAVE: depth if spec.interleave.value else 1.0,
        Hardware.DATAFLOW: float(list(Dataflow).index(spec.dataflow.value)),
        Hardware.REDUCTION_LANES: figure("reduction_lanes"),
        Hardware.REDUCTION_CYCLES: figure("reduction_cycles_per_element"),
        Hardware.PREGENERATION: float(spec.pregeneration.value), Hardware.UPDATE_LANES: figure("update_lanes"),
        Hardware.VECTOR_OPS: figure("vector_ops_per_cycle"), Hardware.WEIGHT_BUFFER: figure("weight_buffer_bytes"),
        Hardware.ACTIVATION_BUFFER: figure("activation_buffer_bytes"),
        Hardware.OUTPUT_BUFFER: figure("output_buffer_bytes"), Hardware.DOUBLE: float(spec.double_buffering.value),
        Hardware.DRAM_BYTES_PER_CYCLE: reached / clock, Hardware.DRAM_PEAK_BYTES_PER_CYCLE: peak / clock,
        Hardware.GAP_BYTES: reached * spec.dram_gap_s.value,
        Hardware.MAC_J: energy.arithmetic_j("fp16", SUM_BITS, node) * spec.energy_over_asic.value,
        Hardware.BRAM_J: energy.sram_j_per_byte(BLOCK_BYTES, node) * spec.energy_over_asic.value,
        Hardware.DRAM_J: energy.dram_j_per_byte(spec.dram_kind.value),
        Hardware.STATIC_W: figure("static_w"), Hardware.TRAFFIC_SHARE: figure("traffic_share"),
        Hardware.SEARCHED: float(spec.offline_scheduling.value),
        Hardware.CLOCKED_W: clock * flip_flops * fabric_figures(spec.fabric.value).clocked_j_per_ff.value,
    }  # fmt: skip
    rows = np.empty((max((len(column) for column in changes.values()), default=1), len(Hardware)))
    for column in Hardware:
        rows[:, column] = values[column]
    return rows


def hardware_row(spec: SatSpec) -> Floats:
    """The numbers of a spec in the order of `Hardware`, shape (1, len(Hardware))."""
    return hardware_rows(spec, {})
