"""Specs of GPUs: every file reads, and agrees with the datasheets of the evidence."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from accel_models.gpu.measurements import READER
from accel_models.gpu.spec import GpuSpec
from simsparse.errors import InputError, UnknownNameError, UnsupportedError
from simsparse.measurements import Measurement
from simsparse.readings import GemmReading, Unreadable
from simsparse.specs import checked, read_toml

MACHINES = Path(__file__).parents[1] / "accel_models" / "gpu" / "machines"
# Overlays are cards that nobody makes; datasheets know nothing of them.
CARDS = [path for path in sorted(MACHINES.glob("*.toml")) if "base" not in read_toml(path)]
SPECS = {path.stem: checked(GpuSpec, read_toml(path), where=path.name) for path in CARDS}
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
# Cards that the evidence does not list, all recalled: SMs and the fp32 TFLOPS of their datasheets (recalled too).
OTHERS = {
    "rtx-2060": (30, 6.45), "rtx-2060-super": (34, 7.18), "rtx-2070": (36, 7.46), "rtx-2070-super": (40, 9.06),
    "rtx-2080": (46, 10.07), "rtx-2080-super": (48, 11.15), "titan-v": (80, 14.9),
    "titan-rtx": (72, 16.3), "quadro-rtx-8000": (72, 16.3),
    "rtx-3060": (28, 12.7), "rtx-3060-ti": (38, 16.2), "rtx-3070": (46, 20.3), "rtx-3070-ti": (48, 21.7),
    "rtx-3080": (68, 29.8), "rtx-3080-12gb": (70, 30.6), "rtx-3080-ti": (80, 34.1), "rtx-3090-ti": (84, 40.0),
    "a10": (72, 31.2), "rtx-a4000": (48, 19.2), "rtx-a5000": (64, 27.8),
    "rtx-4060": (24, 15.1), "rtx-4060-ti": (34, 22.1), "rtx-4070": (46, 29.1), "rtx-4070-ti": (60, 40.1),
    "rtx-4070-ti-super": (66, 44.1), "rtx-4080": (76, 48.7), "rtx-4080-super": (80, 52.2), "rtx-6000-ada": (142, 91.1),
    "rtx-5060-ti": (36, 23.7), "rtx-5070": (48, 30.9), "rtx-5070-ti": (70, 43.9), "rtx-5080": (84, 56.3),
    "h100-nvl": (132, 60.0), "gh200-96gb": (132, 67.0), "gh200-144gb": (132, 67.0),
}  # fmt: skip
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
    assert set(SPECS) == {*SYSTEMS, *OTHERS}
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


@pytest.mark.parametrize("name", OTHERS)
def test_cards_that_nobody_looked_up_say_so(name: str) -> None:
    spec, (sms, tflops) = SPECS[name], OTHERS[name]
    assert spec.sm_count.value == sms
    assert 2e-12 * spec.peak_macs_per_s("fp32") == pytest.approx(tflops, rel=0.01)
    for _, field in {("", "sm_count"), *((metric, field) for metric, (field, _) in SIMPLE.items())}:
        figure = getattr(spec, field)
        shared = field in ("smem_bytes_per_sm", "registers_per_sm")  # of the architecture, which was looked up
        assert figure is None or shared or figure.unverified or figure.assumed, field


# As datasheets, nvidia-smi, PyTorch and people write them.
NAMES = {
    "v100-pcie": "Tesla V100-PCIE-16GB", "v100-sxm2": "Tesla V100-SXM2-32GB", "t4": "Tesla T4", "a10": "NVIDIA A10",
    "a10g": "NVIDIA A10G", "a30": "NVIDIA A30", "a40": "NVIDIA A40", "a100-pcie-40gb": "NVIDIA A100-PCIE-40GB",
    "a100-pcie-80gb": "NVIDIA A100 80GB PCIe", "a100-sxm-40gb": "NVIDIA A100-SXM4-40GB",
    "a100-sxm-80gb": "NVIDIA A100-SXM4-80GB", "l4": "NVIDIA L4", "l40": "NVIDIA L40", "l40s": "NVIDIA L40S",
    "h100-pcie-80gb": "NVIDIA H100 PCIe", "h100-sxm-80gb": "NVIDIA H100 80GB HBM3", "h100-nvl": "NVIDIA H100 NVL",
    "h200-sxm-141gb": "NVIDIA H200", "h200-nvl": "NVIDIA H200 NVL", "gh200-96gb": "NVIDIA GH200 480GB",
    "gh200-144gb": "NVIDIA GH200 144G HBM3e", "b200": "NVIDIA B200", "quadro-rtx-6000": "Quadro RTX 6000",
    "quadro-rtx-8000": "Quadro RTX 8000", "titan-rtx": "NVIDIA TITAN RTX", "titan-v": "NVIDIA TITAN V",
    "rtx-a4000": "NVIDIA RTX A4000", "rtx-a5000": "RTXA5000", "rtx-a6000": "A6000",
    "rtx-6000-ada": "NVIDIA RTX 6000 Ada Generation",
    "rtx-pro-6000-blackwell": "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
    "rtx-3070-ti-laptop": "NVIDIA GeForce RTX 3070 Ti Laptop GPU", "rtx-3080-12gb": "RTX 3080 (12GB)",
}  # fmt: skip
OTHERWISE = {
    "A100 40GB PCIe": "a100-pcie-40gb", "A100": "a100-sxm-80gb", "H100": "h100-sxm-80gb", "rtx3090": "rtx-3090",
    "RTX 3090 (sm_86)": "rtx-3090", "GeForce 3080 Ti": "rtx-3080-ti", "RTX 4070 Ti Super": "rtx-4070-ti-super",
    "RTX-4070Ti": "rtx-4070-ti", "RTX 4060 Ti 16GB": "rtx-4060-ti", "NVIDIA A800-SXM4-80GB": "a100-sxm-80gb",
    "NVIDIA H800 PCIe": "h100-pcie-80gb", "NVIDIA RTX PRO 6000 Blackwell Max-Q": "rtx-pro-6000-blackwell",
}  # fmt: skip


def test_cards_resolve_as_people_write_them() -> None:
    def machine(text: str) -> str | None:
        row = Measurement(
            "x", "cuBLAS", text, "latency_us", 1.0, phase="gemm", m=1, n=64, k=64, dtype="fp16", pattern="dense"
        )
        reading = READER.reading(row)
        return reading.reason if isinstance(reading, Unreadable) else reading.machine if reading else None

    geforce = {name: spec.title for name, spec in SPECS.items() if "GeForce" in spec.title and name not in NAMES}
    expected = {text: name for name, text in (NAMES | geforce).items()} | OTHERWISE
    assert set(expected.values()) == set(SPECS)
    assert {text: machine(text) for text in expected} == expected
    laptop = "a laptop's card, whose chip, clocks and power its name does not say"
    assert machine("NVIDIA GeForce RTX 4090 Laptop GPU") == laptop
    assert machine("RTX 6000") == "Quadro RTX 6000 or RTX 6000 Ada is not said"
    assert [machine(text) for text in ("RTX 4090 D", "RTX 4080 Ti", "RTX 3050", "GB200", "H20", "A2")] == [None] * 6


def test_variants_change_what_differs() -> None:
    row = Measurement(
        "x", "cuBLAS", "", "latency_us", 1.0, phase="gemm", m=1, n=64, k=64, dtype="fp16", pattern="dense"
    )
    for text, field, value in (
        ("Tesla V100-SXM2-32GB", "memory_bytes", 32 * 2**30), ("RTX 4060 Ti 16GB", "memory_bytes", 16 * 2**30),
        ("NVIDIA A800 80GB PCIe", "link_bytes_per_s", 2e11), ("RTX PRO 6000 Max-Q", "tdp_w", 300.0),
    ):  # fmt: skip
        reading = READER.reading(replace(row, device=text))
        assert isinstance(reading, GemmReading)
        assert dict(reading.changes)[field] == value


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
