"""A sweep of 10 models x 2 phases x 8 patterns x 10 machines by two processes: time, and memory of all of them."""

from __future__ import annotations

import subprocess
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

import psutil
from measuring import report

SIMSPARSE = str(Path(sysconfig.get_path("scripts")) / "simsparse")
SPEC = """
workload = ["llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-3-8b", "mistral-7b", "mixtral-8x7b", "qwen2-7b",
    "gemma-2-9b", "phi-3-mini", "opt-13b"]
phase = ["prefill", "decode"]
machine = ["a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm-141gb", "rtx-4090", "rtx-3090", "l4", "xeon-8480plus",
    "epyc-7763", "sat-u280", "sat-vcu1525"]
pattern = ["dense", "2:4", "1:4", "vnm64:2:8", "unstructured:0.8", "unstructured:0.9", "block4x1:0.8",
    "block32x32:0.8"]
"""


def peak_rss(process: subprocess.Popen[bytes]) -> float:
    """Most memory, in bytes, that a process and its children held at once, sampled until it ends."""
    most, watched = 0, psutil.Process(process.pid)
    while process.poll() is None:
        held = 0
        try:
            for member in (watched, *watched.children(recursive=True)):
                held += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        most = max(most, held)
        time.sleep(0.02)
    return most


def timed(folder: Path, name: str) -> tuple[float, float]:
    """Seconds and peak bytes of a sweep into a new folder."""
    command = [SIMSPARSE, "sweep", str(folder / "spec.toml"), "--out", str(folder / name), "--jobs", "2"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    most: list[float] = []
    watcher = threading.Thread(target=lambda: most.append(peak_rss(process)))
    watcher.start()
    _, complaints = process.communicate()
    took = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"the sweep ended with status {process.returncode}:\n{complaints.decode()}")
    watcher.join()
    return took, most[0]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spec.toml").write_text(SPEC, encoding="utf-8")
        first, _ = timed(folder, "first")  # may compile
        runs = sorted(timed(folder, f"run{i}") for i in range(3))
        report("sweep of 1,600 points, 2 jobs, first run", f"{first:.1f} s")
        report("sweep of 1,600 points, 2 jobs, median of 3", f"{runs[1][0]:.1f} s", "at most 20 s")
        report(
            "  memory of all processes, shared pages counted in each",
            f"{max(r[1] for r in runs) / 1e9:.2f} GB",
            "at most 1 GB",
        )
