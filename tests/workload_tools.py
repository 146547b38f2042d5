"""Figures, ops and configs of transformers that tests ask for."""

from __future__ import annotations

from simsparse.ops import Contraction
from simsparse.workload import Workload
from workloads.huggingface import load_config

HIDDEN, HEADS, MLP, LAYERS, VOCABULARY = 4096, 32, 11008, 32, 32000  # llama-2-7b


def product(workload: Workload, name: str, layer: int = 0) -> Contraction:
    """The contraction of that name that stands for a layer."""
    return next(op for op in workload.contractions() if op.name == name and layer in (op.layers or (layer,)))


def weight_bytes(workload: Workload) -> float:
    return sum(weight.tensor.dense_bytes * weight.count for weight in workload.weights)


def changed(name: str, **changes: object) -> dict[str, object]:
    """A shipped config with other values; `...` takes a key away."""
    config = {**load_config(name), **changes}
    return {key: value for key, value in config.items() if value is not ...}
