"""What this machine says it is: /proc and /sys of Linux, and what a container leaves of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from accel_models.cpu.spec import Simd
from simsparse.errors import UnsupportedError

# Flags of /proc/cpuinfo (x86: `flags`, ARM: `Features`) and what they are called in a spec.
_FLAGS: tuple[tuple[str, Simd], ...] = (
    ("avx2", "AVX2"), ("avx512f", "AVX-512"), ("avx512_vnni", "VNNI"), ("avx_vnni", "AVX-VNNI"),
    ("avx512_bf16", "BF16"), ("avx512_fp16", "FP16"), ("amx_tile", "AMX"), ("asimd", "NEON"), ("asimddp", "dotprod"),
    ("i8mm", "i8mm"), ("sve", "SVE"),
)  # fmt: skip
_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}


@dataclass(frozen=True)
class Cache:
    """A data or unified cache: its level, bytes of one copy, and cores of this machine that share a copy."""

    level: int
    capacity_bytes: int
    shared_by: int


@dataclass(frozen=True)
class Identity:
    """This machine.

    Attributes
    ----------
    model : str
        As the maker names it.
    cores, threads : int
        Physical cores and hardware threads that this process may run on.
    quota : float or None
        Cores' worth of time that a container gives; None where it gives all.
    simd : tuple of str
    caches : tuple of Cache
    """

    model: str
    cores: int
    threads: int
    quota: float | None
    simd: tuple[Simd, ...]
    caches: tuple[Cache, ...]
    memory_bytes: int

    @property
    def usable(self) -> int:
        """Threads worth starting: one a core, as many as the container gives time for."""
        return max(1, min(self.cores, int(self.quota))) if self.quota is not None else self.cores

    def cache(self, level: int) -> Cache | None:
        """The cache of a level, if there is one."""
        return next((cache for cache in self.caches if cache.level == level), None)


def identity(root: Path = Path("/")) -> Identity:
    """Read it from `/proc` and `/sys` under `root`.

    Raises
    ------
    UnsupportedError
        On other systems than Linux, and for a processor without SIMD that the model knows.
    """
    cpuinfo, system = root / "proc/cpuinfo", root / "sys/devices/system/cpu"
    if not cpuinfo.is_file():
        raise UnsupportedError(f"{platform.system()} has no /proc/cpuinfo, expected Linux to measure this machine")
    facts = _facts(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    simd = tuple(name for flag, name in _FLAGS if flag in flags)
    if not {"AVX2", "NEON"} & set(simd):
        raise UnsupportedError("this processor has neither AVX2 nor NEON, expected one of them")
    allowed = _allowed(root, system)
    cores = {_core(system, cpu) for cpu in allowed}
    return Identity(
        facts.get("model name", platform.machine()), len(cores), len(allowed), _quota(root), simd,
        tuple(_caches(system, allowed)), _memory(root),
    )  # fmt: skip


def _facts(text: str) -> dict[str, str]:
    """The first processor's entries."""
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _allowed(root: Path, system: Path) -> list[int]:
    if root == Path("/"):
        return sorted(os.sched_getaffinity(0))
    return sorted(int(path.name[3:]) for path in system.glob("cpu[0-9]*"))


def _text(path: Path, default: str = "") -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return default


def _core(system: Path, cpu: int) -> tuple[str, str]:
    """Socket and core of a hardware thread; where the kernel does not say, each thread is a core."""
    topology = system / f"cpu{cpu}/topology"
    return _text(topology / "physical_package_id", "0"), _text(topology / "core_id", str(cpu))


def _caches(system: Path, allowed: list[int]) -> Iterator[Cache]:
    """Caches that the first processor uses."""
    cores = {cpu: _core(system, cpu) for cpu in allowed}
    for index in sorted((system / f"cpu{allowed[0]}/cache").glob("index[0-9]*")):
        size = _text(index / "size")
        if _text(index / "type") == "Instruction" or not size:
            continue
        sharing = {cores[cpu] for cpu in _list(_text(index / "shared_cpu_list")) if cpu in cores}
        capacity = int(size[:-1]) * _UNITS[size[-1]] if size[-1] in _UNITS else int(size)
        yield Cache(int(_text(index / "level")), capacity, max(1, len(sharing)))


def _list(text: str) -> Iterator[int]:
    """Numbers of a list such as `0-3,8`."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _quota(root: Path) -> float | None:
    """Cores' worth of time of the control group, versions 2 and 1."""
    fields = _text(root / "sys/fs/cgroup/cpu.max").split()
    if len(fields) != 2:
        group = root / "sys/fs/cgroup/cpu"
        fields = [_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")]
    try:
        quota, period = float(fields[0]), float(fields[1])
    except ValueError:
        return None
    return quota / period if quota > 0 else None


def _memory(root: Path) -> int:
    """Bytes of memory, or as many as the control group allows."""
    facts = _facts(_text(root / "proc/meminfo"))
    total = int(facts.get("MemTotal", "0 kB").split()[0]) * 1024
    limit = _text(root / "sys/fs/cgroup/memory.max")
    return min(total, int(limit)) if limit.isdecimal() else total
