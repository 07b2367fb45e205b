"""A quick prediction of the makespan of ops assigned to workers, for passes that try many."""

from __future__ import annotations

from collections.abc import Mapping

from ramiel_ir.costs import Costs
from ramiel_ir.ir import Graph, Op


class Schedule:
    """The graph's costs and edges, gathered once; each worker runs its ops in graph order.

    `makespan` agrees with `simulate(make_plan(graph), costs).makespan` for the same assignment.
    """

    def __init__(self, graph: Graph, costs: Costs, threads: int = 1) -> None:
        self.graph = graph
        self.costs = costs
        self.weight = {op: costs.op(op, threads) for op in graph.ops}
        self.reads: dict[Op, list[tuple[Op, float]]] = {op: [] for op in graph.ops}
        for op in graph.ops:
            for value in op.writes:
                users = value.users()
                edge = costs.edge(value) if users else 0.0
                for user in users:
                    self.reads[user].append((op, edge))

    def makespan(self, home: Mapping[Op, int]) -> float:
        """µs until the last op ends when op runs on worker `home[op]`."""
        free: dict[int, float] = {}
        end: dict[Op, float] = {}
        for op in self.graph.ops:
            worker = home[op]
            start = free.get(worker, 0.0)
            for source, edge in self.reads[op]:
                ready = end[source] if home[source] == worker else end[source] + edge
                start = max(start, ready)
            end[op] = free[worker] = start + self.weight[op]
        return max(free.values(), default=0.0)
