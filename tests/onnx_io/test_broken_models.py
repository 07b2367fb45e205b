"""What is broken is refused by one clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import TensorProto, helper, numpy_helper

from ramiel_ir.errors import ModelError, RamielError, UnsupportedOpError
from ramiel_ir.onnx_reader import read_onnx
from tests.onnx_io.models import F32, model, node, round_trip, value, with_functions


def _cycle() -> onnx.ModelProto:
    return model([node("Add", "x b", "a"), node("Neg", "a", "b"), node("Relu", "b", "y")])


def _no_graph() -> onnx.ModelProto:
    proto = onnx.ModelProto()
    proto.graph.node.append(node("Relu", "x", "y"))
    return proto


def _sparse() -> onnx.ModelProto:
    proto = model([node("Add", "x s", "y")])
    values = helper.make_tensor("s", F32, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2]))
    return proto


def _sparse_constant() -> onnx.ModelProto:
    sparse = _sparse().graph.sparse_initializer[0]
    constant = node("Constant", "", "s", sparse_value=sparse)
    return model([constant, node("Add", "x s", "y")])


def _two_weights() -> onnx.ModelProto:
    weights = [numpy_helper.from_array(np.full(2, n, np.float32), "w") for n in range(2)]
    return model([node("Add", "x w", "y")], weights=weights)


def _bad_type() -> onnx.ModelProto:
    return model([node("Relu", "x", "y")], [value("x", 77)])


def _graphs_attribute() -> onnx.ModelProto:
    body = helper.make_graph([node("Relu", "x", "q")], "b", [], [value("q")])
    return model([node("Op", "x", "y", domain="a", bodies=[body])], opsets={"": 21, "a": 1})


def _weight(**fields: Any) -> Callable[[], onnx.ModelProto]:
    weight = onnx.TensorProto(**{"name": "w", "data_type": F32, "dims": [2], **fields})
    return lambda: model([node("Add", "x w", "y")], weights=[weight])


def _constant(**attribute: Any) -> Callable[[], onnx.ModelProto]:
    constant = node("Constant", "", "y")
    constant.attribute.add(**attribute)
    return lambda: model([constant])


def _cluster(text: str) -> onnx.ModelProto:
    relu = node("Relu", "x", "y")
    relu.metadata_props.add(key="ramiel.cluster", value=text)
    return model([relu])


_A = onnx.AttributeProto


@pytest.mark.parametrize(
    ("broken", "error", "message"),
    [
        (_cycle, ModelError, "cycle"),
        (lambda: model([node("Relu", "q", "y")]), ModelError, "reads 'q', which nothing produces"),
        (lambda: model([]), ModelError, "reads 'y', which nothing produces"),
        (lambda: model([node("Relu", "x", "y")] * 2), ModelError, "'y' stands for two values"),
        (lambda: model([node("Relu", "x", "x")]), ModelError, "'x' stands for two values"),
        (
            lambda: model([node("Relu", "x", "y")], [value("x"), value("x")]),
            ModelError,
            "'x' stands for two values",
        ),
        (_two_weights, ModelError, "'w' stands for two values"),
        (
            lambda: model([node("Relu", "x", "y")], opsets={"": 999}),
            ModelError,
            "uses opset 999; the installed onnx knows",
        ),
        (
            lambda: model([node("Op", "x", "y", domain="a.b")]),
            ModelError,
            "uses ops of domain 'a.b' without importing it",
        ),
        (_bad_type, ModelError, "77"),
        (_sparse, UnsupportedOpError, "sparse weights are not supported"),
        (_sparse_constant, UnsupportedOpError, "sparse constants are not supported"),
        (_weight(raw_data=b"\0" * 4), ModelError, r"the data of 'w' does not fill .* \[2\]"),
        (_weight(raw_data=b"\0" * 12), ModelError, "the data of 'w' does not fill"),
        (_weight(float_data=[1.0]), ModelError, "the data of 'w' does not fill"),
        (_weight(), ModelError, "the data of 'w' does not fill"),
        (
            _weight(data_type=TensorProto.STRING, string_data=[b"a"]),
            ModelError,
            "the data of 'w' does not fill",
        ),
        (
            _weight(dims=[-2, 3], raw_data=b"\0" * 8),
            ModelError,
            r"the weight 'w' has a negative dimension: \[-2,3\]",
        ),
        (_graphs_attribute, UnsupportedOpError, "GRAPHS"),
        (
            lambda: model([node("Constant", "", "y")]),
            ModelError,
            "the Constant 'y' has no value",
        ),
        (
            lambda: model([node("Constant", "", "y", value_int=1, value_float=2.0)]),
            ModelError,
            "the Constant 'y' has",
        ),
        (
            lambda: model([node("Constant", "", "y", valve=1)]),
            ModelError,
            "the Constant 'y' has",
        ),
        (
            lambda: model([node("Constant", "", "", value_int=1, name="c")]),
            ModelError,
            "the Constant 'c' has no results, not one",
        ),
        (
            lambda: model([node("Constant", "", "y z", value_int=1)]),
            ModelError,
            "the Constant 'y' has 2 results, not one",
        ),
        (
            _constant(name="value", type=_A.INT, i=3),
            ModelError,
            "the Constant 'y': 'value' is of type INT, not TENSOR",
        ),
        (_constant(name="value", i=3), ModelError, "'value' is of type UNDEFINED, not TENSOR"),
        (
            _constant(name="value_int", type=_A.STRING, s=b"a"),
            ModelError,
            "'value_int' is of type STRING, not INT",
        ),
        (
            _constant(name="value_strings", type=_A.INTS, ints=[1]),
            ModelError,
            "'value_strings' is of type INTS, not STRINGS",
        ),
        (
            lambda: _cluster("9" * 5000),
            ModelError,
            "Relu 'y': the metadata 'ramiel.cluster' is too large a number",
        ),
        (
            lambda: model([node("Op", "x", "y", domain="a")], opsets={"": 21, "a": 2**40}),
            ModelError,
            "no op set has the version 1099511627776, as that of 'a' has here",
        ),
        (lambda: model([node("Relu", "x", "y")], opsets={"": 0}), ModelError, "the version 0"),
    ],
)
def test_a_broken_model_is_refused_by_one_clear_error(
    broken: Callable[[], onnx.ModelProto], error: type[RamielError], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_onnx(broken())


def _calls(bodies: dict[str, list[onnx.NodeProto]]) -> onnx.ModelProto:
    """y = last(x), where `last` is the last of these functions from a to b."""
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
    proto = model([_call(list(bodies)[-1], "x", "y")], opsets={"": 21, "my": 1})
    for name, nodes in bodies.items():
        proto.functions.append(helper.make_function("my", name, ["a"], ["b"], nodes, imports))
    return proto


def _call(name: str, x: str, y: str, **attributes: Any) -> onnx.NodeProto:
    return node(name, x, y, domain="my", **attributes)


def _branch(only: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph([only], "branch", [], [value(only.output[0])])


def _calls_in_a_branch() -> onnx.ModelProto:
    flag = node("Constant", "", "c", value=numpy_helper.from_array(np.array(True)))
    branch = _branch(_call("f", "a", "q"))
    return _calls({"f": [flag, node("If", "c", "b", then_branch=branch, else_branch=branch)]})


def _calls_in_a_default() -> onnx.ModelProto:
    proto = _calls({"f": [node("Relu", "a", "b")]})
    default = helper.make_attribute("body", _branch(_call("f", "x", "q")))
    proto.functions[0].attribute_proto.append(default)
    return proto


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda: _calls({"f": [_call("f", "a", "b")]}), "'f' -> 'f'"),
        (
            lambda: _calls({"f": [_call("g", "a", "b")], "g": [_call("f", "a", "b")]}),
            "calls itself: '(f' -> 'g' -> 'f|g' -> 'f' -> 'g)'",
        ),
        (_calls_in_a_branch, "'f' -> 'f'"),
        (_calls_in_a_default, "'f' -> 'f'"),
    ],
)
def test_functions_that_call_themselves_are_refused(
    broken: Callable[[], onnx.ModelProto], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        read_onnx(broken())


def _doubling() -> onnx.ModelProto:
    """40 functions, each of which calls the one before twice."""
    bodies = {"f0": [node("Relu", "a", "b")]}
    for index in range(40):
        twice = [_call(f"f{index}", "a", "h"), _call(f"f{index}", "h", "b")]
        bodies[f"f{index + 1}"] = twice
    return _calls(bodies)


def _given_graphs() -> onnx.ModelProto:
    """Calls of a function that reads the graph it is given twice, each in the one before."""
    read = node("If", "c", "b")
    for branch in ("then_branch", "else_branch"):
        read.attribute.add(name=branch, type=onnx.AttributeProto.GRAPH, ref_attr_name="body")
    flag = node("Constant", "", "c", value=numpy_helper.from_array(np.array(True)))
    proto = _calls({"f": [flag, read]})
    proto.functions[0].attribute.append("body")
    body = _branch(node("Relu", "x", "q"))
    for index in range(25):
        body = _branch(_call("f", "x", f"q{index}", body=body))
    proto.graph.node[0].attribute.append(helper.make_attribute("body", body))
    return proto


@pytest.mark.parametrize("made", [_doubling, _given_graphs])
def test_functions_that_multiply_are_refused(made: Callable[[], onnx.ModelProto]) -> None:
    with pytest.raises(ModelError, match="has more than 1000000 nodes when its functions are"):
        read_onnx(made())


def test_an_overload_may_call_another_one() -> None:
    proto = _calls({"f": [node("Relu", "a", "b")]})
    imports = proto.functions[0].opset_import
    call = _call("f", "a", "b")
    call.overload = "plain"
    proto.functions[0].overload = "plain"
    proto.functions.append(helper.make_function("my", "f", ["a"], ["b"], [call], imports))
    assert [op.kind for op in read_onnx(proto).ops] == ["Relu"]


_EYE = numpy_helper.from_array(np.eye(2, dtype=np.float32), "e")
_COUNT = numpy_helper.from_array(np.ones(2, np.int64), "n")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (node("Softmax", "x", "y", axis="[1, x.dump()][0]"), "'axis' is of type string, not int"),
        (node("Softmax", "x", "y", axis=1.0), "'axis' is of type float, not int"),
        (node("Softmax", "x", "y", axis=_EYE), "'axis' is of type tensor, not int"),
        (node("Transpose", "e", "y", perm=["1", "0"]), "'perm' is of type strings, not ints"),
        (
            node("Softmax", "x", "y", axis=helper.make_graph([], "g", [], [])),
            "'axis' is of type graph, not int",
        ),
        (node("Softmax", "x", "y", axes=[1]), "there is no attribute 'axes'"),
        (node("Concat", "x x", "y"), "attribute 'axis' is missing"),
        (node("Add", "x", "y"), "it has 1 operands, not 2"),
        (node("Relu", "x x", "y"), "it has 2 operands, not 1"),
        (node("Clip", "x x x x", "y"), "it has 4 operands, not 1 to 3"),
        (node("Relu", "x", "y z"), "it has 2 results, not 1"),
        (node("Gemm", "e _ e", "y"), "operand 'B' is missing"),
        (node("Add", "x n", "y"), r"operand 'B' is a tensor\(int64\), beside a tensor\(float\)"),
        (node("Not", "x", "y"), r"operand 'X' may not be a tensor\(float\)"),
    ],
)
def test_ops_that_are_not_as_their_schema_says_are_refused(
    broken: onnx.NodeProto, message: str
) -> None:
    with pytest.raises(ModelError, match=f"{broken.op_type}.*{message}"):
        read_onnx(model([broken], weights=[_EYE, _COUNT]))


def test_ops_of_other_domains_and_of_old_versions_are_judged_by_their_own_schema() -> None:
    read_onnx(model([node("Dropout", "x", "y", ratio=0.5)], opsets={"": 7}))
    with pytest.raises(ModelError, match="there is no attribute 'ratio'"):
        read_onnx(model([node("Dropout", "x", "y", ratio=0.5)], opsets={"": 12}))
    read_onnx(model([node("Softmax", "x", "y", domain="a", axis="b")], opsets={"": 21, "a": 1}))


def test_an_op_without_results_is_read() -> None:
    proto = model([node("Relu", "x", "y"), node("Print", "x", "", domain="a")])
    proto.opset_import.add(domain="a", version=1)
    graph = read_onnx(proto)
    assert {op.label for op in graph.ops} == {"%y", "_"}
    round_trip(graph)


@pytest.mark.parametrize("code", sorted(set(TensorProto.DataType.values()) - {0}))
@pytest.mark.parametrize("count", [0, 1, 5, 8])
def test_the_data_of_every_type_is_measured_rightly(code: int, count: int) -> None:
    items = [b"1"] * count if code == TensorProto.STRING else [1] * count
    weight = helper.make_tensor("w", code, [count], items)
    takes_any, opsets = node("Op", "w", "y", domain="a"), {"": 21, "a": 1}
    read = read_onnx(model([takes_any], weights=[weight], opsets=opsets)).weights[0].weight
    assert read is not None and read.array.shape == (count,)
    weight.dims[0] = count + 8
    with pytest.raises(ModelError, match="the data of 'w' does not fill"):
        read_onnx(model([takes_any], weights=[weight], opsets=opsets))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        (b"", "holds no graph"),
        (b"graph @g() { return }", "is not an ONNX model, or it is cut short"),
        (b"\x00" * 50, "is not an ONNX model"),
        (model([node("Relu", "x", "y")]).SerializeToString()[:-9], "or it is cut short"),
    ],
    ids=["missing", "empty", "text", "zeros", "truncated"],
)
def test_a_file_that_is_no_model_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_onnx(path)
    with pytest.raises(ModelError, match="cannot be read"):
        read_onnx(tmp_path)


def test_every_truncation_of_a_model_is_refused_or_read() -> None:
    """No byte string raises anything but our errors."""
    data = with_functions().SerializeToString()
    refused = 0
    for end in range(len(data)):
        proto = onnx.ModelProto()
        try:
            proto.ParseFromString(data[:end])
        except Exception:
            refused += 1
            continue
        try:
            read_onnx(proto)
        except RamielError:
            refused += 1
    assert refused > len(data) // 2
