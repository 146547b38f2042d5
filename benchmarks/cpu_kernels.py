"""This machine calibrated, then products of real models timed in libraries nobody here wrote, and predicted beside.

    python benchmarks/cpu_kernels.py OUT [--deepsparse PYTHON] [--quick] [--minutes 12.5]

Three parts, each a calibration and then a third of the shapes, which it predicts: machines change by the minute.
Leaves `machine-1.toml` to `-3`, `rows.csv` (columns of `simsparse validate`) and, with DeepSparse, `deepsparse.toml` in
OUT. What is timed is kept at once: a run that was stopped, or that ran out of time, goes on where it was when it is
started again; one that is complete begins anew.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cpu_tables import Figures, Timing, by_class, errors, half_of_shapes, predicted, repeated, which_is_faster
from measuring import report

from accel_models.cpu.measuring.identity import identity
from accel_models.cpu.measuring.machine import Line, measure, measurement
from accel_models.cpu.measuring.plan import has_onnxruntime
from accel_models.cpu.measuring.products import ONE_THREAD, Product
from accel_models.cpu.measuring.sampling import sample_of
from accel_models.cpu.measuring.worker import environment
from simsparse.calibration.progress import bar
from simsparse.measurements import read_measurements

PARTS = 3
# Outputs and inputs of weights.
SHAPES = {
    "LLaMA-7B": ((4096, 4096), (11008, 4096), (4096, 11008)),
    "OPT-1.3B": ((2048, 2048), (8192, 2048), (2048, 8192)),
    "BERT-base": ((768, 768), (3072, 768), (768, 3072)),
    "MobileNet": ((128, 64), (256, 256), (512, 512), (1024, 1024)),
}
TOKENS = (1, 4, 16, 128, 512)
SPARSITIES = (0.5, 0.8, 0.95)
DENSE, SPARSE, PEER = ("numpy", "onnxruntime"), ("scipy-csr", "scipy-bsr", "numba-csr"), "deepsparse"
# DeepSparse compiles every product, which takes longer than all else.
PEER_MODELS, PEER_TOKENS, PEER_SPARSITIES = ("OPT-1.3B", "BERT-base", "MobileNet"), (1, 16, 128), (0.0, 0.5, 0.8, 0.95)
BLOCK = 4
MOST_FLOPS = {"scipy-csr": 6e8, "scipy-bsr": 3e8, "numba-csr": 3e9}
BUDGET_S = 0.06  # of each product
COLUMNS = (
    "id", "system", "device", "op", "M", "N", "K", "batch", "dtype", "pattern", "metric", "value", "source", "quality",
    "note", "sparse_operand", "pattern_text", "threads", "instances", "devices", "framework", "phase", "use",
)  # fmt: skip


class Helper:
    """A process that answers lines of JSON with lines of JSON."""

    def __init__(self, command: Sequence[str], threads: int) -> None:
        self._name = " ".join(command)
        self._process = subprocess.Popen(
            command, env=environment(threads), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def ask(self, **request: object) -> Any:
        """Its answer."""
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> Any:
        """The next line that it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._name} ended before it answered")
        return json.loads(line)

    def __enter__(self) -> Helper:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Group:
    """Products of one shape and number of tokens, which are timed side by side; `part` counts from 1."""

    part: int
    model: str
    m: int
    n: int
    k: int

    def products(self, threads: int) -> Iterator[Product]:
        """Those that are timed with so many threads."""
        for system in DENSE if has_onnxruntime() else DENSE[:1]:
            yield Product(system, self.m, self.n, self.k)
        for sparsity in SPARSITIES:
            for system in SPARSE:
                small = 2.0 * self.m * self.n * self.k * (1 - sparsity) <= MOST_FLOPS[system]
                if small and (threads == 1 or system not in ONE_THREAD):
                    yield Product(system, self.m, self.n, self.k, sparsity, BLOCK if system == "scipy-bsr" else 0)

    @property
    def by_peer(self) -> bool:
        """Whether DeepSparse runs it too."""
        return self.model in PEER_MODELS and self.n in PEER_TOKENS


def groups(quick: bool) -> list[Group]:
    """All, shape by shape; every third shape is of one part."""
    shapes = [(model, m, k) for model, own in SHAPES.items() for m, k in (own[:1] if quick else own)]
    found = [
        Group(1 if quick else i % PARTS + 1, model, m, n, k)
        for i, (model, m, k) in enumerate(shapes) for n in (TOKENS[::4] if quick else TOKENS)
    ]  # fmt: skip
    return sorted(found, key=lambda group: group.part)


class Rows:
    """The table of what was timed, in its file whenever a group is done."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[dict[str, object]] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as stream:
                self._rows = list(csv.DictReader(stream))

    def has(self, group: Group) -> bool:
        """Whether a group is in it."""
        key = [str(value) for value in (f"{group.model} product", group.m, group.n, group.k)]
        return any([str(row[name]) for name in ("op", "M", "N", "K")] == key for row in self._rows)

    def forget(self) -> None:
        """Begin anew."""
        self._rows = []

    def add(self, group: Group, lines: Sequence[tuple[Line, str]]) -> None:
        """Lines of a group, each with the version of its system."""
        for line, number in lines:
            row = measurement(line, "this machine", f"cpu-{group.part}-{len(self._rows):04}")
            self._rows.append({
                "id": row.id, "system": f"{row.system} {number}", "device": row.device, "op": f"{group.model} product",
                "M": row.m, "N": row.n, "K": row.k, "batch": 1, "dtype": row.dtype, "pattern": row.pattern,
                "metric": row.metric, "value": f"{line.median_s:.6g}", "source": "benchmarks/cpu_kernels.py",
                "quality": "raw_csv", "note": f"median of {line.samples}, spread {line.spread:.1%}",
                "sparse_operand": row.sparse_operand, "pattern_text": row.pattern, "threads": row.threads,
                "instances": 1, "devices": 1, "framework": "kernel", "phase": "gemm", "use": "yes",
            })  # fmt: skip
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(self._rows)
        _replace(self._path, text.getvalue())


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8", newline="")
    fresh.replace(path)


def timed(group: Group, helpers: dict[int, Helper], peer: Helper | None) -> Iterator[Line]:
    """All products of a group, one thread count after the other, then DeepSparse."""
    for threads, helper in helpers.items():
        products = list(group.products(threads))
        answers = helper.ask(products=[asdict(p) for p in products], budget_s=BUDGET_S * len(products))
        for product, (middle_s, spread, samples) in zip(products, answers, strict=True):
            yield Line(product.system, "s", 0.0, middle_s, spread, samples, product, threads)
    threads = max(helpers)
    for sparsity in PEER_SPARSITIES if peer is not None and group.by_peer else ():
        assert peer is not None
        product = Product(PEER, group.m, group.n, group.k, sparsity)
        asked = {name: value for name, value in asdict(product).items() if name in ("m", "n", "k", "sparsity")}
        sample = sample_of(PEER, peer.ask(**asked, threads=threads, budget_s=BUDGET_S))
        yield Line(PEER, "s", 0.0, sample.median_s, sample.spread, sample.samples, product, threads)


def calibrated(out: Path, part: int) -> None:
    """The calibration of a part: the machine, and its figures for comparison with those of the other parts."""
    if figures_path(out, part).is_file():
        return
    with bar(f"calibration {part} of {PARTS}") as watch:
        machine = measure(f"machine-{part}", watch)
    _replace(out / f"machine-{part}.toml", machine.to_toml())
    _replace(figures_path(out, part), machine.to_json())
    report(f"calibration {part}: {machine.spec.title}", f"{len(machine.figures)} figures")
    for warning in machine.warnings:
        report(f"  {warning[:300]}", "")


def figures_path(out: Path, part: int) -> Path:
    """Where the figures of a calibration lie; written after its machine."""
    return out / f"machine-{part}.json"


def take(options: argparse.Namespace, wanted: Sequence[Group], peer: Helper | None, versions: dict[str, str]) -> int:
    """Calibrate and time what is not there yet, until the time is up; returns how many groups are left."""
    out, began = options.out, time.monotonic()
    rows = Rows(out / "rows.csv")
    # Rows of other calibrations, or all there are to take: begin anew.
    if not figures_path(out, 1).is_file() or all(rows.has(group) for group in wanted):
        rows.forget()
        for part in range(1, PARTS + 1):
            figures_path(out, part).unlink(missing_ok=True)
    left = [group for group in wanted if not rows.has(group)]
    parts = max(group.part for group in wanted)
    skipped = 0
    with ExitStack() as stack:
        helpers = {
            threads: stack.enter_context(Helper([sys.executable, _beside("cpu_products.py"), str(threads)], threads))
            for threads in sorted({1, identity().usable})
        }
        for index, group in enumerate(left):
            spent_s = time.monotonic() - began
            if spent_s > options.minutes * 60 * group.part / parts:  # each part has its share, so that none is missing
                skipped += 1
                continue
            calibrated(out, group.part)
            if index == 0 or (group.m, group.k) != (left[index - 1].m, left[index - 1].k):
                said = f"part {group.part}, {group.model} {group.m}x{group.k}"
                report(said, f"{spent_s:.0f} s", f"{index} of {len(left)} groups")
            rows.add(group, [(line, versions[line.name]) for line in timed(group, helpers, peer)])
    return skipped


def _beside(name: str) -> str:
    return str(Path(__file__).with_name(name))


def tell(out: Path) -> None:
    """Predicted beside measured, of all rows that there are."""
    rows = read_measurements(out / "rows.csv")
    parts = {row.id: int(row.id.split("-")[1]) for row in rows}
    runs = []
    for part in sorted({*parts.values()}):
        figures = json.loads(figures_path(out, part).read_text(encoding="utf-8"))["figures"]
        runs.append(Figures((f["what"], (f["median"], f["noisy"])) for f in figures))
    if len(runs) == PARTS:
        count, told, flagged = repeated(runs)
        report(f"calibrations, {count} figures: within 10 % or flagged", f"{told:.0%}", "all")
        report("  flagged in any of them", f"{flagged:.0%}", "at most 15 % on an idle machine")
    timings: list[Timing] = []
    for part in sorted({*parts.values()}):
        own = [row for row in rows if parts[row.id] == part and not row.system.startswith(PEER)]
        seconds = predicted(own, str(out / f"machine-{part}.toml")).tolist()
        timings += [Timing(row, part, time_s) for row, time_s in zip(own, seconds, strict=True)]
    by_class(timings, DENSE, "median 8 %, 90th 20 %")
    by_class(timings, SPARSE, "median 12 %, 90th 30 %")
    which_is_faster(timings)
    of_peer = [row for row in rows if row.system.startswith(PEER)]
    if of_peer:
        held = half_of_shapes(of_peer, str(out / f"machine-{max(parts.values())}.toml"), out)
        errors("DeepSparse, the other half of the shapes", held, "median 12 %")


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--deepsparse", default="", help="Python of an environment with deepsparse 1.8")
    parser.add_argument("--quick", action="store_true", help="a shape of each model, one calibration")
    parser.add_argument("--minutes", type=float, default=12.5, help="after which no group of products is begun")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    versions = {"numpy": version("numpy"), "scipy-csr": version("scipy"), "scipy-bsr": version("scipy"),
                "numba-csr": version("numba")}  # fmt: skip
    versions |= {"onnxruntime": version("onnxruntime")} if has_onnxruntime() else {}
    with ExitStack() as stack:
        peer = None
        if options.deepsparse and Path(options.deepsparse).exists():
            command = [options.deepsparse, _beside("deepsparse_peer.py")]
            peer = stack.enter_context(Helper(command, identity().usable))
            versions[PEER] = str(peer.answer()["version"])
        else:
            report("DeepSparse is left out", "", "no environment of Python 3.11 or older with deepsparse 1.8 on x86")
        left = take(options, groups(options.quick), peer, versions)
    if left:
        report(f"time is up, {left} groups of products are left", "", "start it again to go on")
    tell(options.out)


if __name__ == "__main__":
    main()
