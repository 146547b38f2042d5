"""A design as data: one TOML file that says levels, compute, formats, actions, dataflows, each figure with its source.

A table may give `source` once; figures in it that are bare values have that source. Fan-outs are per instance of the
level outside, so that one figure resizes an array. Energies and areas belong to the capacity in `made_for_words`:
where `capacity_words` differs, area goes with the capacity and energy with the law of `simsparse.energy` for memories.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simsparse.dataflow.architecture import Architecture, Compute, Storage
from simsparse.dataflow.energies import ComputeEnergies, StorageEnergies
from simsparse.dataflow.notation import parse_actions, parse_format
from simsparse.energy import energy_table
from simsparse.errors import InputError, UnknownNameError
from simsparse.specs import BY_USER, Figure, Spec, checked

T = TypeVar("T")
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
TENSORS = ("A", "B", "C")
ROLES = ("M", "N", "K")
_NODE_NM = 45.0


def _default(value: T) -> Figure[T]:
    return Figure(value=value, source="default")


class Cited(BaseModel):
    """A table whose bare figures have the table's source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = ""

    @model_validator(mode="before")
    @classmethod
    def _cite(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        source = data.get("source", "")
        fields = {name for name, field in cls.model_fields.items() if "Figure" in str(field.annotation)}
        return {key: _cited(value, source) if key in fields else value for key, value in data.items()}


def _cited(value: Any, source: str) -> Any:
    if value is None or isinstance(value, Figure):
        return value
    if isinstance(value, Mapping):
        if "value" in value:
            return {"source": source, **value}
        return {key: _cited(item, source) for key, item in value.items()}
    return {"value": value, "source": source}


class LevelSpec(Cited):
    """A storage level."""

    keep: tuple[str, ...] = Field(description="Tensors stored here; others bypass.")
    streams: tuple[str, ...] = Field((), description="Tensors that pass through: counted and priced here, not held.")
    may_bypass: tuple[str, ...] = Field((), description="Of those kept, the ones that a mapping may have bypass.")
    fanout_x: Figure[Count] = Field(_default(1), description="Instances along x for each one outside.")
    fanout_y: Figure[Count] = Field(_default(1), description="Instances along y for each one outside.")
    capacity_words: Figure[Annotated[float, Field(ge=0)]] = Field(description="Of one instance; 0: a mere fan-out.")
    made_for_words: Figure[Positive] | None = Field(None, description="Capacity that energies and area belong to.")
    word_bits: Figure[Positive] = Field(description="Bits of a word.")
    block_words: Figure[Count] = Field(_default(1), description="Words of one access.")
    read_words_per_cycle: Figure[Positive] = Field(_default(math.inf), description="Of one instance.")
    write_words_per_cycle: Figure[Positive] = Field(_default(math.inf), description="Of one instance.")
    metadata_width_bits: Figure[NotNegative] = Field(_default(0.0), description="Bits of one access to metadata.")
    metadata_capacity_bits: Figure[Positive] | None = Field(
        None, description="Of a store of its own for metadata of one instance; absent: it shares the capacity."
    )
    energy_pj: dict[str, Figure[NotNegative]] = Field(default_factory=dict, description="By action, per access.")
    area_um2: Figure[NotNegative] | None = Field(None, description="Of one instance.")
    formats: dict[str, Figure[str]] = Field(default_factory=dict, description="By tensor; see `notation`.")
    loads_ahead: Figure[bool] = Field(_default(True), description="As if two tiles always fitted; else if they do.")
    actions: Figure[str] = Field(_default("none"), description="What is gated or skipped; see `notation`.")

    @property
    def scale(self) -> float:
        """Capacity over the one that energies and area belong to."""
        return 1.0 if self.made_for_words is None else self.capacity_words.value / self.made_for_words.value

    def energies(self) -> StorageEnergies:
        """Its table, at its capacity."""
        factor = 1.0
        if self.made_for_words is not None and self.scale != 1.0:
            word_bytes = self.word_bits.value / 8.0
            ours, made = (
                energy_table().sram_j_per_byte(words * word_bytes, _NODE_NM)
                for words in (self.capacity_words.value, self.made_for_words.value)
            )
            factor = ours / made
        return StorageEnergies({action: figure.value * factor for action, figure in self.energy_pj.items()})


class ComputeSpec(Cited):
    """The compute level."""

    name: str = "MAC"
    fanout_x: Figure[Count] = Field(_default(1), description="Instances along x for each one of the last level.")
    fanout_y: Figure[Count] = Field(_default(1), description="Instances along y for each one of the last level.")
    gating: Figure[bool] = Field(_default(False), description="Operations with a zero operand cost no energy.")
    skipping: Figure[bool] = Field(_default(False), description="Operations with a zero operand take no cycle.")
    energy_pj: dict[str, Figure[NotNegative]] = Field(default_factory=dict, description="By action, an operation.")
    area_um2: Figure[NotNegative] | None = Field(None, description="Of one instance.")


class ModeSpec(Cited):
    """What a design takes advantage of; a pattern that holds it runs in this mode."""

    a: Figure[str] = Field(description="dense, any, or the N:M that A must hold.")
    b: Figure[str] = Field(_default("dense"), description="dense or any.")

    @property
    def dense(self) -> bool:
        """Whether formats and actions are off."""
        return self.a.value == self.b.value == "dense"


class DataflowSpec(Cited):
    """Loops by level: roles M (outputs), N (tokens, pixels) and K (reduction), outermost first."""

    loops: dict[str, Figure[str]] = Field(description="Loops in time by level: '-' for none, 'K N' for K around N.")
    spread: dict[str, Figure[str]] = Field(
        default_factory=dict, description="Loops over the fan-out inside a level: 'M/y K/x'."
    )


class DesignSpec(Spec):
    """A described architecture; tensors are A (weights), B (inputs) and C (outputs)."""

    family: Literal["asic"]

    about: str = Field("", description="What the file leaves out of the published design.")
    illustrative: bool = Field(False, description="Follows the ideas of a design, reproduces no figure of it.")
    clock_hz: Figure[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(description="Of the whole design.")
    memory_bytes: Figure[Positive] = Field(description="Capacity of the memory.")
    levels: dict[str, LevelSpec] = Field(min_length=1, description="Outermost first.")
    compute: ComputeSpec
    modes: dict[str, ModeSpec] = Field(min_length=1, description="Ways to run, by what is zero.")
    dataflows: dict[str, DataflowSpec] = Field(min_length=1, description="Loop nests, by name.")

    @model_validator(mode="after")
    def _check(self) -> DesignSpec:
        for name, level in self.levels.items():
            _check_level(name, level)
        for tensor in TENSORS:
            if not any(tensor in level.keep for level in self.levels.values()):
                raise ValueError(f"some level to keep tensor {tensor}")
        for name, flow in self.dataflows.items():
            _check_flow(name, flow, tuple(self.levels))
        try:
            self.architecture().check_tensors(TENSORS)
        except InputError as error:
            raise ValueError(f"what the engine takes, but {error}") from None
        return self

    def architecture(self, *, sparse: bool = True) -> Architecture:
        """What the engine analyses; without formats and actions if not `sparse`."""
        x = y = 1
        storages = []
        for name, level in self.levels.items():
            x, y = x * level.fanout_x.value, y * level.fanout_y.value
            storages.append(_storage(name, level, x, y, sparse))
        unit = self.compute
        x, y = x * unit.fanout_x.value, y * unit.fanout_y.value
        compute = Compute(
            unit.name, x * y, x, y, unit.gating.value and sparse, unit.skipping.value and sparse,
            ComputeEnergies({action: figure.value for action, figure in unit.energy_pj.items()}),
            unit.area_um2.value if unit.area_um2 else 0.0,
        )  # fmt: skip
        return Architecture(tuple(storages), compute, self.name)

    def with_figures(self, changes: Mapping[str, object]) -> Spec:
        """See `Spec`; levels take formats and energies of actions that they do not have yet."""
        known = [name for name, _ in self.figures()]
        tables = {f"levels.{name}.{table}" for name in self.levels for table in ("formats", "energy_pj")}
        added = {field: value for field, value in changes.items() if field not in known}
        data = self.model_dump()
        for field, value in added.items():
            if field.rpartition(".")[0] not in tables:
                raise UnknownNameError.near(f"field of machine {self.name!r}", field, known)
            _, level, table, key = field.split(".")
            data["levels"][level][table][key] = {"value": value, "source": BY_USER}
        grown = checked(type(self), data, where=f"machine {self.name!r}") if added else self
        return super(DesignSpec, grown).with_figures({f: v for f, v in changes.items() if f not in added})

    @property
    def area_mm2(self) -> float | None:
        """Of all levels on the chip and the compute; None where the file lacks one of them."""
        figures = [self.compute.area_um2, *(level.area_um2 for level in list(self.levels.values())[1:])]
        return None if None in figures else self.architecture().area_um2 * 1e-6


def _check_level(name: str, level: LevelSpec) -> None:
    """What pydantic cannot say; its texts follow the word 'expected'."""
    held = (*level.keep, *level.streams)
    for tensor in (*held, *level.formats):
        if tensor not in TENSORS:
            raise ValueError(f"tensors A, B and C at level {name}, not {tensor}")
    for tensor in level.may_bypass:
        if tensor not in level.keep:
            raise ValueError(f"level {name} to keep {tensor}, which may bypass it")
    if level.capacity_words.value == 0 and held:
        raise ValueError(f"a capacity above 0 words at level {name}, which keeps {' '.join(held)}")
    if level.capacity_words.value > 0 and not held:
        raise ValueError(f"level {name} to keep a tensor, or a capacity of 0 words for a mere fan-out")
    try:
        level.energies()
    except (InputError, UnknownNameError) as error:
        raise ValueError(f"energies that level {name} is charged, but {error}") from None
    if held and not {"read", "write"} <= set(level.energy_pj):
        raise ValueError(f"energies of read and write at level {name}")


def _check_flow(name: str, flow: DataflowSpec, levels: tuple[str, ...]) -> None:
    for level, text in (*flow.loops.items(), *flow.spread.items()):
        if level not in levels:
            raise ValueError(f"a level in dataflow {name}, not {level}")
        for word in text.value.split():
            if word != "-" and word.partition("/")[0] not in ROLES:
                raise ValueError(f"roles M, N, K in dataflow {name} at level {level}, not {word}")
    for level, text in flow.spread.items():
        for word in text.value.split():
            if word.partition("/")[2] not in ("x", "y"):
                raise ValueError(f"ROLE/x or ROLE/y in the spread of dataflow {name} at level {level}, not {word}")


def _storage(name: str, level: LevelSpec, x: int, y: int, sparse: bool) -> Storage:
    layouts = {
        tensor: parse_format(text.value, f"format of tensor {tensor} at level {name}")
        for tensor, text in level.formats.items()
    }
    return Storage(
        name=name,
        instances=x * y,
        mesh_x=x,
        mesh_y=y,
        capacity_words=level.capacity_words.value,
        word_bits=level.word_bits.value,
        block_words=float(level.block_words.value),
        read_words_per_cycle=level.read_words_per_cycle.value,
        write_words_per_cycle=level.write_words_per_cycle.value,
        metadata_width_bits=level.metadata_width_bits.value,
        metadata_capacity_bits=level.metadata_capacity_bits.value if level.metadata_capacity_bits else None,
        energies=level.energies(),
        area_um2=level.area_um2.value * level.scale if level.area_um2 else 0.0,
        formats={tensor: layout for tensor, layout in layouts.items() if layout is not None and sparse},
        actions=parse_actions(level.actions.value, f"actions at level {name}") if sparse else (),
        loads_ahead=level.loads_ahead.value,
        keep=level.keep,
        streams=level.streams,
        may_bypass=level.may_bypass,
    )
