"""The FPGA schedule against plain loops: compiled code, totals, the pace of tiles, the choice of dataflow."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from types import ModuleType

import numba
import numpy as np
import pytest
from fpga_tools import (
    built,
    chosen,
    extents,
    nm_texts,
    quick,
    small_machines,
    trained,
)
from hypothesis import given
from hypothesis import strategies as st

from accel_models.fpga.columns import Mapping, Product
from accel_models.fpga.machine import SatMachine
from accel_models.fpga.pricing import Term
from accel_models.fpga.spec import Hardware
from simsparse.plan import Floats, ProblemColumn
from simsparse.problems import gemm_problems
from simsparse.tiles import tiles_of

MODULES = [f"accel_models.fpga.{name}" for name in ("_array", "_tiling", "_search")]


@pytest.fixture(scope="module")
def plain_search() -> Iterator[ModuleType]:
    """The compiled search once more, as plain Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba, "njit", lambda **_: lambda function: function)
        for name in MODULES:
            patch.setattr(name, sys.modules[name])  # what importing again replaces in the package
            patch.delitem(sys.modules, name)
        yield importlib.import_module(MODULES[-1])


either_schedule = st.tuples(small_machines, st.booleans()).map(
    lambda drawn: built(**{n: f.value for n, f in drawn[0].spec.figures()} | {"offline_scheduling": drawn[1]})
)


@quick
@given(either_schedule, extents, nm_texts | st.just("dense"))
def test_compiled_schedule_equals_plain_python(
    plain_search: ModuleType, target: SatMachine, mnk: tuple[int, int, int], pattern: str
) -> None:
    product, mapping = chosen(target, *mnk, pattern, batch=3)
    plain = np.zeros(len(Mapping))
    plain_search.search(target.hardware[0], product, plain)
    assert plain.tolist() == mapping.tolist()


def pieces(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def walked_bytes(p: Floats, x: Floats) -> tuple[float, float]:
    """Bytes of A and B, tile by tile, each read when it is not the one that lies there."""
    tiles_m = pieces(int(p[Product.M]), int(x[Mapping.TILE_M]))
    tiles_n = pieces(int(p[Product.N]), int(x[Mapping.TILE_N]))
    tiles_k = pieces(int(p[Product.K]), int(x[Mapping.TILE_K]))
    group = int(p[Product.GROUP])
    outer = [(m, n) for m in range(len(tiles_m)) for n in range(len(tiles_n))]
    if x[Mapping.OUTER] == 1:
        outer.sort(key=lambda tile: (tile[1], tile[0]))
    a_bytes, b_bytes, a_there, b_there = 0.0, 0.0, (-1, -1), (-1, -1)
    for m, n in outer:
        for k in range(len(tiles_k)):
            if (m, k) != a_there:
                a_bytes += tiles_m[m] * math.ceil(tiles_k[k] / group) * p[Product.A_READ_BYTES]
            if (k, n) != b_there:
                b_bytes += tiles_k[k] * tiles_n[n] * p[Product.B_BYTES]
            a_there, b_there = (m, k), (k, n)
    return a_bytes, b_bytes


@quick
@given(either_schedule, extents, nm_texts | st.just("dense"))
def test_totals_are_those_of_a_walk_over_tiles(target: SatMachine, mnk: tuple[int, int, int], pattern: str) -> None:
    p, x = chosen(target, *mnk, pattern)
    hw = target.hardware[0]
    a_bytes, b_bytes = walked_bytes(p, x)
    assert x[Mapping.A_BYTES] == pytest.approx(a_bytes, rel=1e-12)
    assert x[Mapping.B_BYTES] == pytest.approx(b_bytes, rel=1e-12)
    share = 0.5 if hw[Hardware.DOUBLE] else 1.0
    groups = math.ceil(x[Mapping.TILE_K] / p[Product.GROUP])
    assert x[Mapping.TILE_M] * groups * p[Product.A_GROUP_BYTES] <= share * hw[Hardware.WEIGHT_BUFFER]
    assert x[Mapping.B_TILE_BYTES] <= share * hw[Hardware.ACTIVATION_BUFFER]
    assert x[Mapping.TILE_M] * x[Mapping.TILE_N] * p[Product.SUM_BYTES] <= share * hw[Hardware.OUTPUT_BUFFER]


@quick
@given(small_machines, extents, nm_texts | st.just("dense"), st.integers(1, 6), st.sampled_from([0, 3]))
def test_pace_is_that_of_a_walk_over_tiles(
    target: SatMachine, mnk: tuple[int, int, int], pattern: str, batch: int, read: int
) -> None:
    """While a tile is computed, the next is loaded and the output before is stored; only few kinds are looked at."""
    rows = trained(gemm_problems(*mnk, pattern=pattern, batch=batch))
    rows[:, ProblemColumn.READ_BYTES] = read * batch * mnk[0] * mnk[1]
    plan = target.lower_problems(rows)
    found, work = target.price(plan).terms_s[0], target.tiles(plan)
    if not target.spec.double_buffering.value:
        assert found[Term.HEAD : Term.DRAM].tolist() == [0, 0, 0]
        return
    stage = len(work) - 1  # after what is made before
    tiles = tiles_of(work, stage, 10**9)
    load, store = (
        np.where(np.array(moved) > 0, np.array(moved) / work.bytes_per_s + work.gap_s, 0.0)
        for moved in (tiles.load_bytes, tiles.store_bytes)
    )
    steps = np.array(tiles.compute_s) + tiles.dependency_s + tiles.exchange_s
    steps[0] += work.fill_s[stage]
    beside = np.append(load[1:], 0.0)
    beside[tiles.steps :: tiles.steps] += store[:-1]
    array = found[: Term.HEAD].sum()
    assert found[Term.HEAD] == pytest.approx(load[0])
    assert found[Term.TAIL] == pytest.approx(store[-1])
    assert array + found[Term.STARVED] == pytest.approx(max(array, np.maximum(steps, beside).sum()))
