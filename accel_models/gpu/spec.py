"""What a GPU is, to the model: figures of its SMs, clocks, memories and links, each with a source."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from accel_models.gpu.frameworks import Framework
from simsparse.errors import UnsupportedError
from simsparse.specs import Figure, Spec

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
# Architectures that `machine` knows how to feed: Volta to Blackwell.
Capability = Annotated[str, Field(pattern=r"^(7|8|9|10|12)\.\d$")]
# Keys of `mac_rate`; the bare type accumulates in fp32 (int32 for integers), `_acc16` in fp16.
RateKey = Literal["fp32", "tf32", "bf16", "fp16", "fp16_acc16", "fp8", "fp8_acc16", "int8", "int4", "fp4"]
# An N:M of weights, and a side of dual-side skipping.
PatternKey = Annotated[str, Field(pattern=r"^[1-9]\d*:[1-9]\d*$")]
DualKey = Literal["a_group", "a_step", "b_group", "b_step"]
DramKind = Literal["HBM2", "HBM2e", "HBM3", "HBM3e", "GDDR6", "GDDR6X", "GDDR7"]


class GpuSpec(Spec):
    """A GPU with tensor cores."""

    family: Literal["gpu"]

    sm_count: Figure[Count] = Field(description="Streaming multiprocessors that are enabled.")
    compute_capability: Figure[Capability] = Field(description="CUDA compute capability, `major.minor`.")

    boost_clock_hz: Figure[Positive] = Field(description="Boost clock; the fp32 peak of the datasheet uses it.")
    base_clock_hz: Figure[Positive] | None = Field(None, description="Guaranteed clock under load.")
    tensor_clock_hz: Figure[Positive] | None = Field(
        None, description="Clock of the datasheet's tensor-core peaks, where it is not the boost clock."
    )
    sustained_clock_hz: Figure[Positive] | None = Field(
        None, description="Clock observed under sustained tensor-core load at the stock power limit."
    )

    mac_rate: dict[RateKey, Figure[Positive]] = Field(
        description="Dense multiply-accumulates per clock and SM, by type; a type that is absent is unsupported."
    )
    sparse_rate: dict[RateKey, Figure[Positive]] = Field(
        default_factory=dict,
        description="Rate with a 2:4 operand over the dense rate, zeros counted; empty without sparse tensor cores.",
    )
    structured_rate: dict[PatternKey, Figure[Positive]] = Field(
        default_factory=dict,
        description="Hypothetical: rate with an N:M operand beside 2:4, over the dense rate, zeros counted.",
    )
    dual_side: dict[DualKey, Figure[Count]] = Field(
        default_factory=dict,
        description="Hypothetical: of groups of rows of A (columns of B) nonzeros are packed into steps of some; "
        "a side without group and step is not skipped.",
    )

    memory_bytes: Figure[Positive] = Field(description="Capacity of device memory.")
    dram_kind: Figure[DramKind] = Field(description="Kind of device memory, a key of the energy tables.")
    dram_bandwidth_bytes_per_s: Figure[Positive] = Field(description="Peak bandwidth of device memory.")
    l2_bytes: Figure[Positive] = Field(description="L2 cache of the whole chip.")
    l2_bytes_per_clock: Figure[Positive] = Field(
        description="Bytes the whole L2 delivers to the SMs per SM clock, as measured."
    )
    smem_bytes_per_sm: Figure[Positive] = Field(description="Most shared memory that one SM can carve out of its L1.")
    smem_bytes_per_clock: Figure[Positive] = Field(description="Bytes per clock and SM from shared memory.")
    registers_per_sm: Figure[Count] = Field(description="32-bit registers of an SM.")

    link_bytes_per_s: Figure[Positive] | None = Field(
        None, description="NVLink bandwidth per direction, all links together; absent without NVLink."
    )
    host_bytes_per_s: Figure[Positive] = Field(description="PCIe bandwidth per direction, after line coding.")

    tdp_w: Figure[Positive] = Field(description="Power limit of the card as shipped.")
    idle_w: Figure[Positive] = Field(
        description="Power of the card with a context open and clocks up, running nothing."
    )
    process_nm: Figure[Positive] = Field(description="Process node as the maker names it.")

    framework: Figure[Framework] = Field(
        default=Figure(value=Framework.GRAPH, source="assumed: models run as captured graphs"),
        description="Who issues the kernels of a model: eager, compiled or graph.",
    )
    autocast: Figure[bool] = Field(
        default=Figure(value=False, source="assumed: models are stored in the type they run in"),
        description="Whether eager and compiled models keep norms, residuals and softmax in fp32 (torch.autocast).",
    )

    constants: dict[str, dict[str, Figure[Annotated[float, Field(ge=0, allow_inf_nan=False)]]]] = Field(
        default_factory=dict, description="Constants fitted to this card, by kernel or `card`, for those that ship."
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if not self.mac_rate:
            raise ValueError("mac_rate with at least one type")
        alone = [key for key in self.sparse_rate if key not in self.mac_rate]
        if alone:
            raise ValueError(f"sparse_rate only for types of mac_rate, not {alone[0]}")
        for side in ("a", "b"):
            sizes = [self.dual_side[key].value for key in self.dual_side if key.startswith(side)]
            if sizes and (len(sizes) != 2 or max(sizes) > 256 or max(sizes) % min(sizes)):
                raise ValueError(f"dual_side.{side}_group at most 256, and a multiple of dual_side.{side}_step")
        for text in self.structured_rate:
            n, m = (int(part) for part in text.split(":"))
            if n >= m:
                raise ValueError(f"structured_rate for N of more than N, not {text}")
        if self.base_clock_hz and self.base_clock_hz.value > self.boost_clock_hz.value:
            raise ValueError("base_clock_hz at most boost_clock_hz")
        return self

    def peak_clock_hz(self, key: str) -> float:
        """Clock of the datasheet's peak: the boost clock for fp32, which runs on CUDA cores, else the tensor clock."""
        if key != "fp32" and self.tensor_clock_hz is not None:
            return self.tensor_clock_hz.value
        return self.boost_clock_hz.value

    def rate(self, key: str) -> float:
        """Dense multiply-accumulates per clock and SM of a type; 0 where the card has none."""
        return next((float(figure.value) for name, figure in self.mac_rate.items() if name == key), 0.0)

    def sparse_gain(self, key: str) -> float:
        """Rate with a 2:4 operand over the dense rate; 0 without sparse tensor cores for the type."""
        return next((float(figure.value) for name, figure in self.sparse_rate.items() if name == key), 0.0)

    def peak_macs_per_s(self, key: str) -> float:
        """Dense peak, `mac_rate * sm_count * peak clock`.

        Raises
        ------
        UnsupportedError
            If the GPU has no rate for the type.
        """
        if self.rate(key) == 0.0:
            raise UnsupportedError(
                f"type {key!r} on {self.name!r} has no rate, expected one of {', '.join(self.mac_rate)}"
            )
        return self.rate(key) * self.sm_count.value * self.peak_clock_hz(key)
