"""Weight-only quantisation: weights are stored narrow and widened inside the product."""

from __future__ import annotations

from dataclasses import replace

from simsparse.dtypes import DType
from simsparse.dtypes import dtype as read_dtype
from simsparse.errors import InputError
from simsparse.ops import Op, Role, Stream, Tensor
from simsparse.transforms.resize import check_inference
from simsparse.transforms.targets import Glob, changed
from simsparse.workload import Workload


def quantize_weights(workload: Workload, dtype: str | DType = "int4-g128", match: str = "*") -> Workload:
    """Store the weights of the ops that a glob names in fewer bits; activations keep their type.

    Embedding tables change only where a matched op (a tied head) multiplies with them. Since speedup is over the same
    types, the baseline is quantised too.

    Parameters
    ----------
    dtype : str or DType
        `int4-g128` (as GPTQ and AWQ store them), `int8`, `fp8`, `fp4`, …
    match : str
        Glob of ops or of their weights, as in `with_sparsity`.

    Raises
    ------
    UnknownNameError
        If the glob matches no op with a weight.
    InputError
        For an unknown type, one that is no narrower than the workload's, or a training step.
    """
    kind, glob = read_dtype(dtype), Glob(match)
    check_inference(workload, "weight-only quantisation")
    if kind.bits >= workload.dtype.bits or kind.name == "bool":
        raise InputError.expected("dtype of the weights", str(kind), f"a number of fewer bits than {workload.dtype}")
    glob.check(workload, on_scores=False, what="a weight")

    def change(tensor: Tensor, tensor_name: str, op_name: str) -> Tensor:
        matched = tensor.role is Role.WEIGHT and glob.matches(op_name, tensor_name)
        return replace(tensor, dtype=kind) if matched else tensor

    narrow = changed(workload, change)
    tables = {op.weight.name for op in narrow.contractions() if op.weight is not None and op.weight.dtype == kind}
    origin = quantize_weights(workload.origin, kind, match) if workload.origin is not None else None
    return narrow.transformed(
        f"quantize {kind}" + ("" if match == "*" else f" {match}"),
        ops=tuple(_gathered(op, tables, kind) for op in narrow.ops),
        origin=origin,
    )


def _gathered(op: Op, tables: set[str], kind: DType) -> Op:
    """A stream that reads rows of a table that a product reads as well."""
    if not isinstance(op, Stream) or not any(t.name in tables for t in op.reads):
        return op
    return replace(op, reads=tuple(replace(t, dtype=kind) if t.name in tables else t for t in op.reads))
