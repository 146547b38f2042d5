"""A roofline with two kernels: all that a machine must answer, in sixty lines. Importing it registers `toy`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import simsparse
from simsparse.machine import Kernel, KernelMachine, Refusal
from simsparse.occupancy import implies_nm
from simsparse.plan import Floats, Ints, Prices, ProblemKind, Provenance
from simsparse.plan import ProblemColumn as C

FLOPS_PER_S, BYTES_PER_S, JOULES_PER_FLOP, JOULES_PER_BYTE, IDLE_W = 100e12, 1e12, 1e-12, 1e-10, 50.0


class Dense(Kernel):
    name, kinds = "dense", tuple(ProblemKind)
    rate, stored = 1.0, 1.0  # arithmetic per second and bytes of A, both over dense

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        return iter(())

    def map(self, problem: Floats) -> Floats:
        return np.tile([self.rate, self.stored], (len(problem), 1))


class TwoOfFour(Dense):
    name, kinds, format = "2:4", (ProblemKind.GEMM,), "2:4"
    rate, stored = 2.0, 0.5625

    def refusals(self, problem: Floats) -> Iterator[Refusal]:
        yield ~implies_nm(problem[:, C.PATTERN :], 2, 4), "the pattern is not 2:4"


class Toy(KernelMachine):
    name, kernels, memory_bytes, dram_bytes_per_s = "toy", (Dense(), TwoOfFour()), 16e9, BYTES_PER_S
    provenance = Provenance("toy-spec", "no-constants", unverified=("memory_bytes",))

    def peak_flops_per_s(self, type_name: str, sparse: bool = False) -> float:
        return FLOPS_PER_S * (2 if sparse else 1)

    def price_rows(self, problem: Floats, mapping: Floats, kernel: Ints) -> Prices:
        batch, m, n, k, bits_a, bits_b, bits_c = (problem[:, column] for column in range(C.BATCH, C.COMPUTE))
        product = problem[:, C.KIND] == ProblemKind.GEMM
        flops = np.where(product, 2 * batch * m * n * k, problem[:, C.STREAM_FLOPS])
        operands = batch * (m * k * bits_a * mapping[:, 1] + n * k * bits_b + m * n * bits_c) / 8
        moved = np.where(product, operands, problem[:, C.READ_BYTES] + problem[:, C.WRITE_BYTES])
        done = flops / mapping[:, 0]
        terms = np.stack([done / FLOPS_PER_S, moved / BYTES_PER_S], axis=1)
        time = terms.max(axis=1)
        energy = np.stack([done * JOULES_PER_FLOP, moved * JOULES_PER_BYTE, time * IDLE_W], axis=1)
        return Prices(
            time, energy.sum(1), energy[:, :2].sum(1), terms, terms.argmax(1), moved[:, None], time, flops, energy,
            ("compute", "dram"), ("dram",), ("arithmetic", "dram", "idle"),
        )  # fmt: skip


simsparse.register(Toy())
