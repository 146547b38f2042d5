"""What pictures have in common: colours, hatches and marks, figures that notebooks show, files.

Colours are those of Okabe and Ito [1]_, which colour-blind eyes tell apart; bars carry hatches and points markers
besides, so that a print without colour can be read too.

References
----------
.. [1] M. Okabe, K. Ito, Color Universal Design, 2008.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from simsparse.errors import InputError
from simsparse.plan import Floats
from simsparse.render import si

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#999999")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "oooo", "++++", "----")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MOST = len(COLOURS)  # what is more goes into "other"
OTHER = "other"
BESIDE: dict[str, Any] = {
    "loc": "upper left", "bbox_to_anchor": (1.01, 1), "fontsize": 8, "title_fontsize": 8, "frameon": False,
}  # fmt: skip


class Picture(Figure):
    """A figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=110)
        return stream.getvalue()


def new(width: float, height: float) -> Figure:
    return Picture(figsize=(width, height), layout="constrained")


def grouped_bars(ax: Axes, heights: Floats, labels: Sequence[str]) -> Floats:
    """Draw bars of `heights` (groups, labels) side by side, groups around 0, 1, …; where they stand, in that shape."""
    count = len(labels)
    width = 0.84 / count
    places = np.arange(len(heights))[:, None] + (np.arange(count) - (count - 1) / 2) * width
    for index, label in enumerate(labels):
        ax.bar(
            places[:, index], heights[:, index], width * 0.92, color=COLOURS[index], hatch=HATCHES[index],
            edgecolor="white", linewidth=0.5, label=label, zorder=2,
        )  # fmt: skip
    ax.spines[["top", "right"]].set_visible(False)
    return places


def canvas(ax: Axes | None, width: float, height: float) -> tuple[Figure, Axes]:
    if ax is None:
        figure = new(width, height)
        return figure, figure.subplots()
    return figure_of(ax), ax


def figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def done(figure: Figure, path: str | Path | None) -> Figure:
    if path is not None:
        try:
            figure.savefig(path, dpi=150)
        except (OSError, ValueError) as error:
            raise InputError.expected("path", str(path), f"a picture that can be written ({error})") from None
    return figure


def seconds(value: float, _: object = None) -> str:
    return si(value, "s")
