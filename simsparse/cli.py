"""The command line: `simsparse COMMAND …`. What a command needs is imported when it runs, so that help costs nothing.

Exit status: 0; 2 for bad input, with one line on stderr; 130 when interrupted; 1 when the reader of a pipe left.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from simsparse import __version__
from simsparse.commands import (
    breakeven,
    calibrate,
    dataflow,
    explain,
    listings,
    measurements,
    products,
    simulation,
    study,
    trace,
)
from simsparse.errors import SimsparseError

# typer brings its own click or takes the installed one; this is the base of its usage errors either way.
_UsageError = next(
    kind for kind in typer.BadParameter.__mro__ if issubclass(kind, Exception) and kind.__name__ == "ClickException"
)
BAD_INPUT, INTERRUPTED, BROKEN_PIPE = 2, 130, 1


class _WithPlugins(TyperGroup):
    """Adds the commands of the entry-point group `simsparse.commands`: functions, or `typer.Typer` with several."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(entry.name for entry in entry_points(group="simsparse.commands"))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        known = super().get_command(ctx, cmd_name)
        if known is not None:
            return known
        for entry in entry_points(group="simsparse.commands", name=cmd_name):
            brought = entry.load()
            if not isinstance(brought, typer.Typer):
                app = typer.Typer(add_completion=False, rich_markup_mode=None)
                app.command(cmd_name)(brought)
                brought = app
            return typer.main.get_command(brought)
        return None


app = typer.Typer(
    name="simsparse",
    cls=_WithPlugins,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _module in (simulation, products, breakeven, explain, listings, study, calibrate, measurements, dataflow, trace):
    _module.add_to(app)


@app.callback(invoke_without_command=True)
def _simsparse(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """What a sparsity pattern buys on a machine, in time and energy, and why."""
    if version:
        typer.echo(f"simsparse {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        status = app(args=arguments, prog_name="simsparse", standalone_mode=False)
        sys.stdout.flush()
        return int(status or 0)
    except (SimsparseError, _UsageError) as error:
        return _complain(error)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit; that must not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _complain(error: BaseException) -> int:
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    print("simsparse:", " ".join(text.split()), file=sys.stderr)
    return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
