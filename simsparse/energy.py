"""Energy per action: multiplications and additions by type, bytes by level, instructions by core; all with sources.

Figures stand in `data/energy.toml` for 45 and 7 nm. Between the nodes, and beyond them, the logarithm of an energy is
linear in the logarithm of the node. (Extrapolated so, a multiply-accumulate of fp16 at 5 nm takes 17 % less than at
7 nm; the foundry promised 30 % less power at equal speed.)

What a multiply-accumulate costs a machine is not its bare arithmetic:

    core energy = (arithmetic + instruction / multiply-accumulates per instruction) * overhead

where `overhead` stands for the clock tree, leakage under load and losses on the board. It is assumed, and the one
figure chosen with whole cards in view; the tests compare with cards at their power limits: A100 and RTX PRO 6000 come
out 13 % low, L4 53 % high. Supply voltage is not modelled: cards made for a low clock take less than said here, those
made for a high one more.
"""

from __future__ import annotations

import math
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from simsparse.errors import InputError, UnknownNameError
from simsparse.specs import Figure, Spec, checked, read_toml

V = TypeVar("V")
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PJ = 1e-12
# Nodes outside of this range are typing errors, not processes.
NODES_NM = (1.0, 250.0)
_OLD_NM, _NEW_NM = 45.0, 7.0
_KIB8, _KIB32, _MIB1 = 2.0**13, 2.0**15, 2.0**20
_BITS = {"fp64": 64, "fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4, "fp4": 4}


class InstructionKind(StrEnum):
    """Cores whose energy per instruction is known."""

    GPU_LANE = "gpu_lane"  # one lane of a warp
    CPU_SMALL = "cpu_small"  # a simple in-order core
    CPU_EFFICIENT = "cpu_efficient"  # an out-of-order core built for little power (Cortex-A7x, Neoverse, Apple)
    CPU_WIDE = "cpu_wide"  # an out-of-order x86 core of a server or desktop


class ByNode(BaseModel):
    """An energy in pJ at two process nodes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nm45: Figure[Positive]
    nm7: Figure[Positive]

    def at(self, process_nm: float) -> float:
        """Energy in pJ at a node: log energy linear in log node, through both figures.

        Raises
        ------
        InputError
            If the node is none.
        """
        if not NODES_NM[0] <= process_nm <= NODES_NM[1]:
            raise InputError.expected("process_nm", process_nm, f"{NODES_NM[0]:g} to {NODES_NM[1]:g}")
        slope = math.log(self.nm45.value / self.nm7.value) / math.log(_OLD_NM / _NEW_NM)
        return self.nm7.value * math.exp(slope * math.log(process_nm / _NEW_NM))


class SramEnergy(BaseModel):
    """Energy per byte in pJ of memories of three sizes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kib8: ByNode
    kib32: ByNode
    mib1: ByNode

    def at(self, process_nm: float) -> tuple[float, float, float]:
        """Energies of the three sizes at a node; past the newest node all shrink as the smallest does.

        The larger ones owe their gain from 45 to 7 nm to wires and organisation, which do not go on shrinking.
        """
        sizes = (self.kib8, self.kib32, self.mib1)
        inside = max(process_nm, _NEW_NM)
        shrink = self.kib8.at(process_nm) / self.kib8.at(inside)
        small, middle, large = (size.at(inside) * shrink for size in sizes)
        return small, middle, large


class CoreEnergy(BaseModel):
    """What turns arithmetic into the energy of a core."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overhead: Figure[Positive]
    nominal_v: Figure[Positive]
    aligned_add: Figure[Positive]
    tensor_macs_per_lane_instruction: Figure[Positive]


class EnergyTable(Spec):
    """Energies per action, in J; see the module."""

    family: Literal["energy"]

    multiply_pj: dict[str, ByNode] = Field(description="A multiplication, by type.")
    add_pj: dict[str, ByNode] = Field(description="An addition, by type of the sum.")
    sram_pj_per_byte: SramEnergy = Field(description="On-chip memories.")
    register_pj_per_byte: ByNode = Field(description="A register file.")
    instruction_pj: dict[InstructionKind, ByNode] = Field(description="Fetch, decode, issue and operands.")
    core: CoreEnergy
    dram_pj_per_bit: dict[str, Figure[Positive]] = Field(description="Memory devices and their interface.")
    link_pj_per_bit: dict[str, Figure[Positive]] = Field(description="Links between chips, both ends.")

    def arithmetic_j(self, kind: str, accumulate_bits: int, process_nm: float) -> float:
        """Bare multiply-accumulate: a product of `kind` added to a sum of `accumulate_bits`.

        Sums are floating-point for fp16 and wider, integer (linear in their width) for integers, fixed-point after an
        alignment for fp8 and fp4.

        Raises
        ------
        InputError, UnknownNameError
            For a type, a sum or a node that is none.
        """
        if not 1 <= accumulate_bits <= 64:
            raise InputError.expected("accumulate_bits", accumulate_bits, "1 to 64")
        multiply = _pick("type", kind, self.multiply_pj).at(process_nm)
        if kind.startswith("int") or kind in ("fp8", "fp4"):
            add = self.add_pj["int32"].at(process_nm) * accumulate_bits / 32
            return (multiply + add * (1.0 if kind.startswith("int") else self.core.aligned_add.value)) * PJ
        return (multiply + _pick("sum type", f"fp{accumulate_bits}", self.add_pj).at(process_nm)) * PJ

    def mac_j(self, kind: str, accumulate_bits: int, process_nm: float) -> float:
        """Multiply-accumulate of a tensor core, with its share of instructions and of the core's overhead.

        An operand register holds more of narrower types: instructions per multiply-accumulate go with the width.
        """
        per_instruction = self.core.tensor_macs_per_lane_instruction.value * 16 / _pick("type", kind, _BITS)
        return self.core_mac_j(kind, accumulate_bits, process_nm, InstructionKind.GPU_LANE, per_instruction)

    def core_mac_j(
        self, kind: str, accumulate_bits: int, process_nm: float, core: InstructionKind, macs_per_instruction: float
    ) -> float:
        """Multiply-accumulate of a programmable core, `macs_per_instruction` at a time (1 for a CUDA core in fp32).

        Raises
        ------
        InputError, UnknownNameError
            For a type, a sum or a node that is none.
        """
        if macs_per_instruction <= 0:
            raise InputError.expected("macs_per_instruction", macs_per_instruction, "more than 0")
        instruction = self.instruction_pj[core].at(process_nm) * PJ / macs_per_instruction
        return (self.arithmetic_j(kind, accumulate_bits, process_nm) + instruction) * self.core.overhead.value

    def instruction_j(self, core: InstructionKind, process_nm: float) -> float:
        """An instruction of a running core (of one lane, in a GPU), with the overhead."""
        return self.instruction_pj[core].at(process_nm) * PJ * self.core.overhead.value

    def sram_j_per_byte(self, capacity_bytes: float, process_nm: float) -> float:
        """Byte of an on-chip memory of a capacity.

        Log energy is linear in log capacity between the tabulated 8 KiB, 32 KiB and 1 MiB; beyond them energy goes
        with the square root of the capacity, as the length of the wires does. The overhead is not in it.

        Raises
        ------
        InputError
            If the capacity or the node is none.
        """
        if not 0 < capacity_bytes < math.inf:
            raise InputError.expected("capacity_bytes", capacity_bytes, "more than 0 and finite")
        small, middle, large = self.sram_pj_per_byte.at(process_nm)
        if capacity_bytes <= _KIB8:
            return small * math.sqrt(capacity_bytes / _KIB8) * PJ
        if capacity_bytes <= _KIB32:
            return _between(capacity_bytes, (_KIB8, small), (_KIB32, middle)) * PJ
        if capacity_bytes <= _MIB1:
            return _between(capacity_bytes, (_KIB32, middle), (_MIB1, large)) * PJ
        return large * math.sqrt(capacity_bytes / _MIB1) * PJ

    def cache_j_per_byte(self, capacity_bytes: float, process_nm: float) -> float:
        """Byte of a cache or shared memory of a running chip: banks of up to 1 MiB pay the overhead, wires do not."""
        banks = self.sram_j_per_byte(min(capacity_bytes, _MIB1), process_nm)
        return self.sram_j_per_byte(capacity_bytes, process_nm) + (self.core.overhead.value - 1) * banks

    def register_j_per_byte(self, process_nm: float) -> float:
        """Byte of a register file."""
        return self.register_pj_per_byte.at(process_nm) * PJ

    def dram_j_per_byte(self, kind: str) -> float:
        """Byte to or from memory devices of a kind (`HBM2e`, `GDDR6X`, `DDR4` ...)."""
        return _pick("kind of memory", kind, self.dram_pj_per_bit).value * 8 * PJ

    def link_j_per_byte(self, kind: str) -> float:
        """Byte over a link (`nvlink`, `nvlink_c2c`, `pcie`)."""
        return _pick("kind of link", kind, self.link_pj_per_bit).value * 8 * PJ

    def unverified(self) -> tuple[str, ...]:
        """Names of figures that are recalled."""
        return tuple(name for name, figure in self.figures() if figure.unverified)

    def assumed(self) -> tuple[str, ...]:
        """Names of figures that this project chose."""
        return tuple(name for name, figure in self.figures() if figure.assumed)


def _between(x: float, low: tuple[float, float], high: tuple[float, float]) -> float:
    """The power law through two points, at x."""
    slope = math.log(high[1] / low[1]) / math.log(high[0] / low[0])
    return low[1] * math.exp(slope * math.log(x / low[0]))


def _pick(what: str, key: str, table: dict[str, V]) -> V:
    if key not in table:
        raise UnknownNameError.near(what, key, table)
    return table[key]


@lru_cache(maxsize=1)
def energy_table() -> EnergyTable:
    """The table that is shipped."""
    path = Path(__file__).parent / "data" / "energy.toml"
    return checked(EnergyTable, read_toml(path), where=f"energy table {path.name!r}")
