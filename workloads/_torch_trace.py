"""The recorder behind `workloads.torch`: every ATen op that runs becomes an op of a workload."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from simsparse.dtypes import DType
from simsparse.dtypes import dtype as read_dtype
from simsparse.errors import UnsupportedError
from simsparse.ops import Contraction, ContractionKind, Role, StreamKind, Tensor, plain_axes
from simsparse.workload import Weight
from workloads.capture import Capture
from workloads.convolution import convolution, transposed_convolution

_STREAMS = {
    StreamKind.NORM: "native_layer_norm native_batch_norm _native_batch_norm_legit cudnn_batch_norm native_group_norm"
    " _fused_rms_norm _native_batch_norm_legit_no_training _batch_norm_with_update",
    StreamKind.SOFTMAX: "_softmax _safe_softmax _log_softmax",
    StreamKind.GATHER: "embedding index index_select gather scatter scatter_add index_put index_put_ index_add",
    StreamKind.TOPK: "topk sort",
    StreamKind.COPY: "clone _to_copy copy copy_ cat stack constant_pad_nd repeat roll fill_ slice_scatter"
    " select_scatter",
}
_KIND_OF = {name: kind for kind, names in _STREAMS.items() for name in names.split()}
_HIDDEN_PRODUCTS = frozenset(
    ("_grouped_mm", "_scaled_grouped_mm", "_native_multi_head_attention", "_transformer_encoder_layer_fwd",
     "_cudnn_rnn", "mkldnn_rnn_layer", "_weight_int4pack_mm", "_weight_int8pack_mm", "_cdist_forward", "_trilinear",
     "_fft_r2c", "_fft_c2c", "_fft_c2r", "addbmm", "_addmm_activation", "_sparse_mm")
)  # fmt: skip
_INDEX_TYPES = (torch.int64, torch.bool)


class Recorder(TorchDispatchMode):
    """Ops of a module as they run.

    Parameters
    ----------
    parameters : mapping of name to tensor
        The tensors that stand for the module's parameters; tied ones once.
    root : str
        Name of the module itself.
    dtype : DType, optional
        What floats are counted as.
    """

    def __init__(self, parameters: Mapping[str, Any], root: str, dtype: DType | None) -> None:
        super().__init__()
        self.capture = Capture()
        self.path: list[str] = []
        self._root = root
        self._dtype = dtype
        self._names: dict[int, str] = {}
        self._alive: list[Any] = []  # storages are known by address, which must not be used again
        self._parameters: set[str] = set()
        for name, parameter in parameters.items():
            self._parameters.add(self._call(parameter, _weight_name(name, root, parameter.dim())))
            self.capture.weights.append(Weight(self._tensor(parameter)))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an op and record it."""
        if func.overloadpacket.__name__ in _HIDDEN_PRODUCTS or func.namespace not in ("aten", "prim", "prims"):
            where = ".".join(self.path[-1:]) or self._root
            raise UnsupportedError(f"op {func} in {where} hides what it computes, expected products a trace can see")
        result = func(*args, **(kwargs or {}))
        self._record(func, args, kwargs or {}, result)
        return result

    # What an op is --------------------------------------------------------------------------------------------------

    def _record(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        operation = func.overloadpacket.__name__
        inputs, outputs = _tensors((args, kwargs)), _tensors(result)
        outputs = [t for t in outputs if t.numel()]
        if not outputs:
            return
        if operation.startswith("_scaled_dot_product"):
            names = [argument.name for argument in func._schema.arguments]
            self._attention(dict(zip(names, args, strict=False)) | dict(kwargs), outputs[0])
        elif operation in ("mm", "bmm", "_int_mm", "_scaled_mm"):
            self._product(args[0], args[1], result)
        elif operation in ("addmm", "baddbmm"):
            self._product(args[1], args[2], result, bias=args[0])
        elif operation in ("mv", "addmv"):
            matrix, vector = args[-2:]
            self._product(matrix, vector.unsqueeze(-1), result.unsqueeze(-1))
        elif operation == "convolution":
            self._convolution(*args, out=result)
        elif inputs and outputs and not self._moves_nothing(func, inputs, outputs):
            self._stream(operation, func, args, inputs, outputs)

    def _moves_nothing(self, func: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> bool:
        """Views, and arithmetic on indices."""
        storages = {_key(t) for t in inputs}
        view = not func._schema.is_mutable and all(_key(t) in storages for t in outputs)
        return view or all(t.dtype in _INDEX_TYPES for t in outputs)

    def _product(self, x: Any, y: Any, out: Any, bias: Any = None) -> None:
        turned = self._is_parameter(x) and not self._is_parameter(y)
        if turned:  # weight · x: the transposed product has the weight where a layer has it
            x, y, out_view = y.mT, x.mT, out.mT
        else:
            out_view = out
        if y.dim() == 3 and y.stride(0) == 0:  # one matrix, expanded to a batch
            y = y[0]
        weight = self._tensor(y)
        rows_first = weight.role is Role.WEIGHT
        if rows_first:
            weight = replace(weight, shape=tuple(y.mT.shape))
        name = self.capture.unique(weight.name.removesuffix(".weight")) if rows_first else self._op_name("matmul")
        left = self._tensor(x)
        self._call(out, f"{name}.out")
        made = self._tensor(out_view)
        self.capture.product(name, left, weight, made, weight_rows_first=rows_first)
        if bias is not None:
            self._bias(name, bias, made)

    def _attention(self, arguments: Mapping[str, Any], result: Any) -> None:
        """Score, softmax and value of one fused call, with the fraction of the scores that a causal mask leaves."""
        name = self._op_name("attention")
        query, key, value = (self._tensor(arguments[label]) for label in ("query", "key", "value"))
        (batch, heads, new, size), (kv_heads, keys, width) = query.shape, value.shape[1:]
        shared = heads // kv_heads
        q = replace(query, shape=(batch, kv_heads, shared, new, size))
        scores = Tensor(f"{name}.scores", (batch, kv_heads, shared, new, keys), q.dtype, Role.SCORE)
        self._call(result, f"{name}.out")
        out = replace(self._tensor(result), shape=(batch, kv_heads, shared, new, width))
        causal = arguments.get("is_causal", False)
        needed = sum(min(i + 1, keys) for i in range(new)) / (new * keys) if causal else 1.0
        dims = (("b", batch), ("h", kv_heads), ("g", shared), ("s", new), ("t", keys))
        in_cache, in_queries, in_scores = (plain_axes(labels) for labels in ("bhtd", "bhgsd", "bhgst"))
        score = Contraction(
            f"{name}.score", (*dims, ("d", size)), key, q, scores, in_cache, in_queries, in_scores,
            ContractionKind.SCORE, needed=needed,
        )  # fmt: skip
        context = Contraction(
            f"{name}.context", (*dims, ("d", width)), value, scores, out, in_cache, in_scores, in_queries,
            ContractionKind.VALUE, needed=needed,
        )  # fmt: skip
        mask = arguments.get("attn_mask", arguments.get("attn_bias"))
        reads = (scores,) if mask is None else (scores, self._read(mask))
        self.capture.add(score)
        self.capture.stream(f"{name}.softmax", StreamKind.SOFTMAX, reads, (scores,), flops_each=5 * needed)
        self.capture.add(context)

    def _convolution(
        self, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
        output_padding: Any, groups: int, *, out: Any,
    ) -> None:  # fmt: skip
        a = self._tensor(weight)
        named = a.role is Role.WEIGHT
        name = self.capture.unique(a.name.removesuffix(".weight")) if named else self._op_name("convolution")
        build = transposed_convolution if transposed else convolution
        source = self._tensor(x)
        self._call(out, f"{name}.out")
        made = self._tensor(out)
        self.capture.add(build(name, a, source, made, stride=stride, dilation=dilation, groups=groups))
        if bias is not None:
            self._bias(name, bias, made)

    def _bias(self, name: str, bias: Any, made: Tensor) -> None:
        self.capture.stream(f"{name}.add_bias", StreamKind.BIAS, (made, self._tensor(bias)), (made,), fusable=True)

    def _stream(
        self, operation: str, func: Any, args: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]
    ) -> None:
        name = self._op_name(operation.strip("_"))
        kind, fusable = self._kind(operation, func, args, inputs)
        reads = [self._read(t) for t in inputs]
        if kind is StreamKind.GATHER and not func._schema.is_mutable:
            reads[0] = replace(reads[0], shape=tuple(outputs[0].shape))
        for place, tensor in enumerate(outputs):
            if not func._schema.is_mutable:
                self._call(tensor, f"{name}.out" if place == 0 else f"{name}.out_{place}")
        self.capture.stream(name, kind, reads, [self._tensor(t) for t in outputs], fusable=fusable)

    def _kind(
        self, operation: str, func: Any, args: Sequence[Any], inputs: Sequence[Any]
    ) -> tuple[StreamKind, bool]:  # fmt: skip
        """What a stream does, and whether a product before it may do it in its epilogue."""
        if "batch_norm" in operation:  # with fixed statistics a scale and shift
            fixed = operation.endswith("no_training") or (operation == "native_batch_norm" and not args[5])
            return StreamKind.NORM, fixed
        if operation in _KIND_OF:
            return _KIND_OF[operation], False
        if "pool" in operation:
            return StreamKind.POOL, False
        pointwise = torch.Tag.pointwise in func.tags
        if operation in ("add", "add_") and len(inputs) == 2:
            same = inputs[0].shape == inputs[1].shape
            return (StreamKind.RESIDUAL if same else StreamKind.BIAS), pointwise
        return StreamKind.ACTIVATION, pointwise

    # Names ----------------------------------------------------------------------------------------------------------

    def _op_name(self, operation: str) -> str:
        return self.capture.unique(".".join([*self.path[-1:], operation]))

    def _call(self, tensor: Any, name: str) -> str:
        """Name the memory behind a tensor."""
        self._alive.append(tensor.untyped_storage())
        self._names[_key(tensor)] = name
        return name

    def _is_parameter(self, tensor: Any) -> bool:
        return self._names.get(_key(tensor), "") in self._parameters

    def _tensor(self, tensor: Any) -> Tensor:
        name = self._names.get(_key(tensor)) or self._call(tensor, f"input_{len(self._alive)}")
        role = Role.WEIGHT if name in self._parameters or tensor is None else Role.ACTIVATION
        return Tensor(name, tuple(int(extent) for extent in tensor.shape), self._type(tensor), role)

    def _read(self, tensor: Any) -> Tensor:
        """The tensor with no more values than it has in memory (an expanded one has few)."""
        seen = self._tensor(tensor)
        stored = tensor.untyped_storage().nbytes() // tensor.element_size()
        return seen if seen.elements <= max(1, stored) else replace(seen, shape=(max(1, stored),))

    def _type(self, tensor: Any) -> DType:
        if self._dtype is not None and tensor.dtype.is_floating_point and tensor.dtype.itemsize > 1:
            return self._dtype
        name = str(tensor.dtype).removeprefix("torch.")
        return read_dtype({"float8_e4m3fnuz": "fp8", "float8_e5m2fnuz": "fp8", "complex64": "fp64"}.get(name, name))


def _weight_name(name: str, root: str, axes: int) -> str:
    """A parameter's name as `<op>.weight`, where it is a matrix: what globs and formats go by."""
    full = name if "." in name else f"{root}.{name}"
    if axes < 2 or full.endswith(".weight"):
        return full
    return full.removesuffix("_weight") + ".weight"


def _tensors(tree: Any) -> list[Any]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _key(tensor: Any) -> int:
    return int(tensor.untyped_storage()._cdata)


def watch_modules(module: Any, recorder: Recorder) -> Iterable[Any]:
    """Hooks that keep the recorder's path; to be removed afterwards."""
    for name, part in module.named_modules():
        if name:
            # A norm written out in single steps (RMS norms often are) runs as one kernel where speed matters.
            norm = "norm" in type(part).__name__.lower() and not any(True for _ in part.children())
            started: list[int] = []

            def enter(_module: Any, _args: Any, name: str = name, started: list[int] = started) -> None:
                recorder.path.append(name)
                started.append(len(recorder.capture.ops))

            def leave(_module: Any, _args: Any, _result: Any, norm: bool = norm, started: list[int] = started) -> None:
                name, first = recorder.path.pop(), started.pop()
                if norm:
                    recorder.capture.join(first, f"{name}.norm", StreamKind.NORM)

            yield part.register_forward_pre_hook(enter)
            yield part.register_forward_hook(leave)
