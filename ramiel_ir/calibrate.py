"""Fits the analytic cost model to this machine, once per backend; the result is cached."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ramiel_ir.backend import Backend, find_backend
from ramiel_ir.costs import AnalyticCosts, MessageCosts
from ramiel_ir.inputs import random_inputs
from ramiel_ir.ir import DType, Graph, Op, Type, Value
from ramiel_ir.machine import describe_machine, usable_cores
from ramiel_ir.measured import FORMAT_VERSION
from ramiel_ir.messages import CHANNELS, image, kernels, measure_messages
from ramiel_ir.pipeline import Context

_log = logging.getLogger("ramiel_ir")

_SIZE, _SMALL, _CHAIN = 56, 14, 16
_TURNS = 3


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
    flops = 2.0 * CHANNELS * CHANNELS * 9 * _SIZE * _SIZE
    traffic = 2.0 * 4 * CHANNELS * _SIZE * _SIZE
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
    return "Conv" in op.kind and _count(op) == CHANNELS * size * size


def _count(op: Op) -> int:
    type = op.writes[0].type
    return (type.count if type is not None else None) or 0


def _workload() -> tuple[Graph, dict[str, Any]]:
    """Convolutions of 3 by 3 on 64 channels of 56 by 56, negations of the same, and tiny ones.

    Convolutions of 14 by 14 besides, as networks of many branches have them.
    """
    rng = np.random.default_rng(0)
    whole, patch, tiny = image(_SIZE), image(_SMALL), Type(DType.F32, (16,))
    given = [Value("image", whole), Value("patch", patch), Value("tiny", tiny)]
    graph = Graph("workload", given, opsets={"": 21})
    value, piece, other = graph.inputs
    for index in range(_CHAIN):
        weight = graph.add_weight(f"weight{index}", kernels(rng))
        value = graph.add("Conv", [value, weight], f"conv{index}", whole, pads=[1, 1, 1, 1])
        value = graph.add("Neg", [value], f"neg{index}", whole)
        piece = graph.add("Conv", [piece, weight], f"piece{index}", patch, pads=[1, 1, 1, 1])
        other = graph.add("Neg", [other], f"tiny{index}", tiny)
    graph.set_outputs([value, piece, other])
    return graph, random_inputs(graph)
