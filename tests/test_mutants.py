"""`compare` must notice a plan that is wrong: twenty seeded mutants, none of which may survive."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ramiel_ir.compare import Reference, check, compare
from ramiel_ir.costs import StaticCosts
from ramiel_ir.driver import Compilation, make_context, plan_model
from ramiel_ir.inputs import random_inputs
from ramiel_ir.ir import DType, Graph, Tensor, Type, Value
from ramiel_ir.onnx_writer import write_onnx
from ramiel_ir.plan import Compute, Plan, Receive, simulate

PIPELINE = "cluster,merge{max-clusters=2}"
SEEDS = range(20)


def stages(count: int = 3, branches: int = 6, channels: int = 8) -> Graph:
    """Stages of parallel branches of one shape, joined by Concat: any two could be mistaken."""
    rng = np.random.default_rng(0)
    kind = Type(DType.F32, (1, channels, 12, 12))
    joined = Type(DType.F32, (1, branches * channels, 12, 12))
    graph = Graph("stages", [Value("x", joined)], opsets={"": 21})
    value = graph.inputs[0]
    for stage in range(count):
        ends = []
        for branch in range(branches):
            name = f"stage{stage}.branch{branch}"
            scale = np.sqrt(2 / (branches * channels))
            data = rng.normal(0, scale, (channels, branches * channels, 1, 1)).astype(np.float32)
            weight = graph.add_weight(f"{name}.weight", Tensor.of(data))
            conv = graph.add("Conv", [value, weight], f"{name}.conv", kind)
            ends.append(graph.add("Relu", [conv], f"{name}.relu", kind))
        value = graph.add("Concat", ends, f"stage{stage}.join", joined, axis=1)
        value = graph.add("Sin", [value], f"stage{stage}.sin", joined)
        value = graph.add("Softsign", [value], f"stage{stage}.softsign", joined)
    graph.set_outputs([value])
    return graph


@pytest.fixture(scope="module")
def model() -> tuple[Graph, Reference, dict[str, Any], dict[str, Any]]:
    graph = stages()
    inputs = random_inputs(graph)
    reference = Reference(graph)
    return graph, reference, inputs, reference.run(inputs)


def swap_receives(plan: Plan, rng: random.Random) -> Plan | None:
    """Two values that one worker receives change places for all who read them there."""
    pairs = []
    for worker, steps in enumerate(plan.workers):
        arrival = {
            plan.messages[step.message].value: index
            for index, step in enumerate(steps)
            if isinstance(step, Receive)
        }
        first_read = {
            value: min(
                index
                for index, step in enumerate(steps)
                if isinstance(step, Compute) and value in step.op.reads
            )
            for value in arrival
        }
        pairs += [
            (worker, a, b)
            for a, b in itertools.combinations(arrival, 2)
            if a.type == b.type and max(arrival[a], arrival[b]) < min(first_read[a], first_read[b])
        ]
    if not pairs:
        return None
    worker, first, second = rng.choice(pairs)
    marker = Value("marker", first.type)
    readers = [step.op for step in plan.workers[worker] if isinstance(step, Compute)]
    for old, new in ((first, marker), (second, first), (marker, second)):
        for op in readers:
            op.replace_reads(old, new)
    return plan


def drop_op(plan: Plan, rng: random.Random) -> Plan | None:
    """An op that keeps its operand's type is left out; its readers read its operand."""
    sent = {message.value for message in plan.messages}
    ops = [
        op
        for op in plan.graph.ops
        if (source := op.operand(0)) is not None
        and source.op is not None
        and op.writes[0].type == source.type
        and not op.writes[0].is_output
        and not {source, op.writes[0]} & sent
    ]
    if not ops:
        return None
    op = rng.choice(ops)
    source = op.reads[0]
    op.writes[0].replace_all_uses(source)
    workers = tuple(
        tuple(step for step in steps if not (isinstance(step, Compute) and step.op is op))
        for steps in plan.workers
    )
    plan.graph.erase(op)
    return replace(plan, workers=workers)


def exchange_weights(plan: Plan, rng: random.Random) -> Plan | None:
    """Two weights of one type change places."""
    weights = [value for value in plan.graph.weights if value.type and (value.type.count or 0) > 8]
    pairs = [(a, b) for i, a in enumerate(weights) for b in weights[i + 1 :] if a.type == b.type]
    if not pairs:
        return None
    first, second = rng.choice(pairs)
    first.weight, second.weight = second.weight, first.weight
    return plan


MUTATIONS = (swap_receives, drop_op, exchange_weights)


def mutant(done: Compilation, seed: int) -> tuple[str, Compilation]:
    """The compilation with one thing wrong in its plan."""
    mutation = MUTATIONS[seed % len(MUTATIONS)]
    plan = mutation(done.plan, random.Random(seed))
    assert plan is not None, f"{mutation.__name__} does not apply"
    timeline = simulate(plan, done.context.costs)
    return mutation.__name__, replace(done, plan=plan, timeline=timeline)


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_compare_notices_every_mutant(backend, model):
    graph, reference, inputs, expected = model
    seen: list[str] = []
    for seed in SEEDS:
        context = make_context(workers=2, backend=backend, costs=StaticCosts())
        done = plan_model(graph, backend=backend, passes=PIPELINE, context=context)
        assert len(done.plan.workers) == 2
        name, wrong = mutant(done, seed)
        seen.append(name)
        comparison = check(wrong, reference, [inputs], [expected], isolation="thread")
        assert not comparison.agrees, f"mutant {seed} ({name}) survived"
        assert comparison.first
    assert {"drop_op", "exchange_weights", "swap_receives"} == set(seen)


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_the_plan_without_a_mutation_agrees(backend, model):
    graph, reference, inputs, expected = model
    context = make_context(workers=2, backend=backend, costs=StaticCosts())
    done = plan_model(graph, backend=backend, passes=PIPELINE, context=context)
    assert check(done, reference, [inputs], [expected], isolation="thread").agrees


def test_the_first_op_that_differs_is_named(model):
    graph, reference, inputs, expected = model
    context = make_context(workers=2, backend="torch")
    done = plan_model(graph, backend="torch", passes="sequential", context=context)
    named = {value.name: value for value in done.plan.graph.weights}
    first, second = (named[f"stage1.branch{branch}.weight"] for branch in (1, 2))
    first.weight, second.weight = second.weight, first.weight
    comparison = check(done, reference, [inputs], [expected], isolation="thread")
    assert not comparison.agrees
    assert comparison.first.startswith("%stage1.branch1.conv = Conv (max |a − b| is ")


def test_what_was_misread_is_noticed_where_the_model_is_a_file(model, tmp_path):
    """The reference does not go through our reader."""
    graph, file = model[0].clone(), tmp_path / "model.onnx"
    write_onnx(graph, file)
    next(op for op in graph.ops if op.kind == "Relu").kind = "Neg"
    for source, known, agrees in ((file, None, True), (graph, None, True), (graph, file, False)):
        (found,) = compare(source, file=known, backends=["ort"], passes=PIPELINE)
        assert found.agrees is agrees
