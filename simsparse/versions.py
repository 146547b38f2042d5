"""One hash over all that bears on the results of a sweep: code, specs, constants, and the files that its axes name."""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from pathlib import Path

from simsparse.grid import SweepSpec
from simsparse.registry import families, load_machine, registered, sources

_SUFFIXES = (".py", ".toml", ".json", ".csv")


def sweep_version(spec: SweepSpec) -> str:
    """Sixteen hex digits that change when a result of the sweep could."""
    digest = hashlib.sha256(_code_digest(_packages()))
    for name in spec.machine:
        origin = load_machine(name).provenance
        digest.update(f"{name} {origin.spec_hash} {origin.constants_hash}\n".encode())
    for text in (*spec.workload, *(pattern.removeprefix("mask:") for pattern in spec.pattern)):
        for path in _named_files(Path(text)):
            stat = path.stat()
            digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _packages() -> frozenset[str]:
    """This package, and those that machines and workloads come from."""
    makers = [type(obj).__module__ for obj in (*sources(), *registered().machines.values())]
    makers += [family.build.__module__ for family in families().values()]
    return frozenset({"simsparse", *(maker.partition(".")[0] for maker in makers)})


@cache
def _code_digest(packages: frozenset[str]) -> bytes:
    """Hash of their files, taken once a process: what is edited later is not what runs."""
    digest = hashlib.sha256()
    for path in sorted(path for name in packages for path in _files(name)):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def _files(package: str) -> list[Path]:
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None:
        return []
    path = Path(file)
    if path.name != "__init__.py":
        return [path]
    return [inside for inside in path.parent.rglob("*") if inside.suffix in _SUFFIXES]


def _named_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(inside for inside in path.rglob("*") if inside.is_file())
    return [path] if path.is_file() else []
