"""Laws of the passes, on random graphs, costs, clusters and pipelines."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from ramiel_ir.costs import AnalyticCosts, Costs, MessageCosts, StaticCosts, distances
from ramiel_ir.interpret import interpret
from ramiel_ir.ir import Graph
from ramiel_ir.laws import difference, verify
from ramiel_ir.parser import parse_graph
from ramiel_ir.pipeline import Context, PassManager, parse_pipeline
from ramiel_ir.plan import best_sequential, make_plan, simulate
from ramiel_ir.printer import print_graph
from ramiel_ir.registry import PASSES
from ramiel_passes.clone import Clone
from ramiel_passes.cluster import Cluster
from ramiel_passes.dce import Dce
from ramiel_passes.fold import Fold
from ramiel_passes.gate import Gate
from ramiel_passes.merge import Merge
from ramiel_passes.refine import Refine
from ramiel_passes.schedule import ListSchedule, Outcome, Schedule
from tests.strategies import (
    RandomCosts,
    examples,
    random_clusters,
    random_dag,
    random_graph,
    random_inputs,
    random_pass,
    random_pipeline,
    seeds,
    spec,
)
from tests.test_plan import Table

_DAGS = 1000
_RANDOM = {"RandomNormalLike"}


def same(left: Any, right: Any) -> bool:
    """Whether two results are equal, in type and shape too; NaN equals NaN."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    left, right = np.asarray(left), np.asarray(right)
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    )


def random_context(rng: random.Random, *, busy: bool = True) -> Context:
    """Static, analytic or random costs, zero costs among them; 1 to 4 workers.

    Messages occupy nobody unless they may be `busy`.
    """
    seed = rng.getrandbits(16)
    idle = MessageCosts(send=0.0, receive=0.0, send_per_byte=0.0, receive_per_byte=0.0)
    costs: Costs = rng.choice(
        (
            StaticCosts(),
            AnalyticCosts() if busy else AnalyticCosts(messages=idle),
            RandomCosts(seed, busy=busy),
            RandomCosts(seed, choices=(0.0,), edges=(0.0, 1.0)),
            RandomCosts(seed, choices=(0.0, 1.0), edges=(0.0,), busy=busy),
        )
    )
    return Context(costs, workers=rng.randrange(1, 5), threads=rng.randrange(1, 4), alone=(4, 1))


def predicted(graph: Graph, context: Context) -> float:
    """The simulated makespan of the graph's clusters."""
    return simulate(make_plan(graph, threads=context.threads), context.costs).makespan


@given(seeds())
@examples(150)
def test_every_pipeline_keeps_the_meaning(seed: int) -> None:
    rng = random.Random(seed)
    graph = random_graph(seed)
    inputs = random_inputs(graph, seed)
    expected = interpret(graph, inputs)
    if rng.random() < 0.4:
        random_clusters(graph, rng, partly=True)
    context = random_context(rng)
    manager = PassManager(random_pipeline(rng), context)
    manager.run(graph)
    plan = make_plan(graph, threads=context.threads)
    plan.verify()
    plan = manager.run_plan(plan)
    if plan.samples != 1:
        inputs = {name: [array] * plan.samples for name, array in inputs.items()}
    found = interpret(plan, inputs)
    if plan.samples != 1:
        found = {name: arrays[-1] for name, arrays in found.items()}
    assert list(found) == list(interpret(graph, random_inputs(graph, seed)))
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert same(found[name], array), f"{name} differs after {spec(list(manager.passes))}"


@given(seeds())
@examples(200)
def test_the_text_restores_the_graph_after_every_pass(seed: int) -> None:
    rng = random.Random(seed)
    graph = random_graph(seed)
    context = random_context(rng)
    before = print_graph(graph)
    for _ in range(4):
        step = random_pass(rng)
        changed = PassManager([step], context).run(graph)
        after = print_graph(graph)
        again = parse_graph(after)
        verify(again)
        assert print_graph(again) == after
        assert difference(again, graph) is None
        assert changed == (after != before), f"{step} says changed={changed}"
        before = after


@given(seeds())
@examples(100)
def test_a_pipeline_prints_back_as_itself(seed: int) -> None:
    steps = random_pipeline(random.Random(seed), length=8)
    text = spec(steps)
    again = parse_pipeline(text, PASSES.find, PASSES.names)
    assert again == steps
    assert spec(again) == text


@given(seeds())
@examples(100)
def test_a_copy_of_a_graph_equals_it_and_shares_no_value(seed: int) -> None:
    graph = random_graph(seed)
    copy = graph.clone()
    verify(copy)
    assert difference(graph, copy) is None
    assert not {*graph.values()} & {*copy.values()}


def test_clusters_are_paths() -> None:
    for seed in range(_DAGS):
        rng = random.Random(seed)
        graph = random_dag(rng, 40)
        Cluster().run(graph, random_context(rng))
        assert all(op.cluster is not None for op in graph.ops)
        for ops in graph.clusters.values():
            for op, following in itertools.pairwise(ops):
                assert following in [user for value in op.writes for user in value.users()], seed


def test_merge_without_a_limit_loses_no_parallelism() -> None:
    merged = 0
    for seed in range(2 * _DAGS):
        rng = random.Random(seed)
        graph = random_dag(rng, 25)
        context = random_context(rng, busy=False)
        Cluster().run(graph, context)
        before = len(graph.clusters)
        Merge().run(graph, context)
        merged += len(graph.clusters) < before
        greatest = max(distances(graph, context.costs, context.threads).values())
        assert predicted(graph, context) <= greatest, f"seed {seed}"
    assert merged > _DAGS  # else the law says nothing


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_merge_keeps_to_its_limit(limit: int) -> None:
    for seed in range(200):
        rng = random.Random(seed)
        graph = random_dag(rng, 60)
        context = random_context(rng)
        Cluster().run(graph, context)
        before = len(graph.clusters)
        Merge(max_clusters=limit).run(graph, context)
        verify(graph)
        assert list(graph.clusters) == list(range(len(graph.clusters)))
        assert len(graph.clusters) <= min(limit, before)


def test_the_quick_schedule_agrees_with_the_simulation() -> None:
    for seed in range(_DAGS):
        rng = random.Random(seed)
        graph = random_dag(rng, 30)
        context = random_context(rng)
        random_clusters(graph, rng)
        home = {op: op.cluster or 0 for op in graph.ops}
        schedule = Schedule(graph, context.costs, context.threads)
        assert schedule.makespan(home) == predicted(graph, context), f"seed {seed}"


def test_the_list_schedule_agrees_with_the_simulation() -> None:
    for seed in range(_DAGS):
        rng = random.Random(seed)
        graph = random_dag(rng, 30)
        context = random_context(rng)
        scheduler = ListSchedule(Schedule(graph, context.costs, context.threads), workers=3)
        homes = [rng.randrange(3) for _ in graph.ops]
        outcome = scheduler.play(homes, [rng.random() for _ in graph.ops])
        for op, worker in zip(graph.ops, outcome.home, strict=True):
            op.cluster = worker
        graph.reorder([graph.ops[index] for index in outcome.order])
        verify(graph)
        assert outcome.makespan == predicted(graph, context), f"seed {seed}"


def test_a_changed_list_schedule_is_the_one_that_is_made_from_the_start() -> None:
    """Whatever it takes over from what it changes; it is given up only if it exceeds the limit."""
    taken_over = given_up = 0
    for seed in range(_DAGS):
        rng = random.Random(seed)
        graph = random_dag(rng, 60)
        context = random_context(rng)
        scheduler = ListSchedule(Schedule(graph, context.costs, context.threads), workers=3)
        homes = [rng.randrange(3) for _ in graph.ops]
        priority = [rng.random() for _ in graph.ops]
        base = scheduler.play(homes, priority)
        for _ in range(5):
            changed = rng.sample(range(len(homes)), min(len(homes), rng.randint(1, 3)))
            for index in changed:
                homes[index], priority[index] = rng.randrange(3), rng.random()
            dear = rng.choice((0.0, 0.25, 4.0))
            whole = scheduler.play(homes, priority)
            price = whole.makespan + dear / 3 * whole.messages
            same = scheduler.replay(base, homes, priority, changed, price + 1e-6, dear)
            assert same is not None
            assert same.order == whole.order and same.end == whole.end, f"seed {seed}"
            assert same.makespan == whole.makespan and same.messages == whole.messages
            assert same.place == whole.place and same.binding == whole.binding
            assert same.critical_chain() == whole.critical_chain()
            least = price - 1e-6
            given_up += scheduler.replay(base, homes, priority, changed, least, dear) is None
            taken_over += len(same.states) > 1 and same.states[1] is base.states[1]
            base = same
    assert given_up == 5 * _DAGS
    assert taken_over > _DAGS


def test_refine_never_raises_the_predicted_makespan() -> None:
    refined = 0
    for seed in range(_DAGS // 10):
        rng = random.Random(seed)
        graph = random_dag(rng, 25)
        context = random_context(rng)
        random_clusters(graph, rng, partly=True)
        before = predicted(graph, context)
        changed = Refine(budget=1000, seed=seed).run(graph, context)
        verify(graph)
        after = predicted(graph, context)
        assert after < before if changed else after == before, f"seed {seed}"
        refined += bool(changed)
    assert refined > _DAGS // 30


def test_refine_starts_once_with_few_numbers_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    crews: list[int] = []
    assign = ListSchedule.assign

    def count(self: ListSchedule, priority: Sequence[float], workers: int) -> list[int]:
        crews.append(workers)
        return assign(self, priority, workers)

    monkeypatch.setattr(ListSchedule, "assign", count)
    graph = random_dag(random.Random(0), 50)
    for cluster, op in enumerate(graph.ops):
        op.cluster = cluster
    Refine(budget=250_000).run(graph, Context(Table(edge=1)))
    assert crews == [2, 3, 4, 5, 6, 7, 8, 16, 32, len(graph.ops)]


def test_refine_stops_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr("ramiel_passes.refine.time.monotonic", lambda: next(clock))
    plays: list[int] = []
    play = ListSchedule.play

    def count(self: ListSchedule, home: Sequence[int], priority: Sequence[float]) -> Outcome:
        plays.append(len(home))
        return play(self, home, priority)

    monkeypatch.setattr(ListSchedule, "play", count)
    monkeypatch.setattr(ListSchedule, "replay", None)  # a change would be tried after the deadline
    graph = random_dag(random.Random(0), 50)
    for cluster, op in enumerate(graph.ops):
        op.cluster = cluster
    Refine(seconds=2).run(graph, Context(Table(edge=1)))
    assert len(plays) == 3  # what is given, and two numbers of workers


def test_refine_searches_whatever_the_number_of_threads() -> None:
    """Ops that take four times as long, on four threads that share them, are the same problem."""
    improved = 0
    for seed in range(20):
        found = []
        for threads in (1, 4):
            rng = random.Random(seed)
            graph = random_dag(rng, 40)
            random_clusters(graph, rng)
            micros = {op.label[1:]: threads * float(rng.randrange(1, 9)) for op in graph.ops}
            context = Context(Table(**micros), threads=threads)
            Refine(budget=0).run(graph, context)
            before = predicted(graph, context)
            Refine(budget=5000).run(graph, context)
            found.append((before, predicted(graph, context)))
        assert found[0] == found[1]
        improved += found[0][1] < found[0][0]
    assert improved


def test_clone_never_raises_the_predicted_makespan() -> None:
    cloned = 0
    for seed in range(_DAGS):
        rng = random.Random(seed)
        graph = random_dag(rng, 20)
        context = random_context(rng)
        way = rng.choice(("paths", "merged", "any", "partly"))
        if way in ("paths", "merged"):
            Cluster().run(graph, context)
        if way == "merged":
            Merge().run(graph, context)
        if way in ("any", "partly"):
            random_clusters(graph, rng, partly=way == "partly")
        before, count = predicted(graph, context), len(graph.ops)
        unread = {op.label for op in graph.ops if not any(value.uses for value in op.writes)}
        growth = rng.choice((0.2, 1.0, 4.0))
        cloned += bool(Clone(growth).run(graph, context))
        verify(graph)
        assert predicted(graph, context) <= before, f"seed {seed}"
        assert len(graph.ops) <= count + int(growth * count)
        for op in graph.ops:
            assert any(value.uses for value in op.writes) or op.label in unread, f"seed {seed}"
    assert cloned > _DAGS // 4


@given(seeds())
@examples(60)
def test_random_ops_are_neither_cloned_nor_folded(seed: int) -> None:
    rng = random.Random(seed)
    graph = random_graph(seed, 25)
    random_ops = [op for op in graph.ops if op.kind in _RANDOM]
    assert not any(op.pure for op in random_ops)
    random_clusters(graph, rng)
    costs = RandomCosts(seed, choices=(0.0,), edges=(100.0,))
    PassManager([Clone(9.0), Fold(), Clone(9.0)], Context(costs)).run(graph)
    assert [op for op in graph.ops if op.kind in _RANDOM] == random_ops


@given(seeds())
@examples(60)
def test_fold_and_dce_leave_only_what_the_outputs_need(seed: int) -> None:
    graph = random_graph(seed, 20, weaken=False)
    PassManager([Fold(), Dce()]).run(graph)
    assert not Dce().run(graph, Context())
    assert not Fold().run(graph, Context())
    for op in graph.ops:
        constant = all(value.weight is not None for value in op.reads)
        sequences = any(value.type and value.type.kind != "tensor" for value in op.writes)
        assert not constant or not op.pure or op.regions or sequences
        assert any(value.uses for value in op.writes)


def test_gate_keeps_clusters_exactly_where_they_are_predicted_to_win() -> None:
    kept = dropped = 0
    for seed in range(_DAGS):
        rng = random.Random(seed)
        graph = random_dag(rng, 30)
        context = random_context(rng)
        PassManager([Cluster(), Merge(rng.choice((2, 3, None)))], context).run(graph)
        if len(graph.clusters) < 2:
            continue
        margin = rng.choice((0.0, 0.03, 0.5))
        plan = make_plan(graph, threads=context.threads)
        parallel = simulate(plan, context.costs).latency
        _, sequential = best_sequential(graph, context.costs, context.alone)
        sequential += context.costs.request(1, graph.inputs)
        changed = Gate(margin).run(graph, context)
        wins = parallel < sequential * (1 - margin)
        assert bool(changed) != wins
        assert (len(graph.clusters) > 1) == wins
        kept, dropped = kept + wins, dropped + (not wins)
    assert min(kept, dropped) > _DAGS // 20
