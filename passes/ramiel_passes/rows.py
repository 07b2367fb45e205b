"""What ops need of their operands to compute some rows of their result.

The rows of a tensor are its last axis but one: those of an image, the positions of a text, the rows
of a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ramiel_ir.ir import Attribute, Op, Value

Rows = tuple[int, int]
"""From the first row to the last, which is not included."""


class Restriction(NamedTuple):
    """What an op that computes only some rows reads, and its attributes."""

    operands: tuple[Rows | None, ...]
    """Rows of each operand; None for one that is read whatever the rows are, or absent."""
    attributes: Mapping[str, Attribute]


def rows_of(value: Value | None) -> int | None:
    """How many rows a tensor has, None where that is not known, or it has none."""
    shape = None if value is None or value.type is None else value.type.shape
    if shape is None or len(shape) < 2 or not isinstance(shape[-2], int):
        return None
    return shape[-2]


def axis_of(value: Value) -> int:
    """The axis of the rows."""
    return _rank(value) - 2


def restrict(op: Op, rows: Rows) -> Restriction | None:
    """What computing these rows of the only result takes; None where it takes all or is not known.

    An op of which rows are computed is of the same kind. Its operands are parts of the operands,
    and its attributes others only where it pads.
    """
    if op.regions or not op.pure or len(op.writes) != 1 or rows_of(op.writes[0]) is None:
        return None
    if any(value is not None and not _is_known(value) for value in op.operands):
        return None
    if op.qualified_kind in _WINDOWS:
        return _window(op, rows)
    if op.qualified_kind in _ELEMENTWISE:
        return _broadcast(op, rows, range(len(op.operands)))
    carrying = _CARRYING.get(op.qualified_kind)
    if carrying is None or not _keeps_rows(op):
        return None
    return _broadcast(op, rows, carrying)


def _rank(value: Value) -> int:
    assert value.type is not None and value.type.shape is not None
    return len(value.type.shape)


def _is_known(value: Value) -> bool:
    return value.type is not None and value.type.shape is not None


# Windows ------------------------------------------------------------------------------------------

_WINDOWS = frozenset(["Conv", "MaxPool", "AveragePool"])
_IMAGE = 4  # axes


def _window(op: Op, rows: Rows) -> Restriction | None:
    """Rows that windows slide over; what lies outside the image is padding."""
    source, result = op.operand(0), op.writes[0]
    height = rows_of(source)
    if source is None or height is None or _rank(source) != _IMAGE or _rank(result) != _IMAGE:
        return None
    if op.attribute("auto_pad", "NOTSET") != "NOTSET" or op.attribute("ceil_mode", 0):
        return None
    kernel = op.attribute("kernel_shape") or _shape(op.operand(1))[2:]
    if not kernel or not isinstance(kernel[0], int):
        return None
    stride = (op.attribute("strides") or (1, 1))[0]
    reach = (kernel[0] - 1) * (op.attribute("dilations") or (1, 1))[0] + 1
    pads = op.attribute("pads") or (0, 0, 0, 0)
    first = rows[0] * stride - pads[0]
    end = (rows[1] - 1) * stride - pads[0] + reach
    if rows[1] == rows_of(result):
        end = height + pads[2]  # of which windows need not reach the last rows
    before, after = max(0, -first), max(0, end - height)
    if first + before >= end - after or min(pads) < 0:
        return None
    attributes: dict[str, Attribute] = dict(op.attributes)
    if (before, after) != (pads[0], pads[2]):
        attributes["pads"] = Attribute.of((before, pads[1], after, pads[3]))
    operands = ((first + before, end - after), *(None,) * (len(op.operands) - 1))
    return Restriction(operands, attributes)


def _shape(value: Value | None) -> tuple[Any, ...]:
    return () if value is None or value.type is None else tuple(value.type.shape or ())


# Row by row ---------------------------------------------------------------------------------------

_ELEMENTWISE = frozenset(
    [
        "Abs",
        "Add",
        "And",
        "Cast",
        "Ceil",
        "Clip",
        "Cos",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Mean",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "PRelu",
        "Pow",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Sum",
        "Tanh",
        "ThresholdedRelu",
        "Where",
        "com.microsoft.BiasGelu",
        "com.microsoft.FastGelu",
        "com.microsoft.Gelu",
        "com.microsoft.QuickGelu",
    ]
)
"""Results are made of the elements in the same place; operands broadcast."""

_CARRYING: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (0,),
    "Concat": (),  # all of them: see _broadcast
    "Gemm": (0, 2),
    "LRN": (0,),
    "LayerNormalization": (0,),
    "MatMul": (0,),
    "RMSNormalization": (0,),
    "Softmax": (0,),
    "com.microsoft.SkipLayerNormalization": (0, 1),
}
"""Operands that have the rows of the result; the others are read whole for every row."""
_SOFTMAX_SINCE = 13
"""Before, it took all axes from one on together."""


def _keeps_rows(op: Op) -> bool:
    """Whether each row of the result is made of the same row of the operands that carry rows."""
    rank = _rank(op.writes[0])
    match op.kind:
        case "BatchNormalization":
            return not op.attribute("training_mode", 0) and rank == _IMAGE
        case "Concat":
            return bool(op.attribute("axis", 0) % rank != rank - 2)
        case "Gemm":
            return not op.attribute("transA", 0)
        case "LRN":
            return rank == _IMAGE
        case "LayerNormalization" | "RMSNormalization":
            return bool(op.attribute("axis", -1) % rank == rank - 1)
        case "Softmax":
            since = 0 if op.graph is None else op.graph.opsets.get("", 0)
            return since >= _SOFTMAX_SINCE and op.attribute("axis", -1) % rank != rank - 2
    return True


def _broadcast(op: Op, rows: Rows, carrying: Any) -> Restriction | None:
    """The same rows of each operand that has as many; those of one row or none are read whole."""
    result = op.writes[0]
    carrying = carrying or range(len(op.operands))
    operands: list[Rows | None] = []
    for index, value in enumerate(op.operands):
        if value is None or index not in carrying or _rank(value) < 2 or rows_of(value) == 1:
            operands.append(None)
        elif rows_of(value) == rows_of(result):
            operands.append(rows)
        else:
            return None
    first = op.operands[0] if op.operands else None
    if first is None or not any(operands):
        return None
    if op.kind in _CARRYING and (operands[0] is None or _rank(first) != _rank(result)):
        return None
    return Restriction(tuple(operands), op.attributes)
