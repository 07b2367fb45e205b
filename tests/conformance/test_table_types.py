"""The torch op table beyond the conformance cases: every element type, known and unknown operands.

What onnx.reference computes is what the table's expressions must give, with constants and without.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from ramiel_ir.compare import deviation
from ramiel_ir.ir import Array, DType, Graph, Tensor, Type, Value
from ramiel_ir.onnx_reference import evaluate
from tests.conformance.evaluate import Evaluator, to_numpy, to_torch

INTEGERS = [dtype for dtype in DType if dtype.numpy.kind in "iu" and dtype.bits >= 8]
NUMBERS = [*INTEGERS, DType.F32, DType.F64, DType.F16, DType.BF16]
ANY = [*NUMBERS, DType.BOOL, DType.STRING, DType.F8E4M3FN, DType.F8E5M2, DType.I4, DType.F4E2M1]


def some(dtype: DType, *shape: int, low: int = 0, high: int = 6) -> Array:
    """Small numbers that every element type has."""
    numbers = np.random.default_rng(0).integers(low, high, shape)
    if dtype is DType.STRING:
        return np.asarray(numbers.astype(str).astype(object))
    return np.asarray((numbers % 2 if dtype is DType.BOOL else numbers).astype(dtype.numpy))


def ints(*numbers: int) -> Array:
    """A vector of i64."""
    return np.array(numbers, np.int64)


def check(
    kind: str, *arrays: Array | None, results: int = 1, opset: int = 22, **attributes: Any
) -> None:
    """Compare an op with the reference, its operands but the first known and unknown."""
    for constant in (False, True):
        graph = Graph(opsets={"": opset})
        known: dict[Value, Array] = {}
        operands: list[Value | None] = []
        for index, array in enumerate(arrays):
            if array is None:
                operands.append(None)
                continue
            if constant and index:
                operands.append(graph.add_weight(f"w{index}", Tensor.of(array)))
            else:
                type = Type(DType.from_numpy(array.dtype), tuple(array.shape))
                operands.append(graph.add_input(Value(f"x{index}", type)))
            known[operands[-1]] = array  # type: ignore[index]
        graph.add(kind, operands, [f"y{i}" for i in range(results)], None, **attributes)
        graph.set_outputs(graph.ops[0].writes)
        wanted = evaluate(graph.ops[0], known)
        found = Evaluator().graph(graph, {value: to_torch(x) for value, x in known.items()})
        for a, b in zip(wanted, found, strict=True):
            seen = deviation(a, to_numpy(b))
            assert seen.agrees, f"{kind} constant={constant}: {seen.reason}"


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda dtype: dtype.text)
def test_arithmetic(dtype: DType) -> None:
    x, y, one = some(dtype, 2, 3), some(dtype, 3, low=1), some(dtype, low=1)
    for kind in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Less", "GreaterOrEqual", "Equal"):
        check(kind, x, y)
        check(kind, x, one)
    check("Pow", x, y)
    check("Mod", x, y, fmod=1)
    check("Clip", x, None, one)
    check("Abs", x)
    check("MatMul", x, some(dtype, 3, 2))
    check("Gemm", x, some(dtype, 2, 3), some(dtype, 2), transB=1)
    check("Einsum", x, some(dtype, 3, 2), equation="ij,jk->ik")
    check("CumSum", x, np.array(-1, np.int32), exclusive=1, reverse=1)
    check("TopK", x, ints(2), results=2, axis=1)
    check("ArgMax", x, axis=1, select_last_index=1)


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda dtype: dtype.text)
def test_bits(dtype: DType) -> None:
    x, y = some(dtype, 2, 3), some(dtype, 3)
    for kind in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        check(kind, x, y)
    check("BitwiseNot", x)
    check("BitShift", x, y, direction="LEFT", opset=28)
    check("BitShift", x, y, direction="RIGHT", opset=28)
    check("Mod", some(dtype, 3), some(dtype, 3, low=1))


@pytest.mark.parametrize("kind", ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2"])
@pytest.mark.parametrize("dtype", [DType.F32, DType.F16, DType.I32, DType.I64, DType.U64])
def test_reductions(kind: str, dtype: DType) -> None:
    x = some(dtype, 2, 3, 4)
    for axes in (ints(1), ints(0, -1), ints(), None):
        check(f"Reduce{kind}", x, axes, keepdims=0)
        check(f"Reduce{kind}", x, axes, noop_with_empty_axes=1)
    check(f"Reduce{kind}", x, axes=(0, 2), opset=11)


@pytest.mark.parametrize("dtype", ANY, ids=lambda dtype: dtype.text)
def test_movement(dtype: DType) -> None:
    x = some(dtype, 2, 3, 4)
    check("Gather", x, np.array([[0, -1]]), axis=1)
    check("Gather", x, np.array(1, np.int32), axis=-1)
    check("GatherND", x, np.array([[0, -1], [1, 1]]))
    check("ScatterElements", x, np.array([[[0, -1, 1, 2]]]), some(dtype, 1, 1, 4), axis=1)
    check("ScatterND", x, np.array([[0, -1], [1, 1]]), some(dtype, 2, 4))
    check("Reshape", x, ints(0, -1), opset=25)
    check("Transpose", x, opset=25)
    check("Flatten", x, axis=2, opset=25)
    check("Unsqueeze", x, ints(0, -1), opset=25)
    check("Expand", x, ints(2, 1, 3, 1))
    check("Tile", x, ints(2, 1, 2))
    check("Concat", x, x, axis=-1)
    check("Slice", x, ints(1, -1), ints(9, -9), ints(1, -1), ints(1, -2))
    check("Split", x, ints(1, 3), results=2, axis=2)
    check("Where", some(DType.BOOL, 3, 1), x, some(dtype))
    for mode in ("edge", "reflect", "wrap"):
        check("Pad", x, ints(0, 1, 1, 0, 0, 2), mode=mode, opset=25)
    check("Compress", x, np.array([True, False, True]), axis=1)
    check("ReverseSequence", x, ints(1, 2, 3, 2), time_axis=1, batch_axis=2)
    check("SpaceToDepth", some(dtype, 1, 2, 4, 4), blocksize=2)
    check("NonZero", x)


@pytest.mark.parametrize("source", ANY, ids=lambda dtype: dtype.text)
def test_casts(source: DType) -> None:
    for target in ANY:
        if DType.STRING in (source, target):
            continue
        check("Cast", some(source, 2, 3), to=target.onnx_code, opset=25)


@pytest.mark.parametrize(
    "target", [DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ]
)
def test_casts_to_float8_at_the_limits(target: DType) -> None:
    edges = [0, np.nan, np.inf, -np.inf, 240, 247, 249, 448, 463, 465, 57344, 61000, 62000, 1e9]
    for saturate, sign in itertools.product((0, 1), (1, -1)):
        numbers = np.array(edges, np.float32) * sign
        check("Cast", numbers, to=target.onnx_code, saturate=saturate, opset=25)


def test_slices_start_inside_when_they_run_backwards() -> None:
    x = to_torch(np.arange(5))
    from ramiel_backends.torch.library import tensor

    assert tensor.cut(x, (-100,), (-200,), None, (-1,)).tolist() == [0]
    assert tensor.cut(x, (100,), (-100,), None, (-2,)).tolist() == [4, 2, 0]


def test_softmax_before_opset_13_takes_the_trailing_axes_as_one() -> None:
    graph = Graph(opsets={"": 11})
    x = graph.add_input(Value("x", Type(DType.F32, (2, 3, 4))))
    graph.set_outputs([graph.add("Softmax", [x], "y")])
    (found,) = Evaluator().graph(graph, {x: to_torch(some(DType.F32, 2, 3, 4))})
    assert np.allclose(found.sum((1, 2)), 1.0)
