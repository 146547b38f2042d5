"""Masks drawn from a pattern with a seed, and the check that a mask has a pattern's structure.

Rows are outputs, columns the reduction, except in attention patterns: there the mask is over scores,
`(cached tokens, queries)`. Where a block, vector or group is cut by the edge of the matrix, its part inside is a unit
of its own; of a group of M cut to a width of w, `min(N, w)` are kept.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from simsparse.errors import InputError
from simsparse.sparsity import (
    NM,
    NMV,
    VNM,
    Activation,
    AttentionBlock,
    AttentionToken,
    Block,
    Measured,
    Pattern,
    Rows,
    Slice,
    Unstructured,
    Vector,
)

Mask = NDArray[np.bool_]
Random = np.random.Generator


def sample(pattern: Pattern, shape: tuple[int, int], seed: int = 0) -> Mask:
    """A mask of `shape` with the pattern's structure, True where kept.

    Units (elements, vectors, blocks, rows, columns) are kept in exactly the number nearest to `density · units`, N of
    M exactly in each group. An activation pattern gives what one token needs: whole columns. A measured pattern gives
    independent elements with the measured density and variation between rows, inside the N:M that the mask holds.

    Raises
    ------
    InputError
        For a side below 1.
    """
    if min(shape) < 1:
        raise InputError.expected("shape of mask", shape, "sides of at least 1")
    return _draw(pattern, shape, np.random.default_rng(seed))


def sample_tokens(pattern: Activation, tokens: int, inputs: int, seed: int = 0) -> Mask:
    """Which `inputs` each of `tokens` tokens needs, `(tokens, inputs)`: the shared part the same in every row."""
    if tokens < 1 or inputs < 1:
        raise InputError.expected("tokens and inputs", (tokens, inputs), "at least 1 each")
    rng = np.random.default_rng(seed)
    common = _exactly(pattern.shared, inputs, rng)
    needed: Mask = rng.random((tokens, inputs)) < pattern.density
    needed[:, common] = _exactly(pattern.density, int(common.sum()), rng)
    return needed


def _exactly(density: float, count: int, rng: Random) -> Mask:
    chosen = np.arange(count) < round(density * count)
    mask: Mask = rng.permutation(chosen)
    return mask


def _n_of_each(n: int, groups: tuple[int, ...], width: int, rng: Random) -> Mask:
    """min(n, width) True of each `width`, `(*groups, width)`."""
    keep = min(n, width)
    order = rng.random((*groups, width), dtype=np.float32).argsort(axis=-1)[..., :keep]
    mask = np.zeros((*groups, width), dtype=bool)
    np.put_along_axis(mask, order, True, axis=-1)
    return mask


def _grouped(n: int, m: int, rows: int, cols: int, rng: Random) -> Mask:
    whole = cols // m
    mask = _n_of_each(n, (rows, whole), m, rng).reshape(rows, whole * m)
    if whole * m == cols:
        return mask
    return np.hstack([mask, _n_of_each(n, (rows,), cols - whole * m, rng)])


def _enlarged(small: Mask, height: int, width: int, shape: tuple[int, int]) -> Mask:
    return small.repeat(height, axis=0).repeat(width, axis=1)[: shape[0], : shape[1]]


def _blocks(height: int, width: int, density: float, shape: tuple[int, int], rng: Random) -> Mask:
    down, across = -(-shape[0] // height), -(-shape[1] // width)
    return _enlarged(_exactly(density, down * across, rng).reshape(down, across), height, width, shape)


@singledispatch
def _draw(pattern: Pattern, shape: tuple[int, int], rng: Random) -> Mask:
    del pattern, rng
    return np.ones(shape, dtype=bool)


@_draw.register
def _(pattern: NM, shape: tuple[int, int], rng: Random) -> Mask:
    return _grouped(pattern.n, pattern.m, *shape, rng)


@_draw.register
def _(pattern: VNM, shape: tuple[int, int], rng: Random) -> Mask:
    bands = -(-shape[0] // pattern.v)
    columns = _enlarged(_grouped(4, pattern.m, bands, shape[1], rng), pattern.v, 1, shape)
    # Of the chosen columns of each group the n with the smallest of random keys.
    keys = np.where(columns, rng.random(shape, dtype=np.float32), np.float32(2))
    keys = np.pad(keys, ((0, 0), (0, -shape[1] % pattern.m)), constant_values=2)
    groups = keys.reshape(shape[0], -1, pattern.m)
    rank = groups.argsort(axis=-1).argsort(axis=-1).reshape(shape[0], -1)[:, : shape[1]]
    mask: Mask = columns & (rank < pattern.n)
    return mask


@_draw.register
def _(pattern: NMV, shape: tuple[int, int], rng: Random) -> Mask:
    bands = -(-shape[0] // pattern.v)
    return _enlarged(_grouped(pattern.n, pattern.m, bands, shape[1], rng), pattern.v, 1, shape)


@_draw.register
def _(pattern: Vector, shape: tuple[int, int], rng: Random) -> Mask:
    return _blocks(pattern.v, 1, pattern.density, shape, rng)


@_draw.register
def _(pattern: Block, shape: tuple[int, int], rng: Random) -> Mask:
    return _blocks(pattern.rows, pattern.cols, pattern.density, shape, rng)


@_draw.register
def _(pattern: Unstructured, shape: tuple[int, int], rng: Random) -> Mask:
    return _blocks(1, 1, pattern.density, shape, rng)


@_draw.register(Rows)
@_draw.register(AttentionToken)
def _(pattern: Rows | AttentionToken, shape: tuple[int, int], rng: Random) -> Mask:
    return _blocks(1, shape[1], pattern.density, shape, rng)


@_draw.register(Slice)
@_draw.register(Activation)
def _(pattern: Slice | Activation, shape: tuple[int, int], rng: Random) -> Mask:
    return _blocks(shape[0], 1, pattern.density, shape, rng)


@_draw.register
def _(pattern: AttentionBlock, shape: tuple[int, int], rng: Random) -> Mask:
    return _blocks(pattern.b, pattern.b, pattern.density, shape, rng)


@_draw.register
def _(pattern: Measured, shape: tuple[int, int], rng: Random) -> Mask:
    d = pattern.density
    if not 0 < d < 1:
        return np.full(shape, d == 1)
    # What the tightest N:M that holds leaves is thinned at random to the density.
    held = min(pattern.holds, key=lambda nm: nm[0] / nm[1], default=(1, 1))
    mask = _grouped(*held, *shape, rng)
    between = (pattern.row_cv * d) ** 2 - d * (1 - d) / shape[1]
    if between > 0 and not pattern.holds:
        concentration = max(d * (1 - d) / between - 1, 1e-3)
        row_density = rng.beta(d * concentration, (1 - d) * concentration, (shape[0], 1))
    else:
        row_density = np.full((shape[0], 1), min(1.0, d * held[1] / held[0]))
    mask &= rng.random(shape) < row_density
    for n, m in pattern.holds:
        mask &= _first_of_groups(mask, n, m)
    return mask


def _split(mask: Mask, height: int, width: int) -> Mask:
    """Tiles `(down, height, across, width)`, the edge filled up with False."""
    padded = np.pad(mask, ((0, -mask.shape[0] % height), (0, -mask.shape[1] % width)))
    return padded.reshape(padded.shape[0] // height, height, padded.shape[1] // width, width)


def _first_of_groups(mask: Mask, n: int, m: int) -> Mask:
    earlier = _split(mask, 1, m).cumsum(axis=-1).reshape(mask.shape[0], -1)[:, : mask.shape[1]]
    first: Mask = earlier <= n
    return first


def satisfies(mask: Mask, pattern: Pattern, slack: float = 0.0) -> bool:
    """Whether a mask has the structure of a pattern: at most N of each M, units wholly kept or wholly zero.

    Where a pattern says how much is zero, the mask's density may exceed the pattern's by `slack`. A measured pattern is
    its N:M relations.
    """
    return _check(pattern, mask, slack)


def _sparse_enough(mask: Mask, pattern: Pattern, slack: float) -> bool:
    return bool(mask.mean() <= pattern.density + slack + 1e-12)


def _whole_units(mask: Mask, height: int, width: int) -> bool:
    rows = np.arange(mask.shape[0]) // height * height
    cols = np.arange(mask.shape[1]) // width * width
    return bool((mask == mask[np.ix_(rows, cols)]).all())


def _at_most(mask: Mask, n: int, m: int) -> bool:
    return bool((_split(mask, 1, m).sum(axis=-1) <= n).all())


@singledispatch
def _check(pattern: Pattern, mask: Mask, slack: float) -> bool:
    del pattern, mask, slack
    return True


@_check.register
def _(pattern: NM, mask: Mask, slack: float) -> bool:
    del slack
    return _at_most(mask, pattern.n, pattern.m)


@_check.register
def _(pattern: VNM, mask: Mask, slack: float) -> bool:
    del slack
    used = _split(mask, pattern.v, pattern.m).any(axis=1)
    return _at_most(mask, pattern.n, pattern.m) and bool((used.sum(axis=-1) <= 4).all())


@_check.register
def _(pattern: NMV, mask: Mask, slack: float) -> bool:
    del slack
    return _at_most(mask, pattern.n, pattern.m) and _whole_units(mask, pattern.v, 1)


@_check.register(Vector)
def _(pattern: Vector, mask: Mask, slack: float) -> bool:
    return _whole_units(mask, pattern.v, 1) and _sparse_enough(mask, pattern, slack)


@_check.register
def _(pattern: Block, mask: Mask, slack: float) -> bool:
    return _whole_units(mask, pattern.rows, pattern.cols) and _sparse_enough(mask, pattern, slack)


@_check.register
def _(pattern: AttentionBlock, mask: Mask, slack: float) -> bool:
    return _whole_units(mask, pattern.b, pattern.b) and _sparse_enough(mask, pattern, slack)


@_check.register
def _(pattern: Unstructured, mask: Mask, slack: float) -> bool:
    return _sparse_enough(mask, pattern, slack)


@_check.register(Rows)
@_check.register(AttentionToken)
def _(pattern: Rows | AttentionToken, mask: Mask, slack: float) -> bool:
    return _whole_units(mask, 1, mask.shape[1]) and _sparse_enough(mask, pattern, slack)


@_check.register(Slice)
@_check.register(Activation)
def _(pattern: Slice | Activation, mask: Mask, slack: float) -> bool:
    return _whole_units(mask, mask.shape[0], 1) and _sparse_enough(mask, pattern, slack)


@_check.register
def _(pattern: Measured, mask: Mask, slack: float) -> bool:
    del slack
    return all(_at_most(mask, n, m) for n, m in pattern.holds)
