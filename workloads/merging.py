"""Identical layers become one entry with a count: `layers.0.…`, `layers.1.…` turn into `layers.*.…`.

A layer is a run of ops whose names share everything up to a number. Layers are identical if their ops are, one by one,
but for that number and for the names of what they read from elsewhere. Only whole layers are merged, and only where no
epilogue reaches across their border, so that what a kernel can fuse stays together. Where layers of one name come in
several kinds, the commonest kind is merged, so that names stay unique.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from simsparse.ops import Contraction, Op, Role, Stream, Tensor
from simsparse.workload import Weight


@dataclass(frozen=True)
class _Layer:
    """Ops `start` to `stop` (exclusive), named `prefix` + number + `.…`."""

    prefix: str
    number: int
    start: int
    stop: int

    @property
    def old(self) -> str:
        return f"{self.prefix}{self.number}."

    @property
    def new(self) -> str:
        return f"{self.prefix}*."


def merge_layers(ops: Sequence[Op], weights: Sequence[Weight]) -> tuple[tuple[Op, ...], tuple[Weight, ...]]:
    """The same ops and weights with identical layers as one entry each, at the place of the first."""
    groups = _identical_layers(ops)
    layers = {layer.old: layer for group in groups for layer in group}
    first = {group[0].start: group for group in groups}
    merged: list[Op] = []
    index = 0
    inside = {layer.start: layer.stop for group in groups for layer in group}
    while index < len(ops):
        stop = inside.get(index, index + 1)
        if index in first:
            numbers = tuple(layer.number for layer in first[index])
            merged.extend(replace(_starred(op, layers), layers=numbers) for op in ops[index:stop])
        elif index not in inside:
            merged.append(_starred(ops[index], layers))
        index = stop
    return tuple(merged), _merged_weights(weights, layers)


def _identical_layers(ops: Sequence[Op]) -> list[list[_Layer]]:
    """Groups of identical layers, the outermost number first."""
    groups: list[list[_Layer]] = []
    taken: set[int] = set()
    for depth in range(max((len(_numbers(op)) for op in ops), default=0)):
        alike: dict[Hashable, list[_Layer]] = defaultdict(list)
        for layer in _layers(ops, depth, taken):
            if not _cut(ops, layer):
                content = tuple(_anonymous(op, layer) for op in ops[layer.start : layer.stop])
                alike[layer.prefix, content].append(layer)
        owned: set[str] = set()
        for group in sorted(alike.values(), key=len, reverse=True):
            if len(group) > 1 and group[0].prefix not in owned:
                owned.add(group[0].prefix)
                groups.append(group)
                taken.update(index for layer in group for index in range(layer.start, layer.stop))
    return groups


def _layers(ops: Sequence[Op], depth: int, taken: set[int]) -> Iterator[_Layer]:
    """Runs of ops that share their name up to the number at `depth`; those that come in several runs are no layers."""
    runs: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    previous: tuple[str, int] | None = None
    for index, op in enumerate(ops):
        places = _numbers(op)
        key = None
        if depth < len(places) and index not in taken:
            parts = op.name.split(".")
            key = ("".join(f"{part}." for part in parts[: places[depth]]), int(parts[places[depth]]))
            if key == previous:
                runs[key][-1] = (runs[key][-1][0], index + 1)
            else:
                runs[key].append((index, index + 1))
        previous = key
    for (prefix, number), spans in runs.items():
        if len(spans) == 1:
            yield _Layer(prefix, number, *spans[0])


def _numbers(op: Op) -> list[int]:
    """Places of numbers within a name; the last part names the op itself."""
    return [] if op.layers else [i for i, part in enumerate(op.name.split(".")[:-1]) if part.isdecimal()]


def _cut(ops: Sequence[Op], layer: _Layer) -> bool:
    """Whether an epilogue reaches into the layer or out of it."""
    return any(isinstance(op, Stream) and op.epilogue for op in (ops[layer.start], *ops[layer.stop : layer.stop + 1]))


def _anonymous(op: Op, layer: _Layer) -> Op:
    """The op as it would be in a layer without number, reading from nowhere in particular."""

    def rename(tensor: Tensor) -> Tensor:
        # Vectors that streams read (biases, scales) may be shared by layers: exporters store equal ones once.
        shared = tensor.role is Role.WEIGHT and isinstance(op, Stream)
        own = tensor.name.startswith(layer.old) and not shared
        return replace(tensor, name=layer.new + tensor.name.removeprefix(layer.old) if own else "")

    return replace(_with_tensors(op, rename), name=op.name.removeprefix(layer.old))


def _starred(op: Op, layers: dict[str, _Layer]) -> Op:
    def rename(tensor: Tensor) -> Tensor:
        return replace(tensor, name=_renamed(tensor.name, layers)[0])

    return replace(_with_tensors(op, rename), name=_renamed(op.name, layers)[0])


def _renamed(name: str, layers: dict[str, _Layer]) -> tuple[str, int | None]:
    """A name with a star for the number, and that number, if it is of a merged layer."""
    for place, letter in enumerate(name):
        if letter == "." and (layer := layers.get(name[: place + 1])):
            return layer.new + name[place + 1 :], layer.number
    return name, None


def _with_tensors(op: Op, change: Callable[[Tensor], Tensor]) -> Op:
    if isinstance(op, Contraction):
        return replace(op, a=change(op.a), b=change(op.b), out=change(op.out))
    if isinstance(op, Stream):
        return replace(op, reads=tuple(map(change, op.reads)), writes=tuple(map(change, op.writes)))
    return op


def _merged_weights(weights: Sequence[Weight], layers: dict[str, _Layer]) -> tuple[Weight, ...]:
    merged: dict[tuple[str, Tensor], list[int]] = {}
    for weight in weights:
        name, number = _renamed(weight.tensor.name, layers)
        numbers = merged.setdefault((name, replace(weight.tensor, name=name)), [])
        numbers.extend(weight.layers if number is None else (number,))
    return tuple(Weight(tensor, tuple(numbers)) for (_, tensor), numbers in merged.items())
