"""HRNet: branches of different resolutions run side by side and exchange after every module."""

from __future__ import annotations

import math
from functools import reduce

import onnx
import onnx_ir as ir

from ramiel_models.builder import Dim, Net, channels, paper
from ramiel_models.layers import HE_GAIN, conv_bn, global_avg_pool, linear, upsample
from ramiel_models.resnet import RESIDUAL_GAIN, bottleneck

WIDTHS = (16, 32, 64, 128)
"""Channels of the branches, from high to low resolution."""

BLOCKS = 2
"""Basic blocks of each branch in each module."""

HEAD_WIDTHS = (32, 64, 128, 256)
"""Widths of the classification head's bottlenecks; each gives four times as many channels."""


def basic_block(net: Net, x: ir.Value) -> ir.Value:
    """Two 3x3 convolutions and a shortcut (He et al. 2015, arXiv:1512.03385, figure 5, left)."""
    width = channels(x)
    y = conv_bn(net, x, "conv1", width, 3)
    y = conv_bn(net, y, "conv2", width, 3, gain=RESIDUAL_GAIN, activation=None)
    return net.op("Relu", net.op("Add", y, x))


def lowered(net: Net, x: ir.Value, steps: int, filters: int, gain: float) -> ir.Value:
    """Halve the size `steps` times; only the last step changes the channels."""
    for step in range(steps - 1):
        x = conv_bn(net, x, f"down{step}", channels(x), 3, stride=2)
    name = f"down{steps - 1}"
    return conv_bn(net, x, name, filters, 3, stride=2, gain=gain, activation=None)


def raised(net: Net, x: ir.Value, steps: int, filters: int, gain: float) -> ir.Value:
    """1x1 convolution to `filters` channels, then double the size `steps` times at once."""
    x = conv_bn(net, x, "up", filters, gain=gain, activation=None)
    with net.scope("up"):
        return upsample(net, x, 2**steps)


def exchange(net: Net, branches: list[ir.Value]) -> list[ir.Value]:
    """Figure 3: every branch becomes the sum of all branches at its own resolution."""
    gain = HE_GAIN / math.sqrt(len(branches))
    fused = []
    for to, target in enumerate(branches):
        terms = []
        for origin, source in enumerate(branches):
            with net.scope(f"fuse{origin}to{to}"):
                if origin > to:
                    source = raised(net, source, origin - to, channels(target), gain)
                elif origin < to:
                    source = lowered(net, source, to - origin, channels(target), gain)
            terms.append(source)
        with net.scope(f"fuse{to}"):
            fused.append(net.op("Relu", reduce(lambda a, b: net.op("Add", a, b), terms)))
    return fused


def stage(net: Net, branches: list[ir.Value]) -> list[ir.Value]:
    """One module: basic blocks on every branch, then the exchange."""
    results = []
    for index, x in enumerate(branches):
        for block in range(BLOCKS):
            with net.scope(f"branch{index}.{block}"):
                x = basic_block(net, x)
        results.append(x)
    return exchange(net, results)


def classify(net: Net, branches: list[ir.Value]) -> ir.Value:
    """Figure 4(c) as in the classification code: widen, and add downwards from high to low."""
    wide = []
    for index, (x, width) in enumerate(zip(branches, HEAD_WIDTHS, strict=True)):
        with net.scope(f"widen{index}"):
            wide.append(bottleneck(net, x, width))
    x = wide[0]
    for index, y in enumerate(wide[1:]):
        with net.scope(f"join{index}"):
            down = conv_bn(net, x, "down", channels(y), 3, stride=2, gain=1.0)
            x = net.op("Add", y, down)
    x = conv_bn(net, x, "final", 2048)
    return linear(net, global_avg_pool(net, x), "classifier", 1000)


@paper("Wang et al. 2019, Deep high-resolution representation learning, arXiv:1908.07919")
def hrnet_w18_small(
    *, batch: Dim = 1, image_size: int = 224, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """HRNet-W18-Small (v1).

    Wang et al., "Deep high-resolution representation learning for visual recognition", 2019,
    arXiv:1908.07919, figures 2 to 4. The small variant is the authors' (HRNet-Image-Classification,
    hrnet_w18_small_v1), which timm has too: one module per stage, two blocks per branch, widths
    from 16. `image_size` must be a multiple of 32.

    image: f32[batch, 3, image_size, image_size] → logits: f32[batch, 1000].
    """
    net = Net("hrnet_w18_small", seed=seed, opset=opset)
    x = net.input("image", [batch, 3, image_size, image_size], low=-2, high=2)
    x = conv_bn(net, x, "stem1", 64, 3, stride=2)
    x = conv_bn(net, x, "stem2", 64, 3, stride=2)
    with net.scope("stage1"):
        x = bottleneck(net, x, 32)
    branches = [
        conv_bn(net, x, "transition1.0", WIDTHS[0], 3),
        conv_bn(net, x, "transition1.1", WIDTHS[1], 3, stride=2),
    ]
    with net.scope("stage2"):
        branches = stage(net, branches)
    for number, width in enumerate(WIDTHS[2:], start=2):
        branches.append(conv_bn(net, branches[-1], f"transition{number}", width, 3, stride=2))
        with net.scope(f"stage{number + 1}"):
            branches = stage(net, branches)
    with net.scope("head"):
        logits = classify(net, branches)
    net.output(logits, "logits")
    return net.finish()
