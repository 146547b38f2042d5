"""Every error a user can cause is a `SimsparseError` whose message is one sentence: field, value, what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SimsparseError(Exception):
    """Base of all errors caused by input; the command line prints it in one line and exits with 2."""


class InputError(SimsparseError, ValueError):
    """A field has a value that cannot be."""

    @classmethod
    def expected(cls, field: str, value: object, expectation: str) -> InputError:
        """The one sentence for a bad value: `field is value, expected expectation`."""
        return cls(f"{field} is {value!r}, expected {expectation}")


class UnknownNameError(SimsparseError, LookupError):
    """A name that nothing answers to."""

    @classmethod
    def near(cls, kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
        """Say that `name` is no `kind`, with the nearest of the `known` names."""
        name, known = str(name), sorted(known)
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or _sharing_a_part(name, known)[:5]
        hint = f"; near names: {', '.join(near)}" if near else f"; known: {', '.join(known[:40]) or 'none'}"
        return cls(f"no {kind} is named {name!r}{hint}")


def _sharing_a_part(name: str, known: list[str]) -> list[str]:
    """Dotted names with a part that is like one of `name`: `*.mpl.*` is near `layers.*.mlp.up_proj`."""
    parts = [part for part in name.split(".") if part.strip("*?[]")]
    return [other for other in known if any(difflib.get_close_matches(p, other.split("."), cutoff=0.6) for p in parts)]


class UnsupportedError(SimsparseError):
    """A machine or a model that cannot do what was asked, with the reason."""
