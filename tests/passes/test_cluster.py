"""Linear clustering against graphs worked out by hand; costs are 1 per op and edge by default."""

from __future__ import annotations

from ramiel_ir.costs import distances
from ramiel_ir.ir import Graph, Op, Value
from ramiel_ir.pipeline import Context
from ramiel_passes.cluster import Cluster
from tests.test_plan import Table, diamond


def clusters(graph: Graph) -> list[str]:
    """The ops of each cluster, by their one-letter names."""
    return ["".join(op.label[1:] for op in ops) for ops in graph.clusters.values()]


def two_branches() -> Graph:
    """An inception cell: d in brackets with op and edge costs 1.

    a[9] ─ b[7] ─ c[5] ─ d[3] ─ h[1]
      ├─── e[5] ─ f[3] ───────┤
      └─── g[3] ──────────────┘
    """
    graph = Graph("cell", [Value("x")], opsets={"": 21})
    reads = {"a": "x", "b": "a", "e": "a", "g": "a", "c": "b", "f": "e", "d": "c", "h": "dfg"}
    values = {"x": graph.inputs[0]}
    for name, operands in reads.items():
        values[name] = graph.add("Sum", [values[operand] for operand in operands], name)
    graph.set_outputs([values["h"]])
    return graph


def test_the_critical_path_comes_first_then_what_remains() -> None:
    graph = two_branches()
    found = distances(graph, Table())
    assert {op.label[1:]: d for op, d in found.items()} == {
        "a": 9, "b": 7, "c": 5, "d": 3, "h": 1, "e": 5, "f": 3, "g": 3
    }  # fmt: skip
    assert Cluster().run(graph, Context(Table()))
    assert clusters(graph) == ["abcdh", "ef", "g"]


def test_costs_decide_the_path() -> None:
    graph = two_branches()
    Cluster().run(graph, Context(Table(f=9)))
    assert clusters(graph) == ["aefh", "bcd", "g"]


def test_edges_count_too() -> None:
    # b, c, d have three edges to h, e and f two: where edges are dear the longer chain wins
    graph = two_branches()
    Cluster().run(graph, Context(Table(edge=100, f=9)))
    assert clusters(graph) == ["abcdh", "ef", "g"]


def test_ties_go_to_the_op_that_comes_first() -> None:
    graph = diamond()
    Cluster().run(graph, Context(Table()))
    assert clusters(graph) == ["abd", "c"]


def test_an_op_used_by_a_region_leads_to_its_owner() -> None:
    graph = Graph("branch", [Value("x"), Value("condition")])
    a = graph.add("Relu", graph.inputs[:1], "a")
    b = graph.add("Relu", graph.inputs[:1], "b")
    body = Graph("body")
    body.set_outputs([body.add("Neg", [a], "n")])
    other = Graph("other")
    other.set_outputs([other.add("Neg", [b], "m")])
    regions = {"then_branch": body, "else_branch": other}
    graph.append(Op("If", [graph.inputs[1]], [Value("y")], regions=regions))
    Cluster().run(graph, Context(Table()))
    assert clusters(graph) == ["ay", "b"]


def test_a_second_run_changes_nothing() -> None:
    graph = two_branches()
    assert Cluster().run(graph, Context(Table()))
    assert not Cluster().run(graph, Context(Table()))


def test_an_empty_graph_has_no_clusters() -> None:
    graph = Graph("empty")
    assert not Cluster().run(graph, Context(Table()))
    assert graph.clusters == {}


def test_a_long_graph_takes_no_recursion() -> None:
    graph = Graph("long", [Value("x")])
    value = graph.inputs[0]
    for number in range(5000):
        value = graph.add("Relu", [value], f"v{number}")
    Cluster().run(graph, Context(Table()))
    assert len(graph.clusters) == 1
