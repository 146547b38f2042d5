"""Sparsity patterns: what is zero in a tensor, and how patterns relate.

A pattern is a frozen value with a text form (`2:4`, `block4x1:0.8`, …); `parse` reads any of them. Over a weight
`(outputs, reduction)` rows are outputs, N:M runs along the reduction. *Density* is the fraction kept; in the text the
number after the last colon is the fraction zero, except in N:M (N kept of every M).

Machines never see these objects: `Pattern.columns` turns one into numbers (`PatternColumn`), and the vectorised
functions of `simsparse.occupancy` answer from arrays of them.
"""

from simsparse.sparsity.codes import HELD_NM, MEASURED_TILES, PatternColumn, PatternKind
from simsparse.sparsity.measured import Measured
from simsparse.sparsity.patterns import (
    DENSE,
    MAX_SIZE,
    NM,
    NMV,
    VNM,
    Block,
    Dense,
    Pattern,
    Rows,
    Slice,
    Unstructured,
    Vector,
    most_in_window,
)
from simsparse.sparsity.runtime import Activation, AttentionBlock, AttentionToken
from simsparse.sparsity.text import EXAMPLES, parse

__all__ = [
    "DENSE",
    "EXAMPLES",
    "HELD_NM",
    "MAX_SIZE",
    "MEASURED_TILES",
    "NM",
    "NMV",
    "VNM",
    "Activation",
    "AttentionBlock",
    "AttentionToken",
    "Block",
    "Dense",
    "Measured",
    "Pattern",
    "PatternColumn",
    "PatternKind",
    "Rows",
    "Slice",
    "Unstructured",
    "Vector",
    "most_in_window",
    "parse",
]
