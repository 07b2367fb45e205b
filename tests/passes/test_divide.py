"""Dividing ops by rows: what parts need, that they make the same, and that it can be undone."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from ramiel_ir.costs import AnalyticCosts, MessageCosts, work
from ramiel_ir.derived import Part, parse_part, part_name
from ramiel_ir.interpret import interpret
from ramiel_ir.ir import DType, Graph, Names, Op, Tensor, Type, Value
from ramiel_ir.laws import verify
from ramiel_ir.measured import MeasuredCosts
from ramiel_ir.pipeline import Context, No, PassManager
from ramiel_ir.plan import make_plan, simulate
from ramiel_ir.printer import print_graph
from ramiel_passes.divide import Divide
from ramiel_passes.gate import Gate
from ramiel_passes.rows import restrict, rows_of
from ramiel_passes.sequential import Sequential
from tests.strategies import examples, seeds
from tests.test_plan import Table

Array = np.ndarray[Any, Any]
CHEAP = AnalyticCosts(
    gflops=1.0,
    overhead=0.1,
    messages=MessageCosts(0.2, 0.1, 0.1, send_per_byte=1e-6, receive_per_byte=1e-6),
)
"""Messages cost next to nothing: whatever can be divided is."""


def tensor(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def one_op(kind: str, result: tuple[int, ...], *operands: Array, **attributes: Any) -> Graph:
    """An op of inputs; the graph is of opset 21."""
    values = [Value(f"x{i}", Type(DType.F32, array.shape)) for i, array in enumerate(operands)]
    graph = Graph("one", values, opsets={"": 21, "com.microsoft": 1})
    op = Op(
        kind.removeprefix("com.microsoft."),
        values,
        [Value("y", Type(DType.F32, result))],
        attributes,
        domain="com.microsoft" if kind.startswith("com.microsoft.") else "",
    )
    graph.append(op)
    graph.set_outputs(op.writes)
    return graph


IMAGE = tensor(1, 4, 12, 5)
TEXT = tensor(2, 9, 6)
SCALE = tensor(4, seed=1)
OPS = {
    "conv": ("Conv", (1, 3, 12, 5), [IMAGE, tensor(3, 4, 3, 3)], {"pads": [1, 1, 1, 1]}),
    "conv_stride": (
        *("Conv", (1, 3, 6, 3), [IMAGE, tensor(3, 4, 3, 3), tensor(3)]),
        {"pads": [1, 1, 1, 1], "strides": [2, 2]},
    ),
    "conv_lopsided": (
        *("Conv", (1, 3, 6, 5), [IMAGE, tensor(3, 4, 5, 3)]),
        {"pads": [0, 1, 3, 1], "strides": [2, 1]},
    ),
    "conv_dilated": (
        *("Conv", (1, 4, 8, 3), [IMAGE, tensor(4, 1, 3, 3)]),
        {"dilations": [2, 1], "group": 4},
    ),
    "max_pool": (
        *("MaxPool", (1, 4, 6, 3), [IMAGE]),
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    ),
    "average_pool": (
        *("AveragePool", (1, 4, 12, 5), [IMAGE]),
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 0},
    ),
    "average_pool_all": (
        *("AveragePool", (1, 4, 12, 5), [IMAGE]),
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    ),
    "relu": ("Relu", (1, 4, 12, 5), [IMAGE], {}),
    "add": ("Add", (1, 4, 12, 5), [IMAGE, tensor(1, 4, 12, 5, seed=2)], {}),
    "add_channels": ("Add", (1, 4, 12, 5), [tensor(4, 1, 1), IMAGE], {}),
    "add_matrix": ("Add", (1, 4, 12, 5), [IMAGE, tensor(12, 1)], {}),
    "prelu": ("PRelu", (1, 4, 12, 5), [IMAGE, tensor(4, 1, 1)], {}),
    "clip": ("Clip", (1, 4, 12, 5), [IMAGE, np.float32(0), np.float32(0.5)], {}),
    "batch_normalization": (
        *("BatchNormalization", (1, 4, 12, 5), [IMAGE, SCALE, SCALE, SCALE, SCALE**2]),
        {},
    ),
    "lrn": ("LRN", (1, 4, 12, 5), [IMAGE], {"size": 3}),
    "concat": ("Concat", (1, 7, 12, 5), [IMAGE, tensor(1, 3, 12, 5)], {"axis": 1}),
    "layer_normalization": ("LayerNormalization", (2, 9, 6), [TEXT, tensor(6), tensor(6)], {}),
    "softmax": ("Softmax", (2, 9, 6), [TEXT], {"axis": -1}),
    "softmax_channels": ("Softmax", (1, 4, 12, 5), [IMAGE], {"axis": 1}),
    "matmul": ("MatMul", (2, 9, 8), [TEXT, tensor(6, 8)], {}),
    "matmul_batch": ("MatMul", (2, 9, 8), [TEXT, tensor(2, 6, 8)], {}),
    "gemm": ("Gemm", (9, 8), [TEXT[0], tensor(8, 6), tensor(8)], {"transB": 1, "alpha": 0.5}),
    "gemm_rows": ("Gemm", (9, 8), [TEXT[0], tensor(6, 8), tensor(9, 1)], {}),
    "gelu": ("Gelu", (2, 9, 6), [TEXT], {}),
}


@pytest.mark.parametrize("name", OPS)
def test_rows_are_made_of_the_rows_that_restrict_says(name: str) -> None:
    kind, shape, operands, attributes = OPS[name]
    graph = one_op(kind, shape, *operands, **attributes)
    inputs = dict(zip(("x0", "x1", "x2", "x3", "x4"), operands, strict=False))
    whole = interpret(graph, inputs)["y"]
    assert whole.shape == shape
    for first, end in itertools.combinations(range(shape[-2] + 1), 2):
        part = restrict(graph.ops[0], (first, end))
        assert part is not None
        read = [
            array if rows is None else array[..., rows[0] : rows[1], :]
            for array, rows in zip(operands, part.operands, strict=True)
        ]
        size = (*shape[:-2], end - first, shape[-1])
        band = one_op(kind, size, *read, **part.attributes)
        found = interpret(band, dict(zip(inputs, read, strict=True)))["y"]
        np.testing.assert_allclose(found, whole[..., first:end, :], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "shape", "operands", "attributes"),
    [
        ("Conv", (1, 3, 12, 5), [IMAGE, tensor(3, 4, 3, 3)], {"auto_pad": "SAME_UPPER"}),
        ("Conv", (1, 3, 10), [tensor(1, 4, 12), tensor(3, 4, 3)], {}),
        ("MaxPool", (1, 4, 6, 3), [IMAGE], {"kernel_shape": [2, 2], "ceil_mode": 1}),
        ("Concat", (1, 4, 24, 5), [IMAGE, IMAGE], {"axis": 2}),
        ("Concat", (1, 4, 24, 5), [IMAGE, IMAGE], {"axis": -2}),
        ("Softmax", (1, 4, 12, 5), [IMAGE], {"axis": 2}),
        ("LayerNormalization", (2, 9, 6), [TEXT, tensor(9, 6)], {"axis": 1}),
        ("BatchNormalization", (2, 9, 6), [TEXT, *[np.ones(9, np.float32)] * 4], {}),
        ("Gemm", (6, 8), [TEXT[0], tensor(9, 8)], {"transA": 1}),
        ("MatMul", (6, 9, 9), [tensor(9, 4), tensor(6, 4, 9)], {}),
        ("Transpose", (9, 6), [TEXT[0]], {"perm": [1, 0]}),
        ("RandomNormalLike", (2, 9, 6), [TEXT], {}),
        ("Relu", (6,), [tensor(6)], {}),
    ],
)
def test_ops_whose_rows_need_more_are_not_restricted(
    kind: str, shape: tuple[int, ...], operands: list[Array], attributes: dict[str, Any]
) -> None:
    assert restrict(one_op(kind, shape, *operands, **attributes).ops[0], (0, 2)) is None


def test_a_band_of_padding_alone_is_not_restricted() -> None:
    graph = one_op("Conv", (1, 3, 16, 5), IMAGE, tensor(3, 4, 1, 3), pads=[2, 1, 2, 1])
    assert restrict(graph.ops[0], (0, 2)) is None
    assert restrict(graph.ops[0], (0, 3)) is not None


# Whole graphs -------------------------------------------------------------------------------------


def image(channels: int, height: int) -> Type:
    return Type(DType.F32, (1, channels, height, 8))


def network(rng: random.Random) -> Graph:
    """Convolutions, pools and additions in a row, with side branches and branches that rejoin."""
    graph = Graph("network", [Value("x", image(2, rng.choice((28, 33))))], opsets={"": 21})
    names = Names(graph)
    value = graph.inputs[0]

    def convolve(source: Value, stride: int = 1) -> Value:
        numbers = np.random.default_rng(rng.getrandbits(32))
        weight = Tensor.of(numbers.normal(0, 0.3, (2, 2, 3, 3)).astype(np.float32))
        kernels = graph.add_weight(names.fresh("w"), weight)
        rows = (rows_of(source) or 0) - 1
        shape = (1, 2, rows // stride + 1, 8)
        found: Value = graph.add(
            "Conv",
            [source, kernels],
            names.fresh("conv"),
            Type(DType.F32, shape),
            pads=[1, 1, 1, 1],
            strides=[stride, 1],
        )
        return found

    for _ in range(rng.randrange(3, 9)):
        before = value
        match rng.randrange(6):
            case 0:
                value = graph.add("Relu", [value], names.fresh("relu"), value.type)
            case 1 if (rows_of(value) or 0) > 20:
                value = convolve(value, 2)
            case 2:
                value = convolve(convolve(value))
                value = graph.add("Add", [value, before], names.fresh("add"), value.type)
            case 3:
                side = graph.add("Sigmoid", [value], names.fresh("side"), value.type)
                value = convolve(convolve(value))
                value = graph.add("Mul", [value, side], names.fresh("mul"), value.type)
            case 4:
                # not MaxPool, of which ONNX's reference mixes up unequal pads
                made = names.fresh("pool")
                window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
                value = graph.add("AveragePool", [value], made, value.type, **window)
            case _:
                value = convolve(value)
    last = graph.add("GlobalAveragePool", [value], "y", Type(DType.F32, (1, 2, 1, 1)))
    graph.set_outputs([last] + [before] * rng.randrange(2))
    verify(graph)
    return graph


@given(seeds())
@examples(60)
def test_a_divided_network_makes_the_same_and_becomes_whole_again(seed: int) -> None:
    rng = random.Random(seed)
    graph = network(rng)
    context = Context(CHEAP, workers=rng.randrange(2, 5))
    inputs = {"x": tensor(*graph.inputs[0].type.shape, seed=seed)}  # type: ignore[union-attr, misc]
    expected = interpret(graph, inputs)
    lines = sorted(print_graph(graph).splitlines())
    manager = PassManager.parse(
        "divide,cluster,merge{max-clusters=3},clone,refine{budget=500}", context
    )
    manager.run(graph)
    found = interpret(graph, inputs)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)
    Sequential().run(graph, context)
    verify(graph)
    assert sorted(print_graph(graph).replace(" @0", "").splitlines()) == lines


def test_most_of_these_networks_are_divided() -> None:
    outcomes = [Divide().run(network(random.Random(seed)), Context(CHEAP)) for seed in range(30)]
    assert sum(map(bool, outcomes)) >= 20


def chain(height: int = 28) -> Graph:
    """Three convolutions, one after the other, and what takes all rows."""
    graph = Graph("chain", [Value("x", image(8, height))], opsets={"": 21})
    value = graph.inputs[0]
    for index in range(3):
        weight = graph.add_weight(f"w{index}", Tensor.of(tensor(8, 8, 3, 3, seed=index)))
        value = graph.add("Conv", [value, weight], f"c{index}", value.type, pads=[1, 1, 1, 1])
    graph.set_outputs([graph.add("GlobalAveragePool", [value], "y", image(8, 1))])
    return graph


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_a_chain_takes_less_than_any_plan_of_whole_ops(workers: int) -> None:
    graph = chain()
    least = work(graph, CHEAP).bound(workers)
    context = Context(CHEAP, workers=workers)
    assert Divide().run(graph, context) is True
    PassManager.parse(f"cluster,merge{{max-clusters={workers}}},refine", context).run(graph)
    plan = make_plan(graph)
    assert len(plan.workers) == workers
    assert simulate(plan, CHEAP).makespan < 0.8 * least


def test_dear_messages_few_rows_and_one_worker_divide_nothing() -> None:
    dear = AnalyticCosts(messages=MessageCosts(fixed=1e6))
    for graph, context in (
        (chain(), Context(dear)),
        (chain(13), Context(CHEAP)),
        (chain(), Context(CHEAP, workers=1)),
    ):
        assert isinstance(Divide().run(graph, context), No)
        assert len(graph.ops) == 4


def test_of_two_branches_alike_none_is_divided() -> None:
    graph = chain()
    weight = graph.add_weight("v", Tensor.of(tensor(8, 8, 3, 3)))
    value = graph.inputs[0]
    for index in range(3):
        value = graph.add("Conv", [value, weight], f"d{index}", value.type, pads=[1, 1, 1, 1])
    graph.set_outputs([*graph.outputs, graph.add("GlobalMaxPool", [value], "z", image(8, 1))])
    assert isinstance(Divide().run(graph, Context(CHEAP)), No)


def test_where_the_gate_declines_ops_are_whole_again() -> None:
    graph = chain()
    context = Context(CHEAP, alone=(2, 1))
    PassManager.parse("divide,cluster,merge{max-clusters=2}", context).run(graph)
    assert len(graph.ops) > 4
    assert Gate(margin=0.9).run(graph, context)
    assert [op.label for op in graph.ops] == ["%c0", "%c1", "%c2", "%y"]


def test_a_part_costs_its_share_unless_parts_were_measured() -> None:
    plain = MeasuredCosts("torch", {"c0": (100.0, 60.0)})
    costs = MeasuredCosts("torch", {"c0": (100.0, 60.0), "c0.rows0_7_28": (50.0, 50.0)})
    for name, share, measured in [
        ("c0", 100.0, 100.0),
        ("c0.rows0_7_28", 25.0, 50.0),
        ("c0.rows7_28_28", 75.0, 150.0),  # twice its share, as the one that was measured
        ("c0.rows7_28_28.copy", 75.0, 150.0),
    ]:
        op = Op("Conv", [], [Value(name)])
        assert (plain.op(op), costs.op(op)) == (share, measured)
    whole, part = Op("Conv", [], [Value("c0")]), Part("c0", 7, 28, 28)
    assert (plain.part(whole, part), plain.part(whole, part, 2)) == (75.0, 45.0)
    assert (costs.part(whole, part), Table(c0=8.0).part(whole, part)) == (150.0, 6.0)
    unknown = costs.op(Op("Slice", [], [Value("c0.rows7_28_28")]))
    assert unknown == costs.op(Op("Slice", [], [Value("something")]))


@given(seeds())
@examples(100)
def test_a_name_tells_its_part(seed: int) -> None:
    rng = random.Random(seed)
    total = rng.randrange(1, 99)
    first = rng.randrange(total)
    whole = "".join(rng.choice("a.%\n_1rows") for _ in range(rng.randrange(1, 9)))
    part = Part(whole, first, rng.randrange(first, total) + 1, total)
    assert parse_part(part_name(part)) == part
    assert parse_part(f"{part_name(part)}_3") == part
    assert parse_part(whole) is None or "rows" in whole
