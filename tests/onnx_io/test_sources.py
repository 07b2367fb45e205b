"""Functions of a model, ONNX Script, models in memory, shapes of inputs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.backend.test
import onnx_ir
import pytest
from onnx import helper, numpy_helper
from onnxscript import FLOAT, script
from onnxscript import opset21 as op

from ramiel_ir.driver import read
from ramiel_ir.errors import UsageError
from ramiel_ir.interpret import interpret
from ramiel_ir.ir import DType, Type
from ramiel_ir.laws import difference
from ramiel_ir.onnx_reader import read_onnx
from tests.onnx_io.models import F32, model, node, value, with_functions


def test_functions_of_the_model_are_inlined() -> None:
    graph = read_onnx(with_functions())
    assert [op.qualified_kind for op in graph.ops] == ["Add", "Add"]
    assert "my" not in graph.opsets
    assert interpret(graph, {"x": np.array([1, 2], np.float32)})["y"].tolist() == [3, 5]


def test_a_function_attribute_reaches_the_op_inside() -> None:
    imports = [helper.make_opsetid("", 21)]
    leaky = node("LeakyRelu", "a", "b")
    reference = leaky.attribute.add()
    reference.name, reference.ref_attr_name = "alpha", "slope"
    reference.type = onnx.AttributeProto.FLOAT
    function = helper.make_function("my", "leak", ["a"], ["b"], [leaky], imports, ["slope"])
    made = node("leak", "x", "y", domain="my", slope=0.5)
    proto = model([made], opsets={"": 21, "my": 1})
    proto.functions.append(function)
    graph = read_onnx(proto)
    assert graph.ops[0].attribute("alpha") == 0.5


def test_a_function_attribute_has_its_default_where_a_call_gives_none() -> None:
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
    leaky = node("LeakyRelu", "a", "b")
    reference = leaky.attribute.add(name="alpha", ref_attr_name="slope")
    reference.type = onnx.AttributeProto.FLOAT
    slope = helper.make_attribute("slope", 0.75)
    inner = helper.make_function(
        "my", "leak", ["a"], ["b"], [leaky], imports, attribute_protos=[slope]
    )
    calls = [node("leak", "a", "b", domain="my"), node("leak", "b", "c", domain="my", slope=0.25)]
    outer = helper.make_function("my", "twice", ["a"], ["c"], calls, imports)
    then = helper.make_graph([node("twice", "x", "t", domain="my")], "then", [], [value("t")])
    other = helper.make_graph([node("leak", "x", "e", domain="my")], "else", [], [value("e")])
    choice = node("If", "yes", "y", then_branch=then, else_branch=other)
    yes = numpy_helper.from_array(np.array(True), "yes")
    proto = model([choice], weights=[yes], opsets={"": 21, "my": 1})
    proto.functions.extend([outer, inner])
    before = proto.SerializeToString()
    regions = read_onnx(proto).ops[0].regions
    slopes = {name: [op.attribute("alpha") for op in regions[name].ops] for name in regions}
    assert slopes == {"then_branch": [0.75, 0.25], "else_branch": [0.75]}
    assert proto.SerializeToString() == before


@script()
def halve(x: FLOAT[2]) -> FLOAT[2]:
    return op.Relu(x) * 0.5


def test_an_onnx_script_function_is_a_model() -> None:
    graph = read(halve)
    assert interpret(graph, {"x": np.array([-2, 2], np.float32)}).popitem()[1].tolist() == [0, 1]


def test_protos_and_ir_models_are_read_and_stay_as_they_are() -> None:
    proto = model([node("Relu", "x", "y")], [value("x", F32, ["N"])], [value("y", F32, None)])
    before = proto.SerializeToString()
    first = read_onnx(proto, input_shapes={"x": [4]})
    second = read_onnx(onnx_ir.from_proto(proto), input_shapes={"x": [4]})
    assert proto.SerializeToString() == before
    assert difference(first, second) is None
    assert first.outputs[0].type == Type(DType.F32, (4,))


def test_input_shapes_replace_symbols_everywhere() -> None:
    proto = model(
        [node("Add", "x z", "y")], [value("x", F32, ["N", 3]), value("z", F32, ["N", 3])],
        [value("y", F32, ["N", 3])],
    )  # fmt: skip
    graph = read_onnx(proto, input_shapes={"x": [5, 3]})
    assert [v.type for v in (*graph.inputs, *graph.outputs)] == [Type(DType.F32, (5, 3))] * 3
    for shapes, message in (
        ({"q": [1]}, "no input 'q'; there are: x, z"),
        ({"x": [5]}, "input 'x' has rank 2"),
        ({"x": [5, 4]}, "input 'x' has 3 where 4 is given"),
        ({"x": [5, 3], "z": [6, 3]}, "'z' is given 6 for 'N', which is given as 5 elsewhere"),
        ({"x": [2**63, 3]}, "9223372036854775808 is no dimension"),
    ):
        with pytest.raises(UsageError, match=message):
            read_onnx(proto, input_shapes=shapes)


def test_a_dimension_without_a_name_is_unknown_and_equal_to_no_other() -> None:
    proto = model([node("Relu", "x", "y")], [value("x", F32, ["", ""])], [value("y", F32, None)])
    (x,) = read_onnx(proto).inputs
    assert x.type == Type(DType.F32, (None, None))
