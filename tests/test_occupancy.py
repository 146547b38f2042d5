"""Closed forms over pattern columns against enumeration, exact distributions and sampled masks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from simsparse import occupancy
from simsparse._windows import log_factorial
from simsparse.errors import InputError
from simsparse.sampling import sample, sample_tokens
from simsparse.sparsity import (
    HELD_NM,
    MEASURED_TILES,
    NM,
    Activation,
    Measured,
    Pattern,
    Rows,
    Unstructured,
    parse,
)

Mask = NDArray[np.bool_]
TEXTS = (
    "dense", "2:4", "1:4", "3:8", "5:16", "0:4", "vnm8:2:8", "vnm4:2:16", "vnm16:1:4", "vnm8:4:10", "nmv8:4:16",
    "nmv4:1:3", "vector8:0.9", "unstructured:0.9", "unstructured:0.5", "block4x1:0.8", "block16x16:0.88",
    "block3x5:0.7", "rows:0.25", "slice:0.25", "act:0.9@0.5", "attn-block16:0.88", "attn-token:0.5", "unstructured:0",
    "block4x4:1",
)  # fmt: skip
TILES = ((1, 1), (1, 4), (4, 1), (2, 3), (5, 6), (16, 16), (3, 20))
SIDE = 240  # a multiple of every tile side, and with it of the period of its cuts


def columns(*patterns: str | Pattern) -> NDArray[np.float64]:
    return np.array([parse(pattern).columns() for pattern in patterns])


def tile_counts(mask: Mask, height: int, width: int) -> NDArray[np.int64]:
    tiles = mask.reshape(mask.shape[0] // height, height, mask.shape[1] // width, width)
    return tiles.sum(axis=(1, 3))


def statistics_of(mask: Mask) -> Measured:
    """The statistics of a mask, in plain numpy."""
    rows, cols = mask.sum(axis=1), mask.sum(axis=0)
    occupied = tuple(float((tile_counts(mask, h, w) > 0).mean()) for h, w in MEASURED_TILES)
    holds = tuple((n, m) for n, m in HELD_NM if tile_counts(mask, 1, m).max() <= n)
    return Measured(mask.mean(), rows.std() / rows.mean(), cols.std() / cols.mean(), holds, occupied)


@pytest.mark.parametrize("text", TEXTS)
def test_closed_forms_match_sampled_masks(text: str) -> None:
    """Within five standard errors over 24 masks, and what the finite number of units may shift."""
    pattern = parse(text)
    masks = [sample(pattern, (SIDE, SIDE), seed) for seed in range(24)]
    for height, width in TILES:
        tile = occupancy.tile_statistics(pattern, height, width)
        counts = np.array([tile_counts(mask, height, width) for mask in masks])
        seen = {
            "filled": ((counts > 0).mean(axis=(1, 2)), 1 - tile.empty, 1.0),
            "mean": (counts.mean(axis=(1, 2)), tile.mean, tile.mean),
            "variance": (((counts - tile.mean) ** 2).mean(axis=(1, 2)), tile.variance, tile.variance),
        }
        for what, (samples, expected, scale) in seen.items():
            error = samples.std() / math.sqrt(len(masks))
            assert samples.mean() == pytest.approx(expected, abs=5 * error + 0.012 * scale), (what, height, width)


def enumerated_venom(v: int, n: int, m: int) -> list[Mask]:
    """Every mask of one cell of V:N:M, equally likely."""
    masks = []
    for chosen in itertools.combinations(range(m), 4):
        for rows in itertools.product(itertools.combinations(chosen, n), repeat=v):
            mask = np.zeros((v, m), dtype=bool)
            for row, kept in enumerate(rows):
                mask[row, list(kept)] = True
            masks.append(mask)
    return masks


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (2, 2), (1, 4), (2, 4), (2, 8)])
def test_venom_cell_is_exact(height: int, width: int) -> None:
    counts = np.array([tile_counts(mask, height, width) for mask in enumerated_venom(2, 2, 8)])
    tile = occupancy.tile_statistics(parse("vnm2:2:8"), height, width)
    assert tile.empty == pytest.approx((counts == 0).mean(), abs=1e-12)
    assert tile.mean == pytest.approx(counts.mean(), rel=1e-12)
    assert tile.variance == pytest.approx(counts.var(), abs=1e-12)


@pytest.mark.parametrize(("n", "m", "width"), [(2, 8, 4), (3, 6, 4), (1, 4, 3), (2, 5, 7), (2, 16, 24)])
def test_groups_of_one_row_are_exact(n: int, m: int, width: int) -> None:
    """Two groups side by side, both enumerated, seen through every cut that aligned windows make."""
    groups = [set(kept) for kept in itertools.combinations(range(m), n)]
    length = np.array([1])
    counts = []
    for start in range(0, math.lcm(m, width), width):
        window = np.arange(start, start + width)
        # Distribution of the number kept: groups are independent, so convolve.
        length = np.array([1.0])
        for group in np.unique(window // m):
            inside = set((window[window // m == group] % m).tolist())
            length = np.convolve(length, np.bincount([len(kept & inside) for kept in groups]) / len(groups))
        counts.append(np.pad(length, (0, 2 * width + 2 - len(length))))
    exact = np.mean(counts, axis=0)
    number = np.arange(len(exact))
    tile = occupancy.tile_statistics(NM(n, m), 1, width)
    assert tile.empty == pytest.approx(exact[0], abs=1e-12)
    assert tile.variance == pytest.approx((exact * number**2).sum() - (exact * number).sum() ** 2, abs=1e-12)


def test_fixed_numbers_are_exact() -> None:
    whole = occupancy.tile_statistics(parse("2:4"), 16, 32, tiles=10**6)
    assert (whole.mean, whole.variance, whole.empty, whole.expected_max) == (256, 0, 0, 256)
    dense = occupancy.tile_statistics(parse("dense"), 7, 5, tiles=1000)
    assert (dense.mean, dense.variance, dense.empty, dense.expected_max) == (35, 0, 0, 35)
    nothing = occupancy.tile_statistics(parse("unstructured:1"), 7, 5, tiles=1000)
    assert (nothing.mean, nothing.variance, nothing.empty, nothing.expected_max) == (0, 0, 1, 0)
    blocks = occupancy.tile_statistics(parse("block16x16:0.9"), 16, 16, tiles=8)
    assert blocks.empty == pytest.approx(0.9, rel=1e-12)
    assert blocks.expected_max == pytest.approx(256 * (1 - 0.9**8), rel=1e-12)


@pytest.mark.parametrize("tiles", [2, 10, 108, 4096, 10**6])
@pytest.mark.parametrize("density", [0.02, 0.1, 0.5, 0.9])
def test_expected_maximum_of_binomials(tiles: int, density: float) -> None:
    for area in (16, 64, 256, 4096, 65536):
        below = stats.binom.cdf(np.arange(area), area, density)
        exact = float((1 - below**tiles).sum())
        found = occupancy.expected_maximum(columns(Unstructured(1 - density)), 1, area, tiles)[0]
        assert found == pytest.approx(exact, rel=0.06 if area * density >= 8 else 0.25), area


@pytest.mark.parametrize("text", ["3:8", "vnm8:2:16", "nmv8:4:16", "vector8:0.8", "block4x4:0.8"])
def test_expected_maximum_of_sampled_masks(text: str) -> None:
    pattern = parse(text)
    maxima = [tile_counts(sample(pattern, (256, 96), seed), 16, 12).max() for seed in range(40)]
    assert occupancy.tile_statistics(pattern, 16, 12, tiles=16 * 8).expected_max == pytest.approx(
        np.mean(maxima), rel=0.06
    )


def test_row_imbalance() -> None:
    masks = [sample(Unstructured(0.9), (512, 256), seed) for seed in range(20)]
    seen = np.mean([mask.sum(axis=1).max() / mask.sum(axis=1).mean() for mask in masks])
    uneven = Measured(0.1, 0.5, 0.0, (), (0.3, 0.3, 1.0, 1.0, 1.0))
    found = occupancy.row_imbalance(
        columns("unstructured:0.9", "2:4", "slice:0.5", "dense", Rows(0.75), uneven), 512, 256
    )
    assert found[0] == pytest.approx(seen, rel=0.03)
    assert found[1:4].tolist() == [1, 1, 1]
    assert found[4] == pytest.approx(4)
    assert found[5] == pytest.approx(1 + 0.5 * stats.norm.ppf(511.625 / 512.25), rel=1e-3)


@pytest.mark.parametrize(
    ("text", "tolerance"),
    [
        ("unstructured:0.97", 0.03),
        ("block4x1:0.95", 0.03),
        ("block1x16:0.9", 0.02),
        ("block16x16:0.9", 0.02),
        # Blocks end between the sides that are measured; few rows leave chance in what is measured.
        ("block8x8:0.9", 0.15),
        ("rows:0.95", 0.1),
    ],
)
def test_measured_masks_are_exact_where_measured_and_close_between(text: str, tolerance: float) -> None:
    mask = sample(parse(text), (1024, 1024), seed=3)
    measured = columns(statistics_of(mask))
    for height, width in MEASURED_TILES:
        filled = (tile_counts(mask, height, width) > 0).mean()
        assert occupancy.occupied(measured, height, width)[0] == pytest.approx(filled, abs=1e-12)
    for height, width in ((1, 1), (8, 8), (2, 16), (64, 1), (1, 64), (128, 4)):
        counts = tile_counts(mask, height, width)
        assert occupancy.occupied(measured, height, width)[0] == pytest.approx((counts > 0).mean(), abs=tolerance)
        mean, variance = occupancy.mean_variance(measured, height, width)
        assert mean[0] == pytest.approx(counts.mean(), rel=1e-9)
        assert variance[0] == pytest.approx(counts.var(), rel=0.2 if tolerance < 0.05 else 0.6), (height, width)


def test_measured_groups_leave_nothing_to_chance() -> None:
    measured = statistics_of(sample(parse("2:4"), (256, 256), seed=1))
    tile = occupancy.tile_statistics(measured, 8, 16, tiles=1000)
    assert (tile.mean, tile.variance, tile.empty, tile.expected_max) == (64, 0, 0, 64)
    assert occupancy.tile_statistics(measured, 1, 1).empty == pytest.approx(0.5)


PATTERNS = st.one_of(
    st.sampled_from(TEXTS).map(parse),
    st.builds(lambda m, n: NM(min(n, m), m), st.integers(1, 20), st.integers(0, 20)),
    st.builds(
        lambda kept, holds: Measured(kept, 0.1, 0.1, tuple(holds), (0.5,) * len(MEASURED_TILES)),
        st.floats(0, 1),
        st.lists(st.sampled_from(HELD_NM), unique=True),
    ),
)


@given(st.lists(PATTERNS, min_size=1, max_size=12), st.integers(1, 40), st.integers(0, 40))
def test_columns_imply_what_patterns_imply(patterns: list[Pattern], m: int, n: int) -> None:
    wanted = NM(min(n, m), m)
    found = occupancy.implies_nm(columns(*patterns), wanted.n, wanted.m)
    assert found.tolist() == [pattern.implies(wanted) for pattern in patterns]


@settings(max_examples=40)
@given(st.lists(PATTERNS, min_size=1, max_size=6), st.integers(1, 70), st.integers(1, 70), st.integers(1, 10**6))
def test_batches_equal_single_rows_and_stay_in_range(
    patterns: list[Pattern], height: int, width: int, tiles: int
) -> None:  # fmt: skip
    cols = columns(*patterns)
    filled = occupancy.occupied(cols, height, width)
    mean, variance = occupancy.mean_variance(cols, height, width)
    largest = occupancy.expected_maximum(cols, height, width, tiles)
    for index, pattern in enumerate(patterns):
        alone = occupancy.tile_statistics(pattern, height, width, tiles)
        together = (mean[index], variance[index], 1 - filled[index], largest[index])
        assert together == (alone.mean, alone.variance, alone.empty, alone.expected_max)
    assert ((filled >= 0) & (filled <= 1)).all()
    assert (variance <= mean * (height * width - mean) + 1e-6 * mean).all()
    assert (largest <= height * width * (1 + 1e-12)).all()
    assert (largest >= mean * (1 - 1e-12)).all()


def test_distinct_inputs_of_a_batch() -> None:
    pattern = Activation(0.9, 0.3)
    for tokens in (1, 4, 32):
        unions = [sample_tokens(pattern, tokens, 4000, seed).any(axis=0).mean() for seed in range(40)]
        found = occupancy.distinct_inputs(columns(pattern, "2:4"), tokens)
        assert found[0] == pytest.approx(np.mean(unions), abs=0.005)
        assert found[1] == 0.5


def test_log_factorial() -> None:
    for x in (0, 1, 7, 255, 256, 1000, 10**6):
        assert log_factorial(np.array([float(x)]))[0] == pytest.approx(math.lgamma(x + 1), rel=1e-13)


def test_tile_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="width of tile is 0, expected at least 1"):
        occupancy.tile_statistics(NM(2, 4), 4, 0)
