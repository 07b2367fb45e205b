"""Constant folding."""

from __future__ import annotations

from dataclasses import dataclass

from ramiel_ir.errors import RamielError
from ramiel_ir.ir import DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.onnx_io import evaluate_all
from ramiel_ir.pipeline import Context, No, Pass

# Ops whose result can be larger than what they read; they fold only when the size is known.
_GROWING = frozenset(
    ["ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample"]
)


@dataclass(frozen=True)
class Fold(Pass):
    """Compute at compile time everything that depends on constants only.

    One sweep in graph order marks the ops that are pure and read nothing but weights and results
    of marked ops; all of them are evaluated in one go, and the results that the rest of the graph
    still reads become weights. Ops whose result has more than `max-elements` elements stay, as do
    random and stateful ones. The marked ops are gone afterwards, and so are weights that nobody
    reads.
    """

    name = "fold"
    max_elements: int = 1 << 26

    def run(self, graph: Graph, context: Context) -> bool | No:
        constant = self._constant_ops(graph)
        if not constant:
            return No("no op depends on constants only")
        marked = set(constant)
        frontier = [
            value
            for op in constant
            for value in op.writes
            if value.is_output or any(user not in marked for user in value.users())
        ]
        try:
            arrays = evaluate_all(constant, frontier)
        except RamielError as error:
            return No(str(error))
        for value, array in zip(frontier, arrays, strict=True):
            value.replace_all_uses(graph.add_weight(value.name, Tensor.of(array)))
        graph.erase(*constant)
        graph.erase_weights([value for value in graph.weights if not value.uses])
        return True

    def _constant_ops(self, graph: Graph) -> list[Op]:
        known: set[Value] = {
            value for value in graph.weights if value.weight and not value.weight.is_detached
        }
        found: list[Op] = []
        for op in graph.ops:
            if op.regions or not op.pure or not all(value in known for value in op.reads):
                continue
            if all(self._is_small(op, value.type) for value in op.writes):
                known.update(op.writes)
                found.append(op)
        return found

    def _is_small(self, op: Op, type: Type | None) -> bool:
        if type is None or type.kind != "tensor" or not isinstance(type.element, DType):
            return False
        if type.count is None:
            return op.kind not in _GROWING
        return type.count <= self.max_elements
