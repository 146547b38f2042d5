"""Import of Timeloop and Sparseloop YAML, version 0.4: problem, architecture, sparse optimisations, mapping, ERT, ART.

Covered is what the engine analyses: one chain of storage levels and a compute, loop factors (imperfect ones too),
uniform random or fixed-structured densities. Everything else that bears on counts is refused in one sentence.
Attributes that only Accelergy reads have no effect here; energies come from an ERT, else from Timeloop's built-in model
of memories.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsparse.dataflow.architecture import Architecture, Compute, Storage
from simsparse.dataflow.energies import ComputeEnergies, StorageEnergies, built_in_pj
from simsparse.dataflow.mapping import Mapping as Nest
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.timeloop_files import Node, named, number, read_specification, whole
from simsparse.dataflow.timeloop_mapping import kept_by_constraints, nest_of
from simsparse.dataflow.timeloop_problem import problem_of
from simsparse.dataflow.timeloop_sparse import SparseLevel, sparse_levels
from simsparse.errors import InputError, UnknownNameError

_REFUSED = ("shared_bandwidth", "multiple_buffering", "network_read", "network_fill", "network_drain", "network_update")
_INSTANCES = re.compile(r"\[[^\]]*\]")
_CYCLE = "global_cycle_seconds"
_NO_ERT = "no ERT is among the files: operations cost no energy, memories that of Timeloop's built-in model"


@dataclass(frozen=True, eq=False)
class Imported:
    """What files said; parts that they lack are None.

    Attributes
    ----------
    keeps : dict of level name to tensors
        What each level keeps by mapping or constraints, all tensors where nothing is said.
    energies_known : bool
        Whether an ERT was among the files.
    clock_hz : float or None
        One over `global_cycle_seconds`.
    notes : tuple of str
        What has no effect, and what was taken for granted.
    """

    problem: Problem | None
    architecture: Architecture | None
    mapping: Nest | None
    keeps: Mapping[str, tuple[str, ...]]
    energies_known: bool
    clock_hz: float | None = None
    notes: tuple[str, ...] = ()


def read_timeloop(files: Iterable[Path]) -> Imported:
    """Read files of one specification.

    Raises
    ------
    InputError
        For a file that is no YAML, another version, and what the engine does not cover.
    """
    specification = read_specification(files)
    parts, known = specification.parts, "ERT" in specification.parts
    problem = problem_of(parts["problem"]) if "problem" in parts else None
    if "architecture" not in parts:
        return Imported(problem, None, None, {}, known, None, specification.notes)
    chain = _chain(parts["architecture"])
    architecture = _architecture(chain, parts, problem)
    clock_hz = _clock([specification.variables, *(node.get("attributes") or {} for node in chain)])
    notes = specification.notes if known else (*specification.notes, _NO_ERT)
    names = problem.names if problem is not None else ()
    if "mapping" not in parts:
        keeps = {node["name"]: kept_by_constraints(node, names) for node, _, _ in _components(chain)[:-1]}
        return Imported(problem, architecture, None, keeps, known, clock_hz, notes)
    if problem is None:
        raise InputError("a mapping needs the problem that it maps, expected a file with one")
    nest = nest_of(parts["mapping"], problem, _owners(chain))
    return Imported(
        problem, architecture, nest, {part.level: part.keep for part in nest.levels}, known, clock_hz, notes
    )


def _clock(nodes: Iterable[Node]) -> float | None:
    for node in nodes:
        if _CYCLE in node:
            cycle = number(_CYCLE, node[_CYCLE])
            if not cycle > 0.0:
                raise InputError.expected(_CYCLE, cycle, "a time above 0")
            return 1.0 / cycle
    return None


def _chain(architecture: Any) -> list[Node]:
    nodes = architecture.get("nodes") if isinstance(architecture, Mapping) else None
    if not isinstance(nodes, list) or not nodes:
        raise InputError("architecture has no nodes, expected a list of !Component and !Container")
    for node in nodes:
        if not isinstance(node, Mapping) or "name" not in node or "tag" not in node:
            raise InputError("a node of the architecture has no tag or name, expected !Component or !Container")
    return nodes


def _components(chain: list[Node]) -> list[tuple[Node, int, int]]:
    """Components with their mesh in the whole chip, outermost first."""
    x = y = 1
    found = []
    for node in chain:
        spatial = node.get("spatial") or {}
        x *= whole(f"meshX of {node['name']}", spatial.get("meshX", 1))
        y *= whole(f"meshY of {node['name']}", spatial.get("meshY", 1))
        if node["tag"] == "Component":
            found.append((node, x, y))
    if len(found) < 2:
        raise InputError("architecture has fewer than two components, expected storage and a compute")
    return found


def _owners(chain: list[Node]) -> dict[str, str]:
    """Storage level by target: a container stands for the fan-out of the level before it."""
    owners: dict[str, str] = {}
    before = ""
    storage = {node["name"] for node, _, _ in _components(chain)[:-1]}
    for node in chain:
        if node["name"] in storage:
            before = node["name"]
        owners[node["name"]] = before
    return owners


def _architecture(chain: list[Node], parts: Node, problem: Problem | None) -> Architecture:
    components = _components(chain)
    names = [node["name"] for node, _, _ in components]
    energies, areas = _energies(parts.get("ERT"), names), _areas(parts.get("ART"), names)
    sparse = sparse_levels([node for node, _, _ in components], parts.get("sparse_optimizations"))
    storages = tuple(_storage(node, x, y, sparse[node["name"]], energies, areas) for node, x, y in components[:-1])
    node, x, y = components[-1]
    name = node["name"]
    gates, skips = sparse[name].compute
    charges = ComputeEnergies(energies.get(name, {}))
    made = Architecture(storages, Compute(name, x * y, x, y, gates, skips, charges, areas.get(name, 0.0)))
    if problem is not None:
        made.check_tensors(problem.names)
    return made


def _tables(part: Any, kind: str, known: list[str]) -> list[tuple[str, Node]]:
    """Tables of a reference by component; names are paths, such as `system.PE[1..16].mac`."""
    if part is None:
        return []
    found = []
    for table in named(f"tables of the {kind}", part.get("tables")):
        name = _INSTANCES.sub("", str(table["name"])).rpartition(".")[2]
        if name not in known:
            raise UnknownNameError.near(f"component of the {kind}", name, known)
        found.append((name, table))
    return found


def _energies(part: Any, known: list[str]) -> dict[str, dict[str, float]]:
    """pJ by component and action; the dearest variant of an action counts, as in Sparseloop."""
    found: dict[str, dict[str, float]] = {}
    for name, table in _tables(part, "ERT", known):
        actions = found.setdefault(name, {})
        for action in named(f"actions of {name} in the ERT", table.get("actions", [])):
            energy = number(f"energy of {action['name']} of {name} in the ERT", action.get("energy"))
            actions[action["name"]] = max(actions.get(action["name"], 0.0), energy)
    return found


def _areas(part: Any, known: list[str]) -> dict[str, float]:
    """µm² by component."""
    return {
        name: number(f"area of {name} in the ART", table.get("area")) for name, table in _tables(part, "ART", known)
    }


def _storage(
    node: Node,
    x: int,
    y: int,
    sparse: SparseLevel,
    energies: Mapping[str, dict[str, float]],
    areas: Mapping[str, float],
) -> Storage:
    name, has = node["name"], node.get("attributes") or {}
    for key in _REFUSED:
        if key in has and has[key] not in (None, 1, 1.0):
            raise InputError(f"attribute {key} of {name} is not covered, expected it to be absent")
    if "datawidth" not in has:
        raise InputError(f"component {name} has no datawidth, expected the bits of a word")

    def value(key: str, default: float) -> float:
        return default if has.get(key) is None else number(f"attribute {key} of {name}", has[key])

    word = value("datawidth", 0.0)
    if not word > 0.0:
        raise InputError.expected(f"attribute datawidth of {name}", has["datawidth"], "at least 1 bit")
    width = value("width", word * value("block_size", 1.0))
    block, depth = value("block_size", width / word), value("depth", math.inf)
    dram = str(node.get("class", "")).upper() == "DRAM"
    rows = value("metadata_storage_depth", math.inf)
    built_in = built_in_pj("DRAM" if dram else "SRAM", width, 0.0 if math.isinf(depth) else depth)
    return Storage(
        name=name, instances=x * y, mesh_x=x, mesh_y=y,
        capacity_words=depth * width / word,
        word_bits=word, block_words=max(1.0, block),
        read_words_per_cycle=value("read_bandwidth", math.inf),
        write_words_per_cycle=value("write_bandwidth", math.inf),
        metadata_width_bits=value("metadata_storage_width", 0.0),
        metadata_capacity_bits=math.inf if math.isinf(rows) else rows * value("metadata_storage_width", 0.0),
        energies=StorageEnergies(energies.get(name, {}), built_in), area_um2=areas.get(name, 0.0),
        formats=sparse.formats, actions=sparse.actions,
    )  # fmt: skip
