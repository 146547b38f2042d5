"""`KernelMachine`: lowering and pricing shared by every machine whose time is a list of kernels.

A family gives its kernels (what each applies to, how it maps a problem) and one function that prices mapped rows. This
class tries every kernel that applies on every site, prices all of them in one array call, and keeps the fastest with
the reasons of the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from simsparse.errors import UnknownNameError, UnsupportedError
from simsparse.ops import Contraction, Op
from simsparse.plan import (
    Alternative,
    Call,
    Floats,
    Ints,
    Plan,
    Prices,
    ProblemColumn,
    ProblemKind,
    Provenance,
    concatenate,
)
from simsparse.sites import Fusions, Site, Ways, cover, problems
from simsparse.sparsity import Dense, PatternKind
from simsparse.specs import Spec
from simsparse.workload import Workload

BEST = "best"
# Rows handled at once, so that their columns stay in cache.
CHUNK = 2048
Refusal = tuple[NDArray[np.bool_], str]


class Kernel(ABC):
    """One kernel of a family.

    Attributes
    ----------
    name : str
        As users name it in `--kernel` and as rows show it.
    kinds : tuple of ProblemKind
        What it can run at all.
    patterns : tuple of PatternKind, optional
        Patterns of A it is made for; None for all. Others are refused with `made_for` as the reason.
    format : str
        Name in `simsparse.formats` of how it stores A.
    """

    name: str
    kinds: tuple[ProblemKind, ...] = (ProblemKind.GEMM,)
    patterns: tuple[PatternKind, ...] | None = None
    made_for: str = ""
    format: str = "dense"

    @abstractmethod
    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Masks of rows it cannot run, each with the reason in words."""

    @abstractmethod
    def map(self, problem: Floats) -> Floats:
        """How it runs each row: (n, q) in the family's mapping columns."""


@dataclass(frozen=True)
class _Tried:
    """The fastest kernel of each of n problems, and what else was tried.

    Attributes
    ----------
    kernel : (n,) ndarray of int
        -1 where none applies.
    mapping : (n, q) ndarray
    latency_s : (n,) ndarray
        What the choice went by.
    others : list of (kernel, (n,) latency_s)
        Every kernel that was mapped, if asked for; infinity where it does not apply.
    refused : list of (kernel, mask, reason)
    """

    kernel: Ints
    mapping: Floats
    latency_s: Floats
    others: list[tuple[int, Floats]]
    refused: list[tuple[int, NDArray[np.bool_], str]]

    def reasons(self, site: int) -> list[tuple[int, str]]:
        """Kernels that refused a site, each with its first reason."""
        found: dict[int, str] = {}
        for kernel, mask, reason in self.refused:
            if mask[site]:
                found.setdefault(kernel, reason)
        return list(found.items())


class KernelMachine(ABC):
    """A machine made of kernels; see the module."""

    name: str
    spec: Spec
    kernels: Sequence[Kernel]
    fusions: Fusions = Fusions()

    @property
    def kernel_names(self) -> tuple[str, ...]:
        """Names of the kernels, in the order of plan codes."""
        return tuple(kernel.name for kernel in self.kernels)

    @property
    @abstractmethod
    def memory_bytes(self) -> float:
        """What a workload's data must fit in."""

    @property
    @abstractmethod
    def provenance(self) -> Provenance:
        """Where the numbers come from."""

    @abstractmethod
    def price_rows(self, problem: Floats, mapping: Floats, kernel: Ints) -> Prices:
        """What mapped rows cost; pure, over arrays."""

    def map_rows(self, problem: Floats, index: int, limit_s: Floats) -> tuple[Floats, Floats]:
        """How kernel `index` runs each problem, and the time it is chosen by.

        A family whose kernels search tiles overrides it: it may leave rows that cannot beat `limit_s` unmapped, with a
        time of infinity, and may leave out of the time what is the same for all kernels.
        """
        del limit_s
        mapping = self.kernels[index].map(problem)
        return mapping, self.price_rows(problem, mapping, np.full(len(problem), index)).latency_s

    def mapper_of(self, plan: Plan) -> KernelMachine:
        """The machine whose kernels map the calls of a plan: itself, unless models run otherwise than bare products.

        The same object for all plans that are mapped alike.
        """
        del plan
        return self

    def price(self, plan: Plan) -> Prices:
        """What each call of a plan costs."""
        rows = range(0, len(plan.problem), CHUNK)
        parts = [
            self.price_rows(plan.problem[i : i + CHUNK], plan.mapping[i : i + CHUNK], plan.kernel[i : i + CHUNK])
            for i in rows
        ]
        return parts[0] if len(parts) == 1 else concatenate(parts)

    def kernel_index(self, name: str) -> int:
        """Where a kernel stands in `kernels`.

        Raises
        ------
        UnknownNameError
        """
        names = [kernel.name for kernel in self.kernels]
        if name not in names:
            raise UnknownNameError.near(f"kernel of {self.name}", name, [BEST, *names])
        return names.index(name)

    def lower_problems(self, problem: Floats, *, kernel: str = BEST) -> Plan:
        """For an array of problems the kernel of each (the fastest, or the named one) and how it runs it.

        Raises
        ------
        UnsupportedError
            If a row has no kernel that runs it, with the reason.
        """
        only = None if kernel == BEST else self.kernel_index(kernel)
        mapping, which = [], []
        for start in range(0, len(problem), CHUNK):
            tried = self._try(problem[start : start + CHUNK], only=only)
            self._check_run(tried, np.arange(len(tried.kernel)), partial(_row_name, start))
            mapping.append(tried.mapping)
            which.append(tried.kernel)
        return Plan(self.name, (), problem, np.concatenate(mapping), np.concatenate(which))

    def lower(self, workload: Workload, *, kernel: str = BEST) -> Plan:
        """Decide which kernels run a workload: for every op the fastest that applies, or the named one where it does.

        Raises
        ------
        UnknownNameError
            For a kernel this machine has not.
        UnsupportedError
            If an op has no kernel, or the named kernel runs no contraction of the workload.
        """
        stretches = cover(workload, self.fusions)
        sites = [site for ways in stretches for way in ways for site in way]
        problem = problems(sites)
        wanted = None if kernel == BEST else self.kernel_index(kernel)
        tried = self._try(problem, prefer=wanted, thorough=True)
        kept = self._take_ways(stretches, tried.latency_s)
        self._check_run(tried, kept, lambda site: sites[site].ops[0].name)
        if wanted is not None and not bool(np.any(tried.kernel[kept] == wanted)):
            raise UnsupportedError(self._why_nothing(wanted, tried, kept))
        calls = tuple(self._call(sites[i], i, tried) for i in kept)
        return Plan(self.name, calls, problem[kept], tried.mapping[kept], tried.kernel[kept], workload)

    def _try(
        self, problem: Floats, *, only: int | None = None, prefer: int | None = None, thorough: bool = False
    ) -> _Tried:
        """Map every kernel that applies (or `only` one) on every problem and keep the fastest of each.

        A `prefer`red kernel is taken wherever it applies, however slow. `thorough` maps slower kernels fully as well.
        """
        count = len(problem)
        kind, pattern = problem[:, ProblemColumn.KIND], problem[:, ProblemColumn.PATTERN]
        chosen, time_s = np.full(count, -1), np.full(count, np.inf)
        mapping: Floats | None = None
        others: list[tuple[int, Floats]] = []
        refused: list[tuple[int, NDArray[np.bool_], str]] = []
        for index, kernel in enumerate(self.kernels):
            if only is not None and index != only:
                continue
            runs = is_any(kind, kernel.kinds)
            if kernel.patterns is not None and runs.any():
                fits = is_any(pattern, kernel.patterns)
                refused.append((index, runs & ~fits, kernel.made_for))
                runs &= fits
            if not runs.any():
                continue
            for mask, reason in kernel.refusals(problem):
                refused.append((index, runs & mask, reason))
                runs = runs & ~mask
                if not runs.any():
                    break
            rows = np.flatnonzero(runs)
            if not rows.size:
                continue
            whole = rows.size == count
            limit_s = np.full(rows.size, np.inf) if thorough else time_s[rows]
            mapped, took_s = self.map_rows(problem if whole else problem[rows], index, limit_s)
            if mapping is None:
                mapping = np.zeros((count, mapped.shape[1]))
            if thorough:
                everywhere = np.full(count, np.inf)
                everywhere[rows] = took_s
                others.append((index, everywhere))
            faster = took_s < time_s[rows]
            if prefer is not None:
                faster = (faster & (chosen[rows] != prefer)) | (index == prefer)
            taken = rows[faster]
            mapping[taken], chosen[taken], time_s[taken] = mapped[faster], index, took_s[faster]
        return _Tried(chosen, mapping if mapping is not None else np.zeros((count, 0)), time_s, others, refused)

    def _check_run(self, tried: _Tried, needed: Ints, name: Callable[[int], str]) -> None:
        """Raise unless every needed problem has a kernel; `name` says what a problem is called."""
        missing = needed[tried.kernel[needed] < 0]
        if missing.size:
            site = int(missing[0])
            reasons = sorted({text for _, text in tried.reasons(site)}) or ["no kernel handles such an op"]
            raise UnsupportedError(f"{self.name} has no kernel for {name(site)}: {'; '.join(reasons)}")

    @staticmethod
    def _take_ways(stretches: Sequence[Ways], latency_s: Floats) -> Ints:
        """Sites of the fastest way through each stretch."""

        def took_s(sites: range) -> float:
            return float(latency_s[sites.start : sites.stop].sum())

        kept: list[int] = []
        start = 0
        for ways in stretches:
            options: list[range] = []
            for way in ways:
                options.append(range(start, start + len(way)))
                start += len(way)
            fastest = options[0] if len(options) == 1 else min(options, key=took_s)
            kept.extend(fastest)
        return np.asarray(kept, dtype=np.int64)

    def _call(self, site: Site, index: int, tried: _Tried) -> Call:
        taken = int(tried.kernel[index])
        others = [
            Alternative(self.kernels[kernel].name, float(took_s[index]), "slower")
            for kernel, took_s in tried.others
            if kernel != taken and took_s[index] < np.inf
        ]
        others += [Alternative(self.kernels[k].name, None, reason) for k, reason in tried.reasons(index)]
        head = site.ops[0]
        names = tuple(op.name for op in site.ops)
        kernel_taken = self.kernels[taken]
        return Call(
            names, kernel_taken.name, head.count, pattern_text(head), tuple(others), head.layers, kernel_taken.format
        )

    def _why_nothing(self, wanted: int, tried: _Tried, kept: Ints) -> str:
        reasons = {text for kernel, mask, text in tried.refused if kernel == wanted and mask[kept].any()}
        name = self.kernels[wanted].name
        return (
            f"kernel {name!r} of {self.name} runs no op of this workload: {'; '.join(sorted(reasons)) or 'none fits'}"
        )


def _row_name(start: int, row: int) -> str:
    return f"row {start + row}"


def is_any(codes: Floats, wanted: Sequence[int]) -> NDArray[np.bool_]:
    """Where codes are one of a few wanted ones, (n,) of bool; faster than `numpy.isin` for so few."""
    found: NDArray[np.bool_] = codes == int(wanted[0])
    for code in wanted[1:]:
        found |= codes == int(code)
    return found


def pattern_text(op: Op) -> str:
    """The pattern of an op that bears on its price, as text; empty for ops that have none."""
    if not isinstance(op, Contraction):
        return ""
    for tensor in (op.a, op.b, op.out):
        if not isinstance(tensor.pattern, Dense):
            return tensor.pattern.text
    return "dense"
