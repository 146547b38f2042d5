"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from simsparse.commands.files import writable
from simsparse.errors import InputError

if TYPE_CHECKING:
    from simsparse.sparsity import Pattern
    from simsparse.workload import Workload


class Format(StrEnum):
    """How a command prints."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


WorkloadName = Annotated[
    str, typer.Argument(metavar="WORKLOAD", help="A shipped name, a config.json, a folder, a file.")
]
On = Annotated[str, typer.Option("--on", metavar="MACHINE", help="Machine: a name or the path of a TOML file.")]
OnSeveral = Annotated[list[str], typer.Option("--on", metavar="MACHINE", help="Machine; repeatable.")]
Phase = Annotated[str | None, typer.Option(help="prefill, decode, encode or train; default: what the model is for.")]
Batch = Annotated[int, typer.Option(help="Sequences (images) side by side.")]
Seq = Annotated[int | None, typer.Option(help="New tokens of each sequence.")]
Context = Annotated[int | None, typer.Option(help="Tokens already cached.")]
DTypeName = Annotated[str, typer.Option("--dtype", help="Type of weights and activations.")]
Sparsity = Annotated[
    list[str] | None,
    typer.Option("--sparsity", metavar="GLOB=PATTERN", help="Pattern of the ops a glob names; a bare one goes on all."),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        metavar="NAME:ARGUMENT",
        help="slice:0.25, drop:8, quantize:int4-g128, tp:2, pipeline:4, offload or an added one; repeatable, in order.",
    ),
]
Kernel = Annotated[str, typer.Option(help="best, or the kernel to take wherever it applies.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a figure of the machine; repeatable.")
]
Framework = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Who issues a model's kernels, on machines that ask: eager, compiled or graph; default: graph.",
    ),
]
FormatOption = Annotated[
    Format | None, typer.Option("--format", help="Default: by the suffix of --output, else table.", show_default=False)
]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", callback=writable, help="Write there instead of printing."),
]
Plot = Annotated[
    str | None, typer.Option(metavar="FILE.png", callback=writable, help="Write a picture (png, svg or pdf).")
]
Plugin = Annotated[
    list[str] | None, typer.Option(metavar="MODULE", help="Module that registers machines or workloads; repeatable.")
]
Seed = Annotated[int, typer.Option(help="Seed of whatever is sampled.")]


def read_sparsity(texts: Sequence[str] | None) -> dict[str, str | Pattern]:
    """Patterns by glob from `GLOB=PATTERN` texts; a bare pattern stands for `*=PATTERN`.

    Raises
    ------
    InputError
        For an empty glob or what is no pattern.
    """
    if not texts:
        return {}
    from simsparse.transforms.patterns import by_glob

    return by_glob(texts, field="--sparsity")


def with_methods(workload: Workload, texts: Sequence[str] | None) -> Workload:
    """The workload after the methods, in order; patterns go on what they leave.

    Raises
    ------
    SimsparseError
        For an unknown method, or an argument it does not take.
    """
    if texts:
        from simsparse.transforms import apply_method

        for text in texts:
            workload = apply_method(workload, text)
    return workload


def read_changes(texts: Sequence[str] | None, framework: str | None = None) -> dict[str, object]:
    """Changed figures from `FIELD=VALUE` texts; a value is a whole number, a number, true, false or text.

    A `framework` is the field of that name.

    Raises
    ------
    InputError
        For a text without `=`, field or value.
    """
    changes: dict[str, object] = {}
    for text in texts or ():
        field, _, value = (part.strip() for part in text.partition("="))
        if not field or not value:
            raise InputError.expected("--set", text, "FIELD=VALUE")
        changes[field] = _scalar(value)
    return changes if framework is None else {**changes, "framework": framework}


def _scalar(text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def load_plugins(modules: Sequence[str] | None) -> None:
    """Import modules by name, from the current folder too; importing one registers what it brings.

    Raises
    ------
    InputError
        For a module that is not found or fails.
    """
    for module in modules or ():
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(module)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise InputError.expected("--plugin", module, f"a module that can be imported ({reason})") from error
