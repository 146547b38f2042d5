"""`simulate`, `compare`, `estimate_gemm`: from a workload and a machine to a result, beside the dense baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike

from simsparse.capacity import footprint
from simsparse.dtypes import DType
from simsparse.errors import InputError
from simsparse.intervals import IntervalColumn
from simsparse.ops import Contraction, Op
from simsparse.plan import Floats, Ints, Machine, Plan, Prices, ProblemColumn, compute_types, roofs
from simsparse.problems import gemm_problems
from simsparse.registry import load_machine, load_workload
from simsparse.result import Baseline, Result
from simsparse.sparsity import DENSE, Dense, Pattern, PatternKind, parse
from simsparse.transforms.patterns import Sparsity, by_glob
from simsparse.workload import Workload


class WorkloadOptions(TypedDict, total=False):
    """What `load_workload` takes beside the workload itself."""

    phase: str | None
    batch: int
    seq: int | None
    context: int | None
    dtype: str


def simulate(
    workload: str | Workload,
    machine: str | Machine,
    *,
    sparsity: Sparsity | None = None,
    kernel: str = "best",
    baseline: Workload | Baseline | None = None,
    **options: Unpack[WorkloadOptions],
) -> Result:
    """What a workload costs on a machine, and what it gains over dense.

    Parameters
    ----------
    workload : str or Workload
        A name or path goes through `load_workload` with `options` (`WorkloadOptions`).
    machine : str or Machine
    sparsity : mapping of glob to pattern, pattern or `GLOB=PATTERN` texts, optional
        Applied first, as `Workload.with_sparsity`; a bare pattern goes on all ops.
    kernel : str
        `"best"`, or the name of a kernel to take wherever it applies.
    baseline : Workload or Baseline, optional
        What speedup is over; by default the same workload without its patterns (and before slicing and dropping), on
        the best dense kernels. A `Baseline` of this machine is taken as it is (`baseline_of`).

    Returns
    -------
    Result

    Raises
    ------
    SimsparseError
    """
    target = load_machine(machine)
    work = load_workload(workload, **options)
    if not isinstance(kernel, str):
        raise InputError.expected("kernel", kernel, "best or the name of a kernel")
    if sparsity:
        work = work.with_sparsity(by_glob(sparsity))
    plan = target.lower(work, kernel=kernel)
    prices = target.price(plan)
    if isinstance(baseline, Baseline):
        dense = baseline
    else:
        reference = baseline if baseline is not None else dense_twin(work)
        same = reference is work and kernel == "best"
        dense = Baseline(name=reference.name, plan=plan, prices=prices) if same else baseline_of(reference, target)
    return Result(
        workload=work,
        machine=target.name,
        plan=plan,
        prices=prices,
        baseline=dense,
        footprint=footprint(work, plan, target.memory_bytes),
        provenance=target.provenance.of_types(compute_types(plan.problem)),
        roofs=roofs(target, plan.problem),
    )


def baseline_of(reference: Workload, machine: Machine) -> Baseline:
    """A workload on the best kernels of a machine, to be the baseline of many results."""
    plan = machine.lower(reference, kernel="best")
    return Baseline(name=reference.name, plan=plan, prices=machine.price(plan))


def dense_twin(workload: Workload) -> Workload:
    """The workload as it was before sparsity: its origin if a transform kept one, without any pattern."""
    source = workload.origin if workload.origin is not None else workload
    ops = tuple(_dense(op) for op in source.ops)
    return source if all(a is b for a, b in zip(ops, source.ops, strict=True)) else replace(source, ops=ops)


def _dense(op: Op) -> Op:
    if not isinstance(op, Contraction):
        return op
    bare = {
        label: replace(getattr(op, label), pattern=DENSE)
        for label in ("a", "b", "out")
        if not isinstance(getattr(op, label).pattern, Dense)
    }
    return op.with_tensors(**bare) if bare else op


def compare(
    workload: str | Workload,
    machines: str | Machine | Iterable[str | Machine],
    patterns: str | Pattern | Sequence[str | Pattern],
    *,
    on: str = "*",
    kernel: str = "best",
    **options: Unpack[WorkloadOptions],
) -> list[Result]:
    """Each pattern on each machine: a result for every pair, machines outermost.

    `Comparison.of(results, patterns)` of `simsparse.compared` is their grid, which `plots.speedup_bars` draws.

    Parameters
    ----------
    machines : str, Machine or several
    patterns : str, Pattern or several
    on : str
        Glob of the ops that get the pattern; ops of attention for patterns on scores.
    """
    work = load_workload(workload, **options)
    if isinstance(patterns, str) or not isinstance(patterns, Iterable):
        patterns = [patterns]
    if isinstance(machines, str) or not isinstance(machines, Iterable):
        machines = [machines]
    wanted, targets = [parse(pattern) for pattern in patterns], [load_machine(machine) for machine in machines]
    for field, values in (("machines", targets), ("patterns", wanted)):
        if not values:
            raise InputError.expected(field, values, "at least one")
    results = []
    for machine in targets:
        for pattern in wanted:
            chosen = {} if isinstance(pattern, Dense) else {on: pattern}
            results.append(simulate(work, machine, sparsity=chosen, kernel=kernel))
    return results


@dataclass(frozen=True)
class GemmEstimate:
    """Prices of an array of products, each beside the best dense kernel for it.

    Attributes
    ----------
    latency_s, energy_j, dense_latency_s, dense_energy_j, speedup : (n,) ndarray
    latency_interval_s, speedup_interval : (n, 2) ndarray or None
        Bounds of 80 % intervals; None where the machine gives none.
    bound : (n,) ndarray of str
    kernel : (n,) ndarray of str
    prices, dense_prices : Prices
    """

    machine: str
    kernel_names: tuple[str, ...]
    plan: Plan
    prices: Prices
    dense_plan: Plan
    dense_prices: Prices

    @classmethod
    def of(cls, machine: Machine, problem: Floats, dense: Floats, *, kernel: str = "best") -> GemmEstimate:
        """Price bare problem rows, beside the best kernels for `dense`."""
        plan, dense_plan = machine.lower_problems(problem, kernel=kernel), machine.lower_problems(dense)
        return cls(machine.name, machine.kernel_names, plan, machine.price(plan), dense_plan, machine.price(dense_plan))

    def __repr__(self) -> str:
        products = f"{len(self.latency_s):,} product" + "s" * (len(self.latency_s) != 1)
        seconds, gain = float(self.latency_s.sum()), float(self.dense_latency_s.sum() / self.latency_s.sum())
        return f"<GemmEstimate: {products} on {self.machine}, {seconds:.4g} s, {gain:.2f} times as fast as dense>"

    @property
    def latency_s(self) -> Floats:
        """Time of each product."""
        return self.prices.latency_s

    @property
    def energy_j(self) -> Floats:
        """Energy of each product."""
        return self.prices.energy_j

    @property
    def dense_latency_s(self) -> Floats:
        """Time of the best dense kernel."""
        return self.dense_prices.latency_s

    @property
    def dense_energy_j(self) -> Floats:
        """Energy of the best dense kernel."""
        return self.dense_prices.energy_j

    @property
    def speedup(self) -> Floats:
        """Dense time over sparse time."""
        return self.dense_latency_s / self.latency_s

    @property
    def latency_interval_s(self) -> Floats | None:
        """Bounds of each time."""
        if self.prices.interval is None:
            return None
        return np.asarray(
            self.latency_s[:, None] * self.prices.interval[:, IntervalColumn.LATENCY_LOW : IntervalColumn.SPEEDUP_LOW]
        )

    @property
    def speedup_interval(self) -> Floats | None:
        """Bounds of each speedup."""
        if self.prices.interval is None:
            return None
        return np.asarray(self.speedup[:, None] * self.prices.interval[:, IntervalColumn.SPEEDUP_LOW :])

    @property
    def bound(self) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
        """What bounds each product."""
        return _names(self.prices.term_names, self.prices.bound)

    @property
    def kernel(self) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
        """The kernel of each product."""
        return _names(self.kernel_names, self.plan.kernel)


def _names(names: tuple[str, ...], index: Ints) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    return np.asarray(names)[index]


def estimate_gemm(
    machine: str | Machine,
    m: ArrayLike,
    n: ArrayLike,
    k: ArrayLike,
    *,
    pattern: str | Pattern = DENSE,
    sparse_operand: str = "A",
    dtype: str | DType = "fp16",
    weight_dtype: str | DType | None = None,
    accumulate_bits: int = 32,
    batch: ArrayLike = 1,
    density: ArrayLike | None = None,
    other_density: ArrayLike = 1.0,
    kernel: str = "best",
) -> GemmEstimate:
    """Price products `C[M,N] = A[M,K] · B[K,N]`, one or a million, in one call.

    Parameters
    ----------
    m, n, k, batch : array_like of int, broadcast to (n,)
    pattern, sparse_operand, density, other_density : as in `simsparse.problems.gemm_problems`
    dtype : str
        Type of both operands.
    weight_dtype : str, optional
        Type of the sparse operand where it differs (weight-only quantisation).
    kernel : str
        `"best"` or a kernel's name.

    Raises
    ------
    SimsparseError
        For bad extents or none, or if nothing on the machine runs such a product.
    """
    target = load_machine(machine)
    rows = gemm_problems(
        m, n, k,
        pattern=pattern, sparse_operand=sparse_operand, a_dtype=weight_dtype or dtype, b_dtype=dtype,
        accumulate_bits=accumulate_bits, batch=batch, density=density,
        other_density=other_density,
    )  # fmt: skip
    return estimate_problems(target, rows, kernel=kernel)


def estimate_problems(machine: Machine, problem: Floats, *, kernel: str = "best") -> GemmEstimate:
    """Price bare problem rows, beside the best kernels for the same rows without pattern."""
    bare = problem[:, ProblemColumn.PATTERN] == PatternKind.DENSE
    if kernel == "best" and bool(np.all(bare & (problem[:, ProblemColumn.B_DENSITY] == 1.0))):
        plan = machine.lower_problems(problem, kernel=kernel)
        prices = machine.price(plan)
        return GemmEstimate(machine.name, machine.kernel_names, plan, prices, plan, prices)
    return GemmEstimate.of(machine, problem, without_pattern(problem), kernel=kernel)


def without_pattern(problem: Floats) -> Floats:
    """The same problems, dense."""
    dense = problem.copy()
    dense[:, ProblemColumn.B_DENSITY] = 1.0
    dense[:, ProblemColumn.PATTERN :] = DENSE.columns()
    return dense
