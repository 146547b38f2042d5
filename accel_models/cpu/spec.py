"""What a CPU is, to the model: figures of its cores, caches and memory, each with a source."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from accel_models.cpu.constants import Constants
from simsparse.energy import InstructionKind
from simsparse.specs import Figure, Spec

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
RateKey = Literal["fp64", "fp32", "bf16", "fp16", "int8"]
DramKind = Literal["DDR4", "DDR5", "LPDDR4", "LPDDR4X", "LPDDR5"]
Simd = Literal[
    "AVX2", "AVX-512", "VNNI", "AVX-VNNI", "BF16", "FP16", "AMX", "Apple AMX", "NEON", "dotprod", "i8mm", "SVE"
]


class Level(BaseModel):
    """A cache level."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    capacity_bytes: Figure[Positive] = Field(description="Of one copy of the cache.")
    shared_by: Figure[Count] = Field(description="Cores that share one copy.")
    bytes_per_cycle: Figure[Positive] = Field(description="What it delivers to one core per cycle, towards the core.")


class CpuSpec(Spec):
    """A CPU, or the part of one that a rented instance or a phone's big cores are."""

    family: Literal["cpu"]

    cores: Figure[Count] = Field(description="Physical cores of the kind that runs kernels (the big ones).")
    threads: Figure[Count] = Field(description="Hardware threads of these cores.")
    clock_hz: Figure[Positive] = Field(description="Clock with all cores busy.")
    heavy_clock_hz: Figure[Positive] | None = Field(
        None, description="Clock with all cores in the widest SIMD code, where it is lower."
    )

    simd: Figure[tuple[Simd, ...]] = Field(description="Instruction sets that decide which kernels exist.")
    vector_bytes: Figure[Count] = Field(description="Bytes of a SIMD register.")
    vector_registers: Figure[Count] = Field(description="SIMD registers that code can name.")
    fma_ports: Figure[Count] = Field(description="Vector multiply-adds issued per cycle.")
    load_ports: Figure[Positive] = Field(description="Vector loads per cycle from L1.")
    shuffles_per_cycle: Figure[Positive] = Field(description="Vector permutes per cycle.")
    macs_per_cycle: dict[RateKey, Figure[Positive]] = Field(
        description="SIMD multiply-accumulates per cycle and core; a type that is absent is converted."
    )
    matrix_macs_per_cycle: dict[RateKey, Figure[Positive]] = Field(
        default_factory=dict,
        description="The same of a matrix unit with 16 x 16 tiles; of one that cores share, by core.",
    )

    l1d_bytes: Figure[Positive] = Field(description="First-level data cache of a core.")
    l2: Level
    l3: Level | None = None
    dram_bandwidth_bytes_per_s: Figure[Positive] = Field(description="Peak of all channels.")
    dram_core_bytes_per_s: Figure[Positive] = Field(description="Most that one core draws, by its outstanding misses.")
    dram_kind: Figure[DramKind] = Field(description="Kind of memory, for its energy.")
    memory_bytes: Figure[Positive] = Field(description="Installed memory.")

    tdp_w: Figure[Positive] = Field(description="Sustained power limit.")
    idle_w: Figure[Positive] = Field(description="Power with the cores awake and doing nothing.")
    core_v: Figure[Positive] | None = Field(
        None, description="Supply voltage of the cores at the clock of SIMD code; absent: that of the energy table."
    )
    core_kind: Figure[InstructionKind] = Field(description="Kind of core in the energy table, for instructions.")
    process_nm: Figure[Positive] = Field(description="Process node as the maker names it.")

    threads_used: Figure[Count] | None = Field(
        None, description="Threads of one instance; absent: all cores, divided among the instances."
    )
    instances: Figure[Count] | None = Field(
        None, description="Copies of the job that run side by side on cores of their own; absent: one."
    )

    looped: Figure[bool] | None = Field(
        None, description="Bare products run again and again, as benchmarks do: weights that fit stay in the cache."
    )
    constants: dict[str, Figure[Annotated[float, Field(ge=0, allow_inf_nan=False)]]] = Field(
        default_factory=dict, description="Constants measured on this machine, in place of those that ship."
    )

    @field_validator("constants")
    @classmethod
    def _are_constants(cls, given: dict[str, Figure[float]]) -> dict[str, Figure[float]]:
        for name in given:
            if name not in Constants.model_fields:
                raise ValueError(f"names of constants, which {name!r} is not")
        return given

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if "fp32" not in self.macs_per_cycle:
            raise ValueError("macs_per_cycle with fp32, which types without a rate are converted to")
        if self.threads.value < self.cores.value:
            raise ValueError("threads of at least cores")
        if self.running * self.used > self.cores.value:
            raise ValueError(f"threads_used times instances of at most cores ({self.cores.value}), one thread a core")
        return self

    @property
    def running(self) -> int:
        """Instances side by side."""
        return self.instances.value if self.instances else 1

    @property
    def used(self) -> int:
        """Threads of one instance."""
        return self.threads_used.value if self.threads_used else max(1, self.cores.value // self.running)
