"""`analyze`: what one mapping of a problem on an architecture moves, takes and burns, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from simsparse.dataflow._arrays import Count, Counts, Total
from simsparse.dataflow.architecture import Architecture
from simsparse.dataflow.explain import Explanation, explain
from simsparse.dataflow.mapping import Mapping
from simsparse.dataflow.prepared import Prepared, prepare
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.rounding import Rounding
from simsparse.errors import InputError


class Access(Enum):
    """What is done to a word at a level."""

    READS = 0
    FILLS = 1
    UPDATES = 2


class State(Enum):
    """What became of an access."""

    ACTUAL = 0
    GATED = 1
    SKIPPED = 2


class Part(Enum):
    """Parts of a format."""

    METADATA = 0
    PAYLOAD = 1


def _plain(number: float) -> str:
    return f"{number:,.3f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class Overflow:
    """A level that does not hold what it keeps.

    Attributes
    ----------
    words, metadata_words : float
        Held, and how many of these are metadata.
    largest : str
        Tensor that takes most of them.
    """

    level: str
    words: float
    capacity_words: float
    largest: str
    metadata_words: float = 0.0

    def __str__(self) -> str:
        over = self.words - self.capacity_words
        metadata = f" ({_plain(self.metadata_words)} of them metadata)" if self.metadata_words > 0.0 else ""
        return (
            f"level {self.level} would hold {_plain(self.words)} words of {_plain(self.capacity_words)}{metadata}, "
            f"{_plain(over)} too many, most of them of tensor {self.largest}"
        )


@dataclass(frozen=True)
class MetadataOverflow:
    """A level whose store of metadata does not hold that of what it keeps."""

    level: str
    bits: float
    capacity_bits: float
    largest: str

    def __str__(self) -> str:
        over = self.bits - self.capacity_bits
        return (
            f"level {self.level} would hold {_plain(self.bits)} bits of metadata of {_plain(self.capacity_bits)}, "
            f"{_plain(over)} too many, most of them of tensor {self.largest}"
        )


@dataclass(frozen=True, eq=False)
class Analysis:
    """Counts of one mapping.

    Attributes
    ----------
    cycles : float
    energy_j : float
    bound : str
        Level that takes longest (the compute's name where nothing throttles it).
    utilisation : float
        Actual operations over those that the instances in use could do in the time.
    result : Counts
        All counts as arrays.
    """

    mapping: Mapping
    prepared: Prepared
    result: Counts

    @property
    def problem(self) -> Problem:
        """What is computed."""
        return self.prepared.problem

    @property
    def architecture(self) -> Architecture:
        """What it runs on."""
        return self.prepared.architecture

    @property
    def cycles(self) -> float:
        """Of the slowest level."""
        return self.total(Total.CYCLES)

    @property
    def energy_j(self) -> float:
        """Of all levels and the compute."""
        return self.total(Total.ENERGY_PJ) * 1e-12

    @property
    def utilisation(self) -> float:
        """See the class."""
        return self.total(Total.UTILISATION)

    @property
    def bound(self) -> str:
        """See the class."""
        return (*self.architecture.level_names, self.architecture.compute.name)[int(self.total(Total.BOUND))]

    def total(self, which: Total) -> float:
        """One of what is counted once."""
        return float(self.result.totals[which])

    def stored(self, level: str, tensor: str) -> bool:
        """Whether a tensor is counted at a level."""
        part = self.mapping.levels[self._at(level)]
        return tensor in part.keep or tensor in part.streamed

    def _at(self, level: str) -> int:
        self.architecture.level(level)
        return self.architecture.level_names.index(level)

    def count(self, level: str, tensor: str, which: Count) -> float:
        """A count of a tensor at a level, per instance."""
        self.problem.tensor(tensor)
        return float(self.result.counts[self._at(level), self.problem.names.index(tensor), which])

    def metadata(self, level: str, tensor: str, rank: int, state: State, access: Access, part: Part) -> float:
        """Words of metadata or payload of a rank (0 is the innermost), per instance."""
        at, t = self._at(level), self.problem.names.index(tensor)
        return float(self.result.metadata[at, t, rank, state.value, access.value, part.value])

    def level_cycles(self, level: str) -> float:
        """Cycles that a level needs for what it moves, at least those of the compute."""
        return float(self.result.levels[self._at(level), 0])

    def stretch(self, level: str) -> float:
        """Words of the busiest instance of a level over those of the average one; 1 where no edge is clipped."""
        return float(self.result.levels[self._at(level), 2])

    def energies_j(self) -> dict[str, float]:
        """Energy of each level and of the compute; they add up to `energy_j`."""
        parts = {
            name: float(self.result.counts[at, :, Count.ENERGY_PJ].sum()) * 1e-12
            for at, name in enumerate(self.architecture.level_names)
        }
        return {**parts, self.architecture.compute.name: self.total(Total.COMPUTE_ENERGY_PJ) * 1e-12}

    def explain(self, level: str, tensor: str, count: Count) -> Explanation:
        """Which loops multiply into a count: of words, bits of metadata, accesses or instances.

        Raises
        ------
        InputError, UnknownNameError
            For the energy, which is a sum, or a level or tensor that there is not.
        """
        return explain(self, level, tensor, count)

    def overflows(self, *, mean: bool = False) -> tuple[Overflow | MetadataOverflow, ...]:
        """Levels whose capacity is below what they keep, in the worst case or on average.

        Metadata counts as words of the level, unless it has a store of its own.
        """
        data, metadata = (
            (Count.OCCUPANCY_MEAN, Count.METADATA_MEAN_BITS) if mean else (Count.OCCUPANCY_MAX, Count.METADATA_MAX_BITS)
        )
        found: list[Overflow | MetadataOverflow] = []
        for level, part in zip(self.architecture.levels, self.mapping.levels, strict=True):
            bits = {name: self.count(level.name, name, metadata) for name in part.keep}
            apart = level.metadata_capacity_bits
            beside = {name: each / level.word_bits if apart is None else 0.0 for name, each in bits.items()}
            words = {name: self.count(level.name, name, data) + beside[name] for name in part.keep}
            held, total = sum(words.values()), sum(bits.values())
            if held > level.capacity_words:
                largest = max(words, key=words.__getitem__)
                found.append(Overflow(level.name, held, level.capacity_words, largest, sum(beside.values())))
            if apart is not None and total > apart:
                found.append(MetadataOverflow(level.name, total, apart, max(bits, key=bits.__getitem__)))
        return tuple(found)


def analyze(
    problem: Problem, architecture: Architecture, mapping: Mapping, rounding: Rounding | str = Rounding.EXACT
) -> Analysis:
    """Count accesses, cycles and energy of a mapping.

    Where factors multiply to more than an extent, edges are clipped: what lies beyond is neither moved nor computed.
    Counts of words are those of the mean instance, exact in total over all instances, with these limits: a tile that
    stays is held by as many instances as are busy on average; sliding windows are taken to overlap as in the middle;
    shares of zeros and metadata are those of full tiles; worst cases and `INSTANCES_MAX` are those of the unclipped
    nest. Cycles follow the busiest instance. Its words are taken to go with its operations: exact for what goes to the
    compute, an upper bound where tiles do not shrink along with the work (`stretch`). Only problems with a real mask
    are padded with zeros instead, moved and computed as data is.

    Parameters
    ----------
    rounding : {"exact", "sparseloop"} or Rounding
        Unrounded expectations, or integers where Sparseloop has them.

    Raises
    ------
    InputError
        For a mapping that is none of this problem, or needs more instances than there are.
    """
    mode = rounding if isinstance(rounding, Rounding) else _rounding(rounding)
    mapping.check(problem, architecture)
    if mapping.imperfect:
        problem = problem.covered({dim: mapping.extent(dim) for dim in problem.dim_names})
    prepared = prepare(problem, architecture, mode)
    analysis = Analysis(mapping, prepared, prepared.run(*mapping.arrays(problem)))
    _check_instances(analysis)
    return analysis


def _rounding(name: str) -> Rounding:
    if name.upper() not in Rounding.__members__:
        raise InputError.expected("rounding", name, "exact or sparseloop")
    return Rounding[name.upper()]


def _check_instances(analysis: Analysis) -> None:
    for at, level in enumerate(analysis.architecture.levels):
        used = float(analysis.result.counts[at, :, Count.INSTANCES_MAX].max())
        if used > level.instances:
            raise InputError.expected(
                f"instances of level {level.name} that the mapping uses", used, f"at most {level.instances}"
            )
    compute = analysis.architecture.compute
    used = analysis.total(Total.INSTANCES_MAX)
    if used > compute.instances:
        raise InputError.expected(
            f"instances of {compute.name} that the mapping uses", used, f"at most {compute.instances}"
        )
