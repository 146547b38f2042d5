"""Naive pipeline parallelism: layers cut into stages that run one after the other, each on devices of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from simsparse.activations import is_activation
from simsparse.errors import InputError
from simsparse.ops import Op, Role, Tensor, Transfer, TransferKind
from simsparse.transforms.depth import only, stack_of, stacks
from simsparse.transforms.resize import check_inference, check_unstaged, memory_of
from simsparse.workload import Memory, Weight, Workload

# A layer: its stack and index.
_Layer = tuple[str, int]


def pipeline(workload: Workload, devices: int) -> Workload:
    """Cut the layers into stages of equal number, with one micro-batch in flight.

    A step takes the time of all stages and of the transfers between them; memory is that of the largest stage. What
    comes before the first layer belongs to the first stage, what comes after to the stage of the layer before; a tied
    table lies on both. While one stage works the others idle, so that the energy of all devices is the dynamic energy
    of one pass and `stages` times the idle energy (`Result.all_devices_energy_j`). In decoding the way of the new token
    back to the first stage (a few bytes) is left out. Speedup is over the same pipeline.

    Parameters
    ----------
    devices : int
        Stages; 1 changes nothing. After tensor parallelism each stage has that many devices.

    Raises
    ------
    InputError
        If there are fewer layers than stages, the workload has stages already, or it is a training step.
    """
    if devices < 1:
        raise InputError.expected("devices", devices, "at least 1")
    if devices == 1:
        return workload
    check_inference(workload, "a naive pipeline")
    check_unstaged(workload, "another pipeline")
    layers = [(stack, layer) for stack, members in stacks(workload).items() for layer in members]
    if devices > len(layers):
        raise InputError.expected("devices of the pipeline", devices, f"at most the {len(layers)} layers")
    stage_of = {layer: index * devices // len(layers) for index, layer in enumerate(layers)}
    largest = max((_stage(workload, stage_of, stage) for stage in range(devices)), key=lambda stage: stage.total_bytes)
    return workload.transformed(
        f"pipeline {devices}",
        ops=tuple(_with_transfers(workload.ops, layers, stage_of)),
        weights=largest.weights,
        devices=workload.devices * devices,
        stages=devices,
        origin=pipeline(workload.origin, devices) if workload.origin is not None else None,
        **largest.memory,
    )


def _stage(workload: Workload, stage_of: Mapping[_Layer, int], stage: int) -> _Stage:
    """Weights and memory of one stage."""
    ops: list[Op] = []
    current = 0
    for op in workload.ops:
        if op.layers:
            stack = stack_of(op.name)
            current = max(stage_of[stack, layer] for layer in op.layers)
            ops.extend(only(op, {layer for layer in op.layers if stage_of[stack, layer] == stage}))
        elif current == stage:
            ops.append(op)
    read = {tensor.name for op in ops for tensor in op.inputs}
    needed = {tensor.name for op in workload.ops for tensor in op.inputs}
    weights = []
    for weight in workload.weights:
        name = weight.tensor.name
        if weight.layers:
            kept = tuple(layer for layer in weight.layers if stage_of[stack_of(name), layer] == stage)
            weights.extend([Weight(weight.tensor, kept)] if kept else [])
        elif name in read or (stage == 0 and name not in needed):
            weights.append(weight)
    return _Stage(tuple(weights), memory_of(workload, ops))


@dataclass(frozen=True)
class _Stage:
    """What lies on the devices of one stage."""

    weights: tuple[Weight, ...]
    memory: Memory

    @property
    def total_bytes(self) -> float:
        held = self.memory["kv_cache_bytes"] + self.memory["activation_bytes"] + self.memory["optimizer_bytes"]
        return held + sum(w.tensor.dense_bytes * w.count for w in self.weights)


def _with_transfers(ops: Sequence[Op], layers: Sequence[_Layer], stage_of: Mapping[_Layer, int]) -> Iterator[Op]:
    """The ops, and after each stack what it sends where a stage ends and the next one has work."""
    running = {stack_of(op.name) for op in ops if op.layers}
    ends: dict[str, list[int]] = {}
    for here, following in pairwise(layers):
        if stage_of[here] != stage_of[following] and {here[0], following[0]} <= running:
            ends.setdefault(here[0], []).append(here[1])
    last = {stack_of(op.name): index for index, op in enumerate(ops) if op.layers}
    for index, op in enumerate(ops):
        yield op
        stack = stack_of(op.name)
        if op.layers and index == last[stack] and stack in ends:
            yield from _sent(ops, stack, ends[stack])


def _sent(ops: Sequence[Op], stack: str, ends: Sequence[int]) -> Iterator[Transfer]:
    """Transfers after the layers `ends`: what the last op of each makes, and what all layers of the stack share."""
    by_tensor: dict[Tensor, list[int]] = {}
    for layer in ends:
        final = [op for op in ops if layer in op.layers and stack_of(op.name) == stack][-1]
        by_tensor.setdefault(max(final.outputs, key=lambda t: t.elements), []).append(layer)
    for tensor, after in by_tensor.items():
        yield Transfer(f"{stack}.*.send", TransferKind.POINT_TO_POINT, tensor, layers=tuple(after))
    for number, tensor in enumerate(_shared(ops, stack)):
        yield Transfer(f"{stack}.*.send_shared_{number}", TransferKind.POINT_TO_POINT, tensor, layers=tuple(ends))


def _shared(ops: Sequence[Op], stack: str) -> list[Tensor]:
    """Activations made before a stack that all its layers read, such as an encoder's output; not its own input."""
    inside = [op for op in ops if op.layers and stack_of(op.name) == stack]
    made = {t.name: t for op in ops if op not in inside for t in op.outputs if is_activation(t)}
    own_input = {t.name for t in inside[0].inputs}
    read = {t.name for op in inside for t in op.inputs if t.role is not Role.INDEX}
    return [tensor for name, tensor in made.items() if name in read and name not in own_input]
