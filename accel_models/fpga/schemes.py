"""What of a training step is N:M: schemes as transforms of a workload, first layer and classifier dense."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from simsparse.errors import InputError
from simsparse.ops import Contraction, ContractionKind, Op, Role, Stream, Tensor
from simsparse.sparsity import DENSE, NM, Pattern, parse
from simsparse.transforms import with_sparsity
from simsparse.workload import Phase, Workload


class Scheme(Enum):
    """Which products of a training step run N:M, by the name in papers where there is one."""

    BDWP = "weights along rows forward, along columns for the input gradient"
    SR_STE = "weights forward only"
    TRANSPOSABLE = "weights in both directions by one mask, made and stored once"
    SDGP = "gradients of outputs, for the input and the weight gradient"
    BDWP_ACTIVATIONS = "weights as in BDWP, and activations in the weight gradient"

    def __call__(self, workload: Workload, pattern: str | Pattern) -> Workload:
        """Put `pattern` on a training step.

        Raises
        ------
        InputError
            For a workload that is no training step, has fewer than three layers, or a pattern that is not N:M.
        """
        if workload.phase is not Phase.TRAIN:
            raise InputError.expected("phase of the workload", str(workload.phase), "train")
        nm = parse(pattern)
        if not isinstance(nm, NM):
            raise InputError.expected("pattern", nm.text, "N:M, such as 2:8")
        return _TRANSFORMS[self](workload, nm)


def dense_ends(workload: Workload) -> tuple[str, str]:
    """Names of the first layer and of the classifier.

    Raises
    ------
    InputError
        If nothing is between them.
    """
    layers = [op.name for op in workload.contractions() if op.a.role is Role.WEIGHT and not op.a.transposed]
    if len(layers) < 3:
        raise InputError.expected(
            "layers of the workload", len(layers), "at least 3: the first and the last stay dense"
        )
    return layers[0], layers[-1]


def _bidirectional(workload: Workload, nm: NM) -> Workload:
    return _weights(workload, nm, backward=True)


def _forward_only(workload: Workload, nm: NM) -> Workload:
    return _weights(workload, nm, backward=False)


def _weights(workload: Workload, nm: NM, *, backward: bool) -> Workload:
    first, last = dense_ends(workload)
    return with_sparsity(workload, {"*": nm, first: DENSE, last: DENSE}, backward=backward)


def _transposable(workload: Workload, nm: NM) -> Workload:
    """Updates write N:M weights: that is how the machine knows that it makes them once."""
    work = _bidirectional(workload, nm)
    sparse = {op.a.name for op in work.contractions() if op.a.role is Role.WEIGHT and op.a.pattern == nm}

    def change(op: Op) -> Op:
        if not isinstance(op, Stream):
            return op
        writes = tuple(replace(t, pattern=nm) if t.role is Role.WEIGHT and t.name in sparse else t for t in op.writes)
        return replace(op, writes=writes)

    return _changed(work, change, f"one mask for both directions ({nm.text})")


def _gradients(workload: Workload, nm: NM) -> Workload:
    """Gradients of outputs stand in for the weight of the input gradient, and are A of the weight gradient already."""
    inner = _inner(workload)

    def change(op: Op) -> Op:
        if not isinstance(op, Contraction) or op.name.rpartition(".")[0] not in inner:
            return op
        if op.name.endswith(".grad_input"):
            op = _swapped(op)
        return op.with_tensors(a=_sparse(op.a, nm)) if op.a.role is Role.GRADIENT else op

    return _changed(workload, change, f"gradients {nm.text}")


def _activations(workload: Workload, nm: NM) -> Workload:
    inner = _inner(workload)

    def change(op: Op) -> Op:
        if not isinstance(op, Contraction) or not op.name.endswith(".grad_weight"):
            return op
        if op.name.removesuffix(".grad_weight") not in inner:
            return op
        op = _swapped(op)
        return op.with_tensors(a=_sparse(op.a, nm))

    return _changed(_bidirectional(workload, nm), change, f"activations {nm.text} in weight gradients")


_TRANSFORMS: dict[Scheme, Callable[[Workload, NM], Workload]] = {
    Scheme.BDWP: _bidirectional,
    Scheme.SR_STE: _forward_only,
    Scheme.TRANSPOSABLE: _transposable,
    Scheme.SDGP: _gradients,
    Scheme.BDWP_ACTIVATIONS: _activations,
}


def _inner(workload: Workload) -> set[str]:
    """Names of layers with weights, without the two ends."""
    names = {
        op.name
        for op in workload.contractions()
        if op.a.role is Role.WEIGHT
        and not op.a.transposed
        and op.kind in (ContractionKind.MATMUL, ContractionKind.CONV)
    }
    return names - set(dense_ends(workload))


def _swapped(op: Contraction) -> Contraction:
    """The transposed product: elements of the array take N:M of A."""
    return replace(op, a=op.b, b=op.a, a_axes=op.b_axes, b_axes=op.a_axes)


def _sparse(tensor: Tensor, nm: NM) -> Tensor:
    return replace(tensor, pattern=nm)


def _changed(workload: Workload, change: Callable[[Op], Op], how: str) -> Workload:
    return replace(workload, ops=tuple(change(op) for op in workload.ops)).transformed(how)
