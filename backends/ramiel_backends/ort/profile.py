"""Times each op from ONNX Runtime's own profile, and what a session takes beside its ops."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from ramiel_backends.ort.calls import Call, stages
from ramiel_backends.ort.files import ModelFiles
from ramiel_backends.runtime import backend_ort as runtime
from ramiel_ir.ir import Graph
from ramiel_ir.machine import rounds_of
from ramiel_ir.onnx_writer import write_onnx
from ramiel_ir.plan import Compute, Segment, make_plan

_SUFFIX = "_kernel_time"
_PIECE = 5
"""Ops per session where sessions are measured."""


def profile(graph: Graph, inputs: Mapping[str, Any], threads: int, rounds: int) -> dict[str, float]:
    """Median µs of each op, by its first result, in one session over the graph as it is.

    A round is one inference; the first two are not counted. What the profiler itself takes is taken
    off, so that the ops add up to what the session takes without it.
    """
    named = graph.clone()
    labels = {}
    for index, op in enumerate(named.ops):
        op.name = f"op{index}"
        labels[op.name] = op.label.removeprefix("%")
    named.set_outputs(dict.fromkeys(named.outputs))
    runtime.share_allocator()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        write_onnx(named, path)
        alone = _session(path, threads)
        run = _runner(alone, inputs)
        total = statistics.median(_seconds(run) for _ in rounds_of(rounds + 2))
        profiled = _session(path, threads, profile=Path(scratch) / "profile")
        run = _runner(profiled, inputs)
        for _ in rounds_of(rounds + 2):
            run()
        events = json.loads(Path(profiled.end_profiling()).read_text())
    seen: dict[str, list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            name = event["name"].removesuffix(_SUFFIX)
            if name in labels:  # ops inside regions count as part of their owner
                seen.setdefault(labels[name], []).append(float(event["dur"]))
    medians = {label: statistics.median(found[2:]) for label, found in seen.items()}
    return _without_overhead(medians, 1e6 * total)


def session_overhead(graph: Graph, inputs: Mapping[str, Any], rounds: int) -> float:
    """µs by which a session of a few ops takes longer than these ops in a session of all.

    A session has to be started, and what one hands to the next lies in memory of its own, which no
    cache holds, where the ops of one session use the same memory over and over.
    """
    runtime.share_allocator()
    steps = [Compute(op) for op in graph.ops]
    pieces = [steps[index : index + _PIECE] for index in range(0, len(steps), _PIECE)]
    with tempfile.TemporaryDirectory() as scratch:
        with ModelFiles(Path(scratch), "weights.data") as files:
            written = [_write(graph, row, files) for row in (pieces, [steps])]
        more = len(written[0]) - len(written[1])
        if more < 1:
            return 0.0
        apart, whole = (_sequence(calls, inputs) for calls in written)
        pairs = [(_seconds(apart), _seconds(whole)) for _ in rounds_of(2 * rounds + 2)][2:]
    # Others who use the machine make every time longer: the least ones can be compared.
    split, together = map(min, zip(*pairs, strict=True))
    return max(0.0, 1e6 * (split - together) / more)


def _write(
    graph: Graph, pieces: Sequence[Sequence[Compute]], files: ModelFiles
) -> dict[Path, Call]:
    """A model file for each of these pieces of the graph."""
    row = [Segment((), tuple(piece), ()) for piece in pieces]
    found = stages(make_plan(graph, threads=1), row, {})
    return {
        files.write(f"{number}of{len(row)}.onnx", call.ops, call.inputs, call.outputs): call
        for number, call in enumerate(call for stage in found for call in stage.calls)
    }


def _sequence(calls: Mapping[Path, Call], inputs: Mapping[str, Any]) -> Callable[[], None]:
    """What runs the calls one after the other, each in its session."""
    results = runtime.Results()
    sessions = [runtime.Segment(_session(path, 1), 1, results) for path in calls]
    values = dict(inputs)

    def run() -> None:
        for session, call in zip(sessions, calls.values(), strict=True):
            made = session(*(values[value.name] for value in call.inputs))
            values.update(zip((value.name for value in call.outputs), made, strict=True))

    return run


def _session(path: Path, threads: int, profile: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _runner(session: ort.InferenceSession, inputs: Mapping[str, Any]) -> Callable[[], Any]:
    """What runs the session as an artifact runs it, which takes types that numpy lacks as well."""
    segment = runtime.Segment(session, 1, runtime.Results())
    given = [inputs[value.name] for value in session.get_inputs()]
    return lambda: segment(*given)


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _without_overhead(micros: dict[str, float], total: float) -> dict[str, float]:
    """What ops take when nobody looks: each profiled op takes a little longer, all the same.

    At most nine tenths of an op's time are taken off.
    """
    extra = max(0.0, sum(micros.values()) - total) / max(1, len(micros))
    return {label: max(found - extra, found / 10) for label, found in micros.items()}
