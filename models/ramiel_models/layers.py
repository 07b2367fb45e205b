"""Layers that several architectures share, each a function of a net and its operand values.

Images are [batch, channels, height, width]. Weights are scaled so that a layer keeps the second
moment of its operand, as He et al. 2015 (arXiv:1502.01852, section 2.2) have it: the default gain
makes up for the ReLU that the operand came out of.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from ramiel_models.builder import Net, channels

__all__ = [
    "HE_GAIN",
    "Pair",
    "avg_pool",
    "batch_norm",
    "conv",
    "conv_bn",
    "conv_relu",
    "global_avg_pool",
    "linear",
    "max_pool",
    "upsample",
]

CENTRING = 0.5
"""The share of each filter's mean that is taken out of it.

Rectified values have a positive mean in common. Passed on layer after layer it would drown what
tells one image from another; taken out wholly, layers would amplify rounding errors instead.
"""

HE_GAIN = math.sqrt(2.0 / (1.0 - (1.0 - (1.0 - CENTRING) ** 2) / math.pi))
"""Gain after a ReLU, which halves the second moment; 1/π of the rest is the mean's."""

Pair = int | tuple[int, int]
"""One number for height and width, or (height, width)."""


def pair(value: Pair) -> tuple[int, int]:
    """Spell out height and width."""
    return (value, value) if isinstance(value, int) else value


def window(kernel: Pair, stride: Pair, padding: Pair | None) -> dict[str, Any]:
    """Attributes of a sliding window; `padding` None means half the kernel."""
    height, width = pair(kernel)
    above, left = (height // 2, width // 2) if padding is None else pair(padding)
    return {
        "kernel_shape": [height, width],
        "strides": [*pair(stride)],
        "pads": [above, left, above, left],
    }


def conv(
    net: Net,
    x: ir.Value,
    name: str,
    filters: int,
    kernel: Pair = 1,
    *,
    stride: Pair = 1,
    padding: Pair | None = None,
    groups: int = 1,
    bias: bool = True,
    gain: float = HE_GAIN,
) -> ir.Value:
    """Convolution to [batch, filters, …]; `padding` None means half the kernel."""
    shape = (filters, channels(x) // groups, *pair(kernel))

    def draw(rng: np.random.Generator) -> np.ndarray:
        weights = rng.standard_normal(shape, np.float32)
        if shape[1] > 1:
            weights -= CENTRING * weights.mean(axis=(1, 2, 3), keepdims=True)
        weights *= gain / math.sqrt(math.prod(shape[1:]))
        return weights

    with net.scope(name):
        operands = [x, net.constant("weight", draw)]
        if bias:
            operands.append(net.weight("bias", [filters], std=0.1))
        return net.op("Conv", *operands, group=groups, **window(kernel, stride, padding))


def conv_relu(
    net: Net,
    x: ir.Value,
    name: str,
    filters: int,
    kernel: Pair = 1,
    *,
    stride: Pair = 1,
    padding: Pair | None = None,
) -> ir.Value:
    """Convolution with bias, then ReLU."""
    x = conv(net, x, name, filters, kernel, stride=stride, padding=padding)
    with net.scope(name):
        return net.op("Relu", x)


def batch_norm(net: Net, x: ir.Value, name: str, *, epsilon: float = 1e-5) -> ir.Value:
    """Batch normalization with random statistics that keep the second moment on average."""
    size = channels(x)
    with net.scope(name):
        scale = net.constant("scale", lambda rng: rng.uniform(0.85, 1.05, size))
        shift = net.weight("shift", [size], std=0.1)
        mean = net.weight("mean", [size], std=0.1)
        variance = net.constant("variance", lambda rng: rng.uniform(0.5, 1.5, size))
    return net.op("BatchNormalization", x, scale, shift, mean, variance, name=name, epsilon=epsilon)


def conv_bn(
    net: Net,
    x: ir.Value,
    name: str,
    filters: int,
    kernel: Pair = 1,
    *,
    stride: Pair = 1,
    padding: Pair | None = None,
    groups: int = 1,
    gain: float = HE_GAIN,
    epsilon: float = 1e-5,
    activation: str | None = "Relu",
) -> ir.Value:
    """Convolution without bias, batch normalization, and an activation op if any."""
    x = conv(
        net,
        x,
        name,
        filters,
        kernel,
        stride=stride,
        padding=padding,
        groups=groups,
        bias=False,
        gain=gain,
    )
    with net.scope(name):
        x = batch_norm(net, x, "bn", epsilon=epsilon)
        return net.op(activation, x) if activation else x


def max_pool(
    net: Net, x: ir.Value, kernel: Pair, stride: Pair, padding: Pair = 0, *, ceil: bool = False
) -> ir.Value:
    """Maximum over windows; `ceil` keeps a last window that only partly covers the operand."""
    return net.op("MaxPool", x, ceil_mode=int(ceil), **window(kernel, stride, padding))


def avg_pool(net: Net, x: ir.Value, kernel: Pair, stride: Pair, padding: Pair = 0) -> ir.Value:
    """Mean over windows; padding does not count."""
    return net.op("AveragePool", x, count_include_pad=0, **window(kernel, stride, padding))


def global_avg_pool(net: Net, x: ir.Value) -> ir.Value:
    """Mean over height and width, as [batch, channels]."""
    return net.op("Flatten", net.op("GlobalAveragePool", x, name="pool"))


def linear(net: Net, x: ir.Value, name: str, features: int, *, gain: float = HE_GAIN) -> ir.Value:
    """Affine map of the last of two axes: [batch, features]."""
    size = channels(x)
    with net.scope(name):
        weight = net.weight("weight", [features, size], std=gain / math.sqrt(size))
        bias = net.weight("bias", [features], std=0.1)
        return net.op("Gemm", x, weight, bias, transB=1)


def upsample(net: Net, x: ir.Value, factor: int) -> ir.Value:
    """Repeat every pixel `factor` times in both directions (nearest neighbour)."""
    return net.op(
        "Resize",
        x,
        None,
        [1.0, 1.0, float(factor), float(factor)],
        name="upsample",
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
