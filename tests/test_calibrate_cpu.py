"""`calibrate cpu`: what a machine says it is, what is timed on it, and the spec that comes of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import random_array

from accel_models.cpu import FAMILY
from accel_models.cpu.measuring import machine as measuring
from accel_models.cpu.measuring import sampling, worker
from accel_models.cpu.measuring.identity import Cache, identity
from accel_models.cpu.measuring.loops import csr_spmm, gather, read
from accel_models.cpu.measuring.products import Product
from accel_models.cpu.measuring.sampling import Job, measured, sample_of
from accel_models.cpu.measuring.spec_of import Bandwidths, spec_of
from simsparse import load_machine, simulate
from simsparse.calibration.measured import spec_toml
from simsparse.cli import main
from simsparse.errors import UnsupportedError

CPUINFO = "model name\t: Intel(R) Xeon(R) Test\nflags\t\t: sse2 avx2 fma avx512f avx512_vnni\n\nprocessor\t: 1\n"


def fake(
    root: Path, *, cpus: int = 4, threads_each: int = 2, cpuinfo: str = CPUINFO, quota: str = "max 100000"
) -> Path:
    """A machine of `cpus` hardware threads, two to a core, 1 MB of L2 a core and 8 MB of L3 for all."""
    files = {"proc/cpuinfo": cpuinfo, "proc/meminfo": "MemTotal:  8388608 kB\n", "sys/fs/cgroup/cpu.max": quota}
    for cpu in range(cpus):
        folder = f"sys/devices/system/cpu/cpu{cpu}"
        files[f"{folder}/topology/core_id"] = str(cpu // threads_each)
        files[f"{folder}/topology/physical_package_id"] = "0"
        own = f"{cpu // threads_each * threads_each}-{cpu // threads_each * threads_each + threads_each - 1}"
        for i, (level, kind, size, shared) in enumerate((
            ("1", "Data", "48K", own), ("1", "Instruction", "32K", own), ("2", "Unified", "1024K", own),
            ("3", "Unified", "8M", f"0-{cpus - 1}"),
        )):  # fmt: skip
            for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
                files[f"{folder}/cache/index{i}/{name}"] = text
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_machine_is_what_its_kernel_says(tmp_path: Path) -> None:
    found = identity(fake(tmp_path))
    assert (found.model, found.cores, found.threads, found.usable) == ("Intel(R) Xeon(R) Test", 2, 4, 2)
    assert found.simd == ("AVX2", "AVX-512", "VNNI")
    assert found.caches == (Cache(1, 49152, 1), Cache(2, 2**20, 1), Cache(3, 2**23, 2))
    assert found.memory_bytes == 2**33


@pytest.mark.parametrize(
    ("quota", "usable", "said"),
    [
        ("max 100000", 2, []),
        ("150000 100000", 1, ["there is one core only", "the container gives time for 1.5 of 2 cores"]),
    ],
)
def test_a_container_that_gives_less_is_told(tmp_path: Path, quota: str, usable: int, said: list[str]) -> None:
    found = identity(fake(tmp_path, quota=quota))
    assert found.usable == usable
    warnings = [text for text in measuring._limits(found) if "other programs" not in text]
    assert len(warnings) == len(said)
    assert all(text.startswith(start) for text, start in zip(warnings, said, strict=True))


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"has no /proc/cpuinfo, expected Linux"):
        identity(tmp_path)
    with pytest.raises(UnsupportedError, match="neither AVX2 nor NEON"):
        identity(fake(tmp_path, cpuinfo="flags : sse2\n"))


def test_a_measured_spec_reads_back_and_runs_models(tmp_path: Path) -> None:
    here = identity(fake(tmp_path))
    rates = Bandwidths({1: 2e11, 2: 1e11, 3: 4e10, 4: 1.2e10}, 2e10)
    spec = spec_of(here, "mine", 3e9, rates, "2026-01-01")
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(spec_toml(spec)))
    machine = load_machine(str(path))
    assert machine.name == "mine"
    assert FAMILY.spec(path) == spec
    result = simulate("opt-125m", machine, phase="decode", context=64, dtype="fp32")
    weights = 4 * result.workload.parameters
    assert weights / 2e10 < result.latency_s < 3 * weights / 2e10


def test_samples_are_medians_with_half_the_distance_of_quartiles() -> None:
    sample = sample_of("x", [1.0, 2.0, 3.0, 4.0, 100.0])
    assert (sample.median_s, sample.spread, sample.samples) == (3.0, pytest.approx(1 / 3), 5)


def test_jobs_are_timed_in_turns() -> None:
    order: list[str] = []
    jobs = [Job(name, lambda name=name: (order.append(name), time.sleep(2e-3))) for name in "ab"]
    shares: list[float] = []
    samples = measured(jobs, 1e-3, shares.append)
    assert [sample.name for sample in samples] == ["a", "b"]
    assert all(sample.median_s > 2e-3 for sample in samples)
    # Each to see how long it takes, then a burst of both in each turn.
    assert "".join(name for name, _ in groupby(order)) == "ab" * (1 + sampling.FEWEST_TURNS)
    assert shares == sorted(shares)


def test_libraries_whose_threads_spin_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of one pool go together, whatever their order; before a pool begins, those of others go to sleep."""
    order: list[str] = []
    monkeypatch.setattr(sampling.time, "sleep", lambda seconds: order.append(f"{seconds:g}"))

    def job(name: str, pool: str, *, alone: bool = False) -> Job:
        return Job(name, lambda: order.append(name), alone, pool)

    monkeypatch.setattr(sampling, "_timed", lambda job, count: job.run() or 1.0)
    jobs = [job("a", "blas"), job("b", "omp"), job("c", "blas"), job("d", "omp", alone=True)]
    assert [sample.name for sample in measured(jobs, 1e-9)] == [*"abcd"]
    assert {job.spins for job in jobs} == {"", "blas", "omp"}
    turn = [name for name, _ in groupby(order[8:])]
    assert turn == [*("0.05", "d", "0.05", "a", "c", "0.05", "b")] * sampling.FEWEST_TURNS
    # One pool waits for nobody.
    order.clear()
    measured(jobs[::2], 1e-9)
    assert "0.05" not in order


def test_a_figure_repeats_as_its_rounds_do() -> None:
    """The median round, and the distance of the extremes: 10 % and what is more is flagged, whatever samples say."""
    product = Product("numpy", 8, 1, 8)

    def line(name: str, seconds: float, product: Product | None = None, threads: int = 1) -> measuring.Line:
        return measuring.Line(name, "s", 0.0, seconds, 0.5, 7, product, threads)

    lines = [line("a", 1.0), line("a", 1.04), line("a", 1.08), line("b", 1.0), line("b", 3.0), line("b", 1.1)]
    lines += [line("numpy", 2.0, product), line("numpy", 4.0, product, threads=2)]
    found = {m.what: m for m in measuring.merged(lines)}
    assert list(found) == ["a, 1 thread", "b, 1 thread", "numpy 8x1x8 dense, 1 thread", "numpy 8x1x8 dense, 2 threads"]
    a, b, *single = found.values()
    assert (a.median_s, a.spread, a.samples, a.timed().noisy) == (1.04, pytest.approx(0.08 / 1.04), 21, False)
    assert (b.median_s, b.spread, b.timed().noisy) == (1.1, pytest.approx(2.0 / 1.1), True)
    assert [(each.median_s, each.spread) for each in single] == [(2.0, 0.5), (4.0, 0.5)]


def test_a_thread_that_may_not_be_pinned_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(worker.os, "sched_setaffinity", refuse)
    worker._pin()
    said = json.loads(capsys.readouterr().out)
    text = "the measuring thread could not be pinned to a core ([Errno 1] Operation not permitted)"
    assert said == {"warning": text}


def test_one_core_is_measured_with_one_thread_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with time for one core: a machine of one, and a warning."""
    here = identity(fake(tmp_path, quota="100000 100000"))
    started: list[tuple[int, float]] = []

    def said(threads: int, budget_s: float) -> Iterator[dict[str, object]]:
        started.append((threads, budget_s))
        amounts = {"read L2": 1e11, "read L3": 4e10, "read memory": 1e10, "copy memory": 9e9, "clock": 3e9}
        for name, amount in {**amounts, "peak fp32": 1e11}.items():
            yield {"name": name, "unit": "/s", "amount": amount, "median_s": 1.0, "spread": 0.0, "samples": 3,
                   "product": None}  # fmt: skip

    monkeypatch.setattr(measuring, "identity", lambda: here)
    monkeypatch.setattr(measuring, "_worker", said)
    found = measuring.measure("mine", lambda *_: None)
    assert started == [(1, measuring.ALONE_S)] * measuring.ROUNDS
    figures = dict(found.spec.figures())
    assert figures["cores"].value == 1
    assert figures["dram_bandwidth_bytes_per_s"].value == 1e10
    assert any(text.startswith("there is one core only") for text in found.warnings)
    assert any(text.startswith("no constant was fitted, those that ship are kept") for text in found.warnings)


@pytest.mark.parametrize("tokens", [1, 7, 8, 33])
def test_our_product_is_the_product(tokens: int) -> None:
    rng = np.random.default_rng(0)
    a = random_array((50, 70), density=0.2, rng=rng, dtype=np.float32).tocsr()
    b, c = rng.standard_normal((70, tokens), dtype=np.float32), np.empty((50, tokens), np.float32)
    csr_spmm(a.indptr.astype(np.int32), a.indices.astype(np.int32), a.data, b, c)
    np.testing.assert_allclose(c, a @ b, rtol=1e-4, atol=1e-5)


def test_timed_loops_do_what_they_say() -> None:
    data, sums = np.arange(12, dtype=np.uint64).reshape(2, 6), np.zeros(2, np.uint64)
    read(data, 1, sums)
    assert sums.tolist() == [15, 51]
    gather(data.ravel(), np.array([[0, 11], [3, 3]], np.int32), sums)
    assert sums.tolist() == [11, 6]


def test_a_minute_gives_a_machine_and_its_rooflines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With less than a minute, so that few products are timed."""
    monkeypatch.setattr(measuring, "ROUNDS", 1)
    monkeypatch.setattr(measuring, "ALONE_S", 2.0)
    monkeypatch.setattr(measuring, "TOGETHER_S", 0.5)
    path = tmp_path / "mine.toml"
    began = time.perf_counter()
    assert main(["calibrate", "cpu", "-o", str(path), "--format", "json"]) == 0
    assert time.perf_counter() - began < 60
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.png", "mine.toml"]
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")
    assert all(line.startswith("simsparse: warning: ") for line in capsys.readouterr().err.splitlines())
    spec = FAMILY.spec(path)
    figures = dict(spec.figures())
    assert figures["l2.bytes_per_cycle"].source.startswith("measured on ")
    assert 2.0 < figures["l2.bytes_per_cycle"].value < 200
    assert 5e8 < figures["clock_hz"].value < 7e9
    assert main(["simulate", "bert-base", "--on", str(path), "--dtype", "fp32"]) == 0


def test_a_worker_that_dies_without_a_word_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring.sys, "executable", shutil.which("false"))
    with pytest.raises(UnsupportedError, match="timing with 1 threads failed, expected it to end: exit status 1"):
        list(measuring._worker(1, 1.0))


def test_a_worker_that_says_much_of_its_errors_is_not_stopped_by_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """More than a pipe holds, and then it fails."""
    script = tmp_path / "talker"
    script.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('x' * 200_000 + '\\nthe end')\n")
    script.chmod(0o700)
    monkeypatch.setattr(measuring.sys, "executable", str(script))
    with pytest.raises(UnsupportedError, match="timing with 1 threads failed, expected it to end: the end"):
        list(measuring._worker(1, 1.0))


def test_a_killed_measurement_leaves_nothing(tmp_path: Path) -> None:
    code = "from simsparse.cli import main; main(['calibrate', 'cpu', '-o', 'mine.toml'])"
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL) as running:
        time.sleep(1.5)
        running.send_signal(signal.SIGTERM)
        running.wait(30)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused_before_measuring(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert main(["calibrate", "cpu", "-o", str(tmp_path / "mine.toml")]) == 2


def test_a_folder_that_is_not_there_is_refused_before_measuring(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "cpu", "-o", "/nowhere/x.toml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a file in a folder that can be written" in line
