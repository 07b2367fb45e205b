"""Constant folding."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from ramiel_ir.backend import find_backend
from ramiel_ir.errors import RamielError
from ramiel_ir.ir import Array, DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.onnx_reference import evaluate, evaluate_all
from ramiel_ir.pipeline import Context, No, Pass

# Ops that are told how large their result is, or decode it, so that it can be far larger than what
# they read; they fold only when the size is known.
_GROWING = frozenset(
    [
        "AffineGrid", "BlackmanWindow", "CenterCropPad", "Col2Im", "ConstantOfShape", "DFT",
        "Expand", "HammingWindow", "HannWindow", "ImageDecoder", "MaxUnpool", "MelWeightMatrix",
        "OneHot", "Pad", "Range", "Resize", "STFT", "Tile", "Upsample",
    ]
)  # fmt: skip
_IN_ALL = 16  # times max-elements: while they are evaluated, all results are in memory


@dataclass(frozen=True)
class Fold(Pass):
    """Compute at compile time everything that depends on constants only.

    One sweep in graph order marks the ops that are pure and read nothing but weights and results
    of marked ops; all of them are evaluated in one go, and the results that the rest of the graph
    still reads become weights. Ops whose result has more than `max-elements` elements stay, as do
    those with which all results, as far as their sizes are known, would have more than 16 times as
    many, random and stateful ones, and those that the backend wants to see. The marked ops are gone
    afterwards, and so are weights that nobody reads.
    """

    name = "fold"
    max_elements: int = 1 << 26

    def run(self, graph: Graph, context: Context) -> bool | No:
        kept = find_backend(context.backend).unfolded if context.backend else frozenset()
        constant = self._constant_ops(graph, kept)
        if not constant:
            return No("no op depends on constants only")
        try:
            frontier = _frontier(constant)
            arrays = evaluate_all(constant, frontier)
            found = {v: self._checked(v, array) for v, array in zip(frontier, arrays, strict=True)}
        except RamielError as error:
            found = self._one_by_one(constant)
            constant = [op for op in constant if all(value in found for value in op.writes)]
            if not constant:
                return No(str(error))
        for value in _frontier(constant):
            value.replace_all_uses(graph.add_weight(value.name, Tensor.of(found[value])))
        graph.erase(*constant)
        graph.erase_weights([value for value in graph.weights if not value.uses])
        return True

    def _constant_ops(self, graph: Graph, kept: frozenset[str]) -> list[Op]:
        known: set[Value] = {
            value for value in graph.weights if value.weight and not value.weight.is_detached
        }
        found: list[Op] = []
        left = _IN_ALL * self.max_elements
        for op in graph.ops:
            if op.regions or not op.pure or (op.kind in kept and not op.domain):
                continue
            if not all(value in known for value in op.reads):
                continue
            size = sum(value.type.count or 0 for value in op.writes if value.type is not None)
            if size <= left and all(self._is_small(op, value.type) for value in op.writes):
                known.update(op.writes)
                found.append(op)
                left -= size
        return found

    def _one_by_one(self, ops: list[Op]) -> dict[Value, Array]:
        """The results of those ops that can be evaluated at all."""
        found: dict[Value, Array] = {}
        for op in ops:
            known = {v: v.weight.array if v.weight else found.get(v) for v in op.reads}
            with suppress(RamielError):
                if all(array is not None for array in known.values()):
                    arrays = zip(op.writes, evaluate(op, known), strict=True)
                    found.update([(value, self._checked(value, array)) for value, array in arrays])
        return found

    def _checked(self, value: Value, array: Any) -> Array:
        """The array if it is what the value's type says, and not too large."""
        result: Array = np.asarray(array)
        assert value.type is not None
        if DType.from_numpy(result.dtype) is not value.type.element:
            raise RamielError(f"{value.op}: onnx.reference gives it the type {result.dtype}")
        if result.size > self.max_elements:
            raise RamielError(f"{value.op}: it has {result.size} elements")
        return result

    def _is_small(self, op: Op, type: Type | None) -> bool:
        if type is None or type.kind != "tensor" or not isinstance(type.element, DType):
            return False
        if type.count is None:
            return op.kind not in _GROWING
        return type.count <= self.max_elements


def _frontier(ops: list[Op]) -> list[Value]:
    """The results of `ops` that others read."""
    inside = set(ops)
    return [
        value
        for op in ops
        for value in op.writes
        if value.is_output or any(user not in inside for user in value.users())
    ]
