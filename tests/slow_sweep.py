"""A sweep slow enough to be killed in the middle: `python slow_sweep.py DIR JOBS`."""

from __future__ import annotations

import sys
import time

import toy_machine
import toy_model  # noqa: F401  registers the workload "toy-model"

from simsparse import register, versions
from simsparse.sweep import run_sweep

SPEC: dict[str, object] = {
    "workload": "toy-model", "batch": list(range(1, 129)), "machine": "slow", "pattern": ["dense", "2:4"],
}  # fmt: skip


class Slow(toy_machine.Toy):
    name = "slow"

    def __init__(self, pause_s: float) -> None:
        self.pause_s = pause_s

    def lower(self, *args: object, **options: object) -> object:
        time.sleep(self.pause_s)
        return super().lower(*args, **options)


def same_code(packages: object) -> bytes:
    """In place of the code's hash: the test and this process agree even where somebody edits the code meanwhile."""
    return b""


if __name__ == "__main__":
    import slow_sweep  # under the name that other processes can import

    versions._code_digest = same_code
    register(slow_sweep.Slow(0.01))
    run_sweep(SPEC, sys.argv[1], jobs=int(sys.argv[2]))
