"""An ONNX file as nodes with known shapes and constants; nothing of it runs but the folding of constants."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsparse.errors import InputError, SimsparseError
from workloads._onnx_shapes import infer_shapes

# Element types of the format with the names of `simsparse.dtypes`; uint8 is multiplied as int8.
ELEMENT_TYPES = {
    1: "fp32", 2: "int8", 3: "int8", 4: "int16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "fp16",
    11: "fp64", 12: "int32", 13: "int64", 16: "bf16", 17: "fp8", 18: "fp8", 19: "fp8", 20: "fp8", 21: "int4",
    22: "int4", 23: "fp4",
}  # fmt: skip
_NARROW = frozenset({"int8", "int4", "fp8", "fp4"})
FLOATS = frozenset({"fp64", "fp32", "fp16", "bf16"})


@dataclass
class OnnxGraph:
    """Nodes in order, and what is known of values.

    Attributes
    ----------
    name : str
    batch : int
        First extent of the first input.
    nodes : list of NodeProto
    shapes : dict of name to tuple of int
        Those that are fully known.
    types : dict of name to element type code
    constants : dict of name to TensorProto
        Initialisers and constant nodes.
    parameters : set of str
        Names of initialisers.
    """

    name: str
    folder: Path
    batch: int
    nodes: list[Any]
    shapes: dict[str, tuple[int, ...]]
    types: dict[str, int]
    constants: dict[str, Any]
    parameters: frozenset[str]
    inputs: list[str]
    _folded: dict[str, Any] = field(default_factory=dict)

    def is_constant(self, name: str) -> bool:
        """Whether a value is known before the model runs."""
        return name in self.constants or name in self._folded

    def is_weight(self, name: str) -> bool:
        """Whether a value is a parameter: an initialiser with axes, of floats or narrow integers."""
        kind = ELEMENT_TYPES.get(self.types.get(name, 0))
        return name in self.parameters and bool(self.shapes[name]) and kind in FLOATS | _NARROW

    def is_data(self, name: str) -> bool:
        """Whether a value is more than a scalar or an argument: something that is read from memory."""
        if not name or not self.shapes.get(name) or ELEMENT_TYPES.get(self.types.get(name, 0)) is None:
            return False
        return not self.is_constant(name) or self.is_weight(self.stored(name))

    def fold(self, node: Any) -> None:
        """Note that a node has constants alone as inputs."""
        for name in node.output:
            self._folded[name] = node

    def stored(self, name: str) -> str:
        """The initialiser that a constant is made of (its largest), or itself."""
        if name in self.constants or name not in self._folded:
            return name
        sources = [self.stored(source) for source in self._folded[name].input if source]
        return max(sources, key=lambda source: math.prod(self.constants[source].dims), default=name)

    def array(self, name: str) -> NDArray[Any]:
        """The value of a constant, computed through dequantisation, transposition and the like."""
        try:
            return self._stored_array(name) if name in self.constants else self._computed_array(name)
        except SimsparseError:
            raise
        except Exception as broken:  # the library raises types of its own
            raise _unreadable(f"constant {name!r} of ONNX model {self.name!r}", broken) from None

    def _stored_array(self, name: str) -> NDArray[Any]:
        import onnx

        tensor = self.constants[name]
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            loaded = onnx.TensorProto()
            loaded.CopyFrom(tensor)
            onnx.external_data_helper.load_external_data_for_tensor(loaded, str(self.folder))
            tensor = loaded
        return np.asarray(onnx.numpy_helper.to_array(tensor))

    def _computed_array(self, name: str) -> NDArray[Any]:
        from onnx.reference import ReferenceEvaluator

        node = self._folded[name]
        inputs = {source: self.array(source) for source in node.input if source}
        results = ReferenceEvaluator(node).run(None, inputs)
        return np.asarray(results[list(node.output).index(name)])


def read_graph(path: str | Path, *, batch: int = 1, seq: int | None = None) -> OnnxGraph:
    """Read a model and infer all shapes.

    Parameters
    ----------
    batch : int
        Extent of a first axis that the model leaves open.
    seq : int, optional
        Extent of every other axis that it leaves open.

    Raises
    ------
    InputError
        If the file is no model, an axis stays unknown, or a fixed first axis differs from `batch`.
    """
    import onnx
    import onnx.inliner

    path = Path(path)
    if not path.is_file():
        raise InputError.expected("ONNX model", str(path), "a file that exists")
    try:
        model = onnx.load(str(path), load_external_data=False)
        if not model.graph.node:
            raise InputError(f"ONNX model {path.name!r} has no nodes, expected at least one")
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        found = _fix_inputs(model, path.name, batch, seq)
        stored = _stored(model.graph)
        model = infer_shapes(model)
    except SimsparseError:
        raise
    except Exception as broken:  # parser, checker and inference each raise types of their own
        raise _unreadable(f"ONNX model {path.name!r}", broken) from None
    return _graph(model.graph, path, found, stored)


def _fix_inputs(model: Any, name: str, batch: int, seq: int | None) -> int:
    """Give every open axis an extent, and say what the batch is."""
    constant = {tensor.name for tensor in model.graph.initializer}
    found = None
    for value in model.graph.input:
        if value.name in constant or not value.type.HasField("tensor_type"):
            continue
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value < 1:
                wanted = batch if place == 0 else seq
                if wanted is None:
                    label = dim.dim_param or f"axis {place}"
                    raise InputError(f"input {value.name!r} of {name!r} leaves {label!r} open, expected seq to fix it")
                dim.dim_value = wanted
            elif place == 0 and batch not in (1, dim.dim_value):
                raise InputError.expected("batch", batch, f"{dim.dim_value}, which {name!r} has for {value.name!r}")
            if place == 0 and found is None:
                found = int(dim.dim_value)
    return found or 1


def _stored(graph: Any) -> dict[str, Any]:
    """Initialisers by name, copied, since inference works on a graph without them."""
    import onnx

    found = {sparse.values.name: _filled(sparse) for sparse in graph.sparse_initializer}
    for tensor in graph.initializer:
        found[tensor.name] = onnx.TensorProto()
        found[tensor.name].CopyFrom(tensor)
    return found


def _graph(graph: Any, path: Path, batch: int, stored: dict[str, Any]) -> OnnxGraph:
    import onnx

    constants = {tensor.name: tensor for tensor in graph.initializer} | stored
    parameters = frozenset(stored)
    shapes: dict[str, tuple[int, ...]] = {}
    types: dict[str, int] = {}
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                if attribute.name == "value":
                    constants[node.output[0]] = attribute.t
                elif attribute.name in ("value_float", "value_int", "value_floats", "value_ints"):
                    array = np.asarray(onnx.helper.get_attribute_value(attribute))
                    constants[node.output[0]] = onnx.numpy_helper.from_array(array)
    for name, tensor in constants.items():
        shapes[name], types[name] = tuple(tensor.dims), int(tensor.data_type)
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        types.setdefault(value.name, int(kind.elem_type))
        if kind.HasField("shape") and all(dim.dim_value > 0 for dim in kind.shape.dim):
            shapes.setdefault(value.name, tuple(int(dim.dim_value) for dim in kind.shape.dim))
    inputs = [value.name for value in graph.input if value.name not in constants]
    return OnnxGraph(path.stem, path.parent, batch, list(graph.node), shapes, types, constants, parameters, inputs)


def _filled(sparse: Any) -> Any:
    """A sparse initialiser as a dense one."""
    import onnx

    values, indices = (onnx.numpy_helper.to_array(part) for part in (sparse.values, sparse.indices))
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return onnx.numpy_helper.from_array(dense, sparse.values.name)


def _unreadable(what: str, broken: Exception) -> InputError:
    reason = (str(broken).strip().splitlines() or [type(broken).__name__])[0][:200]
    return InputError(f"{what} cannot be read ({reason}), expected a valid model")
