"""Progress of a sweep on stderr: points, rate and time left; nothing where stderr is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from simsparse.sweep import Progress, Watch


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Watch]:
    """A watcher for `sweep(progress=…)`, shown while the context lasts."""
    console = console or Console(stderr=True)
    columns = (TextColumn("sweep"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def watch(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total, description=said(progress))

        yield watch


def said(progress: Progress) -> str:
    """Rate and time left in words: `52.1 points/s, 0:12 left`."""
    if progress.left_s is None:
        return f"{progress.resumed} found" if progress.resumed else ""
    minutes, seconds = divmod(round(progress.left_s), 60)
    return f"{progress.rate:.1f} points/s, {minutes}:{seconds:02d} left"
