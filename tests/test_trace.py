"""What a trace of an artifact tells: every step of the plan, in order, on one clock."""

from __future__ import annotations

import itertools

import pytest

from ramiel_ir.artifact import write_artifact
from ramiel_ir.backend import find_backend
from ramiel_ir.costs import AnalyticCosts
from ramiel_ir.inputs import random_inputs
from ramiel_ir.plan import make_plan, simulate
from ramiel_ir.trace import chrome_trace, predicted, record, typical
from tests.test_measuring import branches


def two_workers():
    graph = branches()
    for op in graph.ops:
        op.cluster = int(op.label.startswith("%right"))
    return make_plan(graph)


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_a_recorded_trace_has_the_steps_of_the_plan(backend, tmp_path):
    plan = two_workers()
    timeline = simulate(plan, AnalyticCosts())
    folder = write_artifact(plan, timeline, find_backend(backend), tmp_path / "out")
    before = {path: path.read_bytes() for path in folder.rglob("*.py")}
    traces = record(folder, random_inputs(plan.graph), rounds=5)
    assert {path: path.read_bytes() for path in folder.rglob("*.py")} == before
    assert len(traces) == 5
    expected = predicted(plan, timeline)
    for trace in traces:
        for row, steps in zip(trace.rows, expected.rows, strict=True):
            messages = [(e.kind, e.message) for e in row if e.message is not None]
            assert messages == [(e.kind, e.message) for e in steps if e.message is not None]
            assert any(event.kind == "compute" for event in row)
            assert all(e.start <= e.end for e in row)
            assert all(e.end == f.start for e, f in itertools.pairwise(row))
        sent = next(e for e in trace.rows[1] if e.kind == "send")
        received = next(e for e in trace.rows[0] if e.kind == "receive")
        assert sent.start < received.end
    assert (
        min(t.makespan for t in traces)
        <= typical(traces).makespan
        <= max(t.makespan for t in traces)
    )


def test_a_chrome_trace_has_a_row_per_worker_and_an_arrow_per_message():
    plan = two_workers()
    trace = predicted(plan, simulate(plan, AnalyticCosts()))
    events = chrome_trace({"predicted": trace, "again": trace})["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    assert {(e["pid"], e["tid"]) for e in slices} == {(1, 0), (1, 1), (2, 0), (2, 1)}
    assert len(slices) == 2 * sum(map(len, plan.workers))
    starts, ends = ({e["id"]: e for e in events if e["ph"] == phase} for phase in "sf")
    assert len(starts) == 2 * len(plan.messages) and starts.keys() == ends.keys()
    for key, start in starts.items():
        assert start["ts"] <= ends[key]["ts"] and start["pid"] == ends[key]["pid"]
