"""What a design takes of an FPGA: DSP blocks, lookup tables, flip-flops and memory blocks, from costs of its parts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from accel_models.fpga.spec import Dataflow, Fabric, NotNegative, Positive, SatSpec
from simsparse.errors import InputError, UnsupportedError
from simsparse.specs import Figure, Spec, checked, read_toml

COSTS = Path(__file__).parent / "constants" / "fabrics.toml"
WIDEST_BYTES = 8.0  # fp64 sums


class PartCost(BaseModel):
    """Logic of one part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dsp: Figure[NotNegative]
    lut: Figure[NotNegative]
    ff: Figure[NotNegative]


class FabricCosts(Spec):
    """Costs of parts on one FPGA family."""

    bram_bytes: Figure[Positive]
    uram_bytes: Figure[Positive]
    element: PartCost  # multiplier, adder, control
    weight_register: PartCost  # a weight register of an element, its shadow and its index
    selector_input: PartCost  # one of M inputs of the multiplexer of activations
    accumulator: PartCost  # one of the interleaved sums of an element
    reduction_lane: PartCost
    update_lane: PartCost
    vector_op: PartCost


@dataclass(frozen=True)
class Resources:
    """Blocks of a device, taken or there."""

    dsp: float
    lut: float
    ff: float
    bram: float
    uram: float


@lru_cache
def _all_fabrics() -> dict[Fabric, FabricCosts]:
    data = read_toml(COSTS)
    return {
        Fabric(name): checked(FabricCosts, {"name": name, "family": "fabric", **costs}, where=f"costs of {name}")
        for name, costs in data.items()
    }


def fabric_figures(fabric: Fabric) -> FabricCosts:
    """Costs of parts on a family of FPGAs."""
    return _all_fabrics()[fabric]


def needed(spec: SatSpec) -> Resources:
    """What a design takes.

    Buffers fill block RAM first, then UltraRAM, whole buffers where they fit.
    """
    costs = fabric_figures(spec.fabric.value)
    elements = spec.array_rows.value * spec.array_cols.value
    copies = 2 if spec.double_buffering.value else 1
    interleaved = spec.mac_pipeline_depth.value if spec.interleave.value else 1
    # Outputs that stay need one weight at a time; weights that stay need as many registers as M.
    registers = 1 if spec.dataflow.value is Dataflow.OUTPUT_STATIONARY else spec.nm_max_m.value
    parts = (
        (costs.element, elements), (costs.weight_register, elements * registers * copies),
        (costs.selector_input, elements * spec.nm_max_m.value), (costs.accumulator, elements * interleaved * copies),
        (costs.reduction_lane, spec.reduction_lanes.value), (costs.update_lane, spec.update_lanes.value),
        # Below each column an adder sums up passes.
        (costs.vector_op, spec.vector_ops_per_cycle.value + spec.array_cols.value),
    )  # fmt: skip
    bram, uram = _memory_blocks(spec, costs)
    return Resources(
        dsp=sum(part.dsp.value * count for part, count in parts),
        lut=spec.shell_lut.value + sum(part.lut.value * count for part, count in parts),
        ff=spec.shell_ff.value + sum(part.ff.value * count for part, count in parts),
        bram=bram,
        uram=uram,
    )


def _memory_blocks(spec: SatSpec, costs: FabricCosts) -> tuple[float, float]:
    bram, uram = float(spec.shell_bram.value), 0.0
    for buffer in sorted(
        (spec.weight_buffer_bytes.value, spec.activation_buffer_bytes.value, spec.output_buffer_bytes.value)
    ):
        blocks = math.ceil(buffer / costs.bram_bytes.value)
        if bram + blocks <= spec.bram.value or not spec.uram.value:
            bram += blocks
        else:
            uram += math.ceil(buffer / costs.uram_bytes.value)
    return bram, uram


def available(spec: SatSpec) -> Resources:
    """What the device has."""
    return Resources(spec.dsp.value, spec.lut.value, spec.ff.value, spec.bram.value, spec.uram.value)


def check_resources(spec: SatSpec) -> None:
    """Refuse a design that does not fit its device.

    Raises
    ------
    UnsupportedError
        Naming the resource that is short, and by how much.
    """
    takes, has = needed(spec), available(spec)
    labels = {"dsp": "DSP blocks", "lut": "LUTs", "ff": "flip-flops", "bram": "block RAMs", "uram": "UltraRAMs"}
    for field, label in labels.items():
        wanted, there = getattr(takes, field), getattr(has, field)
        if wanted > there:
            raise UnsupportedError(
                f"machine {spec.name!r} needs {wanted:.0f} {label}, expected at most the {there:.0f} of its device"
            )


def check_buffers(spec: SatSpec) -> None:
    """Refuse buffers that cannot hold the smallest tile of the schedule, in the widest groups and type.

    Raises
    ------
    InputError
    """
    rows, cols = spec.array_rows.value, spec.array_cols.value
    m, depth = spec.nm_max_m.value, spec.mac_pipeline_depth.value
    outputs, tokens = (rows, cols * depth) if spec.dataflow.value is Dataflow.OUTPUT_STATIONARY else (cols, depth)
    copies = 2 if spec.double_buffering.value else 1
    values = {
        "weight_buffer_bytes": outputs * rows * m,
        "activation_buffer_bytes": rows * m * tokens,
        "output_buffer_bytes": outputs * tokens,
    }
    for field, count in values.items():
        given, least = getattr(spec, field).value, count * WIDEST_BYTES * copies
        if given < least:
            raise InputError.expected(
                f"{field} of machine {spec.name!r}", given, f"at least {least:.0f} bytes, to hold a tile"
            )
