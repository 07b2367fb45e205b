"""GoogLeNet (Inception v1): inception modules of four branches."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ramiel_models.builder import Dim, Net, paper
from ramiel_models.layers import conv_relu, global_avg_pool, linear, max_pool

INCEPTIONS = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
"""Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj."""

POOL_AFTER = ("inception3b", "inception4e")


def local_response_norm(net: Net, x: ir.Value) -> ir.Value:
    """Normalization over five neighbouring channels (LocalRespNorm in figure 3)."""
    return net.op("LRN", x, size=5, alpha=1e-4, beta=0.75, bias=1.0)


def inception(
    net: Net,
    x: ir.Value,
    one: int,
    three_reduce: int,
    three: int,
    five_reduce: int,
    five: int,
    pool: int,
) -> ir.Value:
    """Figure 2(b): four branches over the same operand, joined along the channels."""
    three_reduced = conv_relu(net, x, "conv3x3_reduce", three_reduce)
    five_reduced = conv_relu(net, x, "conv5x5_reduce", five_reduce)
    branches = [
        conv_relu(net, x, "conv1x1", one),
        conv_relu(net, three_reduced, "conv3x3", three, 3),
        conv_relu(net, five_reduced, "conv5x5", five, 5),
        conv_relu(net, max_pool(net, x, 3, 1, 1), "pool_proj", pool),
    ]
    return net.op("Concat", *branches, axis=1)


@paper("Szegedy et al. 2014, Going deeper with convolutions, arXiv:1409.4842")
def googlenet(
    *, batch: Dim = 1, image_size: int = 224, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """GoogLeNet (Inception v1).

    Szegedy et al., "Going deeper with convolutions", 2014, arXiv:1409.4842, Table 1 and figure 3.
    Where they differ this follows the BVLC Caffe model: poolings that round up, two local response
    normalizations with alpha 1e-4 and beta 0.75. The auxiliary classifiers and dropout serve
    training only and are left out.

    image: f32[batch, 3, image_size, image_size] → probabilities: f32[batch, 1000].
    """
    net = Net("googlenet", seed=seed, opset=opset)
    x = net.input("image", [batch, 3, image_size, image_size], low=-2, high=2)
    x = conv_relu(net, x, "conv1", 64, 7, stride=2)
    x = local_response_norm(net, max_pool(net, x, 3, 2, ceil=True))
    x = conv_relu(net, x, "conv2_reduce", 64)
    x = conv_relu(net, x, "conv2", 192, 3)
    x = max_pool(net, local_response_norm(net, x), 3, 2, ceil=True)
    for name, widths in INCEPTIONS.items():
        with net.scope(name):
            x = inception(net, x, *widths)
            if name in POOL_AFTER:
                x = max_pool(net, x, 3, 2, ceil=True)
    x = linear(net, global_avg_pool(net, x), "classifier", 1000, gain=0.4)
    net.output(net.op("Softmax", x, axis=1), "probabilities")
    return net.finish()
