"""Real masks: the compiled pass against plain numpy, and files that are not what they should be."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simsparse.errors import InputError, SimsparseError, UnknownNameError
from simsparse.masks import count, measure, measure_file
from simsparse.sparsity import HELD_NM, MEASURED_TILES, NM, Measured, parse


def padded(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mask as (row tiles, height, column tiles, width), filled up with zeros at the edges."""
    rows, cols = mask.shape
    full = np.pad(mask, ((0, -rows % height), (0, -cols % width)))
    return full.reshape(full.shape[0] // height, height, full.shape[1] // width, width)


def measured_by_numpy(mask: np.ndarray) -> Measured:
    """What `measure` must answer, written in plain numpy."""
    row, col = mask.sum(1), mask.sum(0)
    return Measured(
        kept=mask.sum() / mask.size,
        row_cv=row.std() / row.mean() if row.any() else 0.0,
        col_cv=col.std() / col.mean() if col.any() else 0.0,
        holds=tuple((n, m) for n, m in HELD_NM if padded(mask, 1, m).sum(3).max() <= n),
        occupied=tuple(float(padded(mask, h, w).any((1, 3)).mean()) for h, w in MEASURED_TILES),
    )


shapes = st.tuples(st.integers(1, 150), st.integers(1, 150))


@settings(max_examples=60, deadline=None)
@given(shapes, st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]), st.integers(0, 2**32 - 1))
def test_pass_equals_numpy(shape: tuple[int, int], density: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random(shape) < density
    assert measure(mask) == measured_by_numpy(mask)


def test_panels_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.random.default_rng(3).random((700, 90)) < 0.05
    whole = measure(mask)
    monkeypatch.setattr("simsparse.masks.PANEL_BYTES", 1)
    assert measure(mask) == whole == measured_by_numpy(mask)


@pytest.mark.parametrize("type_name", ["?", "i1", "u1", "i4", "i8", "f2", "f4", "f8", ">f4", ">i2"])
def test_every_type_and_layout(type_name: str) -> None:
    random = np.random.default_rng(5)
    values = np.where(random.random((70, 50)) < 0.4, 1, 0).astype(type_name)
    expected = measured_by_numpy(values != 0)
    if values.dtype.kind == "f":
        values[values == 0] = -0.0
    wide = np.zeros((70, 100), values.dtype)
    wide[:, ::2] = values
    assert measure(values) == measure(np.asfortranarray(values)) == measure(wide[:, ::2]) == expected


def test_bits_of_bf16_and_fp8_ignore_the_sign() -> None:
    bf16 = np.array([[0x0000, 0x8000, 0x0001, 0xBF80]], np.uint16)
    fp8 = np.array([[0x00, 0x80, 0x01, 0xFF]], np.uint8)
    assert measure(bf16, float_bits=True).density == measure(fp8, float_bits=True).density == 0.5
    assert measure(bf16).density == 0.75


def test_convolution_is_measured_as_rows_of_outputs() -> None:
    weight = np.random.default_rng(0).random((8, 6, 3, 3)) < 0.3
    assert measure(weight) == measured_by_numpy(weight.reshape(8, 54))


def test_what_holds_is_what_a_kernel_may_use() -> None:
    one_of_four = np.tile([[1, 0, 0, 0]], (16, 8))
    assert measure(one_of_four).implies(NM(2, 4))
    crowded = np.tile([[1, 1, 1, 1, 0, 0, 0, 0]], (16, 8))
    assert measure(crowded).implies(NM(4, 8))
    assert not measure(crowded).implies(NM(2, 4))


def test_counts_are_exact() -> None:
    mask = np.zeros((5, 20), bool)
    mask[4, 19] = mask[0, 0] = mask[0, 1] = True
    counts = count(mask)
    assert counts.row.tolist() == [2, 0, 0, 0, 1]
    assert counts.col.sum() == 3
    assert counts.tiles.tolist() == [3, 2, 2, 1, 1]
    assert counts.worst.tolist() == [2, 2, 2, 2]  # of aligned 2, 4, 8 and 16


@pytest.mark.parametrize("values", [np.zeros(4), np.zeros((0, 4)), np.zeros((2, 2), complex), np.full((2, 2), None)])
def test_what_is_no_mask_is_refused(values: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"of mask is .*, expected"):
        measure(values)


def test_files(tmp_path: Path) -> None:
    mask = np.random.default_rng(1).random((64, 64)) < 0.25
    other = np.ones((4, 4))
    np.save(tmp_path / "mask.npy", mask)
    np.savez(tmp_path / "one.npz", mask)
    np.savez(tmp_path / "two.npz", first=mask, second=other)
    pattern = parse(f"mask:{tmp_path}/mask.npy")
    assert pattern.density == mask.mean()
    assert measure_file(tmp_path / "one.npz").density == mask.mean()
    assert measure_file(f"{tmp_path}/two.npz#second").density == 1.0
    with pytest.raises(InputError, match="holds 2 arrays"):
        measure_file(tmp_path / "two.npz")
    with pytest.raises(UnknownNameError, match=r"no array in .* is named 'frist'; near names: first"):
        measure_file(f"{tmp_path}/two.npz#frist")


def test_files_that_are_none(tmp_path: Path) -> None:
    np.save(tmp_path / "pickled.npy", np.full((2, 2), {}, object))
    np.save(tmp_path / "flat.npy", np.ones(8))
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "whole.npy", np.ones((64, 64)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:2000])
    for name in ("missing.npy", "pickled.npy", "flat.npy", "text.npz", "cut.npy", "mask.pt"):
        with pytest.raises(InputError) as caught:
            measure_file(tmp_path / name)
        assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_never_escape(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    suffix = data.draw(st.sampled_from(["npy", "npz"]))
    path = folder / f"mask.{suffix}"
    (np.save if suffix == "npy" else np.savez)(path, np.eye(6, dtype=np.float32))
    raw = bytearray(path.read_bytes())
    for position, byte in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=4)):
        raw[position] = byte
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    with suppress(SimsparseError):
        assert isinstance(measure_file(path), Measured)


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.uint16, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.sampled_from([0, 32768, 7]))
)
def test_transposing_the_mask_transposes_the_statistics(bits: np.ndarray) -> None:
    turned = measure(bits.T, float_bits=True)
    there = measure(bits, float_bits=True).transposed()
    assert isinstance(there, Measured)
    assert (turned.row_cv, turned.col_cv, turned.occupied) == (there.row_cv, there.col_cv, there.occupied)
