"""Parts of a sweep on disk: a chunk of the grid each, named by the hash of its points, there whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from simsparse.errors import InputError
from simsparse.evaluate import Figures, Step, evaluate
from simsparse.grid import Grid, Value
from simsparse.versions import sweep_version

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Part:
    """A chunk of a grid and the file it becomes."""

    start: int
    stop: int
    path: Path


def parts_of(grid: Grid, folder: Path) -> Iterator[Part]:
    """The parts of a grid in order."""
    version = sweep_version(grid.spec)
    for start, stop in grid.chunks:
        digest = hashlib.sha256()
        for point in grid.points(start, stop):
            digest.update(point.digest(version).encode())
        yield Part(start, stop, folder / f"{digest.hexdigest()[:24]}.parquet")


def make(grid: Grid, part: Part) -> None:
    """Compute a part and put it in place in one step."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    answers = evaluate(grid.points(part.start, part.stop))
    axes = [
        _filled(grid.values(index), answer.step)
        for index, answer in zip(range(part.start, part.stop), answers, strict=True)
    ]
    columns: dict[str, list[Any]] = {name: [_plain(name, row[name], grid) for row in axes] for name, _ in grid.axes}
    columns |= {field.name: [getattr(answer.figures, field.name) for answer in answers] for field in fields(Figures)}
    unfinished = part.path.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(pa.table(columns, schema=_schema(grid)), unfinished)
    os.replace(unfinished, part.path)


def _filled(axes: dict[str, Value | None], step: Step) -> dict[str, Value | None]:
    """The axes with what the model chose where the spec left it open."""
    return axes | {name: value for name, value in asdict(step).items() if axes[name] is None}


def _schema(grid: Grid) -> pa.Schema:
    """Columns of the table: axes with the type that holds all their values, then the figures."""
    import pyarrow as pa

    kinds = {float: pa.float64(), int: pa.int64(), str: pa.string(), bool: pa.bool_()}
    hints = get_type_hints(Figures)
    columns = [(name, kinds[_axis_type(name, grid)]) for name, _ in grid.axes]
    columns += [(field.name, kinds[hints[field.name].__args__[0]]) for field in fields(Figures)]
    return pa.schema(columns)


def _axis_type(name: str, grid: Grid) -> type:
    fixed = {"batch": int, "seq": int, "context": int}
    if name not in grid.spec.set:
        return fixed.get(name, str)
    found = {type(value) for value in grid.spec.set[name]}
    if len(found) == 1:
        return found.pop()
    return float if found == {int, float} else str


def _plain(name: str, value: object, grid: Grid) -> object:
    """A value of an axis as its column holds it."""
    return None if value is None else _axis_type(name, grid)(value)


def check(grid: Grid, part: Part) -> None:
    """Refuse a part from an earlier run that is not what it should be."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.ParquetFile(part.path)
        whole = found.metadata.num_rows == part.stop - part.start and found.schema_arrow.equals(_schema(grid))
        found.close()
    except (pa.ArrowException, OSError):
        whole = False
    if not whole:
        raise _broken(part)


def _broken(part: Part) -> InputError:
    return InputError(f"sweep part {str(part.path)!r} is broken, expected it whole: delete it and start again")


def failures(table: Path) -> tuple[int, str]:
    """How many points of a table could not run, and why the first of them could not; read a part at a time."""
    import pyarrow.parquet as pq

    count, example = 0, ""
    with pq.ParquetFile(table) as file:
        for batch in file.iter_batches(columns=["error"]):
            errors = batch.column(0).drop_null()
            count += len(errors)
            example = example or (errors[0].as_py() if len(errors) else "")
    return count, example


def join(grid: Grid, parts: Sequence[Part], path: Path) -> Path:
    """The table, from parts in the order of the grid, one in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    unfinished = path.with_suffix(".tmp")
    try:
        with pq.ParquetWriter(unfinished, _schema(grid)) as writer:
            for part in parts:
                try:
                    rows = pq.read_table(part.path)
                except (pa.ArrowException, OSError):
                    raise _broken(part) from None
                writer.write_table(rows)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
