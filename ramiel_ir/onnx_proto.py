"""From bytes to a checked, inlined, shape-inferred `ModelProto`: what happens before conversion."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import onnx
import onnx.inliner
import onnx.shape_inference
from onnx import defs

from ramiel_ir.errors import ModelError, UnsupportedOpError, UsageError

Shapes = Mapping[str, Sequence[int | str]]
"""Shapes to give to inputs, by input name."""

_Identity = tuple[str, str, str]
"""Domain, name and overload: what a node says of the function that it calls."""

NEWEST_OPSET = defs.onnx_opset_version()
_LARGE = 1024  # bytes; shape inference needs to look at smaller constants only
_MOST_NODES = 1_000_000  # after inlining: many times what the largest models have


def load_model(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The model in a file, external data left where it is; `ModelError` where there is none."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise ModelError(f"there is no file {str(path)!r}") from None
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    return parse_model(data, str(path))


def parse_model(data: bytes, what: str) -> onnx.ModelProto:
    """The model serialised in `data`; `ModelError` where `what` is none."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # protobuf's DecodeError is not one class over its implementations
        raise ModelError(
            f"{what!r} is not an ONNX model, or it is cut short",
            hint="an ONNX file is a serialised ModelProto",
        ) from None
    if not model.HasField("graph"):
        raise ModelError(f"{what!r} holds no graph", hint="it may be empty or another format")
    return model


def prepare(model: onnx.ModelProto, input_shapes: Shapes) -> onnx.ModelProto:
    """Check names and versions, inline functions, fix input shapes, infer types.

    The model given stays as it is.
    """
    _check_versions(model)
    _refuse_duplicates(model.graph, set())
    if model.functions:
        _check_functions(model)
        try:
            model = onnx.inliner.inline_local_functions(_with_defaults(model))
        except Exception as error:
            raise ModelError(f"the model's functions cannot be inlined: {error}") from error
    with _without_large_data(model) as (light, restore):
        if input_shapes:
            _fix_shapes(light.graph, input_shapes)
        with suppress(Exception):  # where an op cannot be inferred, the model's own types remain
            light = onnx.shape_inference.infer_shapes(light, data_prop=True)
        restore(light)
    return light


def _check_functions(model: onnx.ModelProto) -> None:
    """Raise where inlining would not end, or where its result would not fit into memory."""
    functions = {_identity(f.domain, f.name, f.overload): f for f in model.functions}
    calls = {key: _called(function) for key, function in functions.items()}
    try:
        order = [key for key in TopologicalSorter(calls).static_order() if key in functions]
    except CycleError as error:
        path = " -> ".join(repr(name) for _, name, _ in reversed(error.args[1]))
        raise ModelError(
            f"a function of the model calls itself: {path}",
            hint="ONNX has no recursion; export the model with a Loop",
        ) from None
    sizes: dict[_Identity, int] = {}
    for key in order:
        function = functions[key]
        defaults = sum(_size(g.node, sizes) for g in _regions(function.attribute_proto))
        sizes[key] = _size(function.node, sizes) * (1 + defaults)
        _check_size(sizes[key], f"the function {function.name!r}")
    _check_size(_size(model.graph.node, sizes), "the model")


def _identity(domain: str, name: str, overload: str) -> _Identity:
    return ("" if domain == "ai.onnx" else domain, name, overload)


def _called(function: onnx.FunctionProto) -> list[_Identity]:
    """What the nodes of a function call, be it a function or an op, and those of its defaults."""
    defaults = (region.node for region in _regions(function.attribute_proto))
    nodes = _nodes(function.node, *defaults)
    return [_identity(node.domain, node.op_type, node.overload) for node in nodes]


def _size(nodes: Iterable[onnx.NodeProto], sizes: Mapping[_Identity, int]) -> int:
    """No fewer nodes than there are when functions of these sizes are inlined.

    A function may read a graph that its call gives it as often as it has references, which count
    as nodes for that reason.
    """
    total = 0
    for node in nodes:
        given = sum(_size(region.node, sizes) for region in _regions(node.attribute))
        called = sizes.get(_identity(node.domain, node.op_type, node.overload))
        if called is None:
            references = sum(bool(attribute.ref_attr_name) for attribute in node.attribute)
            total += 1 + references + given
        else:
            total += called * (1 + given)
    return total


def _check_size(nodes: int, what: str) -> None:
    if nodes > _MOST_NODES:
        raise ModelError(
            f"{what} has more than {_MOST_NODES} nodes when its functions are inlined",
            hint="functions that call each other often multiply; export the model without them",
        )


def _with_defaults(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose calls of functions give every attribute: the inliner forgets the defaults."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    defaults = {
        (function.domain, function.name, function.overload): function.attribute_proto
        for function in copy.functions
    }
    for node in _nodes(copy.graph.node, *(function.node for function in copy.functions)):
        given = {attribute.name for attribute in node.attribute}
        missing = defaults.get((node.domain, node.op_type, node.overload), ())
        node.attribute.extend(default for default in missing if default.name not in given)
    return copy


def _nodes(*lists: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of their regions."""
    for node in itertools.chain(*lists):
        yield node
        yield from _nodes(*(region.node for region in _regions(node.attribute)))


def _regions(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.GraphProto]:
    for attribute in attributes:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _check_versions(model: onnx.ModelProto) -> None:
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    opset = opsets.get("", opsets.get("ai.onnx", 0))
    if opset > NEWEST_OPSET:
        raise ModelError(
            f"the model uses opset {opset}; the installed onnx knows opsets up to {NEWEST_OPSET}",
            hint="install a newer onnx, or export the model with an older opset",
        )


def _refuse_duplicates(graph: onnx.GraphProto, outer: set[str]) -> None:
    """Raise where one name has two producers: deserialization would silently keep the last."""
    seen = set(outer)
    for value in graph.input:
        if value.name in seen:
            raise ModelError(f"the name {value.name!r} stands for two values of the model")
        seen.add(value.name)
    weights: set[str] = set()
    for tensor in graph.initializer:
        if tensor.name in weights:
            raise ModelError(f"the name {tensor.name!r} stands for two values of the model")
        weights.add(tensor.name)
    if graph.sparse_initializer:
        raise UnsupportedOpError("sparse weights are not supported", hint="make them dense")
    seen |= weights
    for node in graph.node:
        for name in node.output:
            if name and name in seen:
                raise ModelError(
                    f"the name {name!r} stands for two values of the model, one by {node.op_type}"
                )
            seen.add(name)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _refuse_duplicates(attribute.g, seen)
            for region in attribute.graphs:
                _refuse_duplicates(region, seen)


class _Restore:
    """Puts the data back that `_without_large_data` took, into any copy of the model."""

    def __init__(self, taken: dict[str, bytes]) -> None:
        self.taken = taken

    def __call__(self, model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name in self.taken:
                tensor.raw_data = self.taken[tensor.name]


@contextmanager
def _without_large_data(model: onnx.ModelProto) -> Iterator[tuple[onnx.ModelProto, _Restore]]:
    """A copy of the model without the bytes of large initializers; both are whole afterwards."""
    taken: dict[str, bytes] = {}
    restore = _Restore(taken)
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > _LARGE:
            taken[tensor.name] = tensor.raw_data
            tensor.ClearField("raw_data")
    try:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        yield copy, restore
    finally:
        restore(model)


def _fix_shapes(graph: onnx.GraphProto, shapes: Shapes) -> None:
    """Give inputs their shapes, and the symbols thereby known their numbers everywhere."""
    inputs = {value.name: value for value in graph.input}
    symbols: dict[str, int | str] = {}
    for name, dims in shapes.items():
        if name not in inputs:
            raise UsageError(f"the model has no input {name!r}; there are: {', '.join(inputs)}")
        tensor = inputs[name].type.tensor_type
        if not tensor.HasField("shape"):
            for _ in dims:
                tensor.shape.dim.add()
        if len(tensor.shape.dim) != len(dims):
            raise UsageError(
                f"input {name!r} has rank {len(tensor.shape.dim)}, the shape given has {len(dims)}"
            )
        for dim, size in zip(tensor.shape.dim, dims, strict=True):
            if isinstance(size, int) and not 0 <= size < 2**63:
                raise UsageError(f"{size} is no dimension of an input, as {name!r} is given it")
            if dim.HasField("dim_value") and dim.dim_value != size:
                raise UsageError(f"input {name!r} has {dim.dim_value} where {size!r} is given")
            if dim.dim_param and symbols.setdefault(dim.dim_param, size) != size:
                raise UsageError(
                    f"input {name!r} is given {size!r} for {dim.dim_param!r}, which is given as "
                    f"{symbols[dim.dim_param]!r} elsewhere",
                    hint="dimensions of one name are equal",
                )
            _set(dim, size)
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                _set(dim, symbols[dim.dim_param])


def _set(dim: onnx.TensorShapeProto.Dimension, size: int | str) -> None:
    if isinstance(size, int):
        dim.dim_value = size
    else:
        dim.dim_param = size
