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
        name = self.count.name.lower().replace("_", " ")
        lines = [f"{self.tensor} at {self.level}: {self.value:,.10g} {name} per instance"]
        lines += [f"  × {step.factor:<12,.6g} {step.what}" for step in self.steps]
        return "\n".join(lines)


_DENSE = {
    Count.ACTUAL_READS: Count.READS, Count.ACTUAL_FILLS: Count.FILLS, Count.ACTUAL_UPDATES: Count.UPDATES,
    Count.READS: Count.READS, Count.FILLS: Count.FILLS, Count.UPDATES: Count.UPDATES,
}  # fmt: skip


def explain(analysis: Analysis, level: str, tensor: str, count: Count) -> Explanation:
    """Take a count of reads, fills or updates apart; see `Analysis.explain`."""
    if count not in _DENSE:
        raise InputError.expected("count to explain", count.name, "reads, fills or updates, algorithmic or actual")
    value = analysis.count(level, tensor, count)
    dense = _DENSE[count]
    at = analysis.architecture.level_names.index(level)
    keeps = [place for place, part in enumerate(analysis.mapping.levels) if tensor in part.keep]
    inside = [place for place in keeps if place > at]
    compute = len(analysis.mapping.levels)
    if analysis.count(level, tensor, dense) == 0.0:
        return Explanation(level, tensor, count, value, (Step("nothing moves", 0.0),))
    if dense is Count.FILLS and tensor in analysis.mapping.levels[at].keep:
        steps = _deliveries(analysis, tensor, at)
    else:
        child = inside[0] if inside else compute
        steps = [*_deliveries(analysis, tensor, child), *_fan_out(analysis, tensor, at, child)]
    moved = float(np.prod([step.factor for step in steps]))
    algorithmic = analysis.count(level, tensor, dense)
    if dense is Count.READS and tensor == analysis.problem.output:
        steps.append(Step("the first write of a word needs no read", algorithmic / moved))
    if count is not dense:
        left = value / algorithmic
        steps.append(Step("left by compression, gating and skipping, here and outside", left))
    return Explanation(level, tensor, count, value, tuple(steps))


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
            prepared.spec.tensors, prepared.spec.axes, t, inner, inner + 1, loops, factors, scratch.frame, scratch.step,
            distinct,
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
