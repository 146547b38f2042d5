"""Weights that stay with the host and are copied over for every step."""

from __future__ import annotations

from collections.abc import Iterator

from simsparse.ops import Contraction, Op, Transfer, TransferKind
from simsparse.transforms.resize import check_inference
from simsparse.workload import Workload


def offload(workload: Workload) -> Workload:
    """Copy every matrix from the host right before the product that reads it.

    Copies and products take turns: nothing is fetched ahead. Matrices are copied as they are stored dense, whatever
    their pattern. Embedding tables, norms and biases stay on the device; room for the largest matrix is not counted.
    Speedup is over the same offload.

    Raises
    ------
    InputError
        For a training step.
    """
    check_inference(workload, "offloading weights")
    moved = {op.weight.name for op in workload.contractions() if op.weight is not None}
    return workload.transformed(
        "offload",
        ops=tuple(each for op in workload.ops for each in _fetched(op)),
        weights=tuple(weight for weight in workload.weights if weight.tensor.name not in moved),
        origin=offload(workload.origin) if workload.origin is not None else None,
    )


def _fetched(op: Op) -> Iterator[Op]:
    if isinstance(op, Contraction) and op.weight is not None:
        yield Transfer(f"{op.name}.fetch", TransferKind.HOST_DEVICE, op.weight, layers=op.layers)
    yield op
