"""The only border to ONNX: models become Graphs here, and Graphs and pieces of them models.

Parsing, external data, model-local functions and shape inference are onnx's and onnx_ir's work.
Weights stay where they are, memory-mapped where they are external, until something asks for bytes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx.checker
import onnx.helper
import onnx.inliner
import onnx.numpy_helper
import onnx_ir
from onnx import defs

from ramiel_ir.collector import collector_paused
from ramiel_ir.errors import ModelError, UnsupportedOpError, UsageError
from ramiel_ir.ir import Array, Attribute, AttributeKind, Dim, DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.laws import verify
from ramiel_ir.onnx_proto import Shapes, load_model, prepare
from ramiel_ir.onnx_schema import check_schemas

CLUSTER_KEY = "ramiel.cluster"
"""The node metadata property that carries an op's cluster through an ONNX file."""

_ABSENT_KEY = "ramiel.absent"  # which results have a name only because their number is meaning

# Reading ------------------------------------------------------------------------------------------


@collector_paused()
def read_onnx(
    source: str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model,
    *,
    input_shapes: Shapes | None = None,
    allow_external: Sequence[str | os.PathLike[str]] = (),
) -> Graph:
    """The graph of an ONNX model, verified, with every type that shape inference can find.

    `input_shapes` fixes dimensions of inputs. External data must lie in the model's own folder,
    or in one of `allow_external`; symlinks count where they resolve to. Raises `ModelError` for a
    model that is broken, `UnsupportedOpError` for a value type that the IR does not have.
    """
    folder: Path | None = None
    if isinstance(source, onnx_ir.Model):
        source = onnx_ir.to_proto(source)
    elif not isinstance(source, onnx.ModelProto):
        folder = Path(source).resolve().parent
        source = load_model(source)
    model = _deserialize(prepare(source, input_shapes or {}))
    allowed = [path for path in (folder, *map(Path, allow_external)) if path is not None]
    graph = _Reader(folder, [path.resolve() for path in allowed]).model(model)
    verify(graph)
    check_schemas(graph)
    return graph


def _deserialize(proto: onnx.ModelProto) -> onnx_ir.Model:
    # It warns of regions that return values of enclosing graphs, which is well with us.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    try:
        model = onnx_ir.from_proto(proto)
        model.graph.sort()
    except Exception as error:
        cause: BaseException = error
        while (inner := cause.__cause__ or cause.__context__) is not None:
            cause = inner
        reason = str(cause).partition("\n")[0]
        if "cycl" in reason.lower():
            raise ModelError("the graph has a cycle: an op depends on its own result") from error
        if reason.startswith("Sparse tensors"):
            raise UnsupportedOpError(
                "sparse constants are not supported", hint="make them dense"
            ) from error
        if "map" in reason.lower():
            raise UnsupportedOpError(f"the model has a value of a map type: {reason}") from error
        raise ModelError(f"the model is broken: {reason}") from error
    return model


class _Reader:
    def __init__(self, folder: Path | None, allowed: list[Path]) -> None:
        self.folder = folder
        self.allowed = allowed
        self.values: dict[onnx_ir.Value, Value] = {}
        self.scopes: list[Graph] = []

    def model(self, model: onnx_ir.Model) -> Graph:
        graph = self.graph(model.graph)
        used = {op.domain for op in graph.walk()}
        imports = {_domain(domain): version for domain, version in model.opset_imports.items()}
        for domain in sorted(used - set(imports)):
            raise ModelError(f"the model uses ops of domain {domain!r} without importing it")
        graph.opsets.update(
            (domain, version) for domain, version in imports.items() if not domain or domain in used
        )
        graph.metadata.update(model.metadata_props)
        return graph

    def graph(self, source: onnx_ir.Graph) -> Graph:
        graph = Graph(source.name or "graph")
        self.scopes.append(graph)
        constants = set(source.initializers.values())
        for value in source.inputs:
            if value not in constants:
                self.values[value] = graph.add_input(Value(value.name or "", _type(value)))
        for value in source.initializers.values():
            if value.const_value is None:
                raise ModelError(f"the initializer {value.name!r} has no data")
            self.values[value] = graph.add_weight(value.name or "", self.tensor(value.const_value))
        for node in source:
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                tensor = self.constant(node)
                name = node.outputs[0].name or ""
                self.values[node.outputs[0]] = graph.add_weight(name, tensor)
            else:
                self.op(graph, node)
        graph.set_outputs(self.use(value, "an output") for value in source.outputs)
        self.scopes.pop()
        return graph

    def use(self, value: onnx_ir.Value, where: str) -> Value:
        if value not in self.values:
            # A region may return a value of an enclosing graph; onnx_ir does not connect the two.
            for scope in reversed(self.scopes[:-1]):
                found = next((known for known in scope.values() if known.name == value.name), None)
                if found is not None:
                    return found
            raise ModelError(
                f"{where} of the model reads {value.name!r}, which nothing produces",
                hint="an initializer, an input or a node is missing",
            )
        return self.values[value]

    def op(self, graph: Graph, node: onnx_ir.Node) -> None:
        attributes: dict[str, Attribute] = {}
        regions: dict[str, Graph] = {}
        names = (value.name for value in node.outputs)
        label = f"{node.op_type} {node.name or next(names, '')!r}"
        for name, attribute in node.attributes.items():
            if attribute.is_ref():
                raise ModelError(f"{label}: attribute {name!r} refers to a function's parameter")
            if attribute.type is onnx_ir.AttributeType.GRAPH:
                regions[name] = self.graph(attribute.as_graph())
            else:
                attributes[name] = self.attribute(label, attribute)
        absent = node.metadata_props.get(_ABSENT_KEY, "").split(",")
        results = [
            Value(value.name, _type(value)) if value.name and str(index) not in absent else None
            for index, value in enumerate(node.outputs)
        ]
        operands = [value and self.use(value, label) for value in node.inputs]
        cluster = node.metadata_props.get(CLUSTER_KEY, "")
        graph.append(
            Op(
                node.op_type,
                operands,
                _trimmed(node.op_type, results),
                attributes,
                domain=_domain(node.domain),
                regions=regions,
                cluster=int(cluster) if cluster.isdecimal() else None,
                name=node.name or "",
            )
        )
        for old, new in zip(node.outputs, results, strict=True):
            if new is not None:
                self.values[old] = new

    def attribute(self, label: str, attribute: onnx_ir.Attr) -> Attribute:
        value: Any = attribute.value
        if attribute.type not in _ATTRIBUTE_KINDS:
            raise UnsupportedOpError(
                f"{label}: attributes of type {attribute.type.name} are not supported"
            )
        kind = _ATTRIBUTE_KINDS[attribute.type]
        convert: Callable[[Any], Any] = {
            "string": _text,
            "tensor": self.tensor,
            "type": _type_of_attribute,
        }.get(kind.removesuffix("s"), lambda item: item)
        if kind.endswith("s"):
            return Attribute(kind, [convert(item) for item in value])
        return Attribute(kind, convert(value))

    def constant(self, node: onnx_ir.Node) -> Tensor:
        label = f"the Constant {node.outputs[0].name!r}"
        if len(node.attributes) != 1:
            raise ModelError(f"{label} has {len(node.attributes) or 'no'} values, not one")
        (attribute,) = node.attributes.values()
        name, value = attribute.name, attribute.value
        if attribute.is_ref():
            raise ModelError(f"{label}: attribute {name!r} refers to a function's parameter")
        if name == "value":
            return self.tensor(value)
        if name in ("value_string", "value_strings"):
            items = [value] if name == "value_string" else list(value)
            array = np.empty(len(items), object)
            array[:] = [_text(item) for item in items]
            return Tensor.of(array.reshape(()) if name == "value_string" else array)
        if name not in ("value_int", "value_ints", "value_float", "value_floats"):
            raise ModelError(f"{label} has the unknown attribute {name!r}")
        dtype = np.int64 if "int" in name else np.float32
        return Tensor.of(np.asarray(value, dtype))

    def tensor(self, tensor: onnx_ir.TensorProtocol) -> Tensor:
        type = Type(DType.from_onnx(int(tensor.dtype)), tuple(int(dim) for dim in tensor.shape))
        dims = ",".join(str(dim) for dim in tensor.shape)
        if any(int(dim) < 0 for dim in tensor.shape):
            raise ModelError(f"the weight {tensor.name!r} has a negative dimension: [{dims}]")
        if isinstance(tensor, onnx_ir.ExternalTensor):
            tensor = self.contain(tensor)
        elif not _fits(tensor):
            raise ModelError(f"the data of {tensor.name!r} does not fill its shape, [{dims}]")

        def load() -> Array:
            if type.element is DType.STRING:
                array = np.empty(type.count or 0, object)
                array[:] = [_text(item) for item in np.asarray(tensor.numpy()).reshape(-1)]
                return array.reshape(tensor.numpy().shape)
            try:
                return np.asarray(tensor.numpy())
            except Exception as error:
                raise ModelError(f"the data of {tensor.name!r} cannot be read: {error}") from error

        return Tensor(type, load)

    def contain(self, tensor: onnx_ir.ExternalTensor) -> onnx_ir.ExternalTensor:
        """The tensor on its resolved path; refuse data outside the folders that may be read."""
        location = str(tensor.location)
        if self.folder is None and not self.allowed:
            raise ModelError(
                f"the data of {tensor.name!r} is in another file, and the model has no folder",
                hint="pass the model as a path, or allow a folder with --allow-external",
            )
        path = ((self.folder or self.allowed[0]) / location).resolve()
        if not any(path.is_relative_to(folder) for folder in self.allowed):
            raise ModelError(
                f"the data of {tensor.name!r} lies outside the model's folder, in {location!r}",
                hint="allow its folder with --allow-external DIR",
            )
        if not path.is_file():
            raise ModelError(f"the data of {tensor.name!r} is missing: no file {location!r}")
        length = tensor.nbytes if tensor.length is None else tensor.length
        if length < tensor.nbytes or path.stat().st_size < (tensor.offset or 0) + length:
            raise ModelError(
                f"the data of {tensor.name!r} is cut short: {location!r} ends too early"
            )
        return onnx_ir.ExternalTensor(
            path.name,
            tensor.offset,
            length,
            tensor.dtype,
            shape=tensor.shape,
            name=tensor.name or "",
            base_dir=path.parent,
        )


def _fits(tensor: onnx_ir.TensorProtocol) -> bool:
    """Whether there is as much data as type and shape say; none of it is decoded."""
    wanted: int = tensor.size
    if isinstance(tensor, onnx_ir.StringTensor):
        return len(tensor.string_data()) == wanted
    assert isinstance(tensor, onnx_ir.serde.TensorProtoTensor)
    data = tensor.raw
    if data.HasField("raw_data"):
        return len(data.raw_data) == int(tensor.nbytes)
    if tensor.dtype.bitwidth < 6:  # several in one item
        wanted = tensor.nbytes
    elif tensor.dtype.name.startswith("COMPLEX"):
        wanted *= 2
    return len(getattr(data, onnx.helper.tensor_dtype_to_field(data.data_type))) == wanted


def _trimmed(kind: str, results: list[Value | None]) -> list[Value | None]:
    """The results without absent ones at the end, where their number has no meaning."""
    while kind not in _COUNTED_RESULTS and len(results) > 1 and results[-1] is None:
        results = results[:-1]
    return results or [None]


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _text(data: str | bytes) -> str | bytes:
    if isinstance(data, str):
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _type(value: onnx_ir.Value) -> Type | None:
    return _type_of(value.type, value.shape)


def _type_of_attribute(item: Any) -> Type | None:
    return _type_of(item.type, item.shape)


def _type_of(type: Any, shape: onnx_ir.Shape | None) -> Type | None:
    if type is None:
        return None if shape is None else Type(None, _dims(shape))
    if isinstance(type, onnx_ir.SequenceType):
        return Type(_type_of(type.elem_type, shape), None, "sequence")
    if isinstance(type, onnx_ir.OptionalType):
        return Type(_type_of(type.elem_type, shape), None, "optional")
    code = int(type.dtype)
    kind = "sparse" if isinstance(type, onnx_ir.SparseTensorType) else "tensor"
    if code == 0 and shape is None:
        return None
    return Type(DType.from_onnx(code) if code else None, _dims(shape), kind)  # type: ignore[arg-type]


def _dims(shape: onnx_ir.Shape | None) -> tuple[Dim, ...] | None:
    if shape is None:
        return None
    dims: list[Dim] = []
    for dim in shape:
        if isinstance(dim, int):
            dims.append(dim if dim >= 0 else None)
        else:
            dims.append(str(dim.value) if dim.value is not None else None)
    return tuple(dims)


_ATTRIBUTE_KINDS: dict[onnx_ir.AttributeType, AttributeKind] = {
    onnx_ir.AttributeType.INT: "int",
    onnx_ir.AttributeType.FLOAT: "float",
    onnx_ir.AttributeType.STRING: "string",
    onnx_ir.AttributeType.TENSOR: "tensor",
    onnx_ir.AttributeType.TYPE_PROTO: "type",
    onnx_ir.AttributeType.INTS: "ints",
    onnx_ir.AttributeType.FLOATS: "floats",
    onnx_ir.AttributeType.STRINGS: "strings",
    onnx_ir.AttributeType.TENSORS: "tensors",
    onnx_ir.AttributeType.TYPE_PROTOS: "types",
}
_TYPE_OF_KIND = {kind: type for type, kind in _ATTRIBUTE_KINDS.items()}


# Writing ------------------------------------------------------------------------------------------


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
    """Write a model; weights of more than 1 GiB in all go to a file beside it."""
    if isinstance(model, onnx.ModelProto):
        model = onnx_ir.from_proto(model)
    tensors = (value.const_value for value in model.graph.initializers.values())
    total = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    external = f"{Path(path).name}.data" if total > 1 << 30 else None
    onnx_ir.save(model, path, external_data=external)


# Ops for which the number of results is meaning; ONNX Runtime drops absent ones at the end.
_COUNTED_RESULTS = frozenset(["If", "Loop", "Scan", "Split"])


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
        if absent and op.kind in _COUNTED_RESULTS:
            metadata[_ABSENT_KEY] = ",".join(absent)
        for index, result in enumerate(op.results):
            unnamed = f"{op.label}.unused{index}" if op.kind in _COUNTED_RESULTS else ""
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
    return onnx_ir.Attr(name, _TYPE_OF_KIND[attr.kind], value)


# Other things that only ONNX knows ----------------------------------------------------------------


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


def read_pb(path: Path) -> Any:
    """The value in a `TensorProto`, `SequenceProto` or `OptionalProto` file of ONNX test data."""
    data = path.read_bytes()
    for proto, convert in (
        (onnx.TensorProto(), onnx.numpy_helper.to_array),
        (onnx.SequenceProto(), onnx.numpy_helper.to_list),
        (onnx.OptionalProto(), onnx.numpy_helper.to_optional),
    ):
        try:
            proto.ParseFromString(data)
            return convert(proto)
        except Exception:  # the file does not say of which of the three kinds it is
            continue
    raise UsageError(f"{str(path)!r} holds no ONNX value")
