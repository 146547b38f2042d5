"""What a sweep runs: axes from a TOML file, and the points of their product, each a plain value with a content hash."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from simsparse.dtypes import dtype
from simsparse.errors import InputError, UnknownNameError
from simsparse.registry import machine_names, sources, workload_names
from simsparse.sparsity import parse
from simsparse.specs import checked, read_toml
from simsparse.transforms.by_name import known_method

MAX_POINTS = 10_000_000
Value = StrictBool | StrictInt | StrictFloat | StrictStr
PhaseName = Literal["prefill", "decode", "encode", "train"]
Count = Annotated[StrictInt, Field(ge=1, le=2**40)]
Cached = Annotated[StrictInt, Field(ge=0, le=2**40)]
NO_METHOD = "none"


def _listed(value: Any) -> Any:
    """One value is an axis of one point."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _flat(tables: Any) -> Any:
    """`[set]` with dotted fields, which TOML reads as tables in tables, as axes by field."""
    if not isinstance(tables, Mapping):
        return tables
    flat: dict[str, Any] = {}
    for field, value in tables.items():
        if isinstance(value, Mapping):
            flat |= {f"{field}.{name}": inner for name, inner in _flat(value).items()}
        else:
            flat[field] = _listed(value)
    return flat


class SweepSpec(BaseModel):
    """Axes of a sweep; each is a value or a list of values. The order of the fields is the order of the table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workload: Annotated[tuple[StrictStr, ...], BeforeValidator(_listed), Field(min_length=1)]
    phase: Annotated[tuple[PhaseName | None, ...], BeforeValidator(_listed), Field(min_length=1)] = (None,)
    batch: Annotated[tuple[Count, ...], BeforeValidator(_listed), Field(min_length=1)] = (1,)
    seq: Annotated[tuple[Count | None, ...], BeforeValidator(_listed), Field(min_length=1)] = (None,)
    context: Annotated[tuple[Cached | None, ...], BeforeValidator(_listed), Field(min_length=1)] = (None,)
    dtype: Annotated[tuple[StrictStr, ...], BeforeValidator(_listed), Field(min_length=1)] = ("fp16",)
    method: Annotated[tuple[StrictStr, ...], BeforeValidator(_listed), Field(min_length=1)] = Field(
        default=(NO_METHOD,), description="Methods as --method takes them, several in order separated by `;`."
    )
    machine: Annotated[tuple[StrictStr, ...], BeforeValidator(_listed), Field(min_length=1)]
    set: Annotated[dict[StrictStr, Annotated[tuple[Value, ...], Field(min_length=1)]], BeforeValidator(_flat)] = Field(
        default_factory=dict, description="Axes of figures of the machines' specs, by field."
    )
    on: Annotated[tuple[StrictStr, ...], BeforeValidator(_listed), Field(min_length=1)] = ("*",)
    pattern: Annotated[tuple[StrictStr, ...], BeforeValidator(_listed), Field(min_length=1)] = ("dense",)
    kernel: Annotated[tuple[StrictStr, ...], BeforeValidator(_listed), Field(min_length=1)] = ("best",)

    @classmethod
    def read(cls, spec: SweepSpec | Mapping[str, object] | str | Path) -> Self:
        """From a TOML file or a mapping, with all names checked.

        Raises
        ------
        SimsparseError
            For an unknown key, a bad value, an unknown name, a value twice on an axis, too many points.
        """
        if isinstance(spec, (str, Path)):
            data, where = read_toml(Path(spec)), f"sweep file {Path(spec).name!r}"
        elif isinstance(spec, Mapping):
            data, where = dict(spec), "sweep"
        else:
            raise InputError.expected("sweep", spec, "the path of a TOML file or a mapping of axes")
        made = checked(cls, data, where=where)
        made._check()
        return made

    def _check(self) -> None:
        for name, values in self.axes:
            if len(set(map(repr, values))) < len(values):
                raise InputError.expected(f"axis {name}", list(values), "each value once")
        for text in self.dtype:
            dtype(text)
        for text in self.pattern:
            parse(text)
        for text in self.method:
            for one in methods_of(text):
                known_method(one)
        known = machine_names()
        for name in self.machine:
            if name not in known and not name.endswith(".toml"):
                _known_alias(name, known)
        for name in self.workload:
            if not any(source.accepts(name) for source in sources()):
                raise UnknownNameError.near("workload", name, workload_names())
        points = math.prod(len(values) for _, values in self.axes)
        if points > MAX_POINTS:
            raise InputError.expected("points of the sweep", points, f"at most {MAX_POINTS:,}")

    @property
    def axes(self) -> tuple[tuple[str, tuple[Value | None, ...]], ...]:
        """Name and values of each axis, outermost first."""
        plain = [(name, getattr(self, name)) for name in type(self).model_fields if name != "set"]
        at = [name for name, _ in plain].index("machine") + 1
        return (*plain[:at], *self.set.items(), *plain[at:])


def methods_of(text: str) -> list[str]:
    """The methods of a value of the axis `method`, in order."""
    return [] if text == NO_METHOD else [part.strip() for part in text.split(";")]


def _known_alias(name: str, known: list[str]) -> None:
    from simsparse.registry import load_spec

    try:
        load_spec(name)
    except UnknownNameError:
        raise UnknownNameError.near("machine", name, known) from None


@dataclass(frozen=True)
class Point:
    """One job of a sweep; `changes` are fields of the machine's spec and their values."""

    workload: str
    phase: str | None
    batch: int
    seq: int | None
    context: int | None
    dtype: str
    method: str
    machine: str
    changes: tuple[tuple[str, Value], ...]
    on: str
    pattern: str
    kernel: str

    def digest(self, version: str) -> str:
        """Hash of its content and of the `version` of everything that bears on its result."""
        return hashlib.sha256(json.dumps([version, astuple(self)]).encode()).hexdigest()


@dataclass(frozen=True)
class Grid:
    """All points of a spec by number, the last axis fastest, in chunks whose points are neighbours."""

    spec: SweepSpec

    @cached_property
    def axes(self) -> tuple[tuple[str, tuple[Value | None, ...]], ...]:
        """Name and values of each axis."""
        return self.spec.axes

    def __len__(self) -> int:
        return math.prod(len(values) for _, values in self.axes)

    def values(self, index: int) -> dict[str, Value | None]:
        """The values of point `index` by axis."""
        chosen: dict[str, Value | None] = {}
        for name, values in reversed(self.axes):
            index, at = divmod(index, len(values))
            chosen[name] = values[at]
        return {name: chosen[name] for name, _ in self.axes}

    def points(self, start: int, stop: int) -> Iterator[Point]:
        """Points from `start` to before `stop`."""
        for index in range(start, stop):
            values: dict[str, Any] = self.values(index)
            changes = tuple((field, values.pop(field)) for field in self.spec.set)
            yield Point(**values, changes=changes)

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """Ranges of points; their size depends on the grid alone, so that another number of jobs can go on.

        A chunk holds whole runs of the axes that share a workload and a machine, as far as that keeps it small.
        """
        inner = math.prod(len(getattr(self.spec, name)) for name in ("on", "pattern", "kernel"))
        size = max(MIN_CHUNK, math.ceil(len(self) / MAX_CHUNKS))
        size = math.ceil(size / inner) * inner if inner <= size else size
        return [(start, min(start + size, len(self))) for start in range(0, len(self), size)]


MIN_CHUNK, MAX_CHUNKS = 64, 2048
