"""Everything on one worker."""

from __future__ import annotations

from dataclasses import dataclass

from ramiel_ir.ir import Graph
from ramiel_ir.pipeline import Context, Pass


@dataclass(frozen=True)
class Sequential(Pass):
    """Put every op into one cluster, in graph order: the plan that all others have to beat."""

    name = "sequential"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = any(op.cluster != 0 for op in graph.ops)
        for op in graph.ops:
            op.cluster = 0
        return changed
