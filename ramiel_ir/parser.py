"""Reads the textual form of the IR, which printer.py describes and prints."""

from __future__ import annotations

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

RESERVED = ("_", "return", "weight", "inf", "nan")
"""Words that are no bare name of their own."""

_DTYPES = {dtype.text: dtype for dtype in DType}
_LIST_KINDS = ("ints", "floats", "strings", "tensors", "types")


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


def parse_elements(source: str, type: Type) -> Tensor:
    """The constant of this type whose elements stand in brackets."""
    return _Parser(Lexer(source, "constant", ModelError), _find_nothing).elements(type)


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
        while lexer.token.kind in ("name", "string") and lexer.token.text not in RESERVED:
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
