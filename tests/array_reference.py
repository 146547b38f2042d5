"""A model of the systolic array that moves every value cycle by cycle and multiplies; plain Python, shares no code.

All that happens in a column happens a cycle later in the next one, so that what columns hold is a vector and time is
that of the first column. Rows have registers of their own. Elements issue one multiply-accumulate a cycle, through a
pipeline of `depth` stages; assertions stand where hardware would compute nonsense.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    rows: int
    cols: int
    depth: int
    turns: int  # outputs that an element takes in turn
    double: bool  # registers that load or leave while the array works


@dataclass(frozen=True)
class Sparse:
    """N:M matrix: of each group of each output the values kept and their places, (outputs, groups, kept)."""

    values: Matrix
    places: NDArray[np.int64]
    group: int

    @classmethod
    def draw(cls, outputs: int, groups: int, kept: int, group: int, rng: np.random.Generator) -> Sparse:
        values = rng.integers(1, 9, (outputs, groups, kept)).astype(float)
        order = rng.permuted(np.tile(np.arange(group), (outputs, groups, 1)), axis=2)
        return cls(values, np.sort(order[:, :, :kept], axis=2), group)

    def dense(self) -> Matrix:
        outputs, groups, _ = self.values.shape
        full = np.zeros((outputs, groups, self.group))
        np.put_along_axis(full, self.places, self.values, axis=2)
        return full.reshape(outputs, groups * self.group)

    def product(self, output: int, group: int, k: int, token: int, b: Matrix) -> float:
        """What an element multiplies: a kept weight, and the token's value that its index selects from the group."""
        if output >= len(self.values) or group >= self.values.shape[1] or token >= b.shape[1]:
            return 0.0
        place = group * self.group + self.places[output, group, k]
        return float(self.values[output, group, k] * b[place, token])


def starts(total: int, size: int) -> range:
    return range(0, total, size)


# --- output-stationary: sums stay for a step, then leave downwards ---------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Outputs from `output` on lie on rows, tokens on columns, `turns` of them on each."""

    output: int
    tokens: range
    turns: int
    groups: range


@dataclass(frozen=True)
class Slot:
    """One multiply-accumulate of a step, of all elements; `first` and `last` of its step."""

    step: Step
    group: int
    k: int
    turn: int
    first: bool
    last: bool


@dataclass
class Drain:
    """Sums of one step on their way down: from `begins` on one leaves the column a cycle, the lowest row's first."""

    begins: int
    step: Step
    over: bool = False


@dataclass(frozen=True)
class Moving:
    """A sum of each column on its way down."""

    step: Step
    row: int
    turn: int
    value: Matrix


@dataclass
class Row:
    sums: Matrix  # (turns, cols)
    ready: list[int]  # array cycle in which a sum may be added to
    complete: dict[Step, dict[int, Matrix]] = field(default_factory=dict)  # in the pipeline with their last product
    waiting: dict[int, Matrix] = field(default_factory=dict)  # by turn: what has not been sent down yet
    handed: set[Step] = field(default_factory=set)


def output_stationary(shape: Shape, a: Sparse, b: Matrix, tile_tokens: int, step_groups: int) -> tuple[Matrix, int]:
    """C = A·B, and the cycles until the last sum has left."""
    result = np.zeros((len(a.values), b.shape[1]))
    slots = deque(_slots(shape, a, b.shape[1], tile_tokens, step_groups))
    rows = [Row(np.zeros((shape.turns, shape.cols)), [0] * shape.turns) for _ in range(shape.rows)]
    at_clock: dict[int, Slot] = {}
    # What the first row began, with its clock, and whose sums it handed on, by cycle: row r does so r cycles later.
    began: dict[int, tuple[Slot, int]] = {}
    handed: dict[int, Step] = {}
    lane: list[Moving | None] = [None] * shape.rows
    drains: list[Drain] = []
    cycle = clock = 0
    while slots or any(not drain.over for drain in drains) or any(row.complete or row.waiting for row in rows):
        drains = [drain for drain in drains if not drain.over]
        finished = at_clock.get(clock - shape.depth)
        # The first row stands still while its sums have nowhere to go; its clock too, and so those of other rows later.
        still = shape.double and finished is not None and finished.last and bool(rows[0].waiting)
        if not still and finished is not None and finished.last:
            handed[cycle] = finished.step
        for r, row in enumerate(rows):
            step = handed.get(cycle - r)
            if step is not None:
                assert not row.waiting, "sums fall on others that have not left"
                row.waiting = row.complete.pop(step)
                row.handed.add(step)
                if r == shape.rows - 1:
                    drains.append(Drain(cycle, step))
        free = [not row.waiting for row in rows]
        _move_down(shape, rows, lane, drains, cycle, result)
        if not still:
            if slots and _may_issue(shape, slots[0], at_clock, (clock, cycle), drains, rows[-1]):
                at_clock[clock] = slots[0]
                began[cycle] = (slots.popleft(), clock)
            clock += 1
        for r, row in enumerate(rows):
            if cycle - r in began:
                assert shape.double or free[r], "a sum is begun where another has not left"
                _accumulate(shape, row, r, *began[cycle - r], a, b)
        cycle += 1
    return result, cycle + shape.cols - 1


def _slots(shape: Shape, a: Sparse, tokens: int, tile_tokens: int, step_groups: int) -> Iterator[Slot]:
    kept = a.values.shape[2]
    for step in _steps(shape, a, tokens, tile_tokens, step_groups):
        order = [(g, k, turn) for g in step.groups for k in range(kept) for turn in range(step.turns)]
        for index, (g, k, turn) in enumerate(order):
            yield Slot(step, g, k, turn, index == 0, index == len(order) - 1)


def _steps(shape: Shape, a: Sparse, tokens: int, tile_tokens: int, step_groups: int) -> Iterator[Step]:
    outputs, groups, _ = a.values.shape
    block = shape.cols * shape.turns
    for output in starts(outputs, shape.rows):
        for tile in starts(tokens, tile_tokens):
            end = min(tokens, tile + tile_tokens)
            for token in range(tile, end, block):
                here = range(token, min(end, token + block))
                for begin in starts(groups, step_groups):
                    of_step = range(begin, min(groups, begin + step_groups))
                    yield Step(output, here, -(-len(here) // shape.cols), of_step)


def _may_issue(
    shape: Shape, slot: Slot, at_clock: dict[int, Slot], now: tuple[int, int], drains: list[Drain], lowest: Row
) -> bool:
    clock, cycle = now
    if not slot.first:
        again = (at_clock[at] for at in range(clock - shape.depth + 1, clock) if at in at_clock)
        return not any(other.step is slot.step and other.turn == slot.turn for other in again)
    if shape.double or not at_clock:
        return True
    # Without other registers a row begins when it has sent down all its sums; the wave is at row r in r cycles.
    before = at_clock[max(at_clock)].step
    if before not in lowest.handed:
        return False
    return all(cycle + r > _sent_until(shape, drain, r) for drain in drains for r in range(shape.rows))


def _sent_until(shape: Shape, drain: Drain, r: int) -> int:
    """Cycle in which row r sends its last sum, so that they leave the column one after the other."""
    return drain.begins + (shape.rows - 1 - r) * (drain.step.turns - 1) + drain.step.turns - 1


def _move_down(
    shape: Shape, rows: list[Row], lane: list[Moving | None], drains: list[Drain], cycle: int, result: Matrix
) -> None:
    """One cycle of the registers between rows: they move down, rows put in what is due, the lowest leaves."""
    lane[1:] = lane[:-1]
    lane[0] = None
    for drain in drains:
        for r, row in enumerate(rows):
            turn = cycle - (_sent_until(shape, drain, r) - drain.step.turns + 1)
            if 0 <= turn < drain.step.turns:
                assert lane[r] is None, "two sums in one register"
                lane[r] = Moving(drain.step, r, turn, row.waiting.pop(turn))
    leaving = lane[-1]
    if leaving is None:
        return
    step, output = leaving.step, leaving.step.output + leaving.row
    for c, value in enumerate(leaving.value):
        place = c * step.turns + leaving.turn
        if output < len(result) and place < len(step.tokens):
            result[output, step.tokens[place]] += value
    drains[0].over = leaving.row == 0 and leaving.turn == step.turns - 1


def _accumulate(shape: Shape, row: Row, r: int, slot: Slot, clock: int, a: Sparse, b: Matrix) -> None:
    step, turn = slot.step, slot.turn
    begins = slot.group == step.groups[0] and slot.k == 0
    assert begins or row.ready[turn] <= clock, "a sum is added to before it is there"
    places = [c * step.turns + turn for c in range(shape.cols)]
    products = [
        a.product(step.output + r, slot.group, slot.k, step.tokens[place], b) if place < len(step.tokens) else 0.0
        for place in places
    ]
    row.sums[turn] = np.array(products) + (0.0 if begins else row.sums[turn])
    row.ready[turn] = clock + shape.depth
    if slot.group == step.groups[-1] and slot.k == a.values.shape[2] - 1:
        row.complete.setdefault(step, {})[turn] = row.sums[turn].copy()


# --- weight-stationary: weights stay for a pass, tokens and sums come through ----------------------------------------


@dataclass(frozen=True)
class Pass:
    """Outputs from `output` on lie on columns, the groups of each row in its elements; tokens stream."""

    output: int
    tokens: range
    groups: tuple[range, ...]  # by row
    macs: int


@dataclass
class Stage:
    """A row: the pass it is at, how far, and how many of the next weights (`macs` for each column) have come in."""

    number: int = 0
    position: int = 0
    active: bool = False
    loaded: int = 0


@dataclass(frozen=True)
class Partial:
    """A token's sum in a row: when it may be added to, what the columns hold, how many products are in it."""

    ready: int
    value: Matrix
    products: int


Sums = dict[tuple[int, int], Partial]  # by pass and token


def weight_stationary(shape: Shape, a: Sparse, b: Matrix, held: int, tile_tokens: int) -> tuple[Matrix, int]:
    """C = A·B, and the cycles until the last sum is out of the lowest row. Below it, passes are added up."""
    passes = list(_passes(shape, a, b.shape[1], held, tile_tokens))
    orders = [list(_order(shape, one)) for one in passes]
    stages, sums = [Stage() for _ in range(shape.rows)], [Sums() for _ in range(shape.rows)]
    cycle = last = 0
    while any(stage.number < len(passes) for stage in stages):
        for r, stage in enumerate(stages):
            ran, above = stage.active, sums[r - 1] if r else None
            if not ran and stage.number < len(passes) and stage.loaded == shape.cols * passes[stage.number].macs:
                # New weights are taken over with the first sum that comes from above.
                first = (stage.number, orders[stage.number][0][1])
                stage.active = above is None or _has(above, first, passes[stage.number].macs, cycle)
                if stage.active:
                    stage.position = stage.loaded = 0
            if stage.active:
                ran = True
                mac, token = orders[stage.number][stage.position]
                if _added(passes[stage.number], (stage.number, r, mac, token), cycle, shape, sums[r], above, a, b):
                    last, stage.position = cycle, stage.position + 1
                if stage.position == len(orders[stage.number]):
                    stage.active, stage.number = False, stage.number + 1
            # One weight a cycle shifts in: for the next pass beside this one, or when nothing runs.
            target = stage.number + stage.active
            if (shape.double or not ran) and target < len(passes):
                stage.loaded = min(stage.loaded + 1, shape.cols * passes[target].macs)
        cycle += 1
    result = np.zeros((len(a.values), b.shape[1]))
    for (number, token), done in sums[-1].items():
        here = result[passes[number].output : passes[number].output + shape.cols, token]
        here += done.value[: len(here)]
    return result, last + shape.depth + shape.cols - 1


def _passes(shape: Shape, a: Sparse, tokens: int, held: int, tile_tokens: int) -> Iterator[Pass]:
    outputs, groups, kept = a.values.shape
    for output in starts(outputs, shape.cols):
        for token in starts(tokens, tile_tokens):
            for begin in starts(groups, shape.rows * held):
                here = min(shape.rows * held, groups - begin)
                each = -(-here // shape.rows)
                of_rows = tuple(
                    range(begin + min(here, r * each), begin + min(here, (r + 1) * each)) for r in range(shape.rows)
                )
                yield Pass(output, range(token, min(tokens, token + tile_tokens)), of_rows, each * kept)


def _order(shape: Shape, one: Pass) -> Iterator[tuple[int, int]]:
    """Products of an element in a pass: the number of its weight, and the token."""
    for begin in starts(len(one.tokens), shape.turns):
        for mac in range(one.macs):
            yield from ((mac, token) for token in one.tokens[begin : begin + shape.turns])


def _has(sums: Sums, key: tuple[int, int], macs: int, cycle: int) -> bool:
    """Whether a token's sum holds all products of its row, and is out of the pipeline."""
    return key in sums and sums[key].products == macs and sums[key].ready <= cycle


def _added(
    one: Pass, at: tuple[int, int, int, int], cycle: int, shape: Shape, sums: Sums, above: Sums | None, a: Sparse,
    b: Matrix,
) -> bool:  # fmt: skip
    """Add a product to a token's sum, if it is there: the element's own, or first the one from the row above."""
    number, r, mac, token = at
    before = Partial(0, np.zeros(shape.cols), one.macs)
    if mac > 0:
        before = sums[number, token]
    elif above is not None:
        if not _has(above, (number, token), one.macs, cycle):
            return False
        before = above[number, token]
    if before.ready > cycle:
        return False
    kept, value = a.values.shape[2], before.value
    if mac // kept < len(one.groups[r]):
        group = one.groups[r][mac // kept]
        value = value + [a.product(one.output + c, group, mac % kept, token, b) for c in range(shape.cols)]
    sums[number, token] = Partial(cycle + shape.depth, value, mac + 1)
    return True
