"""Cloning against graphs worked out by hand."""

from __future__ import annotations

import pytest

from ramiel_ir.errors import ModelError
from ramiel_ir.ir import Graph, Op, Value
from ramiel_ir.laws import difference, verify
from ramiel_ir.measured import MeasuredCosts
from ramiel_ir.pipeline import Context, No
from ramiel_ir.plan import make_plan, simulate
from ramiel_passes.clone import Clone
from ramiel_passes.sequential import Sequential
from tests.test_plan import Table, shown


def fork(kind: str = "Relu") -> Graph:
    """Two readers of one op: a → b in cluster 0 and a → c in cluster 1: the message takes a to c.

    With w = 1 and edges of 5:  worker 0: a until 1, b until 2   worker 1: waits until 6, c until 7
    """
    graph = Graph("fork", [Value("x")], opsets={"": 21})
    a = graph.add(kind, graph.inputs, "a")
    graph.set_outputs([graph.add("Neg", [a], "b"), graph.add("Abs", [a], "c")])
    for op, cluster in zip(graph.ops, (0, 0, 1), strict=True):
        op.cluster = cluster
    return graph


def makespan(graph: Graph, costs: Table) -> float:
    return simulate(make_plan(graph), costs).makespan


def test_a_cheap_op_is_computed_twice_instead_of_sent() -> None:
    graph, costs = fork(), Table(edge=5)
    assert makespan(graph, costs) == 7
    assert Clone(growth=1.0).run(graph, Context(costs)) is True
    verify(graph)
    assert makespan(graph, costs) == 2
    assert shown(make_plan(graph)) == [["a", "b"], ["a.copy", "c"]]


def test_an_op_dearer_than_its_message_stays() -> None:
    graph = fork()
    assert not Clone(growth=1.0).run(graph, Context(Table(edge=5, a=6)))
    assert len(graph.ops) == 3


@pytest.mark.parametrize("kind", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
def test_random_ops_are_never_cloned(kind: str) -> None:
    outcome = Clone(growth=1.0).run(fork(kind), Context(Table(edge=5)))
    assert isinstance(outcome, No)


def test_ops_of_unknown_domains_are_never_cloned() -> None:
    graph = fork()
    graph.ops[0].domain = "com.example"
    assert not Clone(growth=1.0).run(graph, Context(Table(edge=5)))


def test_an_op_with_a_region_is_never_cloned() -> None:
    graph = fork("If")
    body = Graph("body")
    body.set_outputs([body.add("Neg", graph.inputs, "n")])
    graph.ops[0].regions["then_branch"] = body
    body.owner = graph.ops[0]
    assert not Clone(growth=1.0).run(graph, Context(Table(edge=5)))


def test_growth_bounds_the_copies() -> None:
    # four workers read a; a growth of 0.5 allows two copies among five ops
    graph = Graph("fan", [Value("x")])
    a = graph.add("Relu", graph.inputs, "a")
    graph.set_outputs([graph.add("Neg", [a], f"b{n}") for n in range(4)])
    for op, cluster in zip(graph.ops, (0, 0, 1, 2, 3), strict=True):
        op.cluster = cluster
    Clone(growth=0.5).run(graph, Context(Table(edge=5)))
    assert len(graph.ops) == 7
    graph = fork()
    assert not Clone(growth=0.0).run(graph, Context(Table(edge=5)))


def test_an_op_whose_only_readers_are_elsewhere_moves() -> None:
    # a → c only: the clone takes its place, the graph does not grow
    graph = Graph("move", [Value("x")])
    a = graph.add("Relu", graph.inputs, "a")
    graph.set_outputs([graph.add("Neg", graph.inputs, "b"), graph.add("Abs", [a], "c")])
    for op, cluster in zip(graph.ops, (0, 0, 1), strict=True):
        op.cluster = cluster
    assert Clone(growth=0.4).run(graph, Context(Table(edge=5)))
    assert shown(make_plan(graph)) == [["b"], ["a.copy", "c"]]


def test_chains_of_cheap_ops_move_together() -> None:
    # x → a → b → c | d: with a cloned first, b has what it reads at hand in cluster 1
    graph = Graph("chain", [Value("x")])
    a = graph.add("Relu", graph.inputs, "a")
    b = graph.add("Neg", [a], "b")
    graph.set_outputs([graph.add("Add", [a, b], "c"), graph.add("Mul", [a, b], "d")])
    for op, cluster in zip(graph.ops, (0, 0, 0, 1), strict=True):
        op.cluster = cluster
    assert Clone(growth=1.0).run(graph, Context(Table(edge=5)))
    assert shown(make_plan(graph)) == [["a", "b", "c"], ["a.copy", "b.copy", "d"]]


def test_a_capture_reads_the_clone() -> None:
    graph = Graph("branch", [Value("x"), Value("condition")])
    a = graph.add("Relu", graph.inputs[:1], "a")
    b = graph.add("Neg", [a], "b")
    bodies = {}
    for name in ("then_branch", "else_branch"):
        bodies[name] = Graph(name)
        bodies[name].set_outputs([bodies[name].add("Abs", [a], f"in_{name}")])
    op = graph.append(Op("If", [graph.inputs[1]], [Value("y")], regions=bodies))
    graph.set_outputs([b, *op.writes])
    for each, cluster in zip(graph.ops, (0, 0, 1), strict=True):
        each.cluster = cluster
    assert Clone(growth=1.0).run(graph, Context(Table(edge=5)))
    verify(graph)
    assert [value.name for value in op.captures] == ["a.copy"]
    assert make_plan(graph).messages == ()


def test_clone_says_why_it_declines() -> None:
    graph = fork()
    graph.ops[0].cluster = None
    outcome = Clone().run(graph, Context(Table(edge=5)))
    assert outcome == No("not every op has a cluster")
    for op in graph.ops:
        op.cluster = 3
    assert Clone().run(graph, Context(Table(edge=5))) == No("fewer than two clusters")


def test_an_op_with_uses_cannot_be_erased() -> None:
    graph = fork()
    with pytest.raises(ModelError, match="%a = Relu cannot be erased: %a still has uses"):
        graph.erase(graph.ops[0])


def test_a_copy_costs_what_was_measured_of_the_op() -> None:
    graph = fork()
    Clone(growth=1.0).run(graph, Context(Table(edge=5)))
    costs = MeasuredCosts("torch", {"a": (8.0, 5.0)})
    assert [costs.op(op) for op in graph.ops[:2]] == [8.0, 8.0]
    assert [costs.known(graph), len(graph.ops)] == [2, 4]


def test_one_worker_needs_no_copies() -> None:
    graph = fork()
    Sequential().run(plain := graph.clone(), Context())
    Clone(growth=1.0).run(graph, Context(Table(edge=5)))
    assert Sequential().run(graph, Context())
    verify(graph)
    assert difference(graph, plain) is None
    assert not Sequential().run(graph, Context())


def test_an_output_keeps_its_name_when_its_copy_comes_first() -> None:
    graph = fork()
    graph.set_outputs([*graph.outputs, graph.ops[0].results[0]])
    Clone(growth=1.0).run(graph, Context(Table(edge=5)))
    a, copy, *others = graph.ops
    graph.reorder([copy, a, *others])
    Sequential().run(graph, Context())
    verify(graph)
    assert [op.label for op in graph.ops] == ["%a", "%b", "%c"]
    assert [value.name for value in graph.outputs] == ["b", "c", "a"]


@pytest.mark.parametrize("outputs", [["a.copy"], ["a"], ["a", "a.copy"]])
def test_a_model_that_has_such_names_keeps_those_of_its_outputs(outputs: list[str]) -> None:
    graph = Graph("names", [Value("x")], opsets={"": 21})
    made = {name: graph.add("Relu", graph.inputs, name) for name in ("a.copy", "a")}
    graph.add("Add", list(made.values()), "sum")
    graph.set_outputs([made[name] for name in outputs])
    Sequential().run(graph, Context())
    verify(graph)
    assert [value.name for value in graph.outputs] == outputs


def test_a_name_alone_makes_no_copy() -> None:
    graph = Graph("names", [Value("x")], opsets={"": 21})
    a = graph.add("Relu", graph.inputs, "a")
    graph.set_outputs([a, graph.add("Neg", graph.inputs, "a.copy")])
    assert Sequential().run(graph, Context())
    assert [op.kind for op in graph.ops] == ["Relu", "Neg"]
