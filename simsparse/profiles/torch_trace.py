"""Products in a Chrome trace of `torch.profiler`, recorded with `record_shapes=True`.

An operator of torch (`cpu_op`) has the shapes of its operands; the kernels that it launches carry its `External id`.
The time of a product is that of its kernels, or of the operator itself where nothing ran on a device.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsparse.errors import InputError
from simsparse.profiles.rows import Timed

Dims = tuple[int, ...]
Extents = tuple[int, int, int, int]  # M, N, K, batch

# torch sizes what cuSPARSELt compresses as 9/16 of the dense weights, 10/16 in int8 (`_cslt_sparse_mm`).
_COMPRESSED = {1: 10 / 16, 2: 9 / 16, 4: 9 / 16}
_DTYPES = {
    "c10::Half": "fp16", "c10::BFloat16": "bf16", "float": "fp32", "signed char": "int8", "double": "fp64",
    "c10::Float8_e4m3fn": "fp8", "c10::Float8_e5m2": "fp8",
}  # fmt: skip
_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4, "int8": 1, "fp8": 1, "fp64": 8}


@dataclass(frozen=True)
class _Rule:
    """How an operator is read."""

    system: str
    pattern: str
    sparse_operand: str
    first: int  # place of the left operand among the inputs
    extents: Callable[[Sequence[Dims], str], Extents]


def _mm(dims: Sequence[Dims], _: str) -> Extents:
    (m, k), (_k, n) = dims[0], dims[1]
    return m, n, k, 1


def _bmm(dims: Sequence[Dims], _: str) -> Extents:
    (batch, m, k), (_batch, _k, n) = dims[0], dims[1]
    return m, n, k, batch


def _compressed(dims: Sequence[Dims], dtype: str) -> Extents:
    k, n = dims[1]
    return round(math.prod(dims[0]) / _COMPRESSED[_BYTES[dtype]] / k), n, k, 1


def _semi_structured(dims: Sequence[Dims], _: str) -> Extents:
    # values (M, K/2), metadata, dense (K, N)
    m, half = dims[0]
    return m, dims[2][1], 2 * half, 1


_RULES = {
    "aten::mm": _Rule("PyTorch matmul", "dense", "", 0, _mm),
    "aten::addmm": _Rule("PyTorch matmul", "dense", "", 1, _mm),
    "aten::_int_mm": _Rule("PyTorch matmul", "dense", "", 0, _mm),
    "aten::_scaled_mm": _Rule("PyTorch matmul", "dense", "", 0, _mm),
    "aten::bmm": _Rule("PyTorch matmul", "dense", "", 0, _bmm),
    "aten::_cslt_sparse_mm": _Rule("cuSPARSELt", "2:4", "A", 0, _compressed),
    "aten::_sparse_semi_structured_mm": _Rule("CUTLASS 2:4", "2:4", "A", 0, _semi_structured),
}


def read_torch_trace(path: Path, device: str = "") -> list[Timed]:
    """Products of a trace, equal ones together.

    Parameters
    ----------
    device : str
        Name to write; by default that of the trace's first device.

    Raises
    ------
    InputError
        For what is no such trace, one without shapes or without products, or an unnamed device.
    """
    events, properties = _load(path)
    name = device or (str(properties[0].get("name", "")) if properties else "")
    if not name:
        raise InputError(f"trace {str(path)!r} names no device, expected --device")
    launched: dict[object, float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "kernel":
            launched[_args(event).get("External id")] += _micros(event)
    products = [event for event in events if event.get("cat") == "cpu_op" and event.get("name") in _RULES]
    if not products:
        raise InputError.expected(
            f"products in trace {str(path)!r}", 0, f"operators such as {', '.join(list(_RULES)[:3])}"
        )
    found: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for event in products:
        args, rule = _args(event), _RULES[str(event["name"])]
        micros = launched.get(args.get("External id"), 0.0) if launched else _micros(event)
        if micros > 0.0:
            found[str(event["name"]), *_read(rule, args, path)].append(micros * 1e-6)
    if not found:
        raise InputError(f"no product of trace {str(path)!r} launched a kernel, expected a run on the device")
    return [_timed(name, key, seconds) for key, seconds in found.items()]


def _timed(device: str, key: tuple[Any, ...], seconds: list[float]) -> Timed:
    operator, dtype, m, n, k, batch = key
    rule = _RULES[operator]
    return Timed(
        rule.system, device, dtype, rule.pattern, rule.sparse_operand, operator, m, n, k, batch, tuple(seconds),
        len(seconds),
    )  # fmt: skip


def _read(rule: _Rule, args: Mapping[str, Any], path: Path) -> tuple[object, ...]:
    """Type and extents of an operator."""
    dims = [tuple(each) if isinstance(each, list) else () for each in _list(args.get("Input Dims"))][rule.first :]
    types = [str(each) for each in _list(args.get("Input type"))][rule.first :]
    if not dims or not types:
        raise InputError(f"trace {str(path)!r} has no input shapes, expected one recorded with record_shapes=True")
    dtype = _DTYPES.get(types[0], "")
    if not dtype:
        raise InputError.expected(f"type of a product in trace {str(path)!r}", types[0], f"one of {', '.join(_DTYPES)}")
    try:
        return dtype, *rule.extents(dims, dtype)
    except (ValueError, TypeError, IndexError, KeyError):
        raise InputError.expected(f"operands in trace {str(path)!r}", dims, "two matrices") from None


def _args(event: Mapping[str, Any]) -> Mapping[str, Any]:
    args = event.get("args", {})
    return args if isinstance(args, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _micros(event: Mapping[str, Any]) -> float:
    taken = event.get("dur")
    return float(taken) if isinstance(taken, (int, float)) else 0.0


def _load(path: Path) -> tuple[list[dict[str, Any]], Sequence[Mapping[str, Any]]]:
    try:
        packed = path.read_bytes()
        content = json.loads(gzip.decompress(packed) if path.suffix == ".gz" else packed)
    except (OSError, EOFError, zlib.error) as error:  # what is no gzip raises an OSError without a number
        reason = getattr(error, "strerror", None) or "no whole gzip file"
        raise InputError.expected("trace", str(path), f"a file that can be read ({reason})") from None
    except ValueError:
        raise InputError.expected("trace", str(path), "JSON as torch.profiler writes it") from None
    events, properties = (
        [entry for entry in _list(content.get(key)) if isinstance(entry, dict)] if isinstance(content, dict) else []
        for key in ("traceEvents", "deviceProperties")
    )
    if not events:
        raise InputError.expected("trace", str(path), "a Chrome trace with traceEvents")
    return events, properties
