"""What a workload is made of, as plain columns: a row an op."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from simsparse.machine import pattern_text
from simsparse.ops import Contraction, Op, Stream
from simsparse.plan import Call
from simsparse.workload import Phase, Workload


def op_columns(workload: Workload) -> dict[str, list[object]]:
    """Name, kind, count, shape of one, pattern of each op; FLOPs, bytes in and out of all its instances together."""
    ops = workload.ops
    return {
        "op": [op.name for op in ops],
        "kind": [_kind(op) for op in ops],
        "count": [op.count for op in ops],
        "shape": [_shape(op) for op in ops],
        "flops": [op.flops * op.count if isinstance(op, Contraction) else 0 for op in ops],
        "read_bytes": [op.count * sum(t.dense_bytes for t in op.inputs) for op in ops],
        "write_bytes": [op.count * sum(t.dense_bytes for t in op.outputs) for op in ops],
        "pattern": [pattern_text(op) for op in ops],
    }


def job(workload: Workload) -> str:
    """What is run, in words: `decode, batch 1, context 2048 (assumed), fp16`."""
    parts = [str(workload.phase), f"batch {workload.batch}"]
    decodes = workload.phase is Phase.DECODE
    for label, value, told in (
        ("seq", workload.seq, not (decodes and workload.seq == 1)),
        ("context", workload.context, decodes or workload.context),
    ):
        if value is not None and told:
            parts.append(f"{label} {value}" + (" (assumed)" if label in workload.assumed else ""))
    return ", ".join([*parts, str(workload.dtype)])


def methods_of(workload: Workload) -> list[str]:
    """What was done to a model besides putting patterns on it."""
    return [text for text in workload.transforms if not text.startswith(("sparsity ", "measured "))]


def totals(workload: Workload) -> dict[str, object]:
    """What the whole has: parameters, FLOPs, memory beside the weights."""
    return {
        "workload": workload.name,
        "phase": str(workload.phase),
        "batch": workload.batch,
        "seq": workload.seq,
        "context": workload.context,
        "tokens": workload.tokens,
        "dtype": str(workload.dtype),
        "parameters": workload.parameters,
        "flops": workload.flops,
        "kv_cache_bytes": workload.kv_cache_bytes,
        "activation_bytes": workload.activation_bytes,
        "optimizer_bytes": workload.optimizer_bytes,
        "transforms": list(workload.transforms),
    }


def _kind(op: Op) -> str:
    return str(op.kind) if isinstance(op, (Contraction, Stream)) else "transfer"


def _shape(op: Op) -> str:
    if not isinstance(op, Contraction):
        return ""
    view = op.gemm
    product = f"{view.m}×{view.n}×{view.k}"
    return product if view.batch == 1 else f"{view.batch}·{product}"


def short(op: str) -> str:
    """The name of an op without the layers of a transformer: `encoder.mlp.fc1` of `encoder.layers.*.mlp.fc1`."""
    return re.sub(r"\blayers\.\*\.", "", op)


def layer_ranges(layers: Sequence[int]) -> str:
    """Layers in few words: `0-2,5`; empty for none."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def placed(op: str, layers: Sequence[int]) -> str:
    """The name of an op with its layers: `layers.0-2.mlp.fc1` of `layers.*.mlp.fc1`."""
    return op.replace("*", layer_ranges(layers), 1) if layers else op


def call_names(calls: Sequence[Call]) -> list[str]:
    """A short name of the first op of each call; with its layers, where calls of other layers have the same one."""
    heads = Counter(call.ops[0] for call in calls)
    return [placed(call.ops[0], call.layers) if heads[call.ops[0]] > 1 else short(call.ops[0]) for call in calls]


def op_group(op: str) -> str:
    """The part of a model an op belongs to: `mlp` of `layers.*.mlp.up_proj`, `layer3` of `layer3.0.conv1`."""
    parts = [part for part in short(op).split(".") if part != "*" and not part.isdigit()]
    # Two stacks of one model are two groups: `encoder.mlp`.
    return ".".join(parts[:2]) if len(parts) > 2 else parts[0]
