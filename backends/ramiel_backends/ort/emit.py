"""Writes an ort artifact: model.py, and the sessions' model files with the weights they share."""

from __future__ import annotations

import json
from pathlib import Path

from ramiel_backends.ort.calls import Call, Stage, all_stages, whole_model
from ramiel_backends.ort.files import ModelFiles
from ramiel_backends.ort.sessions import FusedGraph
from ramiel_backends.ort.source import count, maker_source, micros, model_source
from ramiel_backends.runtime.backend_ort import HOST, host
from ramiel_ir.ir import Graph, Op, Value
from ramiel_ir.plan import Plan, Timeline, computed_outputs

PORTABLE = "portable.onnx"
_HARDWARE_DOMAINS = ("com.microsoft.nchwc", "com.ms.internal.nhwc")


def emit_files(plan: Plan, timeline: Timeline, folder: Path) -> list[Path]:
    """Write everything but the runtime; the files that only we write."""
    if not plan.graph.ops:
        (folder / "model.py").write_text(model_source("0 ops.", [], 0, False), encoding="utf-8")
        return []
    if plan.is_sequential:
        return _emit_sequential(plan, timeline, folder)
    return _emit_parallel(plan, timeline, folder)


def _emit_sequential(plan: Plan, timeline: Timeline, folder: Path) -> list[Path]:
    """One session, which optimises the unfused graph itself when it is loaded."""
    graph = plan.graph.portable if isinstance(plan.graph, FusedGraph) else plan.graph
    what = f"{count(graph.ops)} in one session"
    maker, files = _whole(plan, graph, "worker_0", f"Worker 0: {what}.", folder)
    summary = f"{what}; predicted {micros(timeline.makespan)} µs."
    text = model_source(summary, [maker], 1, portable=False)
    (folder / "model.py").write_text(text, encoding="utf-8")
    return files


def _whole(plan: Plan, graph: Graph, name: str, doc: str, folder: Path) -> tuple[str, list[Path]]:
    outputs = [value.name for value in computed_outputs(plan.graph)]
    stage = whole_model(graph, plan.samples, outputs)
    call = stage.calls[0]
    with ModelFiles(folder, "portable.data") as files:
        files.write(PORTABLE, call.ops, call.inputs, call.outputs)
    maker = maker_source(name, doc, [stage], (), lambda call: f"weights.model({PORTABLE!a})")
    return maker, files.written


def _emit_parallel(plan: Plan, timeline: Timeline, folder: Path) -> list[Path]:
    rows = all_stages(plan, timeline)
    names, written = _write_segments(rows, folder)
    makers = []
    for worker, stages in enumerate(rows):
        calls = [call for stage in stages for call in stage.calls]
        doc = (
            f"Worker {worker}: {count([op for call in calls for op in call.ops])} in {len(calls)} "
            f"segments, predicted {micros(sum(call.micros for call in calls))} µs."
        )
        makers.append(
            maker_source(
                f"worker_{worker}",
                doc,
                stages,
                plan.messages,
                lambda call: f"weights.segment({names[_session_key(call)]!a})",
            )
        )
    portable = False
    if any(op.domain in _HARDWARE_DOMAINS for op in plan.graph.walk()):
        path = folder / HOST
        path.write_text(json.dumps(host(), indent=1) + "\n", encoding="utf-8")
        written.append(path)
        if isinstance(plan.graph, FusedGraph):
            portable = True
            doc = "On other machines: the whole model in one session, run by worker 0."
            graph = plan.graph.portable
            maker, files = _whole(plan, graph, "portable", doc, folder)
            makers.append(maker)
            written += files
    summary = (
        f"{count(plan.graph.ops)} on {len(rows)} workers; predicted {micros(timeline.makespan)} µs."
    )
    text = model_source(summary, makers, len(rows), portable)
    (folder / "model.py").write_text(text, encoding="utf-8")
    return written


_SessionKey = tuple[tuple[Op, ...], tuple[Value, ...], tuple[Value, ...]]


def _session_key(call: Call) -> _SessionKey:
    """Calls with the same key share a session: they differ in their samples only."""
    return (call.ops, call.inputs, call.outputs)


def _write_segments(
    rows: list[list[Stage]], folder: Path
) -> tuple[dict[_SessionKey, str], list[Path]]:
    """Write the model files of all calls; their names in the artifact, and all files written."""
    names: dict[_SessionKey, str] = {}
    (folder / "segments").mkdir()
    with ModelFiles(folder / "segments", "weights.data") as files:
        for worker, stages in enumerate(rows):
            for number, call in enumerate(call for stage in stages for call in stage.calls):
                key = _session_key(call)
                if key not in names:
                    file = f"w{worker}_s{number:03}.onnx"
                    files.write(file, *key)
                    names[key] = f"segments/{file}"
    return names, files.written
