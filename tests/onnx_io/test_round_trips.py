"""What is read and written comes back."""

from __future__ import annotations

import random
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

from ramiel_ir.driver import read
from ramiel_ir.errors import UnsupportedOpError
from ramiel_ir.interpret import interpret
from ramiel_ir.ir import DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.laws import difference
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.onnx_writer import CLUSTER_KEY, piece_to_onnx, to_onnx, write_onnx
from ramiel_ir.pipeline import Context
from ramiel_passes.cluster import Cluster
from tests.onnx_io.models import F32, LIGHT, again, model, node, round_trip, value
from tests.strategies import examples, random_clusters, random_graph, seeds


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
