"""What ONNX Runtime itself says of a graph: whether it loads, its types, its own fused form."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx.version_converter
import onnx_ir
import onnxruntime as ort
from onnx import defs

from ramiel_backends.ort.files import ModelFiles
from ramiel_ir.backend import refuse
from ramiel_ir.errors import RamielError, UnsupportedOpError
from ramiel_ir.ir import Dim, DType, Graph, Op, Type, Value
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.onnx_writer import to_onnx
from ramiel_ir.pipeline import No
from ramiel_ir.plan import computed_outputs

_MOST_BYTES = 3 << 29
"""Weights beyond which a graph is not fused: the fused model comes back in one protobuf message."""

_DTYPES = {
    "float": DType.F32,
    "double": DType.F64,
    "float16": DType.F16,
    "bfloat16": DType.BF16,
    "string": DType.STRING,
    "bool": DType.BOOL,
    **{f"int{bits}": DType[f"I{bits}"] for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": DType[f"U{bits}"] for bits in (8, 16, 32, 64)},
    **{f"float8{kind}": DType[f"F8{kind.upper()}"] for kind in ("e4m3fn", "e4m3fnuz", "e5m2")},
    "float8e5m2fnuz": DType.F8E5M2FNUZ,
}


class FusedGraph(Graph):
    """A graph as ONNX Runtime fused it, and the one it was made from, which runs on any machine."""

    __slots__ = ("portable",)

    def __init__(self, plain: Graph, portable: Graph) -> None:
        """Take over everything that is in `plain`, which is of no use afterwards."""
        super().__init__(portable.name, opsets=plain.opsets)
        self.portable = portable
        self.metadata = dict(portable.metadata)
        outputs = plain.outputs
        plain.set_outputs(())
        for value in plain.inputs:
            self.add_input(value)
        for value in plain.weights:
            value.producer = self
        self.weights = plain.weights
        for op in plain.ops:
            self.append(op)
        self.set_outputs(outputs)

    def clone(self) -> FusedGraph:
        """A deep copy that shares only the constant data, and the portable graph."""
        return FusedGraph(super().clone(), self.portable)


def lower_opset(graph: Graph) -> Graph:
    """The graph in an opset that the installed ONNX Runtime knows, or `UnsupportedOpError`.

    An opset in which none of the graph's ops changed is only another number.
    """
    newest = newest_opset()
    if graph.opsets.get("", 0) <= newest:
        return graph
    ops = [op for op in graph.walk() if op.domain == ""]
    if all(_since(op, graph.opsets[""]) <= newest for op in ops):
        graph.opsets[""] = newest
        return graph
    try:
        proto = onnx_ir.to_proto(to_onnx(graph))
        return read_onnx(onnx.version_converter.convert_version(proto, newest))
    except Exception as error:
        newer = sorted({op.kind for op in ops if _since(op, graph.opsets[""]) > newest})
        raise UnsupportedOpError(
            f"the model uses opset {graph.opsets['']}; the installed onnxruntime knows opsets up "
            f"to {newest}, and {', '.join(newer)} cannot be converted to it",
            hint="export the model with an older opset, or install a newer onnxruntime",
        ) from error


def _since(op: Op, opset: int) -> int:
    try:
        return int(defs.get_schema(op.kind, opset, "").since_version)
    except defs.SchemaError:
        return 0


@functools.cache
def newest_opset() -> int:
    """The newest opset that the installed ONNX Runtime loads."""
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, [1])], [value("y", 1, [1])])
    for opset in range(defs.onnx_opset_version(), 1, -1):
        imports = [onnx.helper.make_opsetid("", opset)]
        model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=8)
        try:
            _session(model.SerializeToString())
        except Exception:  # onnxruntime's errors have no class in common but this
            continue
        return opset
    raise AssertionError("onnxruntime loads nothing at all")


def complete_types(graph: Graph) -> None:
    """Give types to the results that shape inference does not know but ONNX Runtime does."""
    unknown = [value for op in graph.ops for value in op.writes if _is_incomplete(value.type)]
    if not unknown:
        return
    with tempfile.TemporaryDirectory() as folder:
        outputs = dict.fromkeys((*computed_outputs(graph), *unknown))
        path = _save(graph.ops, graph.inputs, list(outputs), Path(folder))
        try:
            session = _session(path)
        except Exception:
            return  # check says why
        found = {value.name: value for value in session.get_outputs()}
    for value in unknown:
        node = found[value.name]
        value.type = _type(node.type, node.shape) or value.type


def _is_incomplete(type: Type | None) -> bool:
    return type is None or (type.kind == "tensor" and (type.element is None or type.shape is None))


def _type(text: str, shape: Sequence[Any] = ()) -> Type | None:
    """The type that ONNX Runtime spells `tensor(float)`, `seq(tensor(int64))`, …

    It describes unknown rank as it does rank 0, so that the rank counts as unknown there. Symbols
    are left out: it makes up some of its own.
    """
    outer, _, inner = text.removesuffix(")").partition("(")
    if outer == "tensor":
        dims: tuple[Dim, ...] = tuple(dim if isinstance(dim, int) else None for dim in shape)
        return Type(_DTYPES.get(inner), dims or None)
    if outer in ("seq", "optional"):
        return Type(_type(inner), None, "sequence" if outer == "seq" else "optional")
    return None


def check(graph: Graph) -> None:
    """Raise `UnsupportedOpError` for the ops that ONNX Runtime does not run."""
    for value in (*graph.inputs, *graph.outputs):
        element = None if value.type is None else _element(value.type)
        if element is not None and element not in _DTYPES.values():
            where = "an input" if value in graph.inputs else "an output"
            raise UnsupportedOpError(
                f"onnxruntime's Python API cannot carry {value}, {where} of type {element.text}",
                hint="give the model a Cast beside it",
            )
    if isinstance(graph, FusedGraph) or not graph.ops:
        return  # ONNX Runtime wrote it
    with tempfile.TemporaryDirectory() as folder:
        reason = _complaint(graph.ops, graph.inputs, computed_outputs(graph), Path(folder))
    if reason is None:
        return
    refuse("ort", _guilty(graph.ops))
    raise UnsupportedOpError(f"onnxruntime cannot load the model: {reason}")


def _element(type: Type) -> DType | None:
    element = type.element
    return _element(element) if isinstance(element, Type) else element


def _guilty(ops: Iterable[Op]) -> list[tuple[Op, str]]:
    """The ops that do not load on their own, with the reasons; each kind is tried once."""
    reasons: dict[object, str | None] = {}
    found: list[tuple[Op, str]] = []
    for op in ops:
        reads = [value for value in op.reads if value.weight is None]
        kind = (op.qualified_kind, *(value.type for value in op.reads))
        if kind not in reasons:
            with tempfile.TemporaryDirectory() as folder:
                reasons[kind] = _complaint([op], reads, op.writes, Path(folder))
        reason = reasons[kind]
        if reason is not None:
            found.append((op, reason))
    return found


def _complaint(
    ops: Sequence[Op], inputs: Sequence[Value], outputs: Sequence[Value], folder: Path
) -> str | None:
    try:
        _session(_save(ops, inputs, outputs, folder))
    except RamielError:
        raise
    except Exception as error:
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    """What onnxruntime says, without its codes and the name of our temporary file."""
    text = " ".join(str(error).split(" : ", 3)[-1].split())
    return re.sub(r"^Load model from \S+ failed: ?", "", text)


def fuse(graph: Graph) -> FusedGraph | No:
    """The graph with ONNX Runtime's own fusions and layouts, all optimisations on."""
    size = sum(value.type.nbytes or 0 for value in graph.weights if value.type is not None)
    if size > _MOST_BYTES:
        return No("the weights are too large")
    with tempfile.TemporaryDirectory() as folder:
        path = _save(graph.ops, graph.inputs, computed_outputs(graph), Path(folder))
        fused_path = Path(folder) / "fused.onnx"
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.optimized_model_filepath = str(fused_path)
        try:
            ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            plain = read_onnx(fused_path)
        except Exception as error:
            return No(f"onnxruntime cannot fuse it: {_reason(error)}")
        # Read now what the folder holds.
        for value in plain.weights:
            assert value.weight is not None and value.weight.array is not None
    return _adopted(graph, plain)


def _adopted(graph: Graph, plain: Graph) -> FusedGraph | No:
    """The fused graph, with the outputs that need no op back in their places."""
    inputs = {value.name: value for value in plain.inputs}
    if list(inputs) != [value.name for value in graph.inputs]:
        return No("onnxruntime changed the inputs")
    fused = {value.name: value for value in plain.outputs}
    weights = {value.name: value for value in plain.weights}
    outputs = []
    for value in graph.outputs:
        if value.name in fused:
            outputs.append(fused[value.name])
        elif value.weight is None:
            outputs.append(inputs[value.name])
        elif value.name in weights:
            outputs.append(weights[value.name])
        else:
            outputs.append(plain.add_weight(value.name, value.weight))
    plain.set_outputs(outputs)
    for mine, given in zip(plain.inputs, graph.inputs, strict=True):
        mine.type = given.type
    known = {value.name: value.type for op in graph.ops for value in op.writes}
    for op in plain.ops:
        for value in op.writes:
            if _is_incomplete(value.type) and value.name in known:
                value.type = known[value.name]
    complete_types(plain)
    return FusedGraph(plain, graph)


def _save(
    ops: Sequence[Op], inputs: Sequence[Value], outputs: Sequence[Value], folder: Path
) -> Path:
    with ModelFiles(folder, "model.data") as files:
        return files.write("model.onnx", ops, inputs, outputs)


def _session(model: bytes | Path) -> Any:
    """A session with no optimisation, which says what is wrong with the model as it stands."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
