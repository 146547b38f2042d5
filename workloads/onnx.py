"""Workloads from ONNX models: products and convolutions with the measured sparsity of their weights, all else streams.

Gemm, MatMul, Conv, ConvTranspose, Einsum of two operands and their integer forms become contractions; products around
a softmax become one attention. What only moves or renames data of fixed shape is left out (`_SHAPES_ONLY`), integer
arithmetic on shapes too; every other standard op is a stream, priced by its bytes. Ops that hide products (recurrent
layers, subgraphs, fused attention) and ops of other domains are refused. Constants are folded, so that a dequantised or
transposed initialiser is a weight, stored in the type it has in the file. Only the forward pass as it stands is known:
masks are counted as full.
"""

from __future__ import annotations

import importlib
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from simsparse.dtypes import DType
from simsparse.dtypes import dtype as read_dtype
from simsparse.errors import InputError, UnsupportedError
from simsparse.masks import measure
from simsparse.ops import Contraction, Role, StreamKind, Tensor, plain_axes
from simsparse.sparsity import DENSE, Pattern
from simsparse.workload import Phase, Weight, Workload
from workloads._onnx_graph import ELEMENT_TYPES, FLOATS, OnnxGraph, read_graph
from workloads.capture import Capture
from workloads.convnet import check_image_options
from workloads.convolution import convolution, transposed_convolution
from workloads.weights import or_dense

_SHAPES_ONLY = frozenset(
    ("Shape", "Size", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Constant", "ConstantOfShape",
     "Dropout", "Range", "Split", "Expand", "EyeLike")
)  # fmt: skip
_HIDDEN_PRODUCTS = frozenset(
    ("LSTM", "GRU", "RNN", "Loop", "If", "Scan", "Attention", "DeformConv", "DFT", "STFT", "SequenceMap")
)
_STREAMS = {
    StreamKind.NORM: "LayerNormalization BatchNormalization InstanceNormalization GroupNormalization"
    " RMSNormalization LpNormalization MeanVarianceNormalization LRN",
    StreamKind.SOFTMAX: "Softmax LogSoftmax",
    StreamKind.POOL: "MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool GlobalLpPool",
    StreamKind.GATHER: "Gather GatherElements GatherND ScatterND ScatterElements",
    StreamKind.ROTARY: "RotaryEmbedding",
    StreamKind.TOPK: "TopK",
    StreamKind.COPY: "Transpose Concat Slice Pad Resize Upsample Cast QuantizeLinear DequantizeLinear"
    " DynamicQuantizeLinear DepthToSpace SpaceToDepth Tile",
}
_KIND_OF = {name: kind for kind, names in _STREAMS.items() for name in names.split()}
# What products and other streams do in passing: elementwise ops, and changes of type.
_ELEMENTWISE = frozenset({StreamKind.ACTIVATION, StreamKind.RESIDUAL, StreamKind.BIAS})
_CONVERSIONS = frozenset({"Cast", "QuantizeLinear", "DequantizeLinear"})
# Inputs of a product that count: (activations, weight) positions, with that of the weight's zero point.
_OPERANDS = {
    "MatMul": (0, 1, None), "MatMulInteger": (0, 1, 3), "QLinearMatMul": (0, 3, 5), "Gemm": (0, 1, None),
    "Conv": (0, 1, None), "ConvInteger": (0, 1, 3), "QLinearConv": (0, 3, 5), "ConvTranspose": (0, 1, None),
}  # fmt: skip


@dataclass
class _Reader:
    """The walk over the nodes. `_made` holds the tensor name behind each value; reshaped values share one."""

    graph: OnnxGraph
    dtype: DType | None

    def __post_init__(self) -> None:
        self.capture = Capture()
        self._made: dict[str, str] = {}
        self._weights: dict[tuple[str, bool], Tensor] = {}
        self._listed: dict[str, str] = {}

    def read(self) -> None:
        for node in self.graph.nodes:
            if node.domain not in ("", "ai.onnx"):
                raise UnsupportedError(
                    f"node {node.name!r} is {node.op_type} of domain {node.domain!r}, expected ONNX's"
                )
            if node.op_type in _HIDDEN_PRODUCTS:
                raise UnsupportedError(
                    f"node {node.name!r} is {node.op_type}, whose products cannot be seen from outside"
                )
            if node.op_type == "Constant" or (node.input and all(self._known(name) for name in node.input)):
                if node.op_type != "Constant":
                    self.graph.fold(node)
            elif node.op_type in _SHAPES_ONLY:
                source = self._name_of(node.input[0]) if node.input else node.output[0]
                self._made.update(dict.fromkeys(node.output, source))
            elif node.op_type in _OPERANDS:
                self._product(node)
            elif node.op_type == "Einsum":
                self._einsum(node)
            else:
                self._stream(node)

    # Products -------------------------------------------------------------------------------------------------------

    def _product(self, node: Any) -> None:
        x_place, y_place, zero_place = _OPERANDS[node.op_type]
        attributes = _attributes(node)
        transposes = (bool(attributes.get("transA", 0)), bool(attributes.get("transB", 0)))
        name = self._op_name(node, node.input[y_place])
        conv = "Conv" in node.op_type
        zero = node.input[zero_place] if zero_place is not None and len(node.input) > zero_place else ""
        if self.graph.is_constant(node.input[y_place]):
            y = self._weight(node.input[y_place], f"{name}.weight", turn=not conv and not transposes[1], zero=zero)
            rows_first = True
        else:
            y, rows_first = self._tensor(node.input[y_place]), transposes[1]
        x = self._tensor(node.input[x_place])
        if transposes[0]:
            x = Tensor(x.name, x.shape[::-1], x.dtype, x.role)
        out = self._output(node, name)
        if conv:
            build = transposed_convolution if node.op_type == "ConvTranspose" else convolution
            places = {"stride": attributes.get("strides", ()), "dilation": attributes.get("dilations", ())}
            self.capture.add(build(name, y, x, out, groups=attributes.get("group", 1), **places))
        else:
            self._matmul(name, x, y, out, rows_first)
        bias = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "QLinearConv": 8}.get(node.op_type)
        if bias is not None and len(node.input) > bias and node.input[bias]:
            self._bias(name, node.input[bias], out)

    def _matmul(self, name: str, x: Tensor, y: Tensor, out: Tensor, rows_first: bool) -> None:
        """A product whose vectors have an extent of one put in."""
        if len(y.shape) == 1:
            y = Tensor(y.name, (y.shape[0], 1), y.dtype, y.role)
            rows_first = False
        if len(x.shape) == 1:
            x = Tensor(x.name, (1, x.shape[0]), x.dtype, x.role)
        lead = out.shape[: max(len(x.shape), len(y.shape)) - 2]
        shape = (*lead, x.shape[-2], y.shape[-2 if rows_first else -1])
        out = Tensor(out.name, shape, out.dtype, out.role)
        self.capture.product(name, x, y, out, weight_rows_first=rows_first)

    def _einsum(self, node: Any) -> None:
        equation = _attributes(node).get("equation", b"").decode().replace(" ", "")
        match = re.fullmatch(r"([A-Za-z]+),([A-Za-z]+)->([A-Za-z]+)", equation)
        if match is None:
            raise UnsupportedError(f"node {node.name!r} is Einsum {equation!r}, expected two operands and a result")
        name = self._op_name(node, node.input[1])
        x, y = (self._operand(value, f"{name}.weight") for value in node.input)
        out = self._output(node, name)
        extents = dict(zip(match[1] + match[2], x.shape + y.shape, strict=True))
        axes = [plain_axes(labels) for labels in (match[2], match[1], match[3])]
        self.capture.add(Contraction(name, tuple(extents.items()), y, x, out, axes[0], axes[1], axes[2]))

    def _bias(self, name: str, value: str, out: Tensor) -> None:
        bias = self._operand(value, f"{name}.bias")
        self.capture.stream(f"{name}.add_bias", StreamKind.BIAS, (out, bias), (out,), fusable=True)

    # Streams --------------------------------------------------------------------------------------------------------

    def _stream(self, node: Any) -> None:
        outputs = [value for value in node.output if value]
        if all(ELEMENT_TYPES.get(self.graph.types.get(v, 0)) in (None, "int64", "bool") for v in outputs):
            self._made.update({value: value for value in outputs})
            return
        name = self._op_name(node, "")
        reads = [self._operand(value) for value in node.input if self.graph.is_data(value)]
        kind = _KIND_OF.get(node.op_type)
        if kind is StreamKind.GATHER and reads:
            reads[0] = Tensor(reads[0].name, self._shape(outputs[0]), reads[0].dtype, reads[0].role)
        if kind is None:
            kind = _elementwise(node.op_type, reads)
        writes = [self._output(node, name, place) for place in range(len(outputs))]
        fusable = kind in _ELEMENTWISE or node.op_type in _CONVERSIONS
        self.capture.stream(name, kind, reads, writes, fusable=fusable)

    # Tensors --------------------------------------------------------------------------------------------------------

    def _known(self, value: str) -> bool:
        return not value or self.graph.is_constant(value)

    def _name_of(self, value: str) -> str:
        return self._made.get(value, value)

    def _shape(self, value: str) -> tuple[int, ...]:
        if value not in self.graph.shapes:
            raise InputError(
                f"value {value!r} of {self.graph.name!r} has no known shape, expected one fixed by its inputs"
            )
        return self.graph.shapes[value]

    def _dtype(self, value: str) -> DType:
        name = ELEMENT_TYPES.get(self.graph.types.get(value, 1), "fp32")
        return self.dtype if self.dtype is not None and name in FLOATS else read_dtype(name)

    def _tensor(self, value: str) -> Tensor:
        return Tensor(self._name_of(value), self._shape(value), self._dtype(value), Role.ACTIVATION)

    def _operand(self, value: str, owner: str = "") -> Tensor:
        """A weight if it is stored in the model as one, else whatever is read."""
        if self.graph.is_constant(value) and self.graph.is_weight(self.graph.stored(value)):
            return self._weight(value, owner)
        return self._tensor(value)

    def _output(self, node: Any, name: str, place: int = 0) -> Tensor:
        value = [value for value in node.output if value][place]
        self._made[value] = f"{name}.out" if place == 0 else f"{name}.out_{place}"
        return self._tensor(value)

    def _weight(self, value: str, name: str, *, turn: bool = False, zero: str = "") -> Tensor:
        """The constant as a weight, listed once; with `turn`, outputs and reduction swapped."""
        if (value, turn) in self._weights:
            return self._weights[value, turn]
        source = self.graph.stored(value)
        array = self.graph.array(value)
        array = np.swapaxes(array, -1, -2) if turn and array.ndim > 1 else array
        listed = source in self._listed
        name = self._listed.setdefault(source, name or source)
        pattern = self._pattern(array, zero, source)
        tensor = Tensor(name, tuple(array.shape), self._dtype(source), Role.WEIGHT, pattern)
        if not listed:
            stored = self.graph.shapes[source]  # of which an expanded constant is many copies
            whole = math.prod(stored) == tensor.elements
            self.capture.weights.append(Weight(tensor if whole else replace(tensor, shape=stored, pattern=DENSE)))
        self._weights[value, turn] = tensor
        return tensor

    def _pattern(self, array: Any, zero: str, source: str) -> Pattern:
        if array.ndim < 2 or array.size == 0:
            return DENSE
        if zero:
            point = self.graph.array(zero)
            array = array != (point.reshape(-1, *[1] * (array.ndim - 1)) if point.size > 1 else point)
        bits = array.dtype.kind not in "biuf"
        raw = array.view(f"u{array.dtype.itemsize}") if bits else array
        return or_dense(measure(raw.reshape(-1, raw.shape[-1]) if raw.ndim == 3 else raw, source, float_bits=bits))

    def _op_name(self, node: Any, weight: str) -> str:
        """The module that owns the weight, else the path that exporters give nodes, else the op's type."""
        source = self.graph.stored(weight) if weight and self.graph.is_constant(weight) else ""
        if source.endswith(".weight"):
            return self.capture.unique(source.removesuffix(".weight"))
        path = node.name.strip("/").replace("/", ".")
        return self.capture.unique(path or f"{node.op_type.lower()}_{len(self.capture.ops)}")


def _elementwise(op_type: str, reads: list[Tensor]) -> StreamKind:
    if op_type == "Add" and len(reads) == 2:
        return StreamKind.BIAS if any(t.role is Role.WEIGHT for t in reads) else StreamKind.RESIDUAL
    return StreamKind.ACTIVATION


def _attributes(node: Any) -> dict[str, Any]:
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def load_onnx(
    path: str | Path, *, batch: int = 1, seq: int | None = None, dtype: str | DType | None = None
) -> Workload:
    """One pass of an ONNX model.

    Parameters
    ----------
    batch, seq : int
        Extents of axes that the model leaves open: the first, and all others.
    dtype : str, optional
        What floats are counted as; default as in the file. Quantised weights keep their type.

    Raises
    ------
    InputError
        If the file is no valid model, shapes stay unknown, or the package onnx is not installed.
    UnsupportedError
        For ops that hide products.
    """
    try:
        importlib.import_module("onnx")
    except ImportError:
        raise InputError(f"workload {str(path)!r} needs ONNX, expected the extra onnx to be installed") from None
    graph = read_graph(path, batch=batch, seq=seq)
    floats = read_dtype(dtype) if dtype is not None else None
    reader = _Reader(graph, floats)
    try:
        reader.read()
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError, NotImplementedError, OSError) as broken:
        if isinstance(broken, InputError):
            raise
        reason = (str(broken).strip().splitlines() or [type(broken).__name__])[0][:200]
        raise InputError(f"ONNX model {graph.name!r} cannot be followed ({reason}), expected a valid model") from None
    common = floats or read_dtype(ELEMENT_TYPES.get(graph.types.get(graph.inputs[0], 1), "fp32"))
    return reader.capture.workload(graph.name, batch=graph.batch, tokens=graph.batch * (seq or 1), dtype=common)


class OnnxSource:
    """Workload source for `*.onnx`."""

    def names(self) -> list[str]:
        """It only reads files."""
        return []

    def accepts(self, spec: str) -> bool:
        """Whether it is an ONNX file by name."""
        return spec.lower().endswith(".onnx")

    def load(
        self, spec: str, *, phase: str | None = None, batch: int = 1, seq: int | None = None,
        context: int | None = None, dtype: str | None = None,
    ) -> Workload:  # fmt: skip
        """One pass (`encode`), or a training step whose forward pass it is (`train`)."""
        check_image_options(phase, batch, None, context)
        forward = load_onnx(spec, batch=batch, seq=seq, dtype=dtype)
        if phase != Phase.TRAIN:
            return forward
        from workloads.training import training_step

        return training_step(forward)


SOURCE = OnnxSource()
