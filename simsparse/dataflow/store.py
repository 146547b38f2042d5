"""Results of searches on disk, by what they follow from: problem, architecture, objective and the engine's own code.

One small file a result, in the user's cache folder. What cannot be read is computed again and written anew; a folder
that cannot be written is done without.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path

import numpy as np

from simsparse.dataflow._arrays import Floats
from simsparse.errors import InputError


def cache_folder() -> Path:
    """Where this user's caches lie, by the conventions of the platform."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "simsparse" / "mappings"


@cache
def code_version(folder: Path) -> str:
    """Hash of the Python files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def engine_version() -> str:
    """Hash of the code of this package."""
    return code_version(Path(__file__).parent)


def content_key(*parts: object) -> str:
    """Hash of values: dataclasses, mappings, sequences, sets, arrays, numbers, texts; and of the engine.

    Raises
    ------
    InputError
        For a value whose content is not known.
    """
    text = json.dumps([engine_version(), [_content(part) for part in parts]])
    return hashlib.sha256(text.encode()).hexdigest()


def _content(value: object) -> object:
    if value is None or isinstance(value, (str, int, float)):
        return value if not isinstance(value, float) else value.hex()
    if is_dataclass(value):
        named = {field.name: _content(getattr(value, field.name)) for field in fields(value)}
        return [type(value).__name__, named]
    if isinstance(value, np.ndarray):
        return [str(value.dtype), list(value.shape), hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()]
    if isinstance(value, Mapping):
        return sorted([str(key), _content(item)] for key, item in value.items())
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, Sequence):
        return [_content(item) for item in value]
    raise InputError.expected("part of a content hash", type(value).__name__, "plain data")


def remembered(key: str, width: int, compute: Callable[[], Floats], folder: Path | None = None) -> Floats:
    """The `width` numbers kept under a key, or what `compute` gives, which is kept from then on."""
    path = (folder or cache_folder()) / key[:2] / f"{key[2:]}.json"
    kept = _read(path, width)
    if kept is not None:
        return kept
    values = compute()
    _write(path, values)
    return values


def _read(path: Path, width: int) -> Floats | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        values = [float.fromhex(text) for text in kept["values"]]
        return np.array(values) if len(values) == width and kept["check"] == _check(kept["values"]) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(path: Path, values: Floats) -> None:
    texts = [value.hex() for value in values.tolist()]
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps({"values": texts, "check": _check(texts)}), encoding="utf-8")
        os.replace(unfinished, path)


def _check(texts: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(texts).encode()).hexdigest()[:16]
