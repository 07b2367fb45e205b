"""ShuffleNet V2: channels split, half of them convolved, joined and shuffled."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ramiel_models.builder import Dim, Net, channels, paper
from ramiel_models.layers import conv_bn, global_avg_pool, linear, max_pool

STAGES = {"stage2": (4, 116), "stage3": (8, 232), "stage4": (4, 464)}
"""Table 5, 1x: units and channels of each stage."""


def shuffle(net: Net, x: ir.Value) -> ir.Value:
    """Interleave the two halves of the channels."""
    shape = x.shape
    assert shape is not None
    size = channels(x)
    x = net.op("Reshape", x, [0, 2, size // 2, shape[2], shape[3]])
    x = net.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    return net.op("Reshape", x, [0, size, shape[2], shape[3]])


def convolved(net: Net, x: ir.Value, filters: int, stride: int) -> ir.Value:
    """The right branch of figure 3(c, d): 1x1, depthwise 3x3 and 1x1 convolutions."""
    x = conv_bn(net, x, "conv1", filters)
    x = depthwise(net, x, "conv2", stride)
    return conv_bn(net, x, "conv3", filters, gain=1.0)


def depthwise(net: Net, x: ir.Value, name: str, stride: int) -> ir.Value:
    """3x3 depthwise convolution and batch normalization, without activation."""
    size = channels(x)
    return conv_bn(net, x, name, size, 3, stride=stride, groups=size, activation=None)


def unit(net: Net, x: ir.Value) -> ir.Value:
    """Figure 3(c): half of the channels pass by."""
    half = channels(x) // 2
    left, right = net.ops("Split", x, [half, half], results=2, axis=1)
    right = convolved(net, right, half, 1)
    return shuffle(net, net.op("Concat", left, right, axis=1))


def down_unit(net: Net, x: ir.Value, filters: int) -> ir.Value:
    """Figure 3(d): both branches take all channels and halve the size."""
    with net.scope("left"):
        left = depthwise(net, x, "conv1", 2)
        left = conv_bn(net, left, "conv2", filters // 2, gain=1.0)
    with net.scope("right"):
        right = convolved(net, x, filters // 2, 2)
    return shuffle(net, net.op("Concat", left, right, axis=1))


@paper("Ma et al. 2018, ShuffleNet V2, arXiv:1807.11164")
def shufflenet_v2(
    *, batch: Dim = 1, image_size: int = 224, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """ShuffleNet V2 1x.

    Ma et al., "ShuffleNet V2: practical guidelines for efficient CNN architecture design", 2018,
    arXiv:1807.11164, Table 5. Where they differ this follows torchvision, which shuffles after the
    concatenation as figure 3 does.

    image: f32[batch, 3, image_size, image_size] → logits: f32[batch, 1000].
    """
    net = Net("shufflenet_v2", seed=seed, opset=opset)
    x = net.input("image", [batch, 3, image_size, image_size], low=-2, high=2)
    x = conv_bn(net, x, "conv1", 24, 3, stride=2)
    x = max_pool(net, x, 3, 2, 1)
    for name, (units, filters) in STAGES.items():
        for index in range(units):
            with net.scope(f"{name}.{index}"):
                x = down_unit(net, x, filters) if index == 0 else unit(net, x)
    x = conv_bn(net, x, "conv5", 1024)
    net.output(linear(net, global_avg_pool(net, x), "fc", 1000), "logits")
    return net.finish()
