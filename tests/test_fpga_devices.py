"""FPGA devices: figures of the evidence, resources, what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from fpga_tools import (
    machine,
    priced,
    spec,
)

from accel_models.fpga import FAMILY
from accel_models.fpga.resources import available, fabric_figures, needed
from accel_models.fpga.spec import Fabric
from simsparse.errors import InputError, UnsupportedError
from simsparse.problems import gemm_problems


@pytest.mark.parametrize("name", sorted(FAMILY.files))
def test_shipped_machines_fit_their_device_and_stay_below_its_power(name: str) -> None:
    target = machine(name)
    takes, has = needed(target.spec), available(target.spec)
    assert all(getattr(takes, field) <= getattr(has, field) for field in ("dsp", "lut", "ff", "bram", "uram"))
    found = priced(target, gemm_problems(4096, 4096, 4096))
    assert found.energy_j[0] / found.latency_s[0] < target.spec.board_w.value
    assert all(figure.source for _, figure in target.spec.figures())
    assert "array_rows" in target.provenance.assumed
    assert target.provenance.unverified


def test_power_of_a_busy_u280_is_that_of_designs_on_it(evidence: Path) -> None:
    with (evidence / "published" / "fpga.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "power_W" and row["device"] == "Alveo U280"]
    listed = [float(row["value"]) for row in rows]
    found = priced(machine("sat-u280"), gemm_problems(8192, 8192, 8192))
    assert len(listed) >= 2
    assert min(listed) <= found.energy_j[0] / found.latency_s[0] <= max(listed)


DEVICES = {
    "sat-vcu1525": "VCU1525 (XCVU9P)", "sat-u280": "Alveo U280", "sat-u50": "Alveo U50", "sat-vcu128": "VCU128",
    "sat-zcu102": "ZCU102", "sat-stratix10-mx": "Stratix 10 MX 2100", "sat-vhk158": "VHK158",
}  # fmt: skip
FIELDS = {
    "dsp48e2": "dsp", "dsp58": "dsp", "dsp": "dsp", "lut": "lut", "ff": "ff", "bram36": "bram", "m20k": "bram",
    "uram": "uram", "process_nm": "process_nm", "board_power_limit_W": "board_w",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FAMILY.files))
def test_device_figures_are_those_of_the_evidence(name: str, evidence: Path) -> None:
    found = spec(name)
    with (evidence / "published" / "devices.csv").open(encoding="utf-8") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file) if row["system"] == DEVICES[name]}
    compared = 0
    for metric, field in FIELDS.items():
        if metric in rows:
            figure = getattr(found, field)
            assert figure.value == float(rows[metric]["value"]), metric
            assert figure.unverified == (rows[metric]["quality"] == "recalled"), metric
            compared += 1
    if "hbm_GB" in rows:
        assert found.memory_bytes.value == float(rows["hbm_GB"]["value"]) * 2**30
        compared += 1
    assert compared >= 3
    bandwidth = next(rows[m] for m in ("hbm_bw_GBps", "mem_bw_GBps") if m in rows)
    assert found.dram_peak_bytes_per_s == pytest.approx(float(bandwidth["value"]) * 1e9)


def test_architecture_figures_are_those_of_the_evidence(evidence: Path) -> None:
    with (evidence / "published" / "sat.csv").open(encoding="utf-8") as file:
        rows = {row["metric"]: row["value"] for row in csv.DictReader(file)}
    found = spec()
    assert found.reduction_lanes.value == int(rows["sore_lanes"])
    assert f"{found.array_rows.value}x{found.array_cols.value}" == rows["stce_array"]
    assert found.clock_hz.value == float(rows["clock_MHz"]) * 1e6
    # Neither of these two could be looked up.
    assert found.array_rows.assumed
    assert found.clock_hz.assumed


@pytest.mark.parametrize(
    ("changes", "needs", "has"),
    [
        ({"array_rows": 48, "array_cols": 48}, "7936 DSP blocks", "6840"),
        ({"nm_max_m": 64}, "3327840 flip-flops", "2364480"),
        ({"activation_buffer_bytes": 2**26}, "2048 UltraRAMs", "960"),
    ],
)
def test_a_design_that_exceeds_the_device_is_refused(changes: dict[str, object], needs: str, has: str) -> None:
    with pytest.raises(UnsupportedError) as refusal:
        FAMILY.build(spec(**changes))
    assert str(refusal.value) == f"machine 'sat-vcu1525' needs {needs}, expected at most the {has} of its device"


def test_weights_that_stay_need_registers_that_grow_with_m() -> None:
    """Two copies of a register of 20 flip-flops an element; where outputs stay, one weight at a time will do."""
    elements = 32 * 32
    for m in (8, 16):
        staying, passing = (needed(spec(nm_max_m=m, dataflow=name)).ff for name in ("ws", "os"))
        assert staying - passing == elements * (m - 1) * 2 * 20


def test_buffers_that_hold_no_tile_are_refused() -> None:
    with pytest.raises(InputError) as refusal:
        FAMILY.build(spec(weight_buffer_bytes=1024))
    expected = "weight_buffer_bytes of machine 'sat-vcu1525' is 1024.0, expected at least 262144 bytes, to hold a tile"
    assert str(refusal.value) == expected


@pytest.mark.parametrize(
    "changes", [{"dram_channels": 0}, {"array_rows": 0}, {"dram_efficiency": 1.5}, {"dataflow": "is"}]
)
def test_figures_that_cannot_be_are_refused(changes: dict[str, object]) -> None:
    (field,) = changes
    with pytest.raises(InputError, match=field):
        spec(**changes)


def test_element_costs_say_that_they_are_assumed() -> None:
    for fabric in Fabric:
        figures = dict(fabric_figures(fabric).figures())
        assert all(figure.assumed for name, figure in figures.items() if name.count(".") == 1)
