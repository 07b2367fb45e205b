"""What refine declines; what it does is in tests/ir/refine.ir and test_laws.py."""

from __future__ import annotations

from ramiel_ir.costs import StaticCosts
from ramiel_ir.ir import DType, Graph, Type, Value
from ramiel_ir.pipeline import Context, No
from ramiel_passes.refine import _MOST_WORKERS, Refine

KIND = Type(DType.F32, (4,))


def fan(clusters: int) -> Graph:
    """An op in each cluster."""
    graph = Graph("fan", [Value("x", KIND)], opsets={"": 21})
    for index in range(clusters):
        graph.add("Neg", graph.inputs, f"y{index}", KIND)
        graph.ops[-1].cluster = index
    graph.set_outputs([op.writes[0] for op in graph.ops])
    return graph


def test_refine_declines_more_clusters_than_it_could_try_in_time() -> None:
    context = Context(costs=StaticCosts(), workers=2)
    declined = Refine().run(fan(_MOST_WORKERS + 1), context)
    assert isinstance(declined, No) and "merge some first" in declined.reason
    tried = Refine(budget=0).run(fan(_MOST_WORKERS), context)
    assert isinstance(tried, No) and tried.reason.startswith("nothing better than")
