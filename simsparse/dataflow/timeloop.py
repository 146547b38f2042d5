"""Import of Timeloop and Sparseloop YAML, version 0.4: problem, architecture, sparse optimisations, mapping, ERT, ART.

Covered is what the engine analyses: one chain of storage levels and a compute, perfect loop factors, uniform random or
fixed-structured densities. Everything else that bears on counts is refused in one sentence. Attributes that only
Accelergy reads have no effect here; energies come from an ERT, else from Timeloop's built-in model of memories.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsparse.dataflow.architecture import Architecture, Compute, Storage
from simsparse.dataflow.density import Density, FixedStructured, UniformRandom
from simsparse.dataflow.energies import ComputeEnergies, StorageEnergies, built_in_pj
from simsparse.dataflow.mapping import Mapping as Nest
from simsparse.dataflow.problem import Operand, Problem
from simsparse.dataflow.timeloop_mapping import kept_by_constraints, nest_of
from simsparse.dataflow.timeloop_sparse import SparseLevel, sparse_levels
from simsparse.errors import InputError, UnknownNameError

Node = Mapping[str, Any]
VERSION = 0.4
_PARTS = ("architecture", "problem", "mapping", "sparse_optimizations", "ERT", "ART")
_REFUSED = ("shared_bandwidth", "multiple_buffering", "network_read", "network_fill", "network_drain", "network_update")


@dataclass(frozen=True, eq=False)
class Imported:
    """What files said; parts that they lack are None.

    Attributes
    ----------
    keeps : dict of level name to tensors
        What each level keeps by mapping or constraints, all tensors where nothing is said.
    energies_known : bool
        Whether an ERT was among the files.
    """

    problem: Problem | None
    architecture: Architecture | None
    mapping: Nest | None
    keeps: Mapping[str, tuple[str, ...]]
    energies_known: bool


def read_timeloop(files: Iterable[Path]) -> Imported:
    """Read files of one specification.

    Raises
    ------
    InputError
        For a file that is no YAML, another version, and what the engine does not cover.
    """
    parts: dict[str, Any] = {}
    for file in files:
        for key, value in _load(file).items():
            if key not in _PARTS:
                raise InputError.expected(f"key of {file.name}", key, f"one of {', '.join(_PARTS)}")
            if key in parts:
                raise InputError(f"{key} stands in {file.name} and in a file before it, expected it once")
            version = value.get("version", VERSION) if isinstance(value, Mapping) else VERSION
            if key in ("architecture", "problem") and float(version) != VERSION:
                raise InputError.expected(f"version of {key} in {file.name}", version, f"{VERSION}")
            parts[key] = value
    problem = _problem(parts["problem"]) if "problem" in parts else None
    chain = _chain(parts["architecture"]) if "architecture" in parts else []
    if not chain:
        return Imported(problem, None, None, {}, "ERT" in parts)
    architecture = _architecture(chain, parts, problem)
    names = problem.names if problem is not None else ()
    if "mapping" not in parts:
        keeps = {node["name"]: kept_by_constraints(node, names) for node, _, _ in _components(chain)[:-1]}
        return Imported(problem, architecture, None, keeps, "ERT" in parts)
    if problem is None:
        raise InputError("a mapping needs the problem that it maps, expected a file with one")
    nest = nest_of(parts["mapping"], problem, _owners(chain))
    return Imported(problem, architecture, nest, {part.level: part.keep for part in nest.levels}, "ERT" in parts)


def _load(file: Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError:
        raise InputError("reading YAML needs the package PyYAML, expected the extra yaml to be installed") from None

    loader_class: Any = type("Loader", (yaml.SafeLoader,), {})  # plain YAML, and the tags of nodes

    def tagged(loader: Any, suffix: str, node: Any) -> Any:
        if suffix not in ("Component", "Container"):
            raise InputError.expected(f"node of {file.name}", f"!{suffix}", "!Component or !Container in one chain")
        return {"tag": suffix, **loader.construct_mapping(node, deep=True)}

    loader_class.add_multi_constructor("!", tagged)
    try:
        text = file.read_text(encoding="utf-8")
        if "{{" in text or "{%" in text:
            raise InputError(f"file {file.name} has Jinja templates, expected plain YAML")
        found = yaml.load(text, loader_class)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise InputError(
            f"file {file.name} is no readable YAML ({reason}), expected a Timeloop specification"
        ) from None
    if not isinstance(found, Mapping):
        raise InputError(f"file {file.name} holds no mapping, expected keys such as architecture or problem")
    return found


def _chain(architecture: Node) -> list[Node]:
    nodes = architecture.get("nodes")
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
        spatial = node.get("spatial", {})
        x, y = x * int(spatial.get("meshX", 1)), y * int(spatial.get("meshY", 1))
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


def _architecture(chain: list[Node], parts: Mapping[str, Any], problem: Problem | None) -> Architecture:
    components = _components(chain)
    names = [node["name"] for node, _, _ in components]
    energies, areas = (_table(parts.get(kind), kind, names) for kind in ("ERT", "ART"))
    sparse = sparse_levels([node for node, _, _ in components], parts.get("sparse_optimizations"))
    storages = tuple(_storage(node, x, y, sparse[node["name"]], energies, areas) for node, x, y in components[:-1])
    node, x, y = components[-1]
    name = node["name"]
    gates, skips = sparse[name].compute
    compute = Compute(
        name,
        x * y,
        x,
        y,
        gates,
        skips,
        ComputeEnergies(_charges(energies, name)),
        _charges(areas, name).get("area", 0.0),
    )
    made = Architecture(storages, compute)
    if problem is not None:
        made.check_tensors(problem.names)
    return made


def _table(part: Any, kind: str, known: Iterable[str]) -> dict[str, dict[str, float]]:
    """Actions (or the area) by component; the dearest variant of an action counts, as in Sparseloop."""
    found: dict[str, dict[str, float]] = {}
    for table in (part or {}).get("tables", ()):
        name = str(table["name"]).partition("[")[0].rpartition(".")[2]
        if name not in known:
            raise UnknownNameError.near(f"component of the {kind}", name, known)
        actions = found.setdefault(name, {})
        if kind == "ART":
            actions["area"] = float(table["area"])
            continue
        for action in table.get("actions", ()):
            actions[action["name"]] = max(actions.get(action["name"], 0.0), float(action["energy"]))
    return found


def _charges(tables: Mapping[str, dict[str, float]], name: str) -> dict[str, float]:
    return tables.get(name, {})


def _storage(
    node: Node, x: int, y: int, sparse: SparseLevel, energies: Mapping[str, dict[str, float]],
    areas: Mapping[str, dict[str, float]],
) -> Storage:  # fmt: skip
    name, has = node["name"], node.get("attributes", {})
    for key in _REFUSED:
        if key in has and has[key] not in (None, 1, 1.0):
            raise InputError(f"attribute {key} of {name} is not covered, expected it to be absent")
    if "datawidth" not in has:
        raise InputError(f"component {name} has no datawidth, expected the bits of a word")
    word = float(has["datawidth"])
    width = float(has.get("width", word * float(has.get("block_size", 1))))
    block = float(has.get("block_size", width / word))
    depth = has.get("depth")
    dram = str(node.get("class", "")).upper() == "DRAM"
    built_in = built_in_pj("DRAM" if dram else "SRAM", width, 0.0 if depth is None else float(depth))
    return Storage(
        name=name, instances=x * y, mesh_x=x, mesh_y=y,
        capacity_words=math.inf if depth is None else float(depth) * width / word,
        word_bits=word, block_words=max(1.0, block),
        read_words_per_cycle=float(has.get("read_bandwidth", math.inf)),
        write_words_per_cycle=float(has.get("write_bandwidth", math.inf)),
        metadata_width_bits=float(has.get("metadata_storage_width", 0)),
        energies=StorageEnergies(_charges(energies, name), built_in), area_um2=_charges(areas, name).get("area", 0.0),
        formats=sparse.formats, actions=sparse.actions,
    )  # fmt: skip


def _problem(part: Node) -> Problem:
    shape, instance = part.get("shape"), part.get("instance", {})
    if not isinstance(shape, Mapping):
        raise InputError("problem has no shape, expected dimensions and data_spaces")
    values = {item["name"]: item.get("default", 1) for item in shape.get("coefficients", ())}
    values |= {name: instance[name] for name in values if name in instance}
    for dim in shape["dimensions"]:
        if dim not in instance:
            raise InputError(f"dimension {dim} has no extent in the instance of the problem, expected one")
    spaces = shape["data_spaces"]
    tensors = tuple(Operand(space["name"], _axes(space, values)) for space in spaces)
    outputs = [space["name"] for space in spaces if space.get("read_write")]
    if len(outputs) != 1:
        raise InputError.expected("data spaces that are written", ", ".join(outputs) or "none", "one with read_write")
    problem = Problem(tuple((dim, int(instance[dim])) for dim in shape["dimensions"]), tensors, outputs[0])
    return problem.with_densities(
        {name: _density(name, density) for name, density in instance.get("densities", {}).items()}
    )


def _axes(space: Node, values: Mapping[str, int]) -> tuple[tuple[tuple[str, int], ...], ...]:
    if not isinstance(space["projection"], list):
        raise InputError(f"projection of {space['name']} is a text, expected lists of terms")
    return tuple(
        tuple((term[0], int(values[term[1]]) if len(term) > 1 else 1) for term in axis) for axis in space["projection"]
    )


def _density(name: str, density: Any) -> Density:
    if not isinstance(density, Mapping) or "density" not in density:
        raise InputError.expected(f"density of {name}", density, "a distribution and a density")
    kind = density.get("distribution")
    if kind == "fixed-structured":
        return FixedStructured(float(density["density"]))
    if kind == "hypergeometric":
        return UniformRandom(float(density["density"]))
    raise InputError.expected(f"distribution of {name}", kind, "fixed-structured or hypergeometric")
