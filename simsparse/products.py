"""Tables of matrix products, each with its own pattern and type, priced as one array."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from simsparse.errors import InputError, UnsupportedError
from simsparse.fallback import GAIN, why_dense
from simsparse.machine import KernelMachine
from simsparse.plan import PROBLEM_WIDTH, Alternative, Floats, Machine, ProblemColumn, ProblemKind
from simsparse.problems import MAX_EXTENT, gemm_problems
from simsparse.simulate import GemmEstimate, estimate_problems, without_pattern
from simsparse.sparsity import PatternKind, parse

ACCUMULATE_BITS = {"fp32": 32, "fp16": 16, "int32": 32}


@dataclass(frozen=True, slots=True)
class Style:
    """What products may share: pattern, which operand has it, type, what sums are kept in."""

    pattern: str = "dense"
    sparse_operand: str = "A"
    dtype: str = "fp16"
    accumulate: str = "fp32"

    def __post_init__(self) -> None:
        if self.accumulate not in ACCUMULATE_BITS:
            raise InputError.expected("accumulate", self.accumulate, f"one of {', '.join(ACCUMULATE_BITS)}")


@dataclass(frozen=True)
class Products:
    """Products `C[M,N] = A[M,K] · B[K,N]`.

    Attributes
    ----------
    extents : (n, 4) list of int
        M, N, K and how many independent products there are in each.
    styles : sequence of Style, (n,)
    """

    extents: Sequence[tuple[int, int, int, int]]
    styles: Sequence[Style]

    def problems(self) -> Floats:
        """Their rows, (n, PROBLEM_WIDTH), built style by style.

        Raises
        ------
        InputError
        """
        by_style: dict[Style, list[int]] = {}
        for index, style in enumerate(self.styles):
            by_style.setdefault(style, []).append(index)
        rows = np.empty((len(self.extents), PROBLEM_WIDTH))
        for style, members in by_style.items():
            m, n, k, batch = zip(*(self.extents[index] for index in members), strict=True)
            rows[members] = gemm_problems(
                m, n, k,
                pattern=style.pattern, sparse_operand=style.sparse_operand, a_dtype=style.dtype,
                accumulate_bits=ACCUMULATE_BITS[style.accumulate], batch=batch,
            )  # fmt: skip
        return rows


@dataclass(frozen=True)
class PricedProducts:
    """Products with their estimates."""

    products: Products
    estimate: GemmEstimate

    def columns(self) -> dict[str, list[object]]:
        """The table as columns."""
        found, extents, styles = self.estimate, np.array(self.products.extents), self.products.styles
        return {
            **{label: extents[:, i].tolist() for i, label in enumerate(("M", "N", "K", "batch"))},
            **{item.name: [getattr(style, item.name) for style in styles] for item in fields(Style)},
            "kernel": found.kernel.tolist(),
            "latency_s": found.latency_s.tolist(),
            "dense_latency_s": found.dense_latency_s.tolist(),
            "speedup": found.speedup.tolist(),
            "energy_j": found.energy_j.tolist(),
            "dense_energy_j": found.dense_energy_j.tolist(),
            "bound": found.bound.tolist(),
            "flops": found.prices.flops.tolist(),
            **self._bounds(),
        }

    def _bounds(self) -> dict[str, list[object]]:
        """Columns of the 80 % intervals, on machines that give them."""
        found = self.estimate
        if found.latency_interval_s is None or found.speedup_interval is None:
            return {}
        return {
            "latency_low_s": found.latency_interval_s[:, 0].tolist(),
            "latency_high_s": found.latency_interval_s[:, 1].tolist(),
            "speedup_low": found.speedup_interval[:, 0].tolist(),
            "speedup_high": found.speedup_interval[:, 1].tolist(),
        }

    def rows(self) -> list[dict[str, object]]:
        """The table as rows."""
        columns = self.columns()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def price_products(machine: Machine, products: Products, kernel: str = "best") -> PricedProducts:
    """Price a table of products in one array call.

    Raises
    ------
    SimsparseError
    """
    return PricedProducts(products, estimate_problems(machine, products.problems(), kernel=kernel))


def why_dense_taken(machine: Machine, priced: PricedProducts) -> str:
    """Why the first product, which has a pattern, runs on the dense kernel; empty if it has none or gains from it."""
    found = priced.estimate
    if found.speedup[0] > GAIN or found.kernel[0] != found.kernel_names[int(found.dense_plan.kernel[0])]:
        return ""
    problem = priced.products.problems()[:1]
    if problem[0, ProblemColumn.PATTERN] == PatternKind.DENSE:
        return ""
    taken = str(found.kernel[0])
    dense = _others(machine, without_pattern(problem), taken)
    return why_dense(taken, float(found.latency_s[0]), other_kernels(machine, priced), dense)


def other_kernels(machine: Machine, priced: PricedProducts) -> list[Alternative]:
    """What each kernel that was not taken would need for the first product, or why it cannot run it."""
    return _others(machine, priced.products.problems()[:1], str(priced.estimate.kernel[0]))


def _others(machine: Machine, problem: Floats, taken: str) -> list[Alternative]:
    found = []
    for name in _for_products(machine):
        if name == taken:
            continue
        try:
            time_s = machine.price(machine.lower_problems(problem, kernel=name)).latency_s[0]
        except UnsupportedError as error:
            found.append(Alternative(name, None, str(error).rpartition(": ")[2]))
        else:
            found.append(Alternative(name, float(time_s), "slower"))
    return found


def _for_products(machine: Machine) -> list[str]:
    """Names of the kernels that are for products at all, as far as the machine tells."""
    if isinstance(machine, KernelMachine):
        return [kernel.name for kernel in machine.kernels if ProblemKind.GEMM in kernel.kinds]
    return list(machine.kernel_names)


def read_products(path: str | Path, default: Style) -> Products:
    """Products from a CSV with columns M, N, K and, optionally, batch, pattern, sparse_operand, dtype, accumulate.

    Parameters
    ----------
    default : Style
        For columns that are missing and cells that are empty.

    Raises
    ------
    InputError
        For a file that cannot be read, a missing or unknown column, a bad cell; with its line.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            names = [name.strip() for name in reader.fieldnames or ()]
            _check_header(str(path), names)
            reader.fieldnames = names
            lines = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"file {str(path)!r} is no readable CSV ({reason}), expected columns M, N, K") from None
    if not lines:
        raise InputError(f"file {str(path)!r} has no rows, expected at least one product")
    styles: dict[tuple[str, ...], Style] = {}
    extents, chosen = [], []
    for number, row in lines:
        where = f"line {number} of {Path(path).name!r}"
        m, n, k = (_extent(row, label, where) for label in ("M", "N", "K"))
        extents.append((m, n, k, _extent(row, "batch", where, "1")))
        key = tuple((row.get(item.name) or "").strip() for item in fields(Style))
        if key not in styles:
            styles[key] = _style(key, default, where)
        chosen.append(styles[key])
    return Products(extents, chosen)


def checked_extent(label: str, extent: int) -> int:
    """The extent, if it is one.

    Raises
    ------
    InputError
    """
    if not 1 <= extent <= MAX_EXTENT:
        raise InputError.expected(label, extent, "from 1 to 2^40")
    return extent


def _check_header(path: str, names: Sequence[str]) -> None:
    optional = ["batch", *(item.name for item in fields(Style))]
    for label in ("M", "N", "K"):
        if label not in names:
            raise InputError(f"file {path!r} has no column {label}, expected columns M, N, K and optionally {optional}")
    for name in names:
        if name not in ("M", "N", "K", *optional):
            raise InputError(f"file {path!r} has a column {name!r}, expected M, N, K and optionally {optional}")


def _extent(row: Mapping[str, str | None], label: str, where: str, default: str = "") -> int:
    text = (row.get(label) or default).strip()
    try:
        extent = int(text)
    except ValueError:
        raise InputError.expected(f"{label} in {where}", text, "a whole number") from None
    return checked_extent(f"{label} in {where}", extent)


def _style(texts: Sequence[str], default: Style, where: str) -> Style:
    chosen = [text or getattr(default, item.name) for text, item in zip(texts, fields(Style), strict=True)]
    try:
        style = Style(*chosen)
        parse(style.pattern)
        gemm_problems(1, 1, 1, sparse_operand=style.sparse_operand, a_dtype=style.dtype)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return style
