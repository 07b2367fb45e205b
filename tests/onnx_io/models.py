"""What the tests of the border to ONNX share: small models, and ways through ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import onnx_ir
from onnx import TensorProto, helper, numpy_helper

from ramiel_ir.ir import Graph
from ramiel_ir.laws import difference
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.onnx_writer import to_onnx
from ramiel_ir.parser import parse_graph
from ramiel_ir.printer import print_graph

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"
F32 = TensorProto.FLOAT


def value(name: str, element: int = F32, shape: Any = (2,)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    weights: list[onnx.TensorProto] | None = None,
    *,
    opsets: dict[str, int] | None = None,
    **fields: Any,
) -> onnx.ModelProto:
    """A model of these nodes; by default it reads x and returns y."""
    graph = helper.make_graph(
        nodes,
        "main",
        [value("x")] if inputs is None else inputs,
        [value("y")] if outputs is None else outputs,
        weights or [],
    )
    imports = [helper.make_opsetid(*item) for item in (opsets or {"": 21}).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, **fields)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node; names are separated by spaces, `_` is an absent one."""
    names = [["" if name == "_" else name for name in text.split()] for text in (inputs, outputs)]
    return helper.make_node(kind, *names, **attributes)


def again(graph: Graph) -> Graph:
    """The graph after a way through ONNX's protobuf."""
    return read_onnx(onnx_ir.to_proto(to_onnx(graph)))


def round_trip(graph: Graph) -> None:
    """Through ONNX and through the text a graph comes back as it was."""
    assert difference(graph, again(graph)) is None
    text = print_graph(graph)
    parsed = parse_graph(text)
    assert print_graph(parsed) == text
    assert difference(graph, parsed) is None


def with_functions() -> onnx.ModelProto:
    """y = double(x) + 1, where double is a function that calls another one."""
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
    inner = helper.make_function("my", "twice", ["a"], ["b"], [node("Add", "a a", "b")], imports)
    outer = helper.make_function(
        "my", "double", ["a"], ["b"], [node("twice", "a", "b", domain="my")], imports
    )
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    nodes = [node("double", "x", "h", domain="my"), node("Add", "h one", "y")]
    proto = model(nodes, weights=[one], opsets={"": 21, "my": 1})
    proto.functions.extend([inner, outer])
    return proto
