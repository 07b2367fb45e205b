"""Ops that ONNX Runtime runs badly, written with ops that it runs well.

Measured with ONNX Runtime 1.31 on one thread: from opset 19 on, an AveragePool that it cannot take
into its own blocked layout goes through a loop over elements, 3 to 30 times slower than the
convolution that computes the same; LRN, on 64 and on 192 channels, 7 times slower than a few
elementwise ops. LRN was 23 of the 60 ms of GoogLeNet, AveragePool 7 of the 31 ms of NASNet-A.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ramiel_ir.ir import Array, Dim, DType, Graph, Names, Op, Tensor, Type, Value

_BLOCK = 16
"""The blocked layout takes channels in multiples of 8 or 16, as wide as the machine's vectors."""
_MOST_TAPS = 1024
"""Elements of a pooling window beyond which its kernels would be large weights."""
_MOST_WINDOWS = 1 << 20
"""Windows beyond which their shares, a number for each, would be large weights."""
_MOST_CHANNELS_SUMMED = 31
"""The size of an LRN beyond which one op per channel of the window would be too many."""


def rewrite(graph: Graph) -> None:
    """Rewrite what can be, in regions too; the results keep their names and types."""
    names = Names(graph)
    for op in list(graph.walk()):
        rule = _RULES.get(op.qualified_kind)
        body = rule(op) if rule is not None and len(op.writes) == 1 else None
        if body is not None and op.graph is not None:
            op.graph.splice(op, body, names)


def _average_pool(op: Op) -> Graph | None:
    """A depthwise convolution with equal weights, and a factor where fewer elements count.

    Only where channels and spatial dimensions are known, and no window lies in padding alone.
    """
    type = _f32_type(op.operand(0), least_rank=3)
    if type is None or type.shape is None or _opset(op) < 19:
        return None
    channels, *sizes = type.shape[1:]
    if not isinstance(channels, int) or (len(sizes) == 2 and channels % _BLOCK == 0):
        return None
    kernel = op.attribute("kernel_shape")
    axes = _axes(op, sizes)
    if axes is None or channels < 1 or math.prod(kernel) > _MOST_TAPS:
        return None
    counts = [axis.counts for axis in axes]
    if any(count.min() == 0 for count in counts):
        return None
    equal = all((count == length).all() for length, count in zip(kernel, counts, strict=True))
    if not equal and math.prod(map(len, counts)) > _MOST_WINDOWS:
        return None
    result = Type(DType.F32, (type.shape[0], channels, *map(len, counts)))
    inferred = op.writes[0].type
    if inferred is not None and inferred.shape not in (None, result.shape):
        return None
    body = Graph("average_pool")
    x = _input(body, op)
    weight = np.full((channels, 1, *kernel), 1 / math.prod(kernel), np.float32)
    y = body.add(
        "Conv",
        [x, body.add_weight("kernels", Tensor.of(weight))],
        "sums",
        result,
        group=channels,
        kernel_shape=list(kernel),
        strides=[axis.stride for axis in axes],
        dilations=[axis.dilation for axis in axes],
        pads=[axis.before for axis in axes] + [axis.after for axis in axes],
    )
    if not equal:
        factor = np.ones((1, 1), np.float64)
        for length, count in zip(kernel, counts, strict=True):
            factor = factor[..., None] * (length / count)
        factor = factor.astype(np.float32)
        y = body.add("Mul", [y, body.add_weight("shares", Tensor.of(factor))], "means", result)
    body.set_outputs([y])
    return body


@dataclass(frozen=True)
class _Axis:
    """How windows lie on one spatial axis; `counts` has the elements that count, per window."""

    stride: int
    dilation: int
    before: int
    after: int
    counts: Array


def _axes(op: Op, sizes: Sequence[Dim]) -> list[_Axis] | None:
    """The axes of a pooling op, None where their sizes are unknown or its attributes do not fit."""
    rank = len(sizes)
    kernel = op.attribute("kernel_shape")
    strides = op.attribute("strides", [1] * rank)
    dilations = op.attribute("dilations", [1] * rank)
    pads = op.attribute("pads", [0] * 2 * rank)
    if [len(kernel), len(strides), len(dilations), len(pads)] != [rank, rank, rank, 2 * rank]:
        return None
    found = []
    for index, size in enumerate(sizes):
        length, stride, dilation = kernel[index], strides[index], dilations[index]
        given = (pads[index], pads[rank + index])
        if not isinstance(size, int) or min(size, length, stride, dilation) < 1:
            return None
        if min(given) < 0 or max(given) >= length:
            return None
        axis = _axis(op, size, length, stride, dilation, given)
        if axis is None:
            return None
        found.append(axis)
    return found


def _axis(
    op: Op, size: int, length: int, stride: int, dilation: int, given: tuple[int, int]
) -> _Axis | None:
    """One axis, None where ONNX Runtime does not do what ONNX says.

    Sizes and padding are those of ONNX's AveragePool-19; `after` is the padding at the end that
    the windows reach, which rounding up makes larger and rounding down smaller.
    """
    mode = op.attribute("auto_pad", "NOTSET")
    up = op.attribute("ceil_mode", 0) == 1
    padding_counts = op.attribute("count_include_pad", 0) == 1
    if up and (mode != "NOTSET" or padding_counts):
        return None
    reach = (length - 1) * dilation + 1
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        windows = -(-size // stride)
        padding = (windows - 1) * stride + reach - size
        if dilation != 1 or padding < 0:
            return None
        before = padding // 2 if mode == "SAME_UPPER" else padding - padding // 2
    else:
        before, after = given if mode == "NOTSET" else (0, 0)
        room = size + before + after - reach
        windows = (-(-room // stride) if up else room // stride) + 1
        if up and (windows - 1) * stride >= size + before:
            windows -= 1  # a window must not start in the padding at the end
    if not 1 <= windows <= _MOST_WINDOWS:
        return None
    after = max((windows - 1) * stride + reach - size - before, 0)
    starts = np.arange(windows) * stride - before
    first = np.maximum(-(starts // dilation), 0)  # the first element that is not in the padding
    end = np.minimum(-((starts - size) // dilation), length)
    counts = np.full(windows, length) if padding_counts else np.maximum(end - first, 0)
    return _Axis(stride, dilation, before, after, counts)


def _lrn(op: Op) -> Graph | None:
    """x / (bias + alpha / size · Σ x²)^beta, the sum over neighbouring channels slice by slice."""
    type = _f32_type(op.operand(0), least_rank=2)
    size = op.attribute("size")
    if type is None or type.shape is None or _opset(op) < 11:
        return None
    if not 1 <= size <= _MOST_CHANNELS_SUMMED:
        return None
    rank = len(type.shape)
    body = Graph("lrn")

    def constant(name: str, value: object, dtype: type = np.int64) -> Value:
        return body.add_weight(name, Tensor.of(np.asarray(value, dtype)))

    x = _input(body, op)
    before = (size - 1) // 2
    pads = np.zeros((2, rank), np.int64)
    pads[:, 1] = before, size - 1 - before
    channels = type.shape[1]
    more = channels + size - 1 if isinstance(channels, int) else None
    padded = Type(DType.F32, (type.shape[0], more, *type.shape[2:]))
    squares = body.add("Mul", [x, x], "squares", type)
    squares = body.add("Pad", [squares, constant("pads", pads.reshape(-1))], "padded", padded)
    axis = constant("axis", [1])
    total = None
    for first in range(size):
        # Counted from the end, so that the number of channels need not be known.
        end = first - size + 1 or np.iinfo(np.int64).max
        bounds = [constant(f"first_{first}", [first]), constant(f"end_{first}", [end]), axis]
        part = body.add("Slice", [squares, *bounds], f"slice_{first}", type)
        total = part if total is None else body.add("Add", [total, part], f"sum_{first}", type)
    share = constant("share", op.attribute("alpha", 1e-4) / size, np.float32)
    total = body.add("Mul", [total, share], "scaled", type)
    bias = constant("bias", op.attribute("bias", 1.0), np.float32)
    total = body.add("Add", [total, bias], "biased", type)
    beta = op.attribute("beta", 0.75)
    if beta == 0.75:  # what everybody uses; two roots take a third of the time of a power
        root = body.add("Sqrt", [total], "root", type)
        fourth_root = body.add("Sqrt", [root], "fourth_root", type)
        power = body.add("Mul", [root, fourth_root], "power", type)
    else:
        exponent = constant("beta", beta, np.float32)
        power = body.add("Pow", [total, exponent], "power", type)
    body.set_outputs([body.add("Div", [x, power], "normalized", type)])
    return body


_RULES: dict[str, Callable[[Op], Graph | None]] = {"AveragePool": _average_pool, "LRN": _lrn}


def _opset(op: Op) -> int:
    return 0 if op.graph is None else op.graph.opsets.get("", 0)


def _f32_type(value: Value | None, least_rank: int) -> Type | None:
    """The type of a value of float32 whose rank is known, None for other values."""
    type = None if value is None else value.type
    if type is None or type.element is not DType.F32 or type.shape is None:
        return None
    return type if len(type.shape) >= least_rank else None


def _input(body: Graph, op: Op) -> Value:
    """The one input of a body, which stands for the op's operand of the same name."""
    operand = op.operand(0)
    assert operand is not None
    return body.add_input(Value(operand.name, operand.type))
