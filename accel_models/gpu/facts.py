"""What the price of a call on a card is made of, for `simsparse explain`: tiles, work, rates, constants with sources.

The terms of a product (`engine.product_terms`), of a block of threads each, in figures that facts name:

    compute = waves × cycles a block multiplies / clock
    smem    = waves × (what warps read + what the tile writes) / (bytes a clock × clock)
    l2      = waves × (operands of the tile + its outputs) / (an SM's share of the bytes a clock × clock)
    issue   = waves × rows of the tile × K × issue_cycles / clock
    dram    = operands, as often as L2 loses them, and outputs / (bandwidth × card.dram_fraction × dram_fraction)
    fill    = rounds of resident blocks × fill_s + the last round's outputs / rate of L2 or memory
              (where rows are chains of loads: their latency beyond what other rows do in the meantime)
    tail    = (whole waves − waves) × core of a block
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from accel_models.gpu.columns import Card, Map
from accel_models.gpu.engine import LANE_ROWS, LANE_TILES, NM_TILES
from accel_models.gpu.fitted import FOLDER
from accel_models.gpu.tunables import CARD
from simsparse.plan import COMPUTE_TYPES, Fact, Floats, Plan, ProblemColumn, ProblemKind
from simsparse.specs import read_toml

if TYPE_CHECKING:
    from accel_models.gpu.machine import GpuMachine

C = ProblemColumn
LANES = 32.0  # of a warp's instruction
# Reduction of one dense mma of 16 x 8 outputs (PTX ISA, recalled): 256 bits of a row of A, 128 on Turing; Volta's is
# 8 x 8 x 4. Hopper and data-centre Blackwell issue groups of these as one.
MMA_OUTPUTS, MMA_BITS, TURING_BITS = 16.0 * 8.0, 256.0, 128.0
VOLTA_MACS = 8.0 * 8.0 * 4.0
_TYPE_BITS = {"tf32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4, "fp4": 4, "fp32": 32, "fp64": 64}


def facts(machine: GpuMachine, plan: Plan, row: int) -> tuple[Fact, ...]:
    """Facts of one call of a plan."""
    problem, mapping = plan.problem[row], plan.mapping[row]
    if problem[C.KIND] != ProblemKind.GEMM:
        return tuple(_constants(machine, plan, row))
    return (*_tiles(machine.card, mapping), *_work(machine, problem, mapping), *_constants(machine, plan, row))


def _tiles(card: Floats, row: Floats) -> Iterator[Fact]:
    tile_m, tile_n, split = row[Map.TILE_M], row[Map.TILE_N], row[Map.SPLIT_K]
    down, across = np.ceil(row[Map.M] / tile_m), np.ceil(row[Map.N] / tile_n)
    blocks = down * across * row[Map.BATCH] * split
    waves = blocks / card[Card.SM_COUNT]
    for name, value, source in (
        ("tile", f"{tile_m:.0f} × {tile_n:.0f}", "M × N of a thread block, the fastest of its kernel's menu"),
        ("split of K", float(split), "blocks that share one tile of the output"),
        ("thread blocks", float(blocks), f"{down:.0f} × {across:.0f} tiles × split × batch"),
        ("blocks an SM holds", float(row[Map.RESIDENT]), "by registers and shared memory of the tile, at most 8"),
        ("waves", float(waves), "thread blocks over SMs"),
        ("last wave filled", float(waves - np.ceil(waves) + 1.0), "what is missing of it is the tail"),
        ("tile area used", float(row[Map.M] * row[Map.N] / (down * across * tile_m * tile_n)), "M × N over its tiles"),
        ("busiest SM over mean", float(row[Map.IMBALANCE]), "by where nonzeros are"),
    ):
        yield Fact("tiles", name, value, "", source)


def _work(machine: GpuMachine, problem: Floats, row: Floats) -> Iterator[Fact]:
    down, across = np.ceil(row[Map.M] / row[Map.TILE_M]), np.ceil(row[Map.N] / row[Map.TILE_N])
    padded = down * row[Map.TILE_M] * across * row[Map.TILE_N] * row[Map.K] * row[Map.BATCH]
    dense = problem[C.M] * problem[C.N] * problem[C.K] * problem[C.BATCH]
    on_lanes = row[Map.MENU] in (LANE_TILES, NM_TILES, LANE_ROWS)
    plain_rate = (machine.rates.simt if on_lanes else machine.rates.tensor)(problem[None])[0]
    gain = row[Map.RATE] / plain_rate if plain_rate else 1.0
    type_name = COMPUTE_TYPES[int(problem[C.COMPUTE])]
    macs, unit = (LANES, "FMA of a warp") if on_lanes else _mma(machine.rates.capability, type_name)
    stored = row[Map.M] * row[Map.K] * row[Map.A_STORED] * row[Map.BATCH]
    values = dense / problem[C.N] * problem[C.A_BITS] / 8
    once = row[Map.N] * row[Map.K] * row[Map.B_BYTES] * row[Map.B_TOUCHED] * row[Map.BATCH]
    for name, value, unit_of, source in (
        ("MACs of the dense product", dense, "", "M × N × K"),
        ("MACs executed", dense * row[Map.EXECUTED] if row[Map.K] == problem[C.K] else padded, "", "without padding"),
        (f"instructions, {unit}", padded / (macs * gain), "", f"padded MACs over {macs:.0f} × {gain:.3g} of each"),
        ("cycles a block multiplies", _cycles(row), "", "tile × K / split over the rate it sustains"),
        ("A in memory", stored, "B", "values kept and what tells their places"),
        ("A in memory over dense", stored / values, "", ""),
        ("B, each row once", once, "B", "without rows that nothing needs"),
        ("rows of B a group of A needs", row[Map.B_KEPT], "", "of those that its tile covers"),
    ):
        yield Fact("work", name, float(value), unit_of, source)


def _cycles(row: Floats) -> float:
    k = np.ceil(row[Map.K] / row[Map.SPLIT_K])
    return float(row[Map.TILE_M] * row[Map.TILE_N] * k / (row[Map.RATE] * row[Map.EFFICIENCY]))


def _mma(capability: float, type_name: str) -> tuple[float, str]:
    """Multiply-accumulates of one dense instruction of a warp, and its shape."""
    if capability < 7.5:
        return VOLTA_MACS, "mma of 8 × 8 × 4"
    bits = MMA_BITS if capability >= 8.0 else TURING_BITS
    k = bits / _TYPE_BITS[type_name]
    return MMA_OUTPUTS * k, f"mma of 16 × 8 × {k:.0f}"


def _constants(machine: GpuMachine, plan: Plan, row: int) -> Iterator[Fact]:
    """Figures of the card, and what is fitted or assumed of card and kernel."""
    spec, mapping = machine.spec, plan.mapping[row]
    kernel = machine.family_of(machine.kernel_names[int(plan.kernel[row])])
    for name, figure, unit in (
        ("SMs", spec.sm_count, ""),
        ("clock of tensor cores", spec.tensor_clock_hz or spec.boost_clock_hz, "Hz"),
        ("memory bandwidth", spec.dram_bandwidth_bytes_per_s, "B/s"),
        ("L2", spec.l2_bytes, "B"),
        ("L2 to SMs, bytes a clock", spec.l2_bytes_per_clock, ""),
        ("shared memory, bytes a clock and SM", spec.smem_bytes_per_clock, ""),
        ("power limit", spec.tdp_w, "W"),
    ):
        yield Fact("rates", name, float(figure.value), unit, figure.source)
    said = "assumed: 2 where warps load fragments themselves, 4 where tensor cores read shared memory"
    yield Fact("constants", "p of the rule", float(machine.card[Card.OVERLAP]), "", said)
    if mapping[Map.RATE] > 0.0:
        yield from _rate(machine, plan.problem[row], mapping)
    for name, value in machine.reached.model_dump().items():
        yield Fact("constants", f"{CARD}.{name}", float(value), "", _said(machine, CARD, name))
    for name, value in machine.constants.of(kernel).numbers.items():
        unit = "s" if name.endswith("_s") else ""
        yield Fact("constants", f"{kernel}.{name}", float(value), unit, _said(machine, kernel, name))


def _rate(machine: GpuMachine, problem: Floats, mapping: Floats) -> Iterator[Fact]:
    name = COMPUTE_TYPES[int(problem[C.COMPUTE])]
    figures = dict(machine.spec.figures())
    for key in (f"mac_rate.{name}", f"mac_rate.{name}_acc16", f"sparse_rate.{name}"):
        if key in figures:
            yield Fact("rates", key, float(figures[key].value), "", figures[key].source)
    said = "multiply-accumulates a clock and SM at which the kernel counts, zeros included"
    yield Fact("work", "MACs a clock and SM", float(mapping[Map.RATE]), "", said)


def _said(machine: GpuMachine, owner: str, name: str) -> str:
    """Where a constant comes from."""
    own = machine.spec.constants.get(owner, {}).get(name)
    if own is not None:
        return own.source
    if owner == CARD:
        fitted = machine.name in machine.constants.cards
        return "fitted on this card" if fitted else "mean of cards of its kind of memory"
    if name not in machine.constants.of(owner).free:
        return "assumed"
    return _fitted_on().get(owner, "fitted")


@lru_cache(maxsize=1)
def _fitted_on() -> dict[str, str]:
    """What each family was fitted on, in words."""
    families = read_toml(FOLDER / "fit.toml")["families"]
    return {name: f"fitted on {sum(said['rows'].values())} rows of {len(said['rows'])} cards"
            for name, said in families.items()}  # fmt: skip
