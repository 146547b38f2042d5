"""Ops of a feed-forward: dense, gated, or a mixture of experts."""

from __future__ import annotations

from simsparse.dtypes import dtype
from simsparse.ops import Role, StreamKind, Tensor, linear
from workloads._oplist import ACTIVATION_FLOPS, OpList
from workloads.architecture import Linear, Mlp, Moe


def feed_forward(ops: OpList, prefix: str, spec: Mlp | Moe, x: Tensor) -> Tensor:
    """The feed-forward `PREFIX.mlp` of each row of `x`; returns `[rows, hidden]`."""
    module = f"{prefix}.{spec.name}"
    return _experts(ops, module, spec, x) if isinstance(spec, Moe) else dense(ops, module, spec, x)


def dense(ops: OpList, module: str, spec: Mlp, x: Tensor) -> Tensor:
    """Two matrices with an activation between, or three with a gate. The activation makes `MODULE.act.out`."""
    rows, size = x.shape[0], spec.down.inputs
    gate = () if spec.gate is None else (ops.linear(f"{module}.{spec.gate.name}", spec.gate, x, rows),)
    up = ops.linear(f"{module}.{spec.up.name}", spec.up, x, rows)
    hidden = ops.tensor(f"{module}.act.out", (rows, size))
    flops = (ACTIVATION_FLOPS + bool(gate or spec.gated_up)) * hidden.elements
    ops.stream(StreamKind.ACTIVATION, f"{module}.act", (up, *gate), (hidden,), flops=flops, epilogue=True)
    return ops.linear(f"{module}.{spec.down.name}", spec.down, hidden, rows)


def experts_hit(experts: int, top_k: int, tokens: int) -> float:
    """How many distinct experts `tokens` tokens reach, expected under even routing.

    `E · (1 − (1 − k/E)^tokens)`: each token misses an expert with probability `1 − k/E`.
    """
    return experts * (1.0 - (1.0 - top_k / experts) ** tokens)


def _experts(ops: OpList, module: str, spec: Moe, x: Tensor) -> Tensor:
    """Route, gather each expert's tokens, run the experts that are hit, sum what comes back."""
    rows, hidden = x.shape
    visits = rows * spec.top_k
    logits = ops.linear(f"{module}.{spec.router.name}", spec.router, x, rows)
    choice = Tensor(f"{module}.topk.index", (rows, spec.top_k), dtype("int32"), Role.INDEX)
    share = ops.tensor(f"{module}.topk.weight", (rows, spec.top_k))
    ops.stream(StreamKind.TOPK, f"{module}.topk", (logits,), (choice, share), flops=5.0 * logits.elements)
    sent = ops.tensor(f"{module}.dispatch.out", (visits, hidden))
    ops.stream(StreamKind.GATHER, f"{module}.dispatch", (x, choice), (sent,))
    back = _grouped_mlp(ops, f"{module}.{spec.expert.name}", spec, sent, experts_hit(spec.experts, spec.top_k, rows))
    out = ops.tensor(f"{module}.combine.out", (rows, hidden))
    ops.stream(StreamKind.GATHER, f"{module}.combine", (back, choice, share), (out,), flops=2.0 * back.elements)
    if spec.shared is None:
        return out
    gates = [ops.linear(f"{module}.{g.name}", g, x, rows) for g in (spec.shared_gate,) if g is not None]
    shared = dense(ops, f"{module}.{spec.shared.name}", spec.shared, x)
    if gates:
        shared = ops.elementwise(StreamKind.ACTIVATION, f"{module}.shared_scale", (shared, *gates))
    return ops.elementwise(StreamKind.RESIDUAL, f"{module}.add_shared", (shared, out))


def _grouped_mlp(ops: OpList, module: str, spec: Moe, x: Tensor, hit: float) -> Tensor:
    """The experts' gated feed-forward over rows sorted by expert; weights are `[experts, outputs, inputs]`."""
    visits = x.shape[0]

    def product(layer: Linear, rows: Tensor) -> Tensor:
        name = f"{module}.{layer.name}"
        weight = ops.weight(f"{name}.weight", (spec.experts, layer.outputs, layer.inputs))
        out = ops.tensor(f"{name}.out", (visits, layer.outputs))
        groups = (hit, spec.experts)
        return ops.contraction(linear(name, weight, rows, out, tokens=visits, layers=ops.current_layers, groups=groups))

    gate = () if spec.expert.gate is None else (product(spec.expert.gate, x),)
    up = product(spec.expert.up, x)
    hidden = ops.tensor(f"{module}.act.out", up.shape)
    flops = (ACTIVATION_FLOPS + len(gate)) * hidden.elements
    ops.stream(StreamKind.ACTIVATION, f"{module}.act", (up, *gate), (hidden,), flops=flops, epilogue=True)
    return product(spec.expert.down, hidden)
