"""`calibrate`: a spec of this machine by measuring it, or an overlay on a spec by fitting timings of any machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simsparse.commands.options import FormatOption, Plugin, load_plugins
from simsparse.commands.output import Report, drawn, emit, working, write_files
from simsparse.errors import InputError

if TYPE_CHECKING:
    from simsparse.registry import Family

ToFile = Annotated[str, typer.Option("-o", "--output", metavar="FILE.toml", help="The machine that results.")]


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(calibrate)


def calibrate(
    output: ToFile,
    family: Annotated[str | None, typer.Argument(metavar="[cpu]", help="Measure this machine as one of these.")] = None,
    table: Annotated[
        str | None, typer.Option("--from", metavar="FILE.csv", help="Timings, in the columns of `validate`.")
    ] = None,
    on: Annotated[str | None, typer.Option("--on", metavar="MACHINE", help="Which machine they were taken on.")] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--fit", metavar="FIELD", help="Constant to fit; repeatable. Default: all that are determined."),
    ] = None,
    form: FormatOption = None,
    plugin: Plugin = None,
) -> None:
    """Measure this machine, or fit the constants of a machine to timings.

    \b
    simsparse calibrate cpu -o my-machine.toml
    simsparse calibrate --from timings.csv --on xeon-8375c -o fitted.toml

    The first takes at most a minute and also writes the rooflines, as my-machine.png. The second writes an overlay: the
    name of the machine and what was fitted. Both files are machines for --on.
    """
    load_plugins(plugin)
    if not output.endswith(".toml"):
        raise InputError.expected("--output", output, "a file that ends in .toml")
    if family is not None:
        for option, value in (("--from", table), ("--on", on), ("--fit", fields)):
            if value:
                raise InputError.expected(option, value, f"nothing beside {family}, which is measured here")
        _measure(_measurable(family), output, form)
    elif table is None or on is None:
        raise InputError("calibrate has nothing to do, expected cpu, or --from FILE.csv with --on MACHINE")
    else:
        _fit(table, on, fields or [], output, form)


def _fit(table: str, on: str, fields: list[str], output: str, form: FormatOption) -> None:
    from simsparse.calibration.fit import fit
    from simsparse.calibration.tables import fit_columns, fit_table
    from simsparse.registry import load_spec

    with working(f"fitting {on} to {table}"):
        found = fit(table, on, fields)
    overlay = found.overlay(load_spec(on), _from_there(on, output), Path(output).stem)
    write_files({output: overlay.to_toml().encode()})
    emit(Report(lambda: fit_table(found), found.to_json, lambda: fit_columns(found)), form, None)


def _from_there(on: str, output: str) -> str:
    """A machine file as the overlay leads to it: from its own folder."""
    if not on.endswith(".toml"):
        return on
    return os.path.relpath(on, Path(output).resolve().parent)


def _measurable(name: str) -> Family:
    from simsparse.registry import families

    able = {family.family: family for family in families().values() if family.measure is not None}
    if name not in able:
        raise InputError.expected("machine to measure", name, f"one of {', '.join(sorted(able))}")
    return able[name]


def _check_folder(output: str) -> None:
    """Refuse what cannot be written before a minute is spent on it."""
    folder = Path(output).resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError.expected("--output", output, "a file in a folder that can be written")


def _measure(family: Family, output: str, form: FormatOption) -> None:
    from simsparse.calibration.picture import rooflines
    from simsparse.calibration.progress import bar
    from simsparse.calibration.tables import measured_columns, measured_table

    assert family.measure is not None
    _check_folder(output)
    with bar(f"measuring this {family.family}") as watch:
        measured = family.measure(Path(output).stem, watch)
    picture = str(Path(output).with_suffix(".png"))
    write_files({output: measured.to_toml().encode(), picture: drawn(picture, rooflines(measured))})
    for warning in measured.warnings:
        typer.echo(f"simsparse: warning: {warning}", err=True)
    emit(Report(lambda: measured_table(measured), measured.to_json, lambda: measured_columns(measured)), form, None)
