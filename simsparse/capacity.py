"""What must fit in a machine's memory while a step runs, and the largest batch that does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simsparse.formats import stored_bits
from simsparse.plan import Plan
from simsparse.sparsity import Dense
from simsparse.workload import Weight, Workload


@dataclass(frozen=True)
class Footprint:
    """Bytes in memory during one step.

    Attributes
    ----------
    weights_bytes, metadata_bytes : float
        Values as the chosen kernels store them, and what says where they are.
    kv_cache_bytes, activation_bytes, optimizer_bytes : float
    memory_bytes : float
        What there is.
    largest_batch : int
        Most sequences that fit; 0 if the weights alone do not.
    """

    weights_bytes: float
    metadata_bytes: float
    kv_cache_bytes: float
    activation_bytes: float
    optimizer_bytes: float
    memory_bytes: float
    largest_batch: int

    @property
    def total_bytes(self) -> float:
        """All of it."""
        return self.fixed_bytes + self.kv_cache_bytes + self.activation_bytes

    @property
    def fixed_bytes(self) -> float:
        """What does not grow with the batch."""
        return self.weights_bytes + self.metadata_bytes + self.optimizer_bytes

    @property
    def fits(self) -> bool:
        """Whether it does."""
        return self.total_bytes <= self.memory_bytes


def footprint(workload: Workload, plan: Plan, memory_bytes: float) -> Footprint:
    """Add up a workload's memory under a plan: a weight is stored in the format of the kernel that reads it."""
    formats = {name: call.format for call in plan.calls for name in call.ops}
    values = metadata = 0.0
    for weight in workload.weights:
        stored, index = _weight_bytes(weight, formats.get(weight.tensor.name.removesuffix(".weight"), "dense"))
        values += stored * weight.count
        metadata += index * weight.count
    fixed = values + metadata + workload.optimizer_bytes
    each = (workload.kv_cache_bytes + workload.activation_bytes) / workload.batch
    room = memory_bytes - fixed
    if not math.isfinite(memory_bytes):
        largest = 2**31
    else:
        largest = 0 if room < 0 else int(min(room // each, 2**31)) if each else 2**31
    return Footprint(
        values,
        metadata,
        workload.kv_cache_bytes,
        workload.activation_bytes,
        workload.optimizer_bytes,
        memory_bytes,
        largest,
    )


def _weight_bytes(weight: Weight, stored_as: str) -> tuple[float, float]:
    """Bytes of values and of metadata of one copy."""
    tensor = weight.tensor
    if isinstance(tensor.pattern, Dense) or stored_as == "dense":
        return tensor.dense_bytes, 0.0
    columns = tensor.shape[-1]
    values, metadata = stored_bits(
        stored_as, tensor.elements // columns, columns, tensor.dtype.bits, np.array([tensor.pattern.columns()])
    )
    return float(values[0]) / 8, float(metadata[0]) / 8
