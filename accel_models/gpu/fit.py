"""Fit the constants of GPUs: `python -m accel_models.gpu.fit [EVIDENCE] [--constants]`.

Reads measurements of others, finds what `constants/kernels.toml` names as free, and writes that file again; beside it
`fit.toml` (what was used, errors in the fit, with shapes left out and with a card left out) and `intervals.toml`.
Nothing is random: the same rows and the same code give the same bytes. `--constants` leaves the errors and intervals
as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

from accel_models.gpu.evidence import Block, read
from accel_models.gpu.fit_text import constants_text, fit_text, intervals_text
from accel_models.gpu.fitted import FOLDER, constants
from accel_models.gpu.fitting import fit
from accel_models.gpu.heldout import score
from accel_models.gpu.interval_fit import coverage, fit_intervals
from accel_models.gpu.scores import coverage_lines, lines
from simsparse.measurements import csv_files

EVIDENCE = Path("../shared/evidence/published")


def main(*arguments: str) -> None:
    """Fit, print errors, write the files."""
    folder = next((Path(text) for text in arguments if not text.startswith("-")), EVIDENCE)
    start = constants()
    blocks: list[Block] = [block for block in read(folder) if block.kernel in start.kernels]
    found = fit(blocks, start)
    (FOLDER / "kernels.toml").write_text(constants_text(found), encoding="utf-8")
    if "--constants" in arguments:
        return
    scored = score(blocks, found)
    covered = coverage(scored, tuple(found.kernels))
    print("\n".join([*lines(scored), *coverage_lines(covered)]))
    for name, text in (
        ("fit.toml", fit_text(found, scored, csv_files([folder])[0], covered)),
        ("intervals.toml", intervals_text(fit_intervals(scored, tuple(found.kernels)))),
    ):
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
