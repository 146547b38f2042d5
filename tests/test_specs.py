"""Specs of GPUs: every file reads, and agrees with the datasheets of the evidence."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from accel_models.gpu.spec import GpuSpec
from simsparse.errors import InputError, UnknownNameError, UnsupportedError
from simsparse.specs import checked, read_toml

MACHINES = Path(__file__).parents[1] / "accel_models" / "gpu" / "machines"
SPECS = {path.stem: checked(GpuSpec, read_toml(path), where=path.name) for path in sorted(MACHINES.glob("*.toml"))}
# Systems of devices.csv, by the machine that describes them.
SYSTEMS = {
    "v100-sxm2": "V100 SXM2",
    "v100-pcie": "V100 PCIe",
    "t4": "T4",
    "rtx-2080-ti": "RTX 2080 Ti",
    "quadro-rtx-6000": "Quadro RTX 6000",
    "a100-sxm-40gb": "A100 SXM 40GB",
    "a100-sxm-80gb": "A100 SXM 80GB",
    "a100-pcie-40gb": "A100 PCIe 40GB",
    "a100-pcie-80gb": "A100 PCIe 80GB",
    "a30": "A30",
    "a40": "A40",
    "a10g": "A10G",
    "rtx-a6000": "RTX A6000",
    "rtx-3090": "RTX 3090",
    "rtx-3070-ti-laptop": "RTX 3070 Ti Laptop",
    "l4": "L4",
    "l40": "L40",
    "l40s": "L40S",
    "rtx-4070-super": "RTX 4070 SUPER",
    "rtx-4090": "RTX 4090",
    "h100-sxm-80gb": "H100 SXM5 80GB",
    "h100-pcie-80gb": "H100 PCIe 80GB",
    "h200-nvl": "H200 NVL",
    "h200-sxm-141gb": "H200 SXM 141GB",
    "b200": "B200",
    "rtx-5090": "RTX 5090",
    "rtx-pro-6000-blackwell": "RTX PRO 6000 Blackwell (SM120)",
}
PEAKS = {
    "fp32_tflops": "fp32",
    "tf32_dense_tflops": "tf32",
    "bf16_dense_tflops": "bf16",
    "fp16_dense_tflops": "fp16",
    "fp16_acc32_dense_tflops": "fp16",
    "fp16_acc16_dense_tflops": "fp16_acc16",
    "fp16_dense_tflops_fp16acc": "fp16_acc16",
    "fp8_dense_tflops": "fp8",
    "fp8_acc32_dense_tflops": "fp8",
    "int8_dense_tops": "int8",
    "fp4_dense_tflops": "fp4",
}
SPARSE_PEAKS = {
    "tf32_2_4_tflops": "tf32",
    "fp16_2_4_tflops": "fp16",
    "fp16_acc32_2_4_tflops": "fp16",
    "fp16_acc16_2_4_tflops": "fp16_acc16",
    "fp8_2_4_tflops": "fp8",
    "fp8_acc32_2_4_tflops": "fp8",
    "int8_2_4_tops": "int8",
}
SIMPLE = {
    "sm_count": ("sm_count", 1),
    "base_clock_GHz": ("base_clock_hz", 1e9),
    "boost_clock_GHz": ("boost_clock_hz", 1e9),
    "clock_low_precision_GHz": ("tensor_clock_hz", 1e9),
    "mem_GB": ("memory_bytes", 2**30),
    "mem_bw_GBps": ("dram_bandwidth_bytes_per_s", 1e9),
    "l2_MB": ("l2_bytes", 2**20),
    "smem_per_sm_KB": ("smem_bytes_per_sm", 2**10),
    "regs_per_sm": ("registers_per_sm", 1),
    "max_threads_per_sm": ("max_threads_per_sm", 1),
    "nvlink_GBps": ("link_bytes_per_s", 0.5e9),
    "tdp_W": ("tdp_w", 1),
    "process_nm": ("process_nm", 1),
}
PRINTED = ("datasheet", "table")
# NVIDIA prints 1.1 PFLOPS, two digits of half of its 2.25.
ROUNDED = {("b200", "tf32"): 0.025}


@pytest.fixture(scope="module")
def figures(evidence: Path) -> dict[str, list[tuple[str, float, str]]]:
    """Metric, value and quality of every numeric row of devices.csv, by machine."""
    machine = {system: name for name, system in SYSTEMS.items()}
    found: dict[str, list[tuple[str, float, str]]] = {name: [] for name in SYSTEMS}
    with (evidence / "published" / "devices.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["system"] in machine and row["op"] == "spec":
                found[machine[row["system"]]].append((row["metric"], float(row["value"]), row["quality"]))
    return found


def test_every_gpu_of_the_evidence_has_a_spec() -> None:
    assert set(SPECS) == set(SYSTEMS)
    assert all(spec.name == name for name, spec in SPECS.items())
    names = [name for spec in SPECS.values() for name in (spec.name, *spec.aliases)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", SYSTEMS)
def test_rates_give_the_printed_peaks(name: str, figures: dict[str, list[tuple[str, float, str]]]) -> None:
    spec, seen = SPECS[name], 0
    for metric, value, quality in figures[name]:
        key = PEAKS.get(metric) or SPARSE_PEAKS.get(metric)
        if key is None or quality not in PRINTED:
            continue
        if value == 0:
            assert key not in spec.mac_rate
            continue
        if key == "fp16_acc16" and key not in spec.mac_rate:
            key = "fp16"  # the accumulator makes no difference there
        gain = spec.sparse_rate[key].value if metric in SPARSE_PEAKS else 1.0
        seen += 1
        assert 2e-12 * gain * spec.peak_macs_per_s(key) == pytest.approx(value, rel=ROUNDED.get((name, key), 0.02)), (
            metric
        )
    assert seen or name in ("v100-pcie", "a10g", "rtx-4070-super", "h200-nvl")  # whose peaks nobody looked up


@pytest.mark.parametrize("name", SYSTEMS)
def test_figures_equal_the_evidence(name: str, figures: dict[str, list[tuple[str, float, str]]]) -> None:
    metrics = {metric for metric, _, _ in figures[name]}
    for metric, value, _ in figures[name]:
        if metric not in SIMPLE or (metric == "mem_bw_GBps" and "mem_bw_GBps_datasheet" in metrics):
            continue
        field, unit = SIMPLE[metric]
        figure = getattr(SPECS[name], field)
        assert (figure.value if figure else 0) == pytest.approx(value * unit, rel=1e-6), metric


@pytest.mark.parametrize("name", SYSTEMS)
def test_figures_nobody_looked_up_say_so(name: str, figures: dict[str, list[tuple[str, float, str]]]) -> None:
    quality = {metric: kind for metric, _, kind in figures[name]}
    for metric, (field, _) in SIMPLE.items():
        figure = getattr(SPECS[name], field)
        if figure is not None and quality.get(metric) == "recalled":
            assert figure.unverified, field


def test_only_ampere_and_later_have_sparse_tensor_cores() -> None:
    for spec in SPECS.values():
        assert bool(spec.sparse_rate) == (float(spec.compute_capability.value) >= 8.0)


def test_geforce_halves_fp32_accumulation() -> None:
    for name in ("rtx-2080-ti", "rtx-3090", "rtx-3070-ti-laptop", "rtx-4070-super", "rtx-4090", "rtx-5090"):
        rate = SPECS[name].mac_rate
        assert (
            rate["fp16_acc16"].value == 2 * rate["fp16"].value == 2 * rate["bf16" if "bf16" in rate else "fp16"].value
        )
    assert "fp16_acc16" not in SPECS["a100-sxm-80gb"].mac_rate


def test_recalled_and_assumed_figures_are_told_apart() -> None:
    figures = dict(SPECS["rtx-3090"].figures())
    assert figures["idle_w"].unverified
    assert figures["l2_bytes_per_clock"].assumed
    assert not figures["mac_rate.fp16"].unverified
    assert not figures["mac_rate.fp16"].assumed


def test_a_figure_can_be_changed_and_says_who_did() -> None:
    spec = SPECS["h100-sxm-80gb"]
    larger = spec.with_figures({"sm_count": 160, "mac_rate.fp16": 4096.0})
    assert isinstance(larger, GpuSpec)
    assert larger.peak_macs_per_s("fp16") == 160 * 4096 * 1.83e9
    assert larger.peak_macs_per_s("fp32") == 160 * 128 * 1.98e9
    assert larger.sm_count.source == "set by the user"
    assert larger.digest() != spec.digest()
    with pytest.raises(
        UnknownNameError, match="no field of machine 'h100-sxm-80gb' is named 'sm_cout'; near names: sm_count"
    ):
        spec.with_figures({"sm_cout": 160})
    with pytest.raises(InputError, match="sm_count"):
        spec.with_figures({"sm_count": -1})
    with pytest.raises(UnsupportedError, match="type 'fp4' on 'h100-sxm-80gb' has no rate"):
        spec.peak_macs_per_s("fp4")


def test_a_broken_spec_is_one_sentence() -> None:
    data = read_toml(MACHINES / "t4.toml")

    def error(change: dict[str, object]) -> str:
        with pytest.raises(InputError) as caught:
            checked(GpuSpec, data | change, where="machine file 't4.toml'")
        message = str(caught.value)
        assert "\n" not in message
        return message

    assert "unknown key 'sm_cuont'" in error({"sm_cuont": 3})
    assert "tdp_w" in error({"tdp_w": 70})
    assert "tdp_w.value is nan" in error({"tdp_w": {"value": float("nan"), "source": "x"}})
    assert "tdp_w.source" in error({"tdp_w": {"value": 70.0, "source": ""}})
    assert "mac_rate.fp17" in error({"mac_rate": {"fp17": {"value": 1.0, "source": "x"}}})
    assert "mac_rate with at least one type" in error({"mac_rate": {}})
    assert "sparse_rate only for types of mac_rate" in error({"sparse_rate": {"fp4": {"value": 2.0, "source": "x"}}})
    missing = {key: value for key, value in data.items() if key != "l2_bytes"}
    with pytest.raises(InputError, match="field 'l2_bytes' is missing"):
        checked(GpuSpec, missing, where="t4")
