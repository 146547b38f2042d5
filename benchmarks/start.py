"""How long a cold `simsparse simulate` takes, beside what any program that imports numpy takes."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from measuring import medians_side_by_side, python, quiet, report

SIMSPARSE = str(Path(sysconfig.get_path("scripts")) / "simsparse")
SIMULATE = [SIMSPARSE, "simulate", "llama-2-7b", "--on", "a100-sxm-80gb", "--phase", "decode"]
SIMULATE += ["--sparsity", "*.mlp.*=2:4"]

if __name__ == "__main__":
    quiet(SIMULATE)  # the first start compiles
    shell, package, numpy = medians_side_by_side([SIMULATE, python("import simsparse"), python("import numpy")])
    report("python -c 'import numpy'", f"{numpy:.3f} s")
    report("python -c 'import simsparse'", f"{package:.3f} s")
    report("  of import numpy", f"{package / numpy:.2f} x", "at most 2 x")
    report("simsparse simulate llama-2-7b, cold process", f"{shell:.3f} s", "at most 1.5 s")
    report("  of import numpy", f"{shell / numpy:.2f} x", "at most 9 x")
