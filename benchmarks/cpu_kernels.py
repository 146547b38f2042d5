"""This machine calibrated, then products of real models timed in libraries nobody here wrote, and predicted beside.

    python benchmarks/cpu_kernels.py OUT [--deepsparse PYTHON] [--quick]

Leaves `machine.toml`, `rows.csv` (columns of `simsparse validate`) and, with DeepSparse, `deepsparse.toml` in OUT.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from measuring import report

from accel_models.cpu.measuring.identity import identity
from accel_models.cpu.measuring.machine import Line, measure, measurement
from accel_models.cpu.measuring.plan import has_onnxruntime
from accel_models.cpu.measuring.products import ONE_THREAD, Product, job
from accel_models.cpu.measuring.sampling import Sample, measured, sample_of
from simsparse.calibration.fit import fit_rows
from simsparse.calibration.measured import MeasuredMachine, Timed
from simsparse.errors import SimsparseError
from simsparse.measurements import Measurement
from simsparse.outcomes import Outcome
from simsparse.predictions import predict
from simsparse.registry import load_spec, readers
from simsparse.validate import read_row

# Outputs and inputs of weights.
SHAPES = {
    "LLaMA-7B": ((4096, 4096), (11008, 4096), (4096, 11008)),
    "OPT-1.3B": ((2048, 2048), (8192, 2048), (2048, 8192)),
    "BERT-base": ((768, 768), (3072, 768), (768, 3072)),
    "MobileNet": ((128, 64), (256, 256), (512, 512), (1024, 1024)),
}
TOKENS = (1, 4, 16, 64, 128, 512)
SPARSITIES = (0.5, 0.7, 0.9, 0.95)
PEER_SPARSITIES = (0.0, 0.2, *SPARSITIES)
DENSE, SPARSE, PEER = ("numpy", "onnxruntime"), ("scipy-csr", "scipy-bsr", "numba-csr"), "deepsparse"
BLOCK = 4
MOST_FLOPS = {"scipy-csr": 3e9, "scipy-bsr": 1.5e9, "numba-csr": 1.5e10}
BUDGET_S = 0.12  # of each product
COLUMNS = (
    "id", "system", "device", "op", "M", "N", "K", "batch", "dtype", "pattern", "metric", "value", "source", "quality",
    "note", "sparse_operand", "pattern_text", "threads", "instances", "devices", "framework", "phase", "use",
)  # fmt: skip


class Peer:
    """DeepSparse in its own process."""

    def __init__(self, python: str) -> None:
        command = [python, str(Path(__file__).with_name("deepsparse_peer.py"))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.version = str(self._answer()["version"])

    def sample(self, product: Product, threads: int) -> Sample:
        """Time one product."""
        assert self._process.stdin is not None
        request = {"m": product.m, "n": product.n, "k": product.k, "sparsity": product.sparsity, "threads": threads}
        print(json.dumps({**request, "budget_s": BUDGET_S}), file=self._process.stdin, flush=True)
        return sample_of(PEER, self._answer())

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def products(n: int, m: int, k: int) -> Iterator[Product]:
    """What is timed of one shape and number of tokens, side by side."""
    for system in DENSE if has_onnxruntime() else DENSE[:1]:
        yield Product(system, m, n, k)
    for sparsity in SPARSITIES:
        for system in SPARSE:
            if 2.0 * m * n * k * (1 - sparsity) <= MOST_FLOPS[system]:
                yield Product(system, m, n, k, sparsity, BLOCK if system == "scipy-bsr" else 0)


def timed(peer: Peer | None, threads: int, quick: bool) -> Iterator[tuple[str, Line]]:
    """Every product with the model that its shape is of."""
    for model, shapes in SHAPES.items():
        for m, k in shapes[:1] if quick else shapes:
            for n in TOKENS[::3] if quick else TOKENS:
                group = list(products(n, m, k))
                jobs = [job(product, 1 if product.system in ONE_THREAD else threads) for product in group]
                for product, sample in zip(group, measured(jobs, BUDGET_S * len(group)), strict=True):
                    yield model, _line(product, sample, 1 if product.system in ONE_THREAD else threads)
                for product in (Product(PEER, m, n, k, sparsity) for sparsity in PEER_SPARSITIES):
                    if peer is not None:
                        yield model, _line(product, peer.sample(product, threads), threads)


def _line(product: Product, sample: Sample, threads: int) -> Line:
    return Line(product.system, "s", 0.0, sample.median_s, sample.spread, sample.samples, product, threads)


def write(path: Path, lines: Sequence[tuple[str, Line]], machine: MeasuredMachine, versions: dict[str, str]) -> None:
    """The timings as a table of measurements."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        for index, (model, line) in enumerate(lines):
            row = measurement(line, machine.spec.title, f"cpu-kernel-{index:04}")
            writer.writerow({
                "id": row.id, "system": f"{row.system} {versions[row.system]}", "device": row.device,
                "op": f"{model} product", "M": row.m, "N": row.n, "K": row.k, "batch": row.n, "dtype": row.dtype,
                "pattern": row.pattern, "metric": row.metric, "value": f"{line.median_s:.6g}",
                "source": "benchmarks/cpu_kernels.py", "quality": "raw_csv",
                "note": f"median of {line.samples}, spread {line.spread:.1%}", "sparse_operand": row.sparse_operand,
                "pattern_text": row.pattern, "threads": row.threads, "instances": 1, "devices": 1,
                "framework": "kernel", "phase": "gemm", "use": "yes",
            })  # fmt: skip


def predicted(rows: Sequence[Measurement], on: str) -> np.ndarray:
    """Predicted seconds; not a number where a row cannot be priced."""
    own = [replace(row, device=on) for row in rows]
    answers = predict(own, [read_row(row, list(readers())) for row in own])
    return np.array([answer.latency_s if isinstance(answer, Outcome) else np.nan for answer in answers])


def errors(what: str, ratio: np.ndarray, target: str) -> None:
    """One line: median and 90th percentile of absolute errors."""
    error = np.abs(ratio[~np.isnan(ratio)] - 1)
    if error.size:
        figure = f"{np.median(error):.1%} / {np.quantile(error, 0.9):.1%}"
        report(f"{what}, {error.size} products", figure, target)


def sides(lines: Sequence[tuple[str, Line]], seconds: Sequence[float]) -> dict[tuple[int, int, int, float], bool]:
    """For every shape, tokens and sparsity that has both: whether the fastest sparse beats the fastest dense run."""
    dense: dict[tuple[int, int, int], float] = defaultdict(lambda: np.inf)
    sparse: dict[tuple[int, int, int, float], float] = defaultdict(lambda: np.inf)
    for (_, line), time_s in zip(lines, seconds, strict=True):
        p = line.product
        assert p is not None
        if np.isnan(time_s) or p.block:
            continue
        if p.sparsity == 0:
            dense[p.m, p.n, p.k] = min(dense[p.m, p.n, p.k], time_s)
        else:
            key = (p.m, p.n, p.k, p.sparsity)
            sparse[key] = min(sparse[key], time_s)
    return {(m, n, k, s): time_s < dense[m, n, k] for (m, n, k, s), time_s in sparse.items()}


def repeated(runs: Sequence[MeasuredMachine]) -> None:
    """How calibrations of the same machine agree."""
    by_name: dict[str, list[Timed]] = defaultdict(list)
    for run in runs:
        for figure in run.figures:
            by_name[figure.what].append(figure)
    full = [figures for figures in by_name.values() if len(figures) == len(runs)]
    apart = [max(f.median for f in fs) > 1.1 * min(f.median for f in fs) for fs in full]
    flagged = [any(f.noisy for f in fs) for fs in full]
    told = np.mean([not a or f for a, f in zip(apart, flagged, strict=True)])
    report(f"calibrations, {len(full)} figures: within 10 % or flagged", f"{told:.0%}", "all")
    report("  flagged", f"{np.mean(flagged):.0%}", "at most 15 % on an idle machine")


def deepsparse(lines: Sequence[tuple[str, Line]], on: str, out: Path) -> np.ndarray | None:
    """Predicted over measured of half of the shapes, with constants fitted on the other half."""
    own = [line for _, line in lines if line.name == PEER]
    shapes = sorted({(line.product.m, line.product.k) for line in own if line.product is not None})
    rows = [measurement(line, load_spec(on).name, f"d-{i}") for i, line in enumerate(own)]
    rows = [replace(row, system=f"{PEER} ") for row in rows]
    first, second = ([row for row in rows if (row.m, row.k) in shapes[part::2]] for part in (0, 1))
    try:
        found = fit_rows(first, on, source="half of the shapes")
    except SimsparseError as error:
        report("DeepSparse could not be fitted", "", str(error))
        return None
    path = out / "deepsparse.toml"
    path.write_text(found.overlay(load_spec(on), Path(on).name, "deepsparse").to_toml(), encoding="utf-8")
    return predicted(second, str(path)) / np.array([row.value for row in second], np.float64)


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--deepsparse", default="", help="Python of an environment with deepsparse 1.8")
    parser.add_argument("--quick", action="store_true", help="a shape of each model, one calibration")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    peer = Peer(options.deepsparse) if options.deepsparse and Path(options.deepsparse).exists() else None
    if peer is None:
        report("DeepSparse is left out", "", "no environment of Python 3.11 or older with deepsparse 1.8 on x86")

    runs = [measure("machine", lambda *_: None) for _ in range(1 if options.quick else 3)]
    machine = runs[-1]
    path = options.out / "machine.toml"
    path.write_text(machine.to_toml(), encoding="utf-8")
    report(machine.spec.title, f"{len(machine.figures)} figures")
    for warning in machine.warnings:
        report(f"  {warning[:300]}", "")
    repeated(runs)

    lines = list(timed(peer, identity().usable, options.quick))
    versions = {"numpy": version("numpy"), "scipy-csr": version("scipy"), "scipy-bsr": version("scipy"),
                "numba-csr": version("numba")}  # fmt: skip
    versions |= {"onnxruntime": version("onnxruntime")} if has_onnxruntime() else {}
    versions |= {PEER: peer.version} if peer is not None else {}
    write(options.out / "rows.csv", lines, machine, versions)

    plain = [(model, line) for model, line in lines if line.name != PEER]
    rows = [measurement(line, machine.spec.name, f"p-{i}") for i, (_, line) in enumerate(plain)]
    seconds = predicted(rows, str(path))
    ratio = seconds / np.array([line.median_s for _, line in plain])
    for names, target in ((DENSE, "median 8 %, 90th 20 %"), (SPARSE, "median 12 %, 90th 30 %")):
        own = np.array([line.name in names for _, line in plain])
        errors(", ".join(names), ratio[own], target)
        for name in names:
            errors(f"  {name}", ratio[[line.name == name for _, line in plain]], "")
    truth, said = sides(plain, [line.median_s for _, line in plain]), sides(plain, seconds.tolist())
    right = np.mean([said.get(key) == faster for key, faster in truth.items()])
    report(f"which of dense and sparse is faster, {len(truth)} points", f"{right:.1%}", "92 %")
    held = deepsparse(lines, str(path), options.out) if peer is not None else None
    if held is not None:
        errors("DeepSparse, the other half of the shapes", held, "median 12 %")


if __name__ == "__main__":
    main()
