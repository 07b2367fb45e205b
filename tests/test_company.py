"""What workers cost each other: the twins that are measured, and what is made of their traces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ramiel_ir import company
from ramiel_ir.backend import find_backend
from ramiel_ir.company import measure_company, twins
from ramiel_ir.costs import MessageCosts
from ramiel_ir.inputs import random_inputs
from ramiel_ir.interpret import interpret
from ramiel_ir.ir import DType, Graph, Type, Value
from ramiel_ir.laws import verify
from ramiel_ir.measured import MeasuredCosts
from ramiel_ir.plan import make_plan, simulate
from ramiel_ir.trace import Event, Trace

SIZE = 1 << 18
MEGABYTE = Type(DType.F32, (SIZE,))


def chain(ops: int = 20) -> Graph:
    graph = Graph("chain", [Value("x", MEGABYTE)], opsets={"": 21})
    value = graph.inputs[0]
    for index in range(ops):
        value = graph.add("Neg", [value], f"v{index}", MEGABYTE)
        value.op.cluster = 0
    graph.set_outputs([value])
    return graph


def test_twins_compute_the_model_twice_and_read_each_other() -> None:
    graph = chain()
    both = twins(graph)
    verify(both)
    assert not make_plan(both).messages
    company._cross(both)
    verify(both)
    plan = make_plan(both)
    plan.verify()
    assert [message.source for message in plan.messages] == [0, 1, 0]
    inputs = {"x": np.arange(SIZE, dtype=np.float32)}
    expected = interpret(graph, inputs)["v19"]
    found = interpret(plan, inputs)
    assert list(found) == ["v19", "v19.copy"]
    for array in found.values():
        np.testing.assert_array_equal(array, expected)


def row(*events: tuple[str, Any, float]) -> tuple[Event, ...]:
    """Events one after the other: kind, label or number of a message, µs."""
    made, clock = [], 0.0
    for kind, what, micros in events:
        message = what if isinstance(what, int) else None
        made.append(Event(kind, str(what), clock, clock + micros, message))  # type: ignore[arg-type]
        clock += micros
    return tuple(made)


def test_company_and_bytes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ops of 100 µs take 110, 40 more to read a megabyte; a send takes 4 µs and 80 a megabyte."""
    alone = row(*[("compute", f"v{index}", 100.0) for index in range(4)])
    beside = row(
        ("compute", "v0", 110.0),
        ("send", 0, 84.0),
        ("compute", "v1", 110.0),
        ("receive", 1, 500.0),
        ("compute", "v2", 150.0),
        ("send", 2, 84.0),
        ("compute", "v3", 110.0),
    )

    def record(folder: Path, inputs: Mapping[str, Any], *, rounds: int) -> list[Trace]:
        text = (folder / "model.py").read_text()
        return [Trace((beside, ()) if "worker_1" in text else (alone,))] * rounds

    monkeypatch.setattr(company, "record", record)
    given = MessageCosts(fixed=9.0, send=4.0, receive=2.0)
    graph = chain()
    slower, messages = measure_company(find_backend("torch"), graph, random_inputs(graph), given, 3)
    assert slower == pytest.approx(1.1)
    nbytes = 4 * SIZE
    assert nbytes * messages.send_per_byte == pytest.approx(80.0)
    assert nbytes * messages.receive_per_byte == pytest.approx(40.0)
    assert (messages.fixed, messages.send, messages.receive) == (9.0, 4.0, 2.0)


def test_small_values_say_nothing_about_bytes() -> None:
    graph = chain()
    for value in [*graph.inputs, *(op.writes[0] for op in graph.ops)]:
        value.type = Type(DType.F32, (64,))
    given = MessageCosts(send_per_byte=3.0, receive_per_byte=5.0)
    slower, messages = measure_company(find_backend("torch"), graph, random_inputs(graph), given, 3)
    assert messages == given
    assert slower >= 1.0


def test_ops_take_longer_where_there_are_several_workers() -> None:
    costs = MeasuredCosts("torch", {f"v{index}": (100.0, 60.0) for index in range(4)}, company=1.25)
    graph = chain(4)
    assert simulate(make_plan(graph), costs).makespan == 400.0
    assert simulate(make_plan(twins(graph)), costs).makespan == 500.0
