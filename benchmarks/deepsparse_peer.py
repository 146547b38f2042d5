"""DeepSparse in an environment of its own: reads products as lines of JSON, answers with the seconds of its runs.

Run by `cpu_kernels.py` with the Python of that environment; needs numpy, onnx and deepsparse there and nothing of ours.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from typing import Any

import deepsparse
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SEED = 0


def model(path: str, m: int, n: int, k: int, sparsity: float) -> None:
    """A model of one product: tokens (n, k) by a constant weight (k, m)."""
    rng = np.random.default_rng(SEED)
    weight = rng.standard_normal((m, k), dtype=np.float32)
    if sparsity > 0:
        weight *= rng.random((m, k)) >= sparsity
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [n, k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [n, m])],
        [numpy_helper.from_array(np.ascontiguousarray(weight.T), "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    made.ir_version = 8
    onnx.save(made, path)


def seconds(request: dict[str, Any], path: str) -> list[float]:
    """Of every run of a product, after three that nobody counts."""
    model(path, request["m"], request["n"], request["k"], request["sparsity"])
    engine = deepsparse.Engine(model=path, batch_size=request["n"], num_cores=request["threads"])
    x = np.random.default_rng(SEED).standard_normal((request["n"], request["k"]), dtype=np.float32)
    for _ in range(3):
        engine.run([x])
    took: list[float] = []
    began = time.perf_counter()
    while len(took) < 5 or (len(took) < 50 and time.perf_counter() - began < request["budget_s"]):
        start = time.perf_counter()
        engine.run([x])
        took.append(time.perf_counter() - start)
    return took


def main() -> None:
    """Answer until the input ends; what the engine prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps({"version": deepsparse.__version__}), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(seconds(json.loads(line), f"{folder}/product.onnx")), file=answers, flush=True)


if __name__ == "__main__":
    main()
