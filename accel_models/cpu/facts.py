"""What the price of a call on a CPU is made of, for `simsparse explain`: work, shares of threads, rates, constants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from accel_models.cpu.chip import TYPES
from accel_models.cpu.columns import MapColumn
from simsparse.plan import Fact, Floats, Plan

if TYPE_CHECKING:
    from accel_models.cpu.machine import CpuMachine


def facts(machine: CpuMachine, plan: Plan, row: int) -> tuple[Fact, ...]:
    """Facts of one call of a plan."""
    return (*_work(machine, plan.mapping[row]), *_figures(machine, plan.mapping[row]))


def _work(machine: CpuMachine, row: Floats) -> Iterator[Fact]:
    threads = machine.chip.threads
    units = row[MapColumn.UNITS]
    fullest = np.ceil(units / threads) / units * threads * row[MapColumn.UNEVEN]
    for name, column, unit, source in (
        ("MACs executed", MapColumn.MACS, "", "padding included"),
        ("core cycles of arithmetic", MapColumn.CORE_CYCLES, "", "of all threads together"),
        ("core cycles of indices", MapColumn.INDEX_CYCLES, "", "indices, decompression, conversion; of all threads"),
        ("vector instructions", MapColumn.INSTRUCTIONS, "", "multiply-adds, loads and others"),
        ("core cycles at peak", MapColumn.ROOF_CYCLES, "", "no padding, nothing but multiply-adds"),
        ("stored weight", MapColumn.WEIGHT_BYTES, "B", "values and what tells their places"),
        ("pieces of work", MapColumn.UNITS, "", "that threads share"),
        ("overhead cycles", MapColumn.OVERHEAD_CYCLES, "", "of one thread, before and after the work"),
    ):
        yield Fact("work", name, float(row[column]), unit, source)
    yield Fact("work", "cores busy", float(min(threads, units)), "", "threads that have a piece of work")
    yield Fact("work", "fullest thread over mean", float(fullest), "", "by pieces, and by where nonzeros are")


def _figures(machine: CpuMachine, row: Floats) -> Iterator[Fact]:
    chip, constants = machine.chip, machine.constants
    kind = int(row[MapColumn.TYPE])
    for name, value, unit in (
        ("threads", float(chip.threads), ""),
        ("clock under load", chip.clock_hz, "Hz"),
        (f"{TYPES[kind]} MACs a cycle and core", float(max(chip.rates[kind], chip.matrix_rates[kind])), ""),
        ("L2, one core", chip.l2_bytes_per_s, "B/s"),
        ("shared cache, one core", chip.l3_bytes_per_s, "B/s"),
        ("memory, one core", chip.dram_core_bytes_per_s, "B/s"),
        ("memory, all cores at peak", chip.dram_bytes_per_s, "B/s"),
    ):
        yield Fact("rates", name, value, unit, f"spec of {machine.name}")
    for name in ("exposed", "dram_exposed", "dram_fraction"):
        constant = getattr(constants, name)
        yield Fact("constants", name, constant.value, "", constant.source)
