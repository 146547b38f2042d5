"""Shapes of all values of an ONNX model whose inputs are fixed.

Inference alone stops where exporters compute shapes in the graph (Shape, Gather, Concat, … into Reshape). With fixed
inputs that arithmetic is constant: it is folded and inference runs again, until nothing changes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Larger constants are no arithmetic on shapes.
_SMALL = 4096
_LARGEST_RESULT = 1 << 20
_ROUNDS = 32
_ARITHMETIC = frozenset(
    ("Shape", "Size", "Gather", "Concat", "Slice", "Unsqueeze", "Squeeze", "Cast", "Add", "Sub", "Mul", "Div", "Mod",
     "Neg", "Abs", "Floor", "Ceil", "Sqrt", "Pow", "Min", "Max", "Equal", "Less", "LessOrEqual", "Greater",
     "GreaterOrEqual", "Not", "And", "Or", "Where", "ConstantOfShape", "Expand", "Range", "Reshape", "Identity",
     "Transpose", "Tile", "ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin", "NonZero", "ScatterND", "Trilu",
     "CumSum", "Constant")
)  # fmt: skip


def infer_shapes(model: Any) -> Any:
    """The model with shapes of its values filled in, shape arithmetic as initialisers, and weights left out."""
    import onnx

    _leave_out_weights(model.graph)
    for _ in range(_ROUNDS):
        del model.graph.value_info[:]
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        if not _fold(model.graph):
            break
    return model


def _leave_out_weights(graph: Any) -> None:
    """Turn parameters (large, or floats with axes) into inputs: not folded, nor copied by every inference."""
    import onnx

    inputs = {value.name for value in graph.input}
    kept = []
    for tensor in graph.initializer:
        whole = tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
        if math.prod(tensor.dims) <= _SMALL and (whole or not tensor.dims):
            kept.append(tensor)
        elif tensor.name not in inputs:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tuple(tensor.dims)))
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _fold(graph: Any) -> bool:
    """Compute every node of shape arithmetic whose inputs are known; whether there was any."""
    import onnx

    shapes = _shapes(graph)
    known: dict[str, NDArray[Any]] = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_location != onnx.TensorProto.EXTERNAL
    }
    left = []
    for node in graph.node:
        results = _results(node, known, shapes)
        if results is None:
            left.append(node)
            continue
        for name, value in zip(node.output, results, strict=False):
            known[name] = value
            graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    folded = len(left) < len(graph.node)
    del graph.node[:]
    graph.node.extend(left)
    return folded


def _shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    return {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info)
        if value.type.tensor_type.HasField("shape")
        and all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim)
    }


def _results(
    node: Any, known: dict[str, NDArray[Any]], shapes: dict[str, tuple[int, ...]]
) -> list[NDArray[Any]] | None:
    """What a node of shape arithmetic gives, or None where it is none or not yet known."""
    from onnx.reference import ReferenceEvaluator

    if node.op_type not in _ARITHMETIC or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in ("Shape", "Size") and node.input[0] in shapes:
        values = {node.input[0]: np.broadcast_to(np.int8(0), shapes[node.input[0]])}
    elif all(not name or name in known for name in node.input):
        values = {name: known[name] for name in node.input if name}
    else:
        return None
    if _size(node, values) > _LARGEST_RESULT:
        return None
    return [np.asarray(result) for result in ReferenceEvaluator(node).run(None, values)]


def _size(node: Any, values: dict[str, NDArray[Any]]) -> float:
    """Elements of the result of ops whose result may be far larger than what they read."""
    inputs = [values[name] for name in node.input if name]
    if node.op_type == "Range":
        start, stop, step = (float(value) for value in inputs)
        return abs((stop - start) / step) if step else math.inf
    if node.op_type in ("ConstantOfShape", "Expand", "Tile"):
        return math.prod(max(1.0, abs(float(extent))) for extent in inputs[-1].ravel()) * (
            inputs[0].size if node.op_type == "Tile" else 1
        )
    return 0.0
