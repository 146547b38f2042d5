"""Shipped convolutional networks: exact parameters and FLOPs, convolutions against plain loops, merged layers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from workload_tools import product

from simsparse.dtypes import dtype
from simsparse.errors import InputError
from simsparse.ops import Contraction, ContractionKind, GemmView, Role, Stream, StreamKind, Tensor, linear
from simsparse.sites import Fusions, cover
from simsparse.workload import Weight
from workloads.convnet import SOURCE
from workloads.convolution import conv_gradients, convolution
from workloads.huggingface import transformer
from workloads.merging import merge_layers

# Parameters as torchvision states them; FLOPs of the ImageNet networks as PyTorch's counter gives for transformers'
# ResNet and MobileNet (padded as in torchvision) and for VGG-19 as a Sequential.
IMAGENET = {
    "resnet-18": (11_689_512, 3_628_146_688), "resnet-34": (21_797_672, None), "resnet-50": (25_557_032, 8_178_368_512),
    "resnet-101": (44_549_160, None), "resnet-152": (60_192_808, None), "vgg-16": (138_365_992, None),
    "vgg-19": (143_678_248, 39_264_124_928), "mobilenet-v1": (4_231_976, 1_137_480_704),
    "mobilenet-v1-0.5": (1_331_592, 298_994_176), "mobilenet-v2": (3_504_872, 601_548_544),
    "mobilenet-v2-1.4": (6_108_776, None),
}  # fmt: skip
# The customary versions for small images (github.com/kuangliu/pytorch-cifar, DAWNBench's ResNet-9).
SMALL = {
    "resnet-9": 6_573_130, "resnet-18-cifar": 11_173_962, "resnet-50-cifar": 23_520_842, "vgg-19-cifar": 20_040_522,
    "mobilenet-v1-cifar": 3_217_226,
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_networks_are_exact(name: str) -> None:
    parameters, flops = IMAGENET[name]
    workload = SOURCE.load(name)
    assert workload.parameters == parameters
    assert flops is None or workload.flops == flops


@pytest.mark.parametrize("name", SMALL)
def test_networks_for_small_images_are_exact(name: str) -> None:
    assert SOURCE.load(name).parameters == SMALL[name]


def test_every_name_loads() -> None:
    for name in SOURCE.names():
        assert SOURCE.accepts(name)
        if name.endswith("tiny"):
            assert SOURCE.load(name).flops > 0


def test_batch_and_size_of_image_scale_the_work() -> None:
    assert SOURCE.load("resnet-50", batch=8).flops == 8 * SOURCE.load("resnet-50").flops
    head = 2 * 512 * 200
    cifar, tiny = SOURCE.load("resnet-18-cifar100"), SOURCE.load("resnet-18-tiny")
    assert tiny.flops - head == 4 * (cifar.flops - 2 * 512 * 100)
    assert SOURCE.load("resnet-50", batch=8).activation_bytes == 8 * SOURCE.load("resnet-50").activation_bytes


def test_live_activations_of_a_known_place() -> None:
    # The residual sum of the first stage: 256 channels at 56 x 56 twice, and the projection's input (64) is gone.
    bytes_each = 56 * 56 * 256 * 2
    assert SOURCE.load("resnet-50").activation_bytes >= 2 * bytes_each
    assert SOURCE.load("vgg-19", dtype="fp32").activation_bytes == 2 * SOURCE.load("vgg-19").activation_bytes


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [("resnet-50", {"phase": "decode"}, "phase is 'decode'"), ("resnet-50", {"seq": 8}, "seq is 8"),
     ("resnet-50", {"batch": 0}, "batch is 0"), ("resnet-50-0.5", {}, r"width is '0\.5'"),
     ("mobilenet-v1-99", {}, "width is '99'"), ("resnet-50", {"dtype": "fp12"}, "dtype is 'fp12'")],
)  # fmt: skip
def test_bad_options_are_refused(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SOURCE.load(name, **options)


def test_depthwise_is_a_batch_of_groups() -> None:
    ops = {op.name: op for op in SOURCE.load("mobilenet-v1").contractions()}
    assert ops["layers.0.dw"].gemm == GemmView(batch=32, m=1, n=112 * 112, k=9)
    assert ops["layers.0.pw"].gemm == GemmView(batch=1, m=64, n=112 * 112, k=32)


def test_folded_norms_and_sums_run_in_the_epilogue() -> None:
    sites = [way[0] for way in cover(SOURCE.load("resnet-50"), Fusions(epilogue=True))]
    heads = [site[0].ops[0] for site in sites]
    assert [op.name for op in heads if isinstance(op, Stream)] == ["maxpool", "avgpool"]
    assert [op.name for op in sites[0][0].ops] == ["conv1", "bn1", "bn1.relu"]


def test_modules_are_named_as_in_torchvision() -> None:
    names = {weight.tensor.name for weight in SOURCE.load("resnet-50").weights}
    assert {"conv1.weight", "layer3.0.downsample.0.weight", "layer3.*.conv2.weight", "fc.bias"} <= names
    third = next(w for w in SOURCE.load("resnet-50").weights if w.tensor.name == "layer3.*.conv2.weight")
    assert third.layers == (1, 2, 3, 4, 5)
    assert third.tensor.shape == (256, 256, 3, 3)


# Convolutions ---------------------------------------------------------------------------------------------------------


def evaluate(op: Contraction, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The contraction by its own definition: a sum over all dimensions, indices as the axes say."""
    out = np.zeros(op.out.shape)
    labels = [label for label, _ in op.dims]
    for place in itertools.product(*(range(extent) for _, extent in op.dims)):
        at = dict(zip(labels, place, strict=True))
        index = [
            tuple(sum(at[x] * by for x, by in axis) for axis in axes) for axes in (op.out_axes, op.a_axes, op.b_axes)
        ]
        out[index[0]] += a[index[1]] * b[index[2]]
    return out


def plain_convolution(weight: np.ndarray, x: np.ndarray, stride: int, dilation: int, groups: int) -> np.ndarray:
    images, _, height, width = x.shape
    outputs, per_group, kh, kw = weight.shape
    ph, pw = ((side - dilation * (k - 1) - 1) // stride + 1 for side, k in ((height, kh), (width, kw)))
    out = np.zeros((images, outputs, ph, pw))
    for o in range(outputs):
        first = o // (outputs // groups) * per_group
        for i, j in itertools.product(range(ph), range(pw)):
            rows = slice(i * stride, i * stride + dilation * kh, dilation)
            cols = slice(j * stride, j * stride + dilation * kw, dilation)
            out[:, o, i, j] = (x[:, first : first + per_group, rows, cols] * weight[o]).sum((1, 2, 3))
    return out


def tensor(name: str, values: np.ndarray, role: Role = Role.ACTIVATION) -> Tensor:
    return Tensor(name, values.shape, dtype("fp32"), role)


@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (1, 2, 4), (2, 2, 1)])
def test_a_convolution_and_its_weight_gradient_are_what_they_say(stride: int, dilation: int, groups: int) -> None:
    random = np.random.default_rng(stride + 10 * dilation)
    x, weight = random.standard_normal((2, 4, 7, 6)), random.standard_normal((4, 4 // groups, 3, 2))
    expected = plain_convolution(weight, x, stride, dilation, groups)
    op = convolution(
        "conv", tensor("w", weight, Role.WEIGHT), tensor("x", x), tensor("y", expected), stride=(stride, stride),
        dilation=(dilation, dilation), groups=groups,
    )  # fmt: skip
    np.testing.assert_allclose(evaluate(op, weight, x), expected)
    # The weight gradient of sum(y * g) is linear in the weight: its product with the weight is that sum.
    gradient = random.standard_normal(expected.shape)
    grad_input, grad_weight = conv_gradients(op)
    by_weight = evaluate(grad_weight, gradient, x)
    assert (by_weight * weight).sum() == pytest.approx((expected * gradient).sum())
    assert grad_input.flops == grad_weight.flops == op.flops
    assert grad_input.out.shape == x.shape
    assert grad_weight.out.shape == weight.shape


def test_gemm_views_of_the_gradients() -> None:
    op = product(SOURCE.load("resnet-18", batch=4), "layer2.0.conv1")
    assert op.kind is ContractionKind.CONV
    assert op.gemm == GemmView(batch=1, m=128, n=4 * 28 * 28, k=64 * 9)
    grad_input, grad_weight = conv_gradients(op)
    assert grad_input.gemm == GemmView(batch=1, m=64, n=4 * 28 * 28, k=128 * 9)
    assert grad_weight.gemm == GemmView(batch=1, m=128, n=64 * 9, k=4 * 28 * 28)
    assert grad_input.a.transposed
    assert (grad_input.name, grad_weight.name) == ("layer2.0.conv1.grad_input", "layer2.0.conv1.grad_weight")


def test_channels_that_do_not_fit_are_refused() -> None:
    x, weight, out = (tensor("t", np.zeros(shape)) for shape in ((1, 6, 8, 8), (4, 4, 3, 3), (1, 4, 6, 6)))
    with pytest.raises(InputError, match="groups of conv is 1"):
        convolution("conv", weight, x, out)


# Merged layers --------------------------------------------------------------------------------------------------------


def mlp_layers(widths: list[int]) -> tuple[list[Contraction | Stream], list[Weight]]:
    x = Tensor("x", (8, 16), dtype("fp16"), Role.ACTIVATION)
    ops: list[Contraction | Stream] = []
    weights = []
    for layer, width in enumerate(widths):
        for part, outputs in (("up", width), ("down", 16)):
            name = f"layers.{layer}.mlp.{part}"
            weight = Tensor(f"{name}.weight", (outputs, x.shape[1]), dtype("fp16"), Role.WEIGHT)
            out = Tensor(f"{name}.out", (8, outputs), dtype("fp16"), Role.ACTIVATION)
            ops.append(linear(name, weight, x, out, tokens=8))
            weights.append(Weight(weight))
            x = out
    return ops, weights


def test_identical_layers_become_one_entry() -> None:
    ops, weights = merge_layers(*mlp_layers([32, 64, 32, 32]))
    assert [(op.name, op.layers) for op in ops] == [
        ("layers.*.mlp.up", (0, 2, 3)), ("layers.*.mlp.down", (0, 2, 3)), ("layers.1.mlp.up", ()),
        ("layers.1.mlp.down", ()),
    ]  # fmt: skip
    assert ops[2].inputs[1].name == "layers.0.mlp.down.out".replace("0", "*")
    assert {(w.tensor.name, w.layers) for w in weights} == {
        ("layers.*.mlp.up.weight", (0, 2, 3)), ("layers.*.mlp.down.weight", (0, 2, 3)),
        ("layers.1.mlp.up.weight", ()), ("layers.1.mlp.down.weight", ()),
    }  # fmt: skip


def test_a_layer_whose_epilogue_lies_outside_stays_alone() -> None:
    # VGG's layers are single modules; merging them would part convolutions from their activations.
    assert not any(op.layers for op in SOURCE.load("vgg-19").ops)


@pytest.mark.parametrize("name", ["resnet-18-cifar", "mobilenet-v2", "vgg-19-cifar"])
def test_a_training_step_is_three_forward_passes_less_the_gradient_of_the_image(name: str) -> None:
    forward, step = SOURCE.load(name, batch=4), SOURCE.load(name, batch=4, phase="train")
    first = next(forward.contractions())
    assert step.flops == 3 * forward.flops - first.flops
    assert step.parameters == forward.parameters
    # Norms of a training step take the statistics of the batch, in passes of their own.
    norms = [op for op in step.ops if isinstance(op, Stream) and op.kind is StreamKind.NORM]
    assert norms
    assert not any(op.epilogue for op in norms)


def test_the_small_vision_transformer_for_cifar_100() -> None:
    patches, tokens, dim, wide = 3 * 4 * 4, 8 * 8 + 1, 512, 2048
    layer = 4 * (dim * dim + dim) + 2 * dim * wide + wide + dim + 4 * dim
    workload = transformer("vit-cifar100", batch=2)
    assert workload.parameters == dim * patches + dim + dim + tokens * dim + 6 * layer + 2 * dim + 100 * dim + 100
    products = 6 * tokens * (4 * dim * dim + 2 * dim * wide + 2 * tokens * dim)
    assert workload.flops == 2 * 2 * (64 * patches * dim + products + 100 * dim)
