"""CPUs: bandwidth-bound machines with SIMD cores, caches and shared memory. See README.md beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from accel_models.cpu.spec import CpuSpec
from simsparse.calibration.tunable import Tunable
from simsparse.plan import Machine
from simsparse.registry import Family
from simsparse.specs import Spec

if TYPE_CHECKING:
    from simsparse.calibration.measured import MeasuredMachine, Watch

# Constants that timings of kernels can set, and endings of those that are fractions.
FREE = (
    "dram_fraction", "onednn_efficiency", "xnnpack_efficiency", "mlas_efficiency", "blas_efficiency",
    "block_share", "sparse_share", "element_efficiency", "exposed", "dram_exposed", "call_cycles",
    "mlas_call_cycles", "scipy_call_cycles", "numba_call_cycles", "framework_cycles", "barrier_cycles",
    "requantize_cycles", "pack_cycles", "index_cycles", "generated_index_cycles", "generated_share",
    "generated_int8_share", "reorder_cycles", "csr_index_cycles", "row_index_cycles", "csr_row_cycles",
    "axpy_cycles", "row_axpy_cycles", "nonzero_cycles", "bsr_cycles", "bsr_token_cycles", "expand_cycles",
)  # fmt: skip
FRACTIONS = ("_fraction", "_efficiency", "_share", "exposed")


def build(spec: Spec) -> Machine:
    """A machine of a `CpuSpec`, with the constants that ship."""
    from accel_models.cpu.machine import CpuMachine

    assert isinstance(spec, CpuSpec)
    return CpuMachine(spec)


def tunables(spec: Spec) -> tuple[Tunable, ...]:
    """Figures that no datasheet gives: what levels deliver, and the constants of kernels that such a core runs."""
    from accel_models.cpu.constants import constants

    assert isinstance(spec, CpuSpec)
    shipped = constants().measured(spec.constants)
    x86 = {"AVX2", "AVX-512"} & set(spec.simd.value)
    other = {"xnnpack_efficiency"} if x86 else {"onednn_efficiency", "mlas_efficiency", "expand_cycles"}
    figures = [("dram_core_bytes_per_s", spec.dram_core_bytes_per_s), ("l2.bytes_per_cycle", spec.l2.bytes_per_cycle)]
    figures += [("l3.bytes_per_cycle", spec.l3.bytes_per_cycle)] if spec.l3 else []
    names = [name for name in FREE if name not in other]
    return (
        *(Tunable(field, figure.value) for field, figure in figures),
        *(Tunable(f"constants.{n}", getattr(shipped, n).value, n.endswith(FRACTIONS)) for n in names),
    )


def measure(name: str, watch: Watch) -> MeasuredMachine:
    """This machine as it is measured; see `accel_models.cpu.measuring`."""
    from accel_models.cpu.measuring.machine import measure as run

    return run(name, watch)


FAMILY = Family("cpu", CpuSpec, Path(__file__).parent / "machines", build, tunables, measure)
