"""The accelerator as a machine: what its spec says, with kernels, prices and tiles from their modules."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from accel_models.fpga import pricing
from accel_models.fpga.facts import facts
from accel_models.fpga.generation import with_updates
from accel_models.fpga.hardware import hardware_row
from accel_models.fpga.kernels import MULTIPLIED, DenseKernel, NMKernel, ShrunkKernel, StreamKernel, padding_note
from accel_models.fpga.resources import check_buffers, check_resources, fabric_figures
from accel_models.fpga.spec import SatSpec
from accel_models.fpga.tiles import tile_work
from simsparse.machine import BEST, KernelMachine
from simsparse.plan import COMPUTE_TYPES, Fact, Floats, Ints, Plan, Prices, Provenance, rule_of
from simsparse.sites import Fusions
from simsparse.tiles import TileWork
from simsparse.workload import Workload


class SatMachine(KernelMachine):
    """One accelerator on one card.

    Raises
    ------
    UnsupportedError, InputError
        If it does not fit the device, or its buffers hold no tile.
    """

    spec: SatSpec
    fusions = Fusions(epilogue=True)

    def __init__(self, spec: SatSpec) -> None:
        check_buffers(spec)
        check_resources(spec)
        self.spec = spec
        self.name = spec.name
        self.hardware = hardware_row(spec)
        self.kernels = (
            DenseKernel(self.hardware),
            NMKernel(self.hardware),
            ShrunkKernel(self.hardware),
            StreamKernel(),
        )

    @property
    def memory_bytes(self) -> float:
        """Capacity of the card's memory."""
        return self.spec.memory_bytes.value

    @property
    def dram_bytes_per_s(self) -> float:
        """Peak bandwidth of the card's memory."""
        return self.spec.dram_peak_bytes_per_s

    def peak_flops_per_s(self, type_name: str, sparse: bool = False) -> float:
        """Peak of the array in the types that its elements multiply; twice that, where they take 2:4."""
        if COMPUTE_TYPES.index(type_name) not in MULTIPLIED:
            return 0.0
        elements = self.spec.array_rows.value * self.spec.array_cols.value
        faster = 2.0 if sparse and self.spec.nm_max_m.value >= 4 else 1.0
        return 2.0 * elements * self.spec.clock_hz.value * faster

    @property
    def provenance(self) -> Provenance:
        """Hashes of spec and element costs, figures nobody looked up, figures this project chose."""
        costs = fabric_figures(self.spec.fabric.value)
        figures = [*self.spec.figures(), *((f"fabric.{name}", figure) for name, figure in costs.figures())]
        return Provenance(
            spec_hash=self.spec.digest(),
            constants_hash=hashlib.sha256(costs.model_dump_json().encode()).hexdigest()[:12],
            unverified=tuple(name for name, figure in figures if figure.unverified),
            assumed=tuple(name for name, figure in figures if figure.assumed),
        )

    def lower(self, workload: Workload, *, kernel: str = BEST) -> Plan:
        """See `KernelMachine.lower`; updates make the N:M weights that the products of a training step read."""
        return with_updates(self.hardware, super().lower(workload, kernel=kernel))

    def lowered_again(self, plan: Plan, problem: Floats) -> Plan:
        """The same calls with other problems."""
        bare = self.lower_problems(problem)
        return with_updates(self.hardware, replace(bare, calls=plan.calls, workload=plan.workload))

    @property
    def rule(self) -> str:
        """See `HasFacts`."""
        return rule_of(pricing.__doc__)

    def facts(self, plan: Plan, row: int) -> tuple[Fact, ...]:
        """See `HasFacts`."""
        return facts(self.spec, plan, row)

    def notes(self, plan: Plan) -> tuple[str, ...]:
        """How far reductions are padded that M does not divide."""
        return padding_note(plan)

    def tiles(self, plan: Plan) -> TileWork:
        """The tiles of a plan, for the event simulation."""
        return tile_work(self.hardware, plan)

    def price_rows(self, problem: Floats, mapping: Floats, kernel: Ints) -> Prices:
        """What mapped rows cost; see `pricing`."""
        return pricing.price(self.hardware, problem, mapping)
