"""Geometry of a loop nest by plain enumeration: which words an instance of a level holds, who shares them, who is
there."""

from __future__ import annotations

import itertools

import numpy as np
from dataflow_tree import Tree, groups_of, tree_of

from simsparse.dataflow.architecture import ActionKind, Architecture, TensorFormat
from simsparse.dataflow.mapping import LoopKind, Mapping
from simsparse.dataflow.problem import Problem

Word = tuple[int, ...]
Index = tuple[int, ...]  # where each loop of a nest, or some of them, stand


class Nest:
    """A mapping of a problem, and masks (True: nonzero) of some of its tensors."""

    def __init__(
        self, problem: Problem, architecture: Architecture, mapping: Mapping, masks: dict[str, np.ndarray]
    ) -> None:
        self.problem, self.architecture, self.mapping, self.masks = problem, architecture, mapping, masks
        self.nest = [(level, loop) for level, part in enumerate(mapping.levels) for loop in part.loops]
        self.levels = len(mapping.levels)
        self.temporal = [i for i, (_, loop) in enumerate(self.nest) if loop.kind is LoopKind.TEMPORAL]
        self.spatial = [i for i, (_, loop) in enumerate(self.nest) if loop.kind is not LoopKind.TEMPORAL]
        inner = dict.fromkeys(problem.dim_names, 1)
        self.strides = [0] * len(self.nest)
        for i in range(len(self.nest) - 1, -1, -1):
            loop = self.nest[i][1]
            self.strides[i] = inner[loop.dim]
            inner[loop.dim] *= loop.factor
        self.packed = self._packed()
        self._tiles: dict[tuple[str, int, Index], frozenset[Word]] = {}
        self._trees: dict[tuple[str, int, Index], Tree] = {}

    # Where things stand.

    def index(self, time: Index, place: Index) -> Index:
        """Where all loops stand, those in time and those over space being given."""
        at = dict(zip(self.temporal + self.spatial, time + place, strict=True))
        return tuple(at[i] for i in range(len(self.nest)))

    def place(self, level: int, index: Index) -> Index:
        """Which instance of a level it is."""
        return tuple(index[i] for i in self.spatial if self.nest[i][0] < level)

    def standing(self, tensor: str, level: int, index: Index) -> Index:
        """Where the loops over a tensor stand that lie outside of a level."""
        dims = self.problem.tensor(tensor).dims
        return tuple(
            at for at, (level_of, loop) in zip(index, self.nest, strict=True) if level_of < level and loop.dim in dims
        )

    def word(self, tensor: str, index: Index) -> Word:
        """The word of a tensor that an operation needs."""
        point = dict.fromkeys(self.problem.dim_names, 0)
        for i, (_, loop) in enumerate(self.nest):
            point[loop.dim] += index[i] * self.strides[i]
        return tuple(sum(c * point[d] for d, c in axis) for axis in self.problem.tensor(tensor).axes)

    def tile(self, tensor: str, level: int, index: Index) -> frozenset[Word]:
        """Words under the loops of a level and inside, the outer loops standing at `index`."""
        start = tuple(at if self.nest[i][0] < level else 0 for i, at in enumerate(index))
        if (tensor, level, start) not in self._tiles:
            end = tuple(at if self.nest[i][0] < level else self.nest[i][1].factor - 1 for i, at in enumerate(start))
            spans = zip(self.word(tensor, start), self.word(tensor, end), strict=True)
            box = itertools.product(*(range(low, high + 1) for low, high in spans))
            self._tiles[tensor, level, start] = frozenset(box)
        return self._tiles[tensor, level, start]

    def offsets(self, tensor: str, parent: int, child: int, index: Index) -> Index:
        """Offsets of a child's tile, level by level; children that agree in them share a delivery."""
        found = []
        for level in range(parent, child):
            steps = {self.nest[i][1].dim: 0 for i in self.spatial}
            for i in self.spatial:
                steps[self.nest[i][1].dim] += index[i] * self.strides[i] if self.nest[i][0] == level else 0
            found += [sum(c * steps.get(d, 0) for d, c in axis) for axis in self.problem.tensor(tensor).axes]
        return tuple(found)

    # What is kept, stored, sent.

    def keeps(self, tensor: str) -> list[int]:
        """Levels that keep a tensor, outermost first."""
        return [level for level, part in enumerate(self.mapping.levels) if tensor in part.keep]

    def nonzero(self, tensor: str, word: Word) -> bool:
        """Whether a word is."""
        return bool(self.masks[tensor][word]) if tensor in self.masks else True

    def layout(self, level: int, tensor: str) -> TensorFormat | None:
        """How a level stores a tensor."""
        return self.architecture.levels[level].formats.get(tensor)

    def compressed(self, level: int, tensor: str) -> bool:
        """Whether a level stores no zeros of a tensor."""
        layout = self.layout(level, tensor)
        return layout is not None and layout.compressed

    def holds_nonzero(self, tensor: str, level: int, index: Index) -> bool:
        """Whether a tile is not empty."""
        return any(self.nonzero(tensor, word) for word in self.tile(tensor, level, index))

    def sent(self, tensor: str, level: int, index: Index) -> bool:
        """A compressed parent sends no empty tiles."""
        outer = [keep for keep in self.keeps(tensor) if keep < level]
        return not outer or not self.compressed(outer[-1], tensor) or self.holds_nonzero(tensor, level, index)

    def metadata(self, level: int, tensor: str, index: Index) -> Tree:
        """The share of one word in the metadata of its tile."""
        return self.tree(level, tensor, index).over(len(self.tile(tensor, level, index)))

    def tree(self, level: int, tensor: str, index: Index) -> Tree:
        """The metadata of a tile."""
        layout = self.layout(level, tensor)
        if layout is None:
            return Tree()
        start = tuple(at if self.nest[i][0] < level else 0 for i, at in enumerate(index))
        if (tensor, level, start) not in self._trees:
            groups = groups_of(self, level, tensor, layout)
            self._trees[tensor, level, start] = tree_of(self, tensor, layout, groups, start)
        return self._trees[tensor, level, start]

    # Who is left out.

    def own(self, level: int, tensor: str) -> tuple[ActionKind, frozenset[str]] | None:
        """What a level gates or skips of a tensor, and on whose zeros."""
        for action in self.architecture.levels[level].actions:
            for option in action.options:
                if option.target == tensor and action.kind in (ActionKind.GATING, ActionKind.SKIPPING):
                    return action.kind, frozenset(option.on)
        return None

    def _actions(self, level: int, kind: ActionKind) -> set[str]:
        """Tensors on whose zeros an action over space looks at a level."""
        actions = self.architecture.levels[level].actions if level < self.levels else ()
        options = [option for action in actions if action.kind is kind for option in action.options]
        if kind is ActionKind.POSITION_SKIPPING:
            return {option.target for option in options}
        return {name for option in options for name in option.on if self._source(level, name)}

    def _source(self, level: int, tensor: str) -> bool:
        """Whether the level knows where a tensor that it spreads is zero."""
        outer = [keep for keep in self.keeps(tensor) if keep <= level]
        spread = {self.nest[i][1].dim for i in self.spatial if self.nest[i][0] == level and self.nest[i][1].factor > 1}
        return bool(outer and self.compressed(outer[-1], tensor) and spread & self.problem.tensor(tensor).dims)

    def _packed(self) -> set[str]:
        """Tensors over whose zeros no lane stands."""
        kinds = (ActionKind.SPATIAL_SKIPPING, ActionKind.POSITION_SKIPPING)
        return {name for level in range(self.levels) for kind in kinds for name in self._actions(level, kind)}

    def there(self, level: int, index: Index) -> bool:
        """Whether an instance is: lanes whose part of a tensor is empty are left out."""
        return all(
            self.holds_nonzero(tensor, outer + 1, index)
            for outer in range(level)
            for tensor in self._actions(outer, ActionKind.SPATIAL_SKIPPING)
        )
