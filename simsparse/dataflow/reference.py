"""Reader of Sparseloop's artifact as JSON (architectures.json, cases.json, masks), and its counters by their names."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
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
        """With Sparseloop's rounding."""
        return analyze(self.problem, self.architecture, self.mapping, Rounding.SPARSELOOP)


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
    for name in only or ():
        if not any(case["id"] == name for case in listed):
            raise UnknownNameError.near("case", name, [case["id"] for case in listed])
    return tuple(_case(case, shared, folder) for case in listed if only is None or case["id"] in only)


def _part(shared: Json, kind: str, name: str) -> Any:
    if name not in shared.get(kind, {}):
        raise UnknownNameError.near(f"{kind} of architectures.json", name, shared.get(kind, {}))
    return shared[kind][name]


def _case(case: Json, shared: Json, folder: Path) -> Case:
    try:
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
        raise InputError(f"case {case['id']!r}: key {missing} is missing, expected the keys of the reference") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"case {case['id']!r} is malformed ({error}), expected a run as in the reference") from None


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
    dims = tuple((dim, case["dims"][dim]) for dim in shape["dimensions"])
    problem = Problem(dims, tensors, output, name=case["id"])
    densities = {
        name: _density(density, problem.shape(name), folder) for name, density in case.get("densities", {}).items()
    }
    return problem.with_densities(densities)


def _density(density: Json, shape: tuple[int, ...], folder: Path) -> Density:
    kind = density["distribution"]
    if kind == "fixed-structured":
        return FixedStructured(density["density"])
    if kind == "hypergeometric":
        return UniformRandom(density["density"])
    if kind == "real-data":
        return ActualData(_mask(density["mask"], shape, folder))
    raise InputError.expected("distribution", kind, "fixed-structured, hypergeometric or real-data")


def _level_mapping(level: Json) -> LevelMapping:
    return LevelMapping(
        level["level"],
        tuple(level.get("keep", ())),
        tuple(Loop(dim, factor) for dim, factor in level.get("temporal_outer_to_inner", ())),
        tuple(Loop(dim, factor, LoopKind[axis]) for dim, factor, axis in level.get("spatial_outer_to_inner", ())),
        tuple(level.get("streamed_through", ())),
    )


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
        raise InputError(f"file {str(path)!r} is no readable archive of masks ({error}), expected one") from None
    size = math.prod(shape)
    if count != size:
        raise InputError.expected(f"words of mask {name}", count, f"{size}, those of the tensor")
    channels = shape[0] if name.endswith("_weights") else shape[1]
    # The channel runs fastest in the file and comes first among the axes of both tensors.
    return np.ascontiguousarray(flat.reshape(-1, channels).T).reshape(shape)
