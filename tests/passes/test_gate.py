"""The gate and the sequential plan on a fork whose times are known."""

from __future__ import annotations

import re

import pytest

from ramiel_ir.ir import Graph, Value
from ramiel_ir.pipeline import Context, No, Yes
from ramiel_passes.gate import Gate
from ramiel_passes.sequential import Sequential
from tests.test_plan import Table


def branches() -> Graph:
    """a and b independent, 10 µs each, then c: 12 µs in parallel, 21 in sequence."""
    graph = Graph("branches", [Value("x")])
    a, b = graph.add("Relu", graph.inputs, "a"), graph.add("Neg", graph.inputs, "b")
    graph.set_outputs([graph.add("Add", [a, b], "c")])
    for op, cluster in zip(graph.ops, (0, 1, 0), strict=True):
        op.cluster = cluster
    return graph


def context(edge: float = 1.0, cores: int = 1) -> Context:
    return Context(Table(edge=edge, a=10, b=10), alone=(cores, 1))


def clusters(graph: Graph) -> list[int | None]:
    return [op.cluster for op in graph.ops]


def test_a_plan_that_wins_stays_and_the_reason_has_the_times() -> None:
    graph = branches()
    outcome = Gate().run(graph, context())
    assert outcome == No("predicted 12 µs against 21 µs sequentially")
    assert clusters(graph) == [0, 1, 0]


@pytest.mark.parametrize(
    ("gate", "edge", "cores"),
    [
        (Gate(), 10.0, 1),  # 10 + 10 + 1 against 21: no faster
        (Gate(), 9.9, 1),  # 20.9 against 21: not by three in a hundred
        (Gate(margin=0.5), 1.0, 1),  # 12 is not below 10.5
        (Gate(), 1.0, 2),  # two intra-op threads would need 10.5
    ],
)
def test_a_plan_that_does_not_win_becomes_sequential(gate: Gate, edge: float, cores: int) -> None:
    graph = branches()
    outcome = gate.run(graph, context(edge, cores))
    assert isinstance(outcome, Yes)
    assert re.fullmatch(r"several would take \d+ µs, one \d+ µs, as predicted", outcome.reason)
    assert clusters(graph) == [0, 0, 0]


def test_a_sequential_plan_needs_no_gate() -> None:
    graph = branches()
    Sequential().run(graph, context())
    assert Gate().run(graph, context()) == No("the plan is sequential already")


def test_sequential_puts_everything_on_one_worker() -> None:
    graph = branches()
    order = list(graph.ops)
    assert Sequential().run(graph, context()) is True
    assert clusters(graph) == [0, 0, 0]
    assert graph.ops == order
    assert Sequential().run(graph, context()) is False
    graph.ops[1].cluster = None
    assert Sequential().run(graph, context()) is True
