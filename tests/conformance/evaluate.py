"""Evaluates rows of the torch op table one by one, without the emitter, for tests of rows.

Ops without a row are evaluated by their ONNX function bodies.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import ramiel_backends.torch.families  # noqa: F401
from ramiel_backends.torch import library
from ramiel_backends.torch.table import TABLE, Site
from ramiel_ir.errors import UnsupportedOpError
from ramiel_ir.ir import DType, Graph, Op, Value
from ramiel_ir.onnx_functions import expand
from ramiel_ir.pipeline import No

_BY_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_TORCH_ONLY = {
    DType.BF16: torch.bfloat16,
    DType.F8E4M3FN: torch.float8_e4m3fn,
    DType.F8E4M3FNUZ: torch.float8_e4m3fnuz,
    DType.F8E5M2: torch.float8_e5m2,
    DType.F8E5M2FNUZ: torch.float8_e5m2fnuz,
    DType.F8E8M0: torch.float8_e8m0fnu,
}
_NUMPY_ONLY = {torch_type: dtype.numpy for dtype, torch_type in _TORCH_ONLY.items()}


def to_torch(value: Any) -> Any:
    """A value of the conformance data as the generated code would have it."""
    if value is None:
        return None
    if isinstance(value, list):
        return [to_torch(item) for item in value]
    array = np.asarray(value)
    dtype = DType.from_numpy(array.dtype)
    if dtype is DType.STRING or dtype.bits < 8:
        return array
    if dtype in _TORCH_ONLY:
        bits = {1: np.uint8, 2: np.int16}[array.dtype.itemsize]
        return torch.from_numpy(np.array(array.view(bits))).view(_TORCH_ONLY[dtype])
    return torch.from_numpy(np.array(array))


def to_numpy(value: Any) -> Any:
    """A value of generated code as numpy has it."""
    if isinstance(value, list):
        return [to_numpy(item) for item in value]
    if not isinstance(value, torch.Tensor):
        return value
    if value.dtype in _NUMPY_ONLY:
        bits = value.contiguous().view(_BY_BITS[value.element_size()]).numpy()
        return bits.view(_NUMPY_ONLY[value.dtype])
    return value.numpy()


class Evaluator:
    """Evaluates graphs by the op table; counts the ops it went through."""

    def __init__(self, show: bool = False) -> None:
        self.show = show
        self.ops: Counter[str] = Counter()
        self.names: dict[str, Any] = {"torch": torch, "F": F}
        for path in Path(library.__file__).parent.glob("*.py"):
            if path.stem not in ("__init__", "common"):
                module = f"{library.__name__}.{path.stem}"
                __import__(module)
                self.names[path.stem] = sys.modules[module]

    def graph(self, graph: Graph, known: dict[Value, Any]) -> list[Any]:
        """The outputs of a graph whose inputs are known."""
        known = dict(known)
        for value in graph.weights:
            assert value.weight is not None
            known[value] = to_torch(value.weight.array)
        for op in graph.ops:
            results = self.op(op, known)
            known.update(
                (value, found)
                for value, found in zip(op.results, results, strict=False)
                if value is not None
            )
        return [known[value] for value in graph.outputs]

    def op(self, op: Op, known: dict[Value, Any]) -> Any:
        """The results of one op."""
        if op.kind in ("If", "Loop", "Scan") and not op.domain:
            return getattr(self, f"_{op.kind.lower()}")(op, known)
        version = op.graph.opsets.get(op.domain, 1) if op.graph is not None else 1
        row = TABLE.find(op.domain, op.kind, version)
        if row is None:
            return self._expanded(op, known)
        self.ops[op.qualified_kind] += 1
        names = {f"x{i}": known[v] for i, v in enumerate(op.operands) if v is not None}
        operands = [None if v is None else f"x{i}" for i, v in enumerate(op.operands)]
        text = row.emit(Site(op, tuple(operands), version))
        if isinstance(text, No):
            raise UnsupportedOpError(str(text))
        if self.show:
            print(f"    {op.kind}: {text}")
        found = eval(text, dict(self.names), names)
        return [found] if len(op.results) == 1 else found

    def _expanded(self, op: Op, known: dict[Value, Any]) -> list[Any]:
        body = expand(op)
        if body is None:
            raise UnsupportedOpError(f"no row for {op.qualified_kind}")
        self.ops[f"{op.qualified_kind} (function)"] += 1
        reads = {value.name: value for value in op.reads}
        found = self.graph(body, {value: known[reads[value.name]] for value in body.inputs})
        by_name = dict(zip((value.name for value in body.outputs), found, strict=True))
        return [None if value is None else by_name[value.name] for value in op.results]

    def _if(self, op: Op, known: dict[Value, Any]) -> list[Any]:
        condition = known[op.operands[0]]  # type: ignore[index]
        return self.graph(op.regions["then_branch" if condition else "else_branch"], known)

    def _loop(self, op: Op, known: dict[Value, Any]) -> list[Any]:
        body = op.regions["body"]
        count, condition = (None if v is None else known[v] for v in (*op.operands, None, None)[:2])
        carried = [known[value] if value is not None else None for value in op.operands[2:]]
        scanned: list[list[Any]] = [[] for _ in body.outputs[1 + len(carried) :]]
        turn = 0
        while (count is None or turn < int(count)) and (condition is None or bool(condition)):
            given = [torch.tensor(turn), torch.tensor(True), *carried]
            condition, *found = self.graph(body, known | dict(zip(body.inputs, given, strict=True)))
            carried = found[: len(carried)]
            for items, item in zip(scanned, found[len(carried) :], strict=True):
                items.append(item)
            turn += 1
        return carried + [torch.stack(items) for items in scanned]

    def _scan(self, op: Op, known: dict[Value, Any]) -> list[Any]:
        body, count = op.regions["body"], op.attribute("num_scan_inputs")
        version = op.graph.opsets.get("", 1) if op.graph is not None else 1
        if version < 9:
            raise UnsupportedOpError("Scan before opset 9")
        given = [known[value] for value in op.operands if value is not None]
        states, scans = given[: len(given) - count], given[len(given) - count :]
        axes = op.attribute("scan_input_axes", (0,) * count)
        flips = op.attribute("scan_input_directions", (0,) * count)
        parts = [
            list(x.unbind(a))[:: -1 if f else 1] for x, a, f in zip(scans, axes, flips, strict=True)
        ]
        scanned: list[list[Any]] = [[] for _ in body.outputs[len(states) :]]
        for items in zip(*parts, strict=True):
            found = self.graph(body, known | dict(zip(body.inputs, [*states, *items], strict=True)))
            states = found[: len(states)]
            for kept, item in zip(scanned, found[len(states) :], strict=True):
                kept.append(item)
        axes = op.attribute("scan_output_axes", (0,) * len(scanned))
        flips = op.attribute("scan_output_directions", (0,) * len(scanned))
        return states + [
            torch.stack(kept[:: -1 if f else 1], a)
            for kept, a, f in zip(scanned, axes, flips, strict=True)
        ]
