"""The meaning of graphs and plans: absent results, sequences, optionals, samples."""

from __future__ import annotations

import numpy as np
import pytest

from ramiel_ir.errors import PlanError, RamielError, UnsupportedOpError, UsageError
from ramiel_ir.interpret import interpret
from ramiel_ir.ir import Graph
from ramiel_ir.parser import parse_graph
from ramiel_ir.plan import make_plan
from tests.passes.test_laws import same
from tests.test_plan import cross, diamond

_TEXT = """
graph @g(%x: f32[4]) opset 21 {
  %k = weight : i64[1] = [2]
  %one = weight : i64[] = [1]
  %s = weight : i64[2] = [3, 1]
  _, %i = TopK(%x, %k) @1 : _, i64[2]
  %parts = SplitToSequence(%x, %s) @0 : sequence(f32[...])
  %last = SequenceAt(%parts, %one) @1 : f32[...]
  %none = Optional() {type=type f32[4]} @0 : optional(f32[4])
  %has = OptionalHasElement(%none) @1 : bool[]
  %y = If(%has) @2 : f32[...] then_branch = @t() {
    %t = Identity(%x) : f32[4]
    return %t
  } else_branch = @e() {
    %e = Neg(%last) : f32[...]
    return %e
  }
  return %i, %parts, %has, %y, %y, %x, %k
}
"""


def test_every_kind_of_value_is_carried_from_worker_to_worker() -> None:
    graph = parse_graph(_TEXT)
    x = np.array([3, 1, 4, 1.5], np.float32)
    plan = make_plan(graph)
    assert len(plan.workers) == 3
    plan.verify()
    expected = interpret(graph, {"x": x})
    assert expected["i"].tolist() == [2, 0]
    assert [part.tolist() for part in expected["parts"]] == [[3, 1, 4], [1.5]]
    assert not expected["has"]
    assert expected["y"].tolist() == [-1.5]
    found = interpret(plan, {"x": x})
    assert list(found) == list(expected) == ["i", "parts", "has", "y", "x", "k"]
    assert all(same(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("samples", [2, 3])
def test_a_plan_of_several_samples_takes_and_returns_lists(samples: int) -> None:
    graph = parse_graph(_TEXT)
    xs = [np.random.default_rng(seed).normal(size=4).astype(np.float32) for seed in range(samples)]
    plan = make_plan(graph, samples=samples)
    plan.verify()
    found = interpret(plan, {"x": xs})
    for index, x in enumerate(xs):
        for name, array in interpret(graph, {"x": x}).items():
            assert same(found[name][index], array)


def test_a_missing_input_is_named() -> None:
    for program in (diamond(), make_plan(diamond())):
        with pytest.raises(UsageError, match="the input 'x' is missing"):
            interpret(program, {})


def test_a_plan_with_a_cycle_is_not_run() -> None:
    with pytest.raises(PlanError, match="waits for ever"):
        interpret(cross(make_plan(diamond())), {"x": np.ones(2, np.float32)})


def test_ops_that_cannot_be_evaluated_are_named() -> None:
    graph = diamond()
    graph.ops[1].kind = "NoSuchOp"
    with pytest.raises((UnsupportedOpError, RamielError), match="%b = NoSuchOp"):
        interpret(graph, {"x": np.ones(2, np.float32)})


def test_an_op_that_fails_is_named_with_the_reason() -> None:
    source = "graph @g(%x: f32[2]) opset 21 { %y = MatMul(%x, %w) : ? return %y }"
    weight = "{ %w = weight : f32[3] = [1.0, 2.0, 3.0]"
    graph = parse_graph(source.replace("{", weight, 1))
    with pytest.raises(RamielError, match="%y = MatMul cannot be evaluated: "):
        interpret(graph, {"x": np.ones(2, np.float32)})


def test_an_empty_graph_returns_what_it_is_given() -> None:
    graph = parse_graph("graph @g(%x: f32[2]) { return %x }")
    assert isinstance(graph, Graph)
    x = np.ones(2, np.float32)
    assert interpret(graph, {"x": x})["x"] is x
