"""Constant folding and dead code elimination on small graphs."""

from __future__ import annotations

import numpy as np
import pytest

from ramiel_ir.ir import DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.laws import verify
from ramiel_ir.onnx_reference import evaluate_all
from ramiel_ir.parser import parse_graph
from ramiel_ir.pipeline import Context, No, PassManager
from ramiel_passes import fold as fold_module
from ramiel_passes.dce import Dce
from ramiel_passes.fold import Fold

F32 = Type(DType.F32, (2,))


def constants() -> Graph:
    """w + w → a → b, and x + b → y: a and b are constant, y is not."""
    graph = Graph("constants", [Value("x", F32)], opsets={"": 21})
    w = graph.add_weight("w", Tensor.of(np.array([1, 2], np.float32)))
    a = graph.add("Add", [w, w], "a", F32)
    b = graph.add("Neg", [a], "b", F32)
    graph.set_outputs([graph.add("Add", [graph.inputs[0], b], "y", F32)])
    return graph


def names(graph: Graph) -> tuple[list[str], list[str]]:
    """Names of weights and of ops."""
    return [value.name for value in graph.weights], [op.label[1:] for op in graph.ops]


def test_what_depends_on_constants_becomes_a_weight() -> None:
    graph = constants()
    assert Fold().run(graph, Context()) is True
    verify(graph)
    assert names(graph) == (["b"], ["y"])
    weight = graph.weights[0].weight
    assert weight is not None
    assert weight.array.tolist() == [-2, -4]
    assert weight.dtype is DType.F32


def test_all_constants_are_evaluated_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def count(ops: list[Op], outputs: list[Value]) -> list[object]:
        calls.append(len(ops))
        return list(evaluate_all(ops, outputs))

    monkeypatch.setattr(fold_module, "evaluate_all", count)
    Fold().run(constants(), Context())
    assert calls == [2]


def test_an_output_can_become_a_weight() -> None:
    graph = constants()
    graph.set_outputs([graph.ops[0].writes[0], graph.ops[2].writes[0]])
    Fold().run(graph, Context())
    assert [value.name for value in graph.outputs] == ["a", "y"]
    assert names(graph) == (["a", "b"], ["y"])


def test_results_that_are_too_large_stay_and_stop_what_follows() -> None:
    graph = constants()
    assert isinstance(Fold(max_elements=1).run(graph, Context()), No)
    assert names(graph) == (["w"], ["a", "b", "y"])


def test_a_growing_op_folds_only_where_its_size_is_known() -> None:
    for type in (Type(DType.F32, (2, 4)), Type(DType.F32, (None, 4)), Type(DType.F32), None):
        graph = Graph("g", opsets={"": 21})
        size = graph.add_weight("size", Tensor.of(np.array([2, 4], np.int64)))
        graph.set_outputs([graph.add("ConstantOfShape", [size], "c", type)])
        assert bool(Fold().run(graph, Context())) == (type is not None and type.is_static)


@pytest.mark.parametrize("kind", ["HannWindow", "HammingWindow", "BlackmanWindow"])
def test_a_window_folds_only_where_its_size_is_known(kind: str) -> None:
    for shape in ((8,), (None,)):
        graph = Graph("g", opsets={"": 21})
        size = graph.add_weight("size", Tensor.of(np.array(8, np.int64)))
        graph.set_outputs([graph.add(kind, [size], "c", Type(DType.F32, shape))])
        assert bool(Fold().run(graph, Context())) == (shape == (8,))


def test_results_that_are_too_many_in_all_stay() -> None:
    graph = Graph("many", opsets={"": 21})
    w = graph.add_weight("w", Tensor.of(np.array([1, 2], np.float32)))
    graph.set_outputs([graph.add("Neg", [w], f"n{index}", F32) for index in range(20)])
    assert Fold(max_elements=2).run(graph, Context()) is True
    verify(graph)
    assert names(graph)[1] == ["n16", "n17", "n18", "n19"]


@pytest.mark.parametrize("kind", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
def test_random_ops_stay(kind: str) -> None:
    graph = constants()
    graph.ops[0].kind = kind
    graph.ops[0].set_operand(1, None)
    assert isinstance(Fold().run(graph, Context()), No)


def test_dropout_folds_only_in_inference() -> None:
    for training in (False, True):
        graph = Graph("g", opsets={"": 21})
        w = graph.add_weight("w", Tensor.of(np.ones(2, np.float32)))
        ratio = graph.add_weight("r", Tensor.of(np.array(0.5, np.float32)))
        mode = graph.add_weight("t", Tensor.of(np.array(training)))
        graph.set_outputs([graph.add("Dropout", [w, ratio, mode], "y", F32)])
        assert bool(Fold().run(graph, Context())) != training


def test_ops_that_the_backend_wants_to_see_stay() -> None:
    """Weights of a quantised model are stored as integers, and ONNX Runtime computes with them."""
    for backend, kept in (("ort", True), ("torch", False), ("", False)):
        graph = Graph("quantised", [Value("x", F32)], opsets={"": 21})
        w = graph.add_weight("w", Tensor.of(np.array([1, 2], np.int8)))
        scale = graph.add_weight("scale", Tensor.of(np.array(0.5, np.float32)))
        wide = graph.add("DequantizeLinear", [w, scale], "wide", F32)
        graph.set_outputs([graph.add("Add", [graph.inputs[0], wide], "y", F32)])
        Fold().run(graph, Context(backend=backend))
        assert ([op.kind for op in graph.ops] == ["DequantizeLinear", "Add"]) is kept


def test_random_ops_inside_a_region_make_its_owner_impure() -> None:
    graph = constants()
    body = Graph("body")
    body.set_outputs([body.add("RandomNormalLike", [graph.weights[0]], "r", F32)])
    op = Op("If", [], [Value("z", F32)], regions={"then_branch": body})
    assert not op.pure


def test_ops_of_unknown_domains_stay() -> None:
    graph = constants()
    graph.ops[0].domain = "com.example"
    assert isinstance(Fold().run(graph, Context()), No)


def test_ops_that_cannot_be_evaluated_stay_and_say_why() -> None:
    graph = constants()
    graph.ops[0].kind = "NoSuchOp"
    outcome = Fold().run(graph, Context())
    assert isinstance(outcome, No)
    assert "%a = NoSuchOp" in outcome.reason


def test_one_op_that_cannot_be_evaluated_does_not_keep_the_others() -> None:
    graph = constants()
    bad = graph.add("NoSuchOp", graph.weights, "bad", F32)
    graph.set_outputs([*graph.outputs, bad])
    Fold().run(graph, Context())
    assert "a" not in names(graph)[1]
    assert "bad" in names(graph)[1]


def test_an_op_whose_result_is_not_of_its_type_stays() -> None:
    graph = constants()
    for value in graph.ops[0].writes:
        value.type = Type(DType.F64, (2,))
    graph.set_outputs([graph.ops[0].writes[0]])
    outcome = Fold().run(graph, Context())
    assert isinstance(outcome, No)
    assert "%a = Add: onnx.reference gives it the type float32" in outcome.reason


def test_a_size_that_shows_only_when_evaluated_counts_too() -> None:
    graph = constants()
    for op in graph.ops:
        op.writes[0].type = Type(DType.F32, (None,))
    assert isinstance(Fold(max_elements=1).run(graph, Context()), No)


def test_detached_weights_are_no_constants() -> None:
    source = (
        "graph @g() opset 21 {\n %w = weight : f32[2] sha=00\n %y = Neg(%w) : f32[2]\n return %y\n}"
    )
    assert isinstance(Fold().run(parse_graph(source), Context()), No)


def test_a_region_reads_the_folded_capture() -> None:
    graph = constants()
    bodies = {}
    for name in ("then_branch", "else_branch"):
        bodies[name] = Graph(name)
        bodies[name].set_outputs([bodies[name].add("Abs", [graph.ops[1].writes[0]], name, F32)])
    condition = graph.add_input(Value("c", Type(DType.BOOL, ())))
    op = graph.append(Op("If", [condition], [Value("z", F32)], regions=bodies))
    graph.set_outputs(op.writes)
    Fold().run(graph, Context())
    verify(graph)
    assert [value.weight is not None for value in op.captures] == [True]


def test_fold_keeps_strings_bools_and_empty_tensors() -> None:
    graph = Graph("g", opsets={"": 21})
    text = np.empty(2, object)
    text[:] = ["a", "b"]
    arrays = [text, np.array([True, False]), np.zeros((0, 3), np.float32), np.array(7, np.int64)]
    for number, array in enumerate(arrays):
        weight = graph.add_weight(f"w{number}", Tensor.of(array))
        graph.add("Identity", [weight], f"y{number}", weight.type)
    graph.set_outputs([op.writes[0] for op in graph.ops])
    assert Fold().run(graph, Context())
    for value, array in zip(graph.weights, arrays, strict=True):
        assert value.weight is not None
        assert value.weight.array.shape == array.shape
        assert value.weight.array.tolist() == array.tolist()
        assert value.weight.dtype is DType.from_numpy(array.dtype)


def test_dce_drops_what_no_output_needs() -> None:
    graph = constants()
    dead = graph.add("Neg", graph.inputs, "dead", F32)
    graph.add("Neg", [dead], "deader", F32)
    graph.add_weight("unused", Tensor.of(np.zeros(1)))
    assert Dce().run(graph, Context()) is True
    verify(graph)
    assert names(graph) == (["w"], ["a", "b", "y"])
    assert [value.name for value in graph.inputs] == ["x"]
    assert Dce().run(graph, Context()) is False


def test_dce_looks_into_regions_first() -> None:
    graph = constants()
    side = graph.add("Neg", graph.inputs, "side", F32)
    body = Graph("body")
    body.add("Neg", [side], "unread", F32)
    body.set_outputs([body.add("Abs", graph.inputs, "n", F32)])
    condition = graph.add_input(Value("c", Type(DType.BOOL, ())))
    graph.append(Op("If", [condition], [Value("z")], regions={"then_branch": body}))
    graph.set_outputs(graph.ops[-1].writes)
    Dce().run(graph, Context())
    verify(graph)
    assert names(graph)[1] == ["z"]
    assert [op.label for op in body.ops] == ["%n"]


def test_fold_then_dce_of_a_constant_graph_leaves_no_op() -> None:
    graph = constants()
    graph.set_outputs([graph.ops[1].writes[0]])
    PassManager([Fold(), Dce()]).run(graph)
    assert names(graph) == (["b"], [])
