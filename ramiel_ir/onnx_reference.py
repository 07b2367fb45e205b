"""What ops compute, by `onnx.reference`.

That does some ops of old op sets as newer ones define them: here they are done as the op sets say.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np
import onnx_ir
from onnx import defs
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops import load_op
from onnx.reference.ops.op_dequantize_linear import DequantizeLinear_19
from onnx.reference.ops.op_hardmax import Hardmax as _Hardmax
from onnx.reference.ops.op_log_softmax import LogSoftmax as _LogSoftmax
from onnx.reference.ops.op_scatter_elements import ScatterElements
from onnx.reference.ops.op_softmax import Softmax as _Softmax

from ramiel_ir.errors import RamielError, UnsupportedOpError
from ramiel_ir.ir import Array, Op, Value
from ramiel_ir.onnx_writer import piece_to_onnx


def evaluate(op: Op, known: Mapping[Value, Any]) -> list[Any]:
    """The results of one op by `onnx.reference`, absent ones left out, from the values it reads.

    Raises `UnsupportedOpError` for ops that onnx.reference does not implement.
    """
    if op.qualified_kind == "Optional":  # onnx.reference wraps its result in a list
        element = op.operand(0)
        return [None if element is None else known[element]]
    return _run_reference([op], op.reads, op.writes, known)


def evaluate_all(ops: Sequence[Op], outputs: Sequence[Value]) -> list[Array]:
    """The values of `outputs`, by one run over `ops`, which read nothing but weights."""
    made = {value for op in ops for value in op.writes}
    weights = [v for v in dict.fromkeys(v for op in ops for v in op.reads) if v not in made]
    known = {value: value.weight.array for value in weights if value.weight is not None}
    return [np.asarray(array) for array in _run_reference(ops, weights, outputs, known)]


def _run_reference(
    ops: Sequence[Op],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    known: Mapping[Value, Any],
) -> list[Any]:
    model = onnx_ir.to_proto(piece_to_onnx("piece", ops, inputs, outputs))
    feeds = {value.name: known[value] for value in inputs}
    where = f"{ops[0]}" + (f" and {len(ops) - 1} more" if len(ops) > 1 else "")
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            opset = next((entry.version for entry in model.opset_import if not entry.domain), 1)
            evaluator = ReferenceEvaluator(model, new_ops=list(_repairs(opset)))
            return list(evaluator.run(None, feeds))
    except NotImplementedError as error:
        raise UnsupportedOpError(f"{where}: onnx.reference does not implement it") from error
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RamielError(f"{where} cannot be evaluated: {reason}") from error


@cache
def _repairs(opset: int) -> tuple[type[OpRun], ...]:
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
    found += [
        _spelled(kind, opset) for kind, since in (("Cast", 6), ("CastLike", 15)) if opset >= since
    ]
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


def _spelled(kind: str, opset: int) -> type[OpRun]:
    """A cast that writes numbers as ONNX reads them: NaN, INF and -INF, not as Python does."""
    base = load_op("", kind, opset)

    def run(self: Any, x: Any, *like: Any, **attributes: Any) -> tuple[Any]:
        (found,) = base._run(self, x, *like, **attributes)
        if found.dtype.kind == "U" and x.dtype.kind not in "OSUT":
            for word, spelling in (("nan", "NaN"), ("inf", "INF"), ("-inf", "-INF")):
                found = np.where(found == word, spelling, found)
        return (found,)

    version = int(base.__name__.rpartition("_")[2])
    return type(kind, (base,), {"_run": run, "op_schema": defs.get_schema(kind, version)})


def _on_trailing_axes(base: type[OpRun]) -> type[OpRun]:
    """The op as it was before opset 13: the axes from `axis`, 1 by default, count as one."""

    def run(self: Any, x: Any) -> tuple[Any]:
        given = [item.i for item in self.onnx_node.attribute if item.name == "axis"]
        start = given[0] if given else 1
        rows = x.reshape(prod(x.shape[:start]), prod(x.shape[start:]))
        self.axis = 1
        return (base._run(self, rows)[0].reshape(x.shape),)

    return type(base.__name__, (base,), {"_run": run})
