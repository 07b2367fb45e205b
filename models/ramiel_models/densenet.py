"""DenseNet: every layer reads the results of all layers before it in its block."""

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

GROWTH = 32
"""Channels that each layer adds (k in section 3)."""

BLOCKS = {"denseblock1": 6, "denseblock2": 12, "denseblock3": 24, "denseblock4": 16}
"""Table 1, DenseNet-121: layers of each dense block."""


def norm_relu(net: Net, x: ir.Value, name: str) -> ir.Value:
    """Batch normalization, then ReLU: in DenseNet they come before the convolution."""
    with net.scope(name):
        return net.op("Relu", batch_norm(net, x, "bn"))


def dense_layer(net: Net, x: ir.Value) -> ir.Value:
    """DenseNet-B: a 1x1 convolution to 4k channels and a 3x3 one to k, appended to the operand."""
    y = conv(net, norm_relu(net, x, "norm1"), "conv1", 4 * GROWTH, bias=False)
    y = conv(net, norm_relu(net, y, "norm2"), "conv2", GROWTH, 3, bias=False)
    return net.op("Concat", x, y, axis=1)


def transition(net: Net, x: ir.Value) -> ir.Value:
    """DenseNet-C: half the channels at half the size."""
    x = conv(net, norm_relu(net, x, "norm"), "conv", channels(x) // 2, bias=False)
    return avg_pool(net, x, 2, 2)


@paper("Huang et al. 2016, Densely connected convolutional networks, arXiv:1608.06993")
def densenet121(
    *, batch: Dim = 1, image_size: int = 224, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """DenseNet-121 (k = 32, with bottlenecks and compression by half).

    Huang et al., "Densely connected convolutional networks", 2016, arXiv:1608.06993, Table 1.
    Where they differ this follows Keras: a layer's concatenation takes the one before it and the
    new channels, where torchvision joins all layers' results anew each time.

    image: f32[batch, 3, image_size, image_size] → logits: f32[batch, 1000].
    """
    net = Net("densenet121", seed=seed, opset=opset)
    x = net.input("image", [batch, 3, image_size, image_size], low=-2, high=2)
    x = conv_bn(net, x, "conv0", 2 * GROWTH, 7, stride=2)
    x = max_pool(net, x, 3, 2, 1)
    for index, (name, layers) in enumerate(BLOCKS.items(), start=1):
        for layer in range(1, layers + 1):
            with net.scope(f"{name}.layer{layer}"):
                x = dense_layer(net, x)
        if index < len(BLOCKS):
            with net.scope(f"transition{index}"):
                x = transition(net, x)
    x = norm_relu(net, x, "norm5")
    net.output(linear(net, global_avg_pool(net, x), "classifier", 1000), "logits")
    return net.finish()
