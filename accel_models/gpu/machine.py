"""`GpuMachine`: a card from its spec, with the kernels that exist for it."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from accel_models.gpu import engine
from accel_models.gpu.card_figures import CardFigures
from accel_models.gpu.columns import MAP_WIDTH, Card, Map
from accel_models.gpu.engine import choose_tiles
from accel_models.gpu.fitted import Constants, FamilyConstants, constants, fitted_rows, peak_clock_hz
from accel_models.gpu.frameworks import FUSIONS, as_issued, waits
from accel_models.gpu.intervals import REGIME_OF_TERM, Intervals, intervals
from accel_models.gpu.kernels import attention, condensed, dense, hypothetical, stream, structured, unstructured
from accel_models.gpu.kernels.base import ProductKernel
from accel_models.gpu.pricing import price
from accel_models.gpu.spec import GpuSpec
from accel_models.gpu.tunables import measured
from simsparse.energy import InstructionKind, energy_table
from simsparse.machine import BEST, Kernel, KernelMachine, is_any
from simsparse.ops import TransferKind
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
from simsparse.workload import Workload

C = ProblemColumn
PRODUCTS = (
    dense.Dense, dense.Simt, dense.Sliced, dense.Depthwise, dense.WeightOnly, dense.ActivationSparse,
    structured.SemiStructured, structured.Cutlass24, structured.SparseMarlin, structured.Venom,
    structured.NmCudaCores, structured.NmSparse,
    unstructured.FlashLlm, unstructured.SparTa, unstructured.Sputnik, unstructured.Clasp, unstructured.BlockSparse,
    condensed.Condensed, attention.FlashAttention, attention.BlockAttention,
)  # fmt: skip

COLLECTIVES = [list(TransferKind).index(k) for k in (
    TransferKind.ALL_REDUCE, TransferKind.ALL_GATHER, TransferKind.REDUCE_SCATTER,
)]  # fmt: skip


class GpuMachine(KernelMachine):
    """One card.

    Parameters
    ----------
    spec : GpuSpec
    fitted : Constants, optional
        Constants to take instead of the shipped ones (fitting uses it).
    known : Intervals, optional
        Intervals of these constants; without, predictions have none.
    figures : CardFigures, optional
        Those of the spec, if they are known already.
    """

    spec: GpuSpec

    def __init__(
        self,
        spec: GpuSpec,
        fitted: Constants | None = None,
        known: Intervals | None = None,
        figures: CardFigures | None = None,
    ) -> None:
        self.spec = spec
        self._figures = figures or CardFigures.of(spec)
        self._known = known if fitted is not None else intervals()
        self.name = spec.name
        self.framework = spec.framework.value
        self.fusions = FUSIONS[self.framework]
        self.constants = fitted if fitted is not None else measured(constants(), spec)
        self.reached = self.constants.card(spec)
        self.rates = self._figures.rates
        products: list[Kernel] = [kernel(self.rates, self._of(kernel.name)) for kernel in PRODUCTS]
        products += [stream.Elementwise(self._of("stream")), stream.Compress(self._of("compress-24"))]
        products.append(stream.Link(self.constants.of("link")))
        products += self._hypothetical()
        self.kernels = tuple(products)

    def refitted(self, fitted: Constants) -> GpuMachine:
        """The same card with other constants, and without intervals."""
        return GpuMachine(self.spec, fitted, figures=self._figures)

    def _hypothetical(self) -> list[Kernel]:
        """Kernels of features that the spec has and no card."""
        made: list[Kernel] = []
        for text, gain in self.spec.structured_rate.items():
            n, m = (int(part) for part in text.split(":"))
            like = self._of(hypothetical.OtherNm.stands_for)
            made.append(hypothetical.OtherNm(self.rates, like, n, m, gain.value))
        if self.spec.dual_side:
            figures = {str(key): float(figure.value) for key, figure in self.spec.dual_side.items()}
            made.append(hypothetical.DualSide(self.rates, self._of(hypothetical.DualSide.stands_for), figures))
        return made

    def family_of(self, kernel: str) -> str:
        """The family whose constants a kernel has: its own, but for kernels of hardware that does not exist."""
        found = self.kernels[self.kernel_index(kernel)]
        return (found.stands_for if isinstance(found, ProductKernel) else "") or kernel

    def _of(self, kernel: str) -> FamilyConstants:
        return self.constants.on(kernel, self.reached)

    @property
    def memory_bytes(self) -> float:
        """Device memory."""
        return self.spec.memory_bytes.value

    @property
    def dram_bytes_per_s(self) -> float:
        """Peak bandwidth of device memory."""
        return self.spec.dram_bandwidth_bytes_per_s.value

    @property
    def clock_hz(self) -> float:
        """Clock under load: the fitted fraction of the datasheet's."""
        return peak_clock_hz(self.spec) * self.reached.clock_fraction

    def peak_flops_per_s(self, type_name: str, sparse: bool = False) -> float:
        """Dense peak of a type, effective 2:4 peak with `sparse`; 0 where the card has none."""
        if self.spec.rate(type_name) == 0.0:
            return 0.0
        gain = self.spec.sparse_gain(type_name) if sparse else 1.0
        return 2.0 * self.spec.peak_macs_per_s(type_name) * max(gain, 1.0)

    @cached_property
    def provenance(self) -> Provenance:
        """Hashes of spec and constants; what is recalled or assumed."""
        figures = list(self.spec.figures())
        return Provenance(
            self.spec.digest(),
            self.constants.digest(),
            tuple(f"{self.name}: {name}" for name, figure in figures if figure.unverified)
            + tuple(f"energy: {name}" for name in energy_table().unverified() if self._takes(name)),
            tuple(f"{self.name}: {name}" for name, figure in figures if figure.assumed)
            + tuple(f"kernel {name}" for name in self.constants.assumed),
        )

    @property
    def rule(self) -> str:
        """See `HasFacts`."""
        from accel_models.gpu import facts

        return f"{rule_of(engine.__doc__)}\n\n{rule_of(facts.__doc__)}"

    def facts(self, plan: Plan, row: int) -> tuple[Fact, ...]:
        """See `HasFacts`."""
        from accel_models.gpu.facts import facts

        return facts(self, plan, row)

    def _takes(self, figure: str) -> bool:
        """Whether a figure of the energy table bears on this card: other memories and cores of CPUs do not."""
        field, _, key = figure.partition(".")
        return field != "instruction_pj" and (field != "dram_pj_per_bit" or key == self.spec.dram_kind.value)

    @cached_property
    def card(self) -> Floats:
        """The card in `Card` columns."""
        row = self._figures.row.copy()
        row[Card.CLOCK_HZ] = self.clock_hz
        row[Card.L2_BYTES_PER_CLOCK] *= self.reached.l2_fraction
        row[Card.FILL_S] = self.constants.of("cublas").fill_s
        row[Card.POWER_EXPONENT] = self.constants.power_exponent
        row[Card.WAIT_W] = self._wait_w
        return row

    @property
    def _wait_w(self) -> float:
        """Power of SMs that wait, at the full clock: clocks and warp schedulers run on as if every lane had work.

        An instruction of each lane a cycle, with the core's overhead: what `energy_table` has for lanes that multiply,
        without the arithmetic. Nothing is fitted; vLLM's uncapped decodes on an H100 say 1.03 to 1.12 times that.
        """
        table, lanes = energy_table(), self.spec.rate("fp32")
        per_lane_j = table.instruction_j(InstructionKind.GPU_LANE, self.spec.process_nm.value)
        return self.spec.sm_count.value * lanes * per_lane_j * self.clock_hz

    def _peaks(self, problem: Floats) -> Floats:
        per_clock = np.maximum(self.rates.tensor(problem), self.rates.simt(problem))
        return np.asarray(per_clock * self.spec.sm_count.value * max(self.clock_hz, self.spec.boost_clock_hz.value))

    def map_rows(self, problem: Floats, index: int, limit_s: Floats) -> tuple[Floats, Floats]:
        """How one kernel runs each problem, tiles chosen, and its time before any power limit."""
        kernel = self.kernels[index]
        if problem[0, ProblemColumn.KIND] != ProblemKind.GEMM:
            mapping = kernel.map(problem)
            return mapping, self.price_rows(problem, mapping, np.full(len(problem), index)).latency_s
        rows = np.flatnonzero(self._can_win(kernel, problem, limit_s))
        if rows.size == len(problem):
            mapping = kernel.map(problem)
            return mapping, choose_tiles(mapping, self.card, limit_s)
        mapping, time_s = np.zeros((len(problem), MAP_WIDTH)), np.full(len(problem), np.inf)
        if rows.size:
            chosen = kernel.map(problem[rows])
            time_s[rows] = choose_tiles(chosen, self.card, limit_s[rows])
            mapping[rows] = chosen
        return mapping, time_s

    def _can_win(self, kernel: Kernel, problem: Floats, limit_s: Floats) -> NDArray[np.bool_]:
        """Where the multiplications could be done within the limit, on all SMs at the kernel's highest rate."""
        if not isinstance(kernel, ProductKernel) or kernel.leaves_out or np.isinf(limit_s).all():
            return np.ones(len(problem), dtype=bool)
        macs = problem[:, C.BATCH] * problem[:, C.M] * problem[:, C.N] * problem[:, C.K]
        per_s = kernel.reach(problem) * self.card[Card.SM_COUNT] * self.card[Card.CLOCK_HZ]
        return np.asarray(macs < per_s * limit_s)

    @cached_property
    def _intervals(self) -> Floats | None:
        """Factors by kernel and regime."""
        if self._known is None:
            return None
        families = [self.family_of(name) for name in self.kernel_names]
        own = self._known.table(self.name, self.spec.compute_capability.value, families)
        # On hardware that does not exist, as on an architecture that the family was never seen on.
        new = [family != name for family, name in zip(families, self.kernel_names, strict=True)]
        own[new] = self._known.table("", "", families)[new]
        return own

    @cached_property
    def fitted_rows(self) -> frozenset[str]:
        """Rows of measurements behind the constants of all cards."""
        return fitted_rows()

    def lower(self, workload: Workload, *, kernel: str = BEST) -> Plan:
        """As `KernelMachine.lower`, of the ops that the framework issues, which the host may be late with."""
        issued = as_issued(workload, self.framework, autocast=self.spec.autocast.value)
        plan = super().lower(issued, kernel=kernel)
        return replace(self.paced(plan), workload=workload)

    def paced(self, plan: Plan) -> Plan:
        """A plan of a model with what its framework takes between kernels: gaps, starts of collectives, waits."""
        frameworks, problem, mapping = self.constants.frameworks, plan.problem, plan.mapping.copy()
        counts = np.array([call.count for call in plan.calls], dtype=np.float64)
        transfer = problem[:, C.KIND] == ProblemKind.TRANSFER
        collective = transfer & is_any(problem[:, C.TRANSFER_KIND], COLLECTIVES)
        mapping[~transfer, Map.LAUNCH_S] = frameworks.gap_s
        mapping[collective, Map.LAUNCH_S] = frameworks.collective_s
        mapping[:, Map.WAIT_S] = 0.0
        latency_s = super().price(replace(plan, mapping=mapping)).latency_s
        mapping[:, Map.WAIT_S] = waits(latency_s, counts, frameworks.host_s(self.framework))
        return replace(plan, mapping=mapping)

    def price(self, plan: Plan) -> Prices:
        """What each call of a plan costs; calls of a model are also off together."""
        prices = super().price(plan)
        if self._known is None or plan.workload is None:
            return prices
        return replace(prices, common_interval=np.array(self._known.common))

    def price_rows(self, problem: Floats, mapping: Floats, kernel: Ints) -> Prices:
        """See `pricing.price`; the intervals are by kernel and by what bounds the call."""
        prices = price(problem, mapping, self.card, _mac_j(self.spec.process_nm.value), self._peaks(problem))
        table = self._intervals
        if table is None:
            return prices
        # One take of whole rows is several times faster than two index arrays.
        rows = kernel * table.shape[1] + REGIME_OF_TERM[prices.bound]
        return replace(prices, interval=table.reshape(-1, table.shape[2]).take(rows, axis=0))


@lru_cache
def _mac_j(node_nm: float) -> Floats:
    """Energy of a multiply-accumulate by unit and type, see `pricing.price`."""
    table = energy_table()

    def mac_j(name: str, bits: int) -> float:
        return table.mac_j(name, max(bits, 32) if name in ("fp32", "fp64") else bits, node_nm)

    def lane_mac_j(name: str) -> float:
        packed = 2.0 if name in ("fp16", "bf16") else 1.0
        return table.core_mac_j(name, 32, node_nm, InstructionKind.GPU_LANE, packed)

    tensor = [[mac_j(name, bits) for name in COMPUTE_TYPES] for bits in (32, 16)]
    return np.array([*tensor, [lane_mac_j(name) for name in COMPUTE_TYPES]])
