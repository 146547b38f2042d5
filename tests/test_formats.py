"""Bits that formats foretell against bits counted by encoding sampled masks."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from simsparse.encoding import exact_bits
from simsparse.errors import InputError, UnknownNameError
from simsparse.formats import (
    FORMATS,
    CompressedRows,
    Format,
    GroupIndex,
    RunLength,
    Stored,
    best_format,
    bits_to_tell,
    find_format,
    stored,
    stored_bits,
    table,
)
from simsparse.sampling import sample
from simsparse.sparsity import DENSE, Unstructured, parse

SHAPE = (96, 192)
# Of these every mask of SHAPE has the same number of nonzeros, and of its own blocks.
FIXED = (
    "dense", "2:4", "1:4", "2:8", "4:16", "0:4", "vnm16:2:8", "vnm8:4:16", "nmv8:4:16", "nmv32:1:3", "block16x16:0.5",
    "block4x1:0.75", "vector8:0.875", "unstructured:0.75", "rows:0.25", "slice:0.25", "attn-block16:0.5",
    "unstructured:1",
)  # fmt: skip
# Runs, blocks that happen to be empty and the fullest row depend on the mask drawn, but for these.
NO_CHANCE = {
    "run-length": ("dense", "2:4", "1:4", "2:8", "vnm16:2:8", "unstructured:1"),
    "run-length5": ("dense", "2:4", "1:4", "2:8", "vnm16:2:8", "4:16", "unstructured:1"),
    "bcsr16x16": ("dense", "2:4", "1:4", "2:8", "block16x16:0.5", "attn-block16:0.5", "unstructured:1"),
    "bcsr2x1": ("dense", "nmv8:4:16", "block4x1:0.75", "vector8:0.875", "slice:0.25", "unstructured:1"),
    "bcsr4x1": ("dense", "nmv8:4:16", "block4x1:0.75", "vector8:0.875", "slice:0.25", "unstructured:1"),
    "ell": (
        "dense", "2:4", "1:4", "2:8", "4:16", "0:4", "vnm16:2:8", "vnm8:4:16", "nmv8:4:16", "nmv32:1:3", "rows:0.25",
        "slice:0.25", "unstructured:1",
    ),
}  # fmt: skip
CHANCE = (
    "unstructured:0.5", "unstructured:0.95", "unstructured:0.99", "1:16", "2:32", "vnm8:1:32", "block2x5:0.75",
    "block4x4:0.9", "vector4:0.9", "nmv4:2:32", "slice:0.9",
    "4:160",
)  # fmt: skip
ALL = (
    *FORMATS.values(),
    RunLength("run-length5", run_bits=5),
    GroupIndex("4:8", nm=(4, 8)),
)


def fitting(forms: tuple[Format, ...], texts: tuple[str, ...]) -> list[tuple[Format, str]]:
    return [(form, text) for form in forms for text in texts if form.applies(parse(text)) is None]


def label(value: Format | str) -> str:
    return value.name if isinstance(value, Format) else value


@cache
def drawn(text: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    return sample(parse(text), shape, seed)


@pytest.mark.parametrize(
    ("form", "text"),
    [(form, text) for form, text in fitting(ALL, FIXED) if text in NO_CHANCE.get(form.name, FIXED)],
    ids=label,
)
def test_fixed_patterns_take_exactly_the_bits_foretold(form: Format, text: str) -> None:
    pattern = parse(text)
    counted = exact_bits(form, drawn(text, SHAPE, 0), 16, pattern)
    foretold = stored(form, *SHAPE, 16, pattern)
    assert foretold.value_bits == pytest.approx(counted.value_bits, rel=1e-12)
    assert foretold.metadata_bits == pytest.approx(counted.metadata_bits, rel=1e-12)


@pytest.mark.parametrize(("form", "text"), fitting(ALL, CHANCE), ids=label)
def test_other_patterns_take_them_on_average(form: Format, text: str) -> None:
    """Within five standard errors of the mean over 6 masks, and 1.5 % for what the finite size shifts (ELL 5 %)."""
    pattern, shape = parse(text), (160, 160)
    counted = [exact_bits(form, drawn(text, shape, seed), 16, pattern) for seed in range(6)]
    foretold = stored(form, *shape, 16, pattern)
    slack = 0.05 if form.name == "ell" else 0.015
    for part in ("value_bits", "metadata_bits"):
        seen = np.array([getattr(one, part) for one in counted])
        expected = getattr(foretold, part)
        assert seen.mean() == pytest.approx(expected, rel=slack, abs=5 * seen.std() / math.sqrt(len(seen))), part


@pytest.mark.parametrize(("kind", "ratio"), [("fp16", 0.5625), ("int8", 0.625), ("fp32", 0.53125)])
def test_two_of_four(kind: str, ratio: float) -> None:
    rows = {row.name: row for row in table((4096, 4096), "2:4", kind)}
    assert rows["2:4"].ratio == ratio
    assert rows["n:m"].ratio == ratio
    # 1:4 on hardware for 2:4 takes the room of 2:4.
    padded = {row.name: row for row in table((4096, 4096), "1:4", kind)}
    assert padded["2:4"].stored == rows["2:4"].stored
    assert padded["n:m"].ratio == ratio / 2


def test_venom_by_hand() -> None:
    """64 x 80, V 16, 2 of 10: 64·8·2 values of 16 bits; 2 bits each; 4·8 cells of 4 columns at 4 bits."""
    assert stored("venom", 64, 80, 16, parse("vnm16:2:10")) == Stored(64 * 8 * 2 * 16, 64 * 8 * 2 * 2 + 4 * 8 * 4 * 4)


def test_small_mask_by_hand() -> None:
    mask = np.zeros((2, 40), dtype=bool)
    mask[0, [1, 39]] = mask[1, 3] = True
    # Runs of 1, 37 and 3 zeros: 37 takes two stored zeros of 16 each.
    assert exact_bits("run-length", mask, 8) == Stored(5 * 8, 5 * 4)
    assert exact_bits("bitmap", mask, 8) == Stored(24, 80)
    assert exact_bits("coordinate", mask, 8) == Stored(24, 3 * (1 + 6))
    assert exact_bits("csr", mask, 8) == Stored(24, 3 * 6 + 3 * 2)
    assert exact_bits("csc", mask, 8) == Stored(24, 3 * 1 + 41 * 2)
    assert exact_bits("csr16", mask, 8) == Stored(24, 3 * 16 + 3 * 32)
    assert exact_bits("ell", mask, 8) == Stored(4 * 8, 4 * 6)
    assert exact_bits("bcsr16x16", mask, 8) == Stored(2 * 256 * 8, 2 * 2 + 2 * 2)


def test_long_runs_of_unstructured_zeros() -> None:
    """`nnz q^B / (1 - q^B)` stored zeros, counted on one mask large enough to show a half per cent."""
    pattern = Unstructured(0.97)
    counted = exact_bits("run-length", sample(pattern, (1000, 1000), seed=5), 8)
    entries = 30_000 / (1 - 0.97**16)
    assert stored("run-length", 1000, 1000, 8, pattern).value_bits == pytest.approx(8 * entries, rel=1e-9)
    assert counted.value_bits == pytest.approx(8 * entries, rel=0.006)


@pytest.mark.parametrize("form", FORMATS.values(), ids=lambda form: form.name)
def test_arrays_equal_single_matrices(form: Format) -> None:
    patterns = [p for p in map(parse, FIXED) if form.applies(p) is None]
    sizes = np.arange(len(patterns)) * 32.0 + 64
    cols = np.array([p.columns() for p in patterns])
    values, metadata = stored_bits(form, sizes, 2 * sizes, 8.125, cols)
    for index, pattern in enumerate(patterns):
        size = int(sizes[index])
        assert stored(form, size, 2 * size, 8.125, pattern) == Stored(values[index], metadata[index])


def test_index_bits_are_exact() -> None:
    assert bits_to_tell([1, 2, 3, 4, 5, 2**40, 2**40 + 1]).tolist() == [0, 1, 2, 2, 3, 40, 41]


def test_best_format() -> None:
    assert best_format(4096, 4096, 16, DENSE).name == "dense"
    assert best_format(4096, 4096, 16, parse("1:4")).name == "n:m"
    assert best_format(4096, 4096, 16, parse("vnm64:2:8")).name == "venom"
    assert best_format(4096, 4096, 16, parse("block16x16:0.9")).name == "bcsr"
    assert best_format(4096, 4096, 16, parse("unstructured:0.5")).name == "bitmap"
    assert best_format(4096, 4096, 16, parse("unstructured:0.99")).name in ("csr", "csc")


def test_table_says_why_not() -> None:
    rows = {row.name: row for row in table((8, 70_000), "unstructured:0.9", "int4")}
    assert list(rows) == list(FORMATS)
    assert rows["venom"].reason == "unstructured:0.9 is no V:N:M pattern"
    assert rows["2:4"].reason == "unstructured:0.9 does not imply 2:4"
    assert rows["csr16"].reason == "16 bits do not reach 70000 places"
    assert rows["dense"].ratio == 1
    # int4 with a 16-bit scale for each 128 values.
    assert rows["dense"].stored == Stored(8 * 70_000 * 4.125, 0)


def test_bad_input() -> None:
    with pytest.raises(UnknownNameError, match="no format is named 'cssr'; near names: csr"):
        find_format("cssr")
    with pytest.raises(InputError, match="shape is \\(0, 4\\), expected two sides of at least 1"):
        table((0, 4), "2:4", "fp16")
    with pytest.raises(InputError, match="index_bits is 24, expected 16, 32 or None"):
        CompressedRows("csr24", index_bits=24)
    with pytest.raises(InputError, match="format '2:4' cannot store it: 4:8 does not imply 2:4"):
        stored("2:4", 8, 8, 16, parse("4:8"))
    with pytest.raises(InputError, match="row 0 keeps more than 2 of the 4 from column 0, expected 2:4"):
        exact_bits("2:4", np.ones((2, 8), dtype=bool), 16)
    with pytest.raises(InputError, match="pattern is None, expected a pattern, which format 'venom'"):
        exact_bits("venom", np.ones((2, 8), dtype=bool), 16)
