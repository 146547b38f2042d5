"""Training whose N:M masks are chosen anew in every step: a pass that prunes and packs before each sparse product."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from simsparse.dtypes import dtype
from simsparse.errors import InputError
from simsparse.formats import bits_to_tell
from simsparse.ops import Contraction, Op, Role, Stream, StreamKind, Tensor
from simsparse.sparsity import NM, Pattern, parse
from simsparse.transforms.patterns import with_sparsity
from simsparse.workload import Phase, Workload

_BYTES = dtype("int8")


def dynamic_masks(workload: Workload, pattern: str | Pattern = "2:4", match: str = "*") -> Workload:
    """Put N:M on weights of a training step, and what choosing and packing them costs in each step.

    Weights stay dense in memory. Before its forward product each goes through `WEIGHT.compress`, which reads the dense
    values and writes those that are kept, with metadata, along rows and along columns, so that the product for the
    input's gradient is sparse as well; gradients of weights are dense (PyTorch's semi-structured training [1]_).
    Packed copies do not count in memory. Speedup is over the dense step.

    Parameters
    ----------
    pattern : str or Pattern
        N:M.
    match : str
        Glob of ops or of their weights, as in `with_sparsity`.

    Raises
    ------
    InputError
        For another pattern, or a workload that is no training step.
    UnknownNameError
        If the glob matches no op with a weight.

    References
    ----------
    .. [1] PyTorch blog, "Accelerating Neural Network Training with Semi-Structured (2:4) Sparsity", 2024.
    """
    chosen = parse(pattern)
    if not isinstance(chosen, NM):
        raise InputError.expected("pattern of dynamic masks", chosen.text, "N:M, such as 2:4")
    if workload.phase is not Phase.TRAIN:
        raise InputError.expected("phase of a workload with dynamic masks", str(workload.phase), "train")
    sparse = with_sparsity(workload, {match: chosen})
    how = f"dynamic {chosen.text}" + ("" if match == "*" else f" {match}")
    return workload.transformed(
        how, ops=tuple(_with_passes(sparse.ops, chosen)), weights=sparse.weights, origin=workload.origin or workload
    )


def _with_passes(ops: Sequence[Op], pattern: NM) -> Iterator[Op]:
    """Each weight is packed once, before the first product that reads it with the pattern."""
    packed: set[tuple[str, tuple[int, ...]]] = set()
    for op in ops:
        weight = op.weight if isinstance(op, Contraction) else None
        if weight is not None and weight.pattern == pattern and (weight.name, op.layers) not in packed:
            packed.add((weight.name, op.layers))
            yield compress(weight, pattern, op.layers)
        yield op


def compress(weight: Tensor, pattern: NM, layers: tuple[int, ...] = ()) -> Stream:
    """The pass that prunes a matrix (…, M, K) and packs it both ways; metadata says where in its group a value is."""
    kept = weight.elements * pattern.n // pattern.m
    told = math.ceil(kept * float(bits_to_tell(pattern.m)) / 8)
    written = tuple(
        tensor
        for way in ("rows", "columns")
        for tensor in (
            Tensor(f"{weight.name}.{way}.values", (kept,), weight.dtype, Role.WEIGHT),
            Tensor(f"{weight.name}.{way}.metadata", (told,), _BYTES, Role.INDEX),
        )
    )
    return Stream(
        f"{weight.name}.compress", StreamKind.COMPRESS, (weight,), written, float(weight.elements), layers=layers
    )
