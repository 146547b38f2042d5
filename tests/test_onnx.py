"""ONNX models: exact counts, measured weights, attention found, and files that are none."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simsparse.errors import InputError, SimsparseError, UnsupportedError
from simsparse.masks import measure
from simsparse.ops import Contraction, ContractionKind, GemmView, Stream, StreamKind
from simsparse.sites import Fusions, cover
from simsparse.sparsity import NM
from workloads.onnx import SOURCE, load_onnx
from workloads.prune import prune

onnx = pytest.importorskip("onnx")
helper = onnx.helper
FLOAT, INT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT8
RANDOM = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def save(
    folder: Path, nodes: list[Any], inputs: dict[str, list[Any]], outputs: list[str], arrays: dict[str, np.ndarray],
    kind: int = FLOAT, **options: Any,
) -> Path:  # fmt: skip
    graph = helper.make_graph(
        nodes, "graph", [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("other", 1)])
    onnx.save(model, folder / "model.onnx", **options)
    return folder / "model.onnx"


def cnn(folder: Path, **options: Any) -> Path:
    arrays = {
        "features.0.weight": normal(8, 2, 3, 3), "features.0.bias": normal(8),
        "fc.weight": prune(normal(16, 8), "2:4"), "fc.bias": normal(16),
    }  # fmt: skip
    nodes = [
        helper.make_node(
            "Conv", ["x", "features.0.weight", "features.0.bias"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1], group=2
        ),
        helper.make_node("Relu", ["a"], ["b"], name="/features/features.1/Relu"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], name="/pool/GlobalAveragePool"),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    return save(folder, nodes, {"x": ["N", 4, 16, 16]}, ["y"], arrays, **options)


def test_a_small_network(tmp_path: Path) -> None:
    workload = load_onnx(cnn(tmp_path), batch=3)
    conv, fc = workload.contractions()
    assert (conv.name, conv.kind, conv.gemm) == ("features.0", ContractionKind.CONV, GemmView(2, 4, 3 * 64, 18))
    assert (fc.name, fc.gemm) == ("fc", GemmView(1, 16, 3, 8))
    assert fc.a.pattern.implies(NM(2, 4))
    assert workload.flops == 2 * 3 * 64 * 8 * 18 + 2 * 3 * 16 * 8
    assert workload.parameters == 8 * 18 + 8 + 16 * 8 + 16
    assert workload.batch == 3
    fused = [[op.name for op in way[0][0].ops] for way in cover(workload, Fusions(epilogue=True))]
    assert fused[0] == ["features.0", "features.0.add_bias", "features.features.1.Relu"]


def test_external_data_is_measured_all_the_same(tmp_path: Path) -> None:
    path = cnn(tmp_path, save_as_external_data=True, size_threshold=0, location="weights.bin")
    assert list(load_onnx(path).contractions())[1].a.pattern.implies(NM(2, 4))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"constant 'features.0.weight' of ONNX model 'model' cannot be read"):
        load_onnx(path)


def layer(index: int, x: str, out: str, arrays: dict[str, np.ndarray]) -> list[Any]:
    """Attention with four heads of 8, scaled and masked, and its projections, named as PyTorch's exporter does."""
    path, p = f"/layers.{index}", f"l{index}_"
    nodes = []
    for part in "qkv":
        arrays[f"onnx::MatMul_{p}{part}"] = normal(32, 32)
        nodes += [
            helper.make_node("MatMul", [x, f"onnx::MatMul_{p}{part}"], [f"{p}{part}0"], name=f"{path}/{part}/MatMul"),
            helper.make_node("Reshape", [f"{p}{part}0", "split"], [f"{p}{part}1"], name=f"{path}/Reshape_{part}"),
            helper.make_node(
                "Transpose", [f"{p}{part}1"], [f"{p}{part}2"], name=f"{path}/Transpose_{part}",
                perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3],
            ),
        ]  # fmt: skip
    arrays[f"layers.{index}.norm.weight"], arrays[f"layers.{index}.norm.bias"] = normal(32), normal(32)
    norm = [f"{p}sum", f"layers.{index}.norm.weight", f"layers.{index}.norm.bias"]
    return [
        *nodes,
        helper.make_node("MatMul", [f"{p}q2", f"{p}k2"], [f"{p}s0"], name=f"{path}/MatMul"),
        helper.make_node("Div", [f"{p}s0", "scale"], [f"{p}s1"], name=f"{path}/Div"),
        helper.make_node("Add", [f"{p}s1", "mask"], [f"{p}s2"], name=f"{path}/Add"),
        helper.make_node("Softmax", [f"{p}s2"], [f"{p}s3"], name=f"{path}/Softmax", axis=-1),
        helper.make_node("MatMul", [f"{p}s3", f"{p}v2"], [f"{p}c0"], name=f"{path}/MatMul_1"),
        helper.make_node("Transpose", [f"{p}c0"], [f"{p}c1"], name=f"{path}/Transpose_c", perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", [f"{p}c1", "join"], [f"{p}c2"], name=f"{path}/Reshape_c"),
        helper.make_node("Add", [f"{p}c2", x], [f"{p}sum"], name=f"{path}/Add_1"),
        helper.make_node("LayerNormalization", norm, [out], name=f"{path}/norm/LayerNormalization"),
    ]


def test_attention_is_found_and_layers_are_merged(tmp_path: Path) -> None:
    arrays = {"split": np.array([0, 0, 4, 8]), "join": np.array([0, 0, 32]), "scale": np.array(2.8, np.float32)}
    nodes = [*layer(0, "x", "h0", arrays), *layer(1, "h0", "h1", arrays), *layer(2, "h1", "y", arrays)]
    inputs = {"x": ["batch", "tokens", 32], "mask": ["batch", 1, 1, "tokens"]}
    workload = load_onnx(save(tmp_path, nodes, inputs, ["y"], arrays), batch=2, seq=16)
    assert {op.layers for op in workload.ops} == {(0, 1, 2)}
    kinds = [op.kind for op in workload.contractions()]
    assert kinds == [ContractionKind.MATMUL] * 3 + [ContractionKind.SCORE, ContractionKind.VALUE]
    score, value = list(workload.contractions())[3:]
    assert (score.gemm, value.gemm) == (GemmView(8, 16, 16, 8), GemmView(8, 8, 16, 16))
    fused = [way[0][0].ops for way in cover(workload, Fusions(epilogue=True, attention=True)) if len(way) > 1]
    assert [[type(op) for op in ops] for ops in fused] == [[Contraction, Stream, Contraction]]
    mask = fused[0][1].inputs[1]
    assert mask.shape == (2, 1, 1, 16)
    assert workload.parameters == 3 * (3 * 32 * 32 + 64)
    assert workload.flops == 3 * 2 * (3 * 32 * 32 * 32 + 2 * 2 * 4 * 16 * 16 * 8)
    assert not any(op.kind is StreamKind.SOFTMAX and op.epilogue for op in workload.ops if isinstance(op, Stream))


def test_shapes_that_the_graph_computes(tmp_path: Path) -> None:
    """Exporters write `x.expand(batch, tokens, 8)` and `x.view(batch, -1)` as arithmetic on shapes."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "axis"], ["batch1"]),
        helper.make_node("Concat", ["batch1", "minus", "eight"], ["wanted"], axis=0),
        helper.make_node("Shape", ["wanted"], ["rank"]),
        helper.make_node("ConstantOfShape", ["rank"], ["ones"], value=helper.make_tensor("v", 7, [1], [1])),
        helper.make_node("Mul", ["ones", "minus"], ["minuses"]),
        helper.make_node("Equal", ["wanted", "minuses"], ["open"]),
        helper.make_node("Where", ["open", "ones", "wanted"], ["full"]),
        helper.make_node("Expand", ["table", "full"], ["y0"]),
        helper.make_node("Add", ["x", "y0"], ["y1"]),
        helper.make_node("Concat", ["batch1", "minus"], ["flat"], axis=0),
        helper.make_node("Reshape", ["y1", "flat"], ["y2"]),
        helper.make_node("Identity", ["w"], ["w1"]),
        helper.make_node("Gemm", ["y2", "w1"], ["y"]),
    ]
    arrays = {
        "zero": np.array(0), "axis": np.array([0]), "minus": np.array([-1]), "eight": np.array([8]),
        "table": normal(1, 5, 8), "w": normal(40, 6),
    }  # fmt: skip
    workload = load_onnx(save(tmp_path, nodes, {"x": ["batch", 5, 8]}, ["y"], arrays), batch=3)
    (gemm,) = workload.contractions()
    assert gemm.gemm == GemmView(1, 6, 3, 40)
    assert workload.parameters == 40 + 40 * 6


def one_product(folder: Path, nodes: list[Any], inputs: dict[str, list[Any]], **arrays: np.ndarray) -> Contraction:
    kind = INT8 if any(name in ("ConvInteger", "MatMulInteger") for name in (n.op_type for n in nodes)) else FLOAT
    (op,) = load_onnx(save(folder, nodes, inputs, ["y"], arrays, kind)).contractions()
    return op


def test_quantised_weights_keep_their_type_and_their_zero(tmp_path: Path) -> None:
    values = np.where(prune(normal(32, 16), "1:4") != 0, 7, 3).astype(np.int8)  # 3 stands for zero
    expected = measure((values != 3).T)
    scale, zero = np.array(0.1, np.float32), np.array(3, np.int8)
    dequantised = one_product(
        tmp_path,
        [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["f"]), helper.make_node("MatMul", ["x", "f"], ["y"])],
        {"x": [5, 32]}, w=values, s=scale, z=zero,
    )  # fmt: skip
    integer = one_product(
        tmp_path, [helper.make_node("MatMulInteger", ["x", "w", "", "z"], ["y"])], {"x": [5, 32]}, w=values, z=zero
    )
    for op in (dequantised, integer):
        assert (str(op.a.dtype), op.a.shape, op.gemm) == ("int8", (16, 32), GemmView(1, 16, 5, 32))
        assert op.a.pattern.columns() == expected.columns()
    assert (str(dequantised.b.dtype), str(integer.b.dtype)) == ("fp32", "int8")


def test_products_of_other_shapes(tmp_path: Path) -> None:
    turned = one_product(
        tmp_path, [helper.make_node("Transpose", ["w"], ["t"]), helper.make_node("Gemm", ["x", "t"], ["y"], transA=1)],
        {"x": [32, 5]}, w=prune(normal(16, 32), "2:4"),
    )  # fmt: skip
    assert turned.gemm == GemmView(1, 16, 5, 32)
    assert turned.a.pattern.implies(NM(2, 4))
    einsum = one_product(
        tmp_path, [helper.make_node("Einsum", ["x", "z"], ["y"], equation="bid,bjd->bij")],
        {"x": [2, 5, 8], "z": [2, 7, 8]},
    )  # fmt: skip
    assert einsum.gemm == GemmView(2, 7, 5, 8)
    grown = one_product(
        tmp_path, [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])], {"x": [1, 6, 5, 5]},
        w=normal(6, 4, 2, 2),
    )  # fmt: skip
    assert grown.flops == 2 * 5 * 5 * 6 * 4 * 4
    assert grown.out.shape == (1, 4, 10, 10)
    vector = one_product(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [4, 32]}, w=normal(32))
    assert vector.gemm == GemmView(1, 1, 4, 32)
    conv = one_product(
        tmp_path, [helper.make_node("ConvInteger", ["x", "w"], ["y"])], {"x": [1, 3, 8]},
        w=np.ones((6, 3, 3), np.int8),
    )  # fmt: skip
    assert conv.gemm == GemmView(1, 6, 6, 9)


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (helper.make_node("LSTM", ["x", "w", "w"], ["y"], hidden_size=4, name="r"), "node 'r' is LSTM, whose products"),
        (helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="other", name="f"), "of domain 'other'"),
        (helper.make_node("Einsum", ["x", "w"], ["y"], equation="...i,ij->...j", name="e"), "expected two operands"),
    ],
)
def test_ops_that_hide_products_are_refused(node: Any, said: str, tmp_path: Path) -> None:
    path = save(tmp_path, [node], {"x": [1, 4, 4]}, ["y"], {"w": normal(4, 4)})
    with pytest.raises(UnsupportedError, match=said):
        load_onnx(path)


def test_what_stays_open_is_named(tmp_path: Path) -> None:
    path = save(
        tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [2, "tokens", 4]}, ["y"], {"w": normal(4, 4)}
    )
    with pytest.raises(InputError, match=r"input 'x' of 'model.onnx' leaves 'tokens' open, expected seq"):
        load_onnx(path)
    with pytest.raises(InputError, match="batch is 3, expected 2"):
        load_onnx(path, batch=3, seq=8)
    assert load_onnx(path, seq=8).flops == 2 * 2 * 8 * 4 * 4
    with pytest.raises(InputError, match="phase is 'decode'"):
        SOURCE.load(str(path), phase="decode", seq=8)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a file that exists"):
        load_onnx(tmp_path / "none.onnx")
    for content in (b"", b"\x80\x04garbage", cnn(tmp_path).read_bytes()[:300]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(InputError) as caught:
            load_onnx(tmp_path / "bad.onnx")
        assert "\n" not in str(caught.value)
    relu = save(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {"x": [2, 3]}, ["y"], {})
    with pytest.raises(InputError, match="no matmul, convolution or attention"):
        load_onnx(relu)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6))
def test_damage_never_escapes(tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]) -> None:
    path = cnn(tmp_path_factory.mktemp("damage"))
    raw = bytearray(path.read_bytes())
    for position, byte in changes:
        raw[position % len(raw)] = byte
    path.write_bytes(raw)
    with suppress(SimsparseError):
        load_onnx(path)
