"""Magnitude pruning of real weights, so that patterns can be tried on a model without training it.

Nothing here says that the pruned model is any good; it says what its masks look like.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from fnmatch import translate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsparse.errors import InputError, UnknownNameError, UnsupportedError
from simsparse.sparsity import NM, NMV, VNM, Block, Dense, Pattern, Rows, Slice, Unstructured, Vector, parse
from workloads.tensor_files import StoredTensor, float_values, header_bytes, stored_tensors

Magnitudes = NDArray[np.float32]
Mask = NDArray[np.bool_]
_Chosen = dict[str, tuple[StoredTensor, Pattern]]


def prune(values: NDArray[Any], pattern: str | Pattern) -> NDArray[Any]:
    """A copy in which all but the largest values that `pattern` allows are zero.

    Parameters
    ----------
    values : (rows, ...) ndarray
        Rows are outputs; all other axes are the reduction.
    pattern : str or Pattern
        N:M, V:N:M, N:M by L, unstructured, vector, block, rows or slice. Blocks are ranked by the sum of their squares.

    Raises
    ------
    UnsupportedError
        For a pattern of activations or scores.
    """
    return np.where(keep_mask(values, parse(pattern)).reshape(values.shape), values, values.dtype.type(0))


def keep_mask(values: NDArray[Any], pattern: Pattern) -> Mask:
    """What `prune` keeps, (rows, reduction) ndarray of bool."""
    if values.ndim < 2 or values.size == 0:
        raise InputError.expected("shape of the weight", values.shape, "two axes or more, none of them empty")
    magnitude = np.abs(values.reshape(values.shape[0], -1).astype(np.float32, copy=False))
    magnitude[np.isnan(magnitude)] = np.inf
    rows, cols = magnitude.shape
    match pattern:
        case Dense():
            return np.ones((rows, cols), np.bool_)
        case NM(n, m):
            return _largest_of_group(magnitude, n, m)
        case NMV(v, n, m):
            shared = _largest_of_group(_block_sums(magnitude, v, 1), n, m)
            return _spread(shared, v, 1, magnitude.shape)
        case VNM(v, n, m):
            columns = _spread(_largest_of_group(_block_sums(magnitude, v, 1), 4, m), v, 1, magnitude.shape)
            return _largest_of_group(np.where(columns, magnitude, -1), n, m) & columns
        case Unstructured(zero):
            return _largest(magnitude, zero)
        case Vector(v, zero):
            return _largest_blocks(magnitude, v, 1, zero)
        case Block(height, width, zero):
            return _largest_blocks(magnitude, height, width, zero)
        case Rows(zero):
            return _largest_blocks(magnitude, 1, cols, zero)
        case Slice(zero):
            return _largest_blocks(magnitude, rows, 1, zero)
    raise UnsupportedError(f"pattern {pattern.text} is none that weights can be pruned to, expected one of weights")


def prune_folder(source: str | Path, target: str | Path, patterns: Mapping[str, str | Pattern]) -> tuple[str, ...]:
    """Write a pruned copy of a folder of safetensors, tensor by tensor, and say which tensors were pruned.

    Parameters
    ----------
    source, target : path
        `target` must not exist; it appears when it is whole.
    patterns : mapping of glob over tensor names to pattern
        Later globs win. Only tensors of two axes or more are pruned.

    Raises
    ------
    InputError
        If `target` exists, or `source` is no folder of safetensors.
    UnknownNameError
        If a glob matches no tensor.
    """
    source, target = Path(source), Path(target)
    if target.exists():
        raise InputError.expected("target", str(target), "a folder that does not exist yet")
    tensors = stored_tensors(source)
    chosen = _choose(tensors, patterns)
    partial = target.with_name(target.name + ".partial")
    partial.mkdir(parents=True)
    try:
        for file in dict.fromkeys(tensor.file for tensor in tensors):
            _write_pruned(file, partial / file.name, chosen)
        for path in source.glob("*.json"):
            shutil.copyfile(path, partial / path.name)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return tuple(chosen)


def _choose(tensors: tuple[StoredTensor, ...], patterns: Mapping[str, str | Pattern]) -> _Chosen:
    weights = {tensor.name: tensor for tensor in tensors if len(tensor.shape) > 1}
    chosen: _Chosen = {}
    for glob, text in patterns.items():
        matched = [name for name in weights if re.fullmatch(translate(glob), name)]
        if not matched:
            raise UnknownNameError.near("weight tensor", glob, weights)
        chosen.update((name, (weights[name], parse(text))) for name in matched)
    return chosen


def _write_pruned(source: Path, target: Path, chosen: _Chosen) -> None:
    """Header as it is, then each tensor's bits, in order."""
    with target.open("wb") as handle:
        handle.write(header_bytes(source))
        for tensor in stored_tensors(source):
            bits = tensor.map()
            if tensor.name in chosen:
                bits = _pruned_bits(*chosen[tensor.name], bits)
            handle.write(np.ascontiguousarray(bits).data)


def _pruned_bits(tensor: StoredTensor, pattern: Pattern, bits: NDArray[Any]) -> NDArray[Any]:
    values = float_values(tensor, bits)
    kept = keep_mask(values.T, pattern).T if tensor.transposed else keep_mask(values, pattern)
    return np.where(kept.reshape(bits.shape), bits, bits.dtype.type(0))


def _largest(magnitude: Magnitudes, zero: float) -> Mask:
    """The `1 - zero` largest of all, their number rounded."""
    kept = np.zeros(magnitude.size, np.bool_)
    number = round((1.0 - zero) * magnitude.size)
    if number:
        kept[np.argpartition(magnitude.ravel(), magnitude.size - number)[magnitude.size - number :]] = True
    return kept.reshape(magnitude.shape)


def _largest_blocks(magnitude: Magnitudes, height: int, width: int, zero: float) -> Mask:
    return _spread(_largest(_block_sums(magnitude, height, width), zero), height, width, magnitude.shape)


def _largest_of_group(magnitude: Magnitudes, n: int, m: int) -> Mask:
    """The n largest of every m along a row; the first of equals."""
    rows, cols = magnitude.shape
    groups = np.pad(magnitude, ((0, 0), (0, -cols % m)), constant_values=-1).reshape(rows, -1, m)
    order = np.argsort(-groups, axis=2, kind="stable")
    kept = np.zeros(groups.shape, np.bool_)
    np.put_along_axis(kept, order[:, :, :n], True, axis=2)
    return kept.reshape(rows, -1)[:, :cols]


def _block_sums(magnitude: Magnitudes, height: int, width: int) -> Magnitudes:
    """Sum of squares of each block; those cut by an edge have less to sum."""
    rows, cols = magnitude.shape
    full = np.pad(magnitude, ((0, -rows % height), (0, -cols % width)))
    blocks = full.reshape(full.shape[0] // height, height, full.shape[1] // width, width)
    return np.asarray(np.square(blocks).sum(axis=(1, 3)))


def _spread(blocks: Mask, height: int, width: int, shape: tuple[int, ...]) -> Mask:
    return blocks.repeat(height, axis=0).repeat(width, axis=1)[: shape[0], : shape[1]]
