"""What one access costs, by the names of an energy reference table; fall-backs are written here, once.

A gated or skipped access takes its own name, else that of an idle cycle, else the price of a plain one. Skipping
metadata saves bandwidth, not energy, unless the table says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simsparse.errors import InputError, UnknownNameError

_STORAGE = (
    "read", "write", "gated_read", "gated_write", "skipped_read", "skipped_write", "idle", "leak",
    "metadata_read", "metadata_write", "gated_metadata_read", "gated_metadata_write", "skipped_metadata_read",
    "skipped_metadata_write", "metadata_idle", "compression_count", "decompression_count",
)  # fmt: skip
# Names that tables of others have and that nothing is charged under.
_UNUSED = ("address_generation", "access", "update", "metadata_gated_read", "metadata_gated_write")
_COMPUTE = ("mac_random", "mac_gated", "mac_skipped", "mac_reuse", "mac_reused", "idle", "leak")


def _checked(what: str, table: Mapping[str, float], known: tuple[str, ...]) -> None:
    for action, energy in table.items():
        if action not in known:
            raise UnknownNameError.near(f"action of {what}", action, known)
        if not energy >= 0.0:
            raise InputError.expected(f"energy of {action} of {what}", energy, "0 pJ or more")


@dataclass(frozen=True)
class StorageEnergies:
    """Energies of a level in pJ per vector access, by action.

    Attributes
    ----------
    table_pj : mapping of action to pJ
    built_in_pj : float
        Of a read or a write that the table does not name.
    """

    table_pj: Mapping[str, float] = field(default_factory=dict)
    built_in_pj: float = 0.0

    def __post_init__(self) -> None:
        _checked("a storage level", self.table_pj, _STORAGE + _UNUSED)

    def _first(self, *names: str, default: float = 0.0) -> float:
        return next((self.table_pj[name] for name in names if name in self.table_pj), default)

    def charges(self) -> tuple[float, ...]:
        """pJ of each operation, in the order of `LevelColumn` from `CHARGES` on."""
        data: list[float] = []
        metadata: list[float] = []
        for state in ("", "gated_", "skipped_"):
            for way in ("read", "write", "write"):
                plain = self._first(way, default=self.built_in_pj)
                if state == "":
                    data.append(plain)
                    metadata.append(self._first(f"metadata_{way}", "idle"))
                    continue
                # Skipped data is charged as gated.
                own = (f"skipped_{way}", f"gated_{way}") if state == "skipped_" else (f"gated_{way}",)
                data.append(self._first(*own, "idle", way))
                metadata.append(self._first(f"{state}metadata_{way}", "metadata_idle", f"metadata_{way}"))
        return (*data, *metadata, self._first("compression_count"), self._first("decompression_count"))


@dataclass(frozen=True)
class ComputeEnergies:
    """Energies of one operation in pJ, by action."""

    table_pj: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _checked("the compute", self.table_pj, _COMPUTE)

    def charges(self) -> tuple[float, float, float]:
        """pJ of an actual, a gated and a skipped operation."""
        actual = self.table_pj.get("mac_random", 0.0)
        gated = self.table_pj.get("mac_gated", self.table_pj.get("idle", actual))
        return actual, gated, self.table_pj.get("mac_skipped", gated)


def built_in_pj(technology: str, width_bits: float, lines: float) -> float:
    """Energy of an access where no table says it: SRAM of `lines` of `width_bits`, or DRAM. (Timeloop's pat model.)"""
    if technology == "DRAM":
        return 200.0 * width_bits / 16.0
    return (((width_bits * lines / 8192.0) - 0.5) * 5.0 / 99.5 + 1.0) * width_bits / 16.0
