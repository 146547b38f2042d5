"""The picture of an event log: who works on what when, a closer look at the longest call, and how the time divides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from simsparse._canvas import BESIDE, COLOURS, done, new, seconds
from simsparse.event_log import Engine, EventLog, Wait, What

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colour and hatch of everything that is done, and of what holds up a tile.
STYLES = {
    What.LOAD: (COLOURS[4], ""), What.FILL: (COLOURS[7], ""), What.COMPUTE: (COLOURS[0], ""),
    What.VECTOR: (COLOURS[2], ""), What.UPDATE: (COLOURS[6], ""), What.REDUCE: (COLOURS[5], ""),
    What.STORE: (COLOURS[1], ""), What.DEPENDENCY: (COLOURS[3], "xxx"), What.EXCHANGE: ("white", "///"),
}  # fmt: skip
WAITS = {
    Wait.DATA: ("#bbbbbb", "..."), Wait.BUFFER: ("#dddddd", "\\\\\\"), Wait.MEMORY: ("#8a8a8a", ""),
    Wait.DEPENDENCY: STYLES[What.DEPENDENCY], Wait.EXCHANGE: STYLES[What.EXCHANGE],
}  # fmt: skip
# Tiles of the longest call that the closer look shows.
CLOSE_TILES = 10
MOST_LABELS, MOST_LINES = 8, 40
LONGEST_NAME = 28
# Bars of an engine, beyond which heights show how much of each moment it works.
MOST_BARS, MOMENTS = 1000, 500


def gantt(log: EventLog, *, title: str = "", path: str | Path | None = None) -> Figure:
    """Draw a log.

    Parameters
    ----------
    log : EventLog
    title : str
        Over the picture.
    path : str or Path, optional
        Where to save it too.

    Raises
    ------
    InputError
        If the picture cannot be written.
    """
    engines = [Engine(int(engine)) for engine in np.unique(log.engine)]
    height = 1.6 + 3 * (0.5 + 0.33 * len(engines))
    figure = new(11, height)
    whole, close, shares = figure.subplots(3, 1)
    figure.suptitle(title, fontsize=10)
    _bars(whole, log, engines, 0.0, float(log.end_s.max()))
    if (log.counts > 1).any():
        whole.set_xlabel("each call once, however often the plan has it", fontsize=8)
    _calls(whole, log)
    begin, end, label = _closer(log)
    _bars(close, log, engines, begin, end)
    close.set_title(f"closer: the first tiles of {label}", fontsize=8, loc="left")
    used = [What(int(what)) for what in np.unique(log.what)]
    whole.legend(handles=[_patch(what) for what in used], **BESIDE)
    _shares(shares, log, engines)
    return done(figure, path)


def _patch(what: What) -> Patch:
    colour, hatch = STYLES[what]
    return Patch(facecolor=colour, hatch=hatch, edgecolor="black", lw=0.4, label=what.name.lower())


def _bars(ax: Axes, log: EventLog, engines: list[Engine], begin: float, end: float) -> None:
    """What engines do between two times, a row each: bars, or heights where they are too many."""
    inside = (log.end_s > begin) & (log.start_s < end)
    for row, engine in enumerate(engines):
        here = inside & (log.engine == engine)
        draw = _spans if here.sum() <= MOST_BARS else _heights
        draw(ax, log, here, row, (begin, end))
    ax.set_xlim(begin, end)
    ax.set_ylim(len(engines) - 0.5, -0.5)
    ax.set_yticks(range(len(engines)), [engine.name.lower() for engine in engines], fontsize=8)
    ax.xaxis.set_major_formatter(seconds)
    ax.tick_params(axis="x", labelsize=8)
    ax.grid(axis="x", lw=0.3)
    ax.set_axisbelow(True)


def _spans(ax: Axes, log: EventLog, here: NDArray[np.bool_], row: int, window: tuple[float, float]) -> None:
    for what, (colour, hatch) in STYLES.items():
        chosen = here & (log.what == what)
        if not chosen.any():
            continue
        spans = np.stack([log.start_s[chosen], (log.end_s - log.start_s)[chosen]], axis=1)
        # Edges would cover what is thin.
        thin = np.median(spans[:, 1]) < (window[1] - window[0]) / 300
        ax.broken_barh(
            spans.tolist(), (row - 0.4, 0.8), facecolor=colour, hatch="" if thin else hatch,
            edgecolor=colour if thin else "black", linewidth=0.3 if thin else 0.4,
        )  # fmt: skip


def _heights(ax: Axes, log: EventLog, here: NDArray[np.bool_], row: int, window: tuple[float, float]) -> None:
    """How much of each moment an engine does what, stacked."""
    edges = np.linspace(*window, MOMENTS + 1)
    below = np.full(MOMENTS, row + 0.4)
    for what, (colour, hatch) in STYLES.items():
        chosen = here & (log.what == what)
        if not chosen.any():
            continue
        order = np.argsort(log.start_s[chosen], kind="stable")
        start, end = log.start_s[chosen][order], log.end_s[chosen][order]
        done_s = np.concatenate([[0.0], np.cumsum(end - start)])
        times = np.stack([start, end], axis=1).ravel()
        share = np.diff(np.interp(edges, times, np.stack([done_s[:-1], done_s[1:]], axis=1).ravel())) / np.diff(edges)
        above = below - 0.8 * share
        ax.fill_between(edges[:-1], below, above, step="post", facecolor=colour, hatch=hatch, linewidth=0.0)
        below = above


def _calls(ax: Axes, log: EventLog) -> None:
    """Where calls begin, with the names of the longest."""
    starts = np.concatenate([[0.0], np.cumsum(log.latency_s)])[:-1]
    for start in starts[1:] if len(starts) <= MOST_LINES else ():
        ax.axvline(start, color="black", lw=0.5, alpha=0.5)
    total = float(log.latency_s.sum())
    named = sorted(np.argsort(-log.latency_s, kind="stable")[:MOST_LABELS].tolist())
    shown = [call for call in named if log.latency_s[call] > 0.03 * total]
    # Names that do not fit side by side slant.
    room = {call: int(150 * log.latency_s[call] / total) for call in shown}
    slants = any(len(log.labels[call]) > room[call] for call in shown)
    slant = {"rotation": 30, "rotation_mode": "anchor", "ha": "left"} if slants else {"ha": "center"}
    for call in shown:
        text, middle = log.labels[call], (starts[call] + log.latency_s[call] / 2) / total
        text = text if len(text) <= LONGEST_NAME or not slants else f"{text[: LONGEST_NAME - 1]}…"
        ax.text(middle, 1.02, text, transform=ax.transAxes, va="bottom", fontsize=7, **slant)


def _closer(log: EventLog) -> tuple[float, float, str]:
    """Begin and end of the closer look, and the call it is at."""
    call = int(np.argmax(log.latency_s))
    begin = float(np.cumsum(log.latency_s)[call] - log.latency_s[call])
    stop = begin + float(log.latency_s[call])
    last = (log.call == call) & (log.tile == CLOSE_TILES)
    return begin, min(stop, float(log.end_s[last].max())) if last.any() else stop, log.labels[call]


def _shares(ax: Axes, log: EventLog, engines: list[Engine]) -> None:
    """How the time of each engine divides: work, and what it waits for."""
    rows, left = np.arange(len(engines)), np.zeros(len(engines))
    parts = [("works", STYLES[What.COMPUTE], log.busy_fraction[engines])]
    stalled = log.stalled_fraction[engines]
    parts += [(f"waits: {wait.name.lower()}", WAITS[wait], stalled[:, wait]) for wait in Wait if stalled[:, wait].any()]
    for label, (colour, hatch), share in parts:
        ax.barh(rows, share, 0.8, left, color=colour, hatch=hatch, edgecolor="black", linewidth=0.4, label=label)
        left = left + share
    ax.set_xlim(0, 1)
    ax.set_ylim(len(engines) - 0.5, -0.5)
    ax.set_yticks(rows, [engine.name.lower() for engine in engines], fontsize=8)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.tick_params(axis="x", labelsize=8)
    ax.set_title("share of the time; the rest is when an engine has nothing left to do", fontsize=8, loc="left")
    ax.legend(**BESIDE)
