"""Identical layers become one op with a count: `layers.0.fc`, `layers.1.fc`, … turn into `layers.*.fc`.

Two ops are the same layer at another place if their names differ in one number and nothing else does but the tensors'
names. Where layers of one name come in several kinds, the commonest kind is merged, so that names stay unique.
Tensors that belong to a merged op (`<op>.out`, `<op>.weight`) take its name, everywhere they are read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from simsparse.ops import Contraction, Op, Stream, Tensor
from simsparse.workload import Weight


def merge_layers(ops: Sequence[Op], weights: Sequence[Weight]) -> tuple[tuple[Op, ...], tuple[Weight, ...]]:
    """The same ops and weights with identical layers as one entry each, at the place of the first."""
    keys = _keys(ops)
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        members[key].append(index)
    renamed: dict[str, tuple[str, int]] = {}
    for key, indices in members.items():
        if isinstance(key, _Slot) and len(indices) > 1:
            for index in indices:
                renamed.update(_owned_names(ops[index], key))
    merged = []
    for index, (op, key) in enumerate(zip(ops, keys, strict=True)):
        if members[key][0] == index:
            merged.append(_merged(op, key, [ops[i] for i in members[key]], renamed))
    return tuple(merged), _merged_weights(weights, renamed)


class _Slot(tuple[int, str, Hashable]):
    """Place of the number within the name, the name with a star there, and what must be equal besides."""


def _keys(ops: Sequence[Op]) -> list[Hashable]:
    """For each op what those it is merged with share: of its slots that own their name, the one of most ops."""
    slots = []
    for op in ops:
        parts = op.name.split(".")
        places = [i for i, part in enumerate(parts) if part.isdecimal()] if not op.layers else []
        slots.append([_Slot((place, _starred(op.name, place), _fingerprint(op, place))) for place in places])
    sizes = Counter(slot for candidates in slots for slot in candidates)
    owner: dict[str, _Slot] = {}
    for slot, _ in sizes.most_common():
        owner.setdefault(slot[1], slot)
    keys: list[Hashable] = []
    for index, candidates in enumerate(slots):
        free = [slot for slot in candidates if sizes[slot] > 1 and owner[slot[1]] == slot]
        keys.append(max(free, key=lambda slot: sizes[slot]) if free else index)
    return keys


def _starred(name: str, place: int) -> str:
    parts = name.split(".")
    return ".".join((*parts[:place], "*", *parts[place + 1 :]))


def _fingerprint(op: Op, place: int) -> Op:
    """The op without its name and those of activations; what is its own keeps its name, less the number."""

    def anonymous(tensor: Tensor) -> Tensor:
        own = tensor.name.startswith(f"{op.name}.")
        return replace(tensor, name=_starred(tensor.name, place) if own else "")

    return _with_tensors(replace(op, name=""), anonymous)


def _with_tensors(op: Op, change: Callable[[Tensor], Tensor]) -> Op:
    if isinstance(op, Contraction):
        return replace(op, a=change(op.a), b=change(op.b), out=change(op.out))
    if isinstance(op, Stream):
        return replace(op, reads=tuple(map(change, op.reads)), writes=tuple(map(change, op.writes)))
    return op


def _owned_names(op: Op, slot: _Slot) -> dict[str, tuple[str, int]]:
    place = slot[0]
    layer = int(op.name.split(".")[place])
    own = (t.name for t in (*op.inputs, *op.outputs) if t.name.startswith(f"{op.name}."))
    return {name: (_starred(name, place), layer) for name in own}


def _merged(op: Op, key: Hashable, members: Sequence[Op], renamed: dict[str, tuple[str, int]]) -> Op:
    def rename(tensor: Tensor) -> Tensor:
        return replace(tensor, name=renamed[tensor.name][0]) if tensor.name in renamed else tensor

    if isinstance(key, _Slot) and len(members) > 1:
        layers = tuple(int(member.name.split(".")[key[0]]) for member in members)
        op = replace(op, name=_starred(op.name, key[0]), layers=layers)
    return _with_tensors(op, rename)


def _merged_weights(weights: Sequence[Weight], renamed: dict[str, tuple[str, int]]) -> tuple[Weight, ...]:
    layers: dict[str, list[int]] = defaultdict(list)
    for weight in weights:
        if weight.tensor.name in renamed:
            name, layer = renamed[weight.tensor.name]
            layers[name].append(layer)
    merged: dict[str, Weight] = {}
    for weight in weights:
        name = renamed.get(weight.tensor.name, (weight.tensor.name, 0))[0]
        if name not in merged:
            merged[name] = Weight(replace(weight.tensor, name=name), tuple(layers.get(name, weight.layers)))
    return tuple(merged.values())
