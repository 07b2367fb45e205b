"""The border to ONNX: what is read comes back, and what is broken is refused by one clear error."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.backend.test
import onnx_ir
import pytest
from hypothesis import given
from onnx import TensorProto, helper, numpy_helper
from onnxscript import FLOAT, script
from onnxscript import opset21 as op

from ramiel_ir.driver import read
from ramiel_ir.errors import ModelError, RamielError, UnsupportedOpError, UsageError
from ramiel_ir.interpret import interpret
from ramiel_ir.ir import DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.laws import difference
from ramiel_ir.onnx_io import CLUSTER_KEY, piece_to_onnx, read_onnx, to_onnx, write_onnx
from ramiel_ir.parser import parse_graph
from ramiel_ir.pipeline import Context
from ramiel_ir.printer import print_graph
from ramiel_passes.cluster import Cluster
from tests.strategies import examples, random_clusters, random_graph, seeds

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


# Round trips --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(LIGHT.glob("*.onnx")), ids=lambda path: path.stem)
def test_light_models_come_back_with_their_clusters(path: Path) -> None:
    graph = read_onnx(path)
    Cluster().run(graph, Context())
    assert len(graph.ops) > 15
    round_trip(graph)


@pytest.mark.parametrize("name", ["squeezenet", "googlenet", "mobilenet-v3-small", "shufflenet-v2"])
def test_zoo_models_come_back_with_their_clusters(name: str) -> None:
    graph = read(f"zoo:{name}")
    Cluster().run(graph, Context())
    round_trip(graph)


@given(seeds())
@examples(60)
def test_random_graphs_come_back(seed: int) -> None:
    graph = random_graph(seed, weaken=False)
    random_clusters(graph, random.Random(seed), partly=True)
    found = again(graph)
    assert [op.cluster for op in found.ops] == [op.cluster for op in graph.ops]
    assert difference(graph, found) is None


def test_clusters_stand_in_the_metadata_of_nodes(tmp_path: Path) -> None:
    graph = read_onnx(model([node("Relu", "x", "h"), node("Neg", "h", "y")]))
    graph.ops[1].cluster = 3
    write_onnx(graph, tmp_path / "m.onnx")
    stored = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(stored, full_check=True)
    metadata = [{item.key: item.value for item in n.metadata_props} for n in stored.graph.node]
    assert metadata == [{}, {CLUSTER_KEY: "3"}]
    assert [op.cluster for op in read_onnx(tmp_path / "m.onnx").ops] == [None, 3]


def test_a_cluster_that_is_no_number_is_none() -> None:
    proto = model([node("Relu", "x", "y")])
    entry = proto.graph.node[0].metadata_props.add()
    entry.key, entry.value = CLUSTER_KEY, "first"
    assert read_onnx(proto).ops[0].cluster is None


def test_every_kind_of_attribute_comes_back() -> None:
    tensor = numpy_helper.from_array(np.array([1, 2], np.int8), "t")
    type_proto = helper.make_tensor_type_proto(F32, ["N", None])
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(F32, [2]))
    attributes: dict[str, Any] = {
        "i": 1, "f": 0.1, "s": "text", "b": b"\xff", "t": tensor, "p": type_proto,
        "q": sequence, "ints": [1, 2], "floats": [1.0, 0.5], "strings": ["a", "b"],
        "tensors": [tensor, tensor], "types": [type_proto, sequence],
    }  # fmt: skip
    made = node("Op", "x", "y", domain="a.b", **attributes)
    for name, kind in (("ni", "INTS"), ("nf", "FLOATS"), ("ns", "STRINGS")):
        empty = made.attribute.add()
        empty.name, empty.type = name, onnx.AttributeProto.AttributeType.Value(kind)
    graph = read_onnx(model([made], opsets={"": 21, "a.b": 1}))
    found = {name: (a.kind, a.value) for name, a in graph.ops[0].attributes.items()}
    assert found["i"] == ("int", 1)
    assert found["f"] == ("float", float(np.float32(0.1)))
    assert (found["s"], found["b"]) == (("string", "text"), ("string", b"\xff"))
    assert found["strings"] == ("strings", ("a", "b"))
    assert found["p"] == ("type", Type(DType.F32, ("N", None)))
    assert found["q"] == ("type", Type(Type(DType.F32, (2,)), None, "sequence"))
    assert [found[name] for name in ("ni", "nf", "ns")] == [
        ("ints", ()), ("floats", ()), ("strings", ())
    ]  # fmt: skip
    assert found["t"][1].array.tolist() == [1, 2]
    assert len(found["tensors"][1]) == len(found["types"][1]) == 2
    round_trip(graph)


def _types() -> dict[str, tuple[onnx.TypeProto, Type | None]]:
    tensor = helper.make_tensor_type_proto
    symbolic = tensor(F32, ["N", None, 3])
    cases = {
        dtype.text: (tensor(dtype.onnx_code, [2]), Type(dtype, (2,)))
        for dtype in DType
        if dtype.onnx_code in TensorProto.DataType.values()
    }
    unranked = onnx.TypeProto()
    unranked.tensor_type.elem_type = F32
    f32 = Type(DType.F32, ("N", None, 3))
    cases |= {
        "scalar": (tensor(F32, []), Type(DType.F32, ())),
        "symbolic": (symbolic, f32),
        "unranked": (unranked, Type(DType.F32)),
        "nothing": (onnx.TypeProto(), None),
        "sequence": (helper.make_sequence_type_proto(symbolic), Type(f32, None, "sequence")),
        "optional": (helper.make_optional_type_proto(symbolic), Type(f32, None, "optional")),
        "sparse": (
            helper.make_sparse_tensor_type_proto(F32, [3, 4]),
            Type(DType.F32, (3, 4), "sparse"),
        ),
        "optional sequence": (
            helper.make_optional_type_proto(helper.make_sequence_type_proto(tensor(7, [2]))),
            Type(Type(Type(DType.I64, (2,)), None, "sequence"), None, "optional"),
        ),
    }
    return cases


@pytest.mark.parametrize("name", _types())
def test_every_type_of_value_comes_back(name: str) -> None:
    proto, type = _types()[name]
    x = onnx.ValueInfoProto(name="x")
    x.type.CopyFrom(proto)
    graph = read_onnx(model([], [x], [x]))
    assert graph.inputs[0].type == type
    round_trip(graph)


def test_a_map_is_refused_as_unsupported() -> None:
    x = onnx.ValueInfoProto(name="x")
    x.type.map_type.key_type = TensorProto.INT64
    x.type.map_type.value_type.tensor_type.elem_type = F32
    with pytest.raises(UnsupportedOpError, match="map"):
        read_onnx(model([], [x], [x]))


@pytest.mark.parametrize("dtype", [d for d in DType if d is not DType.STRING], ids=lambda d: d.text)
def test_weights_of_every_element_type_come_back(dtype: DType) -> None:
    array = np.array([0.5, 1.0, 1.0]).astype(dtype.numpy)
    graph = Graph("g", opsets={"": 21})
    graph.set_outputs([graph.add_weight("w", Tensor.of(array))])
    if dtype.onnx_code not in TensorProto.DataType.values():
        pytest.skip("the installed onnx does not know this type")
    (found,) = again(graph).weights
    assert found.weight is not None
    assert found.weight.dtype is dtype
    assert found.weight.array.tolist() == array.tolist()
    assert found.weight.digest == graph.weights[0].weight.digest  # type: ignore[union-attr]


def test_packed_weights_are_unpacked() -> None:
    four = helper.make_tensor("w", TensorProto.INT4, [3], b"\x2f\x08", raw=True)
    graph = read_onnx(model([], [], [value("w", TensorProto.INT4, [3])], [four]))
    weight = graph.weights[0].weight
    assert weight is not None
    assert weight.array.dtype == ml_dtypes.int4
    assert weight.array.tolist() == [-1, 2, -8]


def test_strings_come_back_as_text_or_bytes() -> None:
    tensor = helper.make_tensor("w", TensorProto.STRING, [2, 1], [b"caf\xc3\xa9", b"\xff"])
    graph = read_onnx(model([], [], [value("w", TensorProto.STRING, [2, 1])], [tensor]))
    weight = graph.weights[0].weight
    assert weight is not None
    assert weight.array.tolist() == [["café"], [b"\xff"]]
    assert difference(graph, again(graph)) is None


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value": numpy_helper.from_array(np.array([1.5], np.float32))}, [1.5]),
        ({"value_int": 3}, 3),
        ({"value_ints": [3, 4]}, [3, 4]),
        ({"value_float": 0.5}, 0.5),
        ({"value_floats": [0.5, 1.5]}, [0.5, 1.5]),
        ({"value_string": "a"}, "a"),
        ({"value_strings": ["a", "b"]}, ["a", "b"]),
    ],
)
def test_constants_become_weights(attributes: dict[str, Any], expected: object) -> None:
    graph = read_onnx(model([node("Constant", "", "c", **attributes)], [], [value("c", F32, None)]))
    assert graph.ops == []
    assert graph.weights[0].weight is not None
    assert graph.weights[0].weight.array.tolist() == expected


def test_an_initializer_that_is_an_input_too_is_a_weight() -> None:
    weight = numpy_helper.from_array(np.ones(2, np.float32), "w")
    graph = read_onnx(model([node("Add", "x w", "y")], [value("x"), value("w")], None, [weight]))
    assert [v.name for v in graph.inputs] == ["x"]
    assert [v.name for v in graph.weights] == ["w"]


def test_absent_operands_and_results_keep_their_place() -> None:
    k = numpy_helper.from_array(np.array([2], np.int64), "k")
    nodes = [
        node("Clip", "x _ x", "c"),
        node("Dropout", "c", "y _"),
        node("TopK", "y k", "_ i"),
        node("Split", "y", "s _", num_outputs=2),
    ]
    graph = read_onnx(model(nodes, None, [value("y"), value("i", 7), value("s")], [k]))
    assert [[r and r.name for r in op.results] for op in graph.ops] == [
        ["c"], ["y"], [None, "i"], ["s", None]
    ]  # fmt: skip
    assert graph.ops[0].operand(1) is None
    assert difference(graph, again(graph)) is None


def test_nodes_may_come_in_any_order() -> None:
    graph = read_onnx(model([node("Neg", "h", "y"), node("Relu", "x", "h")]))
    assert [op.kind for op in graph.ops] == ["Relu", "Neg"]


def test_regions_read_outer_values_and_come_back() -> None:
    branch = helper.make_graph([node("Neg", "h", "n")], "then", [], [value("n")])
    other = helper.make_graph(
        [node("Add", "h k", "m")], "else", [], [value("m")],
        [numpy_helper.from_array(np.ones(2, np.float32), "k")],
    )  # fmt: skip
    nodes = [
        node("Relu", "x", "h"),
        node("If", "c", "y", then_branch=branch, else_branch=other),
    ]
    graph = read_onnx(model(nodes, [value("x"), value("c", TensorProto.BOOL, [])]))
    assert [v.name for v in graph.ops[1].captures] == ["h"]
    assert {name: len(region.weights) for name, region in graph.ops[1].regions.items()} == {
        "then_branch": 0,
        "else_branch": 1,
    }
    round_trip(graph)


def test_a_piece_takes_along_the_weights_it_reads() -> None:
    weight = numpy_helper.from_array(np.ones(2, np.float32), "w")
    graph = read_onnx(model([node("Add", "x w", "h"), node("Neg", "h", "y")], None, None, [weight]))
    piece = piece_to_onnx("p", graph.ops[:1], graph.inputs, graph.ops[0].writes)
    found = read_onnx(onnx_ir.to_proto(piece))
    assert [v.name for v in found.weights] == ["w"]
    assert [v.name for v in found.outputs] == ["h"]
    given = piece_to_onnx("p", graph.ops[:1], [*graph.inputs, *graph.weights], graph.outputs[:0])
    assert [v.name for v in read_onnx(onnx_ir.to_proto(given)).inputs] == ["x", "w"]


# Functions and sources ----------------------------------------------------------------------------


def _with_functions() -> onnx.ModelProto:
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


def test_functions_of_the_model_are_inlined() -> None:
    graph = read_onnx(_with_functions())
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
    ):
        with pytest.raises(UsageError, match=message):
            read_onnx(proto, input_shapes=shapes)


# Broken models ------------------------------------------------------------------------------------


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


def _two_weights() -> onnx.ModelProto:
    weights = [numpy_helper.from_array(np.full(2, n, np.float32), "w") for n in range(2)]
    return model([node("Add", "x w", "y")], weights=weights)


def _bad_type() -> onnx.ModelProto:
    return model([node("Relu", "x", "y")], [value("x", 77)])


def _graphs_attribute() -> onnx.ModelProto:
    body = helper.make_graph([node("Relu", "x", "q")], "b", [], [value("q")])
    return model([node("Op", "x", "y", domain="a", bodies=[body])], opsets={"": 21, "a": 1})


def _short_weight() -> onnx.ModelProto:
    weight = onnx.TensorProto(name="w", data_type=F32, dims=[2], raw_data=b"\0\0\0\0")
    return model([node("Add", "x w", "y")], weights=[weight])


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
        (_sparse, UnsupportedOpError, "sparse"),
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
    ],
)
def test_a_broken_model_is_refused_by_one_clear_error(
    broken: Callable[[], onnx.ModelProto], error: type[RamielError], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_onnx(broken())


def test_an_op_without_results_is_read() -> None:
    proto = model([node("Relu", "x", "y"), node("Print", "x", "", domain="a")])
    proto.opset_import.add(domain="a", version=1)
    graph = read_onnx(proto)
    assert {op.label for op in graph.ops} == {"%y", "_"}
    round_trip(graph)


def test_weights_that_are_cut_short_say_so_when_they_are_read() -> None:
    with pytest.raises(ModelError, match="'w'"):
        graph = read_onnx(_short_weight())
        _ = graph.weights[0].weight.array  # type: ignore[union-attr]


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
    data = _with_functions().SerializeToString()
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


# External data ------------------------------------------------------------------------------------


def external(folder: Path, location: str, *, length: int | None = 8, offset: int = 0) -> Path:
    """A model in `folder` whose weight of two floats is at `location`."""
    folder.mkdir(parents=True, exist_ok=True)
    weight = onnx.TensorProto(name="w", data_type=F32, dims=[2])
    weight.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": str(offset)}
    if length is not None:
        entries["length"] = str(length)
    for key, text in entries.items():
        entry = weight.external_data.add()
        entry.key, entry.value = key, text
    path = folder / "m.onnx"
    path.write_bytes(model([node("Add", "x w", "y")], weights=[weight]).SerializeToString())
    return path


def data_of(graph: Graph) -> list[float]:
    assert graph.weights[0].weight is not None
    return list(graph.weights[0].weight.array.tolist())


@pytest.fixture
def floats(tmp_path: Path) -> Path:
    """A file beside the model's folder that holds two floats."""
    path = tmp_path / "secret.bin"
    path.write_bytes(np.array([1, 2], np.float32).tobytes())
    return path


@pytest.mark.parametrize("location", ["w.bin", "deep/w.bin", "./w.bin"])
def test_external_data_in_the_models_folder_is_read(tmp_path: Path, location: str) -> None:
    path = external(tmp_path / "m", location)
    data = tmp_path / "m" / location
    data.parent.mkdir(exist_ok=True)
    data.write_bytes(np.array([3, 4], np.float32).tobytes())
    assert data_of(read_onnx(path)) == [3, 4]


def test_external_data_is_not_read_before_it_is_asked_for(tmp_path: Path) -> None:
    path = external(tmp_path, "w.bin")
    data = tmp_path / "w.bin"
    data.write_bytes(np.zeros(2, np.float32).tobytes())
    graph = read_onnx(path)
    data.write_bytes(np.array([5, 6], np.float32).tobytes())
    assert data_of(graph) == [5, 6]


def test_an_offset_is_obeyed(tmp_path: Path) -> None:
    path = external(tmp_path, "w.bin", offset=4, length=None)
    (tmp_path / "w.bin").write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    assert data_of(read_onnx(path)) == [2, 3]


def test_external_data_elsewhere_is_refused_unless_allowed(tmp_path: Path, floats: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "link.bin").symlink_to(floats)
    (folder / "up").symlink_to(tmp_path)
    for location in (
        "../secret.bin",
        str(floats),
        "link.bin",
        "up/secret.bin",
        "a/../../secret.bin",
    ):
        path = external(folder, location)
        with pytest.raises(ModelError, match="lies outside the model's folder") as caught:
            read_onnx(path)
        assert "--allow-external" in str(caught.value.hint)
        with pytest.raises(ModelError, match="outside"):
            read_onnx(path, allow_external=[tmp_path / "other"])
        assert data_of(read_onnx(path, allow_external=[tmp_path])) == [1, 2]


def test_a_folder_whose_name_begins_alike_is_another(tmp_path: Path, floats: Path) -> None:
    other = tmp_path / "m-other"
    other.mkdir()
    floats.rename(other / "w.bin")
    with pytest.raises(ModelError, match="outside"):
        read_onnx(external(tmp_path / "m", "../m-other/w.bin"))


def test_a_symlink_inside_the_folder_is_fine(tmp_path: Path) -> None:
    path = external(tmp_path, "link.bin")
    (tmp_path / "w.bin").write_bytes(np.array([7, 8], np.float32).tobytes())
    (tmp_path / "link.bin").symlink_to(tmp_path / "w.bin")
    assert data_of(read_onnx(path)) == [7, 8]


def test_external_data_that_is_missing_or_short_is_refused(tmp_path: Path) -> None:
    path = external(tmp_path, "w.bin")
    with pytest.raises(ModelError, match=r"the data of 'w' is missing: no file 'w.bin'"):
        read_onnx(path)
    (tmp_path / "w.bin").write_bytes(b"\0" * 7)
    with pytest.raises(ModelError, match=r"the data of 'w' is cut short: 'w.bin' ends too early"):
        read_onnx(path)


@pytest.mark.parametrize(("offset", "length"), [(0, 4), (0, -8), (-4, 8), (2**70, 8)])
def test_a_place_that_does_not_fit_is_refused(tmp_path: Path, offset: int, length: int) -> None:
    path = external(tmp_path, "w.bin", offset=offset, length=length)
    (tmp_path / "w.bin").write_bytes(b"\0" * 8)
    with pytest.raises(ModelError, match=r"'w'|non-negative"):
        data_of(read_onnx(path))


def test_a_model_without_a_folder_has_no_external_data_unless_allowed(floats: Path) -> None:
    path = external(floats.parent / "m", "secret.bin")
    proto = onnx.load(path, load_external_data=False)
    with pytest.raises(ModelError, match="the model has no folder"):
        read_onnx(proto)
    assert data_of(read_onnx(proto, allow_external=[floats.parent])) == [1, 2]


def test_external_data_of_attributes_is_contained_too(tmp_path: Path, floats: Path) -> None:
    proto = onnx.load(external(tmp_path / "m", "../secret.bin"), load_external_data=False)
    weight = proto.graph.initializer[0]
    constant = node("Constant", "", "w", value=weight)
    body = helper.make_graph([constant, node("Neg", "w", "n")], "b", [], [value("n")])
    for nodes in (
        [constant, node("Add", "x w", "y")],
        [node("ConstantOfShape", "x", "y", value=weight)],
        [node("If", "x", "y", then_branch=body, else_branch=body)],
    ):
        path = tmp_path / "m" / "n.onnx"
        path.write_bytes(model(nodes).SerializeToString())
        with pytest.raises(ModelError, match="outside"):
            read_onnx(path)


def test_a_small_model_takes_its_weights_into_its_file(
    tmp_path: Path,
) -> None:
    graph = read_onnx(external_with_data(tmp_path))
    write_onnx(graph, tmp_path / "out.onnx")
    assert difference(graph, read_onnx(tmp_path / "out.onnx")) is None
    assert not (tmp_path / "out.onnx.data").exists()


def external_with_data(folder: Path) -> Path:
    path = external(folder, "w.bin")
    (folder / "w.bin").write_bytes(np.array([1, 2], np.float32).tobytes())
    return path


def test_a_region_that_returns_an_outer_value_is_written_as_onnx_wants_it() -> None:
    outer = helper.make_graph([], "then", [], [value("x")])
    proto = model([node("If", "c", "y", then_branch=outer, else_branch=outer)])
    proto.graph.input.append(value("c", TensorProto.BOOL, []))
    graph = read_onnx(proto)
    assert graph.ops[0].captures == [graph.inputs[0]]
    onnx.checker.check_model(onnx_ir.to_proto(to_onnx(graph)), full_check=True)
    x = np.array([1, 2], np.float32)
    assert interpret(graph, {"x": x, "c": np.array(True)})["y"].tolist() == [1, 2]


def test_ops_written_by_hand_can_be_written() -> None:
    graph = Graph("g", [Value("x")], opsets={"": 21})
    graph.append(Op("Relu", graph.inputs, [Value("y"), None]))
    graph.set_outputs(graph.ops[0].writes)
    assert again(graph).ops[0].kind == "Relu"
