"""If, Loop and Scan become Python statements that compute what ONNX Runtime computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import pytest

from ramiel_backends.torch import emit as emit_module
from ramiel_backends.torch.backend import TorchBackend
from ramiel_ir.errors import UnsupportedOpError
from ramiel_ir.interpret import interpret
from ramiel_ir.ir import Attribute
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.pipeline import Context
from tests.backends.torch.helpers import assert_same, check, emit, op_of, parse, run

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(autouse=True)
def _free_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tensors are freed like large ones, so that small models show it."""
    monkeypatch.setattr(emit_module, "SMALL", -1)


YES, NO = np.array(True), np.array(False)


def test_if_with_captures(tmp_path: Path) -> None:
    model = parse("""g (bool c, float[2,4] x) => (float[2,4] y, float[2,4] z) {
        a = Relu(x)
        b = Neg(x)
        w = Abs(x)
        y, z = If (c) <
          then_branch = t () => (float[2,4] p, float[2,4] q) {
            s = Add(a, b)
            p = Mul(s, w)
            q = Sub(p, s)
          },
          else_branch = e () => (float[2,4] r, float[2,4] r2) {
            r = Exp(b)
            r2 = Identity(a)
          }>
    }""")
    text = check(model, tmp_path, {"c": YES, "x": X}, {"c": NO, "x": X})
    assert "if bool(c):" in text and "else:" in text


def test_if_returns_the_same_value_twice_and_captures(tmp_path: Path) -> None:
    model = parse("""g (bool c, float[2,4] x) => (float[2,4] u, float[2,4] v, float[2,4] w) {
        a = Relu(x)
        y, y2, y3 = If (c) <
          then_branch = t () => (float[2,4] p, float[2,4] p, float[2,4] w) {
             p = Exp(a)
             w = Abs(p)
          },
          else_branch = e () => (float[2,4] q, float[2,4] s, float[2,4] r) {
             q = Identity(a)
             s = Identity(x)
             r = Sqrt(q)
          }>
        u = Neg(y)
        v = Neg(y2)
        w = Neg(y3)
    }""")
    a, e = np.maximum(X, 0), np.exp(np.maximum(X, 0))
    for workers in (1, 2):  # ONNX Runtime returns uninitialised memory here
        emit(model, tmp_path / str(workers), workers)
        found = run(tmp_path / str(workers), {"c": YES, "x": X})
        assert_same(found, {"u": -e, "v": -e, "w": -e})
        found = run(tmp_path / str(workers), {"c": NO, "x": X})
        assert_same(found, {"u": -a, "v": -X, "w": -np.sqrt(a)})


def test_if_of_single_expressions_is_a_conditional_expression(tmp_path: Path) -> None:
    model = parse("""g (bool c, float[2,4] x) => (float[2,4] y) {
        y = If (c) <
          then_branch = t () => (float[2,4] p) { p = Relu(x) },
          else_branch = e () => (float[2,4] q) { q = Neg(x) }>
    }""")
    text = check(model, tmp_path, {"c": YES, "x": X}, {"c": NO, "x": X})
    assert "y = F.relu(x) if bool(c) else -x" in text


def test_if_whose_results_nobody_reads(tmp_path: Path) -> None:
    model = parse("""g (bool c, float[2,4] x) => (float[2,4] z) {
        y, y2 = If (c) <
          then_branch = t () => (float[2,4] p, float[2,4] p2) { p = Relu(x) p2 = Identity(x) },
          else_branch = e () => (float[2,4] q, float[2,4] q2) {
             q = Neg(x)
             q2 = Abs(q)
          }>
        z = Neg(y2)
    }""")
    check(model, tmp_path, {"c": YES, "x": X}, {"c": NO, "x": X})


def test_nested_ifs(tmp_path: Path) -> None:
    model = parse("""g (bool c, bool d, float[2,4] x) => (float[2,4] y) {
        a = Neg(x)
        y = If (c) <
          then_branch = t () => (float[2,4] p) {
            b = Relu(a)
            p = If (d) <
              then_branch = t2 () => (float[2,4] p2) { p1 = Add(a, b)  p2 = Mul(p1, b) },
              else_branch = e2 () => (float[2,4] q2) { q2 = Identity(a) }>
          },
          else_branch = e () => (float[2,4] q) { q = Exp(a) }>
    }""")
    check(model, tmp_path, *({"c": c, "d": d, "x": X} for c in (YES, NO) for d in (YES, NO)))


def loop_model(
    body: str, call: str, *, inputs: str, outputs: str, before: str = ""
) -> onnx.ModelProto:
    return parse(f"g ({inputs}) => ({outputs}) {{ {before} {call} <body = b {body}> }}")


def test_loop_with_trip_count_scans_and_iteration_number(tmp_path: Path) -> None:
    model = loop_model(
        """(int64 i, bool c, float[2,4] s) => (bool c2, float[2,4] s2, float[2,4] o, int64 i2) {
             c2 = Identity(c)
             f = Cast<to=1>(i)
             s2 = Add(s, f)
             o = Mul(s2, k)
             i2 = Identity(i)
           }""",
        "r, os, is = Loop(m, , x)",
        inputs="int64 m, float[2,4] x",
        outputs="float[2,4] r, float[N,2,4] os, int64[N] is",
        before="k = Neg(x)",
    )
    text = check(model, tmp_path, {"m": np.array(3), "x": X})
    assert "for step in range(int(m)):" in text
    empty = run(tmp_path / "1", {"m": np.array(0), "x": X})
    np.testing.assert_array_equal(empty["r"], X)
    assert empty["os"].shape == (0, 2, 4) and empty["os"].dtype == np.float32
    assert empty["is"].shape == (0,) and empty["is"].dtype == np.int64


def test_loop_that_ends_by_its_condition(tmp_path: Path) -> None:
    body = """(int64 i, bool d, float s) => (bool c2, float s2, float o) {
             two = Constant<value_float=2.0>()
             s2 = Mul(s, two)
             o = Identity(s)
             c2 = Less(s2, limit)
           }"""
    inputs, outputs = "int64 m, bool c, float limit, float x", "float r, float[N] os"
    one = np.array(1, np.float32)
    given = [
        {"m": np.array(m), "c": c, "limit": np.array(limit, np.float32), "x": one}
        for m, c, limit in ((9, YES, 20), (3, YES, 1000), (9, YES, 1))
    ]
    both = loop_model(body, "r, os = Loop(m, c, x)", inputs=inputs, outputs=outputs)
    text = check(both, tmp_path / "both", *given)
    assert "break" in text and "if bool(c) else 0" in text
    stopped = run(tmp_path / "both" / "1", {**given[0], "c": NO})
    assert stopped["r"] == 1 and stopped["os"].shape == (0,)
    inputs = inputs.removeprefix("int64 m, ")
    for item in given:
        del item["m"]
    text = check(
        loop_model(body, "r, os = Loop(, c, x)", inputs=inputs, outputs=outputs),
        *(tmp_path / "while", *given),
    )
    assert "while going:" in text


def test_while_loop_that_counts(tmp_path: Path) -> None:
    model = loop_model(
        """(int64 i, bool d, int64 s) => (bool c2, int64 s2) {
             s2 = Add(s, i)
             c2 = Less(s2, limit)
           }""",
        "r = Loop(, c, x)",
        inputs="bool c, int64 limit, int64 x",
        outputs="int64 r",
    )
    text = check(model, tmp_path, {"c": YES, "limit": np.array(20), "x": np.array(0)})
    assert "step = step + 1" in text


def test_loop_swaps_its_variables_and_tests_an_old_one(tmp_path: Path) -> None:
    model = loop_model(
        """(int64 i, bool c, float a, float b, bool go, bool next) =>
             (bool go, float b, float a, bool next, bool never) {
             never = Constant<value = bool {0}>()
           }""",
        "r, s, t, u = Loop(m, , x, y, yes, yes)",
        inputs="int64 m, bool yes, float x, float y",
        outputs="float r, float s, bool t, bool u",
    )
    emit(model, tmp_path / "a")
    one, two = np.array(1, np.float32), np.array(2, np.float32)
    for times, expected in (
        (1, (2, 1, True, False)),
        (2, (1, 2, False, False)),
        (7, (2, 1, False, False)),
    ):
        found = run(tmp_path / "a", {"m": np.array(times), "yes": YES, "x": one, "y": two})
        assert tuple(found.values()) == expected


def test_loop_carries_a_sequence(tmp_path: Path) -> None:
    model = loop_model(
        """(int64 i, bool c, seq(float[2,4]) s) => (bool c2, seq(float[2,4]) s2) {
             c2 = Identity(c)
             f = Cast<to=1>(i)
             t = Add(x, f)
             s2 = SequenceInsert(s, t)
           }""",
        "r = Loop(m, , empty)",
        inputs="int64 m, float[2,4] x",
        outputs="seq(float[2,4]) r",
        before="empty = SequenceEmpty<dtype=1>()",
    )
    check(model, tmp_path, {"m": np.array(3), "x": X})


def test_loop_in_a_loop_with_weights_of_its_own(tmp_path: Path) -> None:
    model = loop_model(
        """(int64 i, bool c, float[2,4] s) => (bool c2, float[2,4] s3) {
             c2 = Identity(c)
             w = Constant<value_floats=[1.0, 2.0, 3.0, 4.0]>()
             s2 = Add(s, w)
             s3 = Loop(m, , s2) <body = b2 (int64 j, bool d, float[2,4] t) =>
               (bool d2, float[2,4] t2) {
                 d2 = Identity(d)
                 h = Mul(t, half)
                 t2 = Add(h, w)
               }>
           }""",
        "r = Loop(m, , x)",
        inputs="int64 m, float[2,4] x",
        outputs="float[2,4] r",
        before="half = Constant<value_float=0.5>()",
    )
    check(model, tmp_path, {"m": np.array(3), "x": X})
    np.testing.assert_array_equal(run(tmp_path / "1", {"m": np.array(0), "x": X})["r"], X)


def test_loop_results_that_are_absent(tmp_path: Path) -> None:
    model = loop_model(
        """(int64 i, bool c, float[2,4] s, float[2,4] t) =>
             (bool c2, float[2,4] s2, float[2,4] t2, float[2,4] o, float[2,4] p) {
             c2 = Identity(c)
             s2 = Add(s, t)
             t2 = Neg(t)
             o = Identity(s)
             p = Identity(t)
           }""",
        "r, , , ps = Loop(m, , x, x)",
        inputs="int64 m, float[2,4] x",
        outputs="float[2,4] r, float[N,2,4] ps",
    )
    emit(model, tmp_path / "a")
    found = run(tmp_path / "a", {"m": np.array(3), "x": X})
    assert_same(found, {"r": X + X - X + X, "ps": np.stack([X, -X, X])})


def scan_model(
    directions: tuple[int, int], axes: tuple[int, int], out: tuple[int, int]
) -> onnx.ModelProto:
    f32 = onnx.TensorProto.FLOAT
    body = oh.make_graph(
        [
            oh.make_node("Add", ["s", "a"], ["s2"]),
            oh.make_node("Mul", ["s2", "b"], ["m"]),
            oh.make_node("Add", ["m", "k"], ["o"]),
        ],
        "body",
        [oh.make_tensor_value_info(name, f32, [4]) for name in ("s", "a", "b")],
        [oh.make_tensor_value_info(name, f32, [4]) for name in ("s2", "o")],
    )
    scan = oh.make_node(
        "Scan",
        ["s0", "xs", "ys"],
        ["final", "scanned"],
        body=body,
        num_scan_inputs=2,
        scan_input_directions=list(directions),
        scan_input_axes=list(axes),
        scan_output_directions=[out[0]],
        scan_output_axes=[out[1]],
    )
    shapes = [(3, 4) if axis in (0, -2) else (4, 3) for axis in axes]
    inputs = [oh.make_tensor_value_info("s0", f32, [4])]
    inputs += [
        oh.make_tensor_value_info(n, f32, s) for n, s in zip(("xs", "ys"), shapes, strict=True)
    ]
    outputs = [
        oh.make_tensor_value_info("final", f32, [4]),
        oh.make_tensor_value_info("scanned", f32, [3, 4] if out[1] in (0, -2) else [4, 3]),
    ]
    graph = oh.make_graph(
        [oh.make_node("Neg", ["s0"], ["k"]), scan], "g", inputs, outputs
    )  # fmt: skip
    return oh.make_model(graph, ir_version=10, opset_imports=[oh.make_opsetid("", 21)])


@pytest.mark.parametrize(
    ("directions", "axes", "out"),
    [((0, 0), (0, 0), (0, 0)), ((0, 0), (0, 1), (0, 1)), ((0, 0), (-2, -1), (0, -1))],
)
def test_scan(
    tmp_path: Path, directions: tuple[int, int], axes: tuple[int, int], out: tuple[int, int]
) -> None:
    model = scan_model(directions, axes, out)
    expected_scan(model, tmp_path, directions, axes, out)


@pytest.mark.parametrize("directions", [(1, 0), (0, 1), (1, 1)])
def test_scan_backwards(tmp_path: Path, directions: tuple[int, int]) -> None:
    for place, out in enumerate([(0, 0), (1, 1)]):
        model = scan_model(directions, (0, 1), out)
        expected_scan(model, tmp_path / str(place), directions, (0, 1), out)


def expected_scan(
    model: onnx.ModelProto,
    folder: Path,
    directions: tuple[int, int],
    axes: tuple[int, int],
    out: tuple[int, int],
) -> None:
    """Compare with Scan by its definition."""
    rng = np.random.default_rng(0)
    start = rng.standard_normal(4).astype(np.float32)
    shapes = [(3, 4) if axis in (0, -2) else (4, 3) for axis in axes]
    xs, ys = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    slices = [
        list(np.moveaxis(array, axis, 0))[:: -1 if backwards else 1]
        for array, axis, backwards in zip((xs, ys), axes, directions, strict=True)
    ]
    state, scanned = start, []
    for a, b in zip(*slices, strict=True):
        state = state + a
        scanned.append(state * b - start)
    if out[0]:
        scanned.reverse()
    for workers in (1, 2):
        emit(model, folder / str(workers), workers)
        found = run(folder / str(workers), {"s0": start, "xs": xs, "ys": ys})
        np.testing.assert_allclose(found["final"], state, rtol=1e-5)
        np.testing.assert_allclose(found["scanned"], np.stack(scanned, out[1]), rtol=1e-5)


def test_scan_of_opset_8_is_refused() -> None:
    graph = read_onnx(scan_model((0, 0), (0, 0), (0, 0)))
    TorchBackend().check(graph)
    graph.opsets[""] = 8
    with pytest.raises(UnsupportedOpError, match=r"Scan × 1 \(Scan before opset 9"):
        TorchBackend().check(graph)


def test_a_scan_along_an_axis_that_is_none_is_refused() -> None:
    graph = read_onnx(scan_model((0, 0), (0, 0), (0, 0)))
    scan = op_of(graph, "Scan")
    for axes in ((-3, 0), (0, 2)):
        scan.attributes["scan_input_axes"] = Attribute.of(axes)
        with pytest.raises(UnsupportedOpError, match=r"Scan × 1 \(it scans axis"):
            TorchBackend().check(graph)


def test_unsupported_ops_in_regions_are_named() -> None:
    model = parse("""g (bool c, float[2,4] x) => (float[2,4] y) {
        y = If (c) <
          then_branch = t () => (float[2,4] p) { p = Relu(x) },
          else_branch = e () => (float[2,4] q) { q = Neg(x) }>
    }""")
    graph = read_onnx(model)
    inner = graph.ops[0].regions["else_branch"].ops[0]
    inner.kind = "Nonsense"
    with pytest.raises(UnsupportedOpError, match=r"Nonsense × 1 .*there is no row"):
        TorchBackend().check(graph)


def test_prepare_expands_inside_regions(tmp_path: Path) -> None:
    model = parse("""g (seq(float[2,4]) xs) => (seq(float[2,4]) ys) {
        ys = SequenceMap (xs) <body = b (float[2,4] x) => (float[2,4] y) { y = Neg(x) }>
    }""")
    graph = TorchBackend().prepare(read_onnx(model), Context())
    assert [value.name for value in graph.outputs] == ["ys"]
    TorchBackend().check(graph)
    emit(model, tmp_path / "a")
    found = run(tmp_path / "a", {"xs": [X, X + 1]})
    np.testing.assert_allclose(found["ys"][1], -X - 1)


def test_a_sequence_map_captures(tmp_path: Path) -> None:
    text = """g (float[2,4] x, float[4] z) => (float[4,4] y) <float[4] w = {1, 2, 3, 4}> {
        n = Relu(x)
        s = SplitToSequence <axis = 0> (x)
        r = SequenceMap (s, z) <
          body = b (float[1,4] item, float[4] k) => (float[2,4] o) {
            a = Add(item, n)
            b = Mul(a, w)
            o = Sub(b, k)
          }>
        y = ConcatFromSequence <axis = 0> (r)
    }"""
    inputs = {"x": X, "z": X[1] + 1}
    model = parse(text)
    check(model, tmp_path / "a", inputs)
    expected = np.concatenate([(row + np.maximum(X, 0)) * [1, 2, 3, 4] - X[1] - 1 for row in X])
    np.testing.assert_allclose(interpret(read_onnx(model), inputs)["y"], expected, rtol=1e-6)
    # Names that ONNX's definition of the op uses would stand for other values.
    for name in ("input_sequence", "additional_inputs_1", "SequenceMap_input_sequence_seqlen"):
        graph = read_onnx(parse(text.replace("n = ", f"{name} = ").replace(" n)", f" {name})")))
        prepared = TorchBackend().prepare(graph, Context())
        with pytest.raises(UnsupportedOpError, match="SequenceMap × 1"):
            TorchBackend().check(prepared)
