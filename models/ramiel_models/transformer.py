"""Parts that the transformers of the zoo share, each a function of a net and its operand values.

Sequences are [batch, length, width]. Weights are scaled so that linear maps keep the second moment
of their operand, times a gain; what residual branches are to contribute is their model's choice.
Names of parts follow Vaswani et al. 2017, "Attention is all you need", arXiv:1706.03762.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ramiel_models.builder import Net

__all__ = [
    "MASKED",
    "Activation",
    "attention",
    "dense",
    "embedding",
    "feed_forward",
    "gelu",
    "layer_norm",
    "leading",
    "quick_gelu",
    "width",
]

MASKED = float(np.finfo(np.float32).min)
"""What is added to the score of a masked position; a row with every position masked is uniform."""

SCORE_GAIN = 2.0
"""Gain of queries and keys: scores spread enough for attention to choose between tokens."""

GELU_GAIN = 1.0 / math.sqrt(0.425)
"""Gain after a GELU, which takes the second moment of a standard normal to 0.425."""

Activation = Callable[[Net, ir.Value], ir.Value]


def width(x: ir.Value) -> int:
    """The size of the last axis of `x`."""
    assert x.shape is not None
    size = x.shape[-1]
    assert isinstance(size, int), f"{x.name} has no static width"
    return size


def dense(
    net: Net, x: ir.Value, name: str, features: int, *, gain: float = 1.0, bias: bool = True
) -> ir.Value:
    """Affine map of the last axis, to [..., features]."""
    size = width(x)
    with net.scope(name):
        weight = net.weight("weight", [size, features], std=gain / math.sqrt(size))
        x = net.op("MatMul", x, weight)
        return net.op("Add", x, net.weight("bias", [features], std=0.1)) if bias else x


def layer_norm(net: Net, x: ir.Value, name: str, *, epsilon: float) -> ir.Value:
    """Normalization over the last axis, with a random scale around 1 and a small shift."""
    size = width(x)
    with net.scope(name):
        scale = net.constant("scale", lambda rng: rng.uniform(0.8, 1.2, size))
        shift = net.weight("shift", [size], std=0.1)
    return net.op("LayerNormalization", x, scale, shift, name=name, axis=-1, epsilon=epsilon)


def embedding(net: Net, ids: ir.Value, name: str, rows: int, size: int) -> ir.Value:
    """The rows of a table that `ids` picks: [*ids.shape, size]."""
    with net.scope(name):
        return net.op("Gather", net.weight("table", [rows, size]), ids, axis=0)


def leading(
    net: Net,
    name: str,
    values: np.ndarray | Callable[[np.random.Generator], np.ndarray],
    ids: ir.Value,
    *,
    axes: int = 1,
) -> ir.Value:
    """The first `length` entries along the first `axes` axes of a table, for ids [batch, length].

    A static length cuts the table while building; a symbolic one slices it at run time. Either
    way the same values are drawn. Raises ValueError where the table is too short.
    """
    assert ids.shape is not None
    length = ids.shape[1]

    def cut(rng: np.random.Generator) -> np.ndarray:
        table = values(rng) if callable(values) else values
        if not isinstance(length, int):
            return table
        if length > len(table):
            raise ValueError(f"length {length} exceeds the {len(table)} rows of {name}")
        return table[(slice(length),) * axes]

    with net.scope(name):
        table = net.constant("table", cut)
        if isinstance(length, int):
            return table
        size = net.op("Shape", ids, start=1, end=2)
        ends = size if axes == 1 else net.op("Concat", *[size] * axes, axis=0)
        part = net.op("Slice", table, [0] * axes, ends, [*range(axes)])
    assert table.shape is not None
    part.shape = ir.Shape([*[length] * axes, *table.shape[axes:]])
    return part


def gelu(net: Net, x: ir.Value) -> ir.Value:
    """x · Φ(x), written out with Erf as exporters do before opset 20 (arXiv:1606.08415)."""
    with net.scope("gelu"):
        cumulative = net.op("Add", net.op("Erf", net.op("Div", x, math.sqrt(2.0))), 1.0)
        return net.op("Mul", net.op("Mul", x, cumulative), 0.5)


def quick_gelu(net: Net, x: ir.Value) -> ir.Value:
    """x · sigmoid(1.702 x), the approximation of GELU that CLIP trained with."""
    with net.scope("quick_gelu"):
        return net.op("Mul", x, net.op("Sigmoid", net.op("Mul", x, 1.702)))


def attention(
    net: Net, x: ir.Value, heads: int, mask: ir.Value | None = None, *, gain: float = 1.0
) -> ir.Value:
    """Multi-head self-attention (section 3.2.2), [batch, length, width] to the same shape.

    `mask` is added to the scores [batch, heads, length, length].
    """
    size = width(x)
    head = size // heads

    def split(name: str, perm: list[int], gain: float) -> ir.Value:
        projected = dense(net, x, name, size, gain=gain)
        with net.scope(name):
            return net.op("Transpose", net.op("Reshape", projected, [0, 0, heads, head]), perm=perm)

    query = split("query", [0, 2, 1, 3], SCORE_GAIN)
    key = split("key", [0, 2, 3, 1], SCORE_GAIN)
    value = split("value", [0, 2, 1, 3], 1.0)
    scores = net.op("Div", net.op("MatMul", query, key, name="scores"), math.sqrt(head))
    if mask is not None:
        scores = net.op("Add", scores, mask, name="masked")
    context = net.op("MatMul", net.op("Softmax", scores, axis=-1), value, name="context")
    context = net.op("Transpose", context, perm=[0, 2, 1, 3])
    return dense(net, net.op("Reshape", context, [0, 0, size]), "output", size, gain=gain)


def feed_forward(
    net: Net, x: ir.Value, hidden: int, activation: Activation, *, gain: float = 1.0
) -> ir.Value:
    """Two affine maps with an activation between, at each position alike (section 3.3)."""
    inner = activation(net, dense(net, x, "intermediate", hidden))
    return dense(net, inner, "output", width(x), gain=gain * GELU_GAIN)
