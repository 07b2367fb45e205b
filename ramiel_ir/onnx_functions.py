"""The function bodies that ONNX itself has for some ops."""

from __future__ import annotations

import onnx.inliner
import onnx_ir
from onnx import defs

from ramiel_ir.ir import Graph, Op
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.onnx_writer import piece_to_onnx


def expand(op: Op) -> Graph | None:
    """ONNX's own function body for an op as a graph over what it reads, None where it has none."""
    assert op.graph is not None
    version = op.graph.opsets.get(op.domain, 1)
    try:
        schema = defs.get_schema(op.kind, version, op.domain)
    except defs.SchemaError:
        return None
    if not (schema.has_function or schema.has_context_dependent_function):
        return None
    # A captured value whose name the function uses itself would become another one.
    taken = (f"{op.kind}_", *(value.name for value in (*schema.inputs, *schema.outputs)))
    if any(value.name.startswith(taken) for value in op.captures):
        return None
    model = onnx_ir.to_proto(piece_to_onnx("one_op", [op], op.reads, op.writes))
    try:
        inlined = onnx.inliner.inline_selected_functions(
            model, [(op.domain, op.kind)], inline_schema_functions=True
        )
    except Exception:
        return None
    if any((node.domain, node.op_type) == (op.domain, op.kind) for node in inlined.graph.node):
        return None
    return read_onnx(inlined)
