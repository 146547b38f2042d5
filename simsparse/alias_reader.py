"""`AliasReader`: reads measurement rows with tables of names, so that a family of machines ships data and no code.

A table is a TOML file: `[[device]]` from device texts to machines, `[[system]]` from system texts to kernels,
`[[dtype]]` and `[[model]]` from those texts to types and workloads. In each the first entry whose regular expression is
found in the text counts, case ignored. Types and models common to all families are in `simsparse/data/aliases.toml`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from simsparse.aliases import Alias, Aliases, DeviceAlias, DTypeAlias, ModelAlias, SystemAlias
from simsparse.machine import BEST
from simsparse.measurements import Measurement
from simsparse.ops import StreamKind
from simsparse.readings import (
    AnyReading,
    AttentionReading,
    Changes,
    GemmReading,
    ModelReading,
    Reading,
    StreamReading,
    SumReading,
    Unreadable,
)
from simsparse.registry import load_spec, machine_names, registered, workload_names
from simsparse.sparsity import Unstructured, parse
from simsparse.specs import checked, read_toml

COMMON = Path(__file__).parent / "data" / "aliases.toml"
_ATTENTION = {"attention-prefill": "prefill", "attention-decode": "decode"}
_MODEL_PHASES = ("prefill", "decode", "encode", "train")


A = TypeVar("A", bound=Alias)


class _Finder(Generic[A]):
    """The first of some aliases that a text names; texts repeat from row to row, so answers are kept."""

    def __init__(self, aliases: Sequence[A]) -> None:
        self._aliases = aliases
        self._known: dict[str, A | None] = {}

    def find(self, text: str) -> A | None:
        if text not in self._known:
            self._known[text] = next((alias for alias in self._aliases if alias.found_in(text)), None)
        return self._known[text]


@lru_cache
def _table(path: Path) -> Aliases:
    return checked(Aliases, read_toml(path), where=f"alias table {path.name!r}")


@dataclass(frozen=True)
class AliasReader:
    """Reads rows by the table at `path`."""

    path: Path

    @cached_property
    def aliases(self) -> Aliases:
        """The family's table, and after it the names common to all."""
        own, common = _table(self.path), _table(COMMON)
        return own.model_copy(update={"dtype": own.dtype + common.dtype, "model": own.model + common.model})

    @cached_property
    def _devices(self) -> _Finder[DeviceAlias]:
        return _Finder(self.aliases.device)

    @cached_property
    def _dtypes(self) -> _Finder[DTypeAlias]:
        return _Finder(self.aliases.dtype)

    @cached_property
    def _models(self) -> _Finder[ModelAlias]:
        return _Finder(self.aliases.model)

    @cached_property
    def _systems(self) -> dict[str, _Finder[SystemAlias]]:
        """By phase of the row."""
        return {
            phase: _Finder([alias for alias in self.aliases.system if not alias.phases or phase in alias.phases])
            for phase in ("", "gemm", "op", *_ATTENTION, *_MODEL_PHASES)
        }

    def reading(self, row: Measurement) -> AnyReading | Unreadable | None:
        """How to price a row; None where its device is none of the family's."""
        device = self._device(row.device)
        if device is None:
            return None
        if device.reason:
            return Unreadable(device.reason)
        system = self._system(row)
        if system.reason:
            return Unreadable(system.reason)
        dtype = self._dtypes.find(row.dtype)
        if dtype is None:
            return Unreadable(f"no type is known by {row.dtype!r}")
        sliced = row.pattern.startswith("slice:") and row.phase == "gemm"  # M, N, K are already the executed ones
        pattern = "dense" if sliced else row.pattern
        if not pattern:
            return Unreadable("no single pattern says what is zero")
        if system.pattern and pattern != "dense":
            pattern = system.pattern.format(zero=pattern.rpartition(":")[2])
        kernel = system.dense_kernel if pattern == "dense" else system.kernel
        changes = self._changes(row, device, system)
        common = Reading(device.machine_of(row.device), changes, kernel, pattern, dtype.dtype, dtype.weight_dtype)
        return self._by_phase(row, device, system, common)

    def _by_phase(
        self, row: Measurement, device: DeviceAlias, system: SystemAlias, common: Reading
    ) -> AnyReading | Unreadable:
        if row.phase == "gemm" or system.products:
            return _products(row, system, common)
        if system.streams:
            return _passes(row, system, common)
        if row.phase in _ATTENTION or row.phase in _MODEL_PHASES:
            return self._model(row, device, system, common)
        return Unreadable(f"no model runs phase {row.phase!r}" if row.phase else "a specification, not a run")

    def _device(self, text: str) -> DeviceAlias | None:
        if text in machine_names() or text.endswith(".toml"):
            return DeviceAlias(match=".", machine=text) if _family_of(text) == self.aliases.family else None
        return self._devices.find(text)

    def _system(self, row: Measurement) -> SystemAlias:
        """The first entry for the system and phase; rows of unknown systems run on the fastest kernel."""
        known = self._systems.get(row.phase, self._systems[""])
        return known.find(row.system) or SystemAlias(match=".")

    def _changes(self, row: Measurement, device: DeviceAlias, system: SystemAlias) -> Changes:
        """Fields of the machine's spec that a row sets."""
        framework = (
            self.aliases.framework.get(system.framework or row.framework) if row.phase in _MODEL_PHASES else None
        )
        fields: tuple[tuple[str, object], ...] = (
            (self.aliases.threads_field, row.threads),
            (self.aliases.instances_field, row.instances),
            (self.aliases.loop_field, True if row.phase == "gemm" else None),
            (self.aliases.framework_field, framework),
            *((field, _expanded(device, value, row.device)) for field, value in device.set.items()),
            *((field, _expanded(system, value, row.system)) for field, value in system.set.items()),
            *self._of_model(row),
        )
        return tuple((field, value) for field, value in fields if field and value is not None)

    def _of_model(self, row: Measurement) -> Changes:
        """What the model of a row sets."""
        alias = self._models.find(row.model) if row.model and row.phase in _MODEL_PHASES else None
        return tuple((field, _expanded(alias, value, row.model)) for field, value in alias.set.items()) if alias else ()

    def _model(
        self, row: Measurement, device: DeviceAlias, system: SystemAlias, common: Reading
    ) -> AnyReading | Unreadable:
        named = row.model or system.model
        if not named:
            return Unreadable("several ops timed together, and no model that names them")
        alias = self._models.find(named)
        if alias is None and named not in workload_names():
            return Unreadable(f"no workload is known by {named!r}")
        if row.devices is not None and row.devices > 1 and not any("{devices}" in text for text in system.method):
            return Unreadable(f"runs on {row.devices} devices together")
        if row.seq and not row.seq.isdecimal():
            return Unreadable(f"a sequence of {row.seq!r} is no single length")
        tokens = int(row.seq) if row.seq else None
        phase = system.phase or _ATTENTION.get(row.phase, row.phase)
        context = tokens if tokens is not None else system.context
        if tokens is not None and system.grows:
            context = tokens // 2
        kind = AttentionReading if row.phase in _ATTENTION else ModelReading
        methods = tuple(text.format(devices=row.devices or 1) for text in (*device.method, *system.method))
        if common.pattern.startswith("slice:"):
            methods, common = (common.pattern, *methods), replace(common, pattern="dense")
        return kind(
            **vars(common), workload=named if alias is None else alias.workload_of(named), phase=phase,
            batch=row.batch or 1, seq=None if phase == "decode" else tokens,
            context=context if phase == "decode" else None, on=system.on or (alias.on if alias else ()) or ("*",),
            instances=row.instances or 1, part=system.part, methods=methods, verify=system.verify,
        )  # fmt: skip


def _expanded(alias: Alias, value: bool | float | str, text: str) -> bool | float | str:
    """A field's value: a number, or what the groups of the match make of a text, a number where they make one."""
    if not isinstance(value, str):
        return value
    made = alias.expanded(value, text)
    try:
        return float(made)
    except ValueError:
        return made


@lru_cache
def _family_of(machine: str) -> str | None:
    """The family of a machine by name or file; None for one that was registered as an object."""
    return None if machine in registered().machines else load_spec(machine).family


def _products(row: Measurement, system: SystemAlias, common: Reading) -> AnyReading | Unreadable:
    """The product of a row, or those that its system times together."""
    if row.product is None:
        return Unreadable("M, N and K are not given")
    bits = 16 if row.accumulate == "fp16" or "fp16 accumulate" in row.dtype else 32
    dense = GemmReading(
        common.machine, common.changes, system.dense_kernel, "dense", common.dtype, common.weight_dtype,
        system.weights if common.weight_dtype else "A", bits,
    )  # fmt: skip
    operand = row.sparse_operand or "A"
    if common.pattern != "dense" and operand not in ("A", "B"):
        return Unreadable(f"sparse operand {operand!r} is neither A nor B")
    read = dense
    if common.pattern != "dense":
        pattern = _with_one_fan_in(common.pattern, row.product[2]) if system.constant_fan_in else common.pattern
        read = replace(dense, kernel=common.kernel, pattern=pattern, operand=operand)
    if not system.products:
        return read
    size = dict(zip("MNK", row.product, strict=True))
    products = tuple(((size[p.m], size[p.n], size[p.k]), dense if p.dense else read) for p in system.products)
    return SumReading(products, tuple(_streams(size, system, common)))


def _with_one_fan_in(pattern: str, inputs: int) -> str:
    """`unstructured:s` as N of all inputs; other patterns as they are."""
    known = parse(pattern)
    return f"{round(known.density * inputs)}:{inputs}" if isinstance(known, Unstructured) else pattern


def _passes(row: Measurement, system: SystemAlias, common: Reading) -> AnyReading | Unreadable:
    """The pass of a row that was timed alone."""
    size = {label: extent for label, extent in (("M", row.m), ("N", row.n), ("K", row.k)) if extent is not None}
    if any(label not in size for stream in system.streams for label in (stream.rows, stream.columns)):
        return Unreadable("the extents of its matrix are not given")
    return next(_streams(size, system, common), Unreadable("a dense matrix is not packed"))


def _streams(size: Mapping[str, int], system: SystemAlias, common: Reading) -> Iterator[StreamReading]:
    for stream in system.streams:
        kind = StreamKind(stream.kind)
        if kind is not StreamKind.COMPRESS or common.pattern != "dense":
            # Passes have kernels of their own, whatever runs the products.
            fields = {**vars(common), "kernel": BEST}
            yield StreamReading(**fields, kind=kind, rows=size[stream.rows], columns=size[stream.columns])
