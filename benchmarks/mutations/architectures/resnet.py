"""A residual network with its batch norms kept as nodes: grouped, dilated and strided convolutions, averaged skips."""

from __future__ import annotations

import numpy as np
from benchmarks.mutations.interface import Feeds, Reference
from benchmarks.mutations.sketch import Sketch

CLASSES = 10
HEIGHT, WIDTH = 37, 29
"""Odd and different, so that no axis can be taken for another and strides do not divide."""


def references() -> list[Reference]:
    """One network of 4 blocks, opset 17."""
    net = Sketch("resnet", opset=17, seed=101)
    x = net.input("image", "float32", ("batch", 3, HEIGHT, WIDTH))
    with net.scope("stem"):
        x = _conv(net, x, 3, 16, 5, stride=2)
        x = net.node("Relu", x)
        x = net.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    with net.scope("block1"):
        x = _block(net, x, 16, 16)
    with net.scope("block2"):
        x = _block(net, x, 16, 32, stride=2, groups=4)
    with net.scope("block3"):
        x = _block(net, x, 32, 32, dilation=2)
    with net.scope("block4"):
        x = _block(net, x, 32, 48, stride=2)
    with net.scope("head"):
        x = net.node("Flatten", net.node("GlobalAveragePool", x), axis=1)
        hidden = net.node("Gemm", x, net.normal("fc1.weight", 48, 48), _bias(net, "fc1.bias", 48), transB=1)
        hidden = net.node("Relu", hidden)
        logits = net.node(
            "Gemm", hidden, net.normal("fc2.weight", CLASSES, 48), _bias(net, "fc2.bias", CLASSES), transB=1
        )
        probabilities = net.node("Softmax", logits, axis=-1)
    net.output(logits, "logits", "float32", ("batch", CLASSES))
    net.output(probabilities, "probabilities", "float32", ("batch", CLASSES))
    return [Reference("resnet", "resnet", net.proto(), [_feeds(3, 1), _feeds(2, 2), _feeds(5, 3)])]


def _feeds(batch: int, seed: int) -> Feeds:
    """Pictures as they come out of a normalisation: smooth, and each channel with its own mean."""
    random = np.random.default_rng(seed)
    rough = random.standard_normal((batch, 3, HEIGHT, WIDTH))
    smooth = sum(np.roll(rough, (i, j), (2, 3)) for i in range(3) for j in range(3)) / 3  # neighbours alike
    offset = np.array([0.4, -0.1, -0.5])[None, :, None, None]
    return {"image": (smooth + offset).astype(np.float32)}


def _bias(net: Sketch, name: str, size: int) -> str:
    return net.weight(name, 0.3 * net.random.standard_normal(size))


def _conv(
    net: Sketch, x: str, inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1, dilation: int = 1
) -> str:
    """A convolution without bias and the batch norm after it, with statistics as training leaves them."""
    pad = dilation * (size - 1) // 2
    x = net.node(
        "Conv",
        x,
        net.normal("conv.weight", outputs, inputs // groups, size, size, gain=1.4),
        kernel_shape=[size, size],
        strides=[stride, stride],
        pads=[pad] * 4,
        group=groups,
        dilations=[dilation, dilation],
    )
    return net.node(
        "BatchNormalization",
        x,
        net.uniform("norm.weight", outputs, low=0.5, high=1.5),
        _bias(net, "norm.bias", outputs),
        _bias(net, "norm.mean", outputs),
        net.uniform("norm.variance", outputs, low=0.4, high=2.0),
        epsilon=1e-5,
    )


def _block(
    net: Sketch, x: str, inputs: int, outputs: int, *, stride: int = 1, groups: int = 1, dilation: int = 1
) -> str:
    y = net.node("Relu", _conv(net, x, inputs, outputs, 3, stride=stride, groups=groups))
    y = _conv(net, y, outputs, outputs, 3, dilation=dilation)
    if stride != 1:
        x = net.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, count_include_pad=0)
    if inputs != outputs:
        with net.scope("skip"):
            x = _conv(net, x, inputs, outputs, 1)
    return net.node("Relu", net.node("Add", y, x))
