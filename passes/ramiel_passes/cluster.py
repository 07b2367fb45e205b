"""Linear clustering along critical paths."""

from __future__ import annotations

from dataclasses import dataclass

from ramiel_ir.costs import distances
from ramiel_ir.ir import Graph, Op
from ramiel_ir.pipeline import Context, Pass


@dataclass(frozen=True)
class Cluster(Pass):
    """Cut the graph into paths, the most critical first.

    Every op has a distance to the end: its own cost plus the longest way, costs of ops and edges
    added up, from there to an output. The op with the greatest distance starts the critical path of
    the whole graph; walking on to the successor with the greatest distance follows it. That path is
    the first cluster: nothing on it could run in parallel anyway. Take it out, and the remaining op
    with the greatest distance starts the next path, until none is left. So clusters are paths, ops
    that must wait for each other stay together, and branches come apart.

    Time is near-linear in ops plus edges; ties go to the op that comes first in the graph.
    Source: Das and Rauchwerger, IPDPS 2024, section III.
    """

    name = "cluster"

    def run(self, graph: Graph, context: Context) -> bool:
        distance = distances(graph, context.costs, context.threads)
        position = {op: index for index, op in enumerate(graph.ops)}
        remaining = dict.fromkeys(graph.ops)

        def urgency(op: Op) -> tuple[float, int]:
            return -distance[op], position[op]

        before = [op.cluster for op in graph.ops]
        cluster = 0
        for start in sorted(graph.ops, key=urgency):
            step: Op | None = start
            if start not in remaining:
                continue
            while step is not None:
                del remaining[step]
                step.cluster = cluster
                users = (user for result in step.writes for user in result.users())
                step = min((user for user in users if user in remaining), key=urgency, default=None)
            cluster += 1
        return before != [op.cluster for op in graph.ops]
