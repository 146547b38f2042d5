"""Where a command's answer goes: the terminal, or files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from simsparse.commands.files import write_files
from simsparse.commands.options import Format
from simsparse.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console, RenderableType

TEXT_WIDTH = 80
SLOW_S = 2.0
PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Report:
    """An answer in the three forms, each made when it is asked for.

    Attributes
    ----------
    table : callable
        Gives what rich prints.
    json : callable
        Gives JSON text.
    columns : callable
        Gives the columns of the CSV.
    """

    table: Callable[[], RenderableType]
    json: Callable[[], str]
    columns: Callable[[], Mapping[str, Sequence[object]]]


def emit(report: Report, form: Format | None, output: str | None, pictures: Mapping[str, Figure] | None = None) -> None:
    """Print a report, or write it to `output`; pictures are written beside. All files appear together or none.

    Raises
    ------
    InputError
        For a path that cannot be written, or a picture of an unknown kind.
    """
    form = form or _form_of(output)
    files = {path: drawn(path, figure) for path, figure in (pictures or {}).items()}
    if output is not None:
        files[output] = _text(report, form).encode()
    write_files(files)
    if output is None:
        if form is Format.TABLE and sys.stdout.isatty():
            from simsparse.render import fitting_width

            table, terminal = report.table(), console(sys.stdout)
            console(sys.stdout, fitting_width(table, terminal.width, whole_names=False)).print(table)
        else:
            sys.stdout.write(_text(report, form))


def check_picture(path: str | None) -> None:
    """Refuse a picture that cannot be written, before any work is done for it."""
    if path is not None and Path(path).suffix.lower() not in PICTURES:
        raise InputError.expected("--plot", path, f"a file that ends in {', '.join(PICTURES)}")


def _form_of(output: str | None) -> Format:
    suffix = Path(output).suffix.lower() if output is not None else ""
    return {".json": Format.JSON, ".csv": Format.CSV}.get(suffix, Format.TABLE)


def _text(report: Report, form: Format) -> str:
    if form is Format.JSON:
        return report.json() + "\n"
    text = io.StringIO(newline="")
    if form is Format.TABLE:
        from simsparse.render import fitting_width

        table, asked = report.table(), os.environ.get("COLUMNS", "")
        width = int(asked) if re.fullmatch(r"[1-9]\d{1,3}", asked) else None
        console(text, fitting_width(table, width or TEXT_WIDTH, whole_names=width is None)).print(table)
        return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())
    columns = report.columns()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def console(file: TextIO, width: int | None = None) -> Console:
    """A console that takes no text for markup: names come from users."""
    from rich.console import Console

    return Console(file=file, width=width, markup=False, highlight=False, emoji=False)


def drawn(path: str, figure: Figure) -> bytes:
    """A picture as the file that `path` is to be.

    Raises
    ------
    InputError
        For a picture of an unknown kind.
    """
    check_picture(path)
    picture = io.BytesIO()
    figure.savefig(picture, format=Path(path).suffix[1:].lower(), dpi=150)
    return picture.getvalue()


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal that something is going on, once it has taken two seconds."""
    if not sys.stderr.isatty():
        yield
        return
    status = console(sys.stderr).status(what)
    timer = threading.Timer(SLOW_S, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()
