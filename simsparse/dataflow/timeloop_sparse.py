"""Sparse optimisations of a Timeloop specification: formats and actions by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simsparse.dataflow.architecture import Action, ActionKind, Option, Rank, RankFormat, TensorFormat
from simsparse.dataflow.timeloop_files import Node, number
from simsparse.errors import InputError, UnknownNameError

_ORDERS = ("inner-to-outer", "outer-to-inner")


@dataclass(frozen=True)
class SparseLevel:
    """What a level stores compressed, gates and skips; `compute` says whether the compute gates, and skips."""

    formats: Mapping[str, TensorFormat] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    compute: tuple[bool, bool] = (False, False)


def sparse_levels(components: Sequence[Node], apart: Any) -> dict[str, SparseLevel]:
    """By component; from the nodes, and from a list of targets that stands apart.

    Raises
    ------
    InputError, UnknownNameError
        For a target that is no component, and what the engine does not cover.
    """
    found = {node["name"]: node.get("sparse_optimizations") or {} for node in components}
    targets = apart.get("targets", ()) if isinstance(apart, Mapping) else apart or ()
    for target in targets:
        name = target.get("target", target.get("name", ""))
        if name not in found:
            raise UnknownNameError.near("target of sparse optimisations", name, found)
        found[name] = {key: value for key, value in target.items() if key not in ("target", "name")}
    attributes = {node["name"]: node.get("attributes") or {} for node in components}
    return {name: _level(name, _underscored(part), attributes[name]) for name, part in found.items()}


def _underscored(part: Node) -> Node:
    """Keys as version 0.4 spells them; those of Sparseloop's artifact have hyphens."""
    return {key.replace("-", "_"): value for key, value in part.items()}


def _level(name: str, part: Node, attributes: Node) -> SparseLevel:
    known = ("representation_format", "action_optimization", "compute_optimization")
    for key in part:
        if key not in known:
            raise InputError.expected(f"sparse optimisation of {name}", key, f"one of {', '.join(known)}")
    spaces = _underscored(part.get("representation_format") or {}).get("data_spaces", ())
    does = [item["type"] for item in part.get("compute_optimization") or ()]
    for kind in does:
        if kind not in ("gating", "skipping"):
            raise InputError.expected(f"compute optimisation of {name}", kind, "gating or skipping")
    return SparseLevel(
        {space["name"]: _format(name, _underscored(space), attributes) for space in spaces},
        tuple(_action(name, action) for action in part.get("action_optimization") or ()),
        ("gating" in does, "skipping" in does),
    )


def _format(level: str, space: Node, attributes: Node) -> TensorFormat:
    where = f"{space['name']} at level {level}"
    order = space.get("rank_application_order", _ORDERS[0])
    if order not in _ORDERS:
        raise InputError.expected(f"rank order of {where}", order, " or ".join(_ORDERS))
    ranks = tuple(_rank(where, _underscored(rank), attributes) for rank in space.get("ranks", ()))
    if not ranks:
        raise InputError(f"format of {where} has no ranks, expected at least one")
    return TensorFormat(ranks, order == _ORDERS[0])


def _rank(where: str, rank: Node, attributes: Node) -> Rank:
    name = str(rank.get("format", "")).upper()
    if name not in (item.value for item in RankFormat):
        raise InputError.expected(f"format of a rank of {where}", rank.get("format"), "UOP, B, CP or RLE")
    kind = RankFormat(name)
    default = attributes.get("metadata_datawidth", 1 if kind is RankFormat.BITMASK else None)
    metadata = rank.get("metadata_word_bits", default)
    if kind.compresses and metadata is None:
        raise InputError(f"rank {name} of {where} has no metadata width, expected metadata_word_bits")
    width = number(f"metadata_storage_width of {where}", attributes.get("metadata_storage_width", 0))
    groups = rank.get("flattened_rank_ids", rank.get("flattened_rankIDs", ()))
    return Rank(
        kind,
        _raised(number(f"metadata_word_bits of {where}", metadata or 0) if kind.compresses else 0.0, width),
        _raised(number(f"payload_word_bits of {where}", rank.get("payload_word_bits") or 0), width),
        frozenset(dim for group in groups for dim in group),
    )


def _raised(bits: float, width: float) -> float:
    """The next number of bits that divides the width of the storage, as Sparseloop takes it."""
    if bits <= 0 or width <= 0 or bits > width:
        return bits
    while width % bits:
        bits += 1
    return bits


def _action(level: str, action: Node) -> Action:
    kind = str(action.get("type"))
    if kind not in (item.value for item in ActionKind):
        raise InputError.expected(f"action at level {level}", kind, ", ".join(ActionKind))
    options = []
    for raw in action.get("options", ()):
        option = _underscored(raw)
        options.append(Option(option["target"], tuple(option.get("condition_on", ()))))
    if not options:
        raise InputError(f"action {kind} at level {level} has no options, expected a target and its conditions")
    return Action(ActionKind(kind), tuple(options))
