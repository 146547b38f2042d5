"""Data types as a machine stores them: bits of a value, and bits of the scale shared by a group of values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from simsparse.errors import InputError

# Bits of one value. tf32 is stored in 32 bits and multiplied with 19.
VALUE_BITS = {
    "fp64": 64, "fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4, "fp4": 4,
    "int64": 64, "int32": 32, "int16": 16, "uint8": 8, "bool": 8,
}  # fmt: skip
# Types quantised in groups: the default group and the bits of its scale (fp16 for int4, fp8 for nvfp4-style fp4).
GROUP_DEFAULTS = {"int4": (128, 16), "fp4": (16, 8)}
# Names of the same type elsewhere (safetensors, torch, ONNX).
ALIASES = {
    "f64": "fp64", "f32": "fp32", "f16": "fp16", "float64": "fp64", "float32": "fp32", "float16": "fp16",
    "half": "fp16", "bfloat16": "bf16", "float": "fp32", "f8_e4m3": "fp8", "f8_e5m2": "fp8", "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8", "i8": "int8", "u8": "uint8", "i16": "int16", "i32": "int32", "i64": "int64",
    "nvfp4": "fp4", "mxfp4": "fp4",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DType:
    """A stored number.

    Attributes
    ----------
    name : str
        Key of `VALUE_BITS`.
    group : int
        Values that share one scale along the reduction; 0 where values carry no scale.
    scale_bits : int
        Bits of that scale.
    """

    name: str
    group: int = 0
    scale_bits: int = 0

    @property
    def value_bits(self) -> int:
        """Bits of a value without its share of the scale."""
        return VALUE_BITS[self.name]

    @property
    def bits(self) -> float:
        """Bits a value takes in memory: `value_bits + scale_bits / group`."""
        return self.value_bits + (self.scale_bits / self.group if self.group else 0.0)

    def bytes_of(self, elements: float) -> float:
        """Bytes of `elements` values with their scales."""
        return elements * self.bits / 8

    def __str__(self) -> str:
        default = GROUP_DEFAULTS.get(self.name, (0, 0))[0]
        return self.name if self.group == default else f"{self.name}-g{self.group}"


@lru_cache(maxsize=256)
def dtype(text: str | DType) -> DType:
    """Read a type: `fp16`, `int4` (groups of 128), `int4-g64`, or an alias such as `bfloat16`.

    Raises
    ------
    InputError
        For an unknown name or a group of zero.
    """
    if isinstance(text, DType):
        return text
    match = re.fullmatch(r"([a-z0-9_]+?)(?:-g(\d+))?", str(text).strip().lower().removeprefix("torch."))
    name = ALIASES.get(match[1], match[1]) if match else ""
    if match is None or name not in VALUE_BITS:
        raise InputError.expected(
            "dtype", text, f"one of {', '.join(VALUE_BITS)} (int4 and fp4 take a group: int4-g64)"
        )
    group, scale_bits = GROUP_DEFAULTS.get(name, (0, 0))
    if match[2] is not None:
        group = int(match[2])
        scale_bits = scale_bits or 16
        if group < 1:
            raise InputError.expected("dtype", text, "a group of at least 1")
    return DType(name, group, scale_bits)
