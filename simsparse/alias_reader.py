"""`AliasReader`: reads measurement rows with tables of names, so that a family of machines ships data and no code.

A table is a TOML file: `[[device]]` from device texts to machines, `[[system]]` from system texts to kernels,
`[[dtype]]` and `[[model]]` from those texts to types and workloads. In each the first entry whose regular expression is
found in the text counts, case ignored. Types and models common to all families are in `simsparse/data/aliases.toml`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from simsparse.measurements import Measurement
from simsparse.readings import AttentionReading, Changes, GemmReading, ModelReading, Reading, Unreadable
from simsparse.registry import load_spec, machine_names, registered, workload_names
from simsparse.specs import checked, read_toml

BEST = "best"
COMMON = Path(__file__).parent / "data" / "aliases.toml"
_ATTENTION = {"attention-prefill": "prefill", "attention-decode": "decode"}
_MODEL_PHASES = ("prefill", "decode", "encode", "train")


class _Alias(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    match: str = Field(min_length=1, description="Regular expression, searched in the text, case ignored.")

    @field_validator("match")
    @classmethod
    def _compiles(cls, text: str) -> str:
        try:
            re.compile(text)
        except re.error as error:
            raise ValueError(f"a regular expression ({error})") from None
        return text

    def found_in(self, text: str) -> bool:
        """Whether it names `text`."""
        return re.search(self.match, text, re.IGNORECASE) is not None


class DeviceAlias(_Alias):
    """A device text and its machine, or the reason why none stands for it."""

    machine: str = ""
    reason: str = ""

    @model_validator(mode="after")
    def _says_one(self) -> Self:
        if bool(self.machine) == bool(self.reason):
            raise ValueError("a machine or a reason, not both")
        return self


class SystemAlias(_Alias):
    """A system text and how its rows are run."""

    kernel: str = Field(default=BEST, description="Of rows with a pattern.")
    dense_kernel: str = Field(default=BEST, description="Of dense rows.")
    weights: str = Field(default="B", pattern="^[AB]$", description="Which operand of a dense product is the weight.")
    model: str = Field(default="", description="Workload of rows that name no model.")
    phase: str = Field(default="", description="Phase to run instead of the row's.")
    on: tuple[str, ...] = Field(default=(), description="Globs of the ops of a model that have the pattern.")
    part: str = Field(default="", description="Glob of the contractions of a model that were timed.")
    reason: str = Field(default="", description="Why its rows cannot be priced.")
    phases: tuple[str, ...] = Field(default=(), description="Phases of rows that the entry is for; all if empty.")


class DTypeAlias(_Alias):
    """A text and its types."""

    dtype: str
    weight_dtype: str = ""


class ModelAlias(_Alias):
    """A text and its workload."""

    workload: str = Field(description=r"May use groups of the match: `mobilenet-v1-\1`.")
    on: tuple[str, ...] = Field(default=(), description="Globs of the ops that sources prune in such a model.")

    def workload_of(self, text: str) -> str:
        """The workload that `text` means."""
        found = re.search(self.match, text, re.IGNORECASE)
        return found.expand(self.workload) if found is not None else self.workload


class Aliases(BaseModel):
    """One table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str = ""
    threads_field: str = Field(default="", description="Spec field that takes the column `threads`.")
    instances_field: str = Field(default="", description="Spec field that takes the column `instances`.")
    device: tuple[DeviceAlias, ...] = ()
    system: tuple[SystemAlias, ...] = ()
    dtype: tuple[DTypeAlias, ...] = ()
    model: tuple[ModelAlias, ...] = ()


A = TypeVar("A", bound=_Alias)


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

    def reading(self, row: Measurement) -> Reading | Unreadable | None:
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
        kernel = system.dense_kernel if pattern == "dense" else system.kernel
        common = Reading(device.machine, self._changes(row), kernel, pattern, dtype.dtype, dtype.weight_dtype)
        return self._by_phase(row, system, common)

    def _by_phase(self, row: Measurement, system: SystemAlias, common: Reading) -> Reading | Unreadable:
        if row.phase == "gemm":
            return _gemm(row, system, common)
        if row.phase in _ATTENTION or row.phase in _MODEL_PHASES:
            return self._model(row, system, common)
        return Unreadable(f"no model runs phase {row.phase!r}" if row.phase else "a specification, not a run")

    def _device(self, text: str) -> DeviceAlias | None:
        if text in machine_names() or text.endswith(".toml"):
            return DeviceAlias(match=".", machine=text) if _family_of(text) == self.aliases.family else None
        return self._devices.find(text)

    def _system(self, row: Measurement) -> SystemAlias:
        """The first entry for the system and phase; rows of unknown systems run on the fastest kernel."""
        known = self._systems.get(row.phase, self._systems[""])
        return known.find(row.system) or SystemAlias(match=".")

    def _changes(self, row: Measurement) -> Changes:
        fields = ((self.aliases.threads_field, row.threads), (self.aliases.instances_field, row.instances))
        return tuple((field, value) for field, value in fields if field and value is not None)

    def _model(self, row: Measurement, system: SystemAlias, common: Reading) -> Reading | Unreadable:
        named = row.model or system.model
        if not named:
            return Unreadable("several ops timed together, and no model that names them")
        alias = self._models.find(named)
        if alias is None and named not in workload_names():
            return Unreadable(f"no workload is known by {named!r}")
        if row.devices is not None and row.devices > 1:
            return Unreadable(f"runs on {row.devices} devices together")
        if row.seq and not row.seq.isdecimal():
            return Unreadable(f"a sequence of {row.seq!r} is no single length")
        tokens = int(row.seq) if row.seq else None
        phase = system.phase or _ATTENTION.get(row.phase, row.phase)
        kind = AttentionReading if row.phase in _ATTENTION else ModelReading
        return kind(
            **vars(common), workload=named if alias is None else alias.workload_of(named), phase=phase,
            batch=row.batch or 1, seq=None if phase == "decode" else tokens,
            context=tokens if phase == "decode" else None, on=system.on or (alias.on if alias else ()) or ("*",),
            instances=row.instances or 1, part=system.part,
        )  # fmt: skip


@lru_cache
def _family_of(machine: str) -> str | None:
    """The family of a machine by name or file; None for one that was registered as an object."""
    return None if machine in registered().machines else load_spec(machine).family


def _gemm(row: Measurement, system: SystemAlias, common: Reading) -> GemmReading | Unreadable:
    if row.product is None:
        return Unreadable("M, N and K are not given")
    if row.pattern == "dense" or row.pattern.startswith("slice:"):
        operand = system.weights if common.weight_dtype else "A"
    else:
        operand = row.sparse_operand or "A"
    if operand not in ("A", "B"):
        return Unreadable(f"sparse operand {operand!r} is neither A nor B")
    bits = 16 if row.accumulate == "fp16" or "fp16 accumulate" in row.dtype else 32
    return GemmReading(**vars(common), operand=operand, accumulate_bits=bits)
