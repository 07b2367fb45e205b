"""The sequential plan where no other is predicted to win."""

from __future__ import annotations

from dataclasses import dataclass

from ramiel_ir.backend import find_backend
from ramiel_ir.errors import PipelineError
from ramiel_ir.ir import Graph
from ramiel_ir.pipeline import Context, No, Pass, Yes
from ramiel_ir.plan import best_sequential, make_plan, simulate
from ramiel_passes.sequential import Sequential


@dataclass(frozen=True)
class Gate(Pass):
    """Put everything on one worker when the clusters are not predicted to be faster.

    The plan competes with what its user has now: one worker that gives as many threads as it may
    have, or one, whichever is better, to each op in turn. It must win by `margin`, a fraction of
    the sequential time, since a prediction is not a measurement.
    """

    name = "gate"
    margin: float = 0.03

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1:
            raise PipelineError(f"gate's margin is a share, such as 0.03, not {self.margin}")

    def run(self, graph: Graph, context: Context) -> No | Yes:
        if len(graph.clusters) < 2:
            if Sequential().run(graph, context):
                return Yes("one cluster needs no parts and no copies")
            return No("the plan is sequential already")
        plan = make_plan(graph, threads=context.threads)
        if context.backend:
            plan = find_backend(context.backend).arrange(plan, context.costs)
        predicted = simulate(plan, context.costs).latency
        alone = graph.clone()
        Sequential().run(alone, context)
        _, sequential = best_sequential(alone, context.costs, context.alone)
        sequential += context.costs.request(1, graph.inputs)
        if predicted < sequential * (1 - self.margin):
            return No(f"predicted {predicted:.0f} µs against {sequential:.0f} µs sequentially")
        Sequential().run(graph, context)
        return Yes(f"several would take {predicted:.0f} µs, one {sequential:.0f} µs, as predicted")
