"""What the tests of the FPGA family share: machines with changed figures, products of training steps, small arrays."""

from __future__ import annotations

from functools import lru_cache

from hypothesis import settings
from hypothesis import strategies as st

from accel_models.fpga import FAMILY
from accel_models.fpga._search import schedule
from accel_models.fpga.kernels import executed_nm, products
from accel_models.fpga.machine import SatMachine
from accel_models.fpga.spec import SatSpec
from simsparse.machine import KernelMachine
from simsparse.plan import Floats, Prices, ProblemColumn, TrainStage
from simsparse.problems import gemm_problems

FREE_MEMORY = {"dram_bytes_per_s_per_channel": 1e30}
SMALL = {
    "array_rows": 4, "array_cols": 4, "mac_pipeline_depth": 4, "nm_max_m": 8, "weight_buffer_bytes": 2**13,
    "activation_buffer_bytes": 2**13, "output_buffer_bytes": 2**12,
}  # fmt: skip


def spec(name: str = "sat-vcu1525", **changes: object) -> SatSpec:
    found = FAMILY.spec(FAMILY.files[name]).with_figures(changes)
    assert isinstance(found, SatSpec)
    return found


@lru_cache
def machine(name: str = "sat-vcu1525", *changes: tuple[str, object]) -> SatMachine:
    return SatMachine(spec(name, **dict(changes)))


def built(**changes: object) -> SatMachine:
    return machine("sat-vcu1525", *changes.items())


def trained(rows: Floats) -> Floats:
    """The same products in a training step, where N:M weights are made."""
    rows[:, ProblemColumn.TRAIN_STAGE] = TrainStage.FORWARD
    return rows


def priced(target: KernelMachine, rows: Floats, kernel: str = "best") -> Prices:
    return target.price(target.lower_problems(rows, kernel=kernel))


def chosen(target: SatMachine, m: int, n: int, k: int, pattern: str, batch: int = 1) -> tuple[Floats, Floats]:
    """The product row and its mapping row."""
    rows = trained(gemm_problems(m, n, k, pattern=pattern, batch=batch))
    kept, group = executed_nm(rows, target.spec.nm_max_m.value)
    product = products(rows, kept, group)
    return product[0], schedule(target.hardware, product)[0]


small_machines = st.builds(
    lambda **changes: built(**(SMALL | changes)),
    array_rows=st.integers(1, 6),
    array_cols=st.integers(1, 6),
    interleave=st.booleans(),
    dataflow=st.sampled_from(["ws", "os", "best"]),
    pregeneration=st.booleans(),
    double_buffering=st.booleans(),
    dram_channels=st.sampled_from([1, 64]),
    traffic_share=st.sampled_from([0.0, 0.02]),
    activation_buffer_bytes=st.just(2**15),
    weight_buffer_bytes=st.just(2**14),
    output_buffer_bytes=st.just(2**13),
)
extents = st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
nm_texts = st.sampled_from(["1:4", "2:4", "3:4", "1:8", "2:8", "5:8"])
quick = settings(max_examples=40, deadline=None)
