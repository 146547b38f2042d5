"""Ways a design runs: which patterns a mode takes advantage of, and the densities that the engine then sees."""

from __future__ import annotations

from dataclasses import dataclass

from simsparse.dataflow.dataflows import Dataflow, of_design
from simsparse.dataflow.density import DENSE, Density, FixedStructured, UniformRandom, of_columns
from simsparse.dataflow.design import DesignSpec, ModeSpec
from simsparse.errors import InputError
from simsparse.occupancy import implies_nm
from simsparse.plan import Floats
from simsparse.sparsity import NM, PatternColumn, PatternKind, parse


@dataclass(frozen=True)
class Kernel:
    """One mode with one dataflow."""

    name: str
    mode: ModeSpec
    flow: Dataflow

    @property
    def nm(self) -> NM | None:
        """The N:M that A must hold."""
        pattern = None if self.mode.a.value in ("dense", "any") else parse(self.mode.a.value)
        return pattern if isinstance(pattern, NM) else None

    @property
    def format(self) -> str:
        """How A lies in memory, as a name in `simsparse.formats`."""
        if self.nm is not None:
            return "n:m"
        return "bitmap" if self.mode.a.value == "any" else "dense"

    def refuses(self, pattern: Floats) -> str:
        """Why it cannot run a product whose A has this pattern, (len(PatternColumn),); empty if it can."""
        kind = PatternKind(int(pattern[PatternColumn.KIND]))
        if self.nm is not None:
            if kind is PatternKind.DENSE:
                return "nothing is zero"
            if not implies_nm(pattern[None, :], self.nm.n, self.nm.m)[0]:
                return f"the pattern does not hold {self.nm.text} along the reduction"
        elif self.mode.a.value == "any" and of_columns(pattern, 2, 0) is None:
            return "the pattern says nothing about the tiles of A"
        return ""

    def density_a(self, pattern: Floats, rank: int, lead: int) -> Density:
        """The density that the engine sees of an A; `rank` and `lead` as in `simsparse.dataflow.density.of_columns`."""
        if self.nm is not None:
            return FixedStructured(self.nm.density)
        density = DENSE if self.mode.a.value == "dense" else of_columns(pattern, rank, lead)
        assert density is not None, "refused"
        return density

    def density_b(self, density: float) -> Density:
        """The density that the engine sees of a B of which `density` is nonzero."""
        return DENSE if self.mode.b.value == "dense" or density >= 1.0 else UniformRandom(density)


def kernels_of(spec: DesignSpec) -> tuple[Kernel, ...]:
    """All modes of a design with all its dataflows.

    Raises
    ------
    InputError
        For a mode that asks for what is no N:M.
    """
    found = []
    for mode_name, mode in spec.modes.items():
        for flow in of_design(spec):
            name = mode_name if len(spec.dataflows) == 1 else f"{mode_name}/{flow.name}"
            kernel = Kernel(name, mode, flow)
            if mode.a.value not in ("dense", "any") and kernel.nm is None:
                raise InputError.expected(f"a of mode {mode_name} of {spec.name}", mode.a.value, "dense, any or N:M")
            if mode.b.value not in ("dense", "any"):
                raise InputError.expected(f"b of mode {mode_name} of {spec.name}", mode.b.value, "dense or any")
            found.append(kernel)
    return tuple(found)
