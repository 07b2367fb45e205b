"""The slow, obvious meaning of a Graph and of a Plan. Everything fast is tested against it.

Ops are evaluated by `onnx.reference`, so that no backend checks itself. Values are numpy arrays,
lists of them for sequences, and None for an empty optional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ramiel_ir.errors import PlanError, UsageError
from ramiel_ir.ir import Graph, Value
from ramiel_ir.onnx_io import evaluate
from ramiel_ir.plan import Compute, Plan, Receive, Send


def interpret(program: Graph | Plan, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs by name. Raises `UsageError` for a missing input.

    A plan of several samples takes and returns lists of one item per sample.
    """
    if isinstance(program, Graph):
        return _graph(program, inputs)
    if program.samples == 1:
        return _plan(program, [inputs])[0]
    samples = [{name: given[i] for name, given in inputs.items()} for i in range(program.samples)]
    results = _plan(program, samples)
    return {name: [result[name] for result in results] for name in results[0]}


def _start(graph: Graph, inputs: Mapping[str, Any]) -> dict[Value, Any]:
    for value in graph.inputs:
        if value.name not in inputs:
            raise UsageError(f"the input {value.name!r} is missing")
    known = {value: inputs[value.name] for value in graph.inputs}
    known.update((value, value.weight.array) for value in graph.weights if value.weight)
    return known


def _graph(graph: Graph, inputs: Mapping[str, Any]) -> dict[str, Any]:
    known = _start(graph, inputs)
    for op in graph.ops:
        known.update(zip(op.writes, evaluate(op, known), strict=True))
    return {value.name: known[value] for value in graph.outputs}


def _plan(plan: Plan, inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    starts = [_start(plan.graph, sample) for sample in inputs]
    memories = [[dict(start) for start in starts] for _ in plan.workers]
    mail: dict[int, Any] = {}
    outputs: list[dict[Value, Any]] = [dict(start) for start in starts]
    for worker, step in plan.walk():
        if isinstance(step, Compute):
            memory = memories[worker][step.sample]
            memory.update(zip(step.op.writes, evaluate(step.op, memory), strict=True))
            outputs[step.sample].update((value, memory[value]) for value in step.op.writes)
        elif isinstance(step, Send):
            message = plan.messages[step.message]
            mail[step.message] = memories[worker][message.sample][message.value]
        elif isinstance(step, Receive):
            message = plan.messages[step.message]
            memories[worker][message.sample][message.value] = mail.pop(step.message)
        else:
            raise PlanError(f"worker {worker} waits for ever")
    names = plan.graph.outputs
    return [{value.name: known[value] for value in names} for known in outputs]
