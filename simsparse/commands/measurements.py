"""`measurements`: timings of profilers as rows that `validate` and `calibrate` read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simsparse.commands.files import write_files
from simsparse.commands.options import Output
from simsparse.errors import InputError


def add_to(app: typer.Typer) -> None:
    """Add the group of this module."""
    group = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    group.callback()(measurements)
    group.command("import")(import_)
    app.add_typer(group, name="measurements")


def measurements() -> None:
    """Tables of measurements."""


def import_(
    profile: Annotated[
        str, typer.Argument(metavar="PROFILE", help="Trace of torch.profiler (.json, .json.gz), or Nsight CSV.")
    ],
    device: Annotated[str, typer.Option(metavar="NAME", help="Card; default: as the trace names it.")] = "",
    shapes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.csv", help="For Nsight: kernel (a glob), M, N, K; batch, dtype, pattern, system too."
        ),
    ] = None,
    output: Output = None,
) -> None:
    """Turn kernel timings into a CSV of measurements.

    \b
    with torch.profiler.profile(record_shapes=True) as p: …; p.export_chrome_trace("trace.json")
    nsys stats --report cuda_gpu_kern_sum --format csv run.nsys-rep > kernels.csv
    ncu --csv --metrics gpu__time_duration.sum python run.py > kernels.csv
    """
    from simsparse.profiles import read_nsight, read_shapes, read_torch_trace, table

    path = Path(profile)
    unknown: list[str] = []
    if path.name.lower().endswith((".json", ".json.gz")):
        timed = read_torch_trace(path, device)
    elif shapes is None:
        raise InputError("tables of Nsight know no shapes, expected --shapes with a table of them")
    else:
        timed, unknown = read_nsight(path, read_shapes(Path(shapes)), device)
    text = table(timed, path.name)
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_files({output: text.encode()})
        typer.echo(f"{len(timed)} rows in {output}")
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        typer.echo(f"without a shape, left out: {', '.join(unknown[:3])}{more}", err=True)
