"""ONNX models become Graphs here.

Parsing, external data, model-local functions and shape inference are onnx's and onnx_ir's work.
Weights stay where they are, memory-mapped where they are external, until something asks for bytes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx_ir

from ramiel_ir.collector import collector_paused
from ramiel_ir.errors import ModelError, UnsupportedOpError, UsageError
from ramiel_ir.ir import Array, Attribute, Dim, DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.laws import verify
from ramiel_ir.onnx_proto import Shapes, load_model, prepare
from ramiel_ir.onnx_schema import check_schemas
from ramiel_ir.onnx_writer import ABSENT_KEY, ATTRIBUTE_TYPES, CLUSTER_KEY, COUNTED_RESULTS

_KINDS = {type: kind for kind, type in ATTRIBUTE_TYPES.items()}
_DIGITS = 18  # of a cluster: any such number fits into 64 bits
_CONSTANTS = {
    "value": onnx_ir.AttributeType.TENSOR,
    "value_int": onnx_ir.AttributeType.INT,
    "value_ints": onnx_ir.AttributeType.INTS,
    "value_float": onnx_ir.AttributeType.FLOAT,
    "value_floats": onnx_ir.AttributeType.FLOATS,
    "value_string": onnx_ir.AttributeType.STRING,
    "value_strings": onnx_ir.AttributeType.STRINGS,
}


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
        absent = node.metadata_props.get(ABSENT_KEY, "").split(",")
        results = [
            Value(value.name, _type(value)) if value.name and str(index) not in absent else None
            for index, value in enumerate(node.outputs)
        ]
        operands = [value and self.use(value, label) for value in node.inputs]
        cluster = node.metadata_props.get(CLUSTER_KEY, "")
        if cluster.isdecimal() and len(cluster) > _DIGITS:
            raise ModelError(f"{label}: the metadata {CLUSTER_KEY!r} is too large a number")
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
        if attribute.type not in _KINDS:
            raise UnsupportedOpError(
                f"{label}: attributes of type {attribute.type.name} are not supported"
            )
        kind = _KINDS[attribute.type]
        convert: Callable[[Any], Any] = {
            "string": _text,
            "tensor": self.tensor,
            "type": _type_of_attribute,
        }.get(kind.removesuffix("s"), lambda item: item)
        if kind.endswith("s"):
            return Attribute(kind, [convert(item) for item in value])
        return Attribute(kind, convert(value))

    def constant(self, node: onnx_ir.Node) -> Tensor:
        label = f"the Constant {next((value.name for value in node.outputs), node.name)!r}"
        if len(node.outputs) != 1:
            raise ModelError(f"{label} has {len(node.outputs) or 'no'} results, not one")
        if len(node.attributes) != 1:
            raise ModelError(f"{label} has {len(node.attributes) or 'no'} values, not one")
        (attribute,) = node.attributes.values()
        name, value = attribute.name, attribute.value
        if attribute.is_ref():
            raise ModelError(f"{label}: attribute {name!r} refers to a function's parameter")
        if name not in _CONSTANTS:
            raise ModelError(f"{label} has the unknown attribute {name!r}")
        if attribute.type is not _CONSTANTS[name]:
            wanted = _CONSTANTS[name].name
            raise ModelError(f"{label}: {name!r} is of type {attribute.type.name}, not {wanted}")
        if name == "value":
            return self.tensor(value)
        if name in ("value_string", "value_strings"):
            items = [value] if name == "value_string" else list(value)
            array = np.empty(len(items), object)
            array[:] = [_text(item) for item in items]
            return Tensor.of(array.reshape(()) if name == "value_string" else array)
        dtype = np.int64 if "int" in name else np.float32
        return Tensor.of(np.asarray(value, dtype))

    def tensor(self, tensor: onnx_ir.TensorProtocol) -> Tensor:
        type = Type(DType.from_onnx(int(tensor.dtype)), tuple(int(dim) for dim in tensor.shape))
        dims = ",".join(str(dim) for dim in tensor.shape)
        if any(int(dim) < 0 for dim in tensor.shape):
            raise ModelError(f"the weight {tensor.name!r} has a negative dimension: [{dims}]")
        if isinstance(tensor, onnx_ir.ExternalTensor):
            if type.element is DType.STRING:
                raise ModelError(f"the data of {tensor.name!r} is in another file: strings may not")
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
        try:
            path = ((self.folder or self.allowed[0]) / location).resolve()
            is_file = path.is_file()
        except (OSError, RuntimeError, ValueError):  # too long, links in a circle, a null byte
            raise ModelError(
                f"the data of {tensor.name!r} is missing: {location[:200]!r} cannot be reached"
            ) from None
        if not any(path.is_relative_to(folder) for folder in self.allowed):
            raise ModelError(
                f"the data of {tensor.name!r} lies outside the model's folder, in {location!r}",
                hint="allow its folder with --allow-external DIR",
            )
        if not is_file:
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
    while kind not in COUNTED_RESULTS and len(results) > 1 and results[-1] is None:
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
            dims.append(str(dim.value) if dim.value else None)  # "" names no symbol
    return tuple(dims)


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
