"""Why a count is what it is: a tile, times loops that bring new words, times distinct children, times what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simsparse.dataflow._arrays import Box, Count, Floats, FrameColumn, Ints, LoopKind, Scratch
from simsparse.dataflow.mapping import Loop
from simsparse.errors import InputError

if TYPE_CHECKING:
    from simsparse.dataflow.analysis import Analysis


@dataclass(frozen=True)
class Step:
    """A factor of a count; 1 where a loop is free."""

    what: str
    factor: float


@dataclass(frozen=True)
class Explanation:
    """Factors that multiply to a count, from the tile outwards."""

    level: str
    tensor: str
    count: Count
    value: float
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        lines = [f"{self.tensor} at {self.level}: {self.value:,.10g} {_name(self.count)}"]
        lines += [f"  × {step.factor:<12,.6g} {step.what}" for step in self.steps]
        return "\n".join(lines)


_NAMES = {
    Count.TILE: "words of a tile", Count.FULL_TILE: "words of a full tile",
    Count.PARTITION: "words of the part of an instance",
    Count.OCCUPANCY_MAX: "words stored at most", Count.OCCUPANCY_MEAN: "words stored in the mean",
    Count.INSTANCES_MAX: "instances", Count.INSTANCES_MEAN: "busy instances in the mean",
    Count.READ_WORDS: "words read per instance", Count.WRITE_WORDS: "words written per instance",
    Count.METADATA_MAX_BITS: "bits of metadata at most", Count.METADATA_MEAN_BITS: "bits of metadata in the mean",
}  # fmt: skip


def _name(count: Count) -> str:
    return _NAMES.get(count) or f"{count.name.lower().replace('_', ' ')} per instance"


_LEFT = "left by compression, gating and skipping, here and outside"
# Counts of accesses: the dense count that each is a part of, and what part.
_PARTS = {
    Count.READS: (Count.READS, ""), Count.FILLS: (Count.FILLS, ""), Count.UPDATES: (Count.UPDATES, ""),
    Count.ACTUAL_READS: (Count.READS, _LEFT), Count.ACTUAL_FILLS: (Count.FILLS, _LEFT),
    Count.ACTUAL_UPDATES: (Count.UPDATES, _LEFT),
    Count.GATED_READS: (Count.READS, "gated here"), Count.GATED_FILLS: (Count.FILLS, "gated here"),
    Count.GATED_UPDATES: (Count.UPDATES, "gated here"),
    Count.SKIPPED_READS: (Count.READS, "skipped here"), Count.SKIPPED_FILLS: (Count.FILLS, "skipped here"),
    Count.SKIPPED_UPDATES: (Count.UPDATES, "skipped here"),
    Count.REDUCTIONS: (Count.UPDATES, "added to a word that was written before"),
    Count.READ_WORDS: (Count.READS, "takes bandwidth: actual and gated, metadata beside it, of the mean instance"),
}  # fmt: skip


def explain(analysis: Analysis, level: str, tensor: str, count: Count) -> Explanation:
    """Take a count apart; see `Analysis.explain`."""
    value = analysis.count(level, tensor, count)
    at = analysis.architecture.level_names.index(level)
    if count is Count.ENERGY_PJ:
        raise InputError.expected("count to explain", count.name, "one of words, accesses, instances or metadata bits")
    if count in (Count.INSTANCES_MAX, Count.INSTANCES_MEAN):
        steps = _instances(analysis, at)
        note = "left where lanes over zeros are not there" if count is Count.INSTANCES_MAX else "busy on average"
    elif count in (Count.TILE, Count.FULL_TILE, Count.OCCUPANCY_MAX, Count.OCCUPANCY_MEAN):
        dense = Count.FULL_TILE if count in (Count.FULL_TILE, Count.OCCUPANCY_MAX) else Count.TILE
        steps = _clipped(analysis, _tile(analysis, at, tensor), analysis.count(level, tensor, dense))
        note = "stored of the fullest tile" if count is Count.OCCUPANCY_MAX else "stored of a mean tile that is sent"
    elif count in (Count.METADATA_MAX_BITS, Count.METADATA_MEAN_BITS):
        steps = _tile(analysis, at, tensor)
        which = "fullest" if count is Count.METADATA_MAX_BITS else "mean"
        note = f"bits of metadata and payloads of the {which} tile, for each of its words as if dense"
    elif count is Count.PARTITION:
        steps = _tile(analysis, 0, tensor)
        note = "passes through one instance"
    else:
        if count is Count.WRITE_WORDS:
            dense = Count.UPDATES if tensor == analysis.problem.output else Count.FILLS
            note = "takes bandwidth: all that is written and not skipped, with metadata, of the mean instance"
        else:
            dense, note = _PARTS[count]
        steps = _accesses(analysis, at, tensor, dense)
    return Explanation(level, tensor, count, value, _rest(steps, value, note))


def _rest(steps: list[Step], value: float, note: str) -> tuple[Step, ...]:
    """The steps, and what else there is between their product and the value."""
    product = float(np.prod([step.factor for step in steps]))
    if value == 0.0 and product != 0.0 and not note:
        note = "nothing moves"
    left = value / product if product != 0.0 else 0.0
    return (*steps, Step(note, left)) if note and abs(left - 1.0) > 1e-12 else tuple(steps)


def _tile(analysis: Analysis, level: int, tensor: str) -> list[Step]:
    """Extents of a tile along its axes, each with the loops that span it."""
    steps = []
    for axis in analysis.problem.tensor(tensor).axes:
        extent, spans = 1, []
        for dim, coefficient in axis:
            loops = [loop for at, loop in analysis.mapping.nest if at >= level and loop.dim == dim]
            spans += [str(loop) for loop in loops]
            factor = int(np.prod([loop.factor for loop in loops], dtype=int))
            extent += coefficient * (factor - 1)
        what = " + ".join(dim if c == 1 else f"{c}·{dim}" for dim, c in axis)
        steps.append(Step(f"words along {what}: {', '.join(spans) or 'no loop'}", float(extent)))
    return steps


def _clipped(analysis: Analysis, steps: list[Step], value: float) -> list[Step]:
    """The steps of full loops, and what clipped edges leave of their product."""
    left = value / float(np.prod([step.factor for step in steps]))
    clipped = analysis.mapping.imperfect and abs(left - 1.0) > 1e-12
    return [*steps, Step("left inside of clipped edges", left)] if clipped else steps


def _instances(analysis: Analysis, level: int) -> list[Step]:
    """Loops over space outside of a level."""
    names = analysis.architecture.level_names
    outer = [(at, loop) for at, loop in analysis.mapping.nest if at < level and loop.kind is not LoopKind.TEMPORAL]
    return [Step(f"{loop} at {names[at]}", float(loop.factor)) for at, loop in outer] or [Step("one instance", 1.0)]


def _accesses(analysis: Analysis, at: int, tensor: str, dense: Count) -> list[Step]:
    """Tile, deliveries and children that multiply to a dense count."""
    algorithmic = analysis.count(analysis.architecture.level_names[at], tensor, dense)
    if algorithmic == 0.0:
        return [Step("nothing moves", 0.0)]
    levels = analysis.mapping.levels
    if dense is Count.FILLS and tensor in levels[at].keep:
        return _clipped(analysis, _deliveries(analysis, tensor, at), algorithmic)
    child = next((place for place in range(at + 1, len(levels)) if tensor in levels[place].keep), len(levels))
    returned = dense is Count.READS and tensor == analysis.problem.output
    moved = analysis.count(analysis.architecture.level_names[at], tensor, Count.UPDATES if returned else dense)
    steps = _clipped(
        analysis, [*_deliveries(analysis, tensor, child), *_fan_out(analysis, tensor, at, child)], moved
    )  # fmt: skip
    if returned:
        steps.append(Step("the first write of a word needs no read", algorithmic / moved))
    return steps


def _deliveries(analysis: Analysis, tensor: str, child: int) -> list[Step]:
    """The tile of a child, and the loops in time outside of it, innermost first."""
    from simsparse.dataflow._dense import delivery

    prepared, t = analysis.prepared, analysis.problem.names.index(tensor)
    loops, factors, scratch = _surveyed(analysis)
    spec, nest = prepared.spec, analysis.mapping.nest
    names = analysis.architecture.level_names
    end = int(scratch.frame[child, FrameColumn.START])
    levels = len(names)
    if child == levels:
        steps = [Step("a word for each operation", 1.0)]
        outer = [(level, loop) for level, loop in nest if loop.kind is LoopKind.TEMPORAL]
        return steps + [Step(f"{loop} at {names[level]}", float(loop.factor)) for level, loop in reversed(outer)]
    before = analysis.count(names[child], tensor, Count.TILE)
    steps = [Step(f"words of a tile of {names[child]}", before)]
    tile = np.array([before])
    for first in range(end - 1, -1, -1):
        level, loop = nest[first]
        if loop.kind is not LoopKind.TEMPORAL:
            continue
        turns = [float(inner.factor if inner.kind is LoopKind.TEMPORAL else 1) for _, inner in nest[first:]]
        outside = np.concatenate(([1.0], np.cumprod(turns)))[:, np.newaxis]
        after = np.zeros(1)
        delivery(
            spec.tensors, spec.axes, t, loops[first:], factors[first:], end - first, tile, scratch.extents[child],
            scratch.step[first:], outside, scratch.boxes[Box.SHIFT], after,
        )  # fmt: skip
        steps.append(_step(loop, names[level], float(after[0]) / before))
        before = float(after[0])
    return steps


def _step(loop: Loop, level: str, factor: float) -> Step:
    note = ": the tile stays" if factor == 1.0 else ": part of the tile stays" if factor < loop.factor else ""
    return Step(f"{loop} at {level}{note}", factor)


def _fan_out(analysis: Analysis, tensor: str, level: int, child: int) -> list[Step]:
    """Distinct children over the spatial loops of each level between."""
    from simsparse.dataflow._dense import times_distinct

    prepared, t = analysis.prepared, analysis.problem.names.index(tensor)
    loops, factors, scratch = _surveyed(analysis)
    steps = []
    for inner in range(level, child):
        spread = [loop for loop in analysis.mapping.levels[inner].spatial if loop.factor > 1]
        if not spread:
            continue
        distinct = np.ones(1)
        times_distinct(
            prepared.spec.tensors, prepared.spec.axes, t, inner, inner + 1, loops, factors, factors, scratch.frame,
            scratch.step, distinct,
        )  # fmt: skip
        tiles = float(distinct[0])
        what = " and ".join(str(loop) for loop in spread)
        shared = "" if tiles == np.prod([loop.factor for loop in spread]) else ": equal tiles are multicast"
        steps.append(Step(f"{what} at {analysis.architecture.level_names[inner]}{shared}", tiles))
    return steps


def _surveyed(analysis: Analysis) -> tuple[Ints, Floats, Scratch]:
    from simsparse.dataflow._dense import survey

    loops, factors, stored = analysis.mapping.arrays(analysis.problem)
    work = analysis.prepared.scratch(len(loops))
    survey(loops, factors, stored, work.frame, work.extents, work.step, work.outside, work.instances)
    return loops, factors, work
