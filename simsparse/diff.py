"""What changed from one result to another: totals, and the calls that came, went or differ."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from simsparse.errors import InputError
from simsparse.inventory import layer_ranges
from simsparse.result import SCHEMA_VERSION, Result

_TOLERANCE = 1e-9
_TOTALS = (
    "workload", "phase", "batch", "dtype", "machine", "latency_s", "dense_latency_s", "speedup", "energy_j",
    "dense_energy_j", "tokens_per_s", "tokens_per_j", "bound", "parameters", "flops",
)  # fmt: skip
_CALL_FIELDS = ("kernel", "pattern", "count", "latency_s", "speedup", "energy_j", "bound")

Value = float | int | str | None


@dataclass(frozen=True)
class Change:
    """One figure that differs.

    Attributes
    ----------
    where : str
        `total`, or the ops of a call.
    field : str
        Name of the figure, or `call` for a call that only one of the two has.
    before, after : float, int, str or None
        None where that side has no such figure.
    """

    where: str
    field: str
    before: Value
    after: Value

    @property
    def ratio(self) -> float | None:
        """After over before, of numbers."""
        if isinstance(self.before, (int, float)) and isinstance(self.after, (int, float)) and self.before:
            return self.after / self.before
        return None


@dataclass(frozen=True)
class Difference:
    """What changed."""

    totals: tuple[Change, ...]
    calls: tuple[Change, ...]

    @property
    def same(self) -> bool:
        """Whether nothing did."""
        return not self.totals and not self.calls

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            label: [{**asdict(change), "ratio": change.ratio} for change in changes]
            for label, changes in (("totals", self.totals), ("calls", self.calls))
        }

    def columns(self) -> dict[str, Sequence[object]]:
        """All changes as columns."""
        changes = (*self.totals, *self.calls)
        return {name: [getattr(c, name) for c in changes] for name in ("where", "field", "before", "after", "ratio")}


Saved = Mapping[str, object]


def read_result(path: str | Path) -> Saved:
    """A result saved as JSON.

    Raises
    ------
    InputError
        If the file cannot be read or holds no result of this schema version.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"file {str(path)!r} is no readable JSON ({reason}), expected a saved result") from None
    return _checked(data, str(path))


def _checked(data: object, where: str) -> Saved:
    if not isinstance(data, dict) or not isinstance(data.get("calls"), list):
        raise InputError(f"file {where!r} has no list 'calls', expected a result saved by simulate")
    if data.get("schema_version") != SCHEMA_VERSION:
        raise InputError.expected(f"schema_version of {where!r}", data.get("schema_version"), str(SCHEMA_VERSION))
    for call in data["calls"]:
        if not isinstance(call, dict) or not isinstance(call.get("ops"), str):
            raise InputError(f"file {where!r} has a call without text 'ops', expected a result saved by simulate")
        layers = call.get("layers", [])
        if not isinstance(layers, list) or not all(type(layer) is int for layer in layers):
            raise InputError.expected(f"layers of call {call['ops']!r} in {where!r}", layers, "a list of whole numbers")
    return data


def diff(before: Result | Saved, after: Result | Saved) -> Difference:
    """Totals and calls that differ by more than rounding; calls are matched by their ops and layers.

    Parameters
    ----------
    before, after : Result, or what `read_result` gave
    """
    one, other = (_saved(item) for item in (before, after))
    totals = tuple(_changes("total", _TOTALS, one, other))
    return Difference(totals, tuple(_call_changes(_by_work(one), _by_work(other))))


def _saved(item: Result | Saved) -> Saved:
    return _checked(json.loads(item.to_json()), item.workload.name) if isinstance(item, Result) else item


def _by_work(saved: Saved) -> dict[str, Saved]:
    """Calls by what they do: ops, and layers where calls of other layers have the same ops."""
    calls = saved["calls"]
    assert isinstance(calls, list)
    often = Counter(call["ops"] for call in calls)
    return {call["ops"] if often[call["ops"]] == 1 else _with_layers(call): call for call in calls}


def _with_layers(call: Saved) -> str:
    layers = call.get("layers", [])
    assert isinstance(layers, list)
    return f"{call['ops']} (layers {layer_ranges(layers)})"


def _call_changes(one: dict[str, Saved], other: dict[str, Saved]) -> Iterator[Change]:
    for key in [*one, *(key for key in other if key not in one)]:
        if key not in other:
            yield Change(key, "call", _value(one[key].get("kernel")), None)
        elif key not in one:
            yield Change(key, "call", None, _value(other[key].get("kernel")))
        else:
            yield from _changes(key, _CALL_FIELDS, one[key], other[key])


def _changes(where: str, fields: Sequence[str], one: Saved, other: Saved) -> Iterator[Change]:
    for name in fields:
        before, after = _value(one.get(name)), _value(other.get(name))
        if not _alike(before, after):
            yield Change(where, name, before, after)


def _alike(before: Value, after: Value) -> bool:
    """Equal, or numbers that differ by rounding."""
    if isinstance(before, (int, float)) and isinstance(after, (int, float)):
        return math.isclose(before, after, rel_tol=_TOLERANCE)
    return before == after


def _value(value: object) -> Value:
    return value if isinstance(value, (int, float, str)) or value is None else str(value)
