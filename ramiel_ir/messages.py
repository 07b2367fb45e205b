"""Measures what messages, segments and requests cost on this machine with one backend."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ramiel_ir.artifact import load, write_artifact
from ramiel_ir.backend import Backend
from ramiel_ir.costs import AnalyticCosts, MessageCosts
from ramiel_ir.inputs import random_inputs
from ramiel_ir.ir import DType, Graph, Tensor, Type, Value
from ramiel_ir.machine import rounds_of
from ramiel_ir.pipeline import Context
from ramiel_ir.plan import make_plan, simulate
from ramiel_ir.trace import Trace, record

CHANNELS = 64
"""Of the images that are convolved to measure."""
_PATCH = 14
_HOPS, _FAN = 32, 64
_SIZES = (1 << 8, 1 << 15)  # floats per message


def measure_messages(backend: Backend, rounds: int) -> MessageCosts:
    """Measure messages of two sizes between two workers, in traces of two small graphs."""
    small, large = (_measure_size(backend, count, rounds) for count in _SIZES)
    difference = 4 * (_SIZES[1] - _SIZES[0])

    def per_byte(key: str) -> float:
        return max(0.0, (large[key] - small[key]) / difference)

    return MessageCosts(
        fixed=small["edge"],
        send=small["send"],
        receive=small["receive"],
        send_per_byte=per_byte("send"),
        receive_per_byte=per_byte("receive"),
        input_per_byte=per_byte("send"),
        segment=backend.segment(*_convolutions(backend), rounds),
        **_measure_requests(backend, rounds),
    )


def _convolutions(backend: Backend) -> tuple[Graph, dict[str, Any]]:
    """A chain of convolutions as the backend would have it, and its inputs."""
    patch = image(_PATCH)
    graph = Graph("convolutions", [Value("x", patch)], opsets={"": 21})
    value = graph.inputs[0]
    weight = graph.add_weight("weight", kernels(np.random.default_rng(0)))
    for index in range(_HOPS):
        value = graph.add("Conv", [value, weight], f"v{index}", patch, pads=[1, 1, 1, 1])
    graph.set_outputs([value])
    context = Context(workers=2, threads=1, backend=backend.name)
    return backend.prepare(graph, context), random_inputs(graph)


def _measure_requests(backend: Backend, rounds: int) -> dict[str, float]:
    """Median µs of a request beside what its workers do: of one worker, of two, and per input.

    Two may take less than one, whose caller waits on a core that falls asleep.
    """
    few, shared, many = (
        _latency(backend, _taking(inputs, workers), rounds)
        for inputs, workers in ((1, 1), (1, 2), (_FAN, 1))
    )
    ops = _FAN * _kernel(backend, _SIZES[0], rounds)
    per_input = max(0.0, (many - few) / (_FAN - 1))
    return {
        "request": max(0.0, few - ops - per_input),
        "wake": shared - few + ops / 2,
        "input": per_input,
    }


def _taking(inputs: int, workers: int) -> Graph:
    """The same small ops whatever the number of inputs that they read."""
    type = Type(DType.F32, (_SIZES[0],))
    given = [Value(f"x{index}", type) for index in range(inputs)]
    graph = Graph("taking", given, opsets={"": 21})
    for index in range(_FAN):
        graph.add("Neg", [given[index % inputs]], f"y{index}", type)
        graph.ops[-1].cluster = index % workers
    graph.set_outputs([op.writes[0] for op in graph.ops[-workers:]])
    return graph


def _latency(backend: Backend, graph: Graph, rounds: int) -> float:
    """Median µs that a caller waits for the clusters as they are."""
    inputs = random_inputs(graph)
    seconds = []
    with _emitted(backend, graph) as folder, load(folder) as model:
        for _ in rounds_of(5 * rounds):
            start = time.perf_counter()
            model.run(inputs)
            seconds.append(time.perf_counter() - start)
    return 1e6 * statistics.median(seconds[len(seconds) // 4 :])


def _measure_size(backend: Backend, count: int, rounds: int) -> dict[str, float]:
    """Typical µs of messages of so many floats, by what they are spent on.

    Two graphs: a chain that changes worker at every op shows how long a message is on its way. A
    fan of values that one worker makes while the other is busy shows what receiving costs when the
    message is there: the receive, and what the op after it loses since its operand lies in the
    cache of another core.
    """
    chain, fan = (_record(backend, graph, rounds) for graph in (_chain(count), _fan(count)))

    def typical(traces: list[Trace], worker: int, kind: str, label: str = "") -> float:
        rows = (trace.rows[worker] for trace in traces)
        events = (event for row in rows for event in row)
        return _quartile(e.duration for e in events if e.kind == kind and label in e.label)

    op = typical(chain, 0, "compute")
    hop = _quartile(trace.makespan / (_HOPS + 1) for trace in chain)
    colder = typical(fan, 1, "compute", "read") - typical(fan, 0, "compute", "made")
    send = typical(fan, 0, "send")
    receive = typical(fan, 1, "receive") + max(0.0, colder)
    return {
        "edge": send + max(receive, hop - op - typical(chain, 0, "send")),
        "send": send,
        "receive": receive,
    }


def _quartile(micros: Iterable[float]) -> float:
    """The first quartile: whoever shares the machine's memory makes some messages much dearer."""
    return float(np.percentile(list(micros), 25))


def _chain(count: int) -> Graph:
    type = Type(DType.F32, (count,))
    graph = Graph("chain", [Value("x", type)], opsets={"": 21})
    value = graph.inputs[0]
    for index in range(_HOPS + 1):
        value = graph.add("Neg", [value], f"v{index}", type)
        graph.ops[-1].cluster = index % 2
    graph.set_outputs([value])
    return graph


def _fan(count: int) -> Graph:
    """Convolutions on both workers between messages: caches are as cold as in a model."""
    type, patch = Type(DType.F32, (count,)), image(_PATCH)
    graph = Graph("fan", [Value("x", type), Value("y", patch)], opsets={"": 21})
    given, near = graph.inputs
    far = near
    weight = graph.add_weight("weight", kernels(np.random.default_rng(0)))

    def convolve(source: Value, name: str) -> Value:
        made: Value = graph.add("Conv", [source, weight], name, patch, pads=[1, 1, 1, 1])
        return made

    made, read = [], []
    for index in range(_FAN):
        near = convolve(near, f"near{index}")
        made.append(graph.add("Neg", [given], f"made{index}", type))
        graph.ops[-1].cluster = graph.ops[-2].cluster = 0
    for index in range(_FAN + _FAN // 4):
        far = convolve(far, f"busy{index}")
    for index, value in enumerate(made):
        read.append(graph.add("Neg", [value], f"read{index}", type))
        far = convolve(far, f"far{index}")
    for op in graph.ops:
        op.cluster = 1 if op.cluster is None else 0
    graph.set_outputs([near, far, *read])
    return graph


def _kernel(backend: Backend, count: int, rounds: int) -> float:
    """Median µs of one such op among others on its worker."""
    graph = _chain(count)
    _put_on_one_worker(graph)
    times = backend.profile(graph, {"x": np.ones(count, np.float32)}, 1, rounds)
    return statistics.median(times.values())


def image(size: int) -> Type:
    """The type of an image of `CHANNELS` channels, of so many pixels each way."""
    return Type(DType.F32, (1, CHANNELS, size, size))


def kernels(rng: np.random.Generator) -> Tensor:
    """Weights of a convolution of such images, 3 by 3."""
    return Tensor.of(rng.normal(0, 0.06, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32))


def _put_on_one_worker(graph: Graph) -> None:
    for op in graph.ops:
        op.cluster = 0


def _record(backend: Backend, graph: Graph, rounds: int) -> list[Trace]:
    """Traces of the clusters as they are, one thread each."""
    with _emitted(backend, graph) as folder:
        return record(folder, random_inputs(graph), rounds=rounds)


@contextmanager
def _emitted(backend: Backend, graph: Graph) -> Iterator[Path]:
    """The artifact of the clusters as they are, for as long as the context is open."""
    plan = make_plan(graph, threads=1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "artifact"
        yield write_artifact(plan, simulate(plan, AnalyticCosts()), backend, folder)
