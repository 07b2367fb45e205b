"""Where `onnx.reference` departs from the op sets: the ops done as the op sets say.

It does some ops of old op sets as newer ones define them. `repairs` gives their implementations, to
be passed to its evaluator.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_dequantize_linear import DequantizeLinear_19
from onnx.reference.ops.op_hardmax import Hardmax as _Hardmax
from onnx.reference.ops.op_log_softmax import LogSoftmax as _LogSoftmax
from onnx.reference.ops.op_scatter_elements import ScatterElements
from onnx.reference.ops.op_softmax import Softmax as _Softmax


@cache
def repairs(opset: int) -> tuple[type[OpRun], ...]:
    """The implementations that a model of this op set needs."""
    found: list[type[OpRun]] = []
    if opset < 11:
        found.append(Scatter)
    if opset < 13:
        found += [_on_trailing_axes(base) for base in (_Softmax, _LogSoftmax, _Hardmax)]
    if 7 <= opset < 14:
        found.append(BatchNormalization)
    if 10 <= opset < 19:
        found.append(DequantizeLinear)
    return tuple(found)


class Scatter(ScatterElements):  # type: ignore[misc]
    """The name that ScatterElements had at first."""


class DequantizeLinear(DequantizeLinear_19):  # type: ignore[misc]
    """Version 19 added types only, and is the oldest that onnx.reference knows."""

    def _run(self, *operands: Any, axis: int = 1, **_: Any) -> Any:
        return super()._run(*operands, axis=axis)


class BatchNormalization(OpRun):  # type: ignore[misc]
    """With one result it is inference; what trains has more, and is left out here."""

    def _run(self, x: Any, scale: Any, bias: Any, mean: Any, variance: Any, **_: Any) -> tuple[Any]:
        if len(self.onnx_node.output) > 1:
            raise NotImplementedError("BatchNormalization that trains")
        columns = (-1, *[1] * (x.ndim - 2))
        scale, bias, mean, variance = (
            part.reshape(columns) for part in (scale, bias, mean, variance)
        )
        result = scale * (x - mean) / np.sqrt(variance + self.epsilon) + bias
        return (result.astype(x.dtype),)


def _on_trailing_axes(base: type[OpRun]) -> type[OpRun]:
    """The op as it was before opset 13: the axes from `axis`, 1 by default, count as one."""

    def run(self: Any, x: Any) -> tuple[Any]:
        given = [item.i for item in self.onnx_node.attribute if item.name == "axis"]
        start = given[0] if given else 1
        rows = x.reshape(prod(x.shape[:start]), prod(x.shape[start:]))
        self.axis = 1
        return (base._run(self, rows)[0].reshape(x.shape),)

    return type(base.__name__, (base,), {"_run": run})
