"""Deals the ops of a graph out to clusters, so that as many values as possible travel."""

from __future__ import annotations

from ramiel_ir.ir import Graph
from ramiel_ir.plan import Plan, make_plan

CLUSTERS = (1, 2, 4)


def spread(graph: Graph, count: int) -> Plan:
    """The verified plan in which the ops, in topological order, take clusters in turn.

    Where one op reads another, at least one value travels.
    """
    for index, op in enumerate(graph.ops):
        op.cluster = index % count
    if count > 1 and not _travels(graph) and _depends(graph):
        # Every reader is a multiple of `count` ops behind: let each round start one further on.
        for index, op in enumerate(graph.ops):
            op.cluster = (index + index // count) % count
    plan = make_plan(graph)
    plan.verify()
    assert plan.messages or count == 1 or not _depends(graph), "no value travels"
    return plan


def _depends(graph: Graph) -> bool:
    return any(value.users() for op in graph.ops for value in op.writes)


def _travels(graph: Graph) -> bool:
    return any(
        user.cluster != op.cluster
        for op in graph.ops
        for value in op.writes
        for user in value.users()
    )
