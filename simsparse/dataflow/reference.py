"""Reader of Sparseloop's artifact as JSON (architectures.json, cases.json, masks), and its counters by their names."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simsparse.dataflow._arrays import LoopKind
from simsparse.dataflow.analysis import Analysis, analyze
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
from simsparse.dataflow.density import ActualData, Density, FixedStructured, Mask, UniformRandom
from simsparse.dataflow.energies import ComputeEnergies, StorageEnergies, built_in_pj
from simsparse.dataflow.mapping import LevelMapping, Loop
from simsparse.dataflow.mapping import Mapping as Nest
from simsparse.dataflow.problem import Operand, Problem
from simsparse.dataflow.rounding import Rounding
from simsparse.errors import InputError, SimsparseError, UnknownNameError

Json = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Case:
    """One run of the artifact."""

    id: str
    problem: Problem
    architecture: Architecture
    mapping: Nest
    dense: bool

    def analyze(self) -> Analysis:
        """With Sparseloop's rounding.

        Raises
        ------
        InputError
            Naming the case, for a mapping that is none of its problem or needs more instances than there are.
        """
        with _of(f"case {self.id!r}"):
            return analyze(self.problem, self.architecture, self.mapping, Rounding.SPARSELOOP)


@contextmanager
def _of(where: str) -> Iterator[None]:
    """Put where it is before what is wrong."""
    try:
        yield
    except (InputError, UnknownNameError) as error:
        raise type(error)(f"{where}: {error}") from None


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises
    ------
    InputError
        If it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            f"file {str(path)!r} is no readable JSON ({reason}), expected cases of the reference"
        ) from None


def read_cases(cases: Path, inputs: Path | None = None, only: tuple[str, ...] | None = None) -> tuple[Case, ...]:
    """Runs of a JSON list, or those of the ids in `only`; what they point into lies in `inputs`, by default beside it.

    Raises
    ------
    InputError, UnknownNameError
        For a file that cannot be read, or a case that names what is not there.
    """
    folder = inputs or cases.parent
    shared = read_json(folder / "architectures.json")
    listed = read_json(cases)
    if not isinstance(listed, list):
        listed = listed.get("cases") if isinstance(listed, dict) else None
    if not isinstance(listed, list) or not all(isinstance(case, dict) and "id" in case for case in listed):
        raise InputError(f"file {str(cases)!r} holds no list of cases, expected objects with an id")
    names = [str(case["id"]) for case in listed]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"case {name!r} stands {names.count(name)} times in {str(cases)!r}, expected ids that differ"
            )
    for name in only or ():
        if name not in names:
            raise UnknownNameError.near("case", name, names)
    return tuple(_case(case, shared, folder) for case in listed if only is None or case["id"] in only)


def _part(shared: Json, kind: str, name: str) -> Any:
    if name not in shared.get(kind, {}):
        raise UnknownNameError.near(f"{kind} of architectures.json", name, shared.get(kind, {}))
    return shared[kind][name]


def _case(case: Json, shared: Json, folder: Path) -> Case:
    where = f"case {case['id']!r}"
    try:
        with _of(where):
            config = _part(shared, "sparse_configs", case["sparse_config"]) if case.get("sparse_config") else []
            energies = _part(shared, "energy_tables", case["energy_table"])
            areas = _part(shared, "area_tables", case["area_table"]) if case.get("area_table") else {}
            architecture = _architecture(_part(shared, "architectures", case["architecture"]), config, energies, areas)
            problem = _problem(_part(shared, "problem_shapes", case["problem_shape"]), case, folder)
            mapping = Nest(tuple(_level_mapping(level) for level in case["mapping"]))
            return Case(case["id"], problem, architecture, mapping, case.get("sparse_config") is None)
    except SimsparseError:
        raise
    except KeyError as missing:
        raise InputError(f"{where}: key {missing} is missing, expected the keys of the reference") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where} is malformed ({error}), expected a run as in the reference") from None


def _whole(what: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError.expected(what, value, "a whole number of at least 1")
    return value


def _names(what: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InputError.expected(what, value, "a list of tensors")
    return tuple(value)


def _architecture(levels: list[Json], config: list[Json], energies: Json, areas: Json) -> Architecture:
    sparse = {entry["level"]: entry for entry in config}
    storages = tuple(
        _storage(level, sparse.get(level["name"], {}), energies, areas)
        for level in levels
        if level["kind"] == "storage"
    )
    last = levels[-1]
    does = sparse.get(last["name"], {}).get("compute", ())
    compute = Compute(
        name=last["name"], instances=last["instances"], mesh_x=last["mesh_x"], mesh_y=last["mesh_y"],
        gating="gating" in does, skipping="skipping" in does,
        energies=ComputeEnergies(energies["raw_pJ"].get(last["name"], {})), area_um2=areas.get(last["name"], 0.0),
    )  # fmt: skip
    return Architecture(storages, compute)


def _storage(level: Json, sparse: Json, energies: Json, areas: Json) -> Storage:
    name = level["name"]
    capacity = level["capacity_words"]
    lines = (capacity or 0) / level["block_size_words"]
    return Storage(
        name=name,
        instances=level["instances"],
        mesh_x=level["mesh_x"],
        mesh_y=level["mesh_y"],
        capacity_words=math.inf if capacity is None else float(capacity),
        word_bits=level["word_bits"],
        block_words=level["block_size_words"],
        read_words_per_cycle=_rate(level["read_bandwidth_words_per_cycle"]),
        write_words_per_cycle=_rate(level["write_bandwidth_words_per_cycle"]),
        metadata_width_bits=level["metadata_storage_width_bits"] or 0,
        metadata_capacity_bits=math.inf,  # held apart; the inputs give its width only
        energies=StorageEnergies(
            energies["raw_pJ"].get(name, {}), built_in_pj(level["technology"], level["storage_width_bits"], lines)
        ),
        area_um2=areas.get(name, 0.0),
        formats={tensor: _format(layout, level) for tensor, layout in sparse.get("formats", {}).items()},
        actions=tuple(_action(action) for action in sparse.get("actions", ())),
    )


def _rate(value: float | None) -> float:
    return math.inf if value is None else float(value)


def _format(layout: Json, level: Json) -> TensorFormat:
    ranks = tuple(
        Rank(
            RankFormat(rank["format"]),
            rank.get("metadata_bits", 1 if rank["format"] == "B" else level["metadata_default_word_bits"]),
            rank.get("payload_bits", 0),
            frozenset(dim for group in rank.get("flatten", ()) for dim in group),
        )
        for rank in layout["ranks_outer_to_inner"]
    )  # fmt: skip
    return TensorFormat(ranks, inner_first=layout["rank_application_order"] == "inner-to-outer")


def _action(action: Json) -> Action:
    options = tuple(Option(option["target"], tuple(option["condition_on"])) for option in action["options"])
    return Action(ActionKind(action["type"]), options)


def _problem(shape: Json, case: Json, folder: Path) -> Problem:
    coefficients = {**shape.get("coefficient_defaults", {}), **case.get("coefficients", {})}
    tensors = tuple(
        Operand(
            name,
            tuple(
                tuple((term[0], coefficients[term[1]] if len(term) > 1 else 1) for term in axis)
                for axis in space["projection"]
            ),
        )
        for name, space in shape["dataspaces"].items()
    )
    output = next(name for name, space in shape["dataspaces"].items() if space["read_write"])
    dims = tuple((dim, _whole(f"dimension {dim}", case["dims"][dim])) for dim in shape["dimensions"])
    problem = Problem(dims, tensors, output, name=case["id"])
    densities = {
        name: _density(name, density, problem.shape(name), folder)
        for name, density in case.get("densities", {}).items()
    }
    return problem.with_densities(densities)


def _density(name: str, density: Json, shape: tuple[int, ...], folder: Path) -> Density:
    kind = density["distribution"]
    with _of(f"tensor {name}"):
        return _distribution(kind, density, shape, folder)


def _distribution(kind: str, density: Json, shape: tuple[int, ...], folder: Path) -> Density:
    value = density.get("density")
    if kind != "real-data" and (not isinstance(value, (int, float)) or isinstance(value, bool)):
        raise InputError.expected("density", value, "a fraction from 0 to 1")
    if kind == "fixed-structured":
        return FixedStructured(density["density"])
    if kind == "hypergeometric":
        return UniformRandom(density["density"])
    if kind == "real-data":
        return ActualData(_mask(density["mask"], shape, folder))
    raise InputError.expected("distribution", kind, "fixed-structured, hypergeometric or real-data")


def _level_mapping(part: Json) -> LevelMapping:
    name = part["level"]
    keep, streamed = (_names(f"{key} at level {name}", part.get(key, [])) for key in ("keep", "streamed_through"))
    temporal = tuple(_loop(name, dim, factor) for dim, factor in part.get("temporal_outer_to_inner", ()))
    spatial = tuple(_loop(name, dim, factor, axis) for dim, factor, axis in part.get("spatial_outer_to_inner", ()))
    return LevelMapping(name, keep, temporal, spatial, streamed)


def _loop(level: str, dim: str, factor: Any, axis: str = "") -> Loop:
    if axis not in ("", "X", "Y"):
        raise InputError.expected(f"mesh axis of the loop over {dim} at level {level}", axis, "X or Y")
    return Loop(dim, _whole(f"factor of {dim} at level {level}", factor), LoopKind[axis or "TEMPORAL"])


def _mask(name: str, shape: tuple[int, ...], folder: Path) -> Mask:
    """A mask of the archive: weights are stored [M][C], activations [pixel][C]."""
    path = folder / "eyerissv2_masks.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            if f"{name}_bits" not in archive:
                raise UnknownNameError.near(f"mask in {path.name}", name, {key.rpartition("_")[0] for key in archive})
            count = int(archive[f"{name}_count"])
            flat = np.unpackbits(archive[f"{name}_bits"], count=count).astype(bool)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"file {str(path)!r} is no readable archive of masks ({reason}), expected one") from None
    size = math.prod(shape)
    if count != size:
        raise InputError.expected(f"words of mask {name}", count, f"{size}, those of the tensor")
    channels = shape[0] if name.endswith("_weights") else shape[1]
    # The channel runs fastest in the file and comes first among the axes of both tensors.
    return np.ascontiguousarray(flat.reshape(-1, channels).T).reshape(shape)
