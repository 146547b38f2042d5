"""Weights as they lie on disk: safetensors files read tensor by tensor, memory-mapped, any dtype, nothing executed.

The format is eight bytes of header length, a JSON header, and the data. A header is believed only if every number in
it fits the file: see `read_header`. Specification: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsparse.errors import InputError

MAX_HEADER_BYTES = 100_000_000
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Types of the format, with the numpy type that holds their bits. bf16 and fp8 stay bits.
STORED_TYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8",
    "I64": "<i8", "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1",
}  # fmt: skip
BIT_FLOATS = frozenset({"BF16", "F8_E4M3", "F8_E5M2"})
# Suffixes of files that PyTorch's own format, a pickle, comes in.
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
INDICES = (".safetensors.index.json", ".bin.index.json")


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes
    ----------
    name : str
    dtype : str
        Key of `STORED_TYPES`.
    shape : tuple of int
    file : Path
    offset : int
        First byte of its data, from the start of the file.
    transposed : bool
        It lies as (reduction, outputs), as the weights of GPT-2's `Conv1D` do.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    transposed: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) * np.dtype(STORED_TYPES[self.dtype]).itemsize

    @property
    def float_bits(self) -> bool:
        """Whether `map` gives unsigned integers that are the bits of floats."""
        return self.dtype in BIT_FLOATS

    def map(self) -> NDArray[Any]:
        """The values (or their bits), memory-mapped, read-only; pages go when the array does."""
        stored = np.dtype(STORED_TYPES[self.dtype])
        if self.nbytes == 0:
            return np.empty(self.shape, stored)
        return np.memmap(self.file, dtype=stored, mode="r", offset=self.offset, shape=self.shape)


def holds_weights(folder: Path) -> bool:
    """Whether a folder has files of weights, or an index that promises some, readable here or not."""
    return folder.is_dir() and any(
        path.suffix in (".safetensors", *PICKLES) or path.name.endswith(INDICES) for path in folder.iterdir()
    )


def stored_tensors(folder: str | Path) -> tuple[StoredTensor, ...]:
    """Every tensor of a folder with `model.safetensors` or `model.safetensors.index.json`, or of one file.

    Raises
    ------
    InputError
        For a pickle, a missing or malformed file, or an index that does not fit its shards.
    """
    path = Path(folder)
    if path.is_file() and path.suffix == ".safetensors":
        return read_header(path)
    if path.suffix in PICKLES:
        raise _refused(path)
    if not path.is_dir():
        raise InputError.expected("weights", str(path), "a folder that exists, or a .safetensors file")
    for name, read in ((SINGLE, read_header), (INDEX, _read_index)):
        if (path / name).is_file():
            found = read(path / name)
            return _mark_conv1d(found) if _model_type(path) == "gpt2" else found
    pickles = sorted(p for p in path.iterdir() if p.suffix in PICKLES)
    if pickles:
        raise _refused(pickles[0])
    raise InputError.expected("weights", str(path), f"a folder with {SINGLE} or {INDEX}")


def read_header(path: str | Path) -> tuple[StoredTensor, ...]:
    """The tensors of one safetensors file, in the order of their data.

    Raises
    ------
    InputError
        If the header is longer than the file or 100 MB, is not JSON, names a tensor twice, has an unknown dtype, a
        shape that does not fill its bytes, or tensors that overlap, leave holes or leave the file.
    """
    path = Path(path)
    try:
        return _parse_header(path, *_raw_header(path))
    except OSError as failed:
        raise InputError.expected("weights", str(path), f"a readable file ({failed.strerror})") from None


def header_bytes(path: str | Path) -> bytes:
    """Length and header of a file as they stand, to be written before data of the same layout."""
    raw, _ = _raw_header(Path(path))
    return struct.pack("<Q", len(raw)) + raw


def _raw_header(path: Path) -> tuple[bytes, int]:
    """Header text and bytes of data."""
    size = path.stat().st_size
    if size < 8:
        raise _broken(path, f"{size} bytes long", "at least 8 bytes")
    with path.open("rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise _broken(path, f"{size} bytes long and claims a header of {length}", "one that fits, up to 100 MB")
        return handle.read(length), size - 8 - length


def _parse_header(path: Path, raw: bytes, data_bytes: int) -> tuple[StoredTensor, ...]:
    header = _strict_json(path, raw)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _broken(path, "carrying __metadata__ that is no table of texts", "texts")
    start = 8 + len(raw)
    spans = [_parse_entry(path, name, entry, start) for name, entry in header.items()]
    spans.sort(key=lambda span: span[0])
    expected = 0
    for (begin, end), tensor in spans:
        if begin != expected:
            raise _broken(path, f"placing {tensor.name!r} at byte {begin}", f"{expected}, right after its neighbour")
        if tensor.nbytes != end - begin:
            raise _broken(
                path, f"giving {tensor.name!r} {end - begin} bytes", f"{tensor.nbytes} for its shape and dtype"
            )
        expected = end
    if expected != data_bytes:
        raise _broken(path, f"holding {data_bytes} bytes of data", f"{expected} by its header")
    return tuple(tensor for _, tensor in spans)


def _parse_entry(path: Path, name: str, entry: object, start: int) -> tuple[tuple[int, int], StoredTensor]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _broken(path, f"describing {name!r} wrongly", "dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in STORED_TYPES:
        raise _broken(path, f"giving {name!r} dtype {str(dtype)[:40]!r}", f"one of {', '.join(STORED_TYPES)}")
    if not _naturals(shape) or len(shape) > 32:
        raise _broken(path, f"giving {name!r} shape {str(shape)[:80]}", "a list of sizes")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _broken(path, f"giving {name!r} offsets {str(offsets)[:80]}", "two rising numbers")
    begin, end = offsets
    return (begin, end), StoredTensor(name, dtype, tuple(shape), path, start + begin)


def _naturals(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)


def _strict_json(path: Path, raw: bytes) -> dict[str, Any]:
    """A JSON table without duplicate keys."""

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a name stands twice")
        return result

    try:
        parsed = json.loads(raw.decode("utf-8"), object_pairs_hook=table)
    except (ValueError, RecursionError) as malformed:
        raise _broken(path, f"no valid JSON where its header is ({malformed})", "a table of tensors") from None
    if not isinstance(parsed, dict):
        raise _broken(path, "a header that is no table", "a table of tensors")
    return parsed


def _read_index(path: Path) -> tuple[StoredTensor, ...]:
    if path.stat().st_size > MAX_HEADER_BYTES:
        raise _broken(path, "more than 100 MB long", "an index")
    mapping = _strict_json(path, path.read_bytes()).get("weight_map")
    if not isinstance(mapping, dict) or not mapping or not all(isinstance(file, str) for file in mapping.values()):
        raise _broken(path, "without a weight_map from tensors to files", "one")
    found: list[StoredTensor] = []
    for file in dict.fromkeys(mapping.values()):
        if Path(file).name != file or not file.endswith(".safetensors") or not (path.parent / file).is_file():
            raise _broken(path, f"naming {file[:80]!r}", "a .safetensors file that lies beside it")
        found.extend(tensor for tensor in read_header(path.parent / file) if mapping.get(tensor.name) == file)
    missing = set(mapping) - {tensor.name for tensor in found}
    if missing:
        raise _broken(path, f"naming {min(missing)!r}, which its file lacks", "tensors that are there")
    return tuple(found)


def _model_type(folder: Path) -> object:
    """What the config beside the weights calls the model; None where there is no readable one."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return config.get("model_type") if isinstance(config, dict) else None


def _mark_conv1d(tensors: tuple[StoredTensor, ...]) -> tuple[StoredTensor, ...]:
    layer = re.compile(r"(.*\.)?h\.\d+\.(attn|crossattention|mlp)\.(c_attn|c_proj|c_fc|q_attn)\.weight")
    return tuple(replace(tensor, transposed=layer.fullmatch(tensor.name) is not None) for tensor in tensors)


def _broken(path: Path, what: str, expectation: str) -> InputError:
    return InputError(f"weights file {path.name!r} is {what}, expected {expectation}")


def _refused(path: Path) -> InputError:
    return InputError(
        f"weights file {path.name!r} is a pickle, which can run code when opened, expected safetensors:"
        " save it once with model.save_pretrained(folder), or give config.json alone to have all weights dense"
    )


# Floats of types that numpy lacks ------------------------------------------------------------------------------------


def float_values(tensor: StoredTensor, bits: NDArray[Any]) -> NDArray[Any]:
    """Values of what `tensor.map()` gave: bf16 and fp8 become float32, all else stays."""
    if tensor.dtype == "BF16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if tensor.dtype == "F8_E5M2":  # the upper byte of a half
        return (bits.astype(np.uint16) << np.uint16(8)).view(np.float16).astype(np.float32)
    if tensor.dtype == "F8_E4M3":
        return np.asarray(_e4m3()[bits])
    return bits


def _e4m3() -> NDArray[np.float32]:
    """Values of the 256 codes of OCP E4M3: bias 7, no infinities, all ones is NaN."""
    code = np.arange(256)
    exponent, fraction = code >> 3 & 15, code & 7
    magnitude = np.where(exponent == 0, np.ldexp(fraction / 8, -6), np.ldexp(1 + fraction / 8, exponent - 7))
    magnitude[code & 127 == 127] = np.nan
    return np.where(code & 128, -magnitude, magnitude).astype(np.float32)
