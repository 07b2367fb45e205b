"""Merging against graphs worked out by hand; costs are 1 per op and edge by default."""

from __future__ import annotations

import time

import pytest

from ramiel_ir.ir import Graph, Value
from ramiel_ir.laws import verify
from ramiel_ir.pipeline import Context, PassManager
from ramiel_ir.plan import make_plan, simulate
from ramiel_passes.cluster import Cluster
from ramiel_passes.merge import Merge
from tests.passes.test_cluster import clusters, two_branches
from tests.test_plan import Table


def run(graph: Graph, costs: Table, limit: int | None = None) -> float:
    """Cluster and merge; the predicted makespan."""
    PassManager([Cluster(), Merge(limit)], Context(costs)).run(graph)
    return simulate(make_plan(graph), costs).makespan


def test_clusters_with_disjoint_spans_share_a_worker() -> None:
    # two cells in a row, op and edge costs 1, d in brackets:
    #   a[9] ─ b[7] ─ d[5] ─ e[3] ─ h[1]     paths: abdeh [9, 0), c [7, 6), f [3, 2)
    #     └─── c[7] ─┘   └─── f[3] ─┘        c and f are never busy at the same time
    graph = Graph("cells", [Value("x")])
    values = {"x": graph.inputs[0]}
    reads = {"a": "x", "b": "a", "c": "a", "d": "bc", "e": "d", "f": "d", "h": "ef"}
    for name, operands in reads.items():
        values[name] = graph.add("Sum", [values[operand] for operand in operands], name)
    graph.set_outputs([values["h"]])
    assert run(graph, Table()) == 9
    assert clusters(graph) == ["abdeh", "cf"]


def test_clusters_with_overlapping_spans_stay_apart() -> None:
    # spans: abcdh [9, 0), ef [5, 2), g [3, 2): f and g would run at the same time
    # worker 0: a until 1, b c d until 4; worker 1: e from 2, f until 4; f is here at 5, h until 6
    graph = two_branches()
    assert run(graph, Table()) == 6
    assert clusters(graph) == ["abcdh", "ef", "g"]


def test_a_span_includes_its_last_op() -> None:
    # b and c start at the same distance: closed at d(last) their spans would be empty, and disjoint
    #   a[12] ─ b[10] ┐ d(b) = d(c) = 8 + 1 + 1
    #     └──── c[10] ┴ d[1]
    graph = Graph("parallel", [Value("x")])
    a = graph.add("Relu", graph.inputs, "a")
    b, c = graph.add("Relu", [a], "b"), graph.add("Relu", [a], "c")
    graph.set_outputs([graph.add("Add", [b, c], "d")])
    assert run(graph, Table(b=8, c=8)) == 12
    assert clusters(graph) == ["abd", "c"]


def test_a_span_ends_where_the_next_may_start() -> None:
    # chains without edge costs: p [4, 2) then q [2, 0) touch and share; the makespan stays 4
    #   a(2)[4] ─ b(2)[2]          worker 0: a b
    #     p(2)[4] ─ (joins b)      worker 1: p, then q
    #     q(2)[2]
    graph = Graph("touching", [Value("x")])
    a = graph.add("Relu", graph.inputs, "a")
    p = graph.add("Relu", graph.inputs, "p")
    graph.add("Add", [a, p], "b")
    graph.add("Relu", graph.inputs, "q")
    graph.set_outputs([graph.ops[2].writes[0], graph.ops[3].writes[0]])
    assert run(graph, Table(edge=0, a=2, b=2, p=2, q=2)) == 4
    assert clusters(graph) == ["ab", "pq"]


def test_ops_run_by_descending_distance_and_free_ones_first() -> None:
    # z costs nothing: d(z) = d(y) = 3, and z feeds y over a free edge, so z must run first
    graph = Graph("free", [Value("x")])
    late = graph.add("Relu", graph.inputs, "w")
    z = graph.add("Reshape", graph.inputs, "z")
    y = graph.add("Relu", [z], "y")
    graph.set_outputs([late, y])
    run(graph, Table(edge=0, w=1, z=0, y=3), 1)
    assert clusters(graph) == ["zyw"]
    verify(graph)


@pytest.mark.parametrize(
    ("limit", "expected", "makespan"),
    [(3, ["abcdh", "ef", "g"], 6), (2, ["abcgdh", "ef"], 6), (1, ["abecgfdh"], 8)],
)
def test_a_limit_costs_as_little_makespan_as_it_can(
    limit: int, expected: list[str], makespan: float
) -> None:
    # with 2: g joins the longest path, which waits for f anyway; after e it would delay f and h
    graph = two_branches()
    assert run(graph, Table(), limit) == makespan
    assert clusters(graph) == expected


def test_clusters_are_numbered_in_the_order_of_the_graph() -> None:
    graph = two_branches()
    run(graph, Table(), 2)
    assert [op.cluster for op in graph.ops if op.label in ("%a", "%e")] == [0, 1]


def test_many_clusters_merge_in_near_linear_time() -> None:
    def seconds(count: int) -> float:
        graph = Graph("wide", [Value("x")])
        root = graph.add("Relu", graph.inputs, "root")
        leaves = [graph.add("Relu", [root], f"v{number}") for number in range(count)]
        graph.set_outputs([graph.add("Sum", leaves, "sum")])
        Cluster().run(graph, Context(Table()))
        start = time.process_time()
        Merge(2).run(graph, Context(Table()))
        assert len(graph.clusters) == 2
        return time.process_time() - start

    # the best of three: somebody else may have the cores, or their caches, for a moment
    many, few = (min(seconds(count) for _ in range(3)) for count in (4000, 400))
    assert many < 40 * max(few, 1e-3)  # quadratic time would take 100 times as long
