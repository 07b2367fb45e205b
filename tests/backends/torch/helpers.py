"""Compiling small models with the torch backend, running them, and linting what was written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime

from ramiel_backends.torch.backend import TorchBackend
from ramiel_ir import artifact
from ramiel_ir.costs import StaticCosts
from ramiel_ir.ir import Graph, Op
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.pipeline import Context
from ramiel_ir.plan import Plan, make_plan, simulate

ROOT = Path(__file__).parents[3]


def parse(text: str, opset: int = 21) -> onnx.ModelProto:
    """The model a text in ONNX's own syntax stands for."""
    header = f'<ir_version: 10, opset_import: ["" : {opset}]>\n'
    return onnx.parser.parse_model(header + text)


def spread(graph: Graph, workers: int) -> Graph:
    """`graph` with its ops dealt out to the workers in turn, so that most values travel."""
    for index, op in enumerate(graph.ops):
        op.cluster = index % workers
    return graph


def plan_of(graph: Graph, samples: int = 1) -> Plan:
    """The verified plan of a graph with clusters."""
    plan = make_plan(graph, samples=samples)
    plan.verify()
    return plan


def emit(model: onnx.ModelProto | Graph, folder: Path, workers: int = 1, samples: int = 1) -> str:
    """Write the artifact; the text of its model.py, which ruff has nothing to say against."""
    backend = TorchBackend()
    graph = model if isinstance(model, Graph) else read_onnx(model)
    graph = spread(backend.prepare(graph, Context()), workers)
    backend.check(graph)
    plan = plan_of(graph, samples)
    artifact.write_artifact(plan, simulate(plan, StaticCosts()), backend, folder)
    text = (folder / "model.py").read_text()
    lint(folder / "model.py")
    return text


def lint(path: Path) -> None:
    """Fail where ruff's linter or formatter would change something."""
    for command in (["check"], ["format", "--diff"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", "pyproject.toml", str(path)],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def run(folder: Path, inputs: Mapping[str, Any]) -> Any:
    """The outputs of the artifact, its workers being threads."""
    with artifact.load(folder, isolation="thread") as model:
        return model.run(inputs, timeout=60)


def reference(model: onnx.ModelProto, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs by ONNX Runtime without optimisations.

    onnx.reference does not serve here: its loops fail without a condition, and without a turn.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [value.name for value in model.graph.output]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def assert_same(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Fail where two results differ in names, types, shapes or values."""
    assert list(actual) == list(expected)
    for name, wanted in expected.items():
        _assert_equal(actual[name], wanted, name)


def _assert_equal(actual: Any, wanted: Any, name: str) -> None:
    if isinstance(wanted, list):
        assert len(actual) == len(wanted), name
        for one, other in zip(actual, wanted, strict=True):
            _assert_equal(one, other, name)
        return
    actual, wanted = np.asarray(actual), np.asarray(wanted)
    assert actual.dtype == wanted.dtype, (name, actual.dtype, wanted.dtype)
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-6, err_msg=name)


def check(model: onnx.ModelProto, folder: Path, *inputs: Mapping[str, Any]) -> str:
    """Emit for one and for two workers, run both on all inputs, and compare; one worker's text."""
    texts = []
    for workers in (1, 2):
        place = folder / str(workers)
        texts.append(emit(model, place, workers))
        for given in inputs:
            assert_same(run(place, given), reference(model, given))
    return texts[0]


def op_of(graph: Graph, kind: str) -> Op:
    """The first op of a kind."""
    return next(op for op in graph.walk() if op.kind == kind)
