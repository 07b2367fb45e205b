"""The torch backend: plans become Python that people can read and edit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ramiel_backends import sources, weights
from ramiel_backends.torch import families, regions
from ramiel_backends.torch.emit import write_source
from ramiel_backends.torch.fusion import fuse_activations
from ramiel_backends.torch.table import TABLE
from ramiel_backends.torch.translate import is_region_op, write_row
from ramiel_ir.backend import Backend, Emission, refuse
from ramiel_ir.costs import AnalyticCosts
from ramiel_ir.errors import RamielError
from ramiel_ir.ir import Graph, Names, Op
from ramiel_ir.onnx_functions import expand
from ramiel_ir.pipeline import Context, No
from ramiel_ir.plan import Plan, Timeline, make_plan, simulate

MODEL = "model.py"

assert families  # importing them fills the op table


class TorchBackend(Backend):
    """Emits model.py, one function per worker and one line per op, over torch."""

    name = "torch"

    def prepare(self, graph: Graph, context: Context) -> Graph:
        """A copy with PyTorch's own activations, and ONNX's function for each op without a row."""
        copy = graph.clone()
        _expand(copy, Names(copy))
        fuse_activations(copy)
        return copy

    def check(self, graph: Graph) -> None:
        """Raise `UnsupportedOpError` that names every op without a row, with counts and reasons."""
        found = ((op, reason_against(op)) for op in graph.walk())
        refuse(self.name, ((op, reason) for op, reason in found if reason))

    def profile(
        self, graph: Graph, inputs: Mapping[str, Any], threads: int, rounds: int
    ) -> dict[str, float]:
        from ramiel_backends.torch.profile import profile

        plan = make_plan(graph, threads=threads)
        source = write_source(plan, simulate(plan, AnalyticCosts()))
        return profile(source, inputs, threads, rounds)

    def ops(self) -> dict[str, list[int]]:
        """The ops of the table, and those that become statements."""
        found = {
            f"{domain}.{kind}" if domain else kind: [row.since for row in rows]
            for (domain, kind), rows in TABLE.rows.items()
        }
        return dict(sorted((found | regions.SINCE).items()))

    def emit(self, plan: Plan, timeline: Timeline, folder: Path) -> Emission:
        """Write model.py, runtime/, onnx_ops/ and weights.safetensors."""
        source = write_source(plan, timeline)
        (folder / MODEL).write_text(source.text, encoding="ascii")
        sources.copy_runtime(folder)
        sources.copy_library(folder, source.libraries)
        written = weights.write_weights(source.weights, folder)
        return Emission("process", source.weight_keys, checked=written)


def reason_against(op: Op) -> str:
    """Why the op cannot be written, nothing where it can."""
    if is_region_op(op):
        return regions.reason_against(op)
    operands = tuple(None if value is None else f"x{i}" for i, value in enumerate(op.operands))
    written = write_row(op, operands)
    return written.reason if isinstance(written, No) else ""


def _expand(graph: Graph, names: Names) -> None:
    """Replace what has no row, here and in regions, until nothing more can be replaced."""
    queue = list(graph.ops)
    while queue:
        op = queue.pop()
        body = None if is_region_op(op) or not reason_against(op) else _function_body(op)
        if body is not None:
            queue += graph.splice(op, body, names)
            continue
        for region in op.regions.values():
            _expand(region, names)


def _function_body(op: Op) -> Graph | None:
    """ONNX's definition of the op, where it has one whose ops mean the same in the op's graph."""
    assert op.graph is not None
    try:
        body = expand(op)
    except RamielError:
        return None
    known = op.graph.opsets
    if body is None or body.captures:
        return None
    same = all(known.get(inner.domain) == body.opsets.get(inner.domain) for inner in body.walk())
    return body if same else None
