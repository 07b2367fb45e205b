"""The textual form of the IR: `print_graph` and `parse_graph`.

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
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

import numpy as np

from ramiel_ir.collector import collector_paused
from ramiel_ir.errors import ModelError
from ramiel_ir.ir import Array, Attribute, Dim, DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.lexer import Lexer

FindTensor = Callable[[str, Type], Tensor | None]
"""From a digest and a type to the tensor that has both, None where it is not at hand."""

_INLINE_ELEMENTS = 8
_PLAIN_NAME = re.compile(r"[\w.-]+", re.ASCII)
_PLAIN_SYMBOL = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PLAIN_DOMAIN = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_RESERVED = ("_", "return", "weight", "inf", "nan")  # words that are no bare name of their own
_DTYPES = {dtype.text: dtype for dtype in DType}


# Printing -----------------------------------------------------------------------------------------


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
    return json.dumps(name) if name in _RESERVED else _bare(name, plain)


def _value(value: Value | None) -> str:
    return "_" if value is None else f"%{_bare(value.name)}"


def _kind(op: Op) -> str:
    if (
        _PLAIN_SYMBOL.fullmatch(op.kind)
        and (not op.domain or _PLAIN_DOMAIN.fullmatch(op.domain))
        and op.qualified_kind not in _RESERVED
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
    lexer = Lexer(text, "constant", ModelError)
    again = _Parser(lexer, _find_nothing).elements(tensor.type)
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


# Parsing ------------------------------------------------------------------------------------------


@collector_paused()
def parse_graph(source: str, *, what: str = "text", find_tensor: FindTensor | None = None) -> Graph:
    """Read the textual form. Raises `ModelError` with line, column and a caret.

    Constants given by digest come from `find_tensor`; without one they stay detached.
    """
    lexer = Lexer(source, what, ModelError)
    parser = _Parser(lexer, find_tensor or _find_nothing)
    try:
        graph = parser.graph()
    except RecursionError:
        raise lexer.fail("this is nested too deeply") from None
    if lexer.token.kind != "end":
        raise lexer.fail("expected the end of the text")
    return graph


def _find_nothing(digest: str, type: Type) -> None:
    return None


class _Parser:
    def __init__(self, lexer: Lexer, find_tensor: FindTensor) -> None:
        self.lexer = lexer
        self.find_tensor = find_tensor
        self.scopes: list[dict[str, Value]] = []

    def graph(self) -> Graph:
        self.lexer.expect("graph")
        graph = self.signature()
        if self.lexer.accept("opset"):
            for _ in self.separated():
                offset = self.lexer.token.offset
                domain = "" if self.lexer.token.kind == "number" else self.name("a domain")
                self.refuse_twice(domain, graph.opsets, offset)
                graph.opsets[domain] = self.integer("a version")
        self.body(graph)
        return graph

    def signature(self) -> Graph:
        self.lexer.expect("@")
        graph = Graph(self.name("the graph's name"))
        self.scopes.append({})
        self.lexer.expect("(")
        while not self.lexer.accept(")"):
            if graph.inputs:
                self.lexer.expect(",")
            offset = self.lexer.token.offset
            name = self.value_name()
            self.lexer.expect(":")
            self.declare(graph.add_input(Value(name, self.type())), offset)
        return graph

    def body(self, graph: Graph) -> None:
        lexer = self.lexer
        lexer.expect("{")
        while lexer.accept("metadata"):
            offset = lexer.token.offset
            key = lexer.string()
            self.refuse_twice(key, graph.metadata, offset)
            lexer.expect("=")
            graph.metadata[key] = lexer.string()
        while not lexer.accept("return"):
            offset = lexer.token.offset
            names = [self.result_name() for _ in self.separated()]
            lexer.expect("=")
            if lexer.accept("weight"):
                if len(names) != 1 or names[0] is None:
                    raise lexer.fail("a weight has exactly one name", offset)
                lexer.expect(":")
                self.declare(graph.add_weight(names[0], self.constant()), offset)
            else:
                self.op(graph, names, offset)
        if lexer.token.text != "}":
            graph.set_outputs([self.use() for _ in self.separated()])
        lexer.expect("}")
        self.scopes.pop()

    def op(self, graph: Graph, names: list[str | None], offset: int) -> None:
        lexer = self.lexer
        domain, kind = self.kind()
        operands: list[Value | None] = []
        lexer.expect("(")
        while not lexer.accept(")"):
            if operands:
                lexer.expect(",")
            operands.append(None if lexer.accept("_") else self.use())
        attributes: dict[str, Attribute] = {}
        if lexer.accept("{"):
            for _ in self.separated():
                place = lexer.token.offset
                name = self.name("an attribute's name")
                self.refuse_twice(name, attributes, place)
                lexer.expect("=")
                attributes[name] = self.attribute()
            lexer.expect("}")
        cluster = self.integer("a cluster") if lexer.accept("@") else None
        lexer.expect(":")
        types = [None if lexer.accept("_") else self.type() for _ in self.separated()]
        if len(types) != len(names):
            raise lexer.fail(f"{len(names)} results need {len(names)} types, not {len(types)}")
        results = [name and Value(name, type) for name, type in zip(names, types, strict=True)]
        regions: dict[str, Graph] = {}
        while lexer.token.kind in ("name", "string") and lexer.token.text not in _RESERVED:
            place = lexer.token.offset
            name = self.name("a region's name")
            self.refuse_twice(name, regions, place)
            lexer.expect("=")
            regions[name] = self.signature()
            self.body(regions[name])
        graph.append(
            Op(
                kind,
                operands,
                [result or None for result in results],
                attributes,
                domain=domain,
                regions=regions,
                cluster=cluster,
            )
        )
        for result in results:
            if result:
                self.declare(result, offset)

    def kind(self) -> tuple[str, str]:
        if self.lexer.token.kind == "string":
            return self.lexer.string(), self.lexer.string("the op's kind")
        domain, _, kind = self.lexer.take("name", "an op").rpartition(".")
        return domain, kind

    def separated(self) -> Iterator[None]:
        yield
        while self.lexer.accept(","):
            yield

    def name(self, what: str) -> str:
        if self.lexer.token.kind == "string":
            return self.lexer.string()
        if self.lexer.token.kind == "number":
            return self.lexer.next().text
        return self.lexer.take("name", what)

    def integer(self, what: str) -> int:
        offset = self.lexer.token.offset
        text = self.lexer.take("number", what)
        if not re.fullmatch(r"[-+]?\d{1,19}", text):
            raise self.lexer.fail(f"expected {what}", offset)
        return int(text)

    def value_name(self) -> str:
        self.lexer.expect("%")
        return self.name("a value's name")

    def refuse_twice(self, name: str, known: Container[str], offset: int) -> None:
        if name in known:
            raise self.lexer.fail(f"{name!r} is given twice", offset)

    def result_name(self) -> str | None:
        return None if self.lexer.accept("_") else self.value_name()

    def declare(self, value: Value, offset: int) -> None:
        if any(value.name in scope for scope in self.scopes):
            raise self.lexer.fail(f"{value} is already defined", offset)
        self.scopes[-1][value.name] = value

    def use(self) -> Value:
        offset = self.lexer.token.offset
        name = self.value_name()
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        raise self.lexer.fail(f"%{name} is not defined here", offset)

    def type(self) -> Type | None:
        if self.lexer.accept("?"):
            if self.lexer.token.text != "[":
                return None
            return Type(None, self.shape())
        offset = self.lexer.token.offset
        word = self.lexer.take("name", "a type")
        if word in ("sequence", "optional", "sparse"):
            self.lexer.expect("(")
            inner = self.type()
            self.lexer.expect(")")
            if word == "sparse":
                if inner is None or inner.kind != "tensor":
                    raise self.lexer.fail("only a tensor can be sparse", offset)
                return Type(inner.element, inner.shape, "sparse")
            return Type(inner, None, "sequence" if word == "sequence" else "optional")
        if word not in _DTYPES:
            raise self.lexer.fail(f"unknown element type; there are: {', '.join(_DTYPES)}", offset)
        return Type(_DTYPES[word], self.shape())

    def shape(self) -> tuple[Dim, ...] | None:
        self.lexer.expect("[")
        if self.lexer.accept("..."):
            self.lexer.expect("]")
            return None
        dims: list[Dim] = []
        while not self.lexer.accept("]"):
            if dims:
                self.lexer.expect(",")
            if self.lexer.accept("?"):
                dims.append(None)
            elif self.lexer.token.kind == "number":
                offset = self.lexer.token.offset
                size = self.integer("a dimension")
                if size < 0:
                    raise self.lexer.fail("a dimension is not negative", offset)
                dims.append(size)
            else:
                dims.append(self.name("a dimension"))
        return tuple(dims)

    def constant(self) -> Tensor:
        offset = self.lexer.token.offset
        type = self.type()
        if type is None or not type.is_static:
            raise self.lexer.fail("a constant has a known type", offset)
        if self.lexer.accept("="):
            return self.elements(type)
        self.lexer.expect("sha")
        self.lexer.expect("=")
        digest = self.lexer.token.text
        if not re.fullmatch(r"[0-9a-f]+", digest):
            raise self.lexer.fail("expected a digest in hex")
        self.lexer.next()
        return self.find_tensor(digest, type) or Tensor(type, digest=digest)

    def elements(self, type: Type) -> Tensor:
        assert isinstance(type.element, DType)
        offset = self.lexer.token.offset
        is_text = type.element is DType.STRING
        items: list[Any] = []
        self.lexer.expect("[")
        while not self.lexer.accept("]"):
            if items:
                self.lexer.expect(",")
            items.append(self.lexer.string() if is_text else self.number())
        if len(items) != type.count:
            raise self.lexer.fail(f"{type.count} elements expected, not {len(items)}", offset)
        array = _array(items, type)
        if array is None:
            raise self.lexer.fail(f"an element is no {type.element.text}", offset)
        return Tensor.of(array)

    def number(self) -> int | float:
        offset = self.lexer.token.offset
        text = self.lexer.take("number", "a number")
        if not re.fullmatch(r"[-+]?\d+", text):
            return float(text)
        if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
            raise self.lexer.fail("this number has more than 64 bits", offset)
        return int(text)

    def attribute(self) -> Attribute:
        lexer = self.lexer
        if lexer.token.kind == "name" and lexer.token.text in _LIST_KINDS:
            kind = lexer.next().text
            lexer.expect("[")
            lexer.expect("]")
            return Attribute(kind, ())  # type: ignore[arg-type]
        if not lexer.accept("["):
            return self.scalar()
        items = [self.scalar() for _ in self.separated()]
        lexer.expect("]")
        kinds = {item.kind for item in items}
        if len(kinds) != 1:
            raise lexer.fail("a list holds elements of one kind")
        return Attribute(f"{kinds.pop()}s", [item.value for item in items])  # type: ignore[arg-type]

    def scalar(self) -> Attribute:
        lexer = self.lexer
        if lexer.accept("tensor"):
            return Attribute("tensor", self.constant())
        if lexer.accept("type"):
            return Attribute("type", self.type())
        if lexer.token.kind == "string" and lexer.token.text.startswith("b"):
            offset = lexer.token.offset
            try:
                return Attribute("string", bytes.fromhex(lexer.next().text[2:-1]))
            except ValueError:
                raise lexer.fail("bytes are written in hex", offset) from None
        if lexer.token.kind == "string":
            return Attribute("string", lexer.string())
        offset = lexer.token.offset
        number = self.number()
        if isinstance(number, int) and number >= 2**63:
            raise lexer.fail("an attribute's number has at most 64 bits with its sign", offset)
        return Attribute.of(number)


def _holds(element: Any, item: Any, dtype: DType) -> bool:
    if dtype is DType.STRING or dtype.numpy.kind == "c":
        return True
    if dtype is DType.BOOL or dtype.text[0] in "iu":
        return isinstance(item, int) and int(element) == item
    return math.isfinite(float(element)) or not math.isfinite(item)


_LIST_KINDS = ("ints", "floats", "strings", "tensors", "types")


def _array(items: Iterable[Any], type: Type) -> Array | None:
    """The items as an array; None where one of them is not of the type."""
    assert isinstance(type.element, DType) and type.shape is not None
    array = np.empty(type.count or 0, type.element.numpy)
    for index, item in enumerate(items):
        try:
            with np.errstate(over="ignore"):
                array[index] = item
        except (OverflowError, ValueError):
            return None
        if not _holds(array[index], item, type.element):
            return None
    return array.reshape([dim for dim in type.shape if isinstance(dim, int)])
