"""Patterns: text forms, relations, and sampled masks that have the structure they claim."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsparse.errors import InputError
from simsparse.sampling import sample, sample_tokens, satisfies
from simsparse.sparsity import (
    DENSE,
    EXAMPLES,
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
    most_in_window,
    parse,
)

# Sizes that divide the sides of SHAPE, so that rounding of unit counts is the only slack.
SHAPE = (48, 96)
SIDES = st.sampled_from([1, 2, 3, 4, 6, 8, 16])
ZERO = st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9, 1.0])
NMS = st.sampled_from([1, 2, 3, 4, 6, 8, 12, 16]).flatmap(lambda m: st.builds(NM, st.integers(0, m), st.just(m)))
GROUPED = st.one_of(
    NMS,
    st.builds(VNM, SIDES, st.integers(0, 4), st.sampled_from([4, 6, 8, 16])),
    st.builds(lambda v, nm: NMV(v, nm.n, nm.m), SIDES, NMS),
)
BLOCKS = st.one_of(st.builds(Vector, SIDES, ZERO), st.builds(Block, SIDES, SIDES, ZERO))
OTHERS = st.one_of(
    st.just(DENSE),
    st.builds(Unstructured, ZERO),
    st.builds(Rows, ZERO),
    st.builds(Slice, ZERO),
    st.builds(Activation, ZERO, ZERO),
    st.builds(AttentionBlock, SIDES, ZERO),
    st.builds(AttentionToken, ZERO),
)
PATTERNS = st.one_of(GROUPED, BLOCKS, OTHERS)
SEEDS = st.integers(0, 2**32)
CATALOGUE: tuple[Pattern, ...] = (
    DENSE,
    *(NM(n, m) for m in (1, 2, 3, 4, 6, 8, 16) for n in range(m + 1)),
    *(VNM(v, n, m) for v in (1, 2, 3, 8) for n in range(1, 5) for m in (4, 8, 16)),
    *(NMV(v, n, m) for v in (1, 2, 3, 8) for m in (2, 4, 8) for n in range(1, m + 1)),
    *(Vector(v, zero) for v in (1, 2, 4, 6) for zero in (0.0, 0.25, 0.5, 0.75)),
    *(Block(r, c, zero) for r in (1, 2, 8) for c in (1, 2, 3, 4) for zero in (0.0, 0.5, 0.9)),
    *(AttentionBlock(b, zero) for b in (1, 2, 8) for zero in (0.5, 0.9)),
    *(rule(zero) for rule in (Unstructured, Rows, Slice, AttentionToken) for zero in (0.0, 0.25, 0.75)),
)


def rounding(pattern: Pattern) -> float:
    """How far the density of a sampled mask can lie above the pattern's: half a unit."""
    columns = pattern.columns()
    height, width = columns[4], columns[5]
    if isinstance(pattern, (Rows, AttentionToken)):
        width = SHAPE[1]
    if isinstance(pattern, (Slice, Activation)):
        height = SHAPE[0]
    return 0.5 * height * width / (SHAPE[0] * SHAPE[1])


@given(PATTERNS)
def test_text_form_reads_back(pattern: Pattern) -> None:
    assert parse(pattern.text) == pattern


@pytest.mark.parametrize("text", EXAMPLES[:-1])
def test_examples_read_back(text: str) -> None:
    assert parse(text).text == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3:2", "pattern is '3:2', expected N from 0 to M in N:M"),
        ("0:0", "M of N:M is 0, expected at least 1"),
        ("vnm8:5:8", "pattern is 'vnm8:5:8', expected M of at least 4 and N from 0 to 4 in V:N:M"),
        ("unstructured:1.5", "sparsity of unstructured is 1.5, expected a fraction from 0 to 1"),
        ("block0x4:0.5", "rows of block is 0, expected at least 1"),
        ("2-4", "pattern is '2-4', expected a form such as dense, 2:4, "),
    ],
)
def test_bad_text_says_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert str(caught.value).startswith(message)


@given(PATTERNS, SEEDS)
def test_sampled_mask_has_its_structure_and_density(pattern: Pattern, seed: int) -> None:
    mask = sample(pattern, SHAPE, seed)
    assert satisfies(mask, pattern, rounding(pattern))
    assert abs(mask.mean() - pattern.density) <= rounding(pattern) + 1e-12
    assert (mask == sample(pattern, SHAPE, seed)).all()


@given(PATTERNS, SEEDS)
def test_what_a_pattern_implies_its_masks_satisfy(pattern: Pattern, seed: int) -> None:
    mask = sample(pattern, SHAPE, seed)
    for other in CATALOGUE:
        if pattern.implies(other):
            assert satisfies(mask, other, rounding(pattern)), other


@given(GROUPED, st.one_of(NMS, st.builds(lambda nm: VNM(1, min(nm.n, 4), nm.m + 3), NMS)), SEEDS, SIDES, SIDES)
def test_implied_groups_survive_edges(pattern: Pattern, other: Pattern, seed: int, rows: int, cols: int) -> None:
    if pattern.implies(other):
        assert satisfies(sample(pattern, (rows + 6, cols + 9), seed), other)


@pytest.mark.parametrize(
    ("pattern", "other", "holds"),
    [
        ("1:4", "2:4", True),
        ("2:8", "2:4", True),
        ("4:8", "2:4", False),
        ("2:4", "4:8", True),
        ("1:2", "2:4", True),
        ("2:4", "1:2", False),
        ("2:4", "unstructured:0.5", True),
        ("2:4", "unstructured:0.6", False),
        ("2:4", "vnm64:2:4", True),
        ("2:8", "vnm64:2:8", False),
        ("vnm64:2:8", "2:4", True),
        ("vnm64:2:8", "vnm16:2:8", True),
        ("vnm16:2:8", "vnm64:2:8", False),
        ("nmv32:2:8", "vnm16:2:8", True),
        ("nmv32:16:32", "vector8:0.5", True),
        ("nmv32:16:32", "block8x1:0.5", True),
        ("block4x4:0.8", "block2x1:0.8", True),
        ("block4x1:0.8", "block4x4:0.8", False),
        ("vector8:0.9", "vector4:0.8", True),
        ("attn-block128:0.9", "attn-block64:0.9", True),
        ("attn-block64:0.9", "attn-block128:0.9", False),
        ("act:0.9", "unstructured:0.5", False),
        ("rows:0.5", "2:4", False),
    ],
)
def test_known_relations(pattern: str, other: str, holds: bool) -> None:
    assert parse(pattern).implies(parse(other)) is holds


def test_most_in_window_is_the_worst_cut() -> None:
    for m in range(1, 17):
        for window in range(1, 40):
            # Overlaps with each group, for every place a window can have.
            starts = range(0, m * window, window)
            overlaps = [np.bincount(np.arange(start, start + window) // m) for start in starts]
            for n in range(m + 1):
                assert most_in_window(n, m, window) == max(np.minimum(cut, n).sum() for cut in overlaps)


@given(st.one_of(BLOCKS, OTHERS, GROUPED), SEEDS)
def test_transposed_mask_satisfies_the_transposed_pattern(pattern: Pattern, seed: int) -> None:
    if isinstance(pattern, (Activation, AttentionToken)):  # these keep their own axis
        return
    assert satisfies(sample(pattern, SHAPE, seed).T, pattern.transposed(), rounding(pattern))


def test_measured_mask_keeps_density_imbalance_and_groups() -> None:
    occupied = (0.5, 0.5, 0.9, 0.9, 0.9)
    uneven = sample(Measured(0.2, 0.6, 0.1, (), occupied), (2000, 512), seed=1)
    assert uneven.mean() == pytest.approx(0.2, abs=0.01)
    per_row = uneven.sum(axis=1)
    assert per_row.std() / per_row.mean() == pytest.approx(0.6, abs=0.03)
    held = Measured(0.4, 0.0, 0.0, ((2, 4), (4, 8)), occupied)
    mask = sample(held, (64, 512), seed=1)
    assert satisfies(mask, held)
    assert mask.mean() == pytest.approx(0.4, abs=0.01)
    assert held.implies(NM(4, 8))
    assert not held.implies(NM(1, 4))


def test_tokens_share_the_shared_part() -> None:
    alike = sample_tokens(Activation(0.75, 1.0), 8, 400, seed=2)
    assert (alike == alike[0]).all()
    assert alike[0].sum() == 100
    apart = sample_tokens(Activation(0.75, 0.5), 64, 4000, seed=2)
    assert (apart == apart[0]).all(axis=0).sum() == pytest.approx(2000, abs=5)
