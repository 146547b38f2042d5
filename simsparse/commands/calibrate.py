"""`calibrate`: a spec of this machine, timings of its card, or an overlay on a spec that fits timings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simsparse.commands.files import write_files
from simsparse.commands.options import FormatOption, Plugin, load_plugins
from simsparse.commands.output import Report, drawn, emit, working
from simsparse.errors import InputError

if TYPE_CHECKING:
    from simsparse.registry import Family

ToFile = Annotated[
    str, typer.Option("-o", "--output", metavar="FILE", help="What results: a machine (.toml), timings (.csv).")
]


def add_to(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(calibrate)


def calibrate(
    output: ToFile,
    family: Annotated[
        str | None, typer.Argument(metavar="[cpu|gpu]", help="Measure this machine, or its card.")
    ] = None,
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
    """Measure this machine, or fit constants of one to timings.

    \b
    simsparse calibrate cpu -o my-machine.toml
    simsparse calibrate gpu -o timings.csv
    simsparse calibrate --from timings.csv --on xeon-8375c -o fitted.toml

    The first takes at most a minute and also writes the rooflines, as my-machine.png. The second times 2:4 against
    dense products with PyTorch and writes rows for validate and for --from. The third writes an overlay: the name of
    the machine and what was fitted. TOML files are machines for --on.
    """
    load_plugins(plugin)
    if family is not None:
        for option, value in (("--from", table), ("--on", on), ("--fit", fields)):
            if value:
                raise InputError.expected(option, value, f"nothing beside {family}, which is measured here")
        found = _measurable(family)
        _check_ending(output, ".toml" if found.measure is not None else ".csv")
        _check_folder(output)
        if found.measure is not None:
            _measure(found, output, form)
        else:
            _time(found, output, form)
    elif table is None or on is None:
        raise InputError("calibrate has nothing to do, expected cpu, gpu, or --from FILE.csv with --on MACHINE")
    else:
        _check_ending(output, ".toml")
        _fit(table, on, fields or [], output, form)


def _check_ending(output: str, ending: str) -> None:
    if not output.endswith(ending):
        raise InputError.expected("--output", output, f"a file that ends in {ending}")


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

    able = {each.family: each for each in families().values() if each.measure is not None or each.time is not None}
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
    with bar(f"measuring this {family.family}") as watch:
        measured = family.measure(Path(output).stem, watch)
    picture = str(Path(output).with_suffix(".png"))
    write_files({output: measured.to_toml().encode(), picture: drawn(picture, rooflines(measured))})
    _warn(measured.warnings)
    emit(Report(lambda: measured_table(measured), measured.to_json, lambda: measured_columns(measured)), form, None)


def _time(family: Family, output: str, form: FormatOption) -> None:
    from simsparse.calibration.progress import bar
    from simsparse.calibration.tables import timings_columns, timings_table

    assert family.time is not None
    with bar(f"timing the {family.family} of this machine") as watch:
        timings = family.time(watch)
    write_files({output: timings.to_csv().encode()})
    _warn(timings.warnings)
    emit(Report(lambda: timings_table(timings), timings.to_json, lambda: timings_columns(timings)), form, None)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        typer.echo(f"simsparse: warning: {warning}", err=True)
