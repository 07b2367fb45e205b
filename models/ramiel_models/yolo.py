"""YOLOv5: a cross-stage partial backbone, a path aggregation neck and three detection heads."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from ramiel_models.builder import Dim, Net, channels, paper
from ramiel_models.layers import Pair, conv, conv_bn, max_pool, upsample

EPSILON = 1e-3

CLASSES = 80

SILU_GAIN = 1.65
"""Gain after x · sigmoid(x), which keeps 0.36 of a unit second moment."""

ANCHORS = {
    8: ((10, 13), (16, 30), (33, 23)),
    16: ((30, 61), (62, 45), (59, 119)),
    32: ((116, 90), (156, 198), (373, 326)),
}
"""Stride of a head → width and height of its anchors, in pixels."""


def conv_silu(
    net: Net,
    x: ir.Value,
    name: str,
    filters: int,
    kernel: int = 1,
    stride: int = 1,
    padding: Pair | None = None,
) -> ir.Value:
    """Convolution, batch normalization, and x · sigmoid(x)."""
    x = conv_bn(
        net,
        x,
        name,
        filters,
        kernel,
        stride=stride,
        padding=padding,
        gain=SILU_GAIN,
        epsilon=EPSILON,
        activation=None,
    )
    with net.scope(name):
        return net.op("Mul", x, net.op("Sigmoid", x))


def bottleneck(net: Net, x: ir.Value, shortcut: bool) -> ir.Value:
    """1x1 and 3x3 convolutions, added to the operand in the backbone only."""
    y = conv_silu(net, x, "conv1", channels(x))
    y = conv_silu(net, y, "conv2", channels(x), 3)
    return net.op("Add", x, y) if shortcut else y


def c3(
    net: Net, x: ir.Value, name: str, filters: int, depth: int = 1, *, shortcut: bool = False
) -> ir.Value:
    """Cross-stage partial block (Wang et al. 2019, arXiv:1911.11929) with `depth` bottlenecks."""
    with net.scope(name):
        deep = conv_silu(net, x, "deep", filters // 2)
        for index in range(depth):
            with net.scope(f"bottleneck{index}"):
                deep = bottleneck(net, deep, shortcut)
        flat = conv_silu(net, x, "flat", filters // 2)
        return conv_silu(net, net.op("Concat", deep, flat, axis=1), "out", filters)


def sppf(net: Net, x: ir.Value, name: str) -> ir.Value:
    """Spatial pyramid pooling by three poolings in a row, all of them joined."""
    filters = channels(x)
    with net.scope(name):
        levels = [conv_silu(net, x, "in", filters // 2)]
        for _ in range(3):
            levels.append(max_pool(net, levels[-1], 5, 1, 2))
        return conv_silu(net, net.op("Concat", *levels, axis=1), "out", filters)


def backbone(net: Net, x: ir.Value, width: int) -> list[ir.Value]:
    """CSP-Darknet: features at strides 8, 16 and 32."""
    x = conv_silu(net, x, "conv0", width, 6, 2, padding=2)
    features = []
    for index, depth in enumerate([1, 2, 3, 1], start=1):
        x = conv_silu(net, x, f"conv{index}", width << index, 3, 2)
        x = c3(net, x, f"c3_{index}", width << index, depth, shortcut=True)
        features.append(x)
    features[-1] = sppf(net, x, "sppf")
    return features[1:]


def neck(net: Net, p3: ir.Value, p4: ir.Value, p5: ir.Value) -> list[ir.Value]:
    """Path aggregation (Liu et al. 2018, arXiv:1803.01534): down to stride 8 and up again."""

    def merged(a: ir.Value, b: ir.Value, name: str, filters: int) -> ir.Value:
        return c3(net, net.op("Concat", a, b, axis=1), name, filters)

    p5 = conv_silu(net, p5, "lateral5", channels(p4))
    p4 = merged(upsample(net, p5, 2), p4, "top_down4", channels(p4))
    p4 = conv_silu(net, p4, "lateral4", channels(p3))
    small = merged(upsample(net, p4, 2), p3, "top_down3", channels(p3))
    medium = conv_silu(net, small, "down3", channels(small), 3, 2)
    medium = merged(medium, p4, "bottom_up4", 2 * channels(small))
    large = conv_silu(net, medium, "down4", channels(medium), 3, 2)
    large = merged(large, p5, "bottom_up5", 2 * channels(medium))
    return [small, medium, large]


def detect(net: Net, x: ir.Value, stride: int) -> tuple[ir.Value, ir.Value]:
    """Decode one level's boxes [batch, n, 4] and scores [batch, n, 1 + classes].

    Boxes are centre and size in pixels, of z = sigmoid(x): (2z - ½ + cell) · stride, and
    (2z)² · anchor.
    """
    anchors = np.array(ANCHORS[stride], np.float32).reshape(1, -1, 1, 1, 2)
    count = anchors.shape[1]
    fields = 5 + CLASSES
    raw = conv(net, x, "conv", count * fields, gain=1.0)
    assert raw.shape is not None
    height, width = raw.shape[2], raw.shape[3]
    raw = net.op("Reshape", raw, [0, count, fields, height, width])
    raw = net.op("Sigmoid", net.op("Transpose", raw, perm=[0, 1, 3, 4, 2]))
    xy, wh, scores = net.ops("Split", raw, [2, 2, 1 + CLASSES], results=3, axis=4)
    corner = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) - 0.5
    xy = net.op("Add", net.op("Mul", xy, 2.0), net.constant("corner", corner[None, None]))
    xy = net.op("Mul", xy, float(stride))
    wh = net.op("Pow", net.op("Mul", wh, 2.0), 2.0)
    wh = net.op("Mul", wh, net.constant("anchors", anchors))
    boxes = net.op("Concat", xy, wh, axis=4)
    cells = count * height * width
    return (
        net.op("Reshape", boxes, [0, cells, 4]),
        net.op("Reshape", scores, [0, cells, 1 + CLASSES]),
    )


def yolov5(
    name: str, width: int, *, batch: Dim, image_size: int, seed: int, opset: int
) -> onnx.ModelProto:
    """The variant whose first convolution has `width` filters."""
    net = Net(name, seed=seed, opset=opset)
    x = net.input("image", [batch, 3, image_size, image_size], low=0, high=1)
    with net.scope("backbone"):
        features = backbone(net, x, width)
    with net.scope("neck"):
        features = neck(net, *features)
    boxes, scores = [], []
    for stride, feature in zip(ANCHORS, features, strict=True):
        with net.scope(f"detect{stride}"):
            level_boxes, level_scores = detect(net, feature, stride)
        boxes.append(level_boxes)
        scores.append(level_scores)
    net.output(net.op("Concat", *boxes, axis=1), "boxes")
    net.output(net.op("Concat", *scores, axis=1), "scores")
    return net.finish()


@paper("Jocher et al. 2021, YOLOv5 6.0, doi:10.5281/zenodo.3908559")
def yolov5n(
    *, batch: Dim = 1, image_size: int = 640, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """YOLOv5n 6.0.

    Jocher et al., "YOLOv5", release 6.0, 2021, doi:10.5281/zenodo.3908559: a published model
    without a paper. Boxes are decoded as in its ONNX export, but boxes and scores stay two
    outputs: pixels and probabilities share no tolerance. `image_size` must be a multiple of 32.

    image: f32[batch, 3, image_size, image_size] → boxes: f32[batch, n, 4], scores: f32[batch, n,
    81], objectness first, with n = 63 · (image_size / 32)².
    """
    return yolov5("yolov5n", 16, batch=batch, image_size=image_size, seed=seed, opset=opset)


@paper("Jocher et al. 2021, YOLOv5 6.0, doi:10.5281/zenodo.3908559")
def yolov5s(
    *, batch: Dim = 1, image_size: int = 640, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """YOLOv5s 6.0: YOLOv5n with twice its width.

    Jocher et al., "YOLOv5", release 6.0, 2021, doi:10.5281/zenodo.3908559; see `yolov5n`.

    image: f32[batch, 3, image_size, image_size] → boxes: f32[batch, n, 4], scores: f32[batch, n,
    81], objectness first, with n = 63 · (image_size / 32)².
    """
    return yolov5("yolov5s", 32, batch=batch, image_size=image_size, seed=seed, opset=opset)
