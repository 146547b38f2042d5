"""Metadata of a tile: the tree of its fibers, rank by rank, built coordinate by coordinate."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simsparse.dataflow.architecture import RankFormat, TensorFormat

if TYPE_CHECKING:
    from dataflow_nest import Index, Nest

Groups = list[list[int]]  # loops of each rank, innermost rank first


@dataclass
class Tree:
    """Words of metadata and of payloads by rank, 0 the innermost."""

    ranks: dict[int, tuple[float, float]] = field(default_factory=dict)

    def __add__(self, other: Tree) -> Tree:
        ranks = dict(self.ranks)
        for rank, (metadata, payload) in other.ranks.items():
            before = ranks.get(rank, (0.0, 0.0))
            ranks[rank] = before[0] + metadata, before[1] + payload
        return Tree(ranks)

    def over(self, parts: int) -> Tree:
        """One of equal parts."""
        return Tree({rank: (metadata / parts, payload / parts) for rank, (metadata, payload) in self.ranks.items()})

    def bits(self, layout: TensorFormat) -> float:
        """Width of all of it."""
        widths = [(rank.metadata_bits or 0.0, rank.payload_bits) for rank in reversed(layout.ranks)]
        return sum(m * widths[rank][0] + p * widths[rank][1] for rank, (m, p) in self.ranks.items())


def groups_of(nest: Nest, level: int, tensor: str, layout: TensorFormat) -> Groups:
    """Which loops over a tensor each rank stands for.

    A compressed level hands on its child's tile as it is, so that the ranks of the child are its lower ranks (one flat
    rank for a child without a format); the loops between are dealt out to those above, one each, and the last rank
    takes what is left.
    """
    dims, count = nest.problem.tensor(tensor).dims, len(layout.ranks)
    loops = [i for i, (at, loop) in enumerate(nest.nest) if at >= level and loop.dim in dims and loop.factor > 1]
    child = next((keep for keep in nest.keeps(tensor) if keep > level), None)
    groups: Groups = []
    if child is not None and layout.compressed:
        inner = [i for i in loops if nest.nest[i][0] >= child]
        loops = [i for i in loops if nest.nest[i][0] < child]
        below = nest.layout(child, tensor)
        if inner:
            groups = groups_of(nest, child, tensor, below) if below is not None else [inner]
    while len(groups) > count:
        groups[-2:] = [groups[-1] + groups[-2]]
    free = list(range(len(groups), count))
    groups += [[] for _ in free]
    if not free:
        groups[-1] = loops + groups[-1]
        return groups
    for rank in free if layout.inner_first else reversed(free):
        final = rank == (free[-1] if layout.inner_first else free[0])
        flat = list(reversed(layout.ranks))[rank].dims
        while loops:
            i = loops[-1 if layout.inner_first else 0]
            if flat and nest.nest[i][1].dim not in flat and not final:
                break
            loops.remove(i)
            groups[rank] = sorted([*groups[rank], i])
            if not flat and not final:
                break
    return groups


def tree_of(nest: Nest, tensor: str, layout: TensorFormat, groups: Groups, start: Index) -> Tree:
    """Metadata and payloads of the tile whose first word stands at `start`; a rank of one coordinate needs none."""
    ranks, found, innermost = list(reversed(layout.ranks)), {}, None
    idle = 0 if layout.inner_first else len(ranks) - 1
    for r in range(len(ranks) - 1, -1, -1):
        if not groups[r] and r != idle:
            continue
        innermost = r
        outer = [i for higher in range(len(ranks) - 1, r, -1) for i in groups[higher]]
        below = [i for lower in range(r) for i in groups[lower]]
        nests = [(outer, groups[r], below), (outer, [], groups[r] + below)]
        ups, owns = list(_turns(nest, outer)), list(_turns(nest, groups[r]))
        occupied = sum(_occupied(nest, tensor, start, nests[0], (up, own)) for up in ups for own in owns)
        full, shape = sum(_occupied(nest, tensor, start, nests[1], (up, ())) for up in ups), len(owns)
        if ranks[r].format is RankFormat.UNCOMPRESSED:
            found[r] = (0.0, float(full * (shape + 1)))
        elif ranks[r].format is RankFormat.BITMASK:
            found[r] = (float(full * shape), float(occupied))
        else:
            found[r] = (float(occupied), float(occupied))
    if innermost is not None:  # under the innermost rank lies the data
        found[innermost] = (found[innermost][0], 0.0)
    return Tree(found)


def _turns(nest: Nest, loops: list[int]) -> itertools.product[Index]:
    return itertools.product(*(range(nest.nest[i][1].factor) for i in loops))


def _occupied(
    nest: Nest, tensor: str, start: Index, loops: tuple[list[int], list[int], list[int]], at: tuple[Index, Index]
) -> bool:
    """Whether anything is nonzero under one coordinate of a rank, in the box from its first word to its last."""
    first, last = list(start), list(start)
    for i, value in zip(itertools.chain(*loops[:2]), itertools.chain(*at), strict=True):
        first[i] = last[i] = value
    for i in loops[2]:
        last[i] = nest.nest[i][1].factor - 1
    ends = zip(nest.word(tensor, tuple(first)), nest.word(tensor, tuple(last)), strict=True)
    return any(nest.nonzero(tensor, word) for word in itertools.product(*(range(low, high + 1) for low, high in ends)))
