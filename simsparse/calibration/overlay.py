"""Overlays: a spec by name, and the figures of it that were fitted; the datasheet stays what it is.

base = "xeon-8375c"
base_hash = "0123456789ab"
name = "xeon-8375c-fitted"

[figures]
"constants.exposed" = { value = 0.2, source = "fitted: 40 rows of times.csv ..." }
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from simsparse.errors import InputError
from simsparse.specs import Figure, Spec, checked


class Overlay(BaseModel):
    """Figures in place of those of a machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str = Field(min_length=1, description="Name or path (from the overlay's folder) of the machine.")
    base_hash: str = Field(default="", description="`Spec.digest` of the machine they were fitted on; empty if none.")
    name: str = Field(min_length=1, description="Of the machine that results.")
    title: str = Field(default="", description="Of the machine that results; by default, that figures were fitted.")
    figures: dict[str, Figure[float]] = Field(min_length=1)

    def on(self, base: Spec, where: str) -> Spec:
        """The spec that results.

        Raises
        ------
        InputError, UnknownNameError
            If it was made for another machine, or for another state of it.
        """
        if self.base_hash and base.digest() != self.base_hash:
            raise InputError.expected(
                f"base_hash of {where}", self.base_hash, f"{base.digest()}, that of {self.base!r}: fit it again"
            )
        changed = base.with_figures(self.figures)
        title = self.title or f"{base.title or base.name}, {len(self.figures)} figures fitted"
        # A card with fitted figures is still known by its names; a machine that is only like one is not.
        aliases = tuple(dict.fromkeys((base.name, *base.aliases))) if self.base_hash else ()
        return changed.model_copy(update={"name": self.name, "title": title, "aliases": aliases})

    def to_toml(self) -> str:
        """As it is written."""
        head = [
            f"{key} = {_text(getattr(self, key))}"
            for key in ("base", "base_hash", "name", "title")
            if getattr(self, key)
        ]
        figures = [f"{_text(field)} = {figure_toml(figure)}" for field, figure in self.figures.items()]
        return "\n".join([*head, "", "[figures]", *figures, ""])


def overlaid(data: Mapping[str, Any], where: str, load: Callable[[str], Spec]) -> Spec:
    """The spec of an overlay read from a file; `load` gives that of its base."""
    overlay = checked(Overlay, data, where=where)
    return overlay.on(load(overlay.base), where)


def figure_toml(figure: Figure[Any]) -> str:
    """A figure as an inline table."""
    value = figure.value
    if isinstance(value, (tuple, list)):
        shown = f"[{', '.join(_text(item) for item in value)}]"
    elif isinstance(value, bool):
        shown = str(value).lower()
    elif isinstance(value, str):
        shown = _text(value)
    else:
        shown = f"{value:.10g}" if isinstance(value, float) else str(value)
    note = f", note = {_text(figure.note)}" if figure.note else ""
    return f"{{ value = {shown}, source = {_text(figure.source)}{note} }}"


def _text(text: str) -> str:
    """A TOML string; JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=False)
