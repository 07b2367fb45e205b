"""What workers cost each other in a model: ops take longer, and messages have to be copied."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ramiel_ir.artifact import write_artifact
from ramiel_ir.backend import Backend
from ramiel_ir.costs import AnalyticCosts, MessageCosts, value_bytes
from ramiel_ir.derived import COPY
from ramiel_ir.ir import Graph, Names, Value, clone_op
from ramiel_ir.plan import Plan, make_plan, simulate
from ramiel_ir.trace import Trace, record

_TURNS = 2
_APART = 8
"""Ops at least from one that reads what the other worker makes to the next."""
_LEAST_BYTES = 1 << 14
"""Of such a value: what smaller ones cost lies in their number."""
_LEAST_TOTAL = 1 << 19
"""Bytes of all of them, below which their µs per byte are noise."""


def twins(graph: Graph) -> Graph:
    """The graph beside a copy of it, one on worker 0 and the other on worker 1, op by op."""
    both = graph.clone()
    names, copies = Names(both), dict[Value, Value]()
    originals = list(both.ops)
    made = [both.append(clone_op(op, copies)) for op in originals]
    for value in (value for op in made for value in op.writes):
        value.name = names.fresh(f"{value.name}{COPY}")
    for number, ops in enumerate((originals, made)):
        for op in ops:
            op.cluster = number
    both.reorder([op for pair in zip(originals, made, strict=True) for op in pair])
    both.set_outputs([*both.outputs, *(copies.get(value, value) for value in both.outputs)])
    return both


def measure_company(
    backend: Backend,
    graph: Graph,
    inputs: Mapping[str, Any],
    messages: MessageCosts,
    rounds: int,
) -> tuple[float, MessageCosts]:
    """What the ops of a graph of one cluster take beside a worker that computes, over what alone.

    And `messages` with the µs per byte that they take in this model. It is computed twice, side by
    side, by workers of which each reads some values of the other one's making. Where the values are
    few or small, or ops have no statements of their own, the µs per byte are as they were given.
    """
    both = twins(graph)
    _cross(both)
    plans = [make_plan(graph, threads=1), make_plan(both, threads=1)]
    traces: list[list[Trace]] = [[], []]
    with tempfile.TemporaryDirectory() as scratch:
        folders = []
        for number, plan in enumerate(plans):
            plan.verify()
            timeline = simulate(plan, AnalyticCosts())
            folder = Path(scratch) / str(number)
            folders.append(write_artifact(plan, timeline, backend, folder))
        for _ in range(_TURNS):
            for found, folder in zip(traces, folders, strict=True):
                found += record(folder, inputs, rounds=rounds)
    alone, beside = (_typical(found) for found in traces)
    return _compare(alone, beside, plans[1], messages)


def _cross(both: Graph) -> None:
    """Let some ops of each twin read what the other one's ops make."""
    pairs = list(zip(both.ops[::2], both.ops[1::2], strict=True))
    last, crossings = -_APART, 0
    for index, (first, second) in enumerate(pairs):
        if index - last < _APART or first.regions:
            continue
        for mine, others in zip(first.reads, second.reads, strict=True):
            if mine.op is not None and value_bytes(mine.type) >= _LEAST_BYTES:
                if crossings % 2:
                    first.replace_reads(mine, others)
                else:
                    second.replace_reads(others, mine)
                last, crossings = index, crossings + 1
                break


class _Typical(NamedTuple):
    """The first quartile of µs on worker 0, by what it did: others may use the machine as well."""

    computed: dict[str, float]
    sent: dict[int, float]
    readers: dict[str, int]
    """The message that was received just before."""


def _typical(traces: Sequence[Trace]) -> _Typical:
    """Of several traces of one artifact."""
    seen: defaultdict[str | int, list[float]] = defaultdict(list)
    readers: dict[str, int] = {}
    for trace in traces:
        received: int | None = None
        times: defaultdict[str | int, float] = defaultdict(float)
        for event in trace.rows[0]:
            if event.kind == "receive":
                received = event.message
            elif event.kind == "compute":
                times[event.label] += event.duration
                if received is not None:
                    readers[event.label], received = received, None
            elif event.kind == "send" and event.message is not None:
                times[event.message] += event.duration
        for key, micros in times.items():
            seen[key].append(micros)
    found = {key: float(np.percentile(micros, 25)) for key, micros in seen.items()}
    return _Typical(
        {key: micros for key, micros in found.items() if isinstance(key, str)},
        {key: micros for key, micros in found.items() if isinstance(key, int)},
        readers,
    )


def _compare(
    alone: _Typical, beside: _Typical, plan: Plan, messages: MessageCosts
) -> tuple[float, MessageCosts]:
    """What ops take beside another worker over what they take alone, and µs per byte of messages.

    An op that reads a message takes longer by what receiving costs: it waits for memory that the
    other core's caches hold.
    """
    both = alone.computed.keys() & beside.computed.keys()
    others = both - beside.readers.keys()
    before = sum(alone.computed[label] for label in others)
    company = sum(beside.computed[label] for label in others) / before if before else 1.0
    company = max(1.0, company)

    def nbytes(number: int) -> float:
        return value_bytes(plan.messages[number].value.type)

    sent = sum(map(nbytes, beside.sent))
    if sent >= _LEAST_TOTAL:
        micros = sum(beside.sent.values()) - len(beside.sent) * messages.send
        messages = replace(messages, send_per_byte=max(0.0, micros / sent))
    readers = {label: number for label, number in beside.readers.items() if label in both}
    read = sum(map(nbytes, readers.values()))
    if read >= _LEAST_TOTAL:
        micros = sum(beside.computed[label] - company * alone.computed[label] for label in readers)
        messages = replace(messages, receive_per_byte=max(0.0, micros / read))
    return company, messages
