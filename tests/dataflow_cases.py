"""Random small cases over all features of the dataflow engine, for hypothesis."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from simsparse.dataflow.architecture import (
    Action,
    ActionKind,
    Architecture,
    Compute,
    Option,
    Rank,
    RankFormat,
    Storage,
    TensorFormat,
)
from simsparse.dataflow.energies import ComputeEnergies, StorageEnergies
from simsparse.dataflow.mapping import LevelMapping, Loop, LoopKind, Mapping
from simsparse.dataflow.problem import Operand, Problem

COMPRESSED = (RankFormat.BITMASK, RankFormat.COORDINATE, RankFormat.RUN_LENGTH)
ROOM = 4096  # instances, more than any case uses
CHARGES = (
    "read", "write", "gated_read", "gated_write", "skipped_read", "skipped_write", "metadata_read", "metadata_write",
    "gated_metadata_read", "gated_metadata_write", "skipped_metadata_read", "skipped_metadata_write",
    "compression_count", "decompression_count",
)  # fmt: skip


@dataclass(frozen=True)
class Features:
    """What a case may have."""

    acting: bool = False  # gating and skipping at storage
    lanes: bool = False  # lanes over zeros of A are left out
    positions: bool = False  # nonzeros are packed into lanes
    sparse: bool = True  # formats


@dataclass(frozen=True)
class Case:
    """A problem without densities on an architecture, and its mapping."""

    problem: Problem
    architecture: Architecture
    mapping: Mapping
    features: Features


def gemm(rng: random.Random) -> Problem:
    """A product, or a batch of them."""
    base = Problem.gemm(*(rng.choice((1, 2, 3, 4, 6)) for _ in range(3)))
    if rng.random() < 0.8:
        return base
    tensors = tuple(Operand(each.name, ((("batch", 1),), *each.axes)) for each in base.tensors)
    return Problem((("batch", 2), *base.dims), tensors, "C")


def convolution(rng: random.Random) -> Problem:
    """One row of a convolution, with stride and dilation."""
    stride, dilation = rng.choice((1, 1, 2, 3)), rng.choice((1, 1, 2))
    extents = {"M": (1, 2, 4), "C": (1, 2), "P": (2, 4, 6), "R": (1, 2, 3, 3)}
    dims = {dim: rng.choice(choices) for dim, choices in extents.items()}
    weights = Operand("A", ((("M", 1),), (("C", 1),), (("R", 1),)))
    inputs = Operand("B", ((("C", 1),), (("P", stride), ("R", dilation))))
    return Problem(tuple(dims.items()), (weights, inputs, Operand("C", ((("M", 1),), (("P", 1),)))), "C")


def masks_of(problem: Problem, seed: int) -> dict[str, np.ndarray]:
    """Masks of the inputs."""
    generator = np.random.default_rng(seed)
    return {name: generator.random(problem.shape(name)) < generator.choice((0.2, 0.5, 0.8)) for name in ("A", "B")}


def _split(rng: random.Random, extent: int, parts: int) -> list[int]:
    """Factors of an extent, one for each part."""
    factors = [1] * parts
    for prime in (2, 3):
        while extent % prime == 0:
            factors[rng.randrange(parts)] *= prime
            extent //= prime
    return factors


def mapping_of(rng: random.Random, problem: Problem, levels: int, *, streams: bool) -> Mapping:
    """Loops in time and space anywhere, tensors bypassing levels, or streaming through them."""
    temporal: list[list[Loop]] = [[] for _ in range(levels)]
    spatial: list[list[Loop]] = [[] for _ in range(levels)]
    everywhere = rng.random() < 0.2  # all loops over space, so that lanes share halos
    for dim, extent in problem.dims:
        for slot, factor in enumerate(_split(rng, extent, 2 * levels)):
            level = slot // 2
            if everywhere or (slot % 2 and rng.random() < 0.75):
                spatial[level].append(Loop(dim, factor, rng.choice((LoopKind.X, LoopKind.Y))))
            else:
                temporal[level].append(Loop(dim, factor))
    for loops in temporal + spatial:
        rng.shuffle(loops)
    parts = [LevelMapping("L0", problem.names, tuple(temporal[0]), tuple(spatial[0]))]
    for level in range(1, levels):
        kept = tuple(name for name in problem.names if rng.random() < 0.65) or (rng.choice(problem.names),)
        streamed = tuple(name for name in problem.names if streams and name not in kept and rng.random() < 0.5)
        parts.append(LevelMapping(f"L{level}", kept, tuple(temporal[level]), tuple(spatial[level]), streamed))
    return Mapping(tuple(parts))


def packing(rng: random.Random, problem: Problem, levels: int) -> Mapping:
    """Outer products in the innermost level, which keeps A and B; the reduction runs outside of it."""
    temporal: list[list[Loop]] = [[] for _ in range(levels)]
    spatial: list[list[Loop]] = [[] for _ in range(levels)]
    for dim, extent in problem.dims:
        inside = dim in ("M", "N")
        factors = _split(rng, extent, 2 * levels if inside else levels - 1)
        for slot, factor in enumerate(factors):
            if slot % 2 and inside:
                spatial[slot // 2].append(Loop(dim, factor, rng.choice((LoopKind.X, LoopKind.Y))))
            else:
                temporal[slot // 2 if inside else slot].append(Loop(dim, factor))
    for loops in temporal + spatial:
        rng.shuffle(loops)
    keeps = [problem.names, *[("A", "B") for _ in range(levels - 1)]]
    return Mapping(
        tuple(
            LevelMapping(f"L{level}", keeps[level], tuple(temporal[level]), tuple(spatial[level]))
            for level in range(levels)
        )
    )


def _layout(rng: random.Random, problem: Problem, mapping: Mapping, level: int, tensor: str) -> TensorFormat:
    """Ranks for the loops over the tensor at the level and inside, or one more or fewer; zeros are left out."""
    dims = problem.tensor(tensor).dims
    loops = sum(loop.dim in dims for at, loop in mapping.nest if at >= level)
    count = max(1, loops + rng.choice((-1, 0, 0, 0, 1)))
    bits = [rng.choice((1.0, 2.0, 4.0, 8.0)) for _ in range(2 * count)]
    upper = (Rank(rng.choice(list(RankFormat)), bits[2 * r], bits[2 * r + 1]) for r in range(count - 1))
    return TensorFormat((*upper, Rank(rng.choice(COMPRESSED), bits[-2], bits[-1])))


def _storage(rng: random.Random, name: str, **features: object) -> Storage:
    energies = StorageEnergies({action: float(rng.randrange(1, 30)) for action in CHARGES})
    rates = (rng.choice((0.25, 1.0, 3.0, math.inf, math.inf)) for _ in range(2))
    return Storage(
        name, ROOM, 64, 64, word_bits=8.0, block_words=1.0, read_words_per_cycle=next(rates),
        write_words_per_cycle=next(rates), metadata_width_bits=rng.choice((0.0, 8.0, 16.0)), energies=energies,
        **features,
    )  # fmt: skip


def _storages(rng: random.Random, problem: Problem, mapping: Mapping, features: Features) -> list[Storage]:
    """Formats from one random level to another for each tensor, and at most two actions for each."""
    inputs, levels = ("A", "B"), len(mapping.levels)
    outermost = {name: rng.randrange(levels + 1) for name in problem.names}
    # Zeros that a level inside holds again: not of halos, whose words a walk over loops meets more than once, and not
    # where lanes are left out, of which the analysis takes operations off only if the innermost level knows the zeros.
    plain = {t.name for t in problem.tensors if all(len(axis) == 1 for axis in t.axes)}
    plain -= {"A", "B"} if features.acting or features.lanes else set()
    innermost = {name: levels - 1 - (name in plain and rng.random() < 0.3) for name in problem.names}
    for name in {"A"} if features.lanes else {"A", "B"} if features.positions else set():
        outermost[name] = 0
    actors = {name: {rng.randrange(levels), rng.randrange(levels)} for name in problem.names}
    # Instances left by skipping lanes are fewer than those walked: their waiting is not compared.
    waiting = rng.randrange(levels) if rng.random() < 0.5 and not features.lanes else 0
    storages = []
    for level, part in enumerate(mapping.levels):
        layouts = {
            name: _layout(rng, problem, mapping, level, name)
            for name in part.keep
            if features.sparse and outermost[name] <= level <= innermost[name]
        }
        actions = [
            Action(
                rng.choice((ActionKind.GATING, ActionKind.SKIPPING)),
                (Option(name, tuple(other for other in inputs if other != name)),),
            )
            for name in part.keep
            if features.acting and level in actors[name]
            # One of an acting level and one inside that holds zeros, the other none: exact in the mean only.
            if name == "C" or not (features.lanes or features.positions or level < outermost[name] < levels)
        ]
        if features.lanes and part.spatial:
            actions.append(Action(ActionKind.SPATIAL_SKIPPING, (Option("C", ("A",)),)))
        if features.positions and level == levels - 1:
            layouts = {name: TensorFormat((Rank(RankFormat.COORDINATE, 0.0),)) for name in inputs}
            packs = [name for name in inputs if rng.random() < 0.75]
            actions += [Action(ActionKind.POSITION_SKIPPING, (Option(name, (name,)),)) for name in packs]
        ahead = {}
        if waiting == level > 0:
            words = sum(_words(problem, mapping, level, name) for name in part.keep)
            ahead = {"capacity_words": float(words), "loads_ahead": False}
        storages.append(_storage(rng, part.level, formats=layouts, actions=tuple(actions), **ahead))
    return storages


def _words(problem: Problem, mapping: Mapping, level: int, tensor: str) -> int:
    """Of a tile."""
    extents = dict.fromkeys(problem.dim_names, 1)
    for at, loop in mapping.nest:
        extents[loop.dim] *= loop.factor if at >= level else 1
    words = 1
    for axis in problem.tensor(tensor).axes:
        words *= 1 + sum(c * (extents[dim] - 1) for dim, c in axis)
    return words


def case_of(rng: random.Random, problem: Problem, levels: int, features: Features) -> Case:
    """A case, whatever the features allow."""
    if features.positions:
        mapping = packing(rng, problem, levels)
    else:
        mapping = mapping_of(rng, problem, levels, streams=not features.sparse)
    # Rounds of packed nonzeros are in step: an operation that is skipped in one saves no cycle.
    skips = rng.random() < 0.5 and not features.positions
    energies = ComputeEnergies({"mac_random": 5.0, "mac_gated": 2.0, "mac_skipped": 1.0})
    compute = Compute("MAC", ROOM, 64, 64, rng.random() < 0.5, skips, energies)
    storages = _storages(rng, problem, mapping, features)
    return Case(problem, Architecture(tuple(storages), compute), mapping, features)


def windows_are_boxes(mapping: Mapping) -> bool:
    """No lane strides over what a loop in time inside of it walks through."""
    return not any(
        outer.dim == inner.dim and outer.kind is not LoopKind.TEMPORAL and inner.kind is LoopKind.TEMPORAL
        for i, (_, outer) in enumerate(mapping.nest)
        for _, inner in mapping.nest[i + 1 :]
    )


def _small(rng: random.Random, features: Features) -> Problem:
    """A product or a convolution of few words, so that all masks can be walked."""
    m, n, k = rng.choice(((2, 1, 2), (2, 2, 1), (2, 2, 2), (4, 1, 1), (4, 2, 1), (4, 1, 2)))
    if features.lanes or features.positions or features.acting or rng.random() < 0.7:
        return Problem.gemm(m, n, k)
    inputs = Operand("B", ((("P", rng.choice((1, 2))), ("R", 1)),))
    tensors = (Operand("A", ((("M", 1),), (("R", 1),))), inputs, Operand("C", ((("M", 1),), (("P", 1),))))
    return Problem((("M", n), ("P", 2), ("R", 2)), tensors, "C")


@st.composite
def cases(draw: st.DrawFn, features: Features, *, small: bool = False) -> Case:
    """Cases with all of the features; of few words if `small`."""
    rng = draw(st.randoms(use_true_random=False))
    levels = draw(st.integers(2 if features.positions else 1, 3 if features.sparse else 4))
    if small:
        problem = _small(rng, features)
    else:
        problem = convolution(rng) if not features.acting and draw(st.booleans()) else gemm(rng)
    case = case_of(rng, problem, levels, features)
    assume(windows_are_boxes(case.mapping) or not features.acting)
    return case
