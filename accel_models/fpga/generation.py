"""N:M weights are made by the reduction engine: with the update of the step before, or when they are wanted.

A lane looks at the weights of a group one after the other and keeps the N largest (`reduction.py`); lanes take groups
in parallel. Groups lie along rows for the forward product, along columns for the input gradient.

With pre-generation weights pass from the update engine through the reduction engine, and N:M copies are written beside
the weights, or in their place if nothing reads those. Without it, and for what is no weight, the dense operand is read,
reduced and its N:M copy written, before the product starts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from accel_models.fpga._tiling import staying
from accel_models.fpga.columns import Mapping
from accel_models.fpga.spec import Hardware as H
from simsparse.ops import Contraction, Op, Role, Stream, Tensor
from simsparse.plan import Floats, Plan, ProblemColumn, TrainStage
from simsparse.sparsity import NM

C = ProblemColumn


def engine_cycles(hw: Floats, mapping: Floats) -> Floats:
    """Cycles in which the lanes look at the groups of each call, (n,); `hw` has columns of `Hardware` first."""
    groups, m = mapping[:, Mapping.REDUCTION_GROUPS], mapping[:, Mapping.REDUCTION_M]
    cycles: Floats = np.ceil(groups / hw[H.REDUCTION_LANES]) * m * hw[H.REDUCTION_CYCLES]
    return cycles


def index_bits(n: Floats, m: Floats) -> Floats:
    """Bits that say which N of M are kept: an index each, or a bitmap where that is smaller; none where all are."""
    return np.where(n < m, np.minimum(n * np.ceil(np.log2(np.maximum(m, 2.0))), m), 0.0)


def group_bytes(problem: Floats, n: Floats, m: Floats) -> Floats:
    """Bytes of the kept values of a group of A and of their indices."""
    size: Floats = (n * problem[:, C.A_BITS] + index_bits(n, m)) / 8
    return size


def made_before(hardware: Floats, problem: Floats, mapping: Floats) -> Floats:
    """Mappings of products with what the reduction engine makes before they start, where it does."""
    n, m = mapping[:, Mapping.KEPT], mapping[:, Mapping.GROUP]
    is_weight, trains = problem[:, C.A_IS_WEIGHT] == 1, problem[:, C.TRAIN_STAGE] != TrainStage.NONE
    # At inference weights do not change: they are packed before anything runs.
    ahead = is_weight & ((hardware[:, H.PREGENERATION] == 1) | ~trains)
    made = ((n < m) & ~ahead).astype(np.float64)
    outputs = problem[:, C.BATCH] * mapping[:, Mapping.M]
    groups = outputs * np.ceil(mapping[:, Mapping.K] / np.maximum(m, 1.0)) / expanded(problem)
    out = mapping.copy()
    out[:, Mapping.REDUCTION_GROUPS], out[:, Mapping.REDUCTION_M] = made * groups, made * m
    dense = outputs * mapping[:, Mapping.K] * problem[:, C.A_BITS] / 8
    out[:, Mapping.REDUCTION_READ_BYTES] = made * dense / expanded(problem)
    out[:, Mapping.REDUCTION_WRITE_BYTES] = made * mapping[:, Mapping.A_BYTES] / _reads(mapping)
    return out


def expanded(problem: Floats) -> Floats:
    """Elements that im2col makes of each value of A: of a gradient that stands in for the weight of a convolution."""
    stands_in = (problem[:, C.TRAIN_STAGE] == TrainStage.INPUT_GRADIENT) & (problem[:, C.A_IS_WEIGHT] == 0)
    times: Floats = np.where(stands_in, np.maximum(problem[:, C.CONV_REUSE], 1.0), 1.0)
    return times


def _reads(mapping: Floats) -> Floats:
    """How often A is read."""
    stays, _ = staying(*(mapping[:, x] for x in (Mapping.TILES_M, Mapping.TILES_N, Mapping.TILES_K, Mapping.OUTER)))
    times: Floats = np.where(stays, 1.0, np.maximum(mapping[:, Mapping.TILES_N], 1.0))
    return times


def with_updates(hardware: Floats, plan: Plan) -> Plan:
    """A plan of a training step in which updates make the N:M weights that its products read."""
    if hardware[0, H.PREGENERATION] == 0 or plan.workload is None:
        return plan
    ops = {op.name: op for op in plan.workload.ops}
    readers: dict[str, list[int]] = {}
    renewed = plan.problem[:, C.TRAIN_STAGE] == TrainStage.UPDATE
    updates: list[tuple[int, Tensor]] = []
    for row, call in enumerate(plan.calls):
        op = ops[call.ops[0]]
        if isinstance(op, Contraction) and op.a.role is Role.WEIGHT:
            readers.setdefault(op.a.name, []).append(row)
        elif renewed[row]:
            updates += [(row, weight) for weight in _weights(op)]
    mapping = plan.mapping.copy()
    counts = np.array([call.count for call in plan.calls], dtype=np.float64)
    for row, weight in updates:
        rows = np.array(readers.get(weight.name, []), dtype=np.int64)
        if rows.size:
            _make(plan, mapping, row, weight, rows, counts[rows] / counts[row])
    return replace(plan, mapping=mapping)


def _weights(op: Op) -> list[Tensor]:
    return [t for t in op.outputs if t.role is Role.WEIGHT] if isinstance(op, Stream) else []


def _make(plan: Plan, mapping: Floats, row: int, weight: Tensor, readers: np.ndarray, share: Floats) -> None:
    """Write what an update makes for the products that read the weight; `share` is how often for each update."""
    problem, x = plan.problem[readers], plan.mapping[readers]
    n, m = x[:, Mapping.KEPT], x[:, Mapping.GROUP]
    sparse = n < m
    if not sparse.any():
        return
    groups = problem[:, C.BATCH] * problem[:, C.M] * np.ceil(problem[:, C.K] / m)
    made = share
    if isinstance(weight.pattern, NM):
        # One mask serves both directions: it is made and stored once.
        made = share * sparse * (np.cumsum(sparse) == 1)
    copies, largest = groups * group_bytes(problem, n, m), m[sparse].max()
    mapping[row, Mapping.REDUCTION_GROUPS] = float((groups * m * made)[sparse].sum() / largest)
    mapping[row, Mapping.REDUCTION_M] = largest
    dense = problem[:, C.BATCH] * problem[:, C.M] * problem[:, C.K] * problem[:, C.A_BITS] / 8
    replaced = float((dense * share).sum() / share.sum()) if sparse.all() else 0.0
    mapping[row, Mapping.REDUCTION_WRITE_BYTES] = float((copies * made)[sparse].sum()) - replaced
