"""Where onnx.reference departs from the op sets, and regions, which are ours: against the texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest

from ramiel_ir.interpret import interpret
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.pipeline import PassManager

X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)


def model(text: str, opset: int) -> onnx.ModelProto:
    """The model a text in ONNX's own syntax stands for."""
    return onnx.parser.parse_model(f'<ir_version: 7, opset_import: ["": {opset}]>\n{text}')


def check(source: onnx.ModelProto, **inputs: Any) -> None:
    """Compare interpret with ONNX Runtime, optimisations off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = source.SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    expected = session.run(None, inputs)
    found = list(interpret(read_onnx(source), inputs).values())
    for a, b in zip(found, expected, strict=True):
        assert np.asarray(a).dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("attributes", ["", "<axis=0>", "<axis=1>", "<axis=2>", "<axis=-1>"])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_takes_trailing_axes_as_one_before_opset_13(
    kind: str, attributes: str, opset: int
) -> None:
    text = f"g (float[2,3,4] x) => (float[2,3,4] y) {{ y = {kind} {attributes} (x) }}"
    check(model(text, opset), x=X)


@pytest.mark.parametrize("opset", [7, 9, 14])
def test_batch_normalization_with_one_result_is_inference(opset: int) -> None:
    text = """g (float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v)
        => (float[2,3,4] y) { y = BatchNormalization <epsilon=0.01> (x, s, b, m, v) }"""
    s, b, m, v = np.abs(np.random.default_rng(1).normal(size=(4, 3))).astype(np.float32)
    check(model(text, opset), x=X, s=s, b=b, m=m, v=v)


def test_scatter_is_scatter_elements() -> None:
    text = """g (float[2,3] x, int64[1,2] i, float[1,2] u) => (float[2,3] y) {
        y = Scatter <axis=1> (x, i, u) }"""
    u = np.array([[7, 8]], np.float32)
    check(model(text, 9), x=X[:, :, 0].copy(), i=np.array([[0, 2]]), u=u)


def test_fold_uses_the_meaning_of_the_models_op_set() -> None:
    text = """g (float[2,3] z) => (float[2,3] y)
        <float[1,2,3] w = {1, 2, 3, 4, 5, 6}> { p = Softmax (w)  y = Add (z, p) }"""
    graph = read_onnx(model(text, 11))
    z = np.zeros((2, 3), np.float32)
    expected = interpret(graph, {"z": z})["y"]
    assert abs(expected.sum() - 1) < 1e-5
    assert PassManager.parse("fold").run(graph) and len(graph.ops) == 1
    np.testing.assert_allclose(interpret(graph, {"z": z})["y"], expected)


LOOP = """g (int64 n, bool go, float[2] a) => (float[2] last, float[k,2] rows, int64[k] turns) {
    last, rows, turns = Loop (n, go, a) <body = b (int64 i, bool c, float[2] s)
        => (bool d, float[2] t, float[2] row, int64 turn) {
            t = Add (s, a)  row = Mul (t, s)  turn = Identity (i)  d = Identity (c) }> }"""


@pytest.mark.parametrize(("turns", "go"), [(3, True), (0, True), (3, False), (1, True)])
def test_what_a_loop_returns_each_time_is_stacked(turns: int, go: bool) -> None:
    check(model(LOOP, 16), n=np.array(turns), go=np.array(go), a=np.array([1, 2], np.float32))


def test_scan_with_axes_and_directions() -> None:
    text = """g (float[3] s, float[2,3,4] x) => (float[3] t, float[3,n] y) {
        t, y = Scan <num_scan_inputs=1, scan_input_axes=[2], scan_input_directions=[1],
            scan_output_axes=[1], scan_output_directions=[1],
            body = b (float[3] p, float[2,3] q) => (float[3] o, float[3] r) {
                sum = ReduceSum <keepdims=0> (q, axis)  o = Add (p, sum)  r = Mul (o, p) }>
            (s, x) }"""
    source = model(text, 16)
    axis = onnx.numpy_helper.from_array(np.array([0]), "axis")
    source.graph.initializer.append(axis)
    check(source, s=np.ones(3, np.float32), x=X)
