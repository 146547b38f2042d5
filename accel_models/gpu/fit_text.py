"""The files of `constants/` as TOML text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from accel_models.gpu.fitted import CardConstants, Constants, FrameworkConstants
from accel_models.gpu.framework_fit import FrameworkFit
from accel_models.gpu.heldout import Scored
from accel_models.gpu.interval_fit import Bools, Coverage
from accel_models.gpu.intervals import Intervals
from accel_models.gpu.scores import PARTS, left_out_cards, median_and_p90
from accel_models.gpu.search import rounded

WRITTEN = "# Written by `python -m accel_models.gpu.fit`"
SELECTION = (
    "use = yes, bare kernels of known cards and families: products (phase gemm) as times or speedups over dense, "
    "attention as speedups"
)


def constants_text(found: Constants) -> str:
    """`kernels.toml`."""
    lines = [f"{WRITTEN}: what `free` names is fitted (see fit.toml),", "# the rest is assumed and kept."]
    lines += [
        "# Units: accel_models/gpu/fitted.py. `any-hbm` and `any-gddr` are means for cards nothing was fitted on."
    ]
    lines += [f"power_exponent = {found.power_exponent!r}"]
    lines += ["", "[frameworks]"]
    lines += [f"{key} = {getattr(found.frameworks, key)!r}" for key in FrameworkConstants.model_fields]
    for name, card in found.cards.items():
        lines += ["", f"[cards.{name}]", *(f"{key} = {getattr(card, key)!r}" for key in CardConstants.model_fields)]
    for name, family in found.kernels.items():
        lines += ["", f"[kernels.{name}]", *(f"{key} = {value!r}" for key, value in family.numbers.items())]
        lines += [f"free = {json.dumps(list(family.free))}"]
    return "\n".join(lines) + "\n"


def fit_text(
    found: Constants, scored: Sequence[Scored], files: Sequence[Path], covered: Coverage, frameworks: FrameworkFit
) -> str:
    """`fit.toml`: rows, files and errors of a fit."""
    used = {row for each in scored for row in each.block.ids}
    lines = [
        f"{WRITTEN}. Errors are [median, 90th percentile] of |predicted / measured - 1|.",
        f'constants = "{found.digest()}"',
        f'selection = "{SELECTION}"',
        'seed = "none: nothing in the fit is random"',
        f"n = {len(used)}",
    ]
    lines += ["", "[cards_left_out]"]
    lines += [f'"{name}" = {_pair(errors)}' for name, errors in left_out_cards(scored).items() if errors is not None]
    lines += [*_coverage("shapes left out", covered.shapes), *_coverage("card left out", covered.cards)]
    lines += [*_coverage("model left out", {"steps": covered.models})]
    lines += ["", "# SHA-256 of each file, the first 12 digits."]
    lines += ["[files]", *(f'"{path.name}" = "{_digest(path)}"' for path in files)]
    lines += _frameworks(frameworks)
    for kernel in found.kernels:
        lines += _family(kernel, [each for each in scored if each.block.kernel == kernel])
    return "\n".join(lines) + "\n"


def _frameworks(found: FrameworkFit) -> Iterator[str]:
    """Errors of steps of models, by the constant of frameworks that they decide."""
    for name in FrameworkConstants.model_fields:
        which = np.array([step.constant == name for step in found.steps])
        rows = [row for step, taken in zip(found.steps, which, strict=True) if taken for row in step.rows]
        yield from ("", f"[frameworks.{name}]", f"ids = {json.dumps(spans(rows))}")
        for what, off in (("in the fit", found.within), ("model left out", found.outside)):
            known = off[which & np.isfinite(off)]
            errors = median_and_p90([np.abs(np.expm1(known))])
            if errors is not None:
                yield f'"{what}" = {_pair(errors)}'


def _family(kernel: str, scored: Sequence[Scored]) -> Iterator[str]:
    if not scored:
        return
    counts: dict[str, int] = {}
    for each in scored:
        counts[each.block.machine] = counts.get(each.block.machine, 0) + len(each.block)
    yield from ("", f"[families.{kernel}]")
    yield f"rows = {{ {', '.join(f'{machine} = {count}' for machine, count in counts.items())} }}"
    yield f"ids = {json.dumps(spans([row for each in scored for row in each.block.ids]))}"
    for name, part in PARTS.items():
        for what in ("latency", "speedup"):
            errors = median_and_p90(getattr(part(each), what) for each in scored)
            if errors is not None:
                yield f'"{what}, {name}" = {_pair(errors)}'


def intervals_text(found: Intervals) -> str:
    """`intervals.toml`."""
    lines = [
        f"{WRITTEN}: bounds over predictions, [latency low, high, speedup low, high], as in",
        "# intervals.py; `seen` by regime: compute, memory, overhead.",
    ]
    lines += [f"common = {list(found.common)}"]
    for kernel, family in found.families.items():
        cards = ", ".join(f'{card} = "{generation}"' for card, generation in family.cards.items())
        seen = ", ".join(str(list(row)) for row in family.seen)
        lines += ["", f"[families.{kernel}]", f"cards = {{ {cards} }}", f"seen = [{seen}]"]
        lines += [f"other = {list(family.other)}"]
    return "\n".join(lines) + "\n"


def _coverage(name: str, covered: Mapping[str, Bools]) -> Iterator[str]:
    """How many measurements lie in intervals made without them, of how many."""
    every = np.concatenate(list(covered.values()))
    yield from ("", f'["coverage, {name}"]', f"all = {{ n = {every.size}, inside = {rounded(float(every.mean()))!r} }}")
    for kernel, inside in covered.items():
        if inside.size:
            yield f"{kernel} = {{ n = {inside.size}, inside = {rounded(float(inside.mean()))!r} }}"


def spans(ids: Sequence[str]) -> list[str]:
    """Row names with their numbers together: `gpu24-0001..0003`, for names that end in `-` and digits."""
    found: list[tuple[str, int, int, int]] = []
    for row in sorted(set(ids)):
        name, _, digits = row.rpartition("-")
        number = int(digits)
        if found and found[-1][:1] == (name,) and found[-1][2] == number - 1:
            found[-1] = (name, found[-1][1], number, len(digits))
        else:
            found.append((name, number, number, len(digits)))
    return [f"{name}-{low:0{width}}" + (f"..{high:0{width}}" if high > low else "") for name, low, high, width in found]


def _pair(errors: tuple[float, float]) -> str:
    return f"[{rounded(errors[0])!r}, {rounded(errors[1])!r}]"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
