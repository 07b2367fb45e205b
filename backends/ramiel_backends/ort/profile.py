"""Times each op where ONNX Runtime runs it, from the runtime's own profile."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort

from ramiel_ir.ir import Graph
from ramiel_ir.onnx_io import write_onnx

_SUFFIX = "_kernel_time"


def profile(graph: Graph, inputs: Mapping[str, Any], threads: int, rounds: int) -> dict[str, float]:
    """Median µs of each op, by its first result, in one session over the graph as it is.

    A round is one inference; the first two are not counted.
    """
    named = graph.clone()
    labels = {}
    for index, op in enumerate(named.ops):
        op.name = f"op{index}"
        labels[op.name] = op.label.removeprefix("%")
    named.set_outputs(dict.fromkeys(named.outputs))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        write_onnx(named, path)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for _ in range(rounds + 2):
            session.run(None, dict(inputs))
        events = json.loads(Path(session.end_profiling()).read_text())
    seen: dict[str, list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            name = event["name"].removesuffix(_SUFFIX)
            if name in labels:  # ops inside regions count as part of their owner
                seen.setdefault(labels[name], []).append(float(event["dur"]))
    return {label: statistics.median(found[2:]) for label, found in seen.items()}
