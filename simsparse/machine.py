"""`KernelMachine`: lowering and pricing shared by every machine whose time is a list of kernels.

A family gives its kernels (what each applies to, how it maps a problem) and one function that prices mapped rows. This
class tries every kernel that applies on every site, prices all of them in one array call, and keeps the fastest with
the reasons of the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsparse.errors import UnknownNameError, UnsupportedError
from simsparse.ops import Contraction, Op
from simsparse.plan import Alternative, Call, Floats, Ints, Plan, Prices, ProblemColumn, ProblemKind, Provenance
from simsparse.sites import Fusions, Site, Ways, cover, problems
from simsparse.sparsity import Dense
from simsparse.workload import Workload

BEST = "best"
Refusal = tuple[NDArray[np.bool_], str]


class Kernel(ABC):
    """One kernel of a family.

    Attributes
    ----------
    name : str
        As users name it in `--kernel` and as rows show it.
    kinds : tuple of ProblemKind
        What it can run at all.
    format : str
        Name in `simsparse.formats` of how it stores A.
    """

    name: str
    kinds: tuple[ProblemKind, ...] = (ProblemKind.GEMM,)
    format: str = "dense"

    @abstractmethod
    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        """Masks of rows it cannot run, each with the reason in words."""

    @abstractmethod
    def map(self, problem: Floats) -> Floats:
        """How it runs each row: (n, q) in the family's mapping columns."""


@dataclass(frozen=True)
class _Candidates:
    """Every kernel that applies on every site, priced."""

    site: Ints
    kernel: Ints
    mapping: Floats
    latency_s: Floats
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

    def map_rows(self, problem: Floats, index: int) -> Floats:
        """How kernel `index` runs each problem; a family whose kernels share a tile search overrides it."""
        return self.kernels[index].map(problem)

    def price(self, plan: Plan) -> Prices:
        """What each call of a plan costs."""
        return self.price_rows(plan.problem, plan.mapping, plan.kernel)

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
        candidates = self._candidates(problem, kernel, strict=kernel != BEST)
        chosen = self._fastest(candidates, len(problem))
        return Plan(self.name, (), problem, candidates.mapping[chosen], candidates.kernel[chosen])

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
        candidates = self._candidates(problem, kernel, strict=False)
        chosen = self._fastest(candidates, len(sites), sites)
        kept = self._take_ways(stretches, candidates.latency_s[chosen])
        if kernel != BEST and not bool(np.any(candidates.kernel[chosen[kept]] == self.kernel_index(kernel))):
            raise UnsupportedError(self._why_nothing(kernel, candidates, kept))
        calls = tuple(self._call(sites[i], i, int(chosen[i]), candidates) for i in kept)
        rows = chosen[kept]
        return Plan(self.name, calls, problem[kept], candidates.mapping[rows], candidates.kernel[rows], workload)

    def _candidates(self, problem: Floats, kernel: str, *, strict: bool) -> _Candidates:
        wanted = None if kernel == BEST else self.kernel_index(kernel)
        kind = problem[:, ProblemColumn.KIND]
        refused: list[tuple[int, NDArray[np.bool_], str]] = []
        found: list[tuple[Ints, int, Floats]] = []
        for index, candidate in enumerate(self.kernels):
            if strict and index != wanted:
                continue
            runs = np.isin(kind, candidate.kinds)
            for mask, reason in candidate.refusals(problem):
                refused.append((index, runs & mask, reason))
                runs = runs & ~mask
            rows = np.flatnonzero(runs)
            if rows.size:
                found.append((rows, index, self.map_rows(problem[rows], index)))
        if not found:
            reasons = sorted({text for _, mask, text in refused if mask.any()}) or ["no kernel handles such an op"]
            raise UnsupportedError(f"{self.name} cannot run this with kernel {kernel!r}: {'; '.join(reasons)}")
        site = np.concatenate([rows for rows, _, _ in found])
        which = np.concatenate([np.full(rows.size, index) for rows, index, _ in found])
        mapping = np.concatenate([mapped for _, _, mapped in found])
        latency_s = self.price_rows(problem[site], mapping, which).latency_s
        if wanted is not None and not strict:
            # Where the named kernel applies it is taken, however slow.
            has = np.isin(site, site[which == wanted])
            latency_s = np.where(has & (which != wanted), np.inf, latency_s)
        return _Candidates(site, which, mapping, latency_s, refused)

    def _fastest(self, candidates: _Candidates, sites: int, named: Sequence[Site] | None = None) -> Ints:
        """For each site the row of its fastest candidate; the earlier kernel wins a tie."""
        order = np.lexsort((candidates.kernel, candidates.latency_s, candidates.site))
        found, first = np.unique(candidates.site[order], return_index=True)
        if found.size < sites:
            missing = int(np.setdiff1d(np.arange(sites), found)[0])
            what = named[missing].ops[0].name if named else f"row {missing}"
            reasons = sorted({text for _, text in candidates.reasons(missing)})
            raise UnsupportedError(
                f"{self.name} has no kernel for {what}: {'; '.join(reasons) or 'unknown kind of op'}"
            )
        return order[first]

    @staticmethod
    def _take_ways(stretches: Sequence[Ways], latency_s: Floats) -> Ints:
        """Sites of the fastest way through each stretch."""
        kept: list[int] = []
        start = 0
        for ways in stretches:
            options = []
            for way in ways:
                options.append(range(start, start + len(way)))
                start += len(way)
            kept.extend(min(options, key=lambda sites: float(latency_s[sites.start : sites.stop].sum())))
        return np.asarray(kept, dtype=np.int64)

    def _call(self, site: Site, index: int, chosen: int, candidates: _Candidates) -> Call:
        taken = int(candidates.kernel[chosen])
        others = [
            Alternative(self.kernels[int(candidates.kernel[row])].name, float(candidates.latency_s[row]), "slower")
            for row in np.flatnonzero(candidates.site == index)
            if row != chosen and np.isfinite(candidates.latency_s[row])
        ]
        refused = [Alternative(self.kernels[k].name, None, reason) for k, reason in candidates.reasons(index)]
        names = tuple(op.name for op in site.ops)
        head = site.ops[0]
        return Call(
            names,
            self.kernels[taken].name,
            head.count,
            pattern_text(head),
            (*others, *refused),
            head.layers,
            self.kernels[taken].format,
        )

    def _why_nothing(self, kernel: str, candidates: _Candidates, kept: Ints) -> str:
        index = self.kernel_index(kernel)
        reasons = {text for k, mask, text in candidates.refused if k == index and mask[kept].any()}
        return (
            f"kernel {kernel!r} of {self.name} runs no op of this workload: {'; '.join(sorted(reasons)) or 'none fits'}"
        )


def pattern_text(op: Op) -> str:
    """The pattern of an op that bears on its price, as text; empty for ops that have none."""
    if not isinstance(op, Contraction):
        return ""
    for tensor in (op.a, op.b, op.out):
        if not isinstance(tensor.pattern, Dense):
            return tensor.pattern.text
    return "dense"
