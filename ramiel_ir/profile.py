"""Measures costs: µs per op, per message and per byte, on this machine with one backend."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ramiel_ir.backend import Backend, find_backend
from ramiel_ir.calibrate import profile_in_turns
from ramiel_ir.company import measure_company
from ramiel_ir.costs import AnalyticCosts, MessageCosts
from ramiel_ir.driver import SIMPLIFY, make_context, read
from ramiel_ir.errors import RamielError
from ramiel_ir.inputs import cannot_run, example_inputs
from ramiel_ir.ir import Graph
from ramiel_ir.machine import describe_machine, usable_cores
from ramiel_ir.measured import MeasuredCosts
from ramiel_ir.messages import measure_messages
from ramiel_ir.pipeline import PassManager


def profile(
    source: Any,
    *,
    backend: str,
    inputs: Mapping[str, Any] | None = None,
    seed: int = 0,
    rounds: int = 20,
    messages: MessageCosts | None = None,
    **reading: Any,
) -> MeasuredCosts:
    """Measure a model on this machine: ops in sequence on 1 and on all threads, and messages.

    Ops are measured beside another worker as well, and so are the parts into which `divide` would
    have them divided.

    Where `messages` were measured before, they may be given. What depends on the model is measured
    each time: what a segment takes beside its ops, and messages for each byte.
    """
    emitter = find_backend(backend)
    context = make_context(workers=2, backend=backend)
    original = read(source, **reading)
    given = example_inputs(original, inputs, seed=seed)
    graph = emitter.prepare(original, context)
    emitter.check(graph)
    PassManager.parse(f"{SIMPLIFY},sequential", context).run(graph)
    cores = usable_cores()
    try:
        alone, together = profile_in_turns(emitter, graph, given, (1, cores), rounds)
        segment = emitter.segment(graph, given, rounds)
        messages = messages or measure_messages(emitter, rounds)
        messages = replace(messages, segment=segment or messages.segment)
        company = 1.0
        if cores > 1:
            company, messages = measure_company(emitter, graph, given, messages, rounds)
            # Threads that wait for each other may have been slow for as long as all turns took.
            (later,) = profile_in_turns(emitter, graph, given, (cores,), rounds)
            together = min(together, later, key=lambda micros: sum(micros.values()))
    except RamielError:
        raise
    except Exception as error:  # of whatever class the backend's library has for it
        raise cannot_run(f"the {backend} backend", error) from error
    ops = {name: (micros, together.get(name, micros)) for name, micros in alone.items()}
    analytic = AnalyticCosts()
    ratios = [
        ops[label][0] / analytic.op(op)
        for op in graph.ops
        if (label := op.label.removeprefix("%")) in ops and analytic.op(op) > 0
    ]
    scale = statistics.median(ratios) if ratios else 1.0
    machine = describe_machine()
    costs = MeasuredCosts(backend, ops, cores, scale, machine, company=company, messages=messages)
    return _with_parts(costs, emitter, graph, given, rounds)


def _with_parts(
    costs: MeasuredCosts,
    emitter: Backend,
    graph: Graph,
    inputs: Mapping[str, Any],
    rounds: int,
) -> MeasuredCosts:
    """The costs with those of the parts into which these costs have ops divided."""
    divided = graph.clone()
    context = make_context(workers=2, threads=1, costs=costs, backend=emitter.name)
    if not PassManager.parse("divide", context).run(divided):
        return costs
    for op in divided.ops:
        op.cluster = 0
    (alone,) = profile_in_turns(emitter, divided, inputs, (1,), rounds)
    parts = {name: (micros, micros) for name, micros in alone.items() if name not in costs.ops}
    return replace(costs, ops={**costs.ops, **parts})
