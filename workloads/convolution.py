"""Convolutions of any rank as contractions, forward and backward.

The weight is A, with the shape and order frameworks give it: `(G·m, c, kernel…)` for G groups of m outputs and c
inputs. Dimensions are named g, m, c, n (images), `p q o` (places of the output) and `r s t` (taps). The input is B,
`(n, G·c, height, width, …)` as it is stored, without padding; its spatial axes are `stride·p + dilation·r`, from which
padding would only subtract a constant. A depthwise convolution has m = c = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from simsparse.errors import InputError
from simsparse.ops import Axis, Contraction, ContractionKind, Role, Tensor
from simsparse.sparsity import DENSE

PLACES = "pqo"
TAPS = "rst"


def convolution(
    name: str, weight: Tensor, x: Tensor, out: Tensor, *, stride: Sequence[int] = (), dilation: Sequence[int] = (),
    groups: int = 1, layers: tuple[int, ...] = (),
) -> Contraction:  # fmt: skip
    """The convolution `out = weight * x`.

    Parameters
    ----------
    weight : Tensor
        `(outputs, inputs / groups, kernel…)` with one to three kernel extents.
    x, out : Tensor
        `(images, inputs, extents…)` and `(images, outputs, extents…)`.
    stride, dilation : sequence of int
        One for each kernel extent; empty for 1.

    Raises
    ------
    InputError
        If channels, groups and ranks do not fit together.
    """
    outputs, per_group, *kernel = weight.shape
    rank = len(kernel)
    if not 1 <= rank <= 3 or len(x.shape) != rank + 2 or len(out.shape) != rank + 2:
        raise InputError.expected(f"shape of {weight.name}", weight.shape, "one to three kernel extents, as its input")
    if groups < 1 or outputs % groups or x.shape[1] != per_group * groups or out.shape[1] != outputs:
        raise InputError.expected(f"groups of {name}", groups, f"a divisor of {outputs} outputs that fits {x.shape}")
    places, taps = PLACES[:rank], TAPS[:rank]
    steps, gaps = tuple(stride) or (1,) * rank, tuple(dilation) or (1,) * rank
    sizes = (
        ("g", groups), ("m", outputs // groups), ("c", per_group), ("n", x.shape[0]),
        *zip(places, out.shape[2:], strict=True), *zip(taps, kernel, strict=True),
    )  # fmt: skip
    fields = tuple(((p, step), (r, gap)) for p, step, r, gap in zip(places, steps, taps, gaps, strict=True))
    return Contraction(
        name, sizes, weight, x, out,
        a_axes=(_grouped(outputs // groups, "m"), _plain("c"), *map(_plain, taps)),
        b_axes=(_plain("n"), _grouped(per_group, "c"), *fields),
        out_axes=(_plain("n"), _grouped(outputs // groups, "m"), *map(_plain, places)),
        kind=ContractionKind.CONV, layers=layers,
    )  # fmt: skip


def conv_gradients(op: Contraction, out_gradient: Tensor | None = None) -> tuple[Contraction, Contraction]:
    """Input-gradient and weight-gradient products of a convolution.

    The input gradient has M = inputs of a group and reduces over outputs and taps. Its columns are counted as the
    places of the forward output: at stride s each stands for s² input pixels, among which the taps are divided, so
    that the arithmetic is exact (it equals the forward pass) and only the written bytes of strided layers are low.
    The weight gradient has M = outputs, N = inputs times taps, K = images times places.

    Parameters
    ----------
    op : Contraction
        What `convolution` made.
    out_gradient : Tensor, optional
        Gradient of the output; by default one named `<output>.grad`.
    """
    extents = dict(op.dims)
    places = [label for label in PLACES if label in extents]
    taps = [label for label in TAPS if label in extents]
    steps = [dict(axis)[label] for axis, label in zip(op.b_axes[2:], places, strict=True)]
    gradient = out_gradient or _gradient(op.out)
    channels, outputs = op.b_axes[1], op.out_axes[1]
    grad_input = replace(
        op,
        name=f"{op.name}.grad_input",
        a=replace(op.a, transposed=True, pattern=op.a.pattern.transposed()),
        b=gradient,
        out=_gradient(op.b),
        a_axes=(outputs, _plain("c"), *map(_plain, taps)),
        b_axes=(_plain("n"), outputs, *(((p, 1), (r, -1)) for p, r in zip(places, taps, strict=True))),
        out_axes=(_plain("n"), channels, *(((p, step),) for p, step in zip(places, steps, strict=True))),
    )
    grad_weight = replace(
        op,
        name=f"{op.name}.grad_weight",
        a=gradient,
        b=op.b,
        out=_gradient(op.a),
        a_axes=op.out_axes,
        b_axes=op.b_axes,
        out_axes=op.a_axes,
    )
    return grad_input, grad_weight


def _gradient(tensor: Tensor) -> Tensor:
    return replace(tensor, name=f"{tensor.name}.grad", role=Role.GRADIENT, pattern=DENSE)


def _plain(label: str) -> Axis:
    return ((label, 1),)


def _grouped(per_group: int, label: str) -> Axis:
    """Channels: the group's first one plus the one within the group."""
    return (("g", per_group), (label, 1))


def transposed_convolution(
    name: str, weight: Tensor, x: Tensor, out: Tensor, *, stride: Sequence[int] = (), dilation: Sequence[int] = (),
    groups: int = 1,
) -> Contraction:  # fmt: skip
    """The input gradient of a convolution as a layer: `weight` is `(inputs, outputs / groups, kernel…)`."""
    forward = convolution(name, weight, out, x, stride=stride, dilation=dilation, groups=groups)
    grad_input, _ = conv_gradients(forward)
    return replace(grad_input, name=name, a=weight, b=x, out=out)
