"""`validate`: predictions beside measurements, scored per system and device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from simsparse.errors import InputError, SimsparseError
from simsparse.measurements import Measurement, Use, csv_files, names_one_pattern, read_measurements
from simsparse.outcomes import in_metric, interval_in_metric
from simsparse.plan import HasFit
from simsparse.predictions import Answer, predict
from simsparse.readings import AnyReading, AttentionReading, GemmReading, ModelReading, Reader, Unreadable
from simsparse.registry import load_machine, machine_names, readers
from simsparse.result import dumps
from simsparse.scores import Errors, Group, Row, score

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Errors", "Group", "Reader", "Row", "ValidationReport", "score", "validate"]


@dataclass(frozen=True)
class ValidationReport:
    """All groups and rows, with the claims apart.

    Attributes
    ----------
    groups : tuple of Group
    rows : tuple of Row
        Scored ones.
    claims : tuple of Row
        Maxima, averages and other claims beside predictions; never scored.
    skipped : tuple of str
        Files in the folders named that hold no measurements.
    """

    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    claims: tuple[Row, ...] = ()
    skipped: tuple[str, ...] = ()

    @cached_property
    def overall(self) -> Group:
        """All rows as one group; its tau is None, as ranks of different metrics do not compare."""
        return score(("all", "all", "all"), self.rows, ranked=False)

    def summary(self) -> dict[str, object]:
        """As plain values: `groups`, `rows`, `claims`, `overall`, `skipped`."""
        return {
            "groups": [group.plain() for group in self.groups],
            "rows": [asdict(row) for row in self.rows],
            "claims": [asdict(row) for row in self.claims],
            "overall": self.overall.plain(),
            "skipped": list(self.skipped),
        }

    def to_json(self) -> str:
        """One JSON object with `schema_version`."""
        return dumps(self.summary())

    def to_frame(self) -> pd.DataFrame:
        """The scored rows and the claims (`use`) as a DataFrame."""
        import pandas as pd

        scored = [{**asdict(row), "use": str(Use.YES)} for row in self.rows]
        return pd.DataFrame(scored + [{**asdict(row), "use": str(Use.CLAIM)} for row in self.claims])

    def __rich__(self) -> object:
        from simsparse.validate_render import validation_table

        return validation_table(self)


def validate(
    paths: str | Path | Iterable[str | Path],
    *,
    systems: Sequence[str] = (),
    devices: Sequence[str] = (),
    phases: Sequence[str] = (),
    framework: str | None = None,
) -> ValidationReport:
    """Predict measurements and score the predictions.

    Parameters
    ----------
    paths : path or paths
        CSV files in the columns of `simsparse.measurements`, or folders with such files.
    systems, devices, phases : sequence of glob
        Only rows whose text matches one of them, case ignored; all if empty.
    framework : str, optional
        Who issues the kernels of models, instead of what rows name.

    Raises
    ------
    InputError
        For a path without measurements, a cell that cannot be read, globs that match no row.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    files, skipped = csv_files(given)
    if not files:
        raise InputError.expected("measurements", ", ".join(map(str, given)), "a CSV file with measurements")
    found = [row for file in files for row in read_measurements(file) if row.use is not Use.NO]
    kept = [
        row for row in found if _fits(row.system, systems) and _fits(row.device, devices) and _fits(row.phase, phases)
    ]
    if not kept:
        globs = ", ".join([*systems, *devices, *phases]) or "none"
        raise InputError.expected("filter", globs, f"at least one of the {len(found)} rows to match")
    known = list(readers())
    readings = [_in_framework(read_row(row, known), framework) for row in kept]
    answers = predict(kept, readings)
    rows = [_row(*each) for each in zip(kept, readings, answers, strict=True)]
    scored = tuple(row for row, source in zip(rows, kept, strict=True) if source.scored)
    claims = tuple(row for row, source in zip(rows, kept, strict=True) if not source.scored)
    return ValidationReport(tuple(_groups(scored)), scored, claims, tuple(str(path) for path in skipped))


def _in_framework(reading: AnyReading | Unreadable, framework: str | None) -> AnyReading | Unreadable:
    """A reading of a model in another framework."""
    if framework is None or not isinstance(reading, ModelReading) or isinstance(reading, AttentionReading):
        return reading
    return replace(reading, changes=(*reading.changes, ("framework", framework)))


def _fits(text: str, globs: Sequence[str]) -> bool:
    return not globs or any(fnmatchcase(text.lower(), glob.lower()) for glob in globs)


def read_row(row: Measurement, known: Sequence[Reader]) -> AnyReading | Unreadable:
    """Ask each reader; a device that is the name of a machine needs none."""
    for reader in known:
        reading = reader.reading(row)
        if reading is not None:
            return reading
    if row.device in machine_names():
        return _direct(row)
    return Unreadable(f"no machine is known by {row.device!r}")


def _direct(row: Measurement) -> AnyReading | Unreadable:
    """A product on a machine that no reader speaks for: the kernel named like the system, else the fastest."""
    if row.phase != "gemm" or row.product is None:
        return Unreadable(f"no reader knows the machine {row.device!r}, and the row is no single product")
    kernel = row.system if row.system in load_machine(row.device).kernel_names else "best"
    bits = 16 if row.accumulate == "fp16" else 32
    pattern = row.pattern or "dense"
    return GemmReading(row.device, (), kernel, pattern, row.dtype or "fp16", "", row.sparse_operand or "A", bits)


def _row(source: Measurement, reading: AnyReading | Unreadable, answer: Answer) -> Row:
    machine = "" if isinstance(reading, Unreadable) else reading.machine
    predicted, kernel, reason, bounds = None, "", "", None
    if isinstance(answer, Unreadable):
        reason = answer.reason
    else:
        try:
            predicted, kernel = in_metric(answer, source.metric), answer.kernel
            bounds = interval_in_metric(answer, source.metric)
        except SimsparseError as refused:
            reason = str(refused)
    low, high = bounds if bounds is not None else (None, None)
    return Row(
        source.id, source.system, source.device, source.metric, machine, kernel, source.pattern, source.value,
        predicted, _error(source, predicted), low, high, reason, _fitted(source, machine),
    )  # fmt: skip


def _fitted(source: Measurement, machine: str) -> bool | None:
    """Whether a machine's constants were fitted on a row."""
    if not machine:
        return None
    known = load_machine(machine)
    return source.id in known.fitted_rows if isinstance(known, HasFit) else None


def _error(source: Measurement, predicted: float | None) -> float | None:
    """Signed relative error; -1 where a scored row names one pattern and has no prediction."""
    if predicted is not None:
        return predicted / source.value - 1 if source.value else None
    return -1.0 if source.scored and names_one_pattern(source) else None


def _groups(rows: Sequence[Row]) -> Iterator[Group]:
    members: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        members[row.system, row.device, row.metric].append(row)
    for name, inside in members.items():
        yield score(name, inside)
