"""How long `simulate` takes in a process that has done it before."""

from __future__ import annotations

from functools import partial

from measuring import median_seconds, medians_side_by_side, python, report

from simsparse import load_workload, simulate
from simsparse.result import Result


def whole(machine: str, sparsity: dict[str, str]) -> Result:
    """From the name of a model to its result."""
    return simulate(load_workload("llama-2-70b", phase="decode"), machine, sparsity=sparsity)


if __name__ == "__main__":
    (numpy,) = medians_side_by_side([python("import numpy")])
    for machine in ("a100-sxm-80gb", "xeon-8480plus", "sat-u280"):
        for sparsity in ({}, {"*.mlp.*": "2:4"}):
            job = partial(whole, machine, sparsity)
            job()
            took = median_seconds(job, repeats=25)
            target = "at most 10 ms" if machine.startswith("a100") and not sparsity else ""
            report(
                f"llama-2-70b decode on {machine}, {'mlp 2:4' if sparsity else 'dense'}", f"{took * 1e3:.2f} ms", target
            )
            report("  of import numpy in a fresh process", f"{took / numpy:.3f} x")
