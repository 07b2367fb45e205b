"""Measured costs: µs per op, per message and per byte, on this machine with one backend."""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ramiel_ir.artifact import load, write_artifact
from ramiel_ir.backend import Backend, find_backend
from ramiel_ir.costs import AnalyticCosts, Costs, value_bytes
from ramiel_ir.driver import SIMPLIFY, make_context, read, usable_cores
from ramiel_ir.errors import UsageError
from ramiel_ir.inputs import random_inputs
from ramiel_ir.ir import DType, Graph, Op, Type, Value
from ramiel_ir.pipeline import PassManager
from ramiel_ir.plan import make_plan, simulate

FORMAT_VERSION = 1
_HOPS = 32
_SIZES = (1 << 10, 1 << 18)  # floats per message


@dataclass(frozen=True)
class MeasuredCosts(Costs):
    """Costs read from a profile. Ops it does not know cost what the analytic model says, scaled.

    `ops` holds µs by the name of an op's first result, on one and on all threads; an edge costs
    `message` µs and `per_byte` µs per byte; `scale` is measured over analytic, the median.
    """

    name: ClassVar[str] = "measured"
    backend: str
    ops: Mapping[str, tuple[float, float]]
    message: float
    per_byte: float
    scale: float = 1.0
    machine: str = ""
    model: AnalyticCosts = field(default_factory=AnalyticCosts)

    def estimate_op(self, op: Op, threads: int) -> float:
        known = self.ops.get(op.label.removeprefix("%"))
        if known is None:
            return self.scale * self.model.estimate_op(op, threads)
        return known[0] if threads == 1 else known[1]

    def estimate_edge(self, value: Value) -> float:
        return self.message + self.per_byte * value_bytes(value.type)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the profile as JSON."""
        described = {
            "format_version": FORMAT_VERSION,
            "backend": self.backend,
            "machine": self.machine,
            "message_us": self.message,
            "us_per_byte": self.per_byte,
            "scale": self.scale,
            "ops": {name: list(pair) for name, pair in self.ops.items()},
        }
        Path(path).write_text(json.dumps(described, indent=1) + "\n")

    @staticmethod
    def load(path: str | os.PathLike[str]) -> MeasuredCosts:
        """Read a profile. Raises `UsageError` for a file that is none."""
        try:
            found = json.loads(Path(path).read_text())
            if found["format_version"] != FORMAT_VERSION:
                raise UsageError(f"{str(path)!r} has another format than this version reads")
            return MeasuredCosts(
                found["backend"],
                {name: (float(one), float(all_)) for name, (one, all_) in found["ops"].items()},
                float(found["message_us"]),
                float(found["us_per_byte"]),
                float(found["scale"]),
                found["machine"],
            )
        except OSError as error:
            raise UsageError(f"{str(path)!r} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{str(path)!r} is no profile: {error}") from None


def profile(
    source: Any,
    *,
    backend: str,
    inputs: Mapping[str, Any] | None = None,
    seed: int = 0,
    rounds: int = 20,
    **reading: Any,
) -> MeasuredCosts:
    """Measure a model on this machine: ops in sequence on 1 and on all threads, and messages."""
    emitter = find_backend(backend)
    context = make_context(workers=2, backend=backend)
    original = read(source, **reading)
    given = dict(inputs) if inputs is not None else random_inputs(original, seed=seed)
    graph = emitter.prepare(original, context)
    emitter.check(graph)
    PassManager.parse(f"{SIMPLIFY},sequential", context).run(graph)
    cores = usable_cores()
    alone = emitter.profile(graph, given, 1, rounds)
    together = emitter.profile(graph, given, cores, rounds) if cores > 1 else alone
    ops = {name: (micros, together.get(name, micros)) for name, micros in alone.items()}
    message, per_byte = _measure_messages(emitter, rounds)
    analytic = AnalyticCosts()
    ratios = [
        ops[label][0] / analytic.op(op)
        for op in graph.ops
        if (label := op.label.removeprefix("%")) in ops and analytic.op(op) > 0
    ]
    scale = statistics.median(ratios) if ratios else 1.0
    return MeasuredCosts(backend, ops, message, per_byte, scale, machine())


def machine() -> str:
    """This machine in words: processor, cores this process may use, Python."""
    name = platform.processor() or platform.machine()
    with_model = Path("/proc/cpuinfo")
    if with_model.is_file():
        lines = [line for line in with_model.read_text().splitlines() if "model name" in line]
        name = lines[0].partition(":")[2].strip() if lines else name
    return f"{name}, {usable_cores()} cores, Python {platform.python_version()}"


def _measure_messages(backend: Backend, rounds: int) -> tuple[float, float]:
    """µs per message, and µs per byte: a chain that changes worker at every op against one."""
    extra = []
    for count in _SIZES:
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
    per_byte = max(0.0, (large - small) / (4 * (_SIZES[1] - _SIZES[0])))
    return max(0.0, small - 4 * _SIZES[0] * per_byte), per_byte


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
