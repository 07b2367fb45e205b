"""Graphs, and pieces of them, become ONNX models here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import onnx
import onnx.helper
import onnx_ir

from ramiel_ir.files import replacing
from ramiel_ir.ir import Attribute, AttributeKind, DType, Graph, Op, Tensor, Type, Value

CLUSTER_KEY = "ramiel.cluster"
"""The node metadata property that carries an op's cluster through an ONNX file."""

ABSENT_KEY = "ramiel.absent"
"""The one that tells which results have a name only because their number is meaning."""

ATTRIBUTE_TYPES: dict[AttributeKind, onnx_ir.AttributeType] = {
    "int": onnx_ir.AttributeType.INT,
    "float": onnx_ir.AttributeType.FLOAT,
    "string": onnx_ir.AttributeType.STRING,
    "tensor": onnx_ir.AttributeType.TENSOR,
    "type": onnx_ir.AttributeType.TYPE_PROTO,
    "ints": onnx_ir.AttributeType.INTS,
    "floats": onnx_ir.AttributeType.FLOATS,
    "strings": onnx_ir.AttributeType.STRINGS,
    "tensors": onnx_ir.AttributeType.TENSORS,
    "types": onnx_ir.AttributeType.TYPE_PROTOS,
}

COUNTED_RESULTS = frozenset(["If", "Loop", "Scan", "Split"])
"""Ops for which the number of results is meaning; ONNX Runtime drops absent ones at the end."""

_EMBEDDED_BYTES = 1 << 30  # of weights, in all, in the model's own file: protobuf ends at 2 GiB


def to_onnx(graph: Graph) -> onnx_ir.Model:
    """The whole graph as a model; clusters stand in the nodes' metadata."""
    return _Writer(graph.opsets).model(
        graph.name, graph.inputs, graph.outputs, graph.ops, graph.weights, graph.metadata
    )


def piece_to_onnx(
    name: str, ops: Sequence[Op], inputs: Sequence[Value], outputs: Sequence[Value]
) -> onnx_ir.Model:
    """A model of some ops of one graph, which reads `inputs` and returns `outputs`.

    The weights they read, captures included, become its initializers.
    """
    given = set(inputs)
    reads = dict.fromkeys(value for op in ops for value in op.reads)
    weights = [value for value in reads if value.weight is not None and value not in given]
    weights += [v for v in dict.fromkeys(outputs) if v.weight is not None and v not in reads]
    opsets = ops[0].graph.opsets if ops and ops[0].graph is not None else {}
    return _Writer(opsets).model(name, inputs, outputs, ops, weights, {})


def write_onnx(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write an .onnx file; weights of more than 1 GiB in all go to a file beside it."""
    save_model(to_onnx(graph), path)


def save_model(model: onnx.ModelProto | onnx_ir.Model, path: str | os.PathLike[str]) -> None:
    """Write a model; weights of more than 1 GiB in all go to a file beside it.

    A failure leaves the files that are there, and the model's own weights may be in them. Raises
    `RamielError` where there is no such folder.
    """
    if isinstance(model, onnx.ModelProto):
        model = onnx_ir.from_proto(model)
    tensors = (value.const_value for value in model.graph.initializers.values())
    total = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    with replacing(path) as target:
        external = f"{target.name}.data" if total > _EMBEDDED_BYTES else None
        onnx_ir.save(model, target, external_data=external)


class _Writer:
    def __init__(self, opsets: Mapping[str, int]) -> None:
        self.opsets = dict(opsets) or {"": 21}
        self.values: dict[Value, onnx_ir.Value] = {}
        self.names: set[str] = set()

    def model(
        self,
        name: str,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        ops: Sequence[Op],
        weights: Sequence[Value],
        metadata: Mapping[str, str],
    ) -> onnx_ir.Model:
        graph = self.graph(name, inputs, outputs, ops, weights, self.opsets)
        return onnx_ir.Model(
            graph,
            ir_version=_ir_version(self.opsets),
            producer_name="ramiel-ir",
            metadata_props=dict(metadata),
        )

    def graph(
        self,
        name: str,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        ops: Sequence[Op],
        weights: Sequence[Value],
        opsets: Mapping[str, int] | None = None,
    ) -> onnx_ir.Graph:
        initializers = []
        for value in inputs:
            self.values[value] = _onnx_value(value)
        for value in weights:
            assert value.weight is not None
            constant = _onnx_value(value)
            constant.const_value = _onnx_tensor(value.weight, value.name)
            self.values[value] = constant
            initializers.append(constant)
        nodes = [self.node(op) for op in ops]
        here = {*inputs, *weights, *(value for op in ops for value in op.writes)}
        returned = []
        for index, value in enumerate(outputs):
            if value in here:
                returned.append(self.values[value])
            else:  # ONNX wants a region to return values of its own
                copy = onnx_ir.Value(name=f"{name}.{value.name}.{index}")
                nodes.append(onnx_ir.Node("", "Identity", [self.values[value]], outputs=[copy]))
                returned.append(copy)
        return onnx_ir.Graph(
            [self.values[value] for value in inputs],
            returned,
            nodes=nodes,
            initializers=initializers,
            opset_imports=dict(opsets) if opsets else None,
            name=name,
        )

    def node_name(self, op: Op) -> str:
        """The op's name, or its result's where it has none or another node has it already."""
        name = op.name if op.name and op.name not in self.names else op.label.removeprefix("%")
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name

    def node(self, op: Op) -> onnx_ir.Node:
        attributes = [_onnx_attribute(name, attr) for name, attr in op.attributes.items()]
        for name, region in op.regions.items():
            body = self.graph(
                region.name, region.inputs, region.outputs, region.ops, region.weights
            )
            attributes.append(onnx_ir.Attr(name, onnx_ir.AttributeType.GRAPH, body))
        results = []
        metadata = {} if op.cluster is None else {CLUSTER_KEY: str(op.cluster)}
        absent = [str(index) for index, result in enumerate(op.results) if result is None]
        if absent and op.kind in COUNTED_RESULTS:
            metadata[ABSENT_KEY] = ",".join(absent)
        for index, result in enumerate(op.results):
            unnamed = f"{op.label}.unused{index}" if op.kind in COUNTED_RESULTS else ""
            results.append(onnx_ir.Value(name=unnamed) if result is None else _onnx_value(result))
            if result is not None:
                self.values[result] = results[-1]
        return onnx_ir.Node(
            op.domain,
            op.kind,
            [None if value is None else self.values[value] for value in op.operands],
            attributes,
            outputs=results,
            name=self.node_name(op),
            metadata_props=metadata,
        )


def _ir_version(opsets: Mapping[str, int]) -> int:
    version = onnx.helper.find_min_ir_version_for(
        [onnx.helper.make_opsetid("", opsets.get("", 21))], ignore_unknown=True
    )
    return max(10, int(version))


def _onnx_value(value: Value) -> onnx_ir.Value:
    type, shape = _onnx_type(value.type)
    return onnx_ir.Value(name=value.name, type=type, shape=shape)


def _onnx_type(type: Type | None) -> tuple[Any, onnx_ir.Shape | None]:
    if type is None:
        return None, None
    if type.kind in ("sequence", "optional"):
        inner, shape = _onnx_type(cast("Type | None", type.element))
        wrap = onnx_ir.SequenceType if type.kind == "sequence" else onnx_ir.OptionalType
        return (None if inner is None else wrap(inner)), shape
    shape = None if type.shape is None else onnx_ir.Shape(type.shape)
    if not isinstance(type.element, DType):
        return None, shape
    wrap_tensor = onnx_ir.SparseTensorType if type.kind == "sparse" else onnx_ir.TensorType
    return wrap_tensor(onnx_ir.DataType(type.element.onnx_code)), shape


def _onnx_tensor(tensor: Tensor, name: str) -> onnx_ir.TensorProtocol:
    if tensor.is_detached:
        _ = tensor.array  # raises, while it is still clear why
    if tensor.dtype is DType.STRING:
        items = [x if isinstance(x, bytes) else str(x).encode() for x in tensor.array.reshape(-1)]
        return onnx_ir.StringTensor(items, shape=onnx_ir.Shape(tensor.shape), name=name)
    dtype = onnx_ir.DataType(tensor.dtype.onnx_code)
    return onnx_ir.LazyTensor(
        lambda: onnx_ir.Tensor(tensor.array, dtype=dtype, name=name),
        dtype=dtype,
        shape=onnx_ir.Shape(tensor.shape),
        name=name,
    )


def _onnx_attribute(name: str, attr: Attribute) -> onnx_ir.Attr:
    def convert(item: Any) -> Any:
        if isinstance(item, Tensor):
            return _onnx_tensor(item, "")
        if isinstance(item, Type):
            return onnx_ir.TypeAndShape(*_onnx_type(item))
        return item

    many = attr.kind.endswith("s")
    value = [convert(item) for item in attr.value] if many else convert(attr.value)
    return onnx_ir.Attr(name, ATTRIBUTE_TYPES[attr.kind], value)
