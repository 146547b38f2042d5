"""What a design takes of an FPGA: DSP blocks, lookup tables, flip-flops and memory blocks, from costs of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from accel_models.fpga.spec import Changes, Dataflow, Fabric, NotNegative, Positive, SatSpec, figures
from simsparse.errors import InputError, UnsupportedError
from simsparse.plan import Floats
from simsparse.specs import Figure, Spec, checked, read_toml

COSTS = Path(__file__).parent / "constants" / "fabrics.toml"
WIDEST_BYTES = 8.0  # fp64 sums
BUFFERS = ("weight_buffer_bytes", "activation_buffer_bytes", "output_buffer_bytes")


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
    clocked_j_per_ff: Figure[NotNegative]  # a flip-flop and its share of the clock tree, a cycle
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


RESOURCES = tuple(field.name for field in fields(Resources))


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
    return Resources(*needed_by(spec, {})[0].tolist())


def needed_by(spec: SatSpec, changes: Changes) -> Floats:
    """What each of many designs takes, (n, 5) in the order of `Resources`; they differ from `spec` in some fields."""
    figure, costs = figures(spec, changes), fabric_figures(spec.fabric.value)
    elements = figure("array_rows") * figure("array_cols")
    copies = 2 if spec.double_buffering.value else 1
    interleaved = figure("mac_pipeline_depth") if spec.interleave.value else 1
    # Outputs that stay need one weight at a time; weights that stay need as many registers as M.
    registers = 1 if spec.dataflow.value is Dataflow.OUTPUT_STATIONARY else figure("nm_max_m")
    parts = (
        (costs.element, elements), (costs.weight_register, elements * registers * copies),
        (costs.selector_input, elements * figure("nm_max_m")), (costs.accumulator, elements * interleaved * copies),
        (costs.reduction_lane, figure("reduction_lanes")), (costs.update_lane, figure("update_lanes")),
        # Below each column an adder sums up passes.
        (costs.vector_op, figure("vector_ops_per_cycle") + figure("array_cols")),
    )  # fmt: skip
    bram, uram = _memory_blocks(spec, costs, [figure(name) for name in BUFFERS])
    dsp, lut, ff = (
        sum((getattr(part, name).value * count for part, count in parts), np.zeros(1)) for name in ("dsp", "lut", "ff")
    )
    return np.stack(np.broadcast_arrays(dsp, spec.shell_lut.value + lut, spec.shell_ff.value + ff, bram, uram), axis=1)


def _memory_blocks(spec: SatSpec, costs: FabricCosts, buffers: Sequence[Floats]) -> tuple[Floats, Floats]:
    smallest_first = np.sort(np.stack(np.broadcast_arrays(*buffers)), axis=0)
    bram, uram = np.full(smallest_first.shape[1], float(spec.shell_bram.value)), np.zeros(smallest_first.shape[1])
    for buffer in smallest_first:
        blocks = np.ceil(buffer / costs.bram_bytes.value)
        in_bram = (bram + blocks <= spec.bram.value) | (not spec.uram.value)
        bram = bram + np.where(in_bram, blocks, 0.0)
        uram = uram + np.where(in_bram, 0.0, np.ceil(buffer / costs.uram_bytes.value))
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
    for field, needs in zip(BUFFERS, least_buffers(spec, {}), strict=True):
        given, least = getattr(spec, field).value, float(needs[0])
        if given < least:
            raise InputError.expected(
                f"{field} of machine {spec.name!r}", given, f"at least {least:.0f} bytes, to hold a tile"
            )


def least_buffers(spec: SatSpec, changes: Changes) -> tuple[Floats, Floats, Floats]:
    """Bytes of `BUFFERS` that hold the smallest tile, for each of many designs."""
    figure = figures(spec, changes)
    rows, cols, m, depth = (figure(name) for name in ("array_rows", "array_cols", "nm_max_m", "mac_pipeline_depth"))
    outputs, tokens = (rows, cols * depth) if spec.dataflow.value is Dataflow.OUTPUT_STATIONARY else (cols, depth)
    tile_bytes = WIDEST_BYTES * (2 if spec.double_buffering.value else 1)
    return outputs * rows * m * tile_bytes, rows * m * tokens * tile_bytes, outputs * tokens * tile_bytes
