"""Machine specs as data: TOML files whose every figure has a source, checked by pydantic.

A figure in a file is `sm_count = { value = 108, source = "NVIDIA A100 datasheet" }`. A figure known but not looked up
has `source = "recalled"`; one this project had to choose has `source = "assumed: why"`. Both can be listed.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simsparse.errors import InputError, UnknownNameError

T = TypeVar("T")
RECALLED = "recalled"
ASSUMED = "assumed"
BY_USER = "set by the user"


class Figure(BaseModel, Generic[T]):
    """A figure and where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: T
    source: str = Field(min_length=1)
    note: str = ""

    @property
    def unverified(self) -> bool:
        """Known, but not looked up."""
        return self.source.startswith(RECALLED)

    @property
    def assumed(self) -> bool:
        """Chosen by this project."""
        return self.source.startswith(ASSUMED)


class Spec(BaseModel):
    """Base of the specs of all families: unknown keys are errors, values do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    family: str
    aliases: tuple[str, ...] = ()
    title: str = ""

    def figures(self) -> Iterator[tuple[str, Figure[Any]]]:
        """Each figure with its field name, those in tables (per dtype, per level) with a dotted one."""
        for field in type(self).model_fields:
            yield from _walk(field, getattr(self, field))

    def digest(self) -> str:
        """Twelve hex digits of the content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def with_figures(self, changes: Mapping[str, object]) -> Spec:
        """A copy with figures replaced: `{"sm_count": 160, "mac_rate.fp16": 2048}`; their source says so.

        Tables (`mac_rate`) take new keys as well. A value that is a `Figure` keeps its own source.

        Raises
        ------
        UnknownNameError, InputError
            For a field that is none, or a value of the wrong type.
        """
        data = self.model_dump()
        known = [name for name, _ in self.figures()]
        for field, value in changes.items():
            head, *keys = field.split(".")
            in_table = bool(keys) and isinstance(getattr(self, head, None), Mapping)
            if field not in known and field not in type(self).model_fields and not in_table:
                raise UnknownNameError.near(f"field of machine {self.name!r}", field, known)
            figure = value.model_dump() if isinstance(value, Figure) else {"value": value, "source": BY_USER}
            _set(data, [head, *keys], figure)
        return checked(type(self), data, where=f"machine {self.name!r}")


def _walk(path: str, value: object) -> Iterator[tuple[str, Figure[Any]]]:
    if isinstance(value, Figure):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(f"{path}.{key}", item)
    elif isinstance(value, BaseModel):
        for key in type(value).model_fields:
            yield from _walk(f"{path}.{key}", getattr(value, key))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _walk(f"{path}.{index}", item)


def _set(data: Any, path: list[str], figure: Mapping[str, object]) -> None:
    *parents, last = path
    for key in parents:
        data = data[int(key)] if isinstance(data, (list, tuple)) else data.setdefault(key, {})
    data[last] = dict(figure)


S = TypeVar("S", bound=BaseModel)


def checked(model: type[S], data: Mapping[str, object], *, where: str) -> S:
    """Validate, and turn pydantic's report into one sentence.

    Raises
    ------
    InputError
        Naming the first field that is wrong.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise InputError(
                f"{where}: unknown key {field!r}, expected one of the fields of {model.__name__}"
            ) from None
        if first["type"] == "missing":
            raise InputError(f"{where}: field {field!r} is missing, expected {model.__name__} to have it") from None
        if not first["loc"]:  # a check across fields: the input is all of them
            raise InputError(f"{where}: expected {first['msg'].removeprefix('Value error, ')}") from None
        raise InputError(f"{where}: {field} is {first.get('input')!r}, expected: {first['msg'].lower()}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises
    ------
    InputError
        If it cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"file {str(path)!r} is no readable TOML ({reason}), expected a TOML file") from None
