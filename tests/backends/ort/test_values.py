"""Every kind of value travels between workers: dynamic shapes, captures, sequences, strings, …"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ramiel_ir import artifact
from ramiel_ir.backend import Isolation
from ramiel_ir.errors import RamielError
from ramiel_ir.ir import Attribute, DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.plan import make_plan
from tests.backends.ort.helpers import (
    assert_close,
    compiled,
    emitted,
    graph_of,
    on_workers,
    random_inputs,
    reference,
    run_once,
    tensor,
)


def branches(*shape: int | str) -> Graph:
    """Two branches from x that meet in y; one op each on four places."""
    graph = graph_of(("x", tensor(*shape)))
    (x,) = graph.inputs
    left = graph.add("Sigmoid", [x], "left", x.type)
    right = graph.add("Tanh", [x], "right", x.type)
    graph.set_outputs([graph.add("Mul", [left, right], "y", x.type), left])
    return graph


def test_lengths_in_turn(tmp_path: Path) -> None:
    graph = branches("batch", "length", 8)
    with artifact.load(emitted(on_workers(graph, [0, 1, 0]), tmp_path / "out")) as model:
        for batch, length in ((1, 3), (2, 7), (1, 1), (1, 0), (2, 7)):
            inputs = random_inputs(graph, seed=length, batch=batch, length=length)
            assert_close(model.run(inputs), reference(graph, inputs))


def test_lengths_through_the_fused_graph(tmp_path: Path) -> None:
    """Symbols survive fusion; values whose names do not are typed by ONNX Runtime."""
    graph = graph_of(("x", tensor("length", 16)))
    (x,) = graph.inputs
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((16, 16)).astype(np.float32) for _ in range(4)]
    ends = []
    for side in range(2):
        w = graph.add_weight(f"w{side}", Tensor.of(weights[2 * side]))
        v = graph.add_weight(f"v{side}", Tensor.of(weights[2 * side + 1]))
        h = graph.add("MatMul", [x, w], f"h{side}", tensor("length", 16))
        r = graph.add("Gelu", [h], f"r{side}", tensor("length", 16))
        ends.append(graph.add("MatMul", [r, v], f"e{side}", tensor("length", 16)))
    graph.set_outputs([graph.add("Add", ends, "y", tensor("length", 16))])
    with artifact.load(compiled(graph.clone(), 2, tmp_path / "out")) as model:
        for length in (5, 1, 9, 5):
            inputs = random_inputs(graph, seed=length, length=length)
            assert_close(model.run(inputs), reference(graph, inputs))


def test_captures_of_an_if(tmp_path: Path) -> None:
    graph = graph_of(("x", tensor(4)), ("flag", tensor(element=DType.BOOL)))
    x, flag = graph.inputs
    left = graph.add("Exp", [x], "left", x.type)
    right = graph.add("Neg", [x], "right", x.type)
    bodies = {}
    for branch, captured in (("then_branch", left), ("else_branch", right)):
        body = Graph(branch)
        bias = body.add_weight(f"{branch}_bias", Tensor.of(np.ones(4, np.float32)))
        body.set_outputs([body.add("Add", [captured, bias], f"{branch}_sum", x.type)])
        bodies[branch] = body
    chosen = Value("chosen", x.type)
    graph.append(Op("If", [flag], [chosen], regions=bodies))
    graph.set_outputs([graph.add("Abs", [chosen], "y", x.type)])
    with artifact.load(emitted(on_workers(graph, [0, 1, 2, 0]), tmp_path / "out")) as model:
        for value in (True, False, True):
            inputs = {"x": random_inputs(branches(4))["x"], "flag": np.array(value)}
            assert_close(model.run(inputs), reference(graph, inputs))


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_sequences_strings_and_optionals(isolation: str, tmp_path: Path) -> None:
    strings, sequence = tensor("n", element=DType.STRING), Type(tensor(None), None, "sequence")
    graph = graph_of(("s", strings), ("xs", sequence), ("x", tensor("n")))
    s, xs, x = graph.inputs
    longer = graph.add("StringConcat", [s, s], "longer", strings)
    more = graph.add("SequenceInsert", [xs, x], "more", sequence)
    first = graph.add_weight("first", Tensor.of(np.array(0)))
    item = graph.add("SequenceAt", [more, first], "item", tensor(None))
    some = graph.add("Optional", [item], "some", Type(tensor(None), None, "optional"))
    again = graph.add("StringConcat", [longer, s], "again", strings)
    got = graph.add("OptionalGetElement", [some], "got", tensor(None))
    graph.set_outputs([again, more, got])
    folder = emitted(on_workers(graph, [0, 1, 2, 0, 1, 1]), tmp_path / "out")
    inputs: dict[str, Any] = {
        "s": np.array(["a", "ü", ""], object),
        "xs": [np.arange(2, dtype=np.float32), np.zeros(0, np.float32)],
        "x": np.ones(3, np.float32),
    }
    expected = {
        "again": np.array(["aaa", "üüü", ""], object),
        "more": [*inputs["xs"], inputs["x"]],
        "got": inputs["xs"][0],
    }
    found = run_once(folder, inputs, isolation=isolation)
    assert_close(found, expected)


@pytest.mark.parametrize(
    ("dtype", "isolation"),
    [
        (np.float16, "thread"),
        (ml_dtypes.bfloat16, "thread"),
        (ml_dtypes.bfloat16, "process"),
        (np.int64, "thread"),
        (np.bool_, "process"),
    ],
)
def test_element_types(dtype: type, isolation: str, tmp_path: Path) -> None:
    element = DType.from_numpy(np.dtype(dtype))
    graph = graph_of(("x", tensor(2, 3, element=element)), opset=16)
    (x,) = graph.inputs
    y = graph.add("Transpose", [x], "y", tensor(3, 2, element=element))
    graph.set_outputs(
        [graph.add("Reshape", [y, _weight(graph, [6])], "z", tensor(6, element=element))]
    )
    folder = emitted(on_workers(graph, [0, 1]), tmp_path / "out")
    array: Any = np.arange(6).reshape(2, 3).astype(dtype)
    found = run_once(folder, {"x": array}, isolation=isolation)["z"]
    assert found.dtype == np.dtype(dtype)
    assert found.tolist() == array.T.reshape(-1).tolist()


def _weight(graph: Graph, numbers: list[int]) -> Value:
    return graph.add_weight("w", Tensor.of(np.array(numbers, np.int64)))


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_inputs_of_any_layout(isolation: Isolation, tmp_path: Path) -> None:
    graph = branches(3, 4)
    folder = emitted(on_workers(graph, [0, 1, 0]), tmp_path / "out")
    with artifact.load(folder, isolation=isolation) as model:
        for seed in range(3):
            array = np.asfortranarray(random_inputs(graph, seed)["x"])
            array.flags.writeable = False
            assert_close(model.run({"x": array}), reference(graph, {"x": array}))


def test_the_caller_owns_the_outputs(tmp_path: Path) -> None:
    graph = branches(3, 4)
    with artifact.load(emitted(on_workers(graph, [0, 1, 0]), tmp_path / "out")) as model:
        inputs = random_inputs(graph)
        first = model.run(inputs)
        kept = {name: array.copy() for name, array in first.items()}
        model.run(random_inputs(graph, seed=1))
        for name, array in first.items():
            assert array.tolist() == kept[name].tolist()
            array[:] = 0
        assert_close(model.run(inputs), kept)


def test_outputs_that_no_op_computes(tmp_path: Path) -> None:
    graph = branches(3, 4)
    # in the file of weights that name is the header's own
    weight = graph.add_weight("__metadata__", Tensor.of(np.arange(5, dtype=np.int32)))
    graph.set_outputs([*graph.outputs, graph.inputs[0], weight])
    inputs = random_inputs(graph)
    for clusters in (1, 2):
        found = run_once(compiled(graph.clone(), clusters, tmp_path / str(clusters)), inputs)
        assert list(found) == ["y", "left", "x", "__metadata__"]
        assert found["x"].tolist() == inputs["x"].tolist()
        assert found["__metadata__"].tolist() == [0, 1, 2, 3, 4]


def test_several_samples(tmp_path: Path) -> None:
    graph = branches(3, 4)
    for op, cluster in zip(graph.ops, [0, 1, 0], strict=True):
        op.cluster = cluster
    plan = make_plan(graph, samples=3)
    folder = emitted(plan, tmp_path / "out")
    # Samples differ in their memory, not in their sessions.
    assert len(list((folder / "segments").glob("*.onnx"))) <= 4
    samples = [random_inputs(graph, seed) for seed in range(3)]
    with artifact.load(folder) as model:
        for found, inputs in zip(model.run(samples), samples, strict=True):
            assert_close(found, reference(graph, inputs))


def test_requests_in_flight_have_their_own_memory(tmp_path: Path) -> None:
    graph = branches(64, 64)
    folder = emitted(on_workers(graph, [0, 1, 0]), tmp_path / "out")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["wiring"]["in_flight"] = 3
    (folder / "manifest.json").write_text(json.dumps(manifest))
    inputs = [random_inputs(graph, seed) for seed in range(12)]
    with artifact.load(folder) as model:
        futures = [model.submit(given) for given in inputs]
        for given, future in zip(inputs, futures, strict=True):
            assert_close(future.result(), reference(graph, given))


def test_names_are_only_data(tmp_path: Path) -> None:
    names = ['"""', "a\rb", "import os", "class", "print", "ü", "ﬁ", "fi", "segment_0"]
    graph = graph_of(("weights", tensor(2)))
    value = graph.inputs[0]
    for name in names:
        value = graph.add("Neg", [value], name, value.type)
    graph.set_outputs([graph.add("Identity", [value], "port\n", value.type)])
    folder = emitted(on_workers(graph, [0, 1] * 5), tmp_path / "out")
    assert (folder / "model.py").read_text().isascii() or "µ" in (folder / "model.py").read_text()
    found = run_once(folder, {"weights": np.ones(2, np.float32)})
    assert found["port\n"].tolist() == [-1.0, -1.0]


def test_a_failing_segment_fails_the_request_only(tmp_path: Path) -> None:
    graph = graph_of(("x", tensor(4)), ("shape", tensor(2, element=DType.I64)))
    x, shape = graph.inputs
    left = graph.add("Reshape", [x, shape], "left", tensor(None, None))
    right = graph.add("Neg", [x], "right", x.type)
    graph.set_outputs([left, right])
    with artifact.load(emitted(on_workers(graph, [0, 1]), tmp_path / "out")) as model:
        good = {"x": np.ones(4, np.float32), "shape": np.array([2, 2])}
        assert model.run(good)["left"].shape == (2, 2)
        with pytest.raises(RamielError, match=r"model\.py"):
            model.run({**good, "shape": np.array([3, 3])})
        assert model.run(good)["left"].shape == (2, 2)


def test_attributes_of_every_kind(tmp_path: Path) -> None:
    graph = graph_of(("x", tensor(2, 3)))
    (x,) = graph.inputs
    result = Value("y", tensor(2, 3))
    graph.append(Op("Gelu", [x], [result], {"approximate": Attribute("string", "tanh")}))
    graph.set_outputs([result])
    inputs = random_inputs(graph)
    folder = emitted(on_workers(graph, [0]), tmp_path / "out")
    assert_close(run_once(folder, inputs), reference(graph, inputs))


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_types_numpy_lacks_beside_strings(tmp_path: Path, isolation: Isolation) -> None:
    """Such a session cannot bind its values, so they pass through numpy."""
    graph = graph_of(
        ("x", tensor(2, element=DType.BF16)),
        ("q", tensor(2, element=DType.F8E4M3FN)),
        ("s", tensor(1, element=DType.STRING)),
    )
    x, q, s = graph.inputs
    outputs = [
        graph.add("Cast", [x], "wide", tensor(2), to=1),
        graph.add("Identity", [q], "same", q.type),
        graph.add("Identity", [s], "text", s.type),
    ]
    graph.set_outputs(outputs)
    inputs = {
        "x": np.array([1, -2], ml_dtypes.bfloat16),
        "q": np.array([3, -4], ml_dtypes.float8_e4m3fn),
        "s": np.array(["word"], object),
    }
    folder = emitted(on_workers(graph, [0, 0, 0]), tmp_path / "out")
    found = run_once(folder, inputs, isolation=isolation)
    assert found["wide"].tolist() == [1, -2]
    assert found["same"].dtype == ml_dtypes.float8_e4m3fn
    assert found["same"].astype(float).tolist() == [3, -4]
    assert found["text"].tolist() == ["word"]
