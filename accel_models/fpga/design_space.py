"""The designs of a sweep: axes and their values, what the card has no room for, rows of hardware for the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from accel_models.fpga.hardware import hardware_rows
from accel_models.fpga.resources import BUFFERS, RESOURCES, available, least_buffers, needed_by
from accel_models.fpga.spec import SatSpec
from simsparse.errors import InputError, UnknownNameError
from simsparse.plan import Floats, Ints
from simsparse.sparsity import NM, parse

SPARSITY = "sparsity"
MIB = 2.0**20
# What is swept unless it is set. Lanes come last: designs that share a schedule lie side by side.
AXES: Mapping[str, tuple[float, ...]] = {
    "array_rows": (8, 16, 32, 48, 64),
    "array_cols": (8, 16, 32, 48, 64),
    "clock_hz": (150e6, 200e6, 250e6),
    "dram_channels": (1, 2, 4),
    "weight_buffer_bytes": (MIB / 2, MIB),
    "activation_buffer_bytes": (MIB, 2 * MIB),
    "output_buffer_bytes": (MIB, 2 * MIB),
    "vector_ops_per_cycle": (64, 128, 256),
    "update_lanes": (8, 32),
    "reduction_lanes": (8, 32),
}
PATTERNS = ("dense", "2:4", "2:8", "2:16")
WHOLE = frozenset(AXES) - {"clock_hz", *BUFFERS}
MOST = 2_000_000
SHORT = (*RESOURCES, "dram_channels", *BUFFERS)


@dataclass(frozen=True)
class Space:
    """Designs that a card has room for.

    Attributes
    ----------
    sparsities : tuple of str
    sparsity : (n,) ndarray of int
        Which of them each design is made for: elements have as many weight registers as its M.
    figures : (n, len(AXES)) ndarray
        In the order of `AXES`.
    needed : (n, len(RESOURCES)) ndarray
    share : (n,) ndarray
        What a design takes of the card: the mean of the shares of its resources and memory channels.
    hardware : (n, len(Hardware)) ndarray
    tried : int
        Designs with those that were refused.
    refused : tuple of (str, int)
        How many designs each resource is too small for, or each buffer holds no tile of; some lack several.
    """

    sparsities: tuple[str, ...]
    sparsity: Ints
    figures: Floats
    needed: Floats
    share: Floats
    hardware: Floats
    tried: int
    refused: tuple[tuple[str, int], ...]

    def changes(self, row: int) -> dict[str, object]:
        """The fields that make a design's machine: `load_machine(name, space.changes(row))`."""
        whole = {name: int(v) if v == round(v) else v for name, v in zip(AXES, self.figures[row].tolist(), strict=True)}
        return {**whole, "nm_max_m": largest_m(self.sparsities[self.sparsity[row]])}


def largest_m(pattern: str) -> int:
    """M of `dense` (1) or N:M.

    Raises
    ------
    InputError
    """
    if pattern == "dense":
        return 1
    nm = parse(pattern)
    if not isinstance(nm, NM):
        raise InputError.expected(SPARSITY, pattern, "dense or N:M, such as 2:8")
    return nm.m


def space(spec: SatSpec, axes: Mapping[str, Sequence[float]], patterns: Sequence[str] = PATTERNS) -> Space:
    """All combinations of values; axes that are not given have those of `AXES`.

    Raises
    ------
    UnknownNameError
        For an axis that there is not.
    InputError
        For values that cannot be, more than `MOST` designs, or none that fits.
    """
    values = _values(spec, axes)
    if not patterns or len(set(patterns)) < len(patterns):
        raise InputError.expected(SPARSITY, ",".join(patterns), "one or more patterns, each once")
    registers = np.array([largest_m(pattern) for pattern in patterns], dtype=np.float64)
    tried = len(patterns) * math.prod(map(len, values.values()))
    if tried > MOST:
        raise InputError.expected("designs of the axes", tried, f"at most {MOST}")
    grid = np.meshgrid(np.arange(len(patterns)), *values.values(), indexing="ij")
    sparsity: Ints = grid[0].ravel().astype(np.int64)
    columns: list[Floats] = [each.ravel().astype(np.float64) for each in grid[1:]]
    changes = dict(zip(AXES, columns, strict=True)) | {"nm_max_m": registers[sparsity]}
    takes = np.broadcast_to(needed_by(spec, changes), (tried, len(RESOURCES)))
    has = np.array([getattr(available(spec), name) for name in RESOURCES], dtype=np.float64)
    short = np.column_stack([
        takes > has,
        changes["dram_channels"] > spec.dram_channels.value,
        *(changes[name] < least for name, least in zip(BUFFERS, least_buffers(spec, changes), strict=True)),
    ])  # fmt: skip
    refused = tuple((name, int(count)) for name, count in zip(SHORT, short.sum(axis=0), strict=True) if count)
    fits = ~short.any(axis=1)
    if not fits.any():
        reasons = ", ".join(f"{name} ({count})" for name, count in refused)
        raise InputError.expected("designs of the axes", tried, f"at least one that fits {spec.name}; short: {reasons}")
    kept = {name: column[fits] for name, column in changes.items()}
    there = has > 0
    shares = np.column_stack([takes[fits][:, there] / has[there], kept["dram_channels"] / spec.dram_channels.value])
    return Space(
        tuple(patterns), sparsity[fits], np.column_stack([kept[name] for name in AXES]), takes[fits],
        shares.mean(axis=1), hardware_rows(spec, kept), tried, refused,
    )  # fmt: skip


def _values(spec: SatSpec, axes: Mapping[str, Sequence[float]]) -> dict[str, Floats]:
    """Values of each axis in the order of `AXES`, ascending."""
    for name in axes:
        if name not in AXES:
            raise UnknownNameError.near("axis", name, [*AXES, SPARSITY])
    found = {}
    for name, usual in AXES.items():
        # A card with fewer channels is no reason to refuse designs that nobody asked for.
        usual = tuple(v for v in usual if name != "dram_channels" or v <= spec.dram_channels.value)
        given = np.sort(np.asarray(axes.get(name, usual), dtype=np.float64))
        whole = name in WHOLE
        for value in given.tolist():
            if not (math.isfinite(value) and value > 0 and (not whole or value == round(value))):
                raise InputError.expected(f"axis {name}", value, f"a {'whole ' if whole else ''}number above 0")
        if not given.size or any(a == b for a, b in pairwise(given.tolist())):
            raise InputError.expected(f"axis {name}", given.tolist(), "one or more values, each once")
        found[name] = given
    return found
