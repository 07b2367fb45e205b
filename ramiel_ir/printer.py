"""The textual form of the IR; `print_graph` prints it, parser.py reads it.

    graph @tiny(%x: f32[1,8]) opset 21 {
      %w = weight : f32[8,4] sha=91ab…
      %h = MatMul(%x, %w) @0 : f32[1,4]
      %y = LeakyRelu(%h) {alpha=0.1} @1 : f32[1,4]
      return %y
    }

One rule for every op: results, kind, operands, attributes in sorted order, cluster, result types,
regions. `_` is an absent operand or result, `?` an unknown type or dimension, `[...]` an unknown
rank; names that are not plain are quoted. Constants of at most eight elements stand inline, larger
ones by digest.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from ramiel_ir.ir import Attribute, Dim, DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.parser import RESERVED, parse_elements

_INLINE_ELEMENTS = 8
_PLAIN_NAME = re.compile(r"[\w.-]+", re.ASCII)
_PLAIN_SYMBOL = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PLAIN_DOMAIN = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)


def print_graph(graph: Graph) -> str:
    """The canonical text of a graph; it ends with a newline."""
    opsets = ", ".join(
        f"{_word(domain, _PLAIN_DOMAIN)} {version}" if domain else str(version)
        for domain, version in sorted(graph.opsets.items())
    )
    opset = f" opset {opsets}" if opsets else ""
    return "\n".join([f"graph {_signature(graph)}{opset} {{", *_body(graph, "  "), "}", ""])


def _signature(graph: Graph) -> str:
    inputs = ", ".join(f"{_value(value)}: {print_type(value.type)}" for value in graph.inputs)
    return f"@{_bare(graph.name)}({inputs})"


def _body(graph: Graph, indent: str) -> Iterator[str]:
    for key, text in sorted(graph.metadata.items()):
        yield f"{indent}metadata {json.dumps(key)} = {json.dumps(text)}"
    for value in graph.weights:
        assert value.weight is not None
        yield f"{indent}{_value(value)} = weight : {_constant(value.weight)}"
    for op in graph.ops:
        yield from _op(op, indent)
    outputs = " ".join(["return", ", ".join(map(_value, graph.outputs))])
    yield f"{indent}{outputs.rstrip()}"


def _op(op: Op, indent: str) -> Iterator[str]:
    results = ", ".join(map(_value, op.results))
    types = ", ".join("_" if result is None else print_type(result.type) for result in op.results)
    line = f"{indent}{results} = {_kind(op)}({', '.join(map(_value, op.operands))})"
    if op.attributes:
        items = (f"{_bare(name)}={_attribute(attr)}" for name, attr in _sorted(op))
        line += f" {{{', '.join(items)}}}"
    if op.cluster is not None:
        line += f" @{op.cluster}"
    line += f" : {types}"
    for name, region in op.regions.items():
        yield f"{line} {_word(name, _PLAIN_SYMBOL)} = {_signature(region)} {{"
        yield from _body(region, indent + "  ")
        line = f"{indent}}}"
    yield line


def _sorted(op: Op) -> list[tuple[str, Attribute]]:
    return sorted(op.attributes.items())


def _bare(name: str, plain: re.Pattern[str] = _PLAIN_NAME) -> str:
    return name if plain.fullmatch(name) else json.dumps(name)


def _word(name: str, plain: re.Pattern[str]) -> str:
    return json.dumps(name) if name in RESERVED else _bare(name, plain)


def _value(value: Value | None) -> str:
    return "_" if value is None else f"%{_bare(value.name)}"


def _kind(op: Op) -> str:
    if (
        _PLAIN_SYMBOL.fullmatch(op.kind)
        and (not op.domain or _PLAIN_DOMAIN.fullmatch(op.domain))
        and op.qualified_kind not in RESERVED
    ):
        return op.qualified_kind
    return f"{json.dumps(op.domain)} {json.dumps(op.kind)}"


def print_type(type: Type | None) -> str:
    """The spelling of a type: `f32[1,N,?]`, `f32[...]`, `sequence(f32[...])`, `?`."""
    if type is None:
        return "?"
    if type.kind in ("sequence", "optional"):
        assert not isinstance(type.element, DType)
        return f"{type.kind}({print_type(type.element)})"
    element = type.element.text if isinstance(type.element, DType) else "?"
    dims = "..." if type.shape is None else ",".join(_dim(dim) for dim in type.shape)
    return f"sparse({element}[{dims}])" if type.kind == "sparse" else f"{element}[{dims}]"


def _dim(dim: Dim) -> str:
    if isinstance(dim, str):
        return _word(dim, _PLAIN_SYMBOL)
    return "?" if dim is None else str(dim)


def _constant(tensor: Tensor) -> str:
    inline = None if tensor.is_detached else _inline(tensor)
    return f"{print_type(tensor.type)} {f'= {inline}' if inline else f'sha={tensor.digest}'}"


def _inline(tensor: Tensor) -> str | None:
    """The elements as text, None where they are many or the text would not restore the bytes."""
    if tensor.count > _INLINE_ELEMENTS or tensor.dtype in (DType.C64, DType.C128):
        return None
    elements = [_element(item, tensor.dtype) for item in tensor.array.reshape(-1)]
    if None in elements:
        return None
    text = f"[{', '.join(map(str, elements))}]"
    again = parse_elements(text, tensor.type)
    return text if again.digest == tensor.digest else None


def _element(item: Any, dtype: DType) -> str | None:
    if dtype is DType.STRING:
        return json.dumps(item) if isinstance(item, str) else None
    if dtype is DType.BOOL:
        return str(int(item))
    if dtype.numpy.kind in "iu" or dtype in (DType.I4, DType.U4, DType.I2, DType.U2):
        return str(int(item))
    return _float(float(item), np.float32 if dtype is DType.F32 else np.float64)


def _float(value: float, kind: type[np.floating[Any]] = np.float32) -> str:
    if not math.isfinite(value):
        return str(value)
    with np.errstate(over="ignore"):
        text = str(kind(value))
    return text if any(mark in text for mark in ".e") else f"{text}.0"


def _attribute(attr: Attribute) -> str:
    if attr.kind.endswith("s"):
        if not attr.value:
            return f"{attr.kind}[]"
        single = attr.kind[:-1]
        return f"[{', '.join(_scalar(single, item) for item in attr.value)}]"
    return _scalar(attr.kind, attr.value)


def _scalar(kind: str, value: Any) -> str:
    if kind == "int":
        return str(int(value))
    if kind == "float":
        return _float(value)
    if kind == "string":
        return f'b"{value.hex()}"' if isinstance(value, bytes) else json.dumps(value)
    return f"type {print_type(value)}" if kind == "type" else f"tensor {_constant(value)}"
