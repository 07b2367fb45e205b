"""The slow, obvious meaning of a Graph and of a Plan. Everything fast is tested against it.

Ops are evaluated by `onnx.reference`, so that no backend checks itself; those with regions here, op
by op of the regions. Values are numpy arrays, lists of them for sequences, and None for an empty
optional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ramiel_ir.errors import PlanError, UnsupportedOpError, UsageError
from ramiel_ir.ir import Array, DType, Graph, Op, Value
from ramiel_ir.onnx_reference import evaluate
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
        known.update(zip(op.writes, _op(op, known), strict=True))
    return {value.name: known[value] for value in graph.outputs}


def _plan(plan: Plan, inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    starts = [_start(plan.graph, sample) for sample in inputs]
    memories = [[dict(start) for start in starts] for _ in plan.workers]
    mail: dict[int, Any] = {}
    outputs: list[dict[Value, Any]] = [dict(start) for start in starts]
    for worker, step in plan.walk():
        if isinstance(step, Compute):
            memory = memories[worker][step.sample]
            memory.update(zip(step.op.writes, _op(step.op, memory), strict=True))
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


def _op(op: Op, known: Mapping[Value, Any]) -> list[Any]:
    """The results of one op from the values it reads, absent ones left out."""
    if op.domain or op.kind not in _REGION_OPS:
        return evaluate(op, known)
    found = _REGION_OPS[op.kind](op, known)
    return [item for item, value in zip(found, op.results, strict=True) if value is not None]


def _region(region: Graph, known: Mapping[Value, Any], given: Sequence[Any] = ()) -> list[Any]:
    """The outputs of a region for these inputs; it may read whatever is known outside."""
    inside = {**known, **dict(zip(region.inputs, given, strict=True))}
    inside.update((value, value.weight.array) for value in region.weights if value.weight)
    for op in region.ops:
        inside.update(zip(op.writes, _op(op, inside), strict=True))
    return [inside[value] for value in region.outputs]


def _if(op: Op, known: Mapping[Value, Any]) -> list[Any]:
    (condition,) = (known[value] for value in op.operands if value is not None)
    return _region(op.regions["then_branch" if bool(condition) else "else_branch"], known)


def _loop(op: Op, known: Mapping[Value, Any]) -> list[Any]:
    body = op.regions["body"]
    limit, go_on, *carried = (None if value is None else known[value] for value in op.operands)
    go_on = True if go_on is None else go_on
    rows: list[list[Any]] = []
    turn = 0
    while (limit is None or turn < int(limit)) and bool(go_on):
        given = [np.asarray(turn, np.int64), np.asarray(go_on, bool), *carried]
        go_on, *found = _region(body, known, given)
        carried, row = found[: len(carried)], found[len(carried) :]
        rows.append(row)
        turn += 1
    slices = body.outputs[1 + len(carried) :]
    return [*carried, *(_stack(value, [row[i] for row in rows]) for i, value in enumerate(slices))]


def _scan(op: Op, known: Mapping[Value, Any]) -> list[Any]:
    body, count = op.regions["body"], op.attribute("num_scan_inputs")
    given: list[Any] = [None if value is None else known[value] for value in op.operands]
    if op.graph is not None and op.graph.opsets.get("", 1) < 9:
        return _batched_scan(op, known, given)
    states, scanned = given[: len(given) - count], given[len(given) - count :]
    sides = len(body.outputs) - len(states)
    axes = op.attribute("scan_input_axes", (0,) * count)
    backward = op.attribute("scan_input_directions", (0,) * count)
    parts = [
        np.moveaxis(x, axis, 0)[:: -1 if back else 1]
        for x, axis, back in zip(scanned, axes, backward, strict=True)
    ]
    states, slices = _scanned(body, known, states, parts)
    axes = op.attribute("scan_output_axes", (0,) * sides)
    backward = op.attribute("scan_output_directions", (0,) * sides)
    return states + [
        np.moveaxis(x[:: -1 if back else 1], 0, axis)
        for x, axis, back in zip(slices, axes, backward, strict=True)
    ]


def _batched_scan(op: Op, known: Mapping[Value, Any], given: Sequence[Any]) -> list[Any]:
    """Scan of opset 8: a batch axis comes first everywhere, and each batch is scanned by itself."""
    lengths, *values = given
    count = op.attribute("num_scan_inputs")
    if lengths is not None:
        raise UnsupportedOpError(f"{op}: sequences of different lengths are not supported")
    backward = (0,) * (len(values) - count) + op.attribute("directions", (0,) * count)
    found = []
    for batch in range(len(values[0])):
        rows = [
            x[batch][::-1] if back else x[batch] for x, back in zip(values, backward, strict=True)
        ]
        states, slices = _scanned(
            op.regions["body"], known, rows[: len(rows) - count], rows[len(rows) - count :]
        )
        found.append(states + slices)
    return [np.stack(rows) for rows in zip(*found, strict=True)]


def _scanned(
    body: Graph, known: Mapping[Value, Any], states: list[Any], parts: Sequence[Array]
) -> tuple[list[Any], list[Any]]:
    """The last states, and what the body returned for each slice of `parts`, stacked."""
    count = len(states)
    rows: list[list[Any]] = []
    for slices in zip(*parts, strict=True):
        found = _region(body, known, [*states, *map(np.asarray, slices)])
        states, row = found[:count], found[count:]
        rows.append(row)
    values = body.outputs[count:]
    return states, [_stack(v, [row[i] for row in rows]) for i, v in enumerate(values)]


def _sequence_map(op: Op, known: Mapping[Value, Any]) -> list[Any]:
    body = op.regions["body"]
    sequence, *others = (known[value] for value in op.operands if value is not None)
    rows = [
        _region(body, known, [item, *(x[i] if isinstance(x, list) else x for x in others)])
        for i, item in enumerate(sequence)
    ]
    return [[row[i] for row in rows] for i in range(len(body.outputs))]


def _stack(value: Value, items: Sequence[Any]) -> Array:
    """What a region returned as `value` each time, along a new first axis."""
    if items:
        return np.stack(items)
    type = value.type
    known = type is not None and isinstance(type.element, DType)
    dims = (dim if isinstance(dim, int) else 0 for dim in (type and type.shape) or ())
    return np.empty((0, *dims), type.element.numpy if known else np.float32)  # type: ignore[union-attr]


_REGION_OPS = {"If": _if, "Loop": _loop, "Scan": _scan, "SequenceMap": _sequence_map}
