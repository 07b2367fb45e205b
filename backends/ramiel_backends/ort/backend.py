"""The ort backend: ONNX Runtime sessions on worker threads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

import ramiel_backends.runtime as runtime
from ramiel_backends.ort import emit, sessions
from ramiel_ir.backend import Backend, Emission
from ramiel_ir.ir import Graph
from ramiel_ir.pipeline import Context
from ramiel_ir.plan import Plan, Timeline


class OrtBackend(Backend):
    """Emits an ONNX Runtime session per segment; workers are threads: sessions free the GIL."""

    name: ClassVar[str] = "ort"

    def prepare(self, graph: Graph, context: Context) -> Graph:
        """The graph with ONNX Runtime's own fusions, where a parallel plan may come of it.

        Split first and fused later, a graph loses the fusions and layouts that cross a border. A
        plan that turns out sequential falls back to the graph given here.
        """
        graph = sessions.lower_opset(graph)
        sessions.complete_types(graph)
        if context.workers < 2 or not graph.ops:
            return graph
        fused = sessions.fuse(graph)
        return fused if isinstance(fused, Graph) else graph

    def check(self, graph: Graph) -> None:
        sessions.check(graph)

    def emit(self, plan: Plan, timeline: Timeline, folder: Path) -> Emission:
        files = emit.emit(plan, timeline, folder)
        source = Path(next(iter(runtime.__path__)))
        shutil.copytree(source, folder / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
        workers = tuple(range(len(plan.workers))) if plan.graph.ops else ()
        return Emission(
            isolation="thread",
            hosts=(workers,) if workers else (),
            checked=tuple(str(path.relative_to(folder)) for path in files),
        )
