"""Files that a command writes: refused before any work is done for them, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from simsparse.errors import InputError


def writable(path: str | None) -> str | None:
    """A path as it was given, of a file that can be written; what reads options calls it.

    Raises
    ------
    InputError
    """
    if path is None:
        return None
    target = os.path.realpath(path)
    try:
        if os.path.isdir(target):
            raise IsADirectoryError(None, "Is a directory")
        if not os.path.exists(target) or os.path.isfile(target):
            part = _part(target)
            open(part, "xb").close()
            os.unlink(part)
    except OSError as error:
        raise _refusal(path, error) from None
    return path


def write_files(files: Mapping[str, bytes]) -> None:
    """Write files so that each appears whole, and none if one of them cannot be written.

    Raises
    ------
    InputError
        Naming the path that cannot be written.
    """
    staged: list[tuple[str, str]] = []
    path = ""
    try:
        for path, content in files.items():
            # A link stays a link, and what is no plain file (a pipe, /dev/null) is written to, not replaced.
            target = os.path.realpath(path)
            if os.path.exists(target) and not os.path.isfile(target):
                Path(target).write_bytes(content)
                continue
            part = _part(target)
            with open(part, "xb") as stream:
                staged.append((part, target))
                stream.write(content)
        for part, target in staged:
            path = target
            os.replace(part, target)
    except OSError as error:
        raise _refusal(path, error) from None
    finally:
        for part, _ in staged:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)


def _part(target: str) -> str:
    """Where a file is written before it is moved to its place."""
    return os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}.part")


def _refusal(path: str, error: OSError) -> InputError:
    return InputError.expected("output", path, f"a path that can be written ({error.strerror})")
