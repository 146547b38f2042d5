"""From an identity and timed bandwidths to a spec: what the machine says, what was timed, what had to be assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accel_models.cpu.measuring.identity import Identity
from accel_models.cpu.measuring.plan import MEMORY
from accel_models.cpu.spec import CpuSpec
from simsparse.specs import checked

SAYS = "this machine says so"
L1_BYTES = 32 * 1024  # where the kernel does not say


@dataclass(frozen=True)
class Bandwidths:
    """Bytes per second of reading: of one thread by level, and from memory of all threads.

    Attributes
    ----------
    core : mapping of level (2, 3, `MEMORY`) to rate
    """

    core: Mapping[int, float]
    memory: float


def spec_of(identity: Identity, name: str, clock_hz: float, rates: Bandwidths, date: str) -> CpuSpec:
    """The spec of the machine that was measured on `date`."""
    timed = f"measured on {date}"
    lanes = _vector_bytes(identity) // 4
    l1, l2, l3 = (identity.cache(level) for level in (1, 2, 3))
    cores = identity.usable
    figures: dict[str, tuple[object, str]] = {
        "cores": (cores, SAYS),
        "threads": (max(identity.threads, cores), SAYS),
        "clock_hz": (round(clock_hz), f"{timed}: additions that wait for each other"),
        "simd": (identity.simd, SAYS),
        "vector_bytes": (lanes * 4, "derived: by the instruction sets"),
        "vector_registers": (16 if lanes == 8 else 32, "derived: the same"),
        "fma_ports": (2, "assumed: as in cores of servers and desktops"),
        "load_ports": (2.0, "assumed: the same"),
        "shuffles_per_cycle": (1.0, "assumed: the same"),
        "l1d_bytes": (l1.capacity_bytes if l1 else L1_BYTES, SAYS if l1 else "assumed: common"),
        "dram_bandwidth_bytes_per_s": (round(rates.memory), f"{timed}: all threads read, of which nothing is lost"),
        "dram_core_bytes_per_s": (round(rates.core[MEMORY]), f"{timed}: one thread reads"),
        "dram_kind": ("DDR4", "assumed: not said; it bears on energy"),
        "memory_bytes": (identity.memory_bytes, SAYS),
        "tdp_w": (40.0 * cores, "assumed: 40 W a core, more than it draws: clocks are measured as they are"),
        "idle_w": (3.0 * cores, "assumed: 3 W a core; it bears on energy"),
        "core_kind": ("cpu_wide", "assumed: it bears on energy"),
        "process_nm": (7, "assumed: it bears on energy"),
    }  # fmt: skip
    data: dict[str, Any] = {
        "name": name, "family": "cpu", "title": f"{identity.model}, {cores} cores, measured on {date}",
        **{field: _figure(*figure) for field, figure in figures.items()},
        "macs_per_cycle": {
            "fp32": _figure(2 * lanes, "derived: lanes of two ports"),
            "int8": _figure(_int8_macs(identity), "derived: dot products, or what stands in for them"),
        },
        "constants": {"dram_fraction": _figure(1.0, f"{timed}: the bandwidth is what streams reach")},
    }  # fmt: skip
    data["l2"] = {
        "capacity_bytes": _figure(l2.capacity_bytes if l2 else 2**20, SAYS if l2 else "assumed: common"),
        "shared_by": _figure(l2.shared_by if l2 else 1, SAYS if l2 else "assumed: common"),
        "bytes_per_cycle": _figure(_per_cycle(rates.core[2], clock_hz), f"{timed}: one thread reads"),
    }
    if l3 is not None:
        data["l3"] = {
            "capacity_bytes": _figure(l3.capacity_bytes, SAYS),
            "shared_by": _figure(l3.shared_by, SAYS),
            "bytes_per_cycle": _figure(_per_cycle(rates.core[3], clock_hz), f"{timed}: one thread reads"),
        }
    return checked(CpuSpec, data, where=f"measured machine {name!r}")


def _figure(value: object, source: str) -> dict[str, object]:
    return {"value": value, "source": source}


def _per_cycle(bytes_per_s: float, clock_hz: float) -> float:
    return float(f"{bytes_per_s / clock_hz:.4g}")


def _vector_bytes(identity: Identity) -> int:
    return 64 if "AVX-512" in identity.simd else 32 if "AVX2" in identity.simd else 16


def _int8_macs(identity: Identity) -> float:
    """Multiply-accumulates per cycle: four a lane with dot products, else three instructions for a register of them."""
    width = float(_vector_bytes(identity))
    dot = {"VNNI", "AVX-VNNI", "dotprod"} & set(identity.simd)
    return 2 * width if dot else round(2 * width / 3, 1)
