"""Everything on one worker."""

from __future__ import annotations

from dataclasses import dataclass

from ramiel_ir.derived import COPY
from ramiel_ir.ir import Graph, Op
from ramiel_ir.pipeline import Context, Pass
from ramiel_passes.join import join


@dataclass(frozen=True)
class Sequential(Pass):
    """Put every op into one cluster, in graph order: the plan that all others have to beat.

    Copies that `clone` made for other clusters go, and what `divide` divided is whole again.
    """

    name = "sequential"

    def run(self, graph: Graph, context: Context) -> bool:
        changed = any(op.cluster != 0 for op in graph.ops)
        copied = _erase_copies(graph)
        joined = join(graph)
        for op in graph.ops:
            op.cluster = 0
        return copied or joined or changed


def _erase_copies(graph: Graph) -> bool:
    """Let one op do what it and its copies do; whether there were any."""
    firsts: dict[str, Op] = {}
    before = len(graph.ops)
    for op in list(graph.ops):
        first = firsts.setdefault(op.label.partition(COPY)[0], op)
        if first is op or not _is_same(first, op):
            continue
        pairs = list(zip(first.writes, op.writes, strict=True))
        if any(kept.is_output and gone.is_output for kept, gone in pairs):
            continue  # two outputs of the model keep their names
        for kept, gone in pairs:
            if gone.is_output or (COPY in kept.name and not kept.is_output):
                kept.name, gone.name = gone.name, kept.name
            gone.replace_all_uses(kept)
        graph.erase(op)
    return len(graph.ops) < before


def _is_same(first: Op, op: Op) -> bool:
    """Whether both compute the same: a name alone, which may be the model's own, proves nothing."""
    return (
        first.pure
        and not first.regions
        and first.qualified_kind == op.qualified_kind
        and first.operands == op.operands
        and first.attributes == op.attributes
        and len(first.writes) == len(op.writes)
    )
