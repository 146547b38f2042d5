"""A CPU as plain numbers: what kernels and pricing read, from a spec and the constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel_models.cpu.constants import Constants
from accel_models.cpu.spec import CpuSpec, RateKey
from simsparse.energy import energy_table
from simsparse.plan import COMPUTE_TYPES, Floats, Ints

# Arithmetic types of a core, in the order of `MapColumn.TYPE` codes.
TYPES: tuple[RateKey, ...] = ("fp64", "fp32", "bf16", "fp16", "int8")
TYPE_BITS = np.array([64.0, 32.0, 16.0, 16.0, 8.0])
FP32 = TYPES.index("fp32")
INT8 = TYPES.index("int8")
AVX2_BYTES = 32
# What each multiplication type runs as, the first that the chip has a rate for.
_RUNS_AS: dict[str, tuple[RateKey, ...]] = {
    "fp64": ("fp64",), "fp32": ("fp32",), "tf32": ("fp32",), "bf16": ("bf16", "fp32"), "fp16": ("fp16", "fp32"),
    "fp8": ("bf16", "fp16", "fp32"), "fp4": ("bf16", "fp16", "fp32"),
    "int8": ("int8", "fp32"), "int4": ("int8", "fp32"),
}  # fmt: skip


@dataclass(frozen=True)
class Chip:
    """Plain numbers of one instance on a CPU; sizes in bytes, rates per core.

    Attributes
    ----------
    threads, instances : int
        Threads of one instance, each with a core of its own while there are cores; copies that run beside.
    clock_hz : float
    rates : (types,) ndarray
        SIMD multiply-accumulates per cycle and core; 0 where the type is converted.
    matrix_rates : (types,) ndarray
        The same of a matrix unit.
    arithmetic : (COMPUTE_TYPES,) ndarray of int
        Code of the type that each multiplication type runs as.
    lanes : int
        Accumulators of 32 bits in a register.
    l1_bytes, l2_bytes : float
        Share of one thread.
    shared_bytes : float
        Last-level cache that one instance has to itself.
    weights_resident : bool
        Weights stay in the last-level cache from one run to the next.
    dense_efficiency, matrix_efficiency : float
        Share of its issue-limited rate that a dense microkernel of this kind of core sustains, SIMD and matrix unit.
    in_framework : bool
        Calls are ops of a model that a framework runs.
    looped : bool
        Calls are bare products run again and again.
    """

    threads: int
    instances: int
    clock_hz: float
    rates: Floats
    matrix_rates: Floats
    arithmetic: Ints
    lanes: int
    registers: int
    fma_ports: int
    load_ports: float
    shuffles_per_cycle: float
    vector_bytes: int
    simd: frozenset[str]
    l1_bytes: float
    l2_bytes: float
    l2_bytes_per_s: float
    l3_bytes_per_s: float
    has_l3: bool
    shared_bytes: float
    dram_bytes_per_s: float
    dram_core_bytes_per_s: float
    dense_efficiency: float
    matrix_efficiency: float
    constants: Constants
    weights_resident: bool = False
    in_framework: bool = False
    looped: bool = False

    @property
    def x86(self) -> bool:
        """Whether the libraries of x86 run."""
        return _is_x86(self.simd)

    @property
    def overhead_cycles(self) -> float:
        """Of a call: the barrier of a bare kernel, and within a model what the framework adds to an op."""
        c = self.constants
        return c.call_cycles.value + (self.op_cycles if self.in_framework else 0.0)

    @property
    def op_cycles(self) -> float:
        """What a framework adds to an op: its own work, and a barrier of all threads."""
        return self.constants.framework_cycles.value + self.threads * self.constants.barrier_cycles.value


def chip_of(spec: CpuSpec, constants: Constants) -> Chip:
    """The numbers of a spec."""
    cores = spec.used * spec.running
    threads = spec.used
    simd = frozenset(spec.simd.value)
    outer = "Apple AMX" in simd
    clock = (spec.heavy_clock_hz or spec.clock_hz).value
    rates = _rates({key: figure.value for key, figure in spec.macs_per_cycle.items()})
    last = spec.l3 or spec.l2
    copies = -(-spec.cores.value // last.shared_by.value)
    own = min(-(-threads // last.shared_by.value), copies)
    return Chip(
        threads=threads,
        instances=spec.running,
        clock_hz=clock,
        rates=rates,
        matrix_rates=np.array(
            [spec.matrix_macs_per_cycle[key].value if key in spec.matrix_macs_per_cycle else 0.0 for key in TYPES]
        ),
        arithmetic=np.array([_runs_as(name, rates) for name in COMPUTE_TYPES]),
        lanes=spec.vector_bytes.value // 4,
        registers=spec.vector_registers.value,
        fma_ports=spec.fma_ports.value,
        load_ports=spec.load_ports.value,
        shuffles_per_cycle=spec.shuffles_per_cycle.value,
        vector_bytes=spec.vector_bytes.value,
        simd=simd,
        l1_bytes=spec.l1d_bytes.value,
        l2_bytes=spec.l2.capacity_bytes.value / min(spec.l2.shared_by.value, cores),
        l2_bytes_per_s=spec.l2.bytes_per_cycle.value * clock,
        l3_bytes_per_s=spec.l3.bytes_per_cycle.value * clock if spec.l3 else 0.0,
        has_l3=spec.l3 is not None,
        shared_bytes=min(own * last.capacity_bytes.value, copies * last.capacity_bytes.value / spec.running),
        dram_bytes_per_s=spec.dram_bandwidth_bytes_per_s.value,
        dram_core_bytes_per_s=spec.dram_core_bytes_per_s.value,
        dense_efficiency=(constants.onednn_efficiency if _is_x86(simd) else constants.xnnpack_efficiency).value,
        matrix_efficiency=(constants.accelerate_efficiency if outer else constants.onednn_matrix_efficiency).value,
        constants=constants,
        looped=spec.looped is not None and spec.looped.value,
    )


def _is_x86(simd: frozenset[str]) -> bool:
    return bool({"AVX2", "AVX-512"} & simd)


def _rates(stated: dict[RateKey, float]) -> Floats:
    """Rates by type code; fp64 fits half as often into a register as fp32 where nothing is stated."""
    return np.array([stated.get(key, stated["fp32"] / 2 if key == "fp64" else 0.0) for key in TYPES])


def _runs_as(name: str, rates: Floats) -> int:
    return next(TYPES.index(key) for key in _RUNS_AS[name] if rates[TYPES.index(key)] > 0)


def energy_parameters(spec: CpuSpec, constants: Constants) -> Floats:
    """Energies in J: per instruction, per byte of L2, L3 and memory, then per multiply-accumulate of each type.

    Of an instruction's energy a share goes with the width of its registers, over that of AVX2. What the cores and
    their L2 take goes with the square of their supply voltage over that of the energy table.
    """
    table = energy_table()
    node = spec.process_nm.value
    nominal_v = table.core.nominal_v.value
    supply = ((spec.core_v.value if spec.core_v else nominal_v) / nominal_v) ** 2
    overhead = table.core.overhead.value * supply
    width = 1 + constants.datapath_share.value * (spec.vector_bytes.value / AVX2_BYTES - 1)
    instruction = table.instruction_pj[spec.core_kind.value].at(node) * 1e-12 * overhead * width
    l3 = table.sram_j_per_byte(spec.l3.capacity_bytes.value / spec.l3.shared_by.value, node) if spec.l3 else 0.0
    levels = [
        table.sram_j_per_byte(spec.l2.capacity_bytes.value, node) * supply,
        l3,
        table.dram_j_per_byte(spec.dram_kind.value),
    ]
    widths = {"fp64": 64}
    macs = [table.arithmetic_j(name, widths.get(name, 32), node) * overhead for name in TYPES]
    return np.array([instruction, *levels, *macs])
