"""Fits the analytic cost model to this machine, once per backend; the result is cached."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ramiel_ir.artifact import load, write_artifact
from ramiel_ir.backend import Backend, find_backend
from ramiel_ir.costs import AnalyticCosts
from ramiel_ir.ir import DType, Graph, Op, Tensor, Type, Value
from ramiel_ir.machine import describe_machine, usable_cores
from ramiel_ir.pipeline import Context
from ramiel_ir.plan import make_plan, simulate

_CHANNELS, _SIZE, _CHAIN = 64, 56, 16
_HOPS = 32
_MESSAGE_SIZES = (1 << 10, 1 << 18)  # floats per message


def cache_file(backend: str) -> Path:
    """Where the calibration of a backend is kept: under XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ramiel-ir" / f"calibration-{backend}.json"


def calibrated_costs(backend: str) -> AnalyticCosts:
    """The analytic model as calibrated on this machine, with its defaults where it was not."""
    try:
        found = json.loads(cache_file(backend).read_text())
        if found.pop("machine") != describe_machine():
            return AnalyticCosts()
        return AnalyticCosts(**{name: float(value) for name, value in found.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return AnalyticCosts()


def calibrate(backend: str, *, rounds: int = 20) -> AnalyticCosts:
    """Measure convolutions, walks over memory, tiny ops and messages; cache the fit."""
    emitter = find_backend(backend)
    cores = usable_cores()
    context = Context(workers=2, threads=1, cores=cores, backend=backend)
    graph, inputs = _workload()
    graph = emitter.prepare(graph, context)
    for op in graph.ops:
        op.cluster = 0
    alone = emitter.profile(graph, inputs, 1, rounds)
    together = emitter.profile(graph, inputs, cores, rounds) if cores > 1 else alone

    def micros(times: dict[str, float], ops: list[Op]) -> float:
        return statistics.median(times[op.label.removeprefix("%")] for op in ops)

    convolutions = [op for op in graph.ops if "Conv" in op.kind]
    tiny = [op for op in graph.ops if op.kind == "Neg" and _count(op) < 1000]
    large = [op for op in graph.ops if op.kind == "Neg" and _count(op) > 1000]
    overhead = max(0.5, micros(alone, tiny))
    conv = max(1.0, micros(alone, convolutions) - overhead)
    shared = max(1.0, micros(together, convolutions) - micros(together, tiny))
    flops = 2.0 * _CHANNELS * _CHANNELS * 9 * _SIZE * _SIZE
    traffic = 2.0 * 4 * _CHANNELS * _SIZE * _SIZE
    message, _ = measure_messages(emitter, rounds)
    found = AnalyticCosts(
        gflops=flops / conv / 1e3,
        gigabytes_per_second=traffic / max(1.0, micros(alone, large) - overhead) / 1e3,
        overhead=overhead,
        message=message,
        scaling=max(0.0, min(1.0, (conv / shared - 1) / max(1, cores - 1))),
        fork=max(0.0, micros(together, tiny) - overhead),
    )
    path = cache_file(backend)
    path.parent.mkdir(parents=True, exist_ok=True)
    described = {"machine": describe_machine(), **dataclasses.asdict(found)}
    path.write_text(json.dumps(described, indent=1) + "\n")
    return found


def _count(op: Op) -> int:
    type = op.writes[0].type
    return (type.count if type is not None else None) or 0


def _workload() -> tuple[Graph, dict[str, Any]]:
    """Convolutions of 3 by 3 on 64 channels of 56 by 56, negations of the same, and tiny ones."""
    rng = np.random.default_rng(0)
    image = Type(DType.F32, (1, _CHANNELS, _SIZE, _SIZE))
    small = Type(DType.F32, (16,))
    graph = Graph("workload", [Value("image", image), Value("small", small)], opsets={"": 21})
    value, other = graph.inputs
    for index in range(_CHAIN):
        data = rng.normal(0, 0.06, (_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32)
        weight = graph.add_weight(f"weight{index}", Tensor.of(data))
        value = graph.add("Conv", [value, weight], f"conv{index}", image, pads=[1, 1, 1, 1])
        value = graph.add("Neg", [value], f"neg{index}", image)
        other = graph.add("Neg", [other], f"tiny{index}", small)
    graph.set_outputs([value, other])
    shape = (1, _CHANNELS, _SIZE, _SIZE)
    inputs = {"image": rng.normal(size=shape).astype(np.float32), "small": np.ones(16, np.float32)}
    return graph, inputs


def measure_messages(backend: Backend, rounds: int) -> tuple[float, float]:
    """µs per message, and µs per byte: a chain that changes worker at every op against one."""
    extra = []
    for count in _MESSAGE_SIZES:
        graph = Graph("hops", [Value("x", Type(DType.F32, (count,)))], opsets={"": 21})
        value = graph.inputs[0]
        for index in range(_HOPS + 1):
            value = graph.add("Neg", [value], f"v{index}", Type(DType.F32, (count,)))
        graph.set_outputs([value])
        given = {"x": np.ones(count, np.float32)}
        seconds = []
        for alternate in (False, True):
            for index, op in enumerate(graph.ops):
                op.cluster = index % 2 if alternate else 0
            seconds.append(_time_plan(backend, graph, given, 10 * rounds))
        extra.append(1e6 * (seconds[1] - seconds[0]) / _HOPS)
    small, large = extra
    per_byte = max(0.0, (large - small) / (4 * (_MESSAGE_SIZES[1] - _MESSAGE_SIZES[0])))
    return max(0.0, small - 4 * _MESSAGE_SIZES[0] * per_byte), per_byte


def _time_plan(backend: Backend, graph: Graph, inputs: Mapping[str, Any], runs: int) -> float:
    """Median seconds of one inference of the clusters as they are, one thread each."""
    plan = make_plan(graph, threads=1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "artifact"
        write_artifact(plan, simulate(plan, AnalyticCosts()), backend, folder)
        with load(folder) as model:
            found = []
            for _ in range(runs):
                start = time.perf_counter()
                model.run(inputs)
                found.append(time.perf_counter() - start)
    return statistics.median(found[runs // 4 :])
