"""Which FPGA kernel runs a pattern, and why not another."""

from __future__ import annotations

import math

import pytest
from fpga_tools import (
    built,
    priced,
)

from accel_models.fpga.columns import Mapping
from accel_models.fpga.kernels import executed_nm
from accel_models.fpga.pricing import Term
from simsparse.dtypes import dtype
from simsparse.errors import UnsupportedError
from simsparse.ops import Role, Tensor, linear
from simsparse.plan import HasRooflines, ProblemColumn, Roofs, roofs
from simsparse.problems import gemm_problems
from simsparse.sparsity import PatternColumn, parse
from simsparse.workload import Phase, Workload

NOT_SHRUNK = "no whole rows or slices are zero"


def reasons(pattern: str, **changes: object) -> dict[str, str]:
    """Kernel taken and, by kernel, why others were not."""
    fp16 = dtype("fp16")
    weight = Tensor("up.weight", (512, 1024), fp16, Role.WEIGHT, parse(pattern))
    x, y = (Tensor(name, (256, size), fp16, Role.ACTIVATION) for name, size in (("x", 1024), ("y", 512)))
    work = Workload("one", Phase.ENCODE, 1, 256, fp16, (linear("up", weight, x, y, tokens=256),))
    (call,) = built(**changes).lower(work).calls
    return {"taken": call.kernel} | {other.kernel: other.reason for other in call.alternatives}


@pytest.mark.parametrize("pattern", ["2:4", "1:16", "vnm64:2:8", "nmv32:4:8", "2:32"])
def test_patterns_that_hold_an_nm_run_by_it(pattern: str) -> None:
    assert reasons(pattern) == {"taken": "sat-nm", "sat-dense": "slower", "sat-shrunk": NOT_SHRUNK}


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("dense", "nothing is zero"),
        ("unstructured:0.9", "the pattern guarantees no N:M with N < M along the reduction"),
        ("block16x16:0.5", "the pattern guarantees no N:M with N < M along the reduction"),
        ("31:32", "M is larger than the 16 that elements take"),
    ],
)
def test_patterns_without_run_dense_and_say_why(pattern: str, reason: str) -> None:
    assert reasons(pattern) == {"taken": "sat-dense", "sat-nm": reason, "sat-shrunk": NOT_SHRUNK}


@pytest.mark.parametrize(("pattern", "left"), [("rows:0.5", (2048, 512, 4096)), ("slice:0.75", (4096, 512, 1024))])
def test_whole_rows_and_slices_leave_a_smaller_dense_product(pattern: str, left: tuple[int, int, int]) -> None:
    assert reasons(pattern)["taken"] == "sat-shrunk"
    whole, shrunk = gemm_problems(4096, 512, 4096), gemm_problems(4096, 512, 4096, pattern=pattern)
    small = priced(built(), gemm_problems(*left))
    found = priced(built(), shrunk)
    for name in ("latency_s", "dynamic_j", "level_bytes", "terms_s", "roofline_s"):
        assert getattr(found, name).tolist() == getattr(small, name).tolist(), name
    fraction = math.prod(left) / (4096 * 512 * 4096)
    assert found.latency_s[0] == pytest.approx(priced(built(), whole).latency_s[0] * fraction, rel=0.02)
    # Speedups and effective rates count the dense work.
    assert found.flops[0] == 2 * 4096 * 512 * 4096


def test_an_epilogue_writes_no_more_than_is_left() -> None:
    """What it writes in place of the output of which nine tenths are gone."""
    rows = gemm_problems(512, 256, 1024, pattern="rows:0.9")
    rows[:, ProblemColumn.WRITE_BYTES] = -512 * 256
    target = built()
    plan = target.lower_problems(rows)
    _, x = plan.problem[0], plan.mapping[0]
    assert x[Mapping.C_BYTES] == 51 * 256 * 2
    assert target.price(plan).level_bytes[0, 0] == x[Mapping.A_BYTES] + x[Mapping.B_BYTES]


def test_a_measured_mask_runs_by_the_nm_it_holds() -> None:
    rows = gemm_problems(512, 256, 1024)
    rows[:, ProblemColumn.PATTERN :] = parse("unstructured:0.8").columns()
    rows[:, ProblemColumn.PATTERN + PatternColumn.KIND] = 12
    rows[:, ProblemColumn.PATTERN + PatternColumn.HOLDS] = 0b1001  # 2:4 and 2:8
    n, m = executed_nm(rows, 16)
    assert (n[0], m[0]) == (2, 8)
    n, m = executed_nm(rows, 4)
    assert (n[0], m[0]) == (2, 4)


def test_rooflines_are_those_of_the_array_and_the_memory() -> None:
    target = built()
    assert isinstance(target, HasRooflines)
    peak = 2 * 32 * 32 * 200e6
    found = roofs(target, gemm_problems(64, 64, 64))
    assert found == Roofs((("fp16", peak), ("fp16 2:4", 2 * peak)), 4 * 19.2e9)
    assert target.peak_flops_per_s("fp32") == 0.0
    dense_only = built(nm_max_m=2)
    assert dense_only.peak_flops_per_s("bf16", sparse=True) == peak
    busy = priced(target, gemm_problems(8192, 8192, 8192, pattern="2:4"))
    assert 0.95 < busy.flops[0] / busy.latency_s[0] / (2 * peak) < 1.0
    assert "dram" in busy.level_names


def test_a_call_that_memory_holds_up_is_bound_by_memory() -> None:
    product = gemm_problems(2048, 64, 2048, pattern="1:16")
    for bandwidth, bound in ((1e9, "dram"), (1e30, "compute")):
        found = priced(built(dram_bytes_per_s_per_channel=bandwidth), product)
        terms = found.terms_s[0]
        assert found.term_names[found.bound[0]] == bound
        assert bool(terms[Term.DRAM] > terms[: Term.HEAD].sum()) is (bound == "dram")
        assert found.latency_s[0] >= terms[Term.DRAM]


def test_other_types_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="elements multiply fp16 and bf16 only"):
        priced(built(), gemm_problems(64, 64, 64, a_dtype="fp32"))
