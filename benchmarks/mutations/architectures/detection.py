"""A detection head: features at two scales, up-sampled and joined, boxes decoded in pixels, the best ones gathered."""

from __future__ import annotations

import numpy as np
from benchmarks.mutations.interface import Feeds, Reference
from benchmarks.mutations.sketch import Sketch

HEIGHT, WIDTH, STRIDE = 56, 72, 8
CELLS = (HEIGHT // STRIDE, WIDTH // STRIDE)
ANCHORS = np.array([[110.0, 90.0], [230.0, 310.0]])
"""Width and height in pixels of a picture of 896 × 1152: the largest areas are beyond what float16 holds."""

CLASSES, KEPT, SCALE = 4, 12, 16.0


def references() -> list[Reference]:
    """One network, opset 18; boxes, scores and classes come out."""
    net = Sketch("detection", opset=18, seed=505)
    image = net.input("image", "float32", ("batch", 3, HEIGHT, WIDTH))
    with net.scope("backbone"):
        x = image
        for name, inputs, outputs in (("c1", 3, 12), ("c2", 12, 16), ("c3", 16, 20)):
            with net.scope(name):
                x = net.node("LeakyRelu", _conv(net, x, inputs, outputs, 3, stride=2), alpha=0.1)
        with net.scope("c4"):
            deep = _silu(net, _conv(net, x, 20, 24, 3, stride=2))
    with net.scope("neck"):
        joined = _neck(net, x, deep)
    with net.scope("head"):
        raw = _conv(net, joined, 24, 2 * (5 + CLASSES), 1)
        boxes, objectness, classes = _decoded(net, raw)
    with net.scope("select"):
        outputs = _selected(net, boxes, objectness, classes)
    net.output(outputs[0], "boxes", "float32", ("batch", KEPT, 4))
    net.output(outputs[1], "scores", "float32", ("batch", KEPT))
    net.output(outputs[2], "classes", "int64", ("batch", KEPT))
    net.output(outputs[3], "areas", "float32", ("batch", KEPT))
    return [Reference("detection", "detection", net.proto(), [_feeds(3, 1), _feeds(2, 2), _feeds(5, 3)])]


def _feeds(batch: int, seed: int) -> Feeds:
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((batch, 3, HEIGHT // 4, WIDTH // 4)).repeat(4, 2).repeat(4, 3)
    fine = random.standard_normal((batch, 3, HEIGHT, WIDTH))
    mean = np.array([0.3, 0.0, -0.3])[None, :, None, None]
    return {"image": (coarse + 0.3 * fine + mean).astype(np.float32)}


def _conv(net: Sketch, x: str, inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1) -> str:
    weight = net.normal("weight", outputs, inputs // groups, size, size, gain=1.4)
    bias = net.weight("bias", 0.2 * net.random.standard_normal(outputs))
    pads = [size // 2] * 4
    return net.node(
        "Conv", x, weight, bias, kernel_shape=[size, size], strides=[stride, stride], pads=pads, group=groups
    )


def _silu(net: Sketch, x: str) -> str:
    return net.node("Mul", x, net.node("Sigmoid", x))


def _neck(net: Sketch, shallow: str, deep: str) -> str:
    """Deep features doubled twice over (nearest and linear), cut to size, joined with shallow ones. (B, 24, 7, 9)"""
    doubled = net.weight("scales", [1.0, 1.0, 2.0, 2.0])
    nearest = net.node(
        "Resize", deep, "", doubled, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    smooth = net.node("Resize", deep, "", doubled, mode="linear", coordinate_transformation_mode="half_pixel")
    near = net.node("Slice", nearest, net.ints(0, 0), net.ints(*CELLS), net.ints(2, 3))
    soft = net.node("Slice", smooth, net.ints(0, 0), net.ints(*CELLS), net.ints(2, 3))
    joined = net.node("Concat", near, soft, shallow, axis=1)  # (B, 68, 7, 9)
    with net.scope("mix"):
        mixed = _silu(net, _conv(net, joined, 68, 24, 1))
    with net.scope("refine"):
        refined = net.node("HardSwish", _conv(net, mixed, 24, 24, 3, groups=6))
    return net.node("Add", mixed, refined)


def _decoded(net: Sketch, raw: str) -> tuple[str, str, str]:
    """Boxes as (left, top, right, bottom) in pixels (B, N, 4), objectness (B, N, 1), class scores (B, N, C)."""
    H, W = CELLS  # noqa: N806
    split = net.node("Reshape", raw, net.ints(0, 2, 5 + CLASSES, H, W))  # (B, A, 5+C, H, W)
    last = net.node("Transpose", split, perm=[0, 1, 3, 4, 2])  # (B, A, H, W, 5+C)
    flat = net.node("Reshape", last, net.ints(0, -1, 5 + CLASSES))  # (B, N, 5+C)
    parts = net.weight("parts", [2, 2, 1, CLASSES], "int64")
    place, size, objectness, classes = net.multiple("Split", net.node("Sigmoid", flat), parts, outputs=4, axis=-1)
    rows, columns = np.meshgrid(np.arange(H), np.arange(W), indexing="ij")
    grid = np.tile(np.stack([columns, rows], -1).reshape(1, -1, 2), (2, 1, 1)).reshape(1, -1, 2)
    twice = net.scalar(2.0, "two")
    centre = net.node("Sub", net.node("Mul", place, twice), net.scalar(0.5, "half"))
    centre = net.node("Add", centre, net.weight("grid", grid))
    centre = net.node("Mul", centre, net.scalar(STRIDE * SCALE, "stride"))
    anchors = np.repeat(ANCHORS, H * W, 0)[None]  # (1, N, 2)
    extent = net.node("Pow", net.node("Mul", size, twice), net.scalar(2.0, "square"))
    extent = net.node("Mul", extent, net.weight("anchors", anchors))
    half = net.node("Div", extent, twice)
    corners = net.node("Concat", net.node("Sub", centre, half), net.node("Add", centre, half), axis=-1)
    corners = net.node("Clip", corners, net.scalar(0.0, "low"), net.scalar(WIDTH * SCALE, "high"))
    return corners, objectness, classes


def _selected(net: Sketch, boxes: str, objectness: str, classes: str) -> tuple[str, str, str, str]:
    weighted = net.node("Mul", classes, objectness)  # (B, N, C)
    best = net.node("ReduceMax", weighted, net.ints(-1, name="axes"), keepdims=0)  # (B, N)
    label = net.node("ArgMax", weighted, axis=-1, keepdims=0)  # (B, N)
    scores, order = net.multiple("TopK", best, net.ints(KEPT, name="k"), outputs=2, axis=-1, largest=1, sorted=1)
    chosen = net.node("GatherElements", label, order, axis=1)
    wide = net.node("Tile", net.node("Unsqueeze", order, net.ints(2, name="axes")), net.ints(1, 1, 4, name="repeats"))
    kept = net.node("GatherElements", boxes, wide, axis=1)  # (B, K, 4)
    left_top, right_bottom = net.multiple("Split", kept, net.ints(2, 2, name="halves"), outputs=2, axis=-1)
    sides = net.node("Sub", right_bottom, left_top)  # (B, K, 2)
    width = net.node("Gather", sides, net.scalar(0, "x", "int64"), axis=2)
    height = net.node("Gather", sides, net.scalar(1, "y", "int64"), axis=2)
    return kept, scores, chosen, net.node("Mul", width, height)
