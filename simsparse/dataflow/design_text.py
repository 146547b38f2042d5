"""An imported specification as the text of a design file, to be read, edited and simulated."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from simsparse.dataflow.architecture import Architecture, Compute, Storage, TensorFormat
from simsparse.dataflow.energies import ComputeEnergies, StorageEnergies
from simsparse.dataflow.mapping import Loop
from simsparse.dataflow.notation import actions_text, format_text
from simsparse.dataflow.problem import Problem
from simsparse.dataflow.roles import roles_of
from simsparse.dataflow.timeloop import Imported
from simsparse.errors import InputError


def design_text(imported: Imported, name: str, source: str, clock_hz: float | None = None) -> str:
    """A design file; the first input becomes A, the second B, the output C, dimensions become roles.

    The clock is `clock_hz`, else that of the specification, else 1 GHz.

    Raises
    ------
    InputError
        Without an architecture and a problem, or for a problem of other than two inputs.
    """
    problem, architecture = imported.problem, imported.architecture
    if problem is None or architecture is None:
        raise InputError("a design needs an architecture and a problem, expected files with both")
    inputs = [tensor for tensor in problem.names if tensor != problem.output]
    if len(inputs) != 2:
        raise InputError.expected("inputs of the problem", ", ".join(inputs), "two")
    tensors = {inputs[0]: "A", inputs[1]: "B", problem.output: "C"}
    roles = {dim: role for role, dims in roles_of(problem, *inputs).items() for dim in dims}
    sparse = any(level.formats or level.actions for level in architecture.levels)
    about = (
        "" if imported.energies_known else "No ERT was imported: operations cost no energy, memories Timeloop's own."
    )
    parts = [
        f'name = {json.dumps(name)}\nfamily = "asic"\nabout = {json.dumps(about)}\n\n'
        f"clock_hz = {_clock(imported, source, clock_hz)}\n"
        'memory_bytes = { value = inf, source = "assumed: not in the specification" }\n',
        *_levels(architecture, imported, tensors, roles, source),
        _compute(architecture.compute, architecture.levels[-1], source),
        f'[modes.dense]\nsource = {json.dumps(source)}\na = "dense"\n',
        f'[modes.sparse]\nsource = {json.dumps(source)}\na = "any"\nb = "any"\n' if sparse else "",
        _dataflow(imported, architecture, problem, roles, source),
    ]
    return "\n".join(part for part in parts if part)


def _clock(imported: Imported, source: str, clock_hz: float | None) -> str:
    if clock_hz is not None:
        return f'{{ value = {clock_hz!r}, source = "assumed: given at the import" }}'
    if imported.clock_hz is not None:
        return f"{{ value = {imported.clock_hz:.12g}, source = {json.dumps(source)} }}"
    return '{ value = 1e9, source = "assumed: not in the specification" }'


def _number(value: float) -> str:
    return "inf" if math.isinf(value) else repr(int(value)) if value == int(value) else repr(value)


def _energies(table: StorageEnergies | ComputeEnergies) -> str:
    charges = dict(table.table_pj)
    if isinstance(table, StorageEnergies):
        # By its own table a level without one gates for nothing; beside a price of reads that has to be said.
        saved = {} if "idle" in charges else {f"gated_{way}": 0.0 for way in ("read", "write") if way not in charges}
        charges = {"read": table.built_in_pj, "write": table.built_in_pj} | saved | charges
    return "{ " + ", ".join(f"{action} = {_number(pj)}" for action, pj in charges.items()) + " }" if charges else "{}"


def _levels(
    architecture: Architecture, imported: Imported, tensors: Mapping[str, str], roles: Mapping[str, str], source: str
) -> list[str]:
    parts, x, y = [], 1, 1
    for level in architecture.levels:
        keep = [tensors[tensor] for tensor in imported.keeps[level.name]]
        lines = [f"[levels.{json.dumps(level.name)}]", f"source = {json.dumps(source)}", f"keep = {json.dumps(keep)}"]
        for field, value in (
            ("fanout_x", level.mesh_x // x), ("fanout_y", level.mesh_y // y), ("capacity_words", level.capacity_words),
            ("word_bits", level.word_bits), ("block_words", level.block_words),
            ("read_words_per_cycle", level.read_words_per_cycle),
            ("write_words_per_cycle", level.write_words_per_cycle),
            ("metadata_width_bits", level.metadata_width_bits),
        ):  # fmt: skip
            lines.append(f"{field} = {_number(value)}")
        if level.metadata_capacity_bits is not None:
            lines.append(f"metadata_capacity_bits = {_number(level.metadata_capacity_bits)}")
        lines.append(f"energy_pj = {_energies(level.energies)}")
        lines += [f"area_um2 = {_number(level.area_um2)}"] if level.area_um2 else []
        lines += _features(level, tensors, roles)
        parts.append("\n".join(lines) + "\n")
        x, y = level.mesh_x, level.mesh_y
    return parts


def _features(level: Storage, tensors: Mapping[str, str], roles: Mapping[str, str]) -> list[str]:
    lines = []
    if level.formats:
        texts = (
            f"{tensors[tensor]} = {json.dumps(_in_roles(layout, roles))}" for tensor, layout in level.formats.items()
        )
        lines.append("formats = { " + ", ".join(texts) + " }")
    if level.actions:
        words = actions_text(level.actions).split(" ")
        stripped = [(word.rstrip(";"), ";" * word.endswith(";")) for word in words]
        lines.append(f"actions = {json.dumps(' '.join(tensors.get(word, word) + end for word, end in stripped))}")
    return lines


def _in_roles(layout: TensorFormat, roles: Mapping[str, str]) -> str:
    """The text of a format with roles in place of dimensions."""
    text = format_text(layout)
    for rank in layout.ranks:
        if rank.dims:
            named = ",".join(sorted({roles[dim] for dim in rank.dims}))
            text = text.replace(f"({','.join(sorted(rank.dims))})", f"({named})")
    return text


def _compute(compute: Compute, last: Storage, source: str) -> str:
    lines = [
        "[compute]", f"source = {json.dumps(source)}", f"name = {json.dumps(compute.name)}",
        f"fanout_x = {compute.mesh_x // last.mesh_x}", f"fanout_y = {compute.mesh_y // last.mesh_y}",
        f"gating = {json.dumps(compute.gating)}", f"skipping = {json.dumps(compute.skipping)}",
        f"energy_pj = {_energies(compute.energies)}",
    ]  # fmt: skip
    lines += [f"area_um2 = {_number(compute.area_um2)}"] if compute.area_um2 else []
    return "\n".join(lines) + "\n"


def _dataflow(
    imported: Imported, architecture: Architecture, problem: Problem, roles: Mapping[str, str], source: str
) -> str:
    """Loops of the mapping as roles; every order of roles at every level where there is no mapping."""
    lines = ["[dataflows.imported]", f"source = {json.dumps(source)}"]
    if imported.mapping is None:
        loops = dict.fromkeys(architecture.level_names, "M N K")
        lines.append(
            "loops = { " + ", ".join(f'{json.dumps(level)} = "{text}"' for level, text in loops.items()) + " }"
        )
        return "\n".join(lines) + "\n"
    parts = {part.level: part for part in imported.mapping.levels}
    loops = {level: " ".join(_roles(part.temporal, roles)) or "-" for level, part in parts.items()}
    spread = {
        level: " ".join(f"{role}/{axis}" for role, axis in _spread(part.spatial, roles))
        for level, part in parts.items()
        if part.spatial
    }
    for field, texts in (("loops", loops), ("spread", spread)):
        lines.append(f"{field} = {{ " + ", ".join(f'{json.dumps(at)} = "{text}"' for at, text in texts.items()) + " }")
    return "\n".join(lines) + "\n"


def _roles(loops: tuple[Loop, ...], roles: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(roles[loop.dim] for loop in loops if roles[loop.dim] != "batch"))


def _spread(loops: tuple[Loop, ...], roles: Mapping[str, str]) -> list[tuple[str, str]]:
    pairs = ((roles[loop.dim], loop.kind.name.lower()) for loop in loops)
    return list(dict.fromkeys(pair for pair in pairs if pair[0] != "batch"))
