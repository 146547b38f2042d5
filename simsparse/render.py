"""Tables for people: rich ones for the terminal, HTML for notebooks. Files and programs get SI floats instead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simsparse.fallback import unused_patterns
from simsparse.intervals import Bounds
from simsparse.inventory import call_names, job, methods_of, placed, short

if TYPE_CHECKING:
    from simsparse.compared import Comparison
    from simsparse.diff import Difference
    from simsparse.formats import FormatRow
    from simsparse.plan import Alternative, Floats
    from simsparse.products import PricedProducts
    from simsparse.result import Result
    from simsparse.workload import Workload

_PREFIXES = {6: "E", 5: "P", 4: "T", 3: "G", 2: "M", 1: "k", 0: "", -1: "m", -2: "µ", -3: "n", -4: "p", -5: "f"}


def si(value: float, unit: str, digits: int = 3) -> str:
    """A figure with a prefix: `si(0.00123, "s")` is `1.23 ms`."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else f"∞ {unit}"
    if value == 0:
        return f"0 {unit}"
    rounded = float(f"{value:.{digits - 1}e}")
    power = math.floor(math.log10(abs(rounded)) / 3 + 1e-12)
    # Nobody thinks in kiloseconds.
    if power not in _PREFIXES or (power > 0 and unit == "s"):
        return f"{rounded:g} {unit}"
    scaled = rounded / 1000.0**power
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(scaled)) + 1e-12))
    return f"{scaled:.{decimals}f} {_PREFIXES[power]}{unit}"


def plain(value: float) -> str:
    """A count of something, three digits of it: `29,300`."""
    return "–" if not math.isfinite(value) else f"{float(f'{value:.3g}'):,g}" if value < 1e6 else si(value, "").strip()


def times(value: float) -> str:
    """A gain: `1.87×`."""
    return "–" if math.isnan(value) else f"{value:.2f}×"


class FittedTable(Table):
    """A table that knows how wide it must be.

    Attributes
    ----------
    least : int
        Characters at which figures are whole and names are cut with an ellipsis.
    roomy : int
        Characters at which names are whole, and prose has some room.
    """

    least: int = 0
    roomy: int = 0


_NAME, _PROSE = 12, 30  # characters that a name keeps, and that prose gets


def table(
    titles: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = (), gap: int = 2
) -> FittedTable:
    """A plain table; cells are taken literally, columns named in `right` hold figures."""
    made = FittedTable(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
    cells = [[str(cell) for cell in row] for row in rows]
    for index, title in enumerate(titles):
        figures, texts = title in right, [title, *(row[index] for row in cells)]
        made.add_column(Text(title), justify="right" if figures else "left", no_wrap=figures, overflow="ellipsis")
        widest, word = (
            max(map(cell_len, texts)),
            max(cell_len(word) for text in texts for word in (text.split() or ("",))),
        )
        made.least += (widest if figures else min(widest, _NAME)) + gap
        made.roomy += (widest if figures else max(word, min(widest, _PROSE))) + gap
    for row in cells:
        made.add_row(*map(Text, row))
    return made


def fitting_width(renderable: RenderableType, wanted: int, *, whole_names: bool) -> int:
    """The `wanted` characters, or as many more as the tables of a renderable need to show figures (and names) whole."""
    parts = renderable.renderables if isinstance(renderable, Group) else [renderable]
    tables = [part for part in parts if isinstance(part, FittedTable)]
    return max([wanted, *(part.roomy if whole_names else part.least for part in tables)])


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _lines(pairs: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in pairs:
        grid.add_row(Text(label, style="bold"), Text(text))
    return grid


_CALL_TITLES = ("op", "kernel", "count", "time", "share", "speedup", "bound")


def _call_rows(result: Result, *, every_op: bool = False) -> list[tuple[str, ...]]:
    """A row a call: time is of all its runs."""
    seconds = result.prices.latency_s * result.counts
    gain = result.row_dense_latency_s / result.prices.latency_s
    rows: list[tuple[str, ...]] = []
    for index, (name, call) in enumerate(zip(call_names(result.plan.calls), result.plan.calls, strict=True)):
        more = "" if every_op or len(call.ops) == 1 else f" +{len(call.ops) - 1}"
        whole = name != short(call.ops[0])
        rows.append(
            (
                " + ".join(placed(op, call.layers) if whole else op for op in call.ops) if every_op else name + more,
                call.kernel,
                str(call.count),
                si(float(seconds[index]), "s"),
                f"{seconds[index] / result.latency_s:.1%}",
                times(float(gain[index])),
                result.prices.term_names[int(result.prices.bound[index])],
            )
        )
    return rows


def _totals(result: Result) -> list[tuple[str, str]]:
    memory = result.footprint
    room = "" if math.isinf(memory.memory_bytes) else f" of {si(memory.memory_bytes, 'B')}"
    order = np.argsort(-result.bound_seconds)
    unit, devices = f"{result.workload.unit}s", result.workload.devices
    each, together = (f" on each of {devices} devices", " of all together") if devices > 1 else ("", "")
    bounds = [
        f"{result.prices.term_names[i]} {result.bound_seconds[i] / result.latency_s:.0%}"
        for i in order
        if result.bound_seconds[i] / result.latency_s >= 0.005
    ]
    return [
        ("latency", f"{si(result.latency_s, 's')}, dense {si(result.dense_latency_s, 's')}"),
        ("speedup", f"{times(result.speedup)} over dense"),
        *_intervals(result.latency_interval_s, result.speedup_interval),
        *([("baseline", result.baseline_text)] if methods_of(result.workload) else []),
        ("throughput", f"{plain(result.tokens_per_s)} {unit}/s, {plain(result.tokens_per_j)} {unit}/J{together}"),
        (
            "energy",
            f"{si(result.energy_j, 'J')}{each}, dense {si(result.dense_energy_j, 'J')}, "
            f"gain {times(result.energy_gain)}",
        ),
        ("memory", f"{si(memory.total_bytes, 'B')}{room}, largest batch {memory.largest_batch}"),
        ("bound", ", ".join(bounds)),
        *(("not used", text) for text in unused_patterns(result)),
        *(("warning", text) for text in result.warnings),
    ]


def _intervals(latency_s: Bounds | None, speedup: Bounds | None) -> list[tuple[str, str]]:
    """Where four of five measurements lie, in a line."""
    if latency_s is None or speedup is None:
        return []
    seconds, gains = (f"{si(bound, 's')}" for bound in latency_s), (times(bound) for bound in speedup)
    return [("80 % interval", f"{' to '.join(seconds)}, {' to '.join(gains)} over dense")]


def _first(bounds: Floats | None) -> Bounds | None:
    return None if bounds is None else (float(bounds[0, 0]), float(bounds[0, 1]))


def result_table(result: Result, *, verbose: bool = False) -> RenderableType:
    """The calls of a result and its totals; `verbose` adds terms, alternatives and provenance."""
    work = result.workload
    head = f"{work.name} on {result.machine}: {job(work)}"
    parts: list[RenderableType] = [
        Text("; ".join((head, *work.transforms))),
        table(_CALL_TITLES, _call_rows(result, every_op=verbose), right=("count", "time", "share", "speedup")),
        _lines(_totals(result)),
    ]
    if verbose:
        parts += [_terms(result), *_alternatives(result), _provenance(result)]
    return spaced(parts)


def spaced(parts: Sequence[RenderableType]) -> Group:
    """With an empty line between."""
    return Group(*(item for index, part in enumerate(parts) for item in ((Text(""), part) if index else (part,))))


def _terms(result: Result) -> Table:
    """The times that each call's latency is combined from."""
    used = np.flatnonzero(result.prices.terms_s.any(axis=0))
    names = [result.prices.term_names[i] for i in used]
    rows = [
        (name, si(float(result.prices.latency_s[index]), "s"), *(si(float(t), "s") for t in terms[used]))
        for index, (name, terms) in enumerate(zip(call_names(result.plan.calls), result.prices.terms_s, strict=True))
    ]
    return table(("terms of one call", "time", *names), rows, right=("time", *names))


def _alternatives(result: Result) -> list[RenderableType]:
    rows = [
        (name, other.kernel, "–" if other.latency_s is None else si(other.latency_s, "s"), other.reason)
        for name, call in zip(call_names(result.plan.calls), result.plan.calls, strict=True)
        for other in call.alternatives
    ]
    return [table(("op", "also tried", "time", "not taken because"), rows, right=("time",))] if rows else []


def _provenance(result: Result) -> Table:
    origin = result.provenance
    return _lines(
        [
            ("spec", origin.spec_hash),
            ("constants", origin.constants_hash),
            ("unverified", ", ".join(origin.unverified) or "none"),
            ("assumed", ", ".join(origin.assumed) or "none"),
        ]
    )


def result_html(result: Result) -> str:
    """The same as an HTML fragment."""
    cells = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in _call_rows(result))
    head = "".join(f"<th>{title}</th>" for title in _CALL_TITLES)
    totals = "".join(f"<tr><th>{label}</th><td>{escape(text)}</td></tr>" for label, text in _totals(result))
    name = f"{escape(result.workload.name)} on {escape(result.machine)}"
    return f"<p><b>{name}</b></p><table>{totals}</table><table><tr>{head}</tr>{cells}</table>"


def comparison_table(comparison: Comparison) -> RenderableType:
    """Speedup and reason of each pattern on each machine, and warnings below."""
    rows = [
        (
            row["machine"],
            row["pattern"],
            si(_number(row["latency_s"]), "s"),
            times(_number(row["speedup"])),
            times(_number(row["energy_gain"])),
            row["reason"],
        )
        for row in comparison.rows()
    ]
    titles = ("machine", "pattern", "time", "speedup", "energy", "reason")
    work = comparison.results[0][0].workload
    head = "; ".join((f"{work.name}: {job(work)}", *methods_of(work)))
    parts: list[RenderableType] = [Text(head), table(titles, rows, right=("time", "speedup", "energy"))]
    if comparison.warnings:
        parts.append(_lines(("warning", text) for text in comparison.warnings))
    return spaced(parts)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def difference_table(difference: Difference) -> RenderableType:
    """Totals and calls that changed."""
    if difference.same:
        return Text("no difference")
    rows = [
        (c.where, c.field, _cell(c.before), _cell(c.after), "" if c.ratio is None else times(c.ratio))
        for c in (*difference.totals, *difference.calls)
    ]
    return table(("where", "figure", "before", "after", "ratio"), rows, right=("before", "after", "ratio"))


def product_table(priced: PricedProducts, unused: str = "", others: Sequence[Alternative] = ()) -> RenderableType:
    """One product: its figures, the terms, why its pattern is `unused`, and the kernels that were not taken."""
    found, style = priced.estimate, priced.products.styles[0]
    m, n, k, _ = priced.products.extents[0]
    dense, prices = found.dense_prices, found.prices
    terms = sorted(zip(prices.term_names, prices.terms_s[0].tolist(), strict=True), key=lambda term: -term[1])
    head = f"{m} × {n} × {k} {style.dtype} on {found.machine}, {style.sparse_operand} is {style.pattern}"
    parts: list[RenderableType] = [
        Text(head),
        _lines(
            [
                ("kernel", str(found.kernel[0])),
                ("latency", f"{si(float(prices.latency_s[0]), 's')}, dense {si(float(dense.latency_s[0]), 's')}"),
                ("speedup", f"{times(float(found.speedup[0]))} over dense"),
                *_intervals(_first(found.latency_interval_s), _first(found.speedup_interval)),
                ("rate", f"{si(float(prices.flops[0] / prices.latency_s[0]), 'FLOP/s')}, zeros counted"),
                ("energy", f"{si(float(prices.energy_j[0]), 'J')}, dense {si(float(dense.energy_j[0]), 'J')}"),
                ("bound", str(found.bound[0])),
                ("terms", ", ".join(f"{name} {si(value, 's')}" for name, value in terms if value > 0)),
                *([("not used", f"{style.pattern}: {unused}")] if unused else []),
            ]
        ),
    ]
    if others:
        rows = [(o.kernel, "–" if o.latency_s is None else si(o.latency_s, "s"), o.reason) for o in others]
        parts.append(table(("also tried", "time", "not taken because"), rows, right=("time",)))
    return spaced(parts)


def products_table(priced: PricedProducts) -> Table:
    """A row a product."""
    found = priced.estimate
    rows = [
        (m, n, k, style.pattern, kernel, si(time_s, "s"), times(gain), si(energy_j, "J"), bound)
        for (m, n, k, _), style, kernel, time_s, gain, energy_j, bound in zip(
            priced.products.extents, priced.products.styles, found.kernel.tolist(), found.latency_s.tolist(),
            found.speedup.tolist(), found.energy_j.tolist(), found.bound.tolist(), strict=True,
        )
    ]  # fmt: skip
    titles = ("M", "N", "K", "pattern", "kernel", "time", "speedup", "energy", "bound")
    return table(titles, rows, right=("M", "N", "K", "time", "speedup", "energy"))


def formats_table(rows: Sequence[FormatRow]) -> Table:
    """Bytes in each format, or why it does not apply."""
    cells = [
        (
            row.name,
            si(row.stored.bytes, "B") if row.stored else "–",
            si(row.stored.metadata_bits / 8, "B") if row.stored else "–",
            f"{row.ratio:.4f}" if row.ratio is not None else "–",
            row.reason or "",
        )
        for row in rows
    ]
    return table(("format", "size", "metadata", "of dense", ""), cells, right=("size", "metadata", "of dense"))


def inventory_table(work: Workload, columns: Mapping[str, Sequence[object]]) -> RenderableType:
    """The ops of a workload and its totals."""
    titles = ["op", "kind", "count", "shape", "FLOPs", "pattern"]
    rows: list[tuple[object, ...]] = [
        (op, kind, count, shape, si(flops, "FLOP") if flops else "", "" if pattern == "dense" else pattern)
        for op, kind, count, shape, flops, pattern in zip(*(columns[title.lower()] for title in titles), strict=True)
    ]
    if not any(row[-1] for row in rows):
        titles, rows = titles[:-1], [row[:-1] for row in rows]
    head = f"{work.name}: {job(work)}, {work.tokens} {work.unit}s"
    return spaced(
        [
            Text("; ".join((head, *work.transforms))),
            table(
                ["all FLOPs" if t == "FLOPs" else t for t in titles], rows, right=("count", "shape", "all FLOPs"), gap=1
            ),
            _lines([("parameters", f"{work.parameters:,}"), ("FLOPs", f"{work.flops:,}")]),
        ]
    )


def plain_table(columns: Mapping[str, Sequence[object]]) -> Table:
    """Columns as they are; what is missing stays empty."""
    return table(tuple(columns), [[_cell(cell) for cell in row] for row in zip(*columns.values(), strict=True)])
