"""What the price of a call on the accelerator is made of, for `simsparse explain`: tiles, cycles, bytes, figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from accel_models.fpga.columns import Mapping
from simsparse.plan import Fact, Floats, Plan, ProblemColumn, ProblemKind

if TYPE_CHECKING:
    from accel_models.fpga.spec import SatSpec


def facts(spec: SatSpec, plan: Plan, row: int) -> tuple[Fact, ...]:
    """Facts of one call of a plan."""
    product = plan.problem[row, ProblemColumn.KIND] == ProblemKind.GEMM
    return (*(_tiles(plan.mapping[row]) if product else ()), *_figures(spec))


def _tiles(row: Floats) -> Iterator[Fact]:
    stays = "output-stationary" if row[Mapping.DATAFLOW] else "weight-stationary"
    nest = "N outside, tiles of B stay" if row[Mapping.OUTER] else "M outside, tiles of A stay"
    sizes = " × ".join(f"{row[c]:.0f}" for c in (Mapping.TILE_M, Mapping.TILE_N, Mapping.TILE_K))
    counts = " × ".join(f"{row[c]:.0f}" for c in (Mapping.TILES_M, Mapping.TILES_N, Mapping.TILES_K))
    yield Fact("tiles", "dataflow", stays, "", "of the array")
    yield Fact("tiles", "tile", sizes, "", "M × N × K, the fastest that buffers hold")
    yield Fact("tiles", "tiles", counts, "", "along M, N and K, the reduction innermost")
    yield Fact("tiles", "loops", nest, "", "which of A and B stays on chip while the other loop runs")
    yield Fact("work", "multiplied of a group", f"{row[Mapping.KEPT]:.0f} of {row[Mapping.GROUP]:.0f}", "", "N of M")
    for name, column, unit, source in (
        ("array cycles", Mapping.ARRAY_CYCLES, "", "all tiles: issue, waits, and what did not move in time"),
        ("issue cycles", Mapping.ISSUE_CYCLES, "", "one multiply-accumulate a cycle, idle elements included"),
        ("waits for sums", Mapping.STALL_CYCLES, "", "of the same output, in the pipeline of the adder"),
        ("skew cycles", Mapping.SKEW_CYCLES, "", "first weights in, wavefront, last sums out"),
        ("A from memory", Mapping.A_BYTES, "B", "as often as tiles are loaded"),
        ("B from memory", Mapping.B_BYTES, "B", "the same"),
        ("C to memory", Mapping.C_BYTES, "B", "with partial sums that come back"),
    ):
        yield Fact("work", name, float(row[column]), unit, source)


def _figures(spec: SatSpec) -> Iterator[Fact]:
    for name, unit in (
        ("array_rows", ""), ("array_cols", ""), ("clock_hz", "Hz"), ("mac_pipeline_depth", ""),
        ("dram_channels", ""), ("dram_bytes_per_s_per_channel", "B/s"), ("weight_buffer_bytes", "B"),
        ("activation_buffer_bytes", "B"), ("output_buffer_bytes", "B"),
    ):  # fmt: skip
        figure = getattr(spec, name)
        yield Fact("rates", name, float(figure.value), unit, figure.source)
    for name, unit in (("dram_efficiency", ""), ("dram_gap_s", "s"), ("energy_over_asic", "")):
        figure = getattr(spec, name)
        yield Fact("constants", name, float(figure.value), unit, figure.source)
