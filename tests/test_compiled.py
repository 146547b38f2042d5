"""Plain Python and machine code give the same bits, and machine code is made only when it pays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PRICES = """
import hashlib, sys
import numpy as np
import simsparse.compiled
from simsparse.problems import gemm_problems
from simsparse.registry import load_machine

if "compile" in sys.argv:
    simsparse.compiled.FEW_ROWS = -1
for name in ("a100-sxm-80gb", "xeon-8480plus", "sat-u280"):
    machine, draw = load_machine(name), np.random.default_rng(3)
    rows = [
        gemm_problems(*draw.integers(1, 3000, (3, 4)), pattern=pattern)
        for pattern in ("dense", "2:4", "1:16", "unstructured:0.9", "block16x16:0.7")
    ]
    plan = machine.lower_problems(np.concatenate(rows))
    prices = machine.price(plan)
    figures = np.concatenate([prices.latency_s, prices.energy_j, prices.terms_s.ravel(), prices.level_bytes.ravel()])
    print(name, hashlib.sha256(figures.tobytes()).hexdigest())
"""


def run(code: str, *arguments: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True, cwd=HERE,
        env={**os.environ, **environment},
    )  # fmt: skip
    return done.stdout.split("\n")


def test_engines_give_the_same_bits_in_python_and_compiled() -> None:
    in_python = run(PRICES, NUMBA_DISABLE_JIT="1")
    assert len(in_python) == 4
    assert in_python == run(PRICES, "compile")


def test_few_rows_load_no_numba_many_do() -> None:
    code = (
        "import sys; from compiled_toy import run, over_rows, line; few = run(20)\n"
        "print('numba' in sys.modules, over_rows.done); many = run(2000)\n"
        "print('numba' in sys.modules, few.tolist() == many[:20].tolist(), line(2.0, 3.0))"
    )
    # 20 rows, and a call of the inner function for each.
    assert run(code)[:2] == ["False 40", "True True 7.0"]


def test_many_small_calls_are_compiled_too() -> None:
    code = (
        "import sys; from compiled_toy import line\n"
        "values = {line(2.0, 3.0) for _ in range(3000)}; print('numba' in sys.modules)\n"
        "values.add(line(2.0, 3.0)); print('numba' in sys.modules, values)"
    )
    assert run(code)[:2] == ["False", "True {7.0}"]
