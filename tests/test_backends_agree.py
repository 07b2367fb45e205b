"""Fifty random graphs under random pipelines, through real workers of both backends at once."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ramiel_ir.artifact import load, write_artifact
from ramiel_ir.backend import find_backend
from ramiel_ir.compare import deviation
from ramiel_ir.costs import AnalyticCosts
from ramiel_ir.interpret import interpret
from ramiel_ir.ir import DType, Graph, Type, Value, clone_op
from ramiel_ir.laws import verify
from ramiel_ir.pipeline import Context, PassManager
from ramiel_ir.plan import make_plan, simulate
from tests.strategies import random_graph, random_inputs, random_pipeline

COUNT = 50
WORKERS = 3


def pure_graphs() -> list[tuple[Graph, dict[str, Any], dict[str, Any]]]:
    """Graphs without random ops, optimized, with inputs and what the unoptimized graph returns."""
    found = []
    seed = 0
    while len(found) < COUNT:
        seed += 1
        graph = random_graph(seed)
        if not all(op.pure for op in graph.walk()):
            continue
        inputs = random_inputs(graph, seed)
        expected = interpret(graph, inputs)
        rng = random.Random(seed)
        PassManager(random_pipeline(rng), Context(workers=WORKERS)).run(graph)
        for op in graph.ops:
            op.cluster = (op.cluster if op.cluster is not None else rng.randrange(9)) % WORKERS
        found.append((graph, inputs, expected))
    return found


def union(graphs: list[Graph]) -> Graph:
    """One graph that does what all of them do; names get their graph's number in front."""
    whole = Graph("union", opsets=graphs[0].opsets)
    outputs: list[Value] = []
    for number, graph in enumerate(graphs):
        copies: dict[Value, Value] = {}
        for value in graph.inputs:
            copies[value] = whole.add_input(Value(f"{number}.{value.name}", value.type))
        for value in graph.weights:
            assert value.weight is not None
            copies[value] = whole.add_weight(f"{number}.{value.name}", value.weight)
        for op in graph.ops:
            whole.append(clone_op(op, copies))
        for value in graph.values():
            if value in copies:
                copies[value].name = f"{number}.{value.name}"
        outputs += [copies[value] for value in graph.outputs]
    whole.set_outputs(outputs)
    verify(whole)
    return whole


@pytest.fixture(scope="module")
def everything() -> tuple[Graph, dict[str, Any], dict[str, Any]]:
    made = pure_graphs()
    inputs = {f"{n}.{name}": x for n, (_, given, _) in enumerate(made) for name, x in given.items()}
    expected = {f"{n}.{name}": x for n, (_, _, out) in enumerate(made) for name, x in out.items()}
    return union([graph for graph, _, _ in made]), inputs, expected


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_fifty_random_graphs_on_real_worker_processes(backend, everything, tmp_path):
    graph, inputs, expected = everything
    emitter = find_backend(backend)
    prepared = emitter.prepare(graph.clone(), Context(workers=1, backend=backend))
    emitter.check(prepared)
    plan = make_plan(prepared)
    plan.verify()
    assert len(plan.workers) == WORKERS and len(plan.messages) > COUNT
    folder = write_artifact(plan, simulate(plan, AnalyticCosts()), emitter, tmp_path / "out")
    with load(folder, isolation="process") as model:
        for _ in range(2):
            outputs = model.run(inputs, timeout=60.0)
            assert list(outputs) == list(dict.fromkeys(expected))
            for name, reference in expected.items():
                seen = deviation(reference, outputs[name])
                assert seen.agrees, f"{name}: {seen.reason}"


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_a_worker_may_have_nothing_to_do(backend, tmp_path):
    graph = Graph("g", [Value("x", Type(DType.F32, (2,)))], opsets={"": 21})
    graph.set_outputs([graph.add("Neg", graph.inputs, "y", Type(DType.F32, (2,)))])
    plan = make_plan(graph)
    plan = replace(plan, workers=(*plan.workers, ()))
    plan.verify()
    timeline = simulate(plan, AnalyticCosts())
    folder = write_artifact(plan, timeline, find_backend(backend), tmp_path / "out")
    with load(folder) as model:
        y = model.run({"x": np.array([1, -2], np.float32)}, timeout=60.0)["y"]
    assert y.tolist() == [-1, 2]
