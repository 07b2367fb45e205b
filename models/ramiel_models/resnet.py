"""ResNet: bottleneck blocks whose results are added to their operands."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ramiel_models.builder import Dim, Net, channels, paper
from ramiel_models.layers import HE_GAIN, conv_bn, global_avg_pool, linear, max_pool

EXPANSION = 4
"""A bottleneck's result has this many times the channels of its 3x3 convolution."""

RESIDUAL_GAIN = 0.5 * HE_GAIN
"""Of the last convolution in a block, so that sums grow slowly from block to block."""

STAGES = {
    "layer1": (3, 64, 1),
    "layer2": (4, 128, 2),
    "layer3": (6, 256, 2),
    "layer4": (3, 512, 2),
}
"""Table 1, 50-layer: blocks, width, stride of the first block."""


def bottleneck(net: Net, x: ir.Value, width: int, stride: int = 1) -> ir.Value:
    """Figure 5, right: 1x1, 3x3 and 1x1 convolutions beside a shortcut, projected if it must be."""
    filters = width * EXPANSION
    y = conv_bn(net, x, "conv1", width)
    y = conv_bn(net, y, "conv2", width, 3, stride=stride)
    y = conv_bn(net, y, "conv3", filters, gain=RESIDUAL_GAIN, activation=None)
    if stride > 1 or channels(x) != filters:
        x = conv_bn(net, x, "downsample", filters, stride=stride, activation=None)
    return net.op("Relu", net.op("Add", y, x))


def backbone(net: Net, x: ir.Value) -> list[ir.Value]:
    """ResNet-50 without its classifier: conv2 to conv5, at strides 4, 8, 16 and 32."""
    x = conv_bn(net, x, "conv1", 64, 7, stride=2)
    x = max_pool(net, x, 3, 2, 1)
    stages = []
    for name, (blocks, width, stride) in STAGES.items():
        for block in range(blocks):
            with net.scope(f"{name}.{block}"):
                x = bottleneck(net, x, width, stride if block == 0 else 1)
        stages.append(x)
    return stages


@paper("He et al. 2015, Deep residual learning for image recognition, arXiv:1512.03385")
def resnet50(
    *, batch: Dim = 1, image_size: int = 224, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """ResNet-50.

    He et al., "Deep residual learning for image recognition", 2015, arXiv:1512.03385, Table 1.
    Where they differ this follows torchvision, which halves the size in a block's 3x3 convolution
    and not in its first 1x1 convolution.

    image: f32[batch, 3, image_size, image_size] → logits: f32[batch, 1000].
    """
    net = Net("resnet50", seed=seed, opset=opset)
    x = net.input("image", [batch, 3, image_size, image_size], low=-2, high=2)
    x = backbone(net, x)[-1]
    net.output(linear(net, global_avg_pool(net, x), "fc", 1000), "logits")
    return net.finish()
