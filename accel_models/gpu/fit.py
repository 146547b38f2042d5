"""Fit the constants of GPUs: `python -m accel_models.gpu.fit [EVIDENCE] [--constants]`.

Reads measurements of others, finds what `constants/kernels.toml` names as free, and writes that file again; beside it
`fit.toml` (what was used, errors in the fit, with shapes left out and with a card left out) and `intervals.toml`.
Nothing is random: the same rows and the same code give the same bytes. `--constants` leaves the errors and intervals
as they are.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from accel_models.gpu.evidence import EVIDENCE, read
from accel_models.gpu.fit_text import constants_text, fit_text, intervals_text
from accel_models.gpu.fitted import FOLDER, constants
from accel_models.gpu.fitting import fit
from accel_models.gpu.framework_fit import fit_frameworks
from accel_models.gpu.heldout import Scored, score
from accel_models.gpu.interval_fit import Coverage, coverage, fit_intervals
from accel_models.gpu.model_fit import common_factors, models_covered, steps
from accel_models.gpu.scores import coverage_lines, lines
from simsparse.measurements import csv_files


@dataclass(frozen=True)
class Fitted:
    """A fit: the files of `constants/` by name, residuals, and what lies in intervals made without it."""

    texts: dict[str, str]
    scored: list[Scored]
    covered: Coverage


def fitted(folder: Path) -> Fitted:
    """Fit the free constants of the shipped file on the measurements of a folder."""
    start = constants()
    blocks = [block for block in read(folder) if block.kernel in start.kernels]
    found = fit(blocks, start)
    frameworks = fit_frameworks(folder, found)
    found = found.model_copy(update={"frameworks": frameworks.constants})
    scored, kernels = score(blocks, found), tuple(found.kernels)
    known = fit_intervals(scored, kernels)
    models = steps(folder, found, known)
    covered = coverage(scored, kernels, models_covered(models))
    texts = {
        "kernels.toml": constants_text(found),
        "fit.toml": fit_text(found, scored, csv_files([folder])[0], covered, frameworks),
        "intervals.toml": intervals_text(known.model_copy(update={"common": common_factors(models)})),
    }
    return Fitted(texts, scored, covered)


def main(*arguments: str) -> None:
    """Fit, print errors, write the files."""
    folder = next((Path(text) for text in arguments if not text.startswith("-")), EVIDENCE)
    if "--constants" in arguments:
        start = constants()
        kernels = fit([b for b in read(folder) if b.kernel in start.kernels], start)
        both = kernels.model_copy(update={"frameworks": fit_frameworks(folder, kernels).constants})
        texts = {"kernels.toml": constants_text(both)}
    else:
        found = fitted(folder)
        print("\n".join([*lines(found.scored), *coverage_lines(found.covered)]))
        texts = found.texts
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
