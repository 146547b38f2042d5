"""An explanation in words and tables: the call beside its dense twin, and the figures that both are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from simsparse.explain import Explanation, Side
from simsparse.plan import Fact
from simsparse.render import plain, si, spaced, table, times

if TYPE_CHECKING:
    from rich.console import RenderableType

_NONE = "–"
# Parts of a price that are figures of the machine, whatever the call: told once, with their sources.
SHARED = ("rates", "constants")


def explanation_tables(found: Explanation) -> RenderableType:
    """Words, the terms side by side, what they are made of, and the kernels that were not taken."""
    from rich.text import Text

    heads = [side.name if side.name == "dense" else f"{side.name}, {side.kernel}" for side in found.sides]
    parts: list[RenderableType] = [Text("\n".join(in_words(found)))]
    rows = [row for topic, each in _beside(found.sides) for row in _under(topic, each)]
    parts.append(table(("", *heads), rows, right=heads))
    if found.rule:
        parts.append(Text(f"terms combine as\n{_indented(found.rule)}"))
    known = [fact for fact in _distinct(found.sides) if fact.topic in SHARED]
    if known:
        rows = [(fact.name, _value(fact), fact.source) for fact in known]
        parts.append(table(("figure", "value", "source"), rows, right=("value",)))
    how = [fact for fact in _distinct(found.sides) if fact.topic not in SHARED and fact.source]
    if how:
        parts.append(table(("figure", "is"), list(dict.fromkeys((fact.name, fact.source) for fact in how))))
    if found.others:
        rows = [(o.kernel, _NONE if o.latency_s is None else si(o.latency_s, "s"), o.reason) for o in found.others]
        parts.append(table(("also tried", "time", "not taken because"), rows, right=("time",)))
    return spaced(parts)


def _under(topic: str, rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Rows below a line that names their topic."""
    return [(topic, *("" for _ in rows[0][1:])), *((f"  {row[0]}", *row[1:]) for row in rows)] if rows else []


def in_words(found: Explanation) -> list[str]:
    """What happens, a sentence a line."""
    taken = found.sides[0]
    lines = [f"{found.job} on {found.machine}: {_takes(taken)}"]
    if len(found.sides) > 1:
        dense = found.sides[1]
        sure = "" if found.speedup_interval is None else f" (80 %: {' to '.join(map(times, found.speedup_interval))})"
        lines += [f"dense: {_takes(dense)}", f"speedup {times(found.speedup)}{sure}; {_changes(taken, dense)}"]
    reached = taken.roofline_s / taken.latency_s
    lines.append(f"arithmetic and compulsory bytes alone take {si(taken.roofline_s, 's')}, {reached:.0%} of that time")
    return lines


def _takes(side: Side) -> str:
    sure = ""
    if side.latency_interval_s is not None:
        sure = f" (80 %: {' to '.join(si(bound, 's') for bound in side.latency_interval_s)})"
    parts = ", ".join(f"{name} {si(value, 's')}" for name, value in side.main_terms)
    return f"{side.kernel} takes {si(side.latency_s, 's')}{sure}, bound by {side.bound}: {parts}"


def _changes(taken: Side, dense: Side) -> str:
    """Terms that differ most, in words."""
    before = dict(dense.terms_s)
    moved = [(name, value - before[name]) for name, value in taken.terms_s if name in before]
    moved = sorted((each for each in moved if abs(each[1]) >= 0.02 * dense.latency_s), key=lambda each: -abs(each[1]))
    told = [f"{name} {si(abs(by), 's')} {'less' if by < 0 else 'more'}" for name, by in moved]
    return ", ".join(told) or "no term changes by more than a fiftieth"


def _beside(sides: tuple[Side, ...]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Topics with a row a figure and a column a side."""
    yield (
        "whole",
        [
            ("time", *(si(side.latency_s, "s") for side in sides)),
            ("rate, zeros counted", *(si(side.flops / side.latency_s, "FLOP/s") for side in sides)),
            ("energy", *(si(side.energy_j, "J") for side in sides)),
            ("bound", *(side.bound for side in sides)),
        ],
    )
    for topic, unit, values in (
        ("terms", "s", [dict(side.terms_s) for side in sides]),
        ("bytes moved", "B", [dict(side.level_bytes) for side in sides]),
        ("energy", "J", [dict(side.energy_terms_j) for side in sides]),
    ):
        names = [name for name in values[0] if any(each.get(name, 0.0) for each in values)]
        yield topic, [(name, *(si(each[name], unit) if name in each else _NONE for each in values)) for name in names]
    facts = [{(fact.topic, fact.name): fact for fact in side.facts} for side in sides]
    topics = dict.fromkeys(fact.topic for side in sides for fact in side.facts if fact.topic not in SHARED)
    for topic in topics:
        keys = dict.fromkeys(key for each in facts for key in each if key[0] == topic)
        yield topic, [(key[1], *(_value(each[key]) if key in each else _NONE for each in facts)) for key in keys]


def _distinct(sides: tuple[Side, ...]) -> Iterable[Fact]:
    return dict.fromkeys(fact for side in sides for fact in side.facts)


def _value(fact: Fact) -> str:
    if isinstance(fact.value, str):
        return fact.value
    if fact.unit:
        return si(fact.value, fact.unit, digits=4)
    return (
        f"{fact.value:,.4g}"
        if abs(fact.value) < 1000
        else f"{fact.value:,.6g}"
        if fact.value < 1e6
        else plain(fact.value)
    )


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
