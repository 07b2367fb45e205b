"""The ort backend: ONNX Runtime sessions on worker threads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ramiel_backends.ort import sessions
from ramiel_backends.ort.emit import emit_files
from ramiel_backends.ort.fusion import join_segments
from ramiel_backends.ort.profile import profile, session_overhead
from ramiel_backends.ort.rewrites import rewrite
from ramiel_backends.sources import copy_runtime
from ramiel_backends.weights import write_weights
from ramiel_ir.backend import Backend, Emission
from ramiel_ir.costs import Costs
from ramiel_ir.ir import Graph
from ramiel_ir.pipeline import Context
from ramiel_ir.plan import Plan, Timeline, aliases


class OrtBackend(Backend):
    """Emits an ONNX Runtime session per segment; workers are threads: sessions free the GIL."""

    name: ClassVar[str] = "ort"
    # Without it weights of a quantised convolution would be quantised again, less exactly.
    unfolded: ClassVar[frozenset[str]] = frozenset(["DequantizeLinear"])

    def prepare(self, graph: Graph, context: Context) -> Graph:
        """The graph with ONNX Runtime's own fusions, where a parallel plan may come of it.

        Ops with slow kernels are rewritten first. Split first and fused later, a graph loses the
        fusions and layouts that cross a border. A plan that turns out sequential falls back to
        the graph before fusion.
        """
        graph = sessions.lower_opset(graph.clone())
        sessions.complete_types(graph)
        rewrite(graph)
        if context.workers < 2 or not graph.ops:
            return graph
        fused = sessions.fuse(graph)
        return fused if isinstance(fused, Graph) else graph

    def check(self, graph: Graph) -> None:
        sessions.check(graph)

    def arrange(self, plan: Plan, costs: Costs) -> Plan:
        """The plan with as few sessions as the predicted makespan allows."""
        return plan if plan.is_sequential else join_segments(plan, costs)

    def profile(
        self, graph: Graph, inputs: Mapping[str, Any], threads: int, rounds: int
    ) -> dict[str, float]:
        return profile(graph, inputs, threads, rounds)

    def segment(self, graph: Graph, inputs: Mapping[str, Any], rounds: int) -> float:
        return session_overhead(graph, inputs, rounds)

    def emit(self, plan: Plan, timeline: Timeline, folder: Path) -> Emission:
        written = [str(path.relative_to(folder)) for path in emit_files(plan, timeline, folder)]
        returned = [value for value in aliases(plan.graph).values() if value.weight is not None]
        # a value's name may be one that the file keeps for itself
        keys = {value: f"w{number}" for number, value in enumerate(returned)}
        weights = {key: value.weight for value, key in keys.items() if value.weight is not None}
        written += write_weights(weights, folder)
        written += copy_runtime(folder)
        return Emission(
            # Between threads the GIL slows every message down; one worker has none to send.
            isolation="thread" if plan.is_sequential else "process",
            weight_keys=keys,
            checked=tuple(written),
        )
