"""Cycles of the array counted pass by pass, for the event simulation; `_array.py` adds up the same in closed form.

A pass keeps its weights (weight-stationary) or its sums (output-stationary) where they are. While it runs, the weights
of the next one shift in, or the sums of the one before shift out, if registers are double; else the array waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Grid:
    """The array: its size, pipeline depth, outputs that elements take in turn, whether registers are double."""

    rows: int
    cols: int
    depth: int
    turns: int
    double: bool


@dataclass(frozen=True)
class Work:
    """What the array is given: outputs, tokens, and groups of which each element multiplies `kept`.

    `held` groups stay in an element (weight-stationary); 0 is output-stationary.
    """

    outputs: int
    tokens: int
    groups: int
    kept: int
    held: int


@dataclass(frozen=True)
class Walked:
    """Cycles in which the array multiplies, waits for sums of the same output, and waits for what shifts in or out."""

    multiply: int
    dependency: int
    exchange: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.multiply + self.dependency + self.exchange


@dataclass(frozen=True)
class _Pass:
    issue: int
    stall: int
    shift: int  # cycles in which its weights shift in, or its sums out

    @property
    def busy(self) -> int:
        return self.issue + self.stall


@lru_cache(maxsize=4096)
def walked(grid: Grid, work: Work) -> Walked:
    """A tile among others like it: the last pass runs beside what the next tile shifts in, or the one before out."""
    passes = list(_passes(grid, work))
    blocks = -(-work.outputs // (grid.cols if work.held else grid.rows))
    exchange = 0
    for index, here in enumerate(passes):
        beside = passes[(index + 1) % len(passes)] if work.held else passes[index - 1]
        if grid.double:
            exchange += max(0, beside.shift - here.busy)
        else:
            # Sums shift out only when the last of them is ready.
            exchange += here.shift + (0 if work.held else grid.depth - 1)
    issue, stall = (sum(getattr(one, name) for one in passes) for name in ("issue", "stall"))
    return Walked(blocks * issue, blocks * stall, blocks * exchange)


@lru_cache(maxsize=4096)
def ends(grid: Grid, first: Work, last: Work) -> int:
    """Cycles before the first pass of a call and after its last: weights in, sums out, and the way across the array."""
    opening, closing = list(_passes(grid, first)), list(_passes(grid, last))
    if first.held:
        # A row starts when the row above has added all its products to the first sums.
        way = (grid.rows - 1) * grid.depth * first.kept * _held(grid, first, first.groups) + grid.cols - 2 + grid.depth
        moved, beside = opening[0].shift, closing[-1]
    else:
        way = grid.rows + grid.cols - 2 + (grid.depth - 1 if grid.double else 0)
        moved, beside = closing[-1].shift, opening[0]
    # `walked` had the last pass wait for weights that never come, or the first for sums that never were.
    return way + (moved - max(0, moved - beside.busy) if grid.double else 0)


def _passes(grid: Grid, work: Work) -> Iterator[_Pass]:
    """Passes of one block of outputs, in order."""
    if work.held:
        for groups in _cut(work.groups, grid.rows * work.held):
            macs = _held(grid, work, groups) * work.kept
            parts = [_in_turn(grid, tokens, macs) for tokens in _runs(work.tokens, grid.turns)]
            yield _Pass(work.tokens * macs, sum(parts) - work.tokens * macs, grid.cols * macs)
        return
    for tokens in _cut(work.tokens, grid.cols * grid.turns):
        sums, macs = -(-tokens // grid.cols), work.groups * work.kept
        yield _Pass(sums * macs, _in_turn(grid, (sums, 1), macs) - sums * macs, grid.rows * sums)


def _held(grid: Grid, work: Work, groups: int) -> int:
    """Groups an element holds in a pass of so many."""
    return -(-min(groups, grid.rows * work.held) // grid.rows)


def _in_turn(grid: Grid, run: tuple[int, int], macs: int) -> int:
    """Cycles in which an element adds `macs` products to each of some outputs in turn, for `times` such sets."""
    outputs, times = run
    return times * (outputs + (macs - 1) * max(outputs, grid.depth))


def _cut(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)


def _runs(total: int, size: int) -> Iterator[tuple[int, int]]:
    """Sizes that `_cut` gives, each with how often."""
    if total >= size:
        yield size, total // size
    if total % size:
        yield total % size, 1
