"""Shipped convolutional networks: ResNet-9/18/34/50/101/152, VGG-16/19, MobileNet v1 and v2, at three sizes of image.

A name is `<network>[-<width>][-<data set>]`: `resnet-50`, `resnet-18-cifar`, `vgg-19-tiny`, `mobilenet-v1-0.75`.
Without a data set it is ImageNet (1000 classes at 224 x 224), for ResNet-9 CIFAR-10. On small images (CIFAR at 32 x 32
with 10 or 100 classes, Tiny ImageNet at 64 x 64 with 200) ResNets start with a 3 x 3 convolution of stride 1 and no
pooling, MobileNets with stride 1 (v2 also in its second stage), and VGG ends in one linear layer on pooled features, as
is customary. Modules are named as in torchvision, of which the ImageNet versions have all parameters.

References
----------
.. [1] ResNet: arXiv:1512.03385 (v1.5: the stride sits in the 3 x 3). VGG with batch norm: arXiv:1409.1556.
.. [2] MobileNet: arXiv:1704.04861, v2: arXiv:1801.04381.
.. [3] ResNet-9 as in DAWNBench: https://github.com/davidcpage/cifar10-fast
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from simsparse.dtypes import dtype as read_dtype
from simsparse.errors import InputError, UnknownNameError
from simsparse.ops import Tensor
from simsparse.workload import Phase, Workload
from workloads.network import Network


@dataclass(frozen=True)
class DataSet:
    """Images of `side` x `side` pixels, in `classes`."""

    side: int
    classes: int

    @property
    def small(self) -> bool:
        """Whether networks for it leave out the early reduction."""
        return self.side <= 64


DATA_SETS = {
    "imagenet": DataSet(224, 1000), "cifar": DataSet(32, 10), "cifar100": DataSet(32, 100), "tiny": DataSet(64, 200),
}  # fmt: skip
Body = Callable[[Network, Tensor, DataSet, float], None]


def _conv_norm_relu(
    net: Network, conv: str, norm: str, x: Tensor, channels: int, kernel: int = 3, *, stride: int = 1, groups: int = 1
) -> Tensor:
    x = net.conv(conv, x, channels, kernel, stride=stride, groups=groups)
    return net.relu(f"{norm}.relu", net.batch_norm(norm, x))


def _resnet(depths: tuple[int, ...], *, bottleneck: bool) -> Body:
    def build(net: Network, x: Tensor, data: DataSet, width: float) -> None:
        if data.small:
            x = _conv_norm_relu(net, "conv1", "bn1", x, 64)
        else:
            x = _conv_norm_relu(net, "conv1", "bn1", x, 64, 7, stride=2)
            x = net.pool("maxpool", x, 3, stride=2, padding=1)
        block = _bottleneck if bottleneck else _basic_block
        for stage, depth in enumerate(depths):
            for index in range(depth):
                stride = 2 if stage and not index else 1
                x = block(net, f"layer{stage + 1}.{index}", x, 64 << stage, stride)
        net.linear("fc", net.global_pool("avgpool", x), data.classes)

    return build


def _basic_block(net: Network, name: str, x: Tensor, channels: int, stride: int) -> Tensor:
    y = _conv_norm_relu(net, f"{name}.conv1", f"{name}.bn1", x, channels, stride=stride)
    y = net.batch_norm(f"{name}.bn2", net.conv(f"{name}.conv2", y, channels))
    return _close_block(net, name, x, y, stride)


def _bottleneck(net: Network, name: str, x: Tensor, channels: int, stride: int) -> Tensor:
    y = _conv_norm_relu(net, f"{name}.conv1", f"{name}.bn1", x, channels, 1)
    y = _conv_norm_relu(net, f"{name}.conv2", f"{name}.bn2", y, channels, stride=stride)
    y = net.batch_norm(f"{name}.bn3", net.conv(f"{name}.conv3", y, 4 * channels, 1))
    return _close_block(net, name, x, y, stride)


def _close_block(net: Network, name: str, x: Tensor, y: Tensor, stride: int) -> Tensor:
    """Add the shortcut, projected where shapes differ."""
    if stride > 1 or x.shape[1] != y.shape[1]:
        x = net.conv(f"{name}.downsample.0", x, y.shape[1], 1, stride=stride)
        x = net.batch_norm(f"{name}.downsample.1", x)
    return net.relu(f"{name}.relu", net.add(f"{name}.add", y, x))


def _resnet9(net: Network, x: Tensor, data: DataSet, width: float) -> None:
    """Convolutions of 64 to 512 channels, pooled by 2, and a residual pair after the second and the last."""

    def unit(name: str, x: Tensor, channels: int) -> Tensor:
        return _conv_norm_relu(net, f"{name}.conv", f"{name}.bn", x, channels)

    x = unit("prep", x, 64)
    for name, channels, residual in (("layer1", 128, True), ("layer2", 256, False), ("layer3", 512, True)):
        x = net.pool(f"{name}.pool", unit(name, x, channels), 2)
        if residual:
            y = unit(f"{name}.residual.1", unit(f"{name}.residual.0", x, channels), channels)
            x = net.add(f"{name}.add", y, x)
    net.linear("linear", net.global_pool("pool", x), data.classes)


def _vgg(convs_by_stage: tuple[int, ...]) -> Body:
    def build(net: Network, x: Tensor, data: DataSet, width: float) -> None:
        index = 0
        for channels, convs in zip((64, 128, 256, 512, 512), convs_by_stage, strict=True):
            for _ in range(convs):
                x = net.conv(f"features.{index}", x, channels, bias=True)
                x = net.relu(f"features.{index + 2}", net.batch_norm(f"features.{index + 1}", x))
                index += 3
            x = net.pool(f"features.{index}", x, 2)
            index += 1
        if data.small:
            net.linear("classifier", net.global_pool("avgpool", x), data.classes)
            return
        for layer in (0, 3):
            x = net.relu(f"classifier.{layer + 1}", net.linear(f"classifier.{layer}", x, 4096))
        net.linear("classifier.6", x, data.classes)

    return build


def _mobilenet_v1(net: Network, x: Tensor, data: DataSet, width: float) -> None:
    x = _conv_norm_relu(net, "conv1", "bn1", x, int(32 * width), stride=1 if data.small else 2)
    plan = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
    for index, (channels, stride) in enumerate(plan):
        name = f"layers.{index}"
        x = _conv_norm_relu(net, f"{name}.dw", f"{name}.dw_bn", x, x.shape[1], stride=stride, groups=x.shape[1])
        x = _conv_norm_relu(net, f"{name}.pw", f"{name}.pw_bn", x, int(channels * width), 1)
    net.linear("fc", net.global_pool("avgpool", x), data.classes)


def _mobilenet_v2(net: Network, x: Tensor, data: DataSet, width: float) -> None:
    x = _conv_norm_relu(net, "features.0.0", "features.0.1", x, _by_eight(32 * width), stride=1 if data.small else 2)
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    index = 1
    for stage, (expansion, channels, repeats, stride) in enumerate(plan):
        first = 1 if stage == 1 and data.small else stride
        for repeat in range(repeats):
            step = 1 if repeat else first
            x = _inverted_residual(net, f"features.{index}", x, expansion, _by_eight(channels * width), step)
            index += 1
    last = _by_eight(1280 * max(1.0, width))
    x = _conv_norm_relu(net, f"features.{index}.0", f"features.{index}.1", x, last, 1)
    net.linear("classifier.1", net.global_pool("avgpool", x), data.classes)


def _inverted_residual(net: Network, name: str, x: Tensor, expansion: int, channels: int, stride: int) -> Tensor:
    inside, y, part = x.shape[1] * expansion, x, 0
    if expansion > 1:
        y = _conv_norm_relu(net, f"{name}.conv.0.0", f"{name}.conv.0.1", y, inside, 1)
        part = 1
    y = _conv_norm_relu(net, f"{name}.conv.{part}.0", f"{name}.conv.{part}.1", y, inside, stride=stride, groups=inside)
    y = net.batch_norm(f"{name}.conv.{part + 2}", net.conv(f"{name}.conv.{part + 1}", y, channels, 1))
    return net.add(f"{name}.add", y, x) if stride == 1 and x.shape[1] == channels else y


def _by_eight(channels: float) -> int:
    """The nearest multiple of 8 that loses at most a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


BODIES: dict[str, Body] = {
    "resnet-9": _resnet9,
    "resnet-18": _resnet((2, 2, 2, 2), bottleneck=False),
    "resnet-34": _resnet((3, 4, 6, 3), bottleneck=False),
    "resnet-50": _resnet((3, 4, 6, 3), bottleneck=True),
    "resnet-101": _resnet((3, 4, 23, 3), bottleneck=True),
    "resnet-152": _resnet((3, 8, 36, 3), bottleneck=True),
    "vgg-16": _vgg((2, 2, 3, 3, 3)),
    "vgg-19": _vgg((2, 2, 4, 4, 4)),
    "mobilenet-v1": _mobilenet_v1,
    "mobilenet-v2": _mobilenet_v2,
}
WIDTHS = {"mobilenet-v1": (0.25, 0.5, 0.75), "mobilenet-v2": (0.35, 0.5, 0.75, 1.4)}
_NAME = re.compile(
    rf"({'|'.join(sorted(BODIES, key=len, reverse=True))})(?:-(\d*\.?\d+))?(?:-({'|'.join(DATA_SETS)}))?"
)


class ConvnetSource:
    """Workload source for the networks of this module."""

    def names(self) -> list[str]:
        """Every network at every data set, and the customary widths."""
        widths = [f"{name}-{width:g}" for name in BODIES for width in WIDTHS.get(name, ())]
        plain = [*BODIES, *widths]
        return sorted(plain + [f"{name}-{data}" for name in plain for data in DATA_SETS])

    def accepts(self, spec: str) -> bool:
        """Whether it is such a name."""
        return _NAME.fullmatch(spec) is not None

    def load(
        self, spec: str, *, phase: str | None = None, batch: int = 1, seq: int | None = None,
        context: int | None = None, dtype: str = "fp16",
    ) -> Workload:  # fmt: skip
        """One pass over a batch of images (`encode`), or a training step (`train`).

        Raises
        ------
        InputError
            For a phase, length or context that images do not have, or a width where the network has none.
        """
        check_image_options(phase, batch, seq, context)
        match = _NAME.fullmatch(spec)
        if match is None:
            raise UnknownNameError.near("network", spec, self.names())
        body, data = match[1], match[3] or ("cifar" if match[1] == "resnet-9" else "imagenet")
        width = float(match[2] or 1.0)
        if match[2] and (body not in WIDTHS or not 0.05 <= width <= 8):
            raise InputError.expected("width", match[2], f"none or, for {' and '.join(WIDTHS)}, one from 0.05 to 8")
        training = phase == Phase.TRAIN
        net = Network(batch, read_dtype(dtype), training=training)
        BODIES[body](net, net.image(3, DATA_SETS[data].side), DATA_SETS[data], width)
        forward = net.workload(spec)
        if not training:
            return forward
        from workloads.training import training_step

        return training_step(forward)


def check_image_options(phase: str | None, batch: int, seq: int | None, context: int | None) -> None:
    """Refuse what a network without tokens cannot have."""
    if phase not in (None, Phase.ENCODE, Phase.TRAIN):
        raise InputError.expected("phase", phase, "encode or train for a network without tokens")
    for label, value in (("seq", seq), ("context", context)):
        if value is not None:
            raise InputError.expected(label, value, "nothing for a network without tokens")
    if batch < 1:
        raise InputError.expected("batch", batch, "at least 1")


SOURCE = ConvnetSource()
