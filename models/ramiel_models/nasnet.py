"""NASNet-A: two searched cells, one that keeps the size and one that halves it, stacked.

Every cell takes the results of the two cells before it. They are only ever used rectified, so a
cell's result is rectified once, and so is whatever several branches inside a cell share.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ramiel_models.builder import Dim, Net, channels, paper
from ramiel_models.layers import (
    avg_pool,
    batch_norm,
    conv,
    conv_bn,
    global_avg_pool,
    linear,
    max_pool,
)

EPSILON = 1e-3

SQUEEZE_GAIN = 1.0
"""Below √2 for the 1x1 convolutions in front of a cell, because the sums of two branches grow."""


def separable(
    net: Net, x: ir.Value, name: str, filters: int, kernel: int, stride: int = 1
) -> ir.Value:
    """Depthwise and 1x1 convolution, applied twice (appendix A.4); `x` is rectified already."""
    with net.scope(name):
        x = depthwise(net, x, "first", filters, kernel, stride)
        return depthwise(net, net.op("Relu", x), "second", filters, kernel, 1)


def depthwise(net: Net, x: ir.Value, name: str, filters: int, kernel: int, stride: int) -> ir.Value:
    """Depthwise convolution, 1x1 convolution, batch normalization."""
    size = channels(x)
    with net.scope(name):
        x = conv(net, x, "depthwise", size, kernel, stride=stride, groups=size, bias=False)
        x = conv(net, x, "pointwise", filters, bias=False, gain=1.0)
        return batch_norm(net, x, "bn", epsilon=EPSILON)


def squeeze(net: Net, x: ir.Value, name: str, filters: int) -> ir.Value:
    """1x1 convolution and batch normalization of a rectified value."""
    return conv_bn(net, x, name, filters, gain=SQUEEZE_GAIN, epsilon=EPSILON, activation=None)


def halve(net: Net, x: ir.Value, name: str, filters: int) -> ir.Value:
    """Half the size without losing pixels: even ones by one path, odd ones by another."""

    def path(x: ir.Value, name: str) -> ir.Value:
        x = avg_pool(net, x, 1, 2)
        return conv(net, x, name, filters // 2, bias=False, gain=SQUEEZE_GAIN)

    with net.scope(name):
        shifted = net.op("Pad", x, [0, 0, 0, 0, 0, 0, 1, 1])
        shifted = net.op("Slice", shifted, [1, 1], [2**31 - 1, 2**31 - 1], [2, 3])
        x = net.op("Concat", path(x, "even"), path(shifted, "odd"), axis=1)
        return batch_norm(net, x, "bn", epsilon=EPSILON)


def fit(net: Net, previous: ir.Value, x: ir.Value, filters: int) -> ir.Value:
    """The result of the cell before last, at the size of the last one's and with `filters`."""
    if previous.shape[2] == x.shape[2]:
        return squeeze(net, previous, "left", filters)
    return halve(net, previous, "left", filters)


def normal_cell(net: Net, x: ir.Value, previous: ir.Value, filters: int) -> ir.Value:
    """Figure 4, left: 6 · filters channels at the size of `x`."""
    right = squeeze(net, x, "right", filters)
    left = fit(net, previous, x, filters)
    right_relu, left_relu = net.op("Relu", right), net.op("Relu", left)
    left_mean = avg_pool(net, left, 3, 1, 1)
    pairs = [
        (
            separable(net, right_relu, "right5x5", filters, 5),
            separable(net, left_relu, "left3x3", filters, 3),
        ),
        (
            separable(net, left_relu, "left5x5", filters, 5),
            separable(net, left_relu, "left3x3_second", filters, 3),
        ),
        (avg_pool(net, right, 3, 1, 1), left),
        (left_mean, left_mean),
        (separable(net, right_relu, "right3x3", filters, 3), right),
    ]
    sums = [net.op("Add", a, b) for a, b in pairs]
    return net.op("Relu", net.op("Concat", left, *sums, axis=1), name="out")


def reduction_cell(net: Net, x: ir.Value, previous: ir.Value | None, filters: int) -> ir.Value:
    """Figure 4, right: 4 · filters channels at half the size of `x`.

    Without a `previous` result `x` itself takes its place, unsqueezed.
    """
    right = squeeze(net, x, "right", filters)
    right_relu = net.op("Relu", right)
    left_relu = x if previous is None else net.op("Relu", fit(net, previous, x, filters))
    right_max = max_pool(net, right, 3, 2, 1)
    inner = net.op(
        "Add",
        separable(net, right_relu, "right5x5", filters, 5, 2),
        separable(net, left_relu, "left7x7", filters, 7, 2),
    )
    with_max = net.op("Add", right_max, separable(net, left_relu, "left7x7_second", filters, 7, 2))
    with_mean = net.op(
        "Add", avg_pool(net, right, 3, 2, 1), separable(net, left_relu, "left5x5", filters, 5, 2)
    )
    inner_mean = net.op("Add", avg_pool(net, inner, 3, 1, 1), with_max)
    inner_max = net.op(
        "Add", separable(net, net.op("Relu", inner), "inner3x3", filters, 3), right_max
    )
    joined = net.op("Concat", with_max, with_mean, inner_mean, inner_max, axis=1)
    return net.op("Relu", joined, name="out")


def nasnet(
    name: str,
    *,
    stem: int,
    filters: int,
    repeats: int,
    skip_reduction: bool,
    batch: Dim,
    image_size: int,
    seed: int,
    opset: int,
) -> onnx.ModelProto:
    """Figure 2, right: two stem cells, then three groups of `repeats` normal cells.

    With `skip_reduction` the cell after a reduction cell reads the one two before it.
    """
    net = Net(name, seed=seed, opset=opset)
    image = net.input("image", [batch, 3, image_size, image_size], low=-1, high=1)
    previous = conv_bn(net, image, "stem", stem, 3, stride=2, padding=0, epsilon=EPSILON)
    with net.scope("stem_cell0"):
        x = reduction_cell(net, previous, None, filters // 4)
    with net.scope("stem_cell1"):
        previous, x = x, reduction_cell(net, x, previous, filters // 2)
    for group in range(3):
        width = filters << group
        if group > 0:
            with net.scope(f"reduction{group - 1}"):
                reduced = reduction_cell(net, x, previous, width)
            previous, x = previous if skip_reduction else x, reduced
        for index in range(group * repeats, (group + 1) * repeats):
            with net.scope(f"cell{index}"):
                previous, x = x, normal_cell(net, x, previous, width)
    net.output(linear(net, global_avg_pool(net, x), "classifier", 1000), "logits")
    return net.finish()


@paper("Zoph et al. 2017, Learning transferable architectures, arXiv:1707.07012")
def nasnet_mobile(
    *, batch: Dim = 1, image_size: int = 224, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """NASNet-A (4 @ 1056), the mobile one.

    Zoph et al., "Learning transferable architectures for scalable image recognition", 2017,
    arXiv:1707.07012, figure 4 and appendix A. Where the paper is silent this follows TensorFlow's
    slim model: two reduction cells as stem, the factorized reduction of a larger operand, and the
    cell after a reduction cell reads the one right before it. Poolings and convolutions of stride
    two are padded evenly on both sides.

    image: f32[batch, 3, image_size, image_size] → logits: f32[batch, 1000].
    """
    return nasnet(
        "nasnet_mobile",
        stem=32,
        filters=44,
        repeats=4,
        skip_reduction=False,
        batch=batch,
        image_size=image_size,
        seed=seed,
        opset=opset,
    )


@paper("Zoph et al. 2017, Learning transferable architectures, arXiv:1707.07012")
def nasnet_large(
    *, batch: Dim = 1, image_size: int = 331, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """NASNet-A (6 @ 4032), the large one.

    Zoph et al., "Learning transferable architectures for scalable image recognition", 2017,
    arXiv:1707.07012, figure 4 and appendix A, with the same choices as `nasnet_mobile`, except
    that the cell after a reduction cell reads the one two before it, as in slim's large model.

    image: f32[batch, 3, image_size, image_size] → logits: f32[batch, 1000].
    """
    return nasnet(
        "nasnet_large",
        stem=96,
        filters=168,
        repeats=6,
        skip_reduction=True,
        batch=batch,
        image_size=image_size,
        seed=seed,
        opset=opset,
    )
