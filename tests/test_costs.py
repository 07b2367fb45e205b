"""Costs: the static and the analytic model, distances, and the bounds of a graph."""

from __future__ import annotations

import random

import pytest

from ramiel_ir.costs import AnalyticCosts, MessageCosts, StaticCosts, distances, work
from ramiel_ir.driver import parse_costs
from ramiel_ir.errors import UsageError
from ramiel_ir.ir import DType, Graph, Op, Type, Value
from ramiel_ir.measured import MeasuredCosts
from ramiel_ir.plan import make_plan, simulate
from tests.strategies import RandomCosts, random_clusters, random_dag
from tests.test_plan import Table, diamond


def op_of(kind: str, *shapes: tuple[int, ...], result: tuple[int, ...] = (1,), **attrs: int) -> Op:
    """One op over f32 inputs of these shapes."""
    graph = Graph("one", [Value(f"x{i}", Type(DType.F32, s)) for i, s in enumerate(shapes)])
    graph.add(kind, graph.inputs, "y", Type(DType.F32, result), **attrs)
    return graph.ops[0]


def test_distances_add_ops_and_edges_along_the_longest_path() -> None:
    # a(2) → b(3) → d(1) and a(2) → c(5) → d(1), edges 10: d=1, b=14, c=16, a=28
    graph = diamond()
    found = distances(graph, Table(edge=10, a=2, b=3, c=5))
    assert [found[op] for op in graph.ops] == [28, 14, 16, 1]


def test_distances_count_the_threads_of_the_plan() -> None:
    graph = diamond()
    found = distances(graph, Table(edge=10, a=2, b=3, c=5), threads=2)
    assert [found[op] for op in graph.ops] == [24, 12, 13, 0.5]


def test_an_unread_result_is_no_edge() -> None:
    graph = Graph("g", [Value("x")])
    graph.add("Split", graph.inputs, ["a", "b"])
    graph.set_outputs(graph.ops[0].writes)
    assert list(distances(graph, Table(edge=10)).values()) == [1]


def test_work_and_critical_path_know_no_edges() -> None:
    bounds = work(diamond(), Table(edge=10, a=2, b=3, c=5))
    assert (bounds.work, bounds.critical_path) == (11, 8)
    assert bounds.parallelism == 11 / 8
    assert [bounds.bound(workers) for workers in (1, 2, 100)] == [11, 8, 8]
    assert work(Graph("empty"), Table()).parallelism == 1


def test_no_plan_beats_the_bound() -> None:
    for seed in range(500):
        rng = random.Random(seed)
        graph = random_dag(rng, 30)
        random_clusters(graph, rng)
        costs = RandomCosts(seed)
        plan = make_plan(graph)
        makespan = simulate(plan, costs).makespan
        assert makespan >= work(graph, costs).bound(len(plan.workers)) - 1e-9


def test_costs_lie_on_a_grid_and_stay_positive() -> None:
    costs = Table(edge=0.1, tiny=1e-9, third=1 / 3, none=0.0)
    graph = Graph("g", [Value("x")])
    for name in ("tiny", "third", "none"):
        graph.add("Relu", graph.inputs, name)
    assert [costs.op(op) * 1024 for op in graph.ops] == [1, 341, 0]
    assert costs.edge(graph.inputs[0]) * 1024 == 102


@pytest.mark.parametrize(
    ("op", "weight"),
    [
        (op_of("Relu", (8,)), 1),
        (op_of("Reshape", (8,), (1,)), 0),
        (op_of("Identity", (8,)), 0),
        (op_of("Conv", (1, 8, 9, 9), (8, 8, 3, 3)), 12),
        (op_of("Conv", (1, 8, 9, 9), (8, 8, 1, 7)), 16),
        (op_of("MatMul", (8, 8), (8, 8)), 8),
        (op_of("MaxPool", (1, 8, 9, 9)), 4),
        (op_of("NoSuchOp", (8,)), 1),
    ],
)
def test_static_weights(op: Op, weight: float) -> None:
    assert StaticCosts().op(op) == weight
    assert StaticCosts().edge(op.writes[0]) == 1


def test_an_analytic_estimate_is_the_longer_of_arithmetic_and_traffic() -> None:
    costs = AnalyticCosts(gflops=1, gigabytes_per_second=1, overhead=0, fork=0)
    product = op_of("MatMul", (64, 64), (64, 64), result=(64, 64))
    assert costs.op(product) == pytest.approx(2 * 64**3 / 1e3, abs=1e-2)  # µs at 1 flop per ns
    relu = op_of("Relu", (1000,), result=(1000,))
    assert costs.op(relu) == pytest.approx(8000 / 1e3, abs=1e-2)


def test_a_message_is_on_its_way_for_longer_than_it_occupies_its_ends() -> None:
    messages = MessageCosts(
        fixed=10, send=3, receive=2, send_per_byte=0.001, receive_per_byte=0.002, segment=1.5
    )
    value = op_of("Relu", (1000,), result=(1000,)).writes[0]
    for costs in (
        AnalyticCosts(messages=messages),
        MeasuredCosts("torch", {}, messages=messages),
    ):
        assert costs.edge(value) == 10 + 0.003 * 4000
        assert (costs.send(value), costs.receive(value)) == (3 + 4, 2 + 8)
        assert costs.segment() == 1.5


def test_an_analytic_convolution_counts_its_kernel_and_groups() -> None:
    costs = AnalyticCosts(gflops=1, gigabytes_per_second=1e9, overhead=0)
    full = op_of("Conv", (1, 16, 8, 8), (32, 16, 3, 3), result=(1, 32, 8, 8))
    depthwise = op_of("Conv", (1, 32, 8, 8), (32, 1, 3, 3), result=(1, 32, 8, 8), group=32)
    assert costs.op(full) == pytest.approx(2 * 32 * 64 * 16 * 9 / 1e3, rel=1e-3)
    assert costs.op(depthwise) == pytest.approx(2 * 32 * 64 * 9 / 1e3, rel=1e-3)


def test_threads_never_make_an_analytic_estimate_worse() -> None:
    for op in (op_of("Relu", (2,)), op_of("MatMul", (512, 512), (512, 512), result=(512, 512))):
        estimates = [AnalyticCosts().op(op, threads) for threads in (1, 2, 4, 8)]
        assert estimates == sorted(estimates, reverse=True)


def test_unknown_shapes_count_as_one_element() -> None:
    graph = Graph("g", [Value("x", Type(DType.F32, ("N", None))), Value("y")])
    for kind in ("Relu", "Conv", "MatMul", "LSTM", "AveragePool", "ConvTranspose", "QLinearConv"):
        graph.add(kind, [*graph.inputs, *graph.inputs], f"r{kind}")
    for op in graph.ops:
        assert 0 < AnalyticCosts().op(op) < 10
        assert StaticCosts().op(op) > 0


def test_cost_models_are_found_by_name() -> None:
    assert isinstance(parse_costs("static"), StaticCosts)
    assert isinstance(parse_costs("analytic"), AnalyticCosts)
    with pytest.raises(UsageError, match=r"unknown costs 'guess'; there are: analytic, static"):
        parse_costs("guess")
