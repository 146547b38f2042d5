"""What an N:M training accelerator on an FPGA is, to the model: array, engines, buffers, memory, device, energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum, StrEnum
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from simsparse.plan import Floats
from simsparse.specs import Figure, Spec

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
# Fields of a spec and what many designs have there, (n,) each.
Changes = Mapping[str, Floats]


class Dataflow(StrEnum):
    """What stays in the array: weights, outputs, or whichever is faster for each product."""

    WEIGHT_STATIONARY = "ws"
    OUTPUT_STATIONARY = "os"
    BEST = "best"


class Fabric(StrEnum):
    """FPGA families whose per-element costs `constants/fabrics.toml` holds."""

    ULTRASCALE_PLUS = "ultrascale-plus"
    VERSAL = "versal"
    STRATIX_10 = "stratix-10"


class SatSpec(Spec):
    """A systolic N:M training accelerator and the FPGA card it sits on."""

    family: Literal["fpga"]

    array_rows: Figure[Count] = Field(description="Rows of processing elements.")
    array_cols: Figure[Count] = Field(description="Columns of processing elements.")
    clock_hz: Figure[Positive] = Field(description="Clock of the whole design.")
    nm_max_m: Figure[Count] = Field(description="Largest M an element takes; it has as many weight registers.")
    mac_pipeline_depth: Figure[Count] = Field(description="Cycles from a multiply-accumulate to the use of its sum.")
    interleave: Figure[bool] = Field(
        description="Elements take as many independent outputs in turn as the pipeline is deep."
    )
    dataflow: Figure[Dataflow] = Field(description="ws, os, or best: chosen for each product.")
    offline_scheduling: Figure[bool] = Field(
        description="Dataflow and tiles of each product are searched; else one dataflow and one rule for all."
    )

    traffic_share: Figure[NotNegative] = Field(
        description="Time the scheduler gives up to save memory traffic, over the time of that traffic."
    )

    reduction_lanes: Figure[Count] = Field(description="Lanes of the engine that makes N:M weights.")
    reduction_cycles_per_element: Figure[Positive] = Field(description="Cycles a lane takes per weight it looks at.")
    pregeneration: Figure[bool] = Field(description="N:M weights are made with the update of the step before.")
    update_lanes: Figure[Count] = Field(description="Weights the update engine renews per cycle.")
    vector_ops_per_cycle: Figure[Count] = Field(description="Elementwise operations per cycle (norms, activations).")

    weight_buffer_bytes: Figure[Positive] = Field(description="On-chip buffer of operand A (weights).")
    activation_buffer_bytes: Figure[Positive] = Field(description="On-chip buffer of operand B (activations).")
    output_buffer_bytes: Figure[Positive] = Field(description="On-chip buffer of sums.")
    double_buffering: Figure[bool] = Field(description="Half of each buffer (and of the weight registers) loads ahead.")

    memory_bytes: Figure[Positive] = Field(description="Capacity of the card's memory.")
    dram_kind: Figure[str] = Field(description="Kind of memory.")
    dram_channels: Figure[Count] = Field(description="Channels, shared by all engines.")
    dram_bytes_per_s_per_channel: Figure[Positive] = Field(description="Peak bandwidth of one channel.")
    dram_efficiency: Figure[Share] = Field(description="Fraction of the peak that long bursts reach.")
    dram_gap_s: Figure[NotNegative] = Field(
        description="Time that every burst costs besides: to turn and to open rows."
    )

    fabric: Figure[Fabric] = Field(description="FPGA family, for costs of elements.")
    dsp: Figure[Count] = Field(description="DSP blocks of the device.")
    lut: Figure[Count] = Field(description="Lookup tables of the device.")
    ff: Figure[Count] = Field(description="Flip-flops of the device.")
    bram: Figure[Count] = Field(description="Block RAMs of the device (36 Kb, or 20 Kb on Intel).")
    uram: Figure[Amount] = Field(description="UltraRAMs of the device.")

    shell_lut: Figure[Amount] = Field(description="Lookup tables of memory controllers, host link and control.")
    shell_ff: Figure[Amount] = Field(description="Flip-flops of the same.")
    shell_bram: Figure[Amount] = Field(description="Block RAMs of the same.")

    process_nm: Figure[Positive] = Field(description="Process node.")
    energy_over_asic: Figure[Positive] = Field(description="Dynamic energy of logic over that of a fixed circuit.")
    static_w: Figure[NotNegative] = Field(description="Power of the card with a design that has no clock.")
    board_w: Figure[Positive] = Field(description="Power limit of the board.")

    @property
    def dram_peak_bytes_per_s(self) -> float:
        """Peak of all channels."""
        return self.dram_channels.value * self.dram_bytes_per_s_per_channel.value


class Hardware(IntEnum):
    """Columns of a machine in arrays; a design sweep has one row a design."""

    ROWS = 0
    COLS = 1
    CLOCK_HZ = 2
    MAX_M = 3
    DEPTH = 4
    INTERLEAVE = 5  # independent outputs an element interleaves: the depth, or 1
    DATAFLOW = 6  # index in list(Dataflow)
    REDUCTION_LANES = 7
    REDUCTION_CYCLES = 8  # of a lane for each weight
    PREGENERATION = 9
    UPDATE_LANES = 10
    VECTOR_OPS = 11
    WEIGHT_BUFFER = 12
    ACTIVATION_BUFFER = 13
    OUTPUT_BUFFER = 14
    DOUBLE = 15
    DRAM_BYTES_PER_CYCLE = 16  # reached in long bursts
    DRAM_PEAK_BYTES_PER_CYCLE = 17
    GAP_BYTES = 18  # that could have been moved while a burst begins
    MAC_J = 19
    BRAM_J = 20
    DRAM_J = 21
    STATIC_W = 22
    TRAFFIC_SHARE = 23
    SEARCHED = 24  # 1 with offline scheduling
    CLOCKED_W = 25  # of all flip-flops of the design, whether they change or not


def figures(spec: SatSpec, changes: Changes) -> Callable[[str], Floats]:
    """The figures of many designs by field: those that change, (n,) each, and the spec's own, (1,)."""

    def figure(field: str) -> Floats:
        changed = changes.get(field)
        return np.array([float(getattr(spec, field).value)]) if changed is None else changed

    return figure
