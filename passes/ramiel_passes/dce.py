"""Dead code elimination."""

from __future__ import annotations

from dataclasses import dataclass

from ramiel_ir.ir import Graph, Op, Value
from ramiel_ir.pipeline import Context, Pass


@dataclass(frozen=True)
class Dce(Pass):
    """Drop ops and weights that no output needs.

    An op is needed when an output of its graph, or an op that is needed, reads one of its
    results; what a needed op's regions read counts as read by it. The regions are cleaned first.
    """

    name = "dce"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = False
        for op in graph.ops:
            for region in op.regions.values():
                changed |= self.run(region, context)
        needed: set[Op] = set()
        todo = list(graph.outputs)
        while todo:
            maker = todo.pop().op
            if maker is not None and maker.graph is graph and maker not in needed:
                needed.add(maker)
                todo.extend(maker.reads)
        dead = [op for op in graph.ops if op not in needed]
        graph.erase(*dead)
        unused: list[Value] = [value for value in graph.weights if not value.uses]
        graph.erase_weights(unused)
        return changed or bool(dead) or bool(unused)
