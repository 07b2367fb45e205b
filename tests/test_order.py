"""The order of ops and the bounds that follow from it."""

from __future__ import annotations

import random

from hypothesis import given

from ramiel_ir.costs import StaticCosts, work
from ramiel_ir.ir import Graph, Value
from ramiel_ir.order import ancestors, least_makespan
from ramiel_ir.plan import make_plan, simulate
from tests.strategies import RandomCosts, examples, random_clusters, random_dag, seeds
from tests.test_plan import Table


def hourglass() -> Graph:
    """Four ops, then one that reads them all, then four that read it."""
    graph = Graph("hourglass", [Value("x")], opsets={"": 21})
    made = [graph.add("Relu", graph.inputs, f"a{index}") for index in range(4)]
    waist = graph.add("Sum", made, "waist")
    graph.set_outputs([graph.add("Neg", [waist], f"b{index}") for index in range(4)])
    return graph


def test_what_comes_before_an_op_is_shared_at_best() -> None:
    """2 + 1 + 2 of nine ops of 1 µs, where half of the work is 4.5 and the longest path 3."""
    graph = hourglass()
    assert ancestors(graph).sum() == 4 + 4 * 5
    assert work(graph, Table()).bound(2) == 4.5
    assert least_makespan(graph, Table(), 2) == 5.0
    assert least_makespan(graph, Table(), 4) == 3.0
    assert least_makespan(Graph("empty"), StaticCosts(), 2) == 0.0


@given(seeds())
@examples(200)
def test_no_plan_is_shorter(seed: int) -> None:
    rng = random.Random(seed)
    graph, costs = random_dag(rng, 30), RandomCosts(seed, edges=(0.0,))
    random_clusters(graph, rng)
    plan = make_plan(graph)
    workers = len(plan.workers)
    least = least_makespan(graph, costs, workers)
    assert work(graph, costs).critical_path <= least + 1e-9
    assert work(graph, costs).bound(workers) <= least + 1e-9
    assert least <= simulate(plan, costs).makespan + 1e-9
