"""The counters of an analysis by the names in the activity tables of Sparseloop's artifact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simsparse.dataflow._arrays import Count, Total
from simsparse.dataflow.analysis import Access, Analysis, Part, State


@dataclass(frozen=True)
class Counter:
    """One row: a level, a tensor (empty for the level as a whole), a name and its value; energies in pJ."""

    level: str
    dataspace: str
    counter: str
    value: float | str


def counters(analysis: Analysis, *, dense: bool = False) -> Iterator[Counter]:
    """All counters, innermost level first; `dense` names them as runs without sparse features do."""
    compute = analysis.architecture.compute.name
    yield from (Counter(compute, "", name, value) for name, value in _of_compute(analysis, dense))
    for at in range(len(analysis.architecture.levels) - 1, -1, -1):
        level = analysis.architecture.level_names[at]
        yield Counter(level, "", "Cycles", analysis.level_cycles(level))
        yield Counter(level, "", "Bandwidth throttling", round(float(analysis.result.levels[at, 1]), 2))
        part = analysis.mapping.levels[at]
        for tensor in analysis.problem.names:
            if not analysis.stored(level, tensor):
                continue
            label = f"{tensor} (Streamed)" if tensor in part.streamed else tensor
            rows = _of_dense_tensor if dense else _of_tensor
            for name, value in rows(analysis, level, tensor):
                yield Counter(level, label, name, value)


def _of_compute(analysis: Analysis, dense: bool) -> Iterator[tuple[str, float]]:
    total = analysis.total
    yield "Utilized instances (max)", total(Total.INSTANCES_MAX)
    yield "Cycles", total(Total.COMPUTE_CYCLES)
    if dense:
        yield "Computes (total)", total(Total.COMPUTES)
    else:
        yield "Algorithmic Computes (total)", total(Total.COMPUTES)
        yield "Actual Computes (total)", total(Total.ACTUAL)
        yield "Gated Computes (total)", total(Total.GATED)
        yield "Skipped Computes (total)", total(Total.SKIPPED)
    yield "Energy (total)", total(Total.COMPUTE_ENERGY_PJ)


_DENSE_COUNTS = (
    ("Partition size", Count.PARTITION),
    ("Utilized instances (max)", Count.INSTANCES_MAX),
    ("Scalar reads (per-instance)", Count.READS),
    ("Scalar updates (per-instance)", Count.UPDATES),
    ("Scalar fills (per-instance)", Count.FILLS),
    ("Temporal reductions (per-instance)", Count.REDUCTIONS),
    ("Energy (total)", Count.ENERGY_PJ),
)


def _of_dense_tensor(analysis: Analysis, level: str, tensor: str) -> Iterator[tuple[str, float]]:
    for name, which in _DENSE_COUNTS:
        yield name, analysis.count(level, tensor, which)


def _of_tensor(analysis: Analysis, level: str, tensor: str) -> Iterator[tuple[str, float | str]]:
    def count(which: int) -> float:
        return analysis.count(level, tensor, Count(which))

    layout = analysis.architecture.level(level).formats.get(tensor)
    density = analysis.problem.tensor(tensor).density
    yield "Partition size", count(Count.PARTITION)
    # The artifact calls a tensor without a density one of fixed structure.
    yield "Tile density distribution", density.label if density.label != "dense" else "fixed-structured"
    yield "Data tile shape", count(Count.TILE)
    yield "Max utilized data storage capacity", count(Count.OCCUPANCY_MAX)
    yield "Representation format", layout.text if layout else "none"
    if layout:
        at, t = analysis.architecture.level_names.index(level), analysis.problem.names.index(tensor)
        for rank in range(len(layout.ranks) - 1, -1, -1):
            for part in Part:
                name = f"Max utilized Repr format storage capacity rank{rank} {part.name.lower()}"
                yield name, float(analysis.result.metadata_max[at, t, rank, part.value])
    yield "Utilized instances (max)", count(Count.INSTANCES_MAX)
    for access in Access:
        noun = access.name.lower()
        yield f"Algorithmic scalar {noun} (per-instance)", count(Count.READS + access.value)
        for state in State:
            which = Count.ACTUAL_READS + 3 * state.value + access.value
            yield f"{state.name.capitalize()} scalar {noun} (per-instance)", count(which)
    if layout:
        yield from _of_metadata(analysis, level, tensor)
    yield "Temporal reductions (per-instance)", count(Count.REDUCTIONS)
    yield "Energy (total)", count(Count.ENERGY_PJ)


def _of_metadata(analysis: Analysis, level: str, tensor: str) -> Iterator[tuple[str, float]]:
    """By rank, outermost first; one plain row where an action moves no bits."""
    ranks = analysis.architecture.level(level).formats[tensor].ranks
    for access in Access:
        for state in State:
            name = f"{state.name.capitalize()} scalar format {access.name.lower()} (per-instance)"
            rows: list[tuple[str, float]] = []
            bits = 0.0
            for index, rank in enumerate(ranks):
                at = len(ranks) - 1 - index
                for part, width in ((Part.METADATA, rank.metadata_bits or 0.0), (Part.PAYLOAD, rank.payload_bits)):
                    words = analysis.metadata(level, tensor, at, state, access, part)
                    rows.append((f"{name} rank{at} {part.name.lower()}", words))
                    bits += words * width
            yield from rows if bits > 0.0 else [(name, 0.0)]
