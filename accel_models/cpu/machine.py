"""A CPU as a machine of kernels; see README.md for how a number is made."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from accel_models.cpu.chip import chip_of, energy_parameters
from accel_models.cpu.columns import ENERGY_NAMES, LEVEL_NAMES, TERM_NAMES, MapColumn
from accel_models.cpu.constants import Constants, constants
from accel_models.cpu.kernels import kernels_of
from accel_models.cpu.kernels.dense import MlasGemm
from accel_models.cpu.spec import CpuSpec
from simsparse.energy import energy_table
from simsparse.machine import BEST, KernelMachine
from simsparse.ops import ContractionKind
from simsparse.plan import (
    COMPUTE_TYPES,
    Fact,
    Floats,
    Ints,
    Plan,
    Prices,
    ProblemColumn,
    ProblemKind,
    Provenance,
    rule_of,
)
from simsparse.sites import Fusions
from simsparse.workload import Workload

C = ProblemColumn
FUSED = Fusions(epilogue=True, attention=True)
# ONNX Runtime fuses what follows a convolution into it; after a product bias, activation and residual are passes of
# their own over memory, and so is softmax between the products of an attention.
FUSED_BY = {MlasGemm.name: Fusions(epilogue=True, contractions=frozenset({ContractionKind.CONV}))}


class CpuMachine(KernelMachine):
    """A CPU, or one of the instances running side by side on it.

    Parameters
    ----------
    spec : CpuSpec
    fitted : Constants, optional
        By default those that ship, but for what the spec says was measured.
    """

    spec: CpuSpec
    fusions = FUSED

    def __init__(self, spec: CpuSpec, fitted: Constants | None = None) -> None:
        self.spec = spec
        self.constants = fitted or constants().measured(spec.constants)
        self.name = spec.name
        self.chip = chip_of(spec, self.constants)
        self.kernels = kernels_of(self.chip)
        self._of_model: dict[tuple[bool, Fusions], CpuMachine] = {}

    @property
    def memory_bytes(self) -> float:
        """Share of one instance in the installed memory."""
        return self.spec.memory_bytes.value / self.chip.instances

    @cached_property
    def provenance(self) -> Provenance:
        """Hashes, and figures nobody looked up."""
        figures = list(self.spec.figures())
        return Provenance(
            self.spec.digest(),
            f"{self.constants.digest()}-{energy_table().digest()}",
            unverified=tuple(name for name, figure in figures if figure.unverified),
            assumed=(*(name for name, figure in figures if figure.assumed), *self.constants.assumed),
        )

    @property
    def rule(self) -> str:
        """See `HasFacts`."""
        from accel_models.cpu import pricing

        return rule_of(pricing.__doc__)

    def facts(self, plan: Plan, row: int) -> tuple[Fact, ...]:
        """See `HasFacts`."""
        from accel_models.cpu.facts import facts

        return facts(self.mapper_of(plan), plan, row)

    @property
    def dram_bytes_per_s(self) -> float:
        """Peak bandwidth of memory that one instance has."""
        return self.chip.dram_bytes_per_s / self.chip.instances

    def peak_flops_per_s(self, type_name: str, sparse: bool = False) -> float:
        """Peak of a type on the threads of one instance; no core multiplies 2:4 faster."""
        del sparse
        kind = self.chip.arithmetic[COMPUTE_TYPES.index(type_name)]
        best = max(self.chip.rates[kind], self.chip.matrix_rates[kind])
        return float(2 * best * self.chip.clock_hz * self.chip.threads)

    def lower(self, workload: Workload, *, kernel: str = BEST) -> Plan:
        """As `KernelMachine.lower`, in a framework; weights that all fit the shared cache stay there between runs.

        A kernel of one framework comes with what that framework fuses.
        """
        fusions = FUSED_BY.get(kernel, FUSED)
        if not self.chip.in_framework:
            return self.of_model(weights_resident=False, fusions=fusions).lower(workload, kernel=kernel)
        plan = super().lower(workload, kernel=kernel)
        if self.chip.weights_resident or not self.keeps_weights(plan):
            return plan
        return self.of_model(weights_resident=True, fusions=fusions).lower(workload, kernel=kernel)

    def keeps_weights(self, plan: Plan) -> bool:
        """Whether all weights of a plan fit half of the shared cache."""
        counts = np.array([call.count for call in plan.calls])
        return float(counts @ plan.mapping[:, MapColumn.WEIGHT_BYTES]) <= self.chip.shared_bytes / 2

    def mapper_of(self, plan: Plan) -> CpuMachine:
        """See `KernelMachine.mapper_of`: a framework runs the calls of a model."""
        return self.of_model(weights_resident=self.keeps_weights(plan)) if plan.calls else self

    def of_model(self, *, weights_resident: bool, fusions: Fusions = FUSED) -> CpuMachine:
        """This machine as it runs whole models, with the weights in its shared cache or in memory."""
        if (weights_resident, fusions) not in self._of_model:
            other = CpuMachine(self.spec, self.constants)
            other.chip = replace(self.chip, in_framework=True, weights_resident=weights_resident, looped=False)
            other.kernels = kernels_of(other.chip)
            other.fusions = fusions
            self._of_model[weights_resident, fusions] = other
        return self._of_model[weights_resident, fusions]

    @cached_property
    def parameters(self) -> Floats:
        """The machine as `pricing.price` reads it."""
        chip, c, spec = self.chip, self.constants, self.spec
        return np.array([
            chip.threads, chip.instances, chip.clock_hz, chip.l2_bytes_per_s, chip.l3_bytes_per_s,
            chip.dram_core_bytes_per_s, chip.dram_bytes_per_s * c.dram_fraction.value, self.dram_bytes_per_s,
            c.exposed.value, c.dram_exposed.value, spec.tdp_w.value, spec.idle_w.value,
            *energy_parameters(spec, c),
        ])  # fmt: skip

    def price_rows(self, problem: Floats, mapping: Floats, kernel: Ints) -> Prices:
        """What mapped rows cost; see `pricing` for the rule."""
        from accel_models.cpu.pricing import price

        del kernel
        count = len(mapping)
        terms, energy = np.empty((count, len(TERM_NAMES))), np.empty((count, len(ENERGY_NAMES)))
        latency_s, dynamic_j, roofline_s = np.empty(count), np.empty(count), np.empty(count)
        bound = np.empty(count, dtype=np.int64)
        price(np.ascontiguousarray(mapping), self.parameters, terms, energy, latency_s, dynamic_j, roofline_s, bound)
        return Prices(
            latency_s=latency_s,
            energy_j=energy.sum(axis=1),
            dynamic_j=dynamic_j,
            terms_s=terms,
            bound=bound,
            level_bytes=mapping[:, [MapColumn.L2_BYTES, MapColumn.L3_BYTES, MapColumn.DRAM_BYTES]],
            roofline_s=roofline_s,
            flops=_flops(problem),
            energy_terms_j=energy,
            term_names=TERM_NAMES,
            level_names=LEVEL_NAMES,
            energy_names=ENERGY_NAMES,
        )


def _flops(problem: Floats) -> Floats:
    """Dense FLOPs of each row: 2 per multiply-accumulate, full score matrix; elementwise operations of streams."""
    kind = problem[:, C.KIND]
    product = 2 * problem[:, C.BATCH] * problem[:, C.M] * problem[:, C.N]
    both = product * (problem[:, C.K] + problem[:, C.VALUE_SIZE])
    return np.select([kind == ProblemKind.GEMM, kind == ProblemKind.ATTENTION], [product * problem[:, C.K], both],
                     problem[:, C.STREAM_FLOPS])  # fmt: skip
