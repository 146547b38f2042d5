"""Architectures as TOML files whose figures have sources; see `ArchitectureSpec` for the fields."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from simsparse.dataflow.architecture import (
    Action,
    ActionKind,
    Architecture,
    Compute,
    Option,
    Rank,
    RankFormat,
    Storage,
    TensorFormat,
)
from simsparse.dataflow.energies import ComputeEnergies, StorageEnergies
from simsparse.specs import Figure, Spec, checked, read_toml


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RankSpec(_Part):
    """One rank of a format, in bits; a compressed one says how wide its metadata is."""

    format: RankFormat
    metadata_bits: float | None = Field(default=None, ge=0)
    payload_bits: float = Field(default=0.0, ge=0)
    dims: tuple[str, ...] = ()


class FormatSpec(_Part):
    """Ranks from the outermost in."""

    ranks: tuple[RankSpec, ...]
    inner_first: bool = True


class OptionSpec(_Part):
    """A target and what it is conditioned on."""

    target: str
    on: tuple[str, ...] = ()


class ActionSpec(_Part):
    """One of several options is taken."""

    kind: ActionKind
    options: tuple[OptionSpec, ...]


class LevelSpec(_Part):
    """A storage level; what is left out is unlimited, or costs nothing."""

    name: str
    mesh_x: Figure[int] = Figure[int](value=1, source="assumed: one instance")
    mesh_y: Figure[int] = Figure[int](value=1, source="assumed: one instance")
    capacity_words: Figure[float] | None = None
    word_bits: Figure[float]
    block_words: Figure[float] = Figure[float](value=1, source="assumed: words are accessed singly")
    read_words_per_cycle: Figure[float] | None = None
    write_words_per_cycle: Figure[float] | None = None
    metadata_width_bits: Figure[float] = Figure[float](value=0, source="assumed: no metadata")
    energy_pj: dict[str, Figure[float]] = Field(default_factory=dict)
    area_um2: Figure[float] | None = None
    formats: dict[str, FormatSpec] = Field(default_factory=dict)
    actions: tuple[ActionSpec, ...] = ()


class ComputeSpec(_Part):
    """The compute level."""

    name: str = "MAC"
    mesh_x: Figure[int]
    mesh_y: Figure[int] = Figure[int](value=1, source="assumed: a row")
    gating: bool = False
    skipping: bool = False
    energy_pj: dict[str, Figure[float]] = Field(default_factory=dict)
    area_um2: Figure[float] | None = None


class ArchitectureSpec(Spec):
    """Storage levels, outermost first, and a compute."""

    levels: tuple[LevelSpec, ...]
    compute: ComputeSpec

    def build(self) -> Architecture:
        """The architecture.

        Raises
        ------
        InputError
            Naming level, tensor and rank.
        """
        compute = self.compute
        return Architecture(
            tuple(_storage(level) for level in self.levels),
            Compute(
                compute.name, compute.mesh_x.value * compute.mesh_y.value, compute.mesh_x.value, compute.mesh_y.value,
                compute.gating, compute.skipping, ComputeEnergies(_values(compute.energy_pj)),
                _or(compute.area_um2, 0.0),
            ),
            self.name,
        )  # fmt: skip


def read_architecture(path: Path) -> ArchitectureSpec:
    """Read the TOML file of an architecture.

    Raises
    ------
    InputError
        For a file that is none, a key that is unknown, a figure without a source.
    """
    return checked(ArchitectureSpec, read_toml(path), where=f"file {path.name!r}")


def _or(figure: Figure[float] | None, otherwise: float) -> float:
    return otherwise if figure is None else figure.value


def _values(table: dict[str, Figure[float]]) -> dict[str, float]:
    return {name: figure.value for name, figure in table.items()}


def _storage(level: LevelSpec) -> Storage:
    return Storage(
        name=level.name,
        instances=level.mesh_x.value * level.mesh_y.value,
        mesh_x=level.mesh_x.value,
        mesh_y=level.mesh_y.value,
        capacity_words=_or(level.capacity_words, math.inf),
        word_bits=level.word_bits.value,
        block_words=level.block_words.value,
        read_words_per_cycle=_or(level.read_words_per_cycle, math.inf),
        write_words_per_cycle=_or(level.write_words_per_cycle, math.inf),
        metadata_width_bits=level.metadata_width_bits.value,
        energies=StorageEnergies(_values(level.energy_pj)),
        area_um2=_or(level.area_um2, 0.0),
        formats={tensor: _format(layout) for tensor, layout in level.formats.items()},
        actions=tuple(
            Action(action.kind, tuple(Option(option.target, option.on) for option in action.options))
            for action in level.actions
        ),
    )


def _format(layout: FormatSpec) -> TensorFormat:
    ranks = (Rank(rank.format, rank.metadata_bits, rank.payload_bits, frozenset(rank.dims)) for rank in layout.ranks)
    return TensorFormat(tuple(ranks), layout.inner_first)
