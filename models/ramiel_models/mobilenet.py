"""MobileNetV3: inverted residuals with squeeze-and-excite and hard activations."""

from __future__ import annotations

from typing import NamedTuple

import onnx
import onnx_ir as ir

from ramiel_models.builder import Dim, Net, channels, paper
from ramiel_models.layers import conv, conv_bn, global_avg_pool, linear

EPSILON = 1e-3


class Row(NamedTuple):
    """A bneck row of Table 2."""

    kernel: int
    expand: int
    out: int
    excite: bool
    activation: str
    stride: int


SMALL = [
    Row(3, 16, 16, True, "Relu", 2),
    Row(3, 72, 24, False, "Relu", 2),
    Row(3, 88, 24, False, "Relu", 1),
    Row(5, 96, 40, True, "HardSwish", 2),
    Row(5, 240, 40, True, "HardSwish", 1),
    Row(5, 240, 40, True, "HardSwish", 1),
    Row(5, 120, 48, True, "HardSwish", 1),
    Row(5, 144, 48, True, "HardSwish", 1),
    Row(5, 288, 96, True, "HardSwish", 2),
    Row(5, 576, 96, True, "HardSwish", 1),
    Row(5, 576, 96, True, "HardSwish", 1),
]
"""Table 2: MobileNetV3-Small."""


def excite(net: Net, x: ir.Value) -> ir.Value:
    """Squeeze-and-excite (section 5.3): scale each channel by a gate computed from all means."""
    narrow = max(8, (channels(x) // 4 + 4) // 8 * 8)
    with net.scope("excite"):
        gate = net.op("GlobalAveragePool", x, name="pool")
        gate = net.op("Relu", conv(net, gate, "reduce", narrow))
        gate = net.op("HardSigmoid", conv(net, gate, "expand", channels(x)), alpha=1 / 6)
        return net.op("Mul", x, gate)


def bneck(net: Net, x: ir.Value, row: Row) -> ir.Value:
    """Figure 4: expand, depthwise convolution, squeeze-and-excite, project, add where it fits."""
    shortcut = x
    act = row.activation
    if row.expand != channels(x):
        x = conv_bn(net, x, "expand", row.expand, gain=1.2, epsilon=EPSILON, activation=act)
    x = conv_bn(
        net,
        x,
        "depthwise",
        row.expand,
        row.kernel,
        stride=row.stride,
        groups=row.expand,
        epsilon=EPSILON,
        activation=act,
    )
    if row.excite:
        x = excite(net, x)
    x = conv_bn(net, x, "project", row.out, epsilon=EPSILON, activation=None)
    if row.stride == 1 and channels(shortcut) == row.out:
        x = net.op("Add", x, shortcut)
    return x


@paper("Howard et al. 2019, Searching for MobileNetV3, arXiv:1905.02244")
def mobilenet_v3_small(
    *, batch: Dim = 1, image_size: int = 224, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """MobileNetV3-Small.

    Howard et al., "Searching for MobileNetV3", 2019, arXiv:1905.02244, Table 2. Where they differ
    this follows torchvision: gates a quarter as wide as the expansion, rounded to eights, and no
    squeeze-and-excite after the last 1x1 convolution.

    image: f32[batch, 3, image_size, image_size] → logits: f32[batch, 1000].
    """
    net = Net("mobilenet_v3_small", seed=seed, opset=opset)
    x = net.input("image", [batch, 3, image_size, image_size], low=-2, high=2)
    x = conv_bn(net, x, "stem", 16, 3, stride=2, epsilon=EPSILON, activation="HardSwish")
    for index, row in enumerate(SMALL):
        with net.scope(f"bneck{index}"):
            x = bneck(net, x, row)
    x = conv_bn(net, x, "head", 576, epsilon=EPSILON, activation="HardSwish")
    x = linear(net, global_avg_pool(net, x), "fc1", 1024)
    net.output(linear(net, net.op("HardSwish", x), "fc2", 1000), "logits")
    return net.finish()
