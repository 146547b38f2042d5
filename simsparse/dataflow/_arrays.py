"""What the compiled code of `simsparse.dataflow` sees: arrays and numbers, by name.

Sizes: T tensors, D dimensions, A axes of a tensor, L storage levels (outermost first; level L is the compute),
R ranks of a format, n loops of a mapping. Sets of dimensions and of tensors are bit masks.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Whole numbers that compiled functions are called with; Python's own would have each compiled once for every value.
TILE_ROW, WINDOW_ROW = cast(int, np.int64(0)), cast(int, np.int64(1))  # rows of `Scratch.boxes`
NONE = cast(int, np.int64(0))
# P(empty) below this changes no count.
NEVER = 1e-18


class LoopColumn(IntEnum):
    """Columns of a loop of a mapping; loops stand outermost first, in a level temporal before spatial."""

    LEVEL = 0
    DIM = 1
    FACTOR = 2
    KIND = 3


class LoopKind(IntEnum):
    """Whether a loop runs in time or over a mesh axis."""

    TEMPORAL = 0
    X = 1
    Y = 2


class Stored(IntEnum):
    """What a level does with a tensor."""

    BYPASSED = 0
    KEPT = 1
    STREAMED = 2  # passes through: counted and priced here, but held by nobody


class DensityKind(IntEnum):
    """How the occupancy of a tile follows from its shape."""

    DENSE = 0
    STRUCTURED = 1  # floor(n·d) or ceil(n·d) of n
    RANDOM = 2  # hypergeometric over granules; P(empty) by number of granules in a table
    ASKED = 3  # measured, one answer for each shape of a tile


class RankCode(IntEnum):
    """Formats of a rank of the fiber tree."""

    UOP = 0  # uncompressed, with offset pairs where the fibers below vary in length
    B = 1  # bitmask
    CP = 2  # coordinate and payload
    RLE = 3  # run length


class ActionCode(IntEnum):
    """What is done about operations whose partner is zero."""

    GATE = 0
    SKIP = 1
    SKIP_SPATIAL = 2
    SKIP_POSITION = 3


class ActionColumn(IntEnum):
    """Columns of an action."""

    LEVEL = 0
    GROUP = 1  # alternatives of a level, of which one is taken
    CODE = 2
    TARGET = 3
    ON = 4  # bit mask of tensors


class Count(IntEnum):
    """Columns of the counts of a tensor at a level, per instance unless said otherwise."""

    TILE = 0
    PARTITION = 1
    OCCUPANCY_MAX = 2
    OCCUPANCY_MEAN = 3
    INSTANCES_MAX = 4
    INSTANCES_MEAN = 5
    READS = 6  # algorithmic: as if dense
    FILLS = 7
    UPDATES = 8
    ACTUAL_READS = 9
    ACTUAL_FILLS = 10
    ACTUAL_UPDATES = 11
    GATED_READS = 12
    GATED_FILLS = 13
    GATED_UPDATES = 14
    SKIPPED_READS = 15
    SKIPPED_FILLS = 16
    SKIPPED_UPDATES = 17
    REDUCTIONS = 18
    ENERGY_PJ = 19  # of all instances
    READ_WORDS = 20  # that take bandwidth, metadata among them
    WRITE_WORDS = 21


class Total(IntEnum):
    """Columns of what is counted once for a mapping."""

    CYCLES = 0
    ENERGY_PJ = 1
    COMPUTE_CYCLES = 2
    COMPUTES = 3
    ACTUAL = 4
    GATED = 5
    SKIPPED = 6
    INSTANCES_MAX = 7
    INSTANCES_MEAN = 8
    COMPUTE_ENERGY_PJ = 9
    BOUND = 10  # level that takes longest; L stands for the compute
    UTILISATION = 11  # actual computes over those that all instances could do in the time
    WAIT_CYCLES = 12  # part of the cycles: levels load that cannot do so ahead


class TensorColumn(IntEnum):
    """Columns of the whole numbers of a tensor."""

    RELEVANT = 0  # bit mask of its dimensions
    SIMPLE = 1  # 1 where every axis is one dimension: no halos
    N_AXES = 2
    DENSITY_KIND = 3
    ODDS_LENGTH = 4
    GRANULE = 5  # first of the extents of a granule, one for each axis


class WordColumn(IntEnum):
    """Columns of the numbers of a tensor."""

    SIZE = 0
    DENSITY = 1
    NONZERO = 2  # granules
    GRANULE = 3  # words of one


class LevelColumn(IntEnum):
    """Columns of a storage level; charges in pJ per vector access."""

    BLOCK_WORDS = 0
    WORD_BITS = 1
    METADATA_WIDTH_BITS = 2
    READ_RATE = 3  # words per cycle
    WRITE_RATE = 4
    AHEAD_WORDS = 5  # largest tiles beside which the next ones fit
    CHARGES = 6  # read, fill, update; the same gated; the same skipped
    METADATA_CHARGES = 15
    COMPRESSION_CHARGE = 24
    DECOMPRESSION_CHARGE = 25


class PlaceColumn(IntEnum):
    """Columns of a tensor at a level."""

    N_RANKS = 0  # 0 without a format
    INNER_FIRST = 1
    COMPRESSED = 2


class ComputeColumn(IntEnum):
    """Columns of the compute."""

    GATES = 0
    SKIPS = 1
    ACTUAL_PJ = 2  # then gated and skipped


class Question(IntEnum):
    """Kinds of questions about real masks and occupancies that the compiled code asks Python."""

    OCCUPANCY = 0  # (P(empty), most nonzeros, mean nonzeros) of the tiles of a shape
    LANES = 1  # (E[⌈n/S⌉ | n>0], E[⌈n/S⌉], E[n/⌈n/S⌉]) of a tile of occupancy n and S lanes
    LIVE = 2  # (fraction of the target's accesses whose partners are all nonzero, , )
    PAIRS = 3  # (fraction of the operations whose windows on some tensors are all nonzero, , )


class Spec(NamedTuple):
    """A problem on an architecture."""

    tensors: Ints  # (T, GRANULE + A) `TensorColumn`
    words: Floats  # (T, 4) `WordColumn`
    axes: Ints  # (T, A, D) what a dimension adds to an axis
    odds: Floats  # (T, k) P(empty) of 0, 1, … granules of a random density
    store: Floats  # (L, 26) `LevelColumn`
    places: Ints  # (L, T, 3) `PlaceColumn`
    kinds: (
        Ints  # (L, T, R, 2) `RankCode` and bit mask of the dimensions a rank flattens (0: takes one loop); 0 innermost
    )
    rank_bits: Floats  # (L, T, R, 2) of a word of metadata, of a payload
    actions: Ints  # (k, 5) `ActionColumn`, sorted by level and group
    compute: Floats  # (5,) `ComputeColumn`
    output: int
    rounding: int


class Asked(NamedTuple):
    """Questions answered so far, and those that came up."""

    keys: Ints  # (q, 4 + D) `Question`, tensor, tensors or lanes, flag, extents of a box
    answers: Floats  # (q, 3)
    missing: Ints  # (m, 4 + D)
    n_missing: Ints  # (1,)


class Scratch(NamedTuple):
    """Work space of one mapping."""

    extents: Ints  # (L + 1, D) of the loops at a level and inside
    start: Ints  # (L + 1,) first loop at a level or inside
    spatial_start: Ints  # (L,) first spatial loop of a level
    step: Ints  # (n,) what an advance of a loop adds to its dimension
    outside: Floats  # (n + 1,) product of the temporal factors outside a loop
    instances: Floats  # (L + 1,) product of the spatial factors outside a level
    boxes: Ints  # (2, D)
    shift: Ints  # (D,)
    own: Ints  # (n,)
    firsts: Ints  # (R,) first and last loop of a rank
    lasts: Ints
    fibers: Floats  # (L, T, R) coordinates of a fiber of a rank
    spans: Ints  # (L, T, R, D) tile that a rank spans
    belows: Ints  # (L, T, R, D) tile under one coordinate
    saved: Floats  # (2, T)


class Counts(NamedTuple):
    """Results of one mapping."""

    counts: Floats  # (L, T, len(Count))
    metadata: Floats  # (L, T, R, 3, 3, 2) actual, gated, skipped; read, fill, update; metadata, payload
    metadata_max: Floats  # (L, T, R, 2) of the fullest tile
    levels: Floats  # (L + 1, 2) cycles, slowdown
    totals: Floats  # (len(Total),)
