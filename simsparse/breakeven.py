"""From which sparsity on a pattern wins on a product, and for which batch sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsparse.errors import InputError, UnsupportedError
from simsparse.machine import KernelMachine
from simsparse.plan import Floats, Machine, Prices
from simsparse.problems import MAX_EXTENT, gemm_problems
from simsparse.registry import load_machine
from simsparse.simulate import estimate_problems
from simsparse.sparsity import parse

# A family is the text of a pattern with a star for what varies: M of N:M, else the sparsity.
FAMILIES = ("2:*", "vnm64:2:*", "vector8:*", "block32x32:*", "unstructured:*")
PATTERNS = ("2:4", "vnm64:2:8", "block32x32:0.8", "unstructured:0.8")
TARGETS = (1.0, 1.5, 2.0)
SPARSEST = 0.99
# Machines that search a mapping for every product take seconds for one.
FINE, COARSE = 0.01, 0.1
MOST_M = 64
GAIN = 1.02  # a speedup below it is none: models are not finer


@dataclass(frozen=True, eq=False)
class Curve:
    """One family on one product.

    Attributes
    ----------
    family : str
    patterns : tuple of str
        From the least to the most sparse.
    sparsity, latency_s, speedup : (p,) ndarray
        Of the best kernel made for the pattern; over the best dense kernel.
    kernel, bound : tuple of str
    """

    family: str
    patterns: tuple[str, ...]
    sparsity: Floats
    latency_s: Floats
    speedup: Floats
    kernel: tuple[str, ...]
    bound: tuple[str, ...]

    def reaches(self, target: float) -> int | None:
        """Index of the first pattern that is `target` times as fast as dense, and that all sparser ones are too."""
        below = np.flatnonzero(self.speedup < target)
        first = int(below[-1]) + 1 if len(below) else 0
        return first if first < len(self.patterns) else None


@dataclass(frozen=True, eq=False)
class BatchCurve:
    """One pattern over the columns of B.

    Attributes
    ----------
    pattern : str
    sparsity : float
    speedup : (b,) ndarray
    kernel, bound, dense_bound : tuple of str
    """

    pattern: str
    sparsity: float
    speedup: Floats
    kernel: tuple[str, ...]
    bound: tuple[str, ...]
    dense_bound: tuple[str, ...]

    @property
    def gains(self) -> NDArray[np.bool_]:
        """Where it gains, (b,)."""
        return self.speedup >= GAIN


@dataclass(frozen=True, eq=False)
class Breakeven:
    """What `breakeven` found.

    Attributes
    ----------
    machine : str
    shape : tuple of int
        M, N, K.
    dense_latency_s : float
    curves : tuple of Curve
        Families that some kernel is made for.
    refused : tuple of (family, reason)
        The others.
    batches : (b,) ndarray of int
        Values of N.
    by_batch : tuple of BatchCurve
    """

    machine: str
    shape: tuple[int, int, int]
    dense_latency_s: float
    curves: tuple[Curve, ...]
    refused: tuple[tuple[str, str], ...]
    batches: NDArray[np.int64]
    by_batch: tuple[BatchCurve, ...]


def breakeven(
    machine: str | Machine, m: int, n: int, k: int, *,
    families: Sequence[str] = FAMILIES, patterns: Sequence[str] = PATTERNS, dtype: str = "fp16", most_n: int = 8192,
) -> Breakeven:  # fmt: skip
    """Where patterns of A start to pay in C[M,N] = A[M,K] · B[K,N].

    Parameters
    ----------
    families : sequence of str
        Patterns with a star for what varies: `unstructured:*`, `block32x32:*`, `2:*`, `vnm64:2:*`.
    patterns : sequence of str
        Those that are followed over N, from 1 to `most_n`.

    Raises
    ------
    InputError
        For a family without a star, or a bad extent.
    UnsupportedError
        If the machine has no dense kernel for the product.
    """
    target = load_machine(machine)
    for label, extent in (("M", m), ("N", n), ("K", k), ("most N", most_n)):
        if not 1 <= extent <= MAX_EXTENT:
            raise InputError.expected(label, extent, "from 1 to 2^40")
    dense = gemm_problems(m, n, k, a_dtype=dtype, b_dtype=dtype)
    dense_s = float(estimate_problems(target, dense).latency_s[0])
    special = _made_for_patterns(target, dense)
    step = FINE if isinstance(target, KernelMachine) else COARSE
    curves, refused = [], []
    for family in families:
        texts = members(family, step)
        rows = np.concatenate([gemm_problems(m, n, k, pattern=text, a_dtype=dtype, b_dtype=dtype) for text in texts])
        best = _fastest(target, special, rows)
        kept = np.flatnonzero(np.isfinite(best.latency_s))
        if not len(kept):
            refused.append((family, best.reason))
            continue
        sparsity = np.array([parse(texts[i]).sparsity for i in kept])
        curves.append(
            Curve(
                family, tuple(texts[i] for i in kept), sparsity, best.latency_s[kept], dense_s / best.latency_s[kept],
                tuple(best.kernel[i] for i in kept), tuple(best.bound[i] for i in kept),
            )
        )  # fmt: skip
    batches = _batches(most_n, fine=step == FINE)
    followed = tuple(_over_batch(target, m, k, batches, pattern, dtype) for pattern in patterns)
    return Breakeven(target.name, (m, n, k), dense_s, tuple(curves), tuple(refused), batches, followed)


def members(family: str, step: float = FINE) -> tuple[str, ...]:
    """Patterns of a family, from the least to the most sparse.

    Raises
    ------
    InputError
        Unless exactly one star stands for the sparsity, or for M of N:M.
    """
    if family.count("*") != 1:
        raise InputError.expected(
            "family", family, "a pattern with one * for what varies, such as unstructured:* or 2:*"
        )
    head = family.partition("*")[0].rstrip(":").rpartition(":")[2]
    if not head.isdecimal():
        texts = [family.replace("*", f"{sparsity:.3g}") for sparsity in np.arange(0.3, SPARSEST + 1e-9, step)]
    else:
        kept = int(head)
        texts = [family.replace("*", str(m)) for m in range(kept + 1, MOST_M + 1) if m % (2 * kept) == 0]
    found, error = [], None
    for text in texts:
        # Small M are no V:N:M.
        try:
            found.append(parse(text).text)
        except InputError as why:
            error = why
    if error is not None and not found:
        raise error
    return tuple(found)


def _made_for_patterns(machine: Machine, dense: Floats) -> tuple[str, ...]:
    """Kernels that do not run dense; all of a machine whose every kernel does."""
    names = tuple(name for name in machine.kernel_names if not _runs(machine, dense, name))
    return names or machine.kernel_names


def _runs(machine: Machine, rows: Floats, kernel: str) -> bool:
    try:
        machine.lower_problems(rows, kernel=kernel)
    except UnsupportedError:
        return False
    return True


@dataclass(frozen=True, eq=False)
class _Fastest:
    """Of some kernels the fastest for each of r rows; a time of infinity where none runs it, and the last reason."""

    latency_s: Floats
    kernel: list[str]
    bound: list[str]
    reason: str


def _fastest(machine: Machine, kernels: Iterable[str], rows: Floats) -> _Fastest:
    latency_s, names, bounds, reason = np.full(len(rows), np.inf), [""] * len(rows), [""] * len(rows), ""
    for kernel in kernels:
        for part, prices in _priced(machine, kernel, rows, list(range(len(rows)))):
            if isinstance(prices, str):
                reason = prices
                continue
            for at, i in enumerate(part):
                if prices.latency_s[at] < latency_s[i]:
                    latency_s[i], names[i] = prices.latency_s[at], kernel
                    bounds[i] = prices.term_names[int(prices.bound[at])]
    return _Fastest(latency_s, names, bounds, reason)


def _priced(machine: Machine, kernel: str, rows: Floats, part: list[int]) -> Iterator[tuple[list[int], Prices | str]]:
    """Prices of `part` of the rows, together where the kernel runs all of them, else one by one; or why it does not."""
    try:
        prices = machine.price(machine.lower_problems(rows[part], kernel=kernel))
    except UnsupportedError as error:
        if len(part) == 1:
            yield part, str(error).rpartition(": ")[2]
        else:
            for i in part:
                yield from _priced(machine, kernel, rows, [i])
    else:
        yield part, prices


def _batches(most: int, *, fine: bool) -> NDArray[np.int64]:
    """1, 2, 3, 4, 6, 8, 12, … up to `most`; powers of 4 where not fine."""
    steps = (
        np.unique(np.concatenate([2 ** np.arange(0, 41), 3 * 2 ** np.arange(0, 40)])) if fine else 4 ** np.arange(20)
    )
    return np.asarray(steps[steps <= most], np.int64)


def _over_batch(machine: Machine, m: int, k: int, batches: NDArray[np.int64], pattern: str, dtype: str) -> BatchCurve:
    rows = gemm_problems(m, batches, k, pattern=pattern, a_dtype=dtype, b_dtype=dtype)
    found = estimate_problems(machine, rows)
    dense = [found.dense_prices.term_names[int(i)] for i in found.dense_prices.bound]
    wanted = parse(pattern)
    return BatchCurve(
        wanted.text,
        wanted.sparsity,
        found.speedup,
        tuple(found.kernel.tolist()),
        tuple(found.bound.tolist()),
        tuple(dense),
    )
