"""Products to time: linear layers of two models at batches from one token to a prompt, and squares."""

from __future__ import annotations

from dataclasses import dataclass

TOKENS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096)
# Outputs and inputs of the linear layers of LLaMA: 7B, then 70B, whose key and value heads are shared.
LAYERS = (
    ("LLaMA-7B attention", 4096, 4096), ("LLaMA-7B gate and up", 11008, 4096), ("LLaMA-7B down", 4096, 11008),
    ("LLaMA-70B query and output", 8192, 8192), ("LLaMA-70B key and value", 1024, 8192),
    ("LLaMA-70B gate and up", 28672, 8192), ("LLaMA-70B down", 8192, 28672),
)  # fmt: skip
SQUARES = (1024, 2048, 4096, 8192)


@dataclass(frozen=True)
class Layer:
    """A weight of `outputs` x `inputs`, and how many tokens it meets."""

    name: str
    outputs: int
    inputs: int
    tokens: tuple[int, ...]


def layers() -> tuple[Layer, ...]:
    """All of them."""
    return (
        *(Layer(name, outputs, inputs, TOKENS) for name, outputs, inputs in LAYERS),
        *(Layer("square", size, size, (size,)) for size in SQUARES),
    )
