"""Constants that no datasheet gives, as data with what they were fitted on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from simsparse.specs import ASSUMED, Figure, checked, read_toml

FILE = Path(__file__).parent / "constants" / "kernels.toml"


class Constant(BaseModel):
    """A constant, what it was fitted on, how many rows these were, and the median error on them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    source: str = Field(min_length=1)
    n: int = 0
    median_abs_error: float | None = None


class Constants(BaseModel):
    """All of the family."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dram_fraction: Constant = Field(description="Share of peak memory bandwidth that streams reach.")
    xnnpack_efficiency: Constant = Field(
        description="Share of its issue-limited rate that a dense NEON microkernel sustains."
    )
    onednn_efficiency: Constant = Field(description="The same of the best x86 libraries (oneDNN, MKL).")
    mlas_efficiency: Constant = Field(description="The same of ONNX Runtime's kernels on x86.")
    blas_efficiency: Constant = Field(description="The same of the BLAS under numpy (OpenBLAS), packing apart.")
    pack_cycles: Constant = Field(description="Per register of a weight that a BLAS copies into panels in each call.")
    onednn_matrix_efficiency: Constant = Field(description="The same of AMX tiles.")
    accelerate_efficiency: Constant = Field(description="The same of Apple's matrix units.")
    block_share: Constant = Field(
        description="Share of the dense microkernel's efficiency that the int8 one for 4x1 blocks sustains; at most 1."
    )
    sparse_share: Constant = Field(description="The same of microkernels that walk through nonzeros.")
    element_efficiency: Constant = Field(
        description="Share of their issue-limited rate that norms, softmax and other elementwise ops sustain."
    )
    exposed: Constant = Field(
        description="Share of the shorter times of cores and caches that the longest does not hide."
    )
    dram_exposed: Constant = Field(description="The same of memory against cores and caches.")
    call_cycles: Constant = Field(description="Start and barrier of a bare kernel, in core cycles.")
    framework_cycles: Constant = Field(description="What a framework adds to each op of a model, in core cycles.")
    barrier_cycles: Constant = Field(
        description="What each thread adds to that: all are woken for an op and waited for."
    )
    requantize_cycles: Constant = Field(
        description="Per activation an int8 op of a model reads or writes: to quantise it and put it in layout."
    )
    index_cycles: Constant = Field(description="Per nonzero block and tile of tokens: pointer arithmetic of an SpMM.")
    generated_index_cycles: Constant = Field(
        description="Per nonzero and tile of tokens, where code is generated for the mask (DeepSparse)."
    )
    generated_share: Constant = Field(
        description="Share of the dense microkernel's efficiency that such code sustains with AVX2; with AVX-512 all."
    )
    generated_int8_share: Constant = Field(description="The same of its int8 code for groups of four inputs (VNNI).")
    reorder_cycles: Constant = Field(
        description="Per activation of a bare product in such an engine, to bring it into its layout or out of it."
    )
    csr_index_cycles: Constant = Field(description="Per nonzero and token of a scalar sum: latency of the addition.")
    row_index_cycles: Constant = Field(description="The same of rows in parallel (numba), with its checks of indices.")
    csr_row_cycles: Constant = Field(description="Per row of CSR: its bounds, and a loop whose end is not foreseen.")
    axpy_cycles: Constant = Field(description="Per nonzero and vector of sums in L1, which are loaded and stored.")
    row_axpy_cycles: Constant = Field(description="The same where four nonzeros share the loads and stores of sums.")
    nonzero_cycles: Constant = Field(description="Least that a nonzero takes before vectors of tokens hide it.")
    bsr_cycles: Constant = Field(description="Per multiply-add of scipy's blocks, several tokens.")
    bsr_token_cycles: Constant = Field(description="The same for one token.")
    mlas_call_cycles: Constant = Field(description="From a call of an ONNX Runtime session to its kernel and back.")
    scipy_call_cycles: Constant = Field(description="The same of a product of scipy.sparse, the result's array too.")
    numba_call_cycles: Constant = Field(description="The same of a parallel function compiled by numba.")
    expand_cycles: Constant = Field(description="To expand one register of compressed values by its bitmap (AVX-512).")
    widen16_instructions: Constant = Field(description="Per register of fp32 values made of 16-bit ones.")
    widen8_instructions: Constant = Field(description="Per register of floating-point values made of int8.")
    unpack4_instructions: Constant = Field(description="Per register of int8 values made of 4-bit ones.")
    scale_instructions: Constant = Field(description="Per register of int32 sums and block of 32 that share a scale.")
    quantize_instructions: Constant = Field(description="Per register of fp32 activations, to int8 with a scale.")
    exp_cycles: Constant = Field(description="Per register of fp32: exponential, or another transcendental function.")
    datapath_share: Constant = Field(
        description="Share of an AVX2 instruction's energy that goes with the width of its registers."
    )
    compress_from: Constant = Field(description="Sparsity below which a DeepSparse-like engine stays dense.")

    @property
    def assumed(self) -> tuple[str, ...]:
        """Names of those that no measurement stands behind."""
        return tuple(n for n in type(self).model_fields if getattr(self, n).source.startswith(ASSUMED))

    def measured(self, figures: Mapping[str, Figure[float]]) -> Constants:
        """With those that were measured on one machine in their places."""
        return self.model_copy(update={n: Constant(value=f.value, source=f.source) for n, f in figures.items()})

    def digest(self) -> str:
        """Twelve hex digits of the content."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


@lru_cache(maxsize=1)
def constants() -> Constants:
    """Those that ship."""
    return checked(Constants, read_toml(FILE), where=f"CPU constants {FILE.name!r}")
