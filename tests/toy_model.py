"""A model of two layers, small enough to count by hand. Importing it registers `toy-model`."""

from __future__ import annotations

import simsparse
from simsparse.dtypes import dtype as read_dtype
from simsparse.ops import Role, Stream, StreamKind, Tensor, linear
from simsparse.workload import Phase, Weight, Workload

WIDTH, HIDDEN, LAYERS = 1024, 4096, (0, 1)


class ToyModels:
    def names(self) -> list[str]:
        return ["toy-model"]

    def accepts(self, spec: str) -> bool:
        return spec == "toy-model"

    def load(
        self, spec: str, *, phase: str | None, batch: int, seq: int | None, context: int | None, dtype: str
    ) -> Workload:
        kind = read_dtype(dtype)
        tokens = batch * (seq or 1)

        def tensor(name: str, *shape: int, role: Role = Role.ACTIVATION) -> Tensor:
            return Tensor(name, shape, kind, role)

        up, down = (
            tensor(f"layers.*.mlp.{name}.weight", *shape, role=Role.WEIGHT)
            for name, shape in (("up_proj", (HIDDEN, WIDTH)), ("down_proj", (WIDTH, HIDDEN)))
        )
        x, h, normed = tensor("x", tokens, WIDTH), tensor("h", tokens, HIDDEN), tensor("normed", tokens, WIDTH)
        ops = (
            Stream("layers.*.norm", StreamKind.NORM, (x,), (normed,), flops=4.0 * x.elements, layers=LAYERS),
            linear("layers.*.mlp.up_proj", up, normed, h, tokens=tokens, layers=LAYERS),
            linear("layers.*.mlp.down_proj", down, h, x, tokens=tokens, layers=LAYERS),
        )
        weights = (Weight(up, LAYERS), Weight(down, LAYERS))
        return Workload(
            spec, Phase(phase or "prefill"), batch, tokens, kind, ops, weights, activation_bytes=h.dense_bytes
        )


simsparse.register(ToyModels())
