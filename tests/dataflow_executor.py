"""A second witness of `simsparse.dataflow`: walks a loop nest over real masks, operation by operation, and counts.

Slow and obvious on purpose; it shares no counting code with the analysis. A *delivery* is one word that a level hands
to a child (or to the compute) for as long as the child holds it; children with the same tile share one. Every operation
marks the deliveries that serve it, so that in the end each knows whether any operation needed it. `dataflow_clock`
runs the same walk step by step in time.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from dataflow_nest import Index, Nest, Word
from dataflow_tree import Tree

from simsparse.dataflow.architecture import ActionKind, Architecture
from simsparse.dataflow.mapping import Mapping
from simsparse.dataflow.problem import Problem

STATES = {ActionKind.GATING: "gated", ActionKind.SKIPPING: "skipped"}


@dataclass(eq=False)
class Delivery:
    """A word handed inwards, where it came from, and which tensors were nonzero in some operation it served."""

    time: int
    source: Delivery | None
    moves: bool  # stored at all, its tile is sent, and the instance is not left out
    standing: Index  # of the loops over the tensor
    first: bool  # first time that this instance hands out the word
    metadata: Tree  # its share of the tile's
    met: set[str] = field(default_factory=set)
    dead: bool = False


@dataclass(frozen=True)
class Fill:
    """A word that an instance of a level takes up."""

    delivery: Delivery
    moves: bool
    metadata: Tree


class Room(NamedTuple):
    """What a level keeps room for: words, and bits of metadata, each those of the fullest tile."""

    words: int = 0
    bits: float = 0.0


Rooms = dict[tuple[int, str], Room]


@dataclass
class Seen:
    """Totals over all instances of a level, of one tensor; `words` take bandwidth, by access and time."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # by access, by state
    metadata: dict[tuple[str, str], Tree] = field(default_factory=lambda: defaultdict(Tree))  # by access and state
    words: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))
    fullest: Room = field(default_factory=Room)


@dataclass
class Operation:
    """One multiplication: when, in which instance, what served it, whether its lane is there, what is zero."""

    time: int
    place: Index
    served: dict[str, Delivery]
    there: bool
    zeros: frozenset[str]


class Executor(Nest):
    """Runs one mapping; results are in `seen[level, tensor]`, `operations` and `busy` (operations of each instance)."""

    def __init__(
        self, problem: Problem, architecture: Architecture, mapping: Mapping, masks: dict[str, np.ndarray]
    ) -> None:
        super().__init__(problem, architecture, mapping, masks)
        self.seen: dict[tuple[int, str], Seen] = defaultdict(Seen)
        self.operations: Counter[str] = Counter()
        self.busy: Counter[Index] = Counter()
        self.deliveries: dict[tuple[int, str], list[Delivery]] = defaultdict(list)
        self.fills: dict[tuple[int, str], list[Fill]] = defaultdict(list)
        self.done: list[Operation] = []
        self._held: dict[tuple[int, str, Index], tuple[Index, frozenset[Word]]] = {}
        self._open: dict[tuple[object, ...], Delivery] = {}
        self._handed: set[tuple[object, ...]] = set()
        self.shares: set[tuple[int, str]] = set()  # where tiles that overlap share words, in time or space
        self.steps_in_time = 0
        for time in itertools.product(*(range(self.nest[i][1].factor) for i in self.temporal)):
            self._fresh: dict[tuple[object, ...], Delivery] = {}
            self._streamed: set[tuple[object, ...]] = set()
            for place in itertools.product(*(range(self.nest[i][1].factor) for i in self.spatial)):
                self._operate(self.index(time, place), place)
            # Everything that an instance in time works on serves all that share a delivery.
            self.steps_in_time += 1
        self._judge()

    # The walk.

    def _operate(self, index: Index, place: Index) -> None:
        """One operation, and what has to be handed inwards for it."""
        serving: dict[str, list[Delivery]] = {name: self._hand_down(name, index) for name in self.problem.names}
        zeros = frozenset(name for name in self.problem.names if not self.nonzero(name, self.word(name, index)))
        for served in itertools.chain(*serving.values()):
            served.met |= set(self.problem.names) - zeros
        innermost = {name: served[-1] for name, served in serving.items()}
        self.done.append(Operation(self.steps_in_time, place, innermost, self.there(self.levels, index), zeros))

    def _hand_down(self, tensor: str, index: Index) -> list[Delivery]:
        """The deliveries of the word that an operation needs, outermost first; new ones are made where needed."""
        keeps, word, serving = self.keeps(tensor), self.word(tensor, index), []
        self._note_fullest(0, tensor, index)
        for parent, child in zip(keeps, [*keeps[1:], self.levels], strict=True):
            if child < self.levels:
                tile = self.tile(tensor, child, index)
                inside = (child, tensor, self.place(child, index))
                stood, before = self._held.get(inside, ((), frozenset()))
                new = tile - before
                standing = self.standing(tensor, child, index)
                if before & tile and stood != standing:
                    self.shares |= {(parent, tensor), (child, tensor)}
                self._held[inside] = standing, tile
                self._note_fullest(child, tensor, index)
            else:
                new = frozenset([word])
            group = (parent, tensor, self.place(parent, index), self.offsets(tensor, parent, child, index))
            for got in new:
                if (*group, got) not in self._fresh:
                    delivery = self._deliver(parent, child, tensor, got, index)
                    self._fresh[(*group, got)] = self._open[(*group, got)] = delivery
                elif self._fresh[(*group, got)].standing != self.standing(tensor, child, index):
                    self.shares.add((parent, tensor))
                self._arrive(tensor, parent, child, self._fresh[(*group, got)], got, index)
            serving.append(self._open[(*group, word)])
        return serving

    def _deliver(self, level: int, child: int, tensor: str, word: Word, index: Index) -> Delivery:
        keeps = self.keeps(tensor)
        source = None
        if level != keeps[0]:
            outer = keeps[keeps.index(level) - 1]
            above = (outer, tensor, self.place(outer, index), self.offsets(tensor, outer, level, index), word)
            source = self._open[above]
        stored = self.nonzero(tensor, word) or not self.compressed(level, tensor)
        moves = stored and self.sent(tensor, level, index) and self.there(level, index)
        slot = (level, tensor, self.place(level, index), word)
        share = self.metadata(level, tensor, index) if self.there(level, index) else Tree()
        standing = self.standing(tensor, child, index)
        delivery = Delivery(self.steps_in_time, source, moves, standing, slot not in self._handed, share)
        self._handed.add(slot)
        self.deliveries[level, tensor].append(delivery)
        return delivery

    def _arrive(self, tensor: str, parent: int, child: int, delivery: Delivery, word: Word, index: Index) -> None:
        """A word comes to a child; levels between that stream the tensor see it pass, once for equal tiles."""
        if child < self.levels:
            stored = self.nonzero(tensor, word) or not self.compressed(child, tensor)
            moves = stored and self.sent(tensor, child, index) and self.there(child, index)
            share = self.metadata(child, tensor, index) if self.there(child, index) else Tree()
            self.fills[child, tensor].append(Fill(delivery, moves, share))
        for level in range(parent + 1, child):
            if tensor in self.mapping.levels[level].streamed:
                slot = (level, self.place(level, index), self.offsets(tensor, level, child, index), tensor, word)
                if slot not in self._streamed:
                    self._streamed.add(slot)
                    passing = replace(delivery, source=delivery, moves=True, metadata=Tree(), met=set())
                    self.deliveries[level, tensor].append(passing)
                    self.fills[level, tensor].append(Fill(passing, True, Tree()))

    def _note_fullest(self, level: int, tensor: str, index: Index) -> None:
        tile = self.tile(tensor, level, index)
        kept = sum(self.nonzero(tensor, word) for word in tile) if self.compressed(level, tensor) else len(tile)
        layout, seen = self.layout(level, tensor), self.seen[level, tensor]
        bits = self.tree(level, tensor, index).bits(layout) if layout else 0.0
        seen.fullest = Room(max(kept, seen.fullest.words), max(bits, seen.fullest.bits))

    # In the end: what was needed?

    def _judge(self) -> None:
        for (level, tensor), deliveries in sorted(self.deliveries.items()):
            own = self.own(level, tensor)
            for delivery in deliveries:
                lost = delivery.source is not None and delivery.source.dead
                delivery.dead = lost or (own is not None and not own[1] <= delivery.met)
                saved = "actual" if own is None or not delivery.dead else STATES[own[0]]
                output = tensor == self.problem.output
                accesses = ["updates"] + ([] if delivery.first else ["reads"]) if output else ["reads"]
                for access in accesses:
                    self._count(level, tensor, access, delivery.time, saved, delivery.moves, lost, delivery.metadata)
            for fill in self.fills[level, tensor]:
                lost = fill.delivery.dead
                self._count(level, tensor, "fills", fill.delivery.time, "actual", fill.moves, lost, fill.metadata)
        for operation in self.done:
            self.operations[self._kind(operation)] += 1
            self.busy[operation.place] += self.takes_cycle(operation)

    def _count(
        self, level: int, tensor: str, access: str, time: int, state: str, moves: bool, lost: bool, metadata: Tree
    ) -> None:
        """Note an access, and the metadata that it reads or writes along; gated ones take their time, too."""
        seen = self.seen[level, tensor]
        seen.counts[access]["algorithmic"] += 1
        if lost:
            return
        seen.counts[access][state] += moves
        seen.metadata[access, state] += metadata
        if state != "skipped":
            layout, storage = self.layout(level, tensor), self.architecture.levels[level]
            bits = metadata.bits(layout) if layout else 0.0
            seen.words[access][time] += moves + bits / storage.word_bits

    def takes_cycle(self, operation: Operation) -> bool:
        """Gated operations do, skipped ones do not."""
        return self._kind(operation) in ("actual", "gated")

    def _kind(self, operation: Operation) -> str:
        inputs = [name for name in self.problem.names if name != self.problem.output]
        told = [name for name in inputs if self.compressed(self.keeps(name)[-1], name)]
        zeros = operation.zeros & set(inputs)
        deciding = any(self.own(level, name) for name in inputs for level in self.keeps(name)) or self.packed
        both_absent = len(told) == len(inputs) == len(zeros) and not deciding
        if both_absent or not operation.there or any(operation.served[name].dead for name in inputs):
            return "never"
        if self.packed & zeros & set(told):
            return "never"
        if zeros and self.architecture.compute.skipping and told:
            return "skipped"
        return "gated" if zeros and self.architecture.compute.gating else "actual"
