"""Reading a `config.json`: typed access to its keys, and one sentence for whatever is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simsparse.errors import InputError

MAX_SIZE = 2**31 - 1
MAX_LAYERS = 10_000
MAX_FILE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Config:
    """Keys of a configuration, read with checks. A key that is null counts as absent.

    Attributes
    ----------
    data : mapping
    where : str
        What errors call it.
    """

    data: Mapping[str, object]
    where: str

    def __post_init__(self) -> None:
        if not isinstance(self.data, Mapping):
            raise InputError(f"{self.where} holds a {type(self.data).__name__}, expected a JSON object")

    def get(self, *keys: str) -> object:
        """Value of the first of several spellings that is there, else None."""
        return next((self.data[key] for key in keys if self.data.get(key) is not None), None)

    def size(self, *keys: str, default: int | None = None, most: int = MAX_SIZE) -> int:
        """A whole number from 1 to `most`; an error if absent and without default."""
        found = self.optional_size(*keys, most=most)
        if found is None:
            found = default
        if found is None:
            raise InputError(f"{self.where} has no {' or '.join(keys)}, expected a whole number")
        return found

    def optional_size(self, *keys: str, least: int = 1, most: int = MAX_SIZE) -> int | None:
        """A whole number from `least` to `most`, or None if absent."""
        value = self.get(*keys)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            expectation = f"a whole number from {least} to {most}"
            raise self.error(self._spelled(keys), value, expectation)
        return value

    def layers(self, *keys: str) -> int:
        """A number of layers."""
        return self.size(*keys, most=MAX_LAYERS)

    def flag(self, *keys: str, default: bool) -> bool:
        """True or false."""
        value = self.get(*keys)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(self._spelled(keys), value, "true or false")
        return value

    def fraction(self, *keys: str, default: float) -> float:
        """A number from 0 to 1."""
        value = self.get(*keys)
        if value is None:
            return default
        # The comparison also refuses NaN, which JSON readers let through.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise self.error(self._spelled(keys), value, "a number from 0 to 1")
        return float(value)

    def text(self, *keys: str, default: str) -> str:
        """A string."""
        value = self.get(*keys)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.error(self._spelled(keys), value, "a string")
        return value

    def items(self, key: str, kind: type) -> list[object] | None:
        """A list whose members are all of `kind`, or None if absent."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(type(item) is kind for item in value):
            raise self.error(key, value, f"a list of {kind.__name__}")
        return value

    def section(self, key: str) -> Config:
        """A nested object; an empty one if absent."""
        value = self.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.error(key, value, "an object")
        return Config(value or {}, f"{key} of {self.where}")

    def divided(self, total: int, parts: int, what: str) -> int:
        """`total / parts`, which must be whole."""
        if total % parts:
            raise InputError(f"{what} of {self.where}: {total} is not divisible by {parts}, expected a multiple")
        return total // parts

    def error(self, key: str, value: object, expectation: str) -> InputError:
        """The sentence for a bad value of a key."""
        return InputError.expected(f"{key} of {self.where}", value, expectation)

    def _spelled(self, keys: tuple[str, ...]) -> str:
        return next((key for key in keys if self.data.get(key) is not None), keys[0])


def read_json(path: Path) -> dict[str, object]:
    """The object a JSON file holds.

    Raises
    ------
    InputError
        If the file is missing, unreadable, larger than 16 MiB, or not one JSON object.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path} has {path.stat().st_size} bytes, expected a config of at most {MAX_FILE_BYTES}")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}), expected a config.json") from None
    except (ValueError, RecursionError) as error:
        detail = str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise InputError(f"{path} is not JSON ({detail}), expected a config.json") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} holds a {type(data).__name__}, expected a JSON object")
    return data


def whole(name: str, value: object, *, least: int = 1, most: int = 2**40) -> int:
    """Check that an argument is a whole number from `least` to `most`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        # Bool is an int to Python; a batch of True is a mistake.
        raise InputError.expected(name, value, f"a whole number from {least}")
    number = int(value.__index__())
    if not least <= number <= most:
        raise InputError.expected(name, value, f"a whole number from {least} to {most}")
    return number
