"""The list of ops that the torch backend emits, and rows that once went wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from ramiel_backends.torch.backend import TorchBackend
from ramiel_backends.torch.table import TABLE
from ramiel_ir.errors import UnsupportedOpError
from ramiel_ir.onnx_reader import read_onnx
from tests.backends.torch.helpers import assert_same, check, emit, parse, reference, run

Array = np.ndarray[Any, Any]


def with_constants(model: onnx.ModelProto, **arrays: Array) -> onnx.ModelProto:
    """The model with these inputs as weights."""
    kept = [value for value in model.graph.input if value.name not in arrays]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    return model


def test_ops_lists_the_whole_table_sorted_and_the_ops_with_regions() -> None:
    ops = TorchBackend().ops()
    assert list(ops) == sorted(ops)
    assert len(ops) == len(TABLE.rows) + 3
    assert ops["Softmax"] == [1, 13] and ops["Scan"] == [9]
    assert "com.microsoft.FusedMatMul" in ops
    assert all(versions == sorted(set(versions)) for versions in ops.values())


@pytest.mark.parametrize(
    ("type", "x"),
    [("float[n]", np.arange(4, dtype=np.float32)), ("string[4]", np.array(list("abcd"), object))],
    ids=["dynamic", "text"],
)
def test_a_split_into_one_is_that_one(type: str, x: Array, tmp_path: Path) -> None:
    whole = parse(f"g ({type} x) => ({type} y) {{ y = Split<num_outputs=1>(x) }}")
    emit(whole, tmp_path / "even")
    assert run(tmp_path / "even", {"x": x})["y"].tolist() == x.tolist()
    told = parse(f"g ({type} x, int64[1] s) => ({type} y) {{ y = Split(x, s) }}")
    emit(told, tmp_path / "told")
    assert run(tmp_path / "told", {"x": x, "s": np.array([4])})["y"].tolist() == x.tolist()


@pytest.mark.parametrize("keep", [0, 1])
def test_the_product_of_a_vector(keep: int, tmp_path: Path) -> None:
    shape = "[1]" if keep else ""
    model = parse(f"g (float[4] x) => (float{shape} y) {{ y = ReduceProd<keepdims={keep}>(x) }}")
    check(model, tmp_path, {"x": np.arange(1, 5, dtype=np.float32)})


@pytest.mark.parametrize(
    ("type", "x"), [("float16", np.array([1e-5, 2], "f2")), ("float", np.array([1e-39, 3], "f4"))]
)
def test_a_constant_divided_by_a_small_number_is_finite(
    type: str, x: Array, tmp_path: Path
) -> None:
    model = parse(f"g ({type}[2] x, {type} c) => ({type}[2] y) {{ y = Div(c, x) }}")
    check(with_constants(model, c=np.array(1e-3, x.dtype)), tmp_path, {"x": x})


@pytest.mark.parametrize("value", [7, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_whole_numbers_fill_exactly(value: int, tmp_path: Path) -> None:
    text = "g (int64[2] x, int64 c) => (int64[4] y) <int64[2] p = {1, 1}> { y = Pad(x, p, c) }"
    x, c = np.array([1, 2]), np.array(value)
    given = emit(parse(text), tmp_path / "given")
    known = emit(with_constants(parse(text), c=c), tmp_path / "known")
    assert "F.pad" not in given and ("F.pad" in known) == (value == 7)
    for place, inputs in (("given", {"x": x, "c": c}), ("known", {"x": x})):
        assert run(tmp_path / place, inputs)["y"].tolist() == [value, 1, 2, value]


@pytest.mark.parametrize("kind", ["Max", "Min", "Sum", "Mean"])
def test_as_many_operands_as_one_likes(kind: str, tmp_path: Path) -> None:
    inputs = {f"x{i}": np.array([i, 1], np.float32) for i in range(3)}
    node = helper.make_node(kind, [f"x{i % 3}" for i in range(1200)], ["y"])
    values = [helper.make_tensor_value_info(name, 1, [2]) for name in (*inputs, "y")]
    graph = helper.make_graph([node], "g", values[:-1], values[-1:])
    opsets = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, ir_version=10, opset_imports=opsets)
    emit(model, tmp_path / "a")
    assert_same(run(tmp_path / "a", inputs), reference(model, inputs))


@pytest.mark.parametrize(
    "numbers", [(0.1, 1.1, 0.25), (1, 1.3, 0.1), (0, 0.3, 0.1), (2, -1, -0.3), (1, 0, 0.5)]
)
def test_a_range_of_floats_has_as_many_as_onnxruntime_says(
    numbers: tuple[float, ...], tmp_path: Path
) -> None:
    text = "g (float a, float b, float c) => (float[n] y) { y = Range(a, b, c) }"
    inputs = dict(zip("abc", (np.array(number, np.float32) for number in numbers), strict=True))
    check(parse(text), tmp_path / "given", inputs)
    check(with_constants(parse(text), **inputs), tmp_path / "known", {})


WINDOWS = {
    "conv": ("Conv", (4, 3, 3, 3), ""),
    "conv_stride": ("Conv", (4, 3, 5, 3), "strides=[2,1],"),
    "max_pool": ("MaxPool", None, "kernel_shape=[3,3],"),
    "average_pool": ("AveragePool", None, "kernel_shape=[3,3],"),
    "average_pool_all": ("AveragePool", None, "kernel_shape=[3,3],count_include_pad=1,"),
}


@pytest.mark.parametrize("pads", [(1, 1, 0, 1), (0, 1, 1, 1), (1, 0, 1, 1), (0, 0, 1, 0)])
@pytest.mark.parametrize("name", WINDOWS)
def test_unequal_padding_copies_no_operand(
    name: str, pads: tuple[int, ...], tmp_path: Path
) -> None:
    kind, kernels, attributes = WINDOWS[name]
    numbers = np.random.default_rng(0)
    inputs = {"x": numbers.normal(size=(2, 3, 9, 7)).astype("f4")}
    if kernels is not None:
        inputs["w"] = numbers.normal(size=kernels).astype("f4")
    given = ", ".join(f"float{list(array.shape)} {key}" for key, array in inputs.items())
    op = f"{kind}<{attributes}pads={list(pads)}>({', '.join(inputs)})"
    model = parse(f"g ({given}) => (float[a,b,c,d] y) {{ y = {op} }}")
    text = emit(model, tmp_path)
    assert_same(run(tmp_path, inputs), reference(model, inputs))
    # with a stride of 2, the windows of one more row at the top are other windows
    assert ("F.pad" in text) == (name == "conv_stride" and pads[0] < pads[2])


@pytest.mark.parametrize(
    ("op", "size", "asks"),
    [
        ("Conv(x, w, b)", (1, 64, 20, 20), True),
        ("Conv<pads=[0,0,0,0]>(x, w)", (2, 64, 20, 20), True),
        ("Conv(x, w, b)", (1, 64, 17, 18), False),  # torch would not ask oneDNN
        ("Conv(x, w, b)", (1, 2048, 8, 8), False),  # nor would it win
        ("Conv<strides=[2,2]>(x, w, b)", (1, 64, 20, 20), False),  # torch asks by itself
        ("Conv<pads=[1,1,1,1]>(x, w, b)", (1, 64, 20, 20), False),
        ("Conv<pads=[0,0,1,1]>(x, w, b)", (1, 64, 20, 20), False),
        ("Conv<pads=[1,0,0,0]>(x, w, b)", (1, 64, 20, 20), False),
        ("Conv<group=2>(x, w, b)", (1, 128, 20, 20), False),
    ],
)
def test_large_images_meet_small_kernels_in_onednn(
    op: str, size: tuple[int, ...], asks: bool, tmp_path: Path
) -> None:
    numbers = np.random.default_rng(0)
    channels = size[1] // 2 if "group" in op else size[1]
    weights = {
        "w": numbers.normal(size=(6, channels, 1, 1)).astype("f4") / 8,
        "b": numbers.normal(size=6).astype("f4"),
    }
    given = ", ".join(
        f"float[{','.join(map(str, shape))}] {key}"
        for key, shape in (("x", size), *((key, array.shape) for key, array in weights.items()))
    )
    inputs = {"x": numbers.normal(size=size).astype("f4"), **weights}
    model = parse(f"g ({given}) => (float[a,b,c,d] y) {{ y = {op} }}")
    text = emit(model, tmp_path)
    assert ("nn.pointwise_conv2d(" in text) == asks
    assert_same(run(tmp_path, inputs), reference(model, inputs))


def matching(pattern: str) -> onnx.ModelProto:
    """RegexFullMatch of a vector."""
    model = parse("g (string[n] x) => (bool[n] y) { y = RegexFullMatch(x) }")
    model.graph.node[0].attribute.append(helper.make_attribute("pattern", pattern))
    return model


@pytest.mark.parametrize("pattern", [r"\w+", r"\d+", r"[a-z.]+", r"\\p", "\u00e9"])
def test_patterns_mean_what_re2_says(pattern: str, tmp_path: Path) -> None:
    x = np.array(["a", "\u00e9", "a.b", "\u0663", "7", "\\p"], object)
    check(matching(pattern), tmp_path, {"x": x})


@pytest.mark.parametrize(
    "pattern", ["[[:alpha:]]+", r"\pL", r"\P{L}", r"a\z", r"\C", r"\Qa.\E", "(?i)\u00e9", "(a"]
)
def test_patterns_that_python_reads_differently_are_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedOpError, match=r"RegexFullMatch × 1 \(.*(Python|ASCII)"):
        TorchBackend().check(read_onnx(matching(pattern)))


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("type", ["float", "double"])
def test_small_vectors_are_normalized_too(type: str, p: int, tmp_path: Path) -> None:
    text = f"y = LpNormalization<axis = 1, p = {p}>(x)"
    model = parse(f"g ({type}[2,2] x) => ({type}[2,2] y) {{ {text} }}")
    x = np.array([[3e-13, 4e-13], [0, 0]], "f4" if type == "float" else "f8")
    check(model, tmp_path, {"x": x})


@pytest.mark.parametrize("type", ["uint32", "uint64"])
def test_neighbours_beyond_the_floats_are_told_apart(type: str, tmp_path: Path) -> None:
    model = parse(f"""g ({type}[2] x) => (int64[1] y, int64[1] z) {{
        y = ArgMax(x)
        z = ArgMin(x)
    }}""")
    emit(model, tmp_path / "a")
    high = 2**24 if type == "uint32" else 2**53
    found = run(tmp_path / "a", {"x": np.array([high, high + 1], type)})
    assert found["y"].tolist() == [1] and found["z"].tolist() == [0]
