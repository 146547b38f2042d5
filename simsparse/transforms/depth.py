"""Depth: which stacks of layers a workload has, and whole layers left out of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace

from simsparse.errors import InputError, UnknownNameError
from simsparse.ops import Op
from simsparse.transforms.resize import check_unstaged, memory_of
from simsparse.workload import Weight, Workload


def stack_of(name: str) -> str:
    """The stack an op or weight of several layers belongs to: `encoder.layers` of `encoder.layers.*.mlp.fc1`."""
    return name.partition(".*")[0]


def stacks(workload: Workload) -> dict[str, tuple[int, ...]]:
    """Layers of each stack, in order; stacks that run first come first, those that only have weights last."""
    found: dict[str, set[int]] = {}
    for op in workload.ops:
        if op.layers:
            found.setdefault(stack_of(op.name), set()).update(op.layers)
    for weight in workload.weights:
        if weight.layers:
            found.setdefault(stack_of(weight.tensor.name), set()).update(weight.layers)
    return {stack: tuple(sorted(layers)) for stack, layers in found.items()}


def drop_layers(workload: Workload, layers: int | float | Sequence[int], *, stack: str | None = None) -> Workload:
    """Leave out whole layers. Their ops, weights and KV cache go; speedup is over the whole model.

    Parameters
    ----------
    layers : int, float or sequence of int
        How many, which fraction (a float below 1, rounded to whole layers), or which. Where only the number is given,
        the deepest go, except for the very last: the block that costs the least accuracy [1]_.
    stack : str, optional
        `encoder.layers`, in a model of several stacks. By default each stack loses that many.

    Raises
    ------
    InputError
        If there are no such layers, or none would be left.
    UnknownNameError
        For a stack that the workload has not.

    References
    ----------
    .. [1] Gromov et al., The Unreasonable Ineffectiveness of the Deeper Layers, ICLR 2025, arXiv:2403.17887, section 3.
    """
    check_unstaged(workload, "dropping layers")
    have = stacks(workload)
    if not have:
        raise InputError(f"{workload.name} has no layers to drop, expected ops that stand for several layers")
    if stack is not None and stack not in have:
        raise UnknownNameError.near(f"stack of {workload.name}", stack, have)
    chosen = {name: have[name] for name in ([stack] if stack is not None else have)}
    dropped = {name: frozenset(_chosen(name, depth, layers)) for name, depth in chosen.items()}
    ops = tuple(part for op in workload.ops for part in _kept(op, dropped))
    weights = tuple(part for weight in workload.weights for part in _kept_weight(weight, dropped))
    how = ", ".join(f"{name} {_ranges(sorted(gone))}" for name, gone in dropped.items())
    return workload.transformed(
        f"drop {how}", ops=ops, weights=weights, origin=workload.origin or workload, **memory_of(workload, ops)
    )


def _chosen(stack: str, have: tuple[int, ...], layers: int | float | Sequence[int]) -> Sequence[int]:
    """Indices of the layers that go."""
    if isinstance(layers, Sequence):
        missing = next((layer for layer in layers if layer not in have), None)
        if missing is not None:
            raise InputError.expected(f"layer to drop of {stack}", missing, f"one of {_ranges(have)}")
        if not 1 <= len(set(layers)) < len(have):
            raise InputError.expected(f"number of layers to drop of {stack}", len(layers), f"from 1 to {len(have) - 1}")
        return layers
    if isinstance(layers, float):
        if not 0.0 < layers < 1.0:
            raise InputError.expected("fraction of layers to drop", layers, "above 0 and below 1")
        layers = round(layers * len(have))
    if not 1 <= layers < len(have):
        raise InputError.expected(f"number of layers to drop of {stack}", layers, f"from 1 to {len(have) - 1}")
    return have[-1 - layers : -1]


def only(op: Op, layers: Set[int]) -> Iterator[Op]:
    """The op in those of its layers that are among `layers`; nothing if there are none."""
    if kept := tuple(layer for layer in op.layers if layer in layers):
        yield op if len(kept) == len(op.layers) else replace(op, layers=kept)


def _kept(op: Op, dropped: Mapping[str, Set[int]]) -> Iterator[Op]:
    gone = dropped.get(stack_of(op.name)) if op.layers else None
    if gone is None:
        yield op
    else:
        yield from only(op, set(op.layers) - gone)


def _kept_weight(weight: Weight, dropped: Mapping[str, Set[int]]) -> Iterator[Weight]:
    gone = dropped.get(stack_of(weight.tensor.name), frozenset()) if weight.layers else frozenset()
    kept = tuple(layer for layer in weight.layers if layer not in gone)
    if kept or not weight.layers:
        yield replace(weight, layers=kept)


def _ranges(numbers: Sequence[int]) -> str:
    """`0-3, 7` for 0, 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
