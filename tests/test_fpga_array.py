"""Cycles of the systolic array: closed form and walk against a model that moves every value, cycle by cycle."""

from __future__ import annotations

import array_reference as reference
import numpy as np
from fpga_tools import FREE_MEMORY, SMALL, built, chosen
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.fpga._array import array_cycles
from accel_models.fpga.columns import Mapping
from accel_models.fpga.spec import Hardware as H
from accel_models.fpga.walk import Grid, Work, ends, walked
from simsparse.plan import Floats

shapes = st.builds(
    lambda rows, cols, depth, turns, double: reference.Shape(rows, cols, depth, depth if turns else 1, double),
    st.integers(1, 8), st.integers(1, 8), st.integers(1, 6), st.booleans(), st.booleans(),
)  # fmt: skip
# N, M; outputs, tokens, groups; groups an element holds, 0 for output-stationary; tokens and groups of a tile.
patterns = st.sampled_from([(1, 1), (1, 4), (2, 4), (3, 4), (2, 8)])
extents = st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14))
tiles = st.tuples(st.integers(0, 3), st.integers(1, 14), st.integers(1, 14))


def hardware(shape: reference.Shape) -> Floats:
    row = np.zeros(len(H))
    row[[H.ROWS, H.COLS, H.DEPTH, H.INTERLEAVE, H.DOUBLE]] = (
        shape.rows, shape.cols, shape.depth, shape.turns, shape.double
    )  # fmt: skip
    return row


@settings(max_examples=300, deadline=None)
@given(shapes, patterns, extents, tiles, st.integers(0, 2**32 - 1))
def test_cycles_are_those_of_an_array_that_moves_every_value(
    shape: reference.Shape, nm: tuple[int, int], mng: tuple[int, int, int], tile: tuple[int, int, int], seed: int
) -> None:
    """Dense and N:M, both dataflows, with and without interleaving and double registers; and it multiplies right."""
    (kept, group), (m, n, groups) = nm, mng
    held, tile_n, tile_groups = tile[0], min(tile[1], n), min(tile[2], groups)
    rng = np.random.default_rng(seed)
    a = reference.Sparse.draw(m, groups, kept, group, rng)
    b = rng.integers(1, 9, (groups * group, n)).astype(float)
    if held:
        product, cycles = reference.weight_stationary(shape, a, b, held, tile_n)
    else:
        product, cycles = reference.output_stationary(shape, a, b, tile_n, tile_groups)
    assert product.tolist() == (a.dense() @ b).tolist()
    steady, issue, stall, once = array_cycles(hardware(shape), kept, mng, held, (tile_n, tile_groups))
    assert steady + once == cycles
    assert steady >= issue + stall

    grid = Grid(shape.rows, shape.cols, shape.depth, shape.turns, shape.double)
    work = Work(m, n, groups, kept, held)
    found = walked(grid, work)
    whole = array_cycles(hardware(shape), kept, mng, held, (n, groups))
    assert (found.total, found.multiply, found.dependency, ends(grid, work, work)) == whole


def test_interleaving_hides_the_pipeline() -> None:
    """Depth 4: without it an element waits 3 cycles for every sum, and does a quarter of the work."""
    shape = reference.Shape(rows=2, cols=2, depth=4, turns=4, double=True)
    b = np.ones((32, 16))
    a = reference.Sparse.draw(2, 4, 2, 8, np.random.default_rng(0))
    _, with_turns = reference.weight_stationary(shape, a, b, 2, 16)
    alone = reference.Shape(rows=2, cols=2, depth=4, turns=1, double=True)
    _, without = reference.weight_stationary(alone, a, b, 2, 16)
    # 16 tokens, 4 weights an element: 64 products, or 16 · (3 · 4 + 1); then weights in, the second row, the way out.
    ends_of_both = 2 * 4 + 4 * 4 + 2 - 2 + 4
    assert (with_turns, without) == (64 + ends_of_both, 16 * 13 + ends_of_both)


def test_a_small_product_by_hand() -> None:
    """4 x 4 elements, depth 4; C[8, 8] = A[8, 32] · B[32, 8] in 2:8."""
    _, x = chosen(built(**SMALL, dataflow="ws", **FREE_MEMORY), 8, 8, 32, "2:8")
    # 4 groups on 4 rows: one pass of 2 steps for each of 8 tokens and 2 blocks of outputs; 4 x 2 weights shift in less.
    assert x[Mapping.ARRAY_CYCLES] == 2 * 8 * 2
    assert x[Mapping.SKEW_CYCLES] == 4 * 2 + 3 * 2 * 4 + 4 - 2 + 4
    assert x[Mapping.STALL_CYCLES] == 0
    _, y = chosen(built(**SMALL, dataflow="ws", interleave=False, **FREE_MEMORY), 8, 8, 32, "2:8")
    # Without interleaving the second step of each token waits for the first: 5 cycles a token instead of 2.
    assert y[Mapping.ARRAY_CYCLES] == 2 * 8 * 5
    assert y[Mapping.STALL_CYCLES] == 2 * 8 * 3
    _, z = chosen(built(**SMALL, dataflow="os", **FREE_MEMORY), 8, 8, 32, "2:8")
    # 4 x 2 steps of the 2 outputs that each column has: they are fewer than the pipeline is deep.
    assert z[Mapping.ARRAY_CYCLES] == 2 * (7 * 4 + 2)
    assert z[Mapping.STALL_CYCLES] == 2 * 7 * 2
