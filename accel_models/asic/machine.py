"""A described architecture as a machine: the engine maps every product, streams are bytes over the memory's rate.

The rule that combines the terms of a product is the engine's: all levels and the array work at once,

    latency = max(compute, time of each level) + wait

where `wait` is the filling of levels that have no room to load ahead,
and a stream takes the bytes it moves over the bandwidth of the outermost level; nothing is launched. A value wider than
the design's words takes n words: n times the accesses, n² multiplications for one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from accel_models.asic.modes import Kernel, kernels_of
from accel_models.asic.product import (
    COMPUTE_J,
    COMPUTE_S,
    FIRST_LEVEL,
    LATENCY_S,
    LEAST_BYTES,
    LEVEL_BYTES,
    LEVEL_J,
    LEVEL_S,
    LEVEL_WIDTH,
    LIVE_MACS,
    WAIT_S,
    Product,
    mapped_row,
    product_of,
    product_of_row,
    widened,
    words_of,
)
from simsparse.dataflow.architecture import Architecture
from simsparse.dataflow.design import DesignSpec
from simsparse.dataflow.objective import Constraints, Objective
from simsparse.dataflow.roles import bound, roles_of
from simsparse.dataflow.search import map as find
from simsparse.dataflow.store import code_version, content_key, engine_version, remembered
from simsparse.errors import UnknownNameError, UnsupportedError
from simsparse.machine import BEST, pattern_text
from simsparse.ops import Contraction, Op
from simsparse.plan import (
    Alternative,
    Call,
    Fact,
    Floats,
    Plan,
    Prices,
    ProblemColumn,
    ProblemKind,
    Provenance,
    rule_of,
)
from simsparse.problems import problem_of
from simsparse.workload import Phase, Workload

C = ProblemColumn
STREAM = "stream"
FASTEST = Objective(latency=1.0, energy=0.05)  # of two mappings about as fast the one that takes less energy
BUDGET = 20_000  # mappings of a product by one dataflow
_BITS = {"fp64": 64, "fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "int4": 4, "fp4": 4}


class AsicMachine:
    """One design with its memory."""

    def __init__(self, spec: DesignSpec) -> None:
        self.spec = spec
        self.name = spec.name
        self.kernels = kernels_of(spec)

    @property
    def kernel_names(self) -> tuple[str, ...]:
        """Its modes (with dataflows, where there are several), and what runs streams."""
        return (*(kernel.name for kernel in self.kernels), STREAM)

    @property
    def memory_bytes(self) -> float:
        """Capacity of the memory."""
        return self.spec.memory_bytes.value

    @property
    def area_mm2(self) -> float | None:
        """Of the chip; None where the design does not say it."""
        return self.spec.area_mm2

    @property
    def dram_bytes_per_s(self) -> float:
        """Rate at which the outermost level is read."""
        outer = next(iter(self.spec.levels.values()))
        return outer.read_words_per_cycle.value * outer.word_bits.value / 8.0 * self.spec.clock_hz.value

    def peak_flops_per_s(self, type_name: str, sparse: bool = False) -> float:
        """Peak of a type; effective with `sparse`, where lanes over the zeros of 2:4 are left out."""
        words = words_of(_BITS[type_name], self._word_bits)
        halves = sparse and any(kernel.nm is not None and kernel.nm.text == "2:4" for kernel in self.kernels)
        return 2.0 * self._dense.compute.instances * self.spec.clock_hz.value / words**2 * (2.0 if halves else 1.0)

    @property
    def provenance(self) -> Provenance:
        """Hash of the design and of the engine, figures nobody looked up, figures this project chose."""
        figures = list(self.spec.figures())
        return Provenance(
            spec_hash=self.spec.digest(),
            constants_hash=engine_version()[:12],
            unverified=tuple(name for name, figure in figures if figure.unverified),
            assumed=tuple(name for name, figure in figures if figure.assumed),
        )

    @property
    def rule(self) -> str:
        """See `HasFacts`."""
        return rule_of(__doc__)

    def facts(self, plan: Plan, row: int) -> tuple[Fact, ...]:
        """See `HasFacts`: work and the design; where single counts come from, `Analysis.explain` says."""
        mapping, compute = plan.mapping[row], self._dense.compute.instances
        problem = plan.problem[row]
        words = words_of(float(max(problem[C.A_BITS], problem[C.B_BITS])), self._word_bits)
        busy = mapping[COMPUTE_S] * self.spec.clock_hz.value * compute / words**2
        left, least = float(mapping[LIVE_MACS]), float(mapping[LEAST_BYTES])
        found = [
            Fact("work", "MACs that are left", left, "", "after skipping; gated ones take their place too"),
            Fact("work", "multipliers busy", left / busy if busy else 0.0, "", "of all, while the array computes"),
            Fact("work", "distinct operands", least, "B", "kept values of A and B, each once"),
            Fact("rates", "multipliers", float(compute), "", self.spec.compute.source),
            Fact("rates", "clock_hz", self.spec.clock_hz.value, "Hz", self.spec.clock_hz.source),
        ]
        for name, level in self.spec.levels.items():
            per_cycle = level.read_words_per_cycle
            if math.isinf(per_cycle.value):
                continue
            found.append(Fact("rates", f"{name}, words read a cycle", per_cycle.value, "", per_cycle.source))
        return tuple(found)

    @cached_property
    def _dense(self) -> Architecture:
        return self.spec.architecture(sparse=False)

    @cached_property
    def _sparse(self) -> Architecture:
        return self.spec.architecture()

    @property
    def _word_bits(self) -> float:
        return next(iter(self.spec.levels.values())).word_bits.value

    @property
    def _width(self) -> int:
        return FIRST_LEVEL + LEVEL_WIDTH * len(self.spec.levels)

    def lower(self, workload: Workload, *, kernel: str = BEST) -> Plan:
        """Map every op: by the fastest mode and dataflow that apply, or the named one where it does.

        Raises
        ------
        UnknownNameError
            For a kernel this machine has not.
        UnsupportedError
            If an op cannot run here, or the named kernel runs no product of the workload.
        """
        wanted = self._wanted(kernel)
        calls, rows, mappings, codes = [], [], [], []
        for op in workload.ops:
            row = problem_of(op, training=workload.phase is Phase.TRAIN)
            if row[C.KIND] == ProblemKind.TRANSFER:
                raise UnsupportedError(f"{self.name} has no kernel for {op.name}: it has no links to other chips")
            code, mapping = len(self.kernels), np.zeros(self._width)
            others: tuple[Alternative, ...] = ()
            if isinstance(op, Contraction):
                code, mapping, others = self._choose(product_of(op, row), op.name, wanted)
            calls.append(self._call(op, code, others))
            rows.append(row)
            mappings.append(mapping)
            codes.append(code)
        if wanted is not None and wanted not in codes:
            raise UnsupportedError(f"kernel {kernel!r} of {self.name} runs no op of this workload")
        return Plan(self.name, tuple(calls), np.stack(rows), np.stack(mappings), np.array(codes), workload)

    def _call(self, op: Op, code: int, others: tuple[Alternative, ...]) -> Call:
        form = self.kernels[code].format if code < len(self.kernels) else "dense"
        return Call((op.name,), self.kernel_names[code], op.count, pattern_text(op), others, op.layers, form)

    def lower_problems(self, problem: Floats, *, kernel: str = BEST) -> Plan:
        """The same for bare products; equal rows are mapped once.

        Raises
        ------
        UnsupportedError
            For a row that is no product or stream, or that no kernel runs.
        """
        wanted = self._wanted(kernel)
        distinct, inverse = np.unique(problem, axis=0, return_inverse=True)
        mappings, codes = np.zeros((len(distinct), self._width)), np.full(len(distinct), len(self.kernels))
        for index, row in enumerate(distinct):
            if row[C.KIND] == ProblemKind.GEMM:
                codes[index], mappings[index], _ = self._choose(product_of_row(row), f"row {index}", wanted, only=True)
            elif row[C.KIND] != ProblemKind.STREAM:
                raise UnsupportedError(f"{self.name} has no kernel for {ProblemKind(int(row[C.KIND])).name.lower()}")
        where = inverse.reshape(-1)
        return Plan(self.name, (), problem, mappings[where], codes[where])

    def _wanted(self, kernel: str) -> int | None:
        if kernel == BEST:
            return None
        if kernel not in self.kernel_names:
            raise UnknownNameError.near(f"kernel of {self.name}", kernel, [BEST, *self.kernel_names])
        return self.kernel_names.index(kernel)

    def _choose(
        self, product: Product, name: str, wanted: int | None, *, only: bool = False
    ) -> tuple[int, Floats, tuple[Alternative, ...]]:
        """Kernel and mapping of a product, and what else was tried."""
        mapped: dict[int, Floats] = {}
        refused: dict[int, str] = {}
        for index, kernel in enumerate(self.kernels):
            if only and wanted not in (None, index):
                continue
            reason = kernel.refuses(product.pattern)
            if not reason:
                try:
                    mapped[index] = self._map(product, kernel)
                except UnsupportedError as error:
                    reason = str(error)
            if reason:
                refused[index] = reason
        if not mapped:
            reasons = "; ".join(dict.fromkeys(refused.values())) or f"{STREAM} runs no products"
            raise UnsupportedError(f"{self.name} has no kernel for {name}: {reasons}")
        taken = wanted if wanted in mapped else min(mapped, key=lambda index: _rank(mapped[index]))
        assert taken is not None
        others = [
            Alternative(self.kernels[index].name, float(mapping[LATENCY_S]), _why(mapping, mapped[taken]))
            for index, mapping in mapped.items()
            if index != taken
        ]
        others += [Alternative(self.kernels[index].name, None, reason) for index, reason in refused.items()]
        return taken, mapped[taken], tuple(others)

    def _map(self, product: Product, kernel: Kernel) -> Floats:
        problem = product.shape.with_densities(
            {
                "A": kernel.density_a(product.pattern, *product.shape.rank_and_lead("A")),
                "B": kernel.density_b(product.b_density),
            }
        )
        words = words_of(product.bits, self._word_bits)
        architecture = self._dense if kernel.mode.dense else self._sparse
        architecture = bound(widened(architecture, words), roles_of(problem))
        key = content_key(
            code_version(Path(__file__).parent),
            replace(problem, name=""),
            architecture,
            kernel.flow,
            FASTEST,
            self.spec.clock_hz.value,
        )

        def search() -> Floats:
            found = find(problem, architecture, FASTEST, Constraints((kernel.flow,)), budget=BUDGET)
            return mapped_row(found.best, product.shape, words, self.spec.clock_hz.value)

        return remembered(key, self._width, search)

    def price(self, plan: Plan) -> Prices:
        """What each call of a plan costs; see the module."""
        problem, mapping = plan.problem, plan.mapping
        levels = [FIRST_LEVEL + LEVEL_WIDTH * at for at in range(len(self.spec.levels))]
        outer = next(iter(self.spec.levels.values()))
        stream = problem[:, C.KIND] == ProblemKind.STREAM
        reads, writes = (np.where(stream, problem[:, column], 0.0) for column in (C.READ_BYTES, C.WRITE_BYTES))
        word_bytes = outer.word_bits.value / 8.0
        per_cycle = outer.read_words_per_cycle.value, outer.write_words_per_cycle.value
        moving_s = np.maximum(reads / per_cycle[0], writes / per_cycle[1]) / word_bytes / self.spec.clock_hz.value
        block = outer.block_words.value * word_bytes / 1e-12
        moving_j = (reads * outer.energy_pj["read"].value + writes * outer.energy_pj["write"].value) / block

        terms = np.stack([mapping[:, COMPUTE_S], *(mapping[:, start + LEVEL_S] for start in levels)], axis=1)
        terms[:, 1] += moving_s
        energy = np.stack([mapping[:, COMPUTE_J], *(mapping[:, start + LEVEL_J] for start in levels)], axis=1)
        energy[:, 1] += moving_j
        moved = np.stack([mapping[:, start + LEVEL_BYTES] for start in levels], axis=1)
        moved[:, 0] += reads + writes
        latency = terms.max(axis=1) + mapping[:, WAIT_S]
        terms = np.concatenate([terms, mapping[:, [WAIT_S]]], axis=1)
        macs = problem[:, C.BATCH] * problem[:, C.M] * problem[:, C.N] * problem[:, C.K]
        names = ("dram", *(name.lower() for name in list(self.spec.levels)[1:]))
        return Prices(
            latency_s=latency,
            energy_j=energy.sum(axis=1),
            dynamic_j=energy.sum(axis=1),
            terms_s=terms,
            bound=np.argmax(terms, axis=1).astype(np.int64),
            level_bytes=moved,
            roofline_s=self._roofline(problem, mapping, moving_s),
            flops=np.where(problem[:, C.KIND] == ProblemKind.GEMM, 2.0 * macs, 0.0),
            energy_terms_j=energy,
            term_names=("compute", *names, "wait"),
            level_names=names,
            energy_names=("compute", *names),
        )

    def _roofline(self, problem: Floats, mapping: Floats, moving_s: Floats) -> Floats:
        """Multiplications that are left over all multipliers, distinct kept operands over the memory's rate."""
        bits = np.maximum(problem[:, C.A_BITS], problem[:, C.B_BITS])
        words = np.ceil(np.floor(bits) / self._word_bits)
        peak = self._dense.compute.instances * self.spec.clock_hz.value / words**2
        product_s = np.maximum(mapping[:, LIVE_MACS] / peak, mapping[:, LEAST_BYTES] / self.dram_bytes_per_s)
        return np.where(problem[:, C.KIND] == ProblemKind.GEMM, product_s, moving_s)


def _rank(mapping: Floats) -> tuple[float, float]:
    """Faster is better; of two that take the same time, to a millionth, the one that takes less energy."""
    return float(f"{mapping[LATENCY_S]:.6e}"), float(
        mapping[COMPUTE_J] + mapping[FIRST_LEVEL + LEVEL_J :: LEVEL_WIDTH].sum()
    )


def _why(mapping: Floats, taken: Floats) -> str:
    return "slower" if mapping[LATENCY_S] > taken[LATENCY_S] * (1.0 + 1e-6) else "as fast, takes more energy"
