"""safetensors files: the same tensors as the library reads; damaged and hostile files refused in one sentence."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from tensor_bytes import entry, file_of

from simsparse.errors import InputError, SimsparseError
from workloads.tensor_files import float_values, read_header, stored_tensors


def test_reads_what_the_library_wrote(tmp_path: Path) -> None:
    tensors = {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4), "b.weight": np.ones((2, 3, 1, 1), np.float16),
        "c": np.array([1, -2], np.int8), "d": np.array(3.0), "e": np.zeros((0, 4), np.int64), "f": np.array([[True]]),
    }  # fmt: skip
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "np"})
    found = {tensor.name: tensor for tensor in stored_tensors(tmp_path)}
    assert found.keys() == tensors.keys()
    for name, values in tensors.items():
        np.testing.assert_array_equal(found[name].map(), values, strict=True)


def test_floats_without_numpy_types(tmp_path: Path) -> None:
    import ml_dtypes

    codes = {
        "BF16": ("bfloat16", np.uint16),
        "F8_E4M3": ("float8_e4m3fn", np.uint8),
        "F8_E5M2": ("float8_e5m2", np.uint8),
    }
    for stored, (name, holder) in codes.items():
        bits = np.arange(np.iinfo(holder).max + 1).astype(holder).reshape(16, -1)
        header = {"x": entry(stored, bits.shape, [0, bits.nbytes])}
        (tmp_path / "x.safetensors").write_bytes(file_of(header, bits.tobytes()))
        (tensor,) = read_header(tmp_path / "x.safetensors")
        expected = bits.view(getattr(ml_dtypes, name)).astype(np.float32)
        np.testing.assert_array_equal(float_values(tensor, tensor.map()), expected)


HOSTILE = {
    "empty": b"",
    "cut length": b"\x01\x02",
    "header past the end": file_of({}, length=10**6),
    "header of 2^63": file_of({}, length=2**63),
    "no json": file_of(b"{nonsense"),
    "no utf-8": file_of(b'{"\xff": 1}'),
    "a list": file_of([1, 2]),
    "deep": file_of(b"[" * 100_000 + b"]" * 100_000),
    "named twice": file_of(b'{"x": {"dtype":"U8","shape":[1],"data_offsets":[0,1]}, "x": 1}', b"1"),
    "metadata of numbers": file_of({"__metadata__": {"a": 1}}),
    "a field too many": file_of({"x": entry(extra=1)}, bytes(16)),
    "unknown dtype": file_of({"x": entry("F12")}, bytes(16)),
    "dtype that is none": file_of({"x": entry(dtype=[])}, bytes(16)),
    "negative shape": file_of({"x": entry(shape=[-2, -2])}, bytes(16)),
    "fractional shape": file_of({"x": entry(shape=[2.0, 2])}, bytes(16)),
    "boolean shape": file_of({"x": entry(shape=[True, 4])}, bytes(16)),
    "endless shape": file_of({"x": entry(shape=[1] * 100)}, bytes(16)),
    "huge shape": file_of({"x": entry(shape=[2**62, 2**62])}, bytes(16)),
    "negative offset": file_of({"x": entry(offsets=[-16, 0])}, bytes(16)),
    "falling offsets": file_of({"x": entry(offsets=[16, 0])}, bytes(16)),
    "offsets past the end": file_of({"x": entry()}, bytes(12)),
    "one offset": file_of({"x": entry(offsets=[16])}, bytes(16)),
    "shape that does not fill": file_of({"x": entry(shape=[2, 3])}, bytes(16)),
    "hole": file_of({"x": entry(offsets=[4, 20])}, bytes(20)),
    "overlap": file_of({"x": entry(), "y": entry(offsets=[8, 24])}, bytes(24)),
    "data too long": file_of({"x": entry()}, bytes(17)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(HOSTILE[case])
    with pytest.raises(InputError, match=r"weights file 'model.safetensors' is .*, expected ") as caught:
        stored_tensors(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_header_above_100_mb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as handle:  # sparse on disk
        handle.write(struct.pack("<Q", 100_000_001))
        handle.truncate(200_000_000)
    with pytest.raises(InputError, match="claims a header of 100000001"):
        stored_tensors(tmp_path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_never_escapes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damage") / "model.safetensors"
    header = {"x": entry(), "layer.weight": entry("BF16", [4, 2], [16, 32])}
    raw = bytearray(file_of(header, bytes(range(32))))
    for position, byte in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=5)):
        raw[position] = byte
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    with suppress(SimsparseError):
        assert sum(tensor.map().nbytes for tensor in stored_tensors(path.parent)) < len(raw)


def shards(folder: Path, mapping: object) -> None:
    save_file({"a": np.ones((2, 2))}, folder / "one.safetensors")
    save_file({"b": np.zeros((2, 2)), "c": np.ones(1)}, folder / "two.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": mapping}))


def test_shards(tmp_path: Path) -> None:
    shards(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    assert [tensor.name for tensor in stored_tensors(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    "mapping",
    [None, {}, {"a": 1}, {"a": "../one.safetensors"}, {"a": "gone.safetensors"}, {"z": "one.safetensors"}],
)
def test_an_index_that_does_not_fit_is_refused(mapping: object, tmp_path: Path) -> None:
    shards(tmp_path, mapping)
    with pytest.raises(InputError, match=r"weights file 'model.safetensors.index.json' is .*, expected"):
        stored_tensors(tmp_path)


def test_pickles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    for path in (tmp_path, tmp_path / "pytorch_model.bin"):
        with pytest.raises(InputError, match=r"is a pickle.*save_pretrained"):
            stored_tensors(path)
    with pytest.raises(InputError, match="expected a folder that exists"):
        stored_tensors(tmp_path / "nowhere")
