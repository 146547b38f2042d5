"""Files of a Timeloop specification: YAML with tags and merges, its parts by name, numbers that are numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsparse.errors import InputError

Node = Mapping[str, Any]
VERSION = 0.4
_PARTS = ("architecture", "problem", "mapping", "sparse_optimizations", "ERT", "ART")
# What has no part in an analysis, with the reason.
_IDLE = {
    "mapper": "settings of Timeloop's search",
    "components": "energies come from an ERT, not from Accelergy's classes",
    "variables": "formulas are not evaluated",
}
_USED = ("version", "technology", "global_cycle_seconds")
_MERGE = "<<<"


@dataclass(frozen=True)
class Specification:
    """Parts by name, what variables say, and notes on parts that have no effect."""

    parts: Node
    variables: Node
    notes: tuple[str, ...]


def read_specification(files: Iterable[Path]) -> Specification:
    """Read files of one specification.

    Raises
    ------
    InputError
        For a file that is no YAML, another version, a part that is none or stands twice.
    """
    parts: dict[str, Any] = {}
    notes = []
    for file in files:
        for key, value in _load(file).items():
            if key not in (*_PARTS, *_IDLE):
                raise InputError.expected(f"key of {file.name}", key, f"one of {', '.join((*_PARTS, *_IDLE))}")
            if key in parts:
                raise InputError(f"{key} stands in {file.name} and in a file before it, expected it once")
            version = value.get("version", VERSION) if isinstance(value, Mapping) else VERSION
            if number(f"version of {key} in {file.name}", version) != VERSION:
                raise InputError.expected(f"version of {key} in {file.name}", version, f"{VERSION}")
            if key in _IDLE and not (key == "variables" and set(value or ()) <= set(_USED)):
                notes.append(f"{key} of {file.name} has no effect here: {_IDLE[key]}")
            parts[key] = value
    variables = parts.get("variables")
    return Specification(parts, variables if isinstance(variables, Mapping) else {}, tuple(notes))


def number(what: str, value: Any) -> float:
    """A number, or text of one; formulas are none.

    Raises
    ------
    InputError
        Naming `what`.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise InputError.expected(what, value, "a number (formulas are not evaluated)") from None


def whole(what: str, value: Any) -> int:
    """A whole number of at least 1.

    Raises
    ------
    InputError
        Naming `what`.
    """
    found = number(what, value)
    if found != int(found) or found < 1:
        raise InputError.expected(what, value, "a whole number of at least 1")
    return int(found)


def named(what: str, items: Any) -> list[Node]:
    """A list of nodes that have names.

    Raises
    ------
    InputError
        For anything else.
    """
    if not isinstance(items, list) or not all(isinstance(item, Mapping) and "name" in item for item in items):
        raise InputError.expected(what, items, "a list of nodes, each with a name")
    return items


def _load(file: Path) -> Node:
    try:
        import yaml
    except ImportError:
        raise InputError("reading YAML needs the package PyYAML, expected the extra yaml to be installed") from None

    loader_class: Any = type("Loader", (yaml.SafeLoader,), {})  # plain YAML, and the tags of nodes

    def tagged(loader: Any, suffix: str, node: Any) -> Any:
        if suffix not in ("Component", "Container"):
            raise InputError.expected(f"node of {file.name}", f"!{suffix}", "!Component or !Container in one chain")
        return {"tag": suffix, **loader.construct_mapping(node, deep=True)}

    loader_class.add_multi_constructor("!", tagged)
    try:
        text = file.read_text(encoding="utf-8")
        if "{{" in text or "{%" in text:
            raise InputError(f"file {file.name} has Jinja templates, expected plain YAML")
        found = yaml.load(text, loader_class)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise InputError(
            f"file {file.name} is no readable YAML ({reason}), expected a Timeloop specification"
        ) from None
    if not isinstance(found, Mapping):
        raise InputError(f"file {file.name} holds no mapping, expected keys such as architecture or problem")
    merged: Node = _merged(found)
    return merged


def _merged(node: Any) -> Any:
    """A node with Timeloop's deep merges (`<<<`) done: what stands in the node itself wins."""
    if isinstance(node, list):
        return [_merged(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    own = {key: _merged(value) for key, value in node.items() if key != _MERGE}
    bases = node.get(_MERGE, ())
    for base in bases if isinstance(bases, list) else [bases] if bases else []:
        own = _over(own, _merged(base))
    return own


def _over(own: Any, base: Any) -> Any:
    if not isinstance(own, Mapping) or not isinstance(base, Mapping):
        return own
    return {**base, **{key: _over(value, base[key]) if key in base else value for key, value in own.items()}}
