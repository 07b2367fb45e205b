"""SqueezeNet: fire modules that squeeze the channels before they expand them."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ramiel_models.builder import Dim, Net, paper
from ramiel_models.layers import conv_relu, global_avg_pool, max_pool

FIRES = {
    "fire2": (16, 64),
    "fire3": (16, 64),
    "fire4": (32, 128),
    "fire5": (32, 128),
    "fire6": (48, 192),
    "fire7": (48, 192),
    "fire8": (64, 256),
    "fire9": (64, 256),
}
"""Table 1: s1x1 and e1x1 (= e3x3) of each fire module."""

POOL_AFTER = ("fire4", "fire8")


def fire(net: Net, x: ir.Value, squeeze: int, expand: int) -> ir.Value:
    """Figure 1: 1x1 convolutions down to `squeeze` channels, then 1x1 and 3x3 ones side by side."""
    x = conv_relu(net, x, "squeeze", squeeze)
    narrow = conv_relu(net, x, "expand1x1", expand)
    wide = conv_relu(net, x, "expand3x3", expand, 3)
    return net.op("Concat", narrow, wide, axis=1)


@paper("Iandola et al. 2016, SqueezeNet, arXiv:1602.07360")
def squeezenet(
    *, batch: Dim = 1, image_size: int = 224, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """SqueezeNet 1.0.

    Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model
    size", 2016, arXiv:1602.07360, Table 1. Where they differ this follows the authors' Caffe
    model: no padding in conv1, poolings that round up, so that Table 1's sizes come out for
    images of 227 and not of 224 pixels. Dropout is left out, as always when a model is only run.

    image: f32[batch, 3, image_size, image_size] → probabilities: f32[batch, 1000].
    """
    net = Net("squeezenet", seed=seed, opset=opset)
    x = net.input("image", [batch, 3, image_size, image_size], low=-2, high=2)
    x = conv_relu(net, x, "conv1", 96, 7, stride=2, padding=0)
    x = max_pool(net, x, 3, 2, ceil=True)
    for name, (squeeze, expand) in FIRES.items():
        with net.scope(name):
            x = fire(net, x, squeeze, expand)
            if name in POOL_AFTER:
                x = max_pool(net, x, 3, 2, ceil=True)
    x = conv_relu(net, x, "conv10", 1000)
    net.output(net.op("Softmax", global_avg_pool(net, x), axis=1), "probabilities")
    return net.finish()
