"""A second witness of `simsparse.dataflow`: walks a loop nest over real masks, operation by operation, and counts.

Slow and obvious on purpose; it shares no counting code with the analysis. A *delivery* is one word that a level hands
to a child (or to the compute) for as long as the child holds it; children with the same tile share one. Every operation
marks the deliveries that serve it, so that in the end each knows whether any operation needed it.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from simsparse.dataflow.architecture import ActionKind, Architecture, RankFormat, TensorFormat
from simsparse.dataflow.mapping import LoopKind, Mapping
from simsparse.dataflow.problem import Problem

Word = tuple[int, ...]
Point = dict[str, int]


@dataclass(eq=False)
class Delivery:
    """A word handed inwards, where it came from, and which tensors were nonzero in some operation it served."""

    word: Word
    source: Delivery | None
    nonzero: bool
    sent: bool  # the tile it belongs to is not empty, or empty tiles are sent too
    first: bool = False  # first time that this instance hands out the word
    met: set[str] = field(default_factory=set)
    dead: bool = False


@dataclass
class Seen:
    """Totals over all instances of a level, by tensor."""

    reads: Counter[str] = field(default_factory=Counter)  # algorithmic, actual, gated, skipped
    fills: Counter[str] = field(default_factory=Counter)
    updates: Counter[str] = field(default_factory=Counter)
    metadata_fills: dict[int, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))


class Executor:
    """Runs one mapping; results are in `seen[level, tensor]` and `operations`."""

    def __init__(
        self, problem: Problem, architecture: Architecture, mapping: Mapping, masks: dict[str, np.ndarray]
    ) -> None:
        self.problem, self.architecture, self.mapping = problem, architecture, mapping
        self.masks = masks
        self.nest = [(level, loop) for level, part in enumerate(mapping.levels) for loop in part.loops]
        self.levels = len(mapping.levels)
        self.seen: dict[tuple[str, str], Seen] = defaultdict(Seen)
        self.operations: Counter[str] = Counter()
        self.deliveries: dict[tuple[int, str], list[Delivery]] = defaultdict(list)
        self.fills: dict[tuple[int, str], list[tuple[Delivery, bool, bool]]] = defaultdict(list)
        self.done: list[tuple[dict[str, Delivery], dict[str, bool]]] = []
        self._walk()
        self._judge()

    # Geometry, by plain enumeration.

    def _steps(self) -> list[int]:
        steps, inner = [0] * len(self.nest), defaultdict(lambda: 1)
        for i in range(len(self.nest) - 1, -1, -1):
            loop = self.nest[i][1]
            steps[i] = inner[loop.dim]
            inner[loop.dim] *= loop.factor
        return steps

    def _words(self, tensor: str, points: list[Point]) -> frozenset[Word]:
        axes = self.problem.tensor(tensor).axes
        spans = [
            range(
                min(sum(c * p[d] for d, c in axis) for p in points),
                max(sum(c * p[d] for d, c in axis) for p in points) + 1,
            )
            for axis in axes
        ]
        return frozenset(itertools.product(*spans))

    def _word(self, tensor: str, point: Point) -> Word:
        return tuple(sum(c * point[d] for d, c in axis) for axis in self.problem.tensor(tensor).axes)

    def _tile(self, tensor: str, level: int, index: tuple[int, ...]) -> frozenset[Word]:
        """Words under the loops of a level and inside, the outer loops standing at `index`."""
        lows, highs = dict.fromkeys(self.problem.dim_names, 0), dict.fromkeys(self.problem.dim_names, 0)
        for i, (at, loop) in enumerate(self.nest):
            here = index[i] if at < level else 0
            lows[loop.dim] += here * self.steps[i]
            highs[loop.dim] += (here if at < level else loop.factor - 1) * self.steps[i]
        return self._words(tensor, [lows, highs])

    def _keeps(self, tensor: str) -> list[int]:
        return [level for level, part in enumerate(self.mapping.levels) if tensor in part.keep]

    # The walk.

    def _walk(self) -> None:
        self.steps = self._steps()
        temporal = [i for i, (_, loop) in enumerate(self.nest) if loop.kind is LoopKind.TEMPORAL]
        spatial = [i for i, (_, loop) in enumerate(self.nest) if loop.kind is not LoopKind.TEMPORAL]
        held: dict[tuple[int, str, tuple[int, ...]], frozenset[Word]] = {}
        open_: dict[tuple[int, str, tuple[int, ...], object, Word], Delivery] = {}
        handed: set[tuple[int, str, tuple[int, ...], Word]] = set()
        tiles: dict[tuple[str, int, tuple[int, ...]], frozenset[Word]] = {}
        for time in itertools.product(*(range(self.nest[i][1].factor) for i in temporal)):
            fresh: dict[tuple[int, str, tuple[int, ...], object, Word], Delivery] = {}
            for place in itertools.product(*(range(self.nest[i][1].factor) for i in spatial)):
                index = [0] * len(self.nest)
                for i, value in zip(temporal + spatial, time + place, strict=True):
                    index[i] = value
                point = dict.fromkeys(self.problem.dim_names, 0)
                for i, (_, loop) in enumerate(self.nest):
                    point[loop.dim] += index[i] * self.steps[i]
                serving: dict[str, list[Delivery]] = defaultdict(list)
                for tensor in self.problem.names:
                    keeps = self._keeps(tensor)
                    word = self._word(tensor, point)
                    source: Delivery | None = None
                    for parent, child in zip(keeps, [*keeps[1:], self.levels], strict=True):
                        at = tuple(index[i] for i in spatial if self.nest[i][0] < parent)
                        group = self._group(tensor, parent, child, index, spatial)
                        inside = tuple(index[i] for i in spatial if self.nest[i][0] < child)
                        if child < self.levels:
                            key = (
                                tensor,
                                child,
                                tuple(index[i] if self.nest[i][0] < child else 0 for i in range(len(index))),
                            )
                            if key not in tiles:
                                tiles[key] = self._tile(tensor, child, key[2])
                            new = tiles[key] - held.get((child, tensor, inside), frozenset())
                            held[child, tensor, inside] = tiles[key]
                        else:
                            new = frozenset([word])
                        for got in new:
                            slot = (parent, tensor, at, group, got)
                            if slot not in fresh:
                                above = (
                                    source
                                    if got == word
                                    else self._open(open_, parent, tensor, keeps, index, spatial, got)
                                )
                                fresh[slot] = self._deliver(parent, tensor, at, got, above, index, handed)
                                open_[slot] = fresh[slot]
                            if child < self.levels:
                                sent = self._sent(tensor, child, tiles[key])
                                self.fills[child, tensor].append((fresh[slot], bool(self._nonzero(tensor, got)), sent))
                        if new and child < self.levels:
                            self._fill_metadata(child, tensor, tiles[key], index)
                        source = open_[parent, tensor, at, group, word]
                        serving[tensor].append(source)
                values = {name: self._nonzero(name, self._word(name, point)) for name in self.problem.names}
                for served in serving.values():
                    for delivery in served:
                        delivery.met.update(name for name, value in values.items() if value)
                self.done.append(({name: served[-1] for name, served in serving.items()}, values))

    def _open(
        self, open_: dict[tuple[int, str, tuple[int, ...], object, Word], Delivery], parent: int, tensor: str,
        keeps: list[int], index: list[int], spatial: list[int], word: Word,
    ) -> Delivery | None:  # fmt: skip
        """The delivery that brought a word into `parent`."""
        where = keeps.index(parent)
        if where == 0:
            return None
        outer = keeps[where - 1]
        at = tuple(index[i] for i in spatial if self.nest[i][0] < outer)
        return open_[outer, tensor, at, self._group(tensor, outer, parent, index, spatial), word]

    def _group(self, tensor: str, parent: int, child: int, index: list[int], spatial: list[int]) -> object:
        """Children whose tiles stand at the same offsets, level by level, share a delivery."""
        offsets = []
        for level in range(parent, child):
            for axis in self.problem.tensor(tensor).axes:
                moved = 0
                for i in spatial:
                    if self.nest[i][0] == level:
                        moved += sum(c * index[i] * self.steps[i] for d, c in axis if d == self.nest[i][1].dim)
                offsets.append(moved)
        return tuple(offsets)

    def _nonzero(self, tensor: str, word: Word) -> bool:
        return bool(self.masks[tensor][word]) if tensor in self.masks else True

    def _format(self, level: int, tensor: str) -> TensorFormat | None:
        return self.architecture.levels[level].formats.get(tensor)

    def _compressed(self, level: int, tensor: str) -> bool:
        layout = self._format(level, tensor)
        return layout is not None and layout.compressed

    def _sent(self, tensor: str, level: int, tile: frozenset[Word]) -> bool:
        outer = [keep for keep in self._keeps(tensor) if keep < level]
        if not outer or not self._compressed(outer[-1], tensor):
            return True
        return any(self._nonzero(tensor, word) for word in tile)

    def _deliver(
        self, level: int, tensor: str, at: tuple[int, ...], word: Word, source: Delivery | None, index: list[int],
        handed: set[tuple[int, str, tuple[int, ...], Word]],
    ) -> Delivery:  # fmt: skip
        tile = self._tile(tensor, level, tuple(index))
        delivery = Delivery(word, source, self._nonzero(tensor, word), self._sent(tensor, level, tile))
        delivery.first = (level, tensor, at, word) not in handed
        handed.add((level, tensor, at, word))
        self.deliveries[level, tensor].append(delivery)
        return delivery

    # Metadata of a tile that arrives: the fiber tree, rank by rank; of plain tensors whose tile has no halo.

    def _fill_metadata(self, level: int, tensor: str, tile: frozenset[Word], index: list[int]) -> None:
        layout = self._format(level, tensor)
        if layout is None:
            return
        for rank, (metadata, payload) in enumerate(self.tree(level, tensor, layout, index)):
            total = self.seen[self.architecture.level_names[level], tensor].metadata_fills[rank]
            total[0] += metadata
            total[1] += payload

    def tree(self, level: int, tensor: str, layout: TensorFormat, index: list[int]) -> list[tuple[float, float]]:
        """Metadata and payloads of each rank (0 innermost), each being one loop over the tensor, inner ones first."""
        dims = self.problem.tensor(tensor).dims
        loops = [i for i, (at, loop) in enumerate(self.nest) if at >= level and loop.dim in dims and loop.factor > 1]
        ranks = list(reversed(layout.ranks))
        groups = [[loops[len(loops) - 1 - r]] if r < len(loops) else [] for r in range(len(ranks))]
        if len(loops) > len(ranks):
            groups[-1] = loops[: len(loops) - len(ranks) + 1]
        base = dict.fromkeys(self.problem.dim_names, 0)
        for i, (at, loop) in enumerate(self.nest):
            if at < level:
                base[loop.dim] += index[i] * self.steps[i]
        out = [(0.0, 0.0)] * len(ranks)
        innermost = None
        for r in range(len(ranks) - 1, -1, -1):
            if not groups[r] and r > 0:
                continue
            innermost = r
            outer = [i for higher in range(len(ranks) - 1, r, -1) for i in groups[higher]]
            below = [i for lower in range(r) for i in groups[lower]]
            full = occupied = 0
            for up in itertools.product(*(range(self.nest[i][1].factor) for i in outer)):
                children = 0
                for own in itertools.product(*(range(self.nest[i][1].factor) for i in groups[r])):
                    hit = False
                    for down in itertools.product(*(range(self.nest[i][1].factor) for i in below)):
                        point = dict(base)
                        for i, value in zip([*outer, *groups[r], *below], [*up, *own, *down], strict=True):
                            point[self.nest[i][1].dim] += value * self.steps[i]
                        hit = hit or self._nonzero(tensor, self._word(tensor, point))
                    children += hit
                if children:
                    full += 1
                    occupied += children
            shape = int(np.prod([self.nest[i][1].factor for i in groups[r]], dtype=int))
            if ranks[r].format is RankFormat.UNCOMPRESSED:
                out[r] = (0.0, float(full * (shape + 1)))
            elif ranks[r].format is RankFormat.BITMASK:
                out[r] = (float(full * shape), float(occupied))
            else:
                out[r] = (float(occupied), float(occupied))
        if innermost is not None:
            out[innermost] = (out[innermost][0], 0.0)
        return out

    # In the end: what was needed?

    def _own(self, level: int, tensor: str) -> tuple[ActionKind, frozenset[str]] | None:
        for action in self.architecture.levels[level].actions:
            for option in action.options:
                if option.target == tensor and action.kind in (ActionKind.GATING, ActionKind.SKIPPING):
                    return action.kind, frozenset(option.on)
        return None

    def _judge(self) -> None:
        for tensor in self.problem.names:
            for level in self._keeps(tensor):
                own = self._own(level, tensor)
                compressed = self._compressed(level, tensor)
                seen = self.seen[self.architecture.level_names[level], tensor]
                output = tensor == self.problem.output
                for delivery in self.deliveries[level, tensor]:
                    lost = delivery.source is not None and delivery.source.dead
                    delivery.dead = lost or (own is not None and not own[1] <= delivery.met)
                    counted = [seen.updates] + ([seen.reads] if not delivery.first else []) if output else [seen.reads]
                    for counter in counted:
                        counter["algorithmic"] += 1
                        if (compressed and not delivery.nonzero) or not delivery.sent or lost:
                            continue
                        saved = own is not None and delivery.dead
                        counter[("gated" if own[0] is ActionKind.GATING else "skipped") if saved else "actual"] += 1
                for delivery, nonzero, sent in self.fills[level, tensor]:
                    seen.fills["algorithmic"] += 1
                    if (nonzero or not compressed) and sent and not delivery.dead:
                        seen.fills["actual"] += 1
        compute = self.architecture.compute
        inputs = [name for name in self.problem.names if name != self.problem.output]
        told = [name for name in inputs if self._compressed(self._keeps(name)[-1], name)]
        for served, values in self.done:
            zeros = [name for name in inputs if not values[name]]
            both_absent = len(told) == len(inputs) == len(zeros) and not self._any_own(inputs)
            if both_absent or any(served[name].dead for name in inputs):
                self.operations["never"] += 1
            elif zeros and compute.skipping and told:
                self.operations["skipped"] += 1
            elif zeros and compute.gating:
                self.operations["gated"] += 1
            else:
                self.operations["actual"] += 1

    def _any_own(self, inputs: list[str]) -> bool:
        return any(self._own(level, name) for name in inputs for level in self._keeps(name))
