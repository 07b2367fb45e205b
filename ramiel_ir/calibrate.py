"""Fits the analytic cost model to this machine, once per backend; the result is cached."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ramiel_ir.artifact import load, write_artifact
from ramiel_ir.backend import Backend, find_backend
from ramiel_ir.costs import AnalyticCosts, MessageCosts
from ramiel_ir.inputs import random_inputs
from ramiel_ir.ir import DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.machine import describe_machine, rounds_of, usable_cores
from ramiel_ir.measured import FORMAT_VERSION
from ramiel_ir.pipeline import Context
from ramiel_ir.plan import make_plan, simulate
from ramiel_ir.trace import Trace, record

_log = logging.getLogger("ramiel_ir")

_CHANNELS, _SIZE, _SMALL, _CHAIN = 64, 56, 14, 16
_HOPS, _FAN = 32, 64
_TURNS = 3
_MESSAGE_SIZES = (1 << 8, 1 << 15)  # floats per message


def cache_file(backend: str) -> Path:
    """Where the calibration of a backend is kept: under XDG_CACHE_HOME, or ~/.cache.

    Raises `FileNotFoundError` for a user who has neither.
    """
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        raise FileNotFoundError("there is no home folder, and XDG_CACHE_HOME is not set") from None
    return Path(base) / "ramiel-ir" / f"calibration-{backend}.json"


def calibrated_costs(backend: str) -> AnalyticCosts:
    """The analytic model as calibrated on this machine, with its defaults where it was not."""
    return _cached(backend) or AnalyticCosts()


def _cached(backend: str) -> AnalyticCosts | None:
    try:
        found = json.loads(cache_file(backend).read_text())
        if found.pop("machine") != describe_machine():
            return None
        if found.pop("format_version") != FORMAT_VERSION:  # its messages meant something else
            return None
        messages = MessageCosts(**{k: float(v) for k, v in found.pop("messages").items()})
        rates = {name: float(value) for name, value in found.items()}
        return AnalyticCosts(**rates, messages=messages)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def calibrate_once(backend: str) -> AnalyticCosts:
    """The analytic model as calibrated on this machine, which is done now if it never was.

    Where the cache cannot be written this is done each time, with a warning.
    """
    known = _cached(backend)
    if known is not None:
        return known
    try:
        return calibrate(backend)
    except OSError as error:
        _log.warning("the calibration of %s is not kept: %s", backend, error)
        return fit(backend)


def calibrate(backend: str, *, rounds: int = 20) -> AnalyticCosts:
    """Fit the model and cache it. Raises before measuring where the cache cannot be written."""
    path = cache_file(backend)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        found = fit(backend, rounds=rounds)
        described = {
            "machine": describe_machine(),
            "format_version": FORMAT_VERSION,
            **dataclasses.asdict(found),
        }
        whole = Path(scratch) / path.name
        whole.write_text(json.dumps(described, indent=1) + "\n")
        whole.replace(path)  # others may be reading it
    return found


def fit(backend: str, *, rounds: int = 20) -> AnalyticCosts:
    """Measure convolutions, walks over memory, tiny ops and messages."""
    emitter = find_backend(backend)
    cores = usable_cores()
    context = Context(workers=2, threads=1, backend=backend)
    graph, inputs = _workload()
    graph = emitter.prepare(graph, context)
    for op in graph.ops:
        op.cluster = 0
    alone, together = profile_in_turns(emitter, graph, inputs, (1, cores), rounds)

    def micros(times: dict[str, float], ops: list[Op]) -> float:
        return statistics.median(times[op.label.removeprefix("%")] for op in ops)

    convolutions, small = (
        [op for op in graph.ops if _is_conv(op, size)] for size in (_SIZE, _SMALL)
    )
    tiny = [op for op in graph.ops if op.kind == "Neg" and _count(op) < 1000]
    large = [op for op in graph.ops if op.kind == "Neg" and _count(op) > 1000]
    overhead = max(0.5, micros(alone, tiny))
    conv = max(1.0, micros(alone, convolutions) - overhead)
    shared = max(1.0, micros(together, convolutions) - micros(together, tiny))
    speedup = max(1.0, min(cores, conv / shared))
    # Ops that gain nothing by threads do not fork: how dear that is shows where a little is gained.
    ideal = overhead + (micros(alone, small) - overhead) / speedup
    flops = 2.0 * _CHANNELS * _CHANNELS * 9 * _SIZE * _SIZE
    traffic = 2.0 * 4 * _CHANNELS * _SIZE * _SIZE
    return AnalyticCosts(
        gflops=flops / conv / 1e3,
        gigabytes_per_second=traffic / max(1.0, micros(alone, large) - overhead) / 1e3,
        overhead=overhead,
        scaling=(speedup - 1) / max(1, cores - 1),
        fork=max(0.0, micros(together, small) - ideal),
        messages=measure_messages(emitter, rounds),
    )


def profile_in_turns(
    emitter: Backend,
    graph: Graph,
    inputs: Mapping[str, Any],
    threads: Sequence[int],
    rounds: int,
) -> list[dict[str, float]]:
    """µs of each op for each number of threads, over turns that alternate between them.

    A second in which others use the machine spoils one turn, and the median passes it over. With
    several threads, which wait for the slowest of them at every op, most turns may be spoiled: the
    best one counts, so that a gate compares with what a sequential plan can do.
    """
    turns = [
        {number: emitter.profile(graph, inputs, number, -(-rounds // _TURNS)) for number in threads}
        for _ in range(_TURNS)
    ]
    found = []
    for number in threads:
        seen = [turn[number] for turn in turns]
        if number > 1:
            found.append(min(seen, key=lambda micros: sum(micros.values())))
        else:
            found.append({name: statistics.median(one[name] for one in seen) for name in seen[0]})
    return found


def _is_conv(op: Op, size: int) -> bool:
    return "Conv" in op.kind and _count(op) == _CHANNELS * size * size


def _count(op: Op) -> int:
    type = op.writes[0].type
    return (type.count if type is not None else None) or 0


def _workload() -> tuple[Graph, dict[str, Any]]:
    """Convolutions of 3 by 3 on 64 channels of 56 by 56, negations of the same, and tiny ones.

    Convolutions of 14 by 14 besides, as networks of many branches have them.
    """
    rng = np.random.default_rng(0)
    image, patch, tiny = _image(_SIZE), _image(_SMALL), Type(DType.F32, (16,))
    given = [Value("image", image), Value("patch", patch), Value("tiny", tiny)]
    graph = Graph("workload", given, opsets={"": 21})
    value, piece, other = graph.inputs
    for index in range(_CHAIN):
        weight = graph.add_weight(f"weight{index}", _kernels(rng))
        value = graph.add("Conv", [value, weight], f"conv{index}", image, pads=[1, 1, 1, 1])
        value = graph.add("Neg", [value], f"neg{index}", image)
        piece = graph.add("Conv", [piece, weight], f"piece{index}", patch, pads=[1, 1, 1, 1])
        other = graph.add("Neg", [other], f"tiny{index}", tiny)
    graph.set_outputs([value, piece, other])
    return graph, random_inputs(graph)


def _image(size: int) -> Type:
    return Type(DType.F32, (1, _CHANNELS, size, size))


def _kernels(rng: np.random.Generator) -> Tensor:
    return Tensor.of(rng.normal(0, 0.06, (_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32))


def measure_messages(backend: Backend, rounds: int) -> MessageCosts:
    """Measure messages of two sizes between two workers, in traces of two small graphs."""
    small, large = (_measure_size(backend, count, rounds) for count in _MESSAGE_SIZES)
    difference = 4 * (_MESSAGE_SIZES[1] - _MESSAGE_SIZES[0])

    def per_byte(key: str) -> float:
        return max(0.0, (large[key] - small[key]) / difference)

    return MessageCosts(
        fixed=small["edge"],
        send=small["send"],
        receive=small["receive"],
        send_per_byte=per_byte("send"),
        receive_per_byte=per_byte("receive"),
        segment=small["segment"],
        **_measure_requests(backend, rounds),
    )


def _measure_requests(backend: Backend, rounds: int) -> dict[str, float]:
    """Median µs of a request beside what its workers do: of one worker, of two, and per input."""
    few, shared, many = (
        _latency(backend, _taking(inputs, workers), rounds)
        for inputs, workers in ((1, 1), (1, 2), (_FAN, 1))
    )
    ops = _FAN * _kernel(backend, _MESSAGE_SIZES[0], rounds)
    per_input = max(0.0, (many - few) / (_FAN - 1))
    return {
        "request": max(0.0, few - ops - per_input),
        "wake": max(0.0, shared - few + ops / 2),
        "input": per_input,
    }


def _taking(inputs: int, workers: int) -> Graph:
    """The same small ops whatever the number of inputs that they read."""
    type = Type(DType.F32, (_MESSAGE_SIZES[0],))
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
        "segment": max(0.0, op - _kernel(backend, count, rounds)),
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
    type, image = Type(DType.F32, (count,)), _image(_SMALL)
    graph = Graph("fan", [Value("x", type), Value("y", image)], opsets={"": 21})
    given, near = graph.inputs
    far = near
    weight = graph.add_weight("weight", _kernels(np.random.default_rng(0)))

    def convolve(source: Value, name: str) -> Value:
        made: Value = graph.add("Conv", [source, weight], name, image, pads=[1, 1, 1, 1])
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
    for op in graph.ops:
        op.cluster = 0
    times = backend.profile(graph, {"x": np.ones(count, np.float32)}, 1, rounds)
    return statistics.median(times.values())


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
