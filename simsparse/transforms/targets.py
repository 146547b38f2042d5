"""What a transform may change in an op (its weight, or the scores of an attention); layers that differ are split."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fnmatch import translate
from itertools import takewhile

from simsparse.errors import UnknownNameError
from simsparse.ops import Contraction, ContractionKind, Op, Role, Stream, Tensor
from simsparse.workload import Weight, Workload

# From a tensor, its name and that of the op that reads it (layer index filled in) to what the tensor becomes.
Change = Callable[[Tensor, str, str], Tensor]


class Glob:
    """A shell pattern over names of ops and of their weights: `*.mlp.*`, `layers.0.*`, `lm_head`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._compiled = re.compile(translate(text))

    @property
    def tells_layers_apart(self) -> bool:
        """Whether it can match one layer of an op and not another: only what may stand for a single digit can."""
        return re.search(r"[0-9?\[]", self.text) is not None

    def matches(self, *names: str) -> bool:
        """Whether it matches one of them."""
        return any(self._compiled.match(name) for name in names)

    def check(self, workload: Workload, *, on_scores: bool, what: str) -> None:
        """Raise if no op that could take `what` is matched.

        Raises
        ------
        UnknownNameError
            With near names.
        """
        if not any(self.matches(*names) for names in _names(workload, on_scores)):
            known = {op for op, _ in _names(workload, on_scores)}
            raise UnknownNameError.near(f"op that takes {what}", self.text, known)


def changed(workload: Workload, change: Change, *, alike: bool = False) -> Workload:
    """Change the weight or scores of every contraction, and the stored weights, layer by layer.

    With `alike`, `change` is known to do the same to all layers of an op and is asked about one.

    Ops whose layers now differ are split, together with what a kernel may fuse to them. Tables that only streams read
    (embeddings) stay as they are.
    """
    ops: list[Op] = []
    index = 0
    while index < len(workload.ops):
        op = workload.ops[index]
        parts = list(_split(op, change, alike)) if isinstance(op, Contraction) else [op]
        followers = _followers(workload.ops, index) if len(parts) > 1 else ()
        for part in parts:
            ops.append(part)
            for follower in (replace(f, layers=part.layers) for f in followers):
                ops.extend(_split(follower, change, alike) if isinstance(follower, Contraction) else [follower])
        index += 1 + len(followers)
    tables = _read_by_streams_only(workload.ops)
    weights = [
        part
        for weight in workload.weights
        for part in ([weight] if weight.tensor.name in tables else _split_weight(weight, change, alike))
    ]
    return replace(workload, ops=tuple(ops), weights=tuple(weights))


def _followers(ops: Sequence[Op], index: int) -> Sequence[Op]:
    """What a kernel may fuse to the op at `index`, and so has to be split with it: its epilogue, or its attention."""
    head = ops[index]
    following = list(takewhile(lambda op: op.layers == head.layers, ops[index + 1 :]))
    if isinstance(head, Contraction) and head.kind is ContractionKind.SCORE:
        for end, op in enumerate(following):
            if isinstance(op, Contraction):
                return following[: end + 1] if op.kind is ContractionKind.VALUE else ()
        return ()
    return list(takewhile(lambda op: isinstance(op, Stream) and op.epilogue, following))


def _split(op: Contraction, change: Change, alike: bool) -> Iterator[Op]:
    """The op once for each tensor that its target becomes in its layers."""
    target = _target(op)
    if target is None:
        yield op
        return
    by_tensor: dict[Tensor, list[int]] = {}
    for layer, op_name in op.instances()[: 1 if alike else None]:
        tensor_name = _filled(target.name, layer) if op.layers else target.name
        by_tensor.setdefault(change(target, tensor_name, _forward_name(op_name)), []).append(layer)
    for tensor, layers in by_tensor.items():
        part = op if len(by_tensor) == 1 else replace(op, layers=tuple(layers))
        names = [label for label in ("a", "b", "out") if getattr(op, label) is target]
        yield part if tensor == target else part.with_tensors(**dict.fromkeys(names, tensor))


def _split_weight(weight: Weight, change: Change, alike: bool) -> Iterator[Weight]:
    """The stored tensor once for each tensor it becomes in its layers; vectors stay."""
    tensor, owner = weight.tensor, weight.tensor.name.rpartition(".")[0]
    if not tensor.name.endswith(".weight") or len(tensor.shape) < 2:
        yield weight
        return
    by_tensor: dict[Tensor, list[int]] = {}
    for layer in (weight.layers or (0,))[: 1 if alike else None]:
        name, op = (_filled(text, layer) if weight.layers else text for text in (tensor.name, owner))
        by_tensor.setdefault(change(tensor, name, op), []).append(layer)
    for tensor, layers in by_tensor.items():
        yield Weight(tensor, weight.layers if len(by_tensor) == 1 else tuple(layers))


def _read_by_streams_only(ops: Sequence[Op]) -> set[str]:
    by_streams = {t.name for op in ops if isinstance(op, Stream) for t in op.reads}
    return by_streams - {t.name for op in ops if isinstance(op, Contraction) for t in op.inputs}


def _target(op: Contraction) -> Tensor | None:
    """The tensor of an op that can be changed: its weight, or the scores of an attention product."""
    if op.kind is ContractionKind.SCORE:
        return op.out
    if op.kind is ContractionKind.VALUE:
        return op.b
    return op.weight


def _names(workload: Workload, on_scores: bool) -> Iterable[tuple[str, str]]:
    """Op and tensor names, with and without layer index, of every target that is (not) scores."""
    for op in workload.contractions():
        target = _target(op)
        if target is None or (target.role is Role.SCORE) != on_scores:
            continue
        yield op.name, target.name
        if op.layers:
            yield from ((_forward_name(name), _filled(target.name, layer)) for layer, name in op.instances())


def _filled(name: str, layer: int) -> str:
    return name.replace("*", str(layer), 1)


def _forward_name(op_name: str) -> str:
    """A training product answers to the name of its forward op."""
    return op_name.removesuffix(".grad_input").removesuffix(".grad_weight")
