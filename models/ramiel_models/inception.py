"""Inception v3 and v4: modules of parallel branches with factorized convolutions."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from ramiel_models.builder import Dim, Net, paper
from ramiel_models.layers import Pair, avg_pool, conv_bn, global_avg_pool, linear, max_pool

EPSILON = 1e-3

Layer = tuple[int, Pair]
"""Filters and kernel of one convolution."""

ROW, COLUMN = (1, 7), (7, 1)


def branch(net: Net, x: ir.Value, name: str, *layers: Layer, shrink: bool = False) -> ir.Value:
    """A chain of convolutions, each with batch normalization and ReLU.

    With `shrink` the last one has stride 2 and no padding, as in the grid reductions.
    """
    with net.scope(name):
        for index, (filters, kernel) in enumerate(layers):
            last = shrink and index == len(layers) - 1
            stride, padding = (2, 0) if last else (1, None)
            x = conv_bn(
                net,
                x,
                f"conv{index}",
                filters,
                kernel,
                stride=stride,
                padding=padding,
                epsilon=EPSILON,
            )
    return x


def unpadded(net: Net, x: ir.Value, name: str, filters: int, stride: int = 1) -> ir.Value:
    """3x3 convolution that only takes whole windows ("V" in the figures of v4)."""
    return conv_bn(net, x, name, filters, 3, stride=stride, padding=0, epsilon=EPSILON)


def pooled(net: Net, x: ir.Value, filters: int) -> ir.Value:
    """The pooling branch of the modules that keep the size."""
    return branch(net, avg_pool(net, x, 3, 1, 1), "pool", (filters, 1))


def shrunk(net: Net, x: ir.Value) -> ir.Value:
    """The pooling branch of the grid reductions."""
    return max_pool(net, x, 3, 2)


def fork(net: Net, x: ir.Value, name: str, filters: int) -> list[ir.Value]:
    """The end of an expanded filter bank: 1x3 and 3x1 convolutions side by side."""
    return [
        branch(net, x, f"{name}_1x3", (filters, (1, 3))),
        branch(net, x, f"{name}_3x1", (filters, (3, 1))),
    ]


def join(net: Net, *branches: ir.Value) -> ir.Value:
    """Filter concatenation."""
    return net.op("Concat", *branches, axis=1)


def stem_v3(net: Net, x: ir.Value) -> ir.Value:
    """Table 1 of v3 down to 35x35x192."""
    x = unpadded(net, x, "conv0", 32, 2)
    x = unpadded(net, x, "conv1", 32)
    x = branch(net, x, "conv2", (64, 3))
    x = max_pool(net, x, 3, 2)
    x = branch(net, x, "conv3", (80, 1))
    x = unpadded(net, x, "conv4", 192)
    return max_pool(net, x, 3, 2)


def v3_a(net: Net, x: ir.Value, pool: int) -> ir.Value:
    """Figure 5 of v3: the 5x5 convolutions become two of 3x3."""
    return join(
        net,
        branch(net, x, "1x1", (64, 1)),
        branch(net, x, "5x5", (48, 1), (64, 5)),
        branch(net, x, "double3x3", (64, 1), (96, 3), (96, 3)),
        pooled(net, x, pool),
    )


def v3_reduction_a(net: Net, x: ir.Value) -> ir.Value:
    """Figure 10 of v3: 35x35x288 to 17x17x768."""
    return join(
        net,
        branch(net, x, "3x3", (384, 3), shrink=True),
        branch(net, x, "double3x3", (64, 1), (96, 3), (96, 3), shrink=True),
        shrunk(net, x),
    )


def v3_b(net: Net, x: ir.Value, width: int) -> ir.Value:
    """Figure 6 of v3 with n = 7: 7x7 convolutions as pairs of 1x7 and 7x1."""
    double = ((width, 1), (width, COLUMN), (width, ROW), (width, COLUMN), (192, ROW))
    return join(
        net,
        branch(net, x, "1x1", (192, 1)),
        branch(net, x, "7x7", (width, 1), (width, ROW), (192, COLUMN)),
        branch(net, x, "double7x7", *double),
        pooled(net, x, 192),
    )


def v3_reduction_b(net: Net, x: ir.Value) -> ir.Value:
    """Figure 10 of v3 again: 17x17x768 to 8x8x1280."""
    return join(
        net,
        branch(net, x, "3x3", (192, 1), (320, 3), shrink=True),
        branch(net, x, "7x7", (192, 1), (192, ROW), (192, COLUMN), (192, 3), shrink=True),
        shrunk(net, x),
    )


def v3_c(net: Net, x: ir.Value) -> ir.Value:
    """Figure 7 of v3: filter banks expanded side by side, all joined at once."""
    return join(
        net,
        branch(net, x, "1x1", (320, 1)),
        *fork(net, branch(net, x, "3x3", (384, 1)), "3x3", 384),
        *fork(net, branch(net, x, "double3x3", (448, 1), (384, 3)), "double3x3", 384),
        pooled(net, x, 192),
    )


@paper("Szegedy et al. 2015, Rethinking the Inception architecture, arXiv:1512.00567")
def inception_v3(
    *, batch: Dim = 1, image_size: int = 299, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """Inception v3.

    Szegedy et al., "Rethinking the Inception architecture for computer vision", 2015,
    arXiv:1512.00567, Table 1. The published models differ from the table in the stem and in the
    widths of the 17x17 modules; this follows TensorFlow's slim model (torchvision has the same
    layers), without its auxiliary classifier. As in the paper's figure 7, and unlike in either,
    the six branches of the 8x8 modules meet in one concatenation.

    image: f32[batch, 3, image_size, image_size] → logits: f32[batch, 1000].
    """
    net = Net("inception_v3", seed=seed, opset=opset)
    x = net.input("image", [batch, 3, image_size, image_size], low=-1, high=1)
    with net.scope("stem"):
        x = stem_v3(net, x)
    for index, pool in enumerate([32, 64, 64]):
        with net.scope(f"a{index}"):
            x = v3_a(net, x, pool)
    with net.scope("reduction_a"):
        x = v3_reduction_a(net, x)
    for index, width in enumerate([128, 160, 160, 192]):
        with net.scope(f"b{index}"):
            x = v3_b(net, x, width)
    with net.scope("reduction_b"):
        x = v3_reduction_b(net, x)
    for index in range(2):
        with net.scope(f"c{index}"):
            x = v3_c(net, x)
    net.output(linear(net, global_avg_pool(net, x), "fc", 1000), "logits")
    return net.finish()


def stem_v4(net: Net, x: ir.Value) -> ir.Value:
    """Figure 3 of v4: 299x299x3 to 35x35x384, with three forks."""
    x = unpadded(net, x, "conv0", 32, 2)
    x = unpadded(net, x, "conv1", 32)
    x = branch(net, x, "conv2", (64, 3))
    x = join(net, max_pool(net, x, 3, 2), unpadded(net, x, "conv3", 96, 2))
    short = branch(net, x, "short", (64, 1))
    long = branch(net, x, "long", (64, 1), (64, COLUMN), (64, ROW))
    x = join(net, unpadded(net, short, "short_end", 96), unpadded(net, long, "long_end", 96))
    return join(net, unpadded(net, x, "conv4", 192, 2), max_pool(net, x, 3, 2))


def v4_a(net: Net, x: ir.Value) -> ir.Value:
    """Figure 4 of v4, at 35x35x384."""
    return join(
        net,
        pooled(net, x, 96),
        branch(net, x, "1x1", (96, 1)),
        branch(net, x, "3x3", (64, 1), (96, 3)),
        branch(net, x, "double3x3", (64, 1), (96, 3), (96, 3)),
    )


def v4_reduction_a(net: Net, x: ir.Value) -> ir.Value:
    """Figure 7 of v4 with k, l, m, n = 192, 224, 256, 384 (Table 1): to 17x17x1024."""
    return join(
        net,
        shrunk(net, x),
        branch(net, x, "3x3", (384, 3), shrink=True),
        branch(net, x, "double3x3", (192, 1), (224, 3), (256, 3), shrink=True),
    )


def v4_b(net: Net, x: ir.Value) -> ir.Value:
    """Figure 5 of v4, at 17x17x1024."""
    double = ((192, 1), (192, ROW), (224, COLUMN), (224, ROW), (256, COLUMN))
    return join(
        net,
        pooled(net, x, 128),
        branch(net, x, "1x1", (384, 1)),
        branch(net, x, "7x7", (192, 1), (224, ROW), (256, COLUMN)),
        branch(net, x, "double7x7", *double),
    )


def v4_reduction_b(net: Net, x: ir.Value) -> ir.Value:
    """Figure 8 of v4: to 8x8x1536."""
    return join(
        net,
        shrunk(net, x),
        branch(net, x, "3x3", (192, 1), (192, 3), shrink=True),
        branch(net, x, "7x7", (256, 1), (256, ROW), (320, COLUMN), (320, 3), shrink=True),
    )


def v4_c(net: Net, x: ir.Value) -> ir.Value:
    """Figure 6 of v4, at 8x8x1536."""
    long = branch(net, x, "double3x3", (384, 1), (448, (1, 3)), (512, (3, 1)))
    return join(
        net,
        pooled(net, x, 256),
        branch(net, x, "1x1", (256, 1)),
        *fork(net, branch(net, x, "3x3", (384, 1)), "3x3", 256),
        *fork(net, long, "double3x3", 256),
    )


@paper("Szegedy et al. 2016, Inception-v4 and Inception-ResNet, arXiv:1602.07261")
def inception_v4(
    *, batch: Dim = 1, image_size: int = 299, seed: int = 0, opset: int = 21
) -> onnx.ModelProto:
    """Inception v4.

    Szegedy et al., "Inception-v4, Inception-ResNet and the impact of residual connections on
    learning", 2016, arXiv:1602.07261, figures 3 to 9. Where figure 5 repeats 1x7 this follows
    TensorFlow's slim model, which alternates 1x7 and 7x1.

    image: f32[batch, 3, image_size, image_size] → logits: f32[batch, 1000].
    """
    net = Net("inception_v4", seed=seed, opset=opset)
    x = net.input("image", [batch, 3, image_size, image_size], low=-1, high=1)
    with net.scope("stem"):
        x = stem_v4(net, x)
    for index in range(4):
        with net.scope(f"a{index}"):
            x = v4_a(net, x)
    with net.scope("reduction_a"):
        x = v4_reduction_a(net, x)
    for index in range(7):
        with net.scope(f"b{index}"):
            x = v4_b(net, x)
    with net.scope("reduction_b"):
        x = v4_reduction_b(net, x)
    for index in range(3):
        with net.scope(f"c{index}"):
            x = v4_c(net, x)
    net.output(linear(net, global_avg_pool(net, x), "fc", 1000), "logits")
    return net.finish()
