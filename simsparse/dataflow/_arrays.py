"""What the compiled code of `simsparse.dataflow` sees: arrays and numbers, by name.

Sizes: T tensors, D dimensions, A axes of a tensor, L storage levels (outermost first; level L is the compute),
R ranks of a format, n loops of a mapping. Sets of dimensions and of tensors are bit masks.

Mappings are evaluated W at a time, in lanes: they share the order of their loops and what is kept where, and differ in
factors. The last axis of an array is the lane wherever a W stands in its shape, so that inner loops run over contiguous
numbers. A single mapping is one lane. Compiled functions take arrays, never tuples of them: passing those is slow.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Whole numbers that compiled functions are called with; Python's own would have each compiled once for every value.
NONE = cast(int, np.int64(0))
# P(empty) below this changes no count.
NEVER = 1e-18


class LoopColumn(IntEnum):
    """Columns of a loop of a nest; loops stand outermost first, in a level temporal before spatial."""

    LEVEL = 0
    DIM = 1
    KIND = 2


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
    METADATA_MAX_BITS = 22  # of the fullest tile, payloads among them
    METADATA_MEAN_BITS = 23
    FULL_TILE = 24  # words of a tile that is not clipped at an edge; `TILE` is the mean one


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


class Detail(IntEnum):
    """What is worked out of mappings."""

    DENSE = 0  # costs where no tensor has a format and nothing is gated or skipped: actual accesses are all accesses
    COSTS = 1
    ALL = 2  # beside what costs depend on, what is only reported


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
    METADATA_BITS_PER_WORD = 6  # metadata that takes the room of a word; infinite where it has a store of its own
    METADATA_CAPACITY_BITS = 7  # of that store
    CHARGES = 8  # read, fill, update; the same gated; the same skipped
    METADATA_CHARGES = 17
    COMPRESSION_CHARGE = 26
    DECOMPRESSION_CHARGE = 27


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
    store: Floats  # (L, 28) `LevelColumn`
    places: Ints  # (L, T, 3) `PlaceColumn`
    kinds: (
        Ints  # (L, T, R, 2) `RankCode` and bit mask of the dimensions a rank flattens (0: takes one loop); 0 innermost
    )
    rank_bits: Floats  # (L, T, R, 2) of a word of metadata, of a payload
    actions: Ints  # (k, 5) `ActionColumn`, sorted by level and group
    compute: Floats  # (5,) `ComputeColumn`
    output: int
    rounding: int
    sizes: Floats  # (D,) extents of the problem


class Asked(NamedTuple):
    """Questions answered so far, and those that came up."""

    keys: Ints  # (q, 4 + D) `Question`, tensor, tensors or lanes, flag, extents of a box
    answers: Floats  # (q, 3)
    missing: Ints  # (m, 4 + D)
    n_missing: Ints  # (1,)


class Nest(NamedTuple):
    """Mappings of one loop order. A loop with a factor of 1 counts as absent."""

    loops: Ints  # (n, 3) `LoopColumn`
    factors: Floats  # (n, W)
    stored: Ints  # (L, T) `Stored`


class FrameColumn(IntEnum):
    """Columns of what a loop order says about a level; then the next level outside that keeps each tensor (or -1),
    and the next one inside (or L)."""

    START = 0  # first loop at the level or inside
    SPATIAL_START = 1  # first spatial loop of the level
    OUTER = 2


class Box(IntEnum):
    """Rows of `Scratch.boxes`."""

    SHIFT = 0
    BOX = 1
    PART = 2  # operations that an access serves
    WINDOWS = 3


class PerTensor(IntEnum):
    """Rows of `Scratch.per_tensor`."""

    SAVED = 0  # fraction that is lost to an action at a level outside
    OWN = 1  # the same, to an action at this level
    ROUNDS = 2  # rounds over dense rounds, by skipping of positions
    LIVE = 3  # fraction of the operations that the zeros of a tensor leave


class Note(IntEnum):
    """Rows of `Scratch.notes`: bit masks of tensors, and the option of an action that is taken."""

    PACKED = 0  # tensors whose zeros are packed away
    DECIDING = 1  # tensors whose zeros decide which operations are left
    CHOICE = 2


class Row(IntEnum):
    """Rows of `Scratch.rows`; those that a function does not fill itself are said in its description."""

    VOLUME = 0
    EMPTY = 1
    ARRIVES = 2  # P(a tile is sent at all)
    KEPT = 3
    DEAD = 4
    SAVING = 5
    BEST = 6
    FRACTION = 7
    SPAN_EMPTY = 8
    BELOW_EMPTY = 9
    ABOVE = 10
    RESIDENT = 11
    INNERMOST = 12
    LIVE = 13
    MOST = 14  # share of the instances that are left, at most and in the mean
    MEAN = 15
    READS = 16
    WRITES = 17
    READ_BITS = 18
    WRITE_BITS = 19
    BITS = 20


class Scratch(NamedTuple):
    """Work space, and intermediate results that stages hand on."""

    frame: Ints  # (L + 1, 2 + 2 T) `FrameColumn`
    extents: Floats  # (L + 1, D, W) of the loops at a level and inside
    step: Floats  # (n, W) what an advance of a loop adds to its dimension
    outside: Floats  # (n + 1, W) product of the temporal factors outside a loop
    instances: Floats  # (L + 1, W) product of the spatial factors outside a level
    delivered: Floats  # (L + 1, T, W) words that an instance receives
    boxes: Floats  # (4, D, W) `Box`
    fibers: Floats  # (L, T, R, W) coordinates of a fiber of a rank
    spans: Floats  # (L, T, R, D, W) tile that a rank spans
    belows: Floats  # (L, T, R, D, W) tile under one coordinate
    own: Ints  # (n + 1,)
    ends: Ints  # (R, 2) outermost and innermost loop of a rank
    per_tensor: Floats  # (4, T, W) `PerTensor`
    notes: Ints  # (3, W) `Note`
    ranks: Floats  # (R, 2, W) metadata and payload words of a tile
    rows: Floats  # (21, W) `Row`
    alone: Floats  # (L + 1, W) 1 where a level has no room to load its next tiles ahead
    trips: Floats  # (n, W) mean trips of a loop; this and what follows only where edges are clipped
    means: Floats  # (L + 1, D, W) mean extents
    mean_step: Floats  # (n, W)
    passes: Floats  # (n + 1, W) product of the mean trips outside a loop
    used: Floats  # (L + 1, W) mean instances
    stretch: Floats  # (L + 1, W) work of the busiest instance over that of the average one


class Counts(NamedTuple):
    """Results; without the axis of lanes for a single mapping."""

    counts: Floats  # (L, T, len(Count), W)
    metadata: Floats  # (L, T, R, 3, 3, 2, W) actual, gated, skipped; read, fill, update; metadata, payload
    metadata_max: Floats  # (L, T, R, 2, W) of the fullest tile
    levels: Floats  # (L + 1, 3, W) cycles, slowdown, `Scratch.stretch`
    totals: Floats  # (len(Total), W)
