"""Models of one product as ONNX files, for the runtimes that take nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def matmul(weight: NDArray[np.float32], tokens: int) -> bytes:
    """`y = x · weight` with x of (tokens, K) and a constant weight (K, M), serialised."""
    from onnx import TensorProto, helper, numpy_helper

    k, m = weight.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [tokens, k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [tokens, m])],
        [numpy_helper.from_array(np.ascontiguousarray(weight), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return bytes(model.SerializeToString())
