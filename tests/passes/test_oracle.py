"""The oracle is right: it agrees with trying everything, and no plan beats it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from docs.oracle import optimum
from ramiel_ir.costs import Costs, StaticCosts
from ramiel_ir.ir import Graph, Op
from ramiel_ir.pipeline import Context, PassManager
from ramiel_ir.plan import make_plan, simulate
from tests.strategies import RandomCosts, random_dag


def orders(ops: list[Op], done: frozenset[Op] = frozenset()) -> Iterator[list[Op]]:
    """Every topological order."""
    if len(done) == len(ops):
        yield []
    for op in ops:
        if op not in done and all(value.op is None or value.op in done for value in op.reads):
            for rest in orders(ops, done | {op}):
                yield [op, *rest]


def best_of_all(graph: Graph, costs: Costs, workers: int) -> float:
    """The least simulated makespan over all assignments and orders; the first op's worker is 0."""
    best = float("inf")
    for order in list(orders(list(graph.ops))):
        graph.reorder(order)
        for homes in itertools.product(range(workers), repeat=len(order) - 1):
            for op, home in zip(order, (0, *homes), strict=True):
                op.cluster = home
            best = min(best, simulate(make_plan(graph), costs).makespan)
    return best


def least(graph: Graph, costs: Costs, workers: int) -> float:
    """The least makespan over all assignments and orders when messages occupy nobody.

    Grows the schedule op by op, and gives up a branch once it is no better than the best.
    """
    best = float("inf")
    home: dict[Op, int] = {}
    end: dict[Op, float] = {}

    def grow(free: tuple[float, ...]) -> None:
        nonlocal best
        if len(end) == len(graph.ops):
            best = min(best, max(free))
        for op in graph.ops:
            sources = [value for value in op.reads if value.op is not None]
            if op in end or any(value.op not in end for value in sources):
                continue
            for worker in range(workers):
                begin = free[worker]
                for value in sources:
                    assert value.op is not None
                    away = home[value.op] != worker
                    begin = max(begin, end[value.op] + away * costs.edge(value))
                ends = begin + costs.op(op)
                if ends < best:
                    home[op], end[op] = worker, ends
                    grow((*free[:worker], ends, *free[worker + 1 :]))
                    del home[op], end[op]

    grow((0.0,) * workers)
    return best


@pytest.mark.parametrize("seed", range(10))
def test_the_optimum_is_the_least_of_all_plans(seed: int) -> None:
    graph = random_dag(random.Random(seed), 8)
    for workers in (2, 3):
        assert optimum(graph, StaticCosts(), workers) == (
            least(graph, StaticCosts(), workers),
            True,
        )


def test_busy_messages_and_segments_make_no_plan_faster_than_the_optimum() -> None:
    exact = 0
    for seed in range(12):
        graph = random_dag(random.Random(seed), 5)
        costs = RandomCosts(seed, choices=(1.0, 2.0, 3.5, 10.0), edges=(1.0, 2.5), busy=True)
        found = optimum(graph, costs, 2)
        best = best_of_all(graph, costs, 2)
        assert found.proven and found.makespan <= best, f"seed {seed}"
        assert found.makespan == best or costs.segment() > 0, f"seed {seed}"
        exact += found.makespan == best
    assert exact > 6


def test_refine_is_never_below_the_optimum() -> None:
    for seed in range(10):
        rng = random.Random(seed)
        graph = random_dag(rng, 12)
        costs = RandomCosts(seed, busy=True)
        workers = rng.choice((2, 3))
        passes = f"cluster,merge{{max-clusters={workers}}},refine"
        PassManager.parse(passes, Context(costs, workers=workers)).run(graph)
        makespan = simulate(make_plan(graph), costs).makespan
        assert optimum(graph, costs, workers, known=makespan).makespan <= makespan, f"seed {seed}"
