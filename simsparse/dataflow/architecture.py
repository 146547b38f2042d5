"""What a dataflow runs on: storage levels from the outside in, a compute level, and their sparse features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from simsparse.dataflow._arrays import ActionCode, RankCode
from simsparse.dataflow.energies import ComputeEnergies, StorageEnergies
from simsparse.errors import InputError, UnknownNameError


class RankFormat(StrEnum):
    """How the coordinates of a fiber are stored."""

    UNCOMPRESSED = "UOP"  # every coordinate, with offset pairs
    BITMASK = "B"
    COORDINATE = "CP"
    RUN_LENGTH = "RLE"

    @property
    def code(self) -> RankCode:
        """Its code in arrays."""
        return RankCode[self.value]

    @property
    def compresses(self) -> bool:
        """Whether zeros are not stored."""
        return self is not RankFormat.UNCOMPRESSED


@dataclass(frozen=True)
class Rank:
    """One rank of a fiber tree.

    Attributes
    ----------
    format : RankFormat
    metadata_bits : float
        Bits of one metadata word (bit of a mask, coordinate, run); a rank that compresses must say it.
    payload_bits : float
        Bits of one payload (offset).
    dims : frozenset of str
        Dimensions whose neighbouring loops this rank flattens; empty: it takes one loop.
    """

    format: RankFormat
    metadata_bits: float | None = None
    payload_bits: float = 0.0
    dims: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TensorFormat:
    """Ranks from the outermost in; `inner_first` says from which end loops are dealt out to them."""

    ranks: tuple[Rank, ...]
    inner_first: bool = True

    @property
    def compressed(self) -> bool:
        """Whether any rank leaves zeros out."""
        return any(rank.format.compresses for rank in self.ranks)

    @property
    def text(self) -> str:
        """Names of the formats, outermost first."""
        return " ".join(rank.format.value.lower() for rank in self.ranks)


class ActionKind(StrEnum):
    """What happens to an access whose partners are zero."""

    GATING = "gating"  # its energy is saved, its cycle is not
    SKIPPING = "skipping"  # both are saved
    SPATIAL_SKIPPING = "skipping-spatial"  # lanes over zeros are left out
    POSITION_SKIPPING = "position-skipping"  # nonzeros of a tile are packed into the lanes

    @property
    def code(self) -> ActionCode:
        """Its code in arrays."""
        return _ACTION_CODES[self]


_ACTION_CODES = dict(zip(ActionKind, ActionCode, strict=True))


@dataclass(frozen=True)
class Option:
    """A tensor whose accesses are saved where a tensor of `on` is zero."""

    target: str
    on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Action:
    """One of several options is taken: that which saves most energy."""

    kind: ActionKind
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Storage:
    """A storage level.

    Attributes
    ----------
    instances : int
        Of the whole chip; `mesh_x` by `mesh_y` of them.
    capacity_words : float
        Of one instance; infinite where it does not matter, 0 for a mere fan-out.
    word_bits, block_words : float
        Bits of a word; words of one vector access.
    read_words_per_cycle, write_words_per_cycle : float
        Of one instance, metadata among them.
    metadata_width_bits : float
        Bits of one access to metadata; 0 where metadata costs nothing.
    metadata_capacity_bits : float or None
        Of a store of its own for the metadata of one instance, payloads among it; None: it shares `capacity_words`.
    formats : mapping of tensor name to TensorFormat
    actions : tuple of Action
    keep : tuple of str, optional
        Tensors that a search has stored here, others bypass; None: all, where there is room for any.
    streams : tuple of str
        Tensors that a search has pass through without being held.
    may_bypass : tuple of str
        Of those kept, the ones that a search may choose to have bypass.
    loads_ahead : bool
        Whether the next tiles always load while the last ones are used, as Sparseloop takes it; else they do only
        where both fit into the capacity, and everything inside waits for them where they do not.
    """

    name: str
    instances: int = 1
    mesh_x: int = 1
    mesh_y: int = 1
    capacity_words: float = math.inf
    word_bits: float = 8.0
    block_words: float = 1.0
    read_words_per_cycle: float = math.inf
    write_words_per_cycle: float = math.inf
    metadata_width_bits: float = 0.0
    metadata_capacity_bits: float | None = None
    energies: StorageEnergies = field(default_factory=StorageEnergies)
    area_um2: float = 0.0
    formats: Mapping[str, TensorFormat] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    loads_ahead: bool = True
    keep: tuple[str, ...] | None = None
    streams: tuple[str, ...] = ()
    may_bypass: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_mesh(self.name, self.instances, self.mesh_x, self.mesh_y)
        for label, value, least in (
            ("capacity", self.capacity_words, 0), ("word", self.word_bits, 1), ("block", self.block_words, 1),
        ):  # fmt: skip
            if not value >= least:
                raise InputError.expected(f"{label} of level {self.name}", value, f"at least {least}")
        if self.metadata_capacity_bits is not None and not self.metadata_capacity_bits > 0:
            what = f"metadata capacity of level {self.name}"
            raise InputError.expected(what, self.metadata_capacity_bits, "above 0 bits, or none to share the words")
        for label, rate in (("read", self.read_words_per_cycle), ("write", self.write_words_per_cycle)):
            if not rate > 0:
                raise InputError.expected(f"{label} bandwidth of level {self.name}", rate, "above 0")
        for tensor, layout in self.formats.items():
            _check_format(self.name, tensor, layout)
        for tensor in self.may_bypass:
            if self.keep is not None and tensor not in self.keep:
                kept = ", ".join(self.keep) or "none"
                raise InputError.expected(f"tensor that may bypass level {self.name}", tensor, f"one it keeps: {kept}")

    def keeps(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Of the tensors of a problem those that are stored here unless a search has them bypass."""
        everything = names if self.capacity_words > 0 else ()
        return everything if self.keep is None else self.keep


def _check_mesh(name: str, instances: int, x: int, y: int) -> None:
    if instances < 1 or x * y != instances:
        raise InputError.expected(f"instances of level {name}", instances, f"mesh_x · mesh_y = {x * y}, at least 1")


def _check_format(level: str, tensor: str, layout: TensorFormat) -> None:
    if not layout.ranks:
        raise InputError(f"format of tensor {tensor} at level {level} has no rank, expected at least one")
    for index, rank in enumerate(layout.ranks):
        where = f"rank {len(layout.ranks) - 1 - index} ({rank.format.value}) of tensor {tensor} at level {level}"
        if rank.format.compresses and rank.metadata_bits is None:
            raise InputError(f"{where} has no metadata width, expected metadata_bits")
        for label, bits in (("metadata", rank.metadata_bits or 0.0), ("payload", rank.payload_bits)):
            if not bits >= 0 or math.isinf(bits):
                raise InputError.expected(f"{label} width of {where}", bits, "0 or more bits")


@dataclass(frozen=True)
class Compute:
    """The compute level; it can gate or skip operations with a zero operand."""

    name: str = "MAC"
    instances: int = 1
    mesh_x: int = 1
    mesh_y: int = 1
    gating: bool = False
    skipping: bool = False
    energies: ComputeEnergies = field(default_factory=ComputeEnergies)
    area_um2: float = 0.0

    def __post_init__(self) -> None:
        _check_mesh(self.name, self.instances, self.mesh_x, self.mesh_y)


@dataclass(frozen=True)
class Architecture:
    """Storage levels, outermost first, and the compute.

    Raises
    ------
    InputError
        For no level, two levels of one name, or fewer instances inside than outside.
    """

    levels: tuple[Storage, ...]
    compute: Compute = Compute()
    name: str = ""

    def __post_init__(self) -> None:
        if not self.levels:
            raise InputError(f"architecture {self.name!r} has no storage level, expected at least one")
        names = [*(level.name for level in self.levels), self.compute.name]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"level {name} is twice in architecture {self.name!r}, expected names that differ")

    @cached_property
    def level_names(self) -> tuple[str, ...]:
        """Names of the storage levels, outermost first."""
        return tuple(level.name for level in self.levels)

    @property
    def area_um2(self) -> float:
        """Of the whole chip."""
        storage = sum(level.area_um2 * level.instances for level in self.levels)
        return storage + self.compute.area_um2 * self.compute.instances

    def level(self, name: str) -> Storage:
        """The storage level of a name."""
        for level in self.levels:
            if level.name == name:
                return level
        raise UnknownNameError.near("level", name, self.level_names)

    def check_tensors(self, names: tuple[str, ...]) -> None:
        """Refuse what levels keep, formats, actions and conditions on tensors that a problem does not have.

        Raises
        ------
        InputError
            Naming level and tensor.
        """
        known = ", ".join(names)
        for level in self.levels:
            for tensor in (*(level.keep or ()), *level.streams, *level.may_bypass):
                if tensor not in names:
                    raise InputError.expected(f"tensor at level {level.name}", tensor, f"one of {known}")
            for tensor in level.formats:
                if tensor not in names:
                    raise InputError.expected(f"format at level {level.name} is of tensor", tensor, f"one of {known}")
            for option in (option for action in level.actions for option in action.options):
                if option.target not in names:
                    raise InputError.expected(f"target at level {level.name}", option.target, f"one of {known}")
                for tensor in option.on:
                    if tensor not in names:
                        raise InputError.expected(
                            f"condition of tensor {option.target} at level {level.name}", tensor, f"one of {known}"
                        )
