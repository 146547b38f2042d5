"""Models of one product as ONNX files, for the runtimes that take nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def matmul(weight: NDArray[np.float32]) -> bytes:
    """`y = x · weight` with x of (any tokens, K) and a constant weight (K, M), serialised."""
    from onnx import TensorProto, helper, numpy_helper

    k, m = weight.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["tokens", k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tokens", m])],
        [numpy_helper.from_array(np.ascontiguousarray(weight), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def matmul_int8(size: int) -> bytes:
    """`y = x · weight` with unsigned x, a signed constant weight and sums of 32 bits, all square."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [size, size])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [size, size])],
        [numpy_helper.from_array(np.ones((size, size), np.int8), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return bytes(model.SerializeToString())
