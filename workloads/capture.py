"""What a traced graph (ONNX, torch) is gathered in: ops with unique names, products of any shape, attention found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from simsparse.dtypes import DType
from simsparse.errors import InputError
from simsparse.ops import Contraction, ContractionKind, Op, Role, Stream, StreamKind, Tensor
from simsparse.workload import Phase, Weight, Workload
from workloads.merging import merge_layers
from workloads.network import live_bytes

# Streams that real attention kernels take in between score and value: scale, mask, dropout, cast.
_WITHIN_ATTENTION = (
    StreamKind.SOFTMAX, StreamKind.ACTIVATION, StreamKind.BIAS, StreamKind.RESIDUAL, StreamKind.COPY,
)  # fmt: skip

_LONGEST_WAY = 8


class Capture:
    """Ops and weights in order of execution."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.weights: list[Weight] = []
        self._names: set[str] = set()

    def unique(self, wanted: str) -> str:
        """The name, or with `@2`, `@3`, … if it is taken: a module that runs again."""
        name, number = wanted, 1
        while name in self._names:
            number += 1
            name = f"{wanted}@{number}"
        self._names.add(name)
        return name

    def add(self, op: Op) -> None:
        """Append an op."""
        self.ops.append(op)

    def product(self, name: str, x: Tensor, y: Tensor, out: Tensor, *, weight_rows_first: bool = False) -> None:
        """The product `out[…, n, m] = x[…, n, k] · y[…, k, m]`, leading axes broadcast as in numpy.

        A is `y`, so that a layer's weight is where it belongs and of two activations keys and values are A. With
        `weight_rows_first` `y` is `(…, m, k)`.
        """
        (*x_lead, n, k), (*y_lead, _, m) = x.shape, y.shape
        if weight_rows_first:
            m = y.shape[-2]
        if y.shape[-1 if weight_rows_first else -2] != k or out.shape[-2:] != (n, m):
            raise InputError.expected(f"shapes of {name}", (x.shape, y.shape, out.shape), "those of a product")
        lead = [(f"b{i}", extent) for i, extent in enumerate(out.shape[:-2])]
        axes = []
        for shape, last in ((y_lead, "mk" if weight_rows_first else "km"), (x_lead, "nk"), (out.shape[:-2], "nm")):
            # A leading axis of extent 1 that is broadcast is indexed by nothing.
            leading = lead[len(lead) - len(shape) :]
            batch = [
                ((label, 1),) if have == extent else () for (label, extent), have in zip(leading, shape, strict=True)
            ]
            axes.append((*batch, *(((label, 1),) for label in last)))
        dims = (*lead, ("m", m), ("n", n), ("k", k))
        self.add(Contraction(name, dims, y, x, out, axes[0], axes[1], axes[2]))

    def stream(
        self, name: str, kind: StreamKind, reads: Sequence[Tensor], writes: Sequence[Tensor], *,
        flops_each: float = 1.0, fusable: bool = False,
    ) -> None:  # fmt: skip
        """Append a stream; a `fusable` one is an epilogue if an op just before made what it reads."""
        made = {t.name for t in self.ops[-1].outputs} if self.ops else set()
        epilogue = fusable and any(t.name in made for t in reads)
        flops = flops_each * max((t.elements for t in (*reads, *writes)), default=0)
        first = sorted(reads, key=lambda t: t.name not in made) if epilogue else reads
        self.add(Stream(name, kind, tuple(first), tuple(writes), flops=flops, epilogue=epilogue))

    def join(self, first: int, name: str, kind: StreamKind) -> None:
        """Make one stream of all ops from `first` on, if these are several streams that end in one result."""
        parts = [op for op in self.ops[first:] if isinstance(op, Stream)]
        if len(parts) < 2 or len(parts) < len(self.ops) - first:
            return
        made = {t.name for op in parts for t in op.writes}
        reads = {t.name: t for op in parts for t in op.reads if t.name not in made}
        flops = sum(op.flops for op in parts)
        self.ops[first:] = [Stream(self.unique(name), kind, tuple(reads.values()), parts[-1].writes, flops=flops)]

    def workload(self, name: str, *, batch: int, tokens: int, dtype: DType, phase: Phase = Phase.ENCODE) -> Workload:
        """What was gathered, with attention marked and identical layers merged."""
        if not any(isinstance(op, Contraction) for op in self.ops):
            raise InputError(f"model {name!r} has no matmul, convolution or attention, expected at least one")
        ops = mark_attention(self.ops)
        live = live_bytes(ops)
        merged, weights = merge_layers(ops, self.weights)
        return Workload(name, phase, batch, tokens, dtype, merged, weights, activation_bytes=live, unit="run")


def mark_attention(ops: Sequence[Op]) -> list[Op]:
    """Products on both sides of a softmax become the score and value products of one attention.

    What lies on the way from one to the other (scale, mask, cast) goes into the softmax, as in the kernels that fuse
    all three; what only stands between them moves ahead.
    """
    result = list(ops)
    index = 0
    while index < len(result):
        op = result[index]
        chain = _attention_chain(result, index) if isinstance(op, Stream) and op.kind is StreamKind.SOFTMAX else None
        if chain is not None:
            first, last = chain[0], chain[-1]
            apart = [result[i] for i in range(first, last) if i not in chain]
            result[first : last + 1] = [*apart, *_attention([result[i] for i in chain])]
            index = last - len(chain) + 3
        index += 1
    return result


def _attention_chain(ops: Sequence[Op], softmax: int) -> list[int] | None:
    """Places of score product, streams and value product, in order, if what they make is read by nothing else."""
    # Only tensors of the size of the scores lead on: a mask is smaller.
    size = ops[softmax].outputs[0].elements
    full = [_Ends(_names(op.inputs, size), _names(op.outputs, size)) for op in ops]
    before = _walk(ops, softmax, range(softmax - 1, -1, -1), lambda a, b: bool(full[a].outputs & full[b].inputs))
    after = _walk(ops, softmax, range(softmax + 1, len(ops)), lambda a, b: bool(full[a].inputs & full[b].outputs))
    if before is None or after is None:
        return None
    chain = [*reversed(before), softmax, *after]
    value = ops[chain[-1]]
    assert isinstance(value, Contraction)
    if value.b.name not in full[chain[-2]].outputs:
        return None
    inner = {t.name for i in chain[:-1] for t in ops[i].outputs}
    outside = (op for i, op in enumerate(ops) if i not in chain)
    return None if any(t.name in inner for op in outside for t in op.inputs) else chain


def _walk(ops: Sequence[Op], start: int, places: range, linked: Callable[[int, int], bool]) -> list[int] | None:
    """Places from next to `start` to the first product of two activations, each linked to the one before."""
    path: list[int] = []
    current = start
    for place in places:
        if len(path) > _LONGEST_WAY or not linked(place, current):
            continue
        op = ops[place]
        path.append(place)
        if isinstance(op, Contraction):
            return path if op.kind is ContractionKind.MATMUL and op.weight is None else None
        if not isinstance(op, Stream) or op.kind not in _WITHIN_ATTENTION:
            return None
        current = place
    return None


def _attention(chain: Sequence[Op]) -> tuple[Op, Op, Op]:
    score, value = chain[0], chain[-1]
    streams = [op for op in chain if isinstance(op, Stream)]
    softmax = next(op for op in streams if op.kind is StreamKind.SOFTMAX)
    assert isinstance(score, Contraction)
    assert isinstance(value, Contraction)
    scores = replace(score.out, role=Role.SCORE)
    inner = {scores.name} | {t.name for op in streams for t in op.writes}
    extra = tuple(t for op in streams for t in op.reads if t.name not in inner)
    flops = sum(op.flops for op in streams)
    return (
        replace(score, kind=ContractionKind.SCORE, out=scores),
        replace(softmax, reads=(scores, *extra), writes=(scores,), flops=flops, epilogue=False),
        replace(value, kind=ContractionKind.VALUE, b=replace(scores, shape=value.b.shape)),
    )


@dataclass(frozen=True)
class _Ends:
    """Names of large tensors that an op reads and makes."""

    inputs: frozenset[str]
    outputs: frozenset[str]


def _names(tensors: Sequence[Tensor], elements: int) -> frozenset[str]:
    return frozenset(t.name for t in tensors if t.elements == elements)
