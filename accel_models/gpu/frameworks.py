"""How a framework issues a model's kernels: what it fuses, how long the host takes for an op, the gap between kernels.

*Eager* PyTorch issues an op at a time: elementwise ops are kernels of their own, attention is two products and a
softmax, the cache is concatenated anew in every step (`as_issued`; which ops: transformers' model code, recalled).
*Compiled* code has elementwise ops fused with each other, attention still as the model writes it with its operands
head after head, and takes host time for every kernel. Under *autocast* norms, residuals, the softmax and its mask are
fp32; a cast is a kernel of its own, unless compiled code fuses it. A CUDA *graph*, as serving engines and
`reduce-overhead` use it, has no host in the way; what runs in one has fused attention and epilogues.

The host runs ahead of the device, so that a step takes as long as the slower of the two:

    step = max(sum of the kernels' times, sum of the host's times)

What the device waits for is dealt out over the calls as their host time is, and stands in their launch term.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from simsparse.dtypes import dtype
from simsparse.ops import Contraction, ContractionKind, Op, Role, Stream, StreamKind, Tensor
from simsparse.plan import Floats
from simsparse.sites import Fusions
from simsparse.workload import Phase, Workload


class Framework(StrEnum):
    """Who issues the kernels of a model."""

    EAGER = "eager"
    COMPILED = "compiled"
    GRAPH = "graph"


# Libraries add a bias inside the product; a residual is part of the norm after it, which moves as many bytes.
FUSIONS = {
    Framework.EAGER: Fusions(epilogue=True, kinds=frozenset({StreamKind.BIAS})),
    Framework.COMPILED: Fusions(epilogue=True, kinds=frozenset({StreamKind.BIAS, StreamKind.RESIDUAL})),
    Framework.GRAPH: Fusions(epilogue=True, attention=True),
}


def waits(latency_s: Floats, counts: Floats, host_s: float) -> Floats:
    """How long the device waits for the host in each call, (n,): nothing where kernels take longer than the host.

    Parameters
    ----------
    latency_s, counts : (n,) ndarray
        Of the calls on the device, and how often each runs.
    host_s : float
        Host time of one call.
    """
    calls = float(counts.sum())
    behind_s = max(calls * host_s - float(latency_s @ counts), 0.0)
    return np.full(len(counts), behind_s / calls)


@dataclass(frozen=True)
class _Kernel:
    """An elementwise kernel: its name, and the bits a value that it reads and writes (0: next to nothing)."""

    name: str
    reads: int
    writes: int


# RMSNorm in fp32 and back, before the product with the weight.
_RMS_NORM = (
    _Kernel("to_float", 16, 32), _Kernel("square", 32, 32), _Kernel("mean", 32, 0), _Kernel("scale", 32, 32),
    _Kernel("to_half", 32, 16),
)  # fmt: skip
# Before the softmax itself; under autocast the mask is fp32.
_SOFTMAX = (_Kernel("scale", 16, 16), _Kernel("mask", 16, 16))
_SOFTMAX_CAST = (_Kernel("scale", 16, 16), _Kernel("mask", 16, 32))
# x·cos + rotate_half(x)·sin, for queries and keys; the sum stands for the op itself.
_ROTARY = (_Kernel("negate", 16, 16), _Kernel("join", 16, 16), _Kernel("cosine", 16, 16), _Kernel("sine", 16, 16))


def as_issued(workload: Workload, framework: Framework, *, autocast: bool = False) -> Workload:
    """The ops of a step as a framework issues them; training steps, and what runs in graphs, as they are."""
    if workload.phase is Phase.TRAIN or framework is Framework.GRAPH:
        return workload
    ops: Iterable[Op] = workload.ops
    if autocast:
        ops = _in_fp32(ops, eager=framework is Framework.EAGER)
    if framework is Framework.EAGER:
        caches = {t.name: t for op in workload.contractions() for t in (op.a,) if t.role is Role.KV_CACHE}
        issued = [each for op in ops for each in _issued(op, caches)]
    else:
        issued = [each for op in ops for each in _head_after_head(op)]
    return replace(workload, ops=tuple(issued))


def _in_fp32(ops: Iterable[Op], *, eager: bool) -> Iterator[Op]:
    """What autocast makes of half-precision ops: fp32 between norms and residuals, casts before products."""
    wide: set[str] = set()
    for op in ops:
        match op:
            case Stream(kind=StreamKind.NORM | StreamKind.RESIDUAL):
                wide |= {tensor.name for tensor in op.writes}
                issued = _widened(op, wide)
                if not eager and op.kind is StreamKind.NORM:
                    half = replace(op.writes[0], name=f"{op.writes[0].name}.half")
                    issued = replace(issued, writes=(*issued.writes, half))
                yield issued
            case Stream(kind=StreamKind.SOFTMAX) if eager:
                whole = {tensor.name for tensor in (*op.reads, *op.writes)}
                yield _widened(op, whole)
                yield _to_half(op, op.writes[0])
            case Contraction() if eager and op.weight is not None and op.b.name in wide:
                yield _to_half(op, op.b)
                yield op
            case _:
                yield op


def _to_half(op: Op, tensor: Tensor) -> Stream:
    wide = replace(tensor, dtype=dtype("fp32"))
    return Stream(f"{op.name}.to_half", StreamKind.COPY, (wide,), (tensor,), layers=op.layers)


def _widened(op: Stream, wide: Container[str]) -> Stream:
    def fp32(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(replace(t, dtype=dtype("fp32")) if t.name in wide else t for t in tensors)

    return replace(op, reads=fp32(op.reads), writes=fp32(op.writes))


def _head_after_head(op: Op) -> Iterator[Op]:
    """Operands and result of attention's products, copied so that every head is in order."""
    if not isinstance(op, Contraction) or op.kind not in (ContractionKind.SCORE, ContractionKind.VALUE):
        yield op
        return
    score = op.kind is ContractionKind.SCORE
    if score:
        yield _copy(op, "query", (op.b,), op.b)
    yield from _operand(op, "keys" if score else "values")
    yield _written_out(op)
    if not score:
        yield _copy(op, "heads", (op.out,), op.out)


def _issued(op: Op, caches: dict[str, Tensor]) -> Iterator[Op]:
    match op:
        case Stream(kind=StreamKind.NORM) if sum(t.role is Role.WEIGHT for t in op.reads) == 1:
            yield from _chain(op, op.writes[:1], _RMS_NORM)
            yield op
        case Stream(kind=StreamKind.SOFTMAX):
            cast = op.writes[0].dtype == dtype("fp32")
            yield from _chain(op, op.writes[:1], _SOFTMAX_CAST if cast else _SOFTMAX)
            yield op
        case Stream(kind=StreamKind.ROTARY):
            yield from _chain(op, op.writes, _ROTARY)
            yield op
        case Stream(kind=StreamKind.COPY) if any(t.name in caches for t in op.writes):
            for number, tensor in enumerate(caches[t.name] for t in op.writes if t.name in caches):
                yield _copy(op, f"concatenate_{number}", (tensor,), tensor)
        case Contraction():
            yield from _head_after_head(op)
        case _:
            yield op


def _chain(op: Stream, tensors: Iterable[Tensor], kernels: Iterable[_Kernel]) -> Iterator[Stream]:
    for number, tensor in enumerate(tensors):
        for kernel in kernels:
            read = replace(tensor, dtype=dtype(f"fp{kernel.reads}"))
            written = (replace(tensor, dtype=dtype(f"fp{kernel.writes}")),) if kernel.writes else ()
            yield Stream(f"{op.name}.{kernel.name}_{number}", op.kind, (read,), written, layers=op.layers)


def _copy(op: Op, name: str, reads: tuple[Tensor, ...], written: Tensor) -> Stream:
    return Stream(f"{op.name}.{name}", StreamKind.COPY, reads, (written,), layers=op.layers)


def _operand(op: Contraction, name: str) -> Iterator[Stream]:
    """Keys or values, head after head, once for each query head that shares them; a concatenated cache is in order."""
    repeated = _written_out(op).a
    if op.a.role is not Role.KV_CACHE or repeated is not op.a:
        yield _copy(op, name, (op.a,), repeated)


def _written_out(op: Contraction) -> Contraction:
    """The product over repeated heads, of all scores whether a mask leaves them or not."""
    sizes = dict(op.dims)
    shared = sizes.get("g", 1)
    if shared == 1:
        return replace(op, needed=1.0)
    dims = tuple((label, {"h": sizes["h"] * shared, "g": 1}.get(label, size)) for label, size in op.dims)
    batch, heads, *rest = op.a.shape
    return replace(op, dims=dims, a=replace(op.a, shape=(batch, heads * shared, *rest)), needed=1.0)
