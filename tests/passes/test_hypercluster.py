"""Hyperclusters: plans of several samples mean what they meant, and nobody waits without need."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given

from ramiel_ir.compare import Reference, check
from ramiel_ir.costs import AnalyticCosts, MessageCosts
from ramiel_ir.driver import make_context, plan_model, read
from ramiel_ir.inputs import random_inputs as draw
from ramiel_ir.interpret import interpret
from ramiel_ir.ir import Graph, Value
from ramiel_ir.pipeline import Context, No
from ramiel_ir.plan import Compute, Plan, Receive, Step, make_plan, simulate
from ramiel_models import build
from ramiel_passes.hypercluster import Hypercluster
from tests.passes.test_laws import random_context, same
from tests.strategies import (
    examples,
    random_clusters,
    random_dag,
    random_graph,
    random_inputs,
    seeds,
)
from tests.test_plan import Table


def hyper(graph: Graph, context: Context, samples: int, *, switched: bool = False) -> Plan:
    """The verified plan of several samples."""
    plan = make_plan(graph, threads=context.threads)
    found = Hypercluster(samples, switched).run(plan, context)
    assert isinstance(found, Plan)
    found.verify()
    return found


def chain(length: int) -> Graph:
    """Each op reads the one before, on the other worker."""
    graph = Graph("chain", [Value("x")], opsets={"": 21})
    value = graph.inputs[0]
    for index in range(length):
        value = graph.add("Neg", [value], f"v{index}")
        graph.ops[-1].cluster = index % 2
    graph.set_outputs([value])
    return graph


def apart(**clusters: int) -> Graph:
    """Ops that only read the input."""
    graph = Graph("apart", [Value("x")], opsets={"": 21})
    for name, cluster in clusters.items():
        graph.add("Neg", graph.inputs, name)
        graph.ops[-1].cluster = cluster
    graph.set_outputs([op.writes[0] for op in graph.ops])
    return graph


@pytest.mark.parametrize("switched", [False, True])
@examples(60)
@given(seeds())
def test_every_sample_gets_its_own_outputs(switched: bool, seed: int) -> None:
    rng = random.Random(seed)
    graph = random_graph(seed)
    if not all(op.pure for op in graph.walk()):
        return
    random_clusters(graph, rng)
    samples = rng.randrange(2, 5)
    plan = hyper(graph, random_context(rng), samples, switched=switched)
    drawn = [random_inputs(graph, seed + index) for index in range(samples)]
    found = interpret(plan, {name: [one[name] for one in drawn] for name in drawn[0]})
    for index, inputs in enumerate(drawn):
        for name, expected in interpret(graph, inputs).items():
            assert same(found[name][index], expected)


@pytest.mark.parametrize("switched", [False, True])
def test_plans_of_any_graph_and_costs_obey_the_laws(switched: bool) -> None:
    for seed in range(300):
        rng = random.Random(seed)
        graph, context = random_dag(rng, 30), random_context(rng)
        random_clusters(graph, rng, partly=True)
        hyper(graph, context, rng.randrange(2, 5), switched=switched)


def test_one_sample_computes_while_another_waits() -> None:
    context = Context(Table(edge=1.0), workers=2)
    graph = chain(20)
    alone = simulate(make_plan(graph), context.costs).makespan
    assert alone == 39  # 20 ops, and 19 messages in between
    both = simulate(hyper(graph, context, 2), context.costs).makespan
    assert both == alone + 1  # the second one ends an op later
    assert simulate(make_plan(graph, samples=2), context.costs).makespan > 1.9 * alone


def test_a_sample_is_left_at_a_receive_only() -> None:
    left = 0
    for seed in range(100):
        rng = random.Random(seed)
        graph, context = random_dag(rng, 30), random_context(rng)
        random_clusters(graph, rng)
        plan = hyper(graph, context, 3)
        for steps in plan.workers:
            begun = {sample_of(plan, steps[0])}
            for before, step in itertools.pairwise(steps):
                sample = sample_of(plan, step)
                if sample in begun and sample != sample_of(plan, before):
                    assert isinstance(step, Receive), f"seed {seed}"
                    left += 1
                begun.add(sample)
    assert left > 100


def sample_of(plan: Plan, step: Step) -> int:
    return step.sample if isinstance(step, Compute) else plan.messages[step.message].sample


def test_switching_evens_out_the_load() -> None:
    context = Context(Table(long=10.0, short=1.0), workers=2)
    graph = apart(long=0, short=1)
    assert simulate(hyper(graph, context, 2), context.costs).makespan == 20
    switched = hyper(graph, context, 2, switched=True)
    assert simulate(switched, context.costs).makespan == 11


def test_switching_gives_a_sequential_plan_workers() -> None:
    context = Context(Table(), workers=2, threads=1)
    plan = Hypercluster(5, switched=True).run(make_plan(chain_of_one(), threads=2), context)
    assert isinstance(plan, Plan)
    plan.verify()
    assert (len(plan.workers), plan.messages, plan.threads) == (2, (), 1)
    samples = [{s.sample for s in steps if isinstance(s, Compute)} for steps in plan.workers]
    assert samples == [{0, 2, 4}, {1, 3}]
    few = Hypercluster(2, switched=True).run(make_plan(chain_of_one()), Context(Table(), workers=9))
    assert isinstance(few, Plan)
    assert len(few.workers) == 2  # no worker without a sample


def chain_of_one() -> Graph:
    graph = chain(3)
    for op in graph.ops:
        op.cluster = 0
    return graph


def test_a_request_hands_over_the_inputs_of_every_sample() -> None:
    graph = random_graph(0)
    costs = AnalyticCosts(messages=MessageCosts(input=10.0))
    one, three = (simulate(make_plan(graph, samples=n), costs).request for n in (1, 3))
    assert three - one == pytest.approx(20 * len(graph.inputs), rel=0.01)


def test_it_declines_with_a_reason() -> None:
    graph, context = chain(3), Context(Table(), workers=2)
    assert isinstance(Hypercluster(1).run(make_plan(graph), context), No)
    assert isinstance(Hypercluster(2).run(make_plan(graph, samples=2), context), No)


@pytest.mark.parametrize("backend", ["torch", "ort"])
@pytest.mark.parametrize("options", ["samples=3", "samples=3,switched=true"])
def test_backends_agree_sample_by_sample(backend: str, options: str) -> None:
    passes = f"fold,dce,cluster,merge{{max-clusters=2}},hypercluster{{{options}}}"
    graph = read(build("squeezenet", image_size=48))
    context = make_context(workers=2, backend=backend)
    done = plan_model(graph, backend=backend, passes=passes, context=context)
    assert (done.plan.samples, len(done.plan.workers)) == (3, 2)
    reference = Reference(graph)
    inputs = [draw(graph, seed=seed) for seed in range(3)]
    expected = [reference.run(sample) for sample in inputs]
    assert check(done, reference, inputs, expected, isolation="thread").agrees
    rotated = [*expected[1:], expected[0]]
    assert not check(done, reference, inputs, rotated, isolation="thread").agrees
