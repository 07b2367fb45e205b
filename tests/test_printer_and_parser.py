"""The text of the IR restores every graph, and every mistake in it gets a caret."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramiel_ir.errors import ModelError
from ramiel_ir.ir import Attribute, DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.laws import difference, verify
from ramiel_ir.parser import parse_graph
from ramiel_ir.printer import print_graph, print_type
from tests.strategies import examples

_AWKWARD = [
    "return", "weight", "graph", "metadata", "opset", "sha", "_", "?", "...", "inf", "nan", "-inf",
    "tensor", "type", "ints", "f32", "sequence", "0", "00", "1.5", "1e5", "1-2", "-", "-1", "a-b",
    "a.b", ".", "a b", "a/b:0", "//", "é", "名", '"', "\\", "\n", "\r", "\u2028", "\x00",
    "\U0001f600", "b", "b\"", "%x", "@0", "{", "}", "True", "1_000", "inf.x", "nan-x", "+1",
    "x" * 300,
]  # fmt: skip

_names = st.sampled_from(_AWKWARD) | st.text(min_size=1, max_size=6)
_element_types = st.sampled_from(list(DType))
_dims = st.none() | st.integers(0, 2**40) | _names
_shapes = st.none() | st.lists(_dims, max_size=4).map(tuple)
_plain_types = st.builds(Type, st.none() | _element_types, _shapes)
_types = st.recursive(
    _plain_types | st.builds(Type, _element_types, _shapes, st.just("sparse")),
    lambda inner: st.builds(
        Type, st.none() | inner, st.none(), st.sampled_from(["sequence", "optional"])
    ),
    max_leaves=3,
)


@st.composite
def _tensors(draw: st.DrawFn) -> Tensor:
    """Constants of every element type, with every bit pattern."""
    dtype = draw(_element_types)
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = math.prod(shape)
    if dtype is DType.STRING:
        array = np.empty(count, object)
        array[:] = draw(
            st.lists(st.text(max_size=4) | st.binary(max_size=4), min_size=count, max_size=count)
        )
        return Tensor.of(array.reshape(shape))
    raw = np.frombuffer(draw(st.binary(min_size=count * 16, max_size=count * 16)), np.uint8)
    if dtype is DType.BOOL:
        return Tensor.of((raw[:count] % 2).astype(bool).reshape(shape))
    if dtype.bits < 8:  # the bits that the type does not have are not data
        codes = raw[:count] % (1 << dtype.bits)
        if dtype in (DType.I2, DType.I4):
            codes = codes.astype(np.int8) - (1 << dtype.bits - 1)
            return Tensor.of(codes.astype(dtype.numpy).reshape(shape))
        if dtype in (DType.U2, DType.U4):
            return Tensor.of(codes.astype(dtype.numpy).reshape(shape))
        return Tensor.of(codes.astype(np.uint8).view(dtype.numpy).reshape(shape))
    return Tensor.of(raw[: count * dtype.bits // 8].view(dtype.numpy).reshape(shape))


_strings = st.text(max_size=6) | st.sampled_from(_AWKWARD) | st.just(b"\xff\x00")
_scalars: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32),
    "string": _strings,
    "tensor": _tensors(),
    "type": _types,
}
_attributes = st.sampled_from(list(_scalars)).flatmap(
    lambda kind: (
        st.builds(Attribute, st.just(kind), _scalars[kind])
        | st.builds(Attribute, st.just(f"{kind}s"), st.lists(_scalars[kind], max_size=3))
    )
)


@st.composite
def _graphs(draw: st.DrawFn, depth: int = 0, outer: tuple[Value, ...] = ()) -> Graph:
    """Graphs that verify, and mean nothing: any name, type, attribute, region, cluster."""
    graph = Graph(draw(_names))
    taken = {value.name for value in outer}
    if depth == 0:
        versions = st.dictionaries(st.just("") | _names, st.integers(1, 99), max_size=3)
        graph.opsets.update(draw(versions))
        graph.metadata.update(
            draw(st.dictionaries(_strings.filter(_is_text), st.text(), max_size=2))
        )

    def name() -> str:
        found = str(draw(_names.filter(lambda name: name not in taken)))
        taken.add(found)
        return found

    visible = [*outer]
    visible += [graph.add_input(Value(name(), draw(st.none() | _types))) for _ in range(2)]
    visible += [graph.add_weight(name(), draw(_tensors()))]
    for _ in range(draw(st.integers(0, 3))):
        operands = draw(st.lists(st.none() | st.sampled_from(visible), max_size=3))
        regions = {}
        if depth < 2 and draw(st.integers(0, 3)) == 0:
            inner = _graphs(depth + 1, tuple(visible))
            regions = draw(st.dictionaries(_names, inner, max_size=2))
        results = [
            Value(name(), draw(st.none() | _types)) if draw(st.booleans()) else None
            for _ in range(draw(st.integers(1, 2)))
        ]
        op = Op(
            draw(_names),
            operands,
            results,
            draw(st.dictionaries(_names, _attributes, max_size=2)),
            domain=draw(st.just("") | _names),
            regions=regions,
            cluster=draw(st.none() | st.integers(0, 5)),
        )
        visible += graph.append(op).writes
    graph.set_outputs(draw(st.lists(st.sampled_from(visible), max_size=3)))
    return graph


def _is_text(value: str | bytes) -> bool:
    return isinstance(value, str)


@given(_graphs())
@examples(120)
def test_any_graph_survives_the_text(graph: Graph) -> None:
    verify(graph)
    text = print_graph(graph)
    again = parse_graph(text)
    verify(again)
    assert print_graph(again) == text
    assert difference(graph, again) is None
    assert difference(again, graph) is None


@given(_types)
@examples(200)
def test_any_type_survives_the_text(type: Type) -> None:
    source = f"graph @g(%x: {print_type(type)}) {{\n  return\n}}\n"
    assert parse_graph(source).inputs[0].type == type


def test_larger_constants_stand_by_digest_and_attach_again() -> None:
    graph = Graph("g", opsets={"": 21})
    data = Tensor.of(np.arange(9, dtype=np.float32))
    weight = graph.add_weight("w", data)
    graph.set_outputs([weight])
    text = print_graph(graph)
    assert f"%w = weight : f32[9] sha={data.digest}" in text
    detached = parse_graph(text)
    assert detached.weights[0].weight is not None
    assert detached.weights[0].weight.is_detached
    assert print_graph(detached) == text
    with pytest.raises(ModelError, match="detached"):
        _ = detached.weights[0].weight.array
    attached = parse_graph(text, find_tensor=lambda digest, type: data)
    assert attached.weights[0].weight is data
    assert difference(attached, graph) is None


@pytest.mark.parametrize(
    ("value", "spelling"),
    [
        (0.1, "0.1"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e-7, "1e-07"),
        (16777216.0, "1.6777216e+07"),
        (3.4028235e38, "3.4028235e+38"),
        (1e39, "inf"),
        (1e-45, "1e-45"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_floats_are_the_shortest_that_restore_the_float32(value: float, spelling: str) -> None:
    graph = Graph("g", [Value("x")])
    graph.add("LeakyRelu", graph.inputs, "y", alpha=value)
    assert f"{{alpha={spelling}}}" in print_graph(graph)


def test_every_truncation_of_a_text_is_refused_with_a_place() -> None:
    graph = Graph("g", [Value("x", Type(DType.F32, (1, "N")))], opsets={"": 21, "a.b": 1})
    graph.metadata["k"] = "v"
    graph.add_weight("w", Tensor.of(np.array([1.5, 2.5], np.float32)))
    graph.add("Split", graph.inputs, ["y", ""], axis=0, names=["a", "b"])
    graph.set_outputs(graph.ops[0].writes)
    text = print_graph(graph).rstrip()
    parse_graph(text)
    for end in range(len(text)):
        with pytest.raises(ModelError, match=r"^text:\d+:\d+: (?s:.*)\^$"):
            parse_graph(text[:end])


def test_damaged_text_is_refused_and_never_crashes() -> None:
    graph = Graph("g", [Value("x", Type(DType.F32, (1, "N")))], opsets={"": 21})
    graph.add_weight("w", Tensor.of(np.array([1.5, -3.0], np.float32)))
    kinds = Tensor.of(np.array([1, 2], np.int8))
    graph.add("Op", graph.inputs, "y", a=kinds, b=[1, 2], c=b"\xff", d=Type(DType.F16, None))
    graph.set_outputs(graph.ops[0].writes)
    text = print_graph(graph)
    rng = random.Random(0)
    for _ in range(3000):
        damaged = list(text)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(damaged))
            damaged[at] = rng.choice(
                ["", '"', "]", "[", "(", "x", "9", "-", ".", "?", ",", "=", " "]
            )
        try:
            again = parse_graph("".join(damaged))
        except ModelError:
            continue
        print_graph(again)
