"""Progress of a measurement on stderr; nothing where stderr is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from simsparse.calibration.measured import Watch


@contextmanager
def bar(what: str, console: Console | None = None) -> Iterator[Watch]:
    """A watcher that is told what is measured and which share of the whole is done."""
    console = console or Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("", total=1.0)

        def watch(doing: str, share: float) -> None:
            shown.update(task, completed=share, description=doing)

        yield watch
