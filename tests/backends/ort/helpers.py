"""What the tests of the ort backend share: compile a graph, ask ONNX Runtime for the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import onnxruntime as ort

from ramiel_backends.ort.backend import OrtBackend
from ramiel_ir import artifact
from ramiel_ir.compare import deviation
from ramiel_ir.costs import AnalyticCosts
from ramiel_ir.ir import DType, Graph, Type, Value
from ramiel_ir.onnx_writer import to_onnx
from ramiel_ir.pipeline import Context, PassManager
from ramiel_ir.plan import Plan, make_plan, simulate

F32 = DType.F32


def context(clusters: int) -> Context:
    return Context(costs=AnalyticCosts(), workers=clusters, backend="ort")


def planned(graph: Graph, clusters: int, *, samples: int = 1) -> Plan:
    """The plan of a graph after the backend's own preparation and the usual passes."""
    backend = OrtBackend()
    graph = backend.prepare(graph, context(clusters))
    backend.check(graph)
    passes = f"fold,dce,cluster,merge{{max-clusters={clusters}}}"
    PassManager.parse(passes, context(clusters)).run(graph)
    plan = make_plan(graph, samples=samples)
    plan.verify()
    return plan


def emitted(plan: Plan, folder: Path) -> Path:
    """The artifact of a plan."""
    plan = OrtBackend().arrange(plan, AnalyticCosts())
    timeline = simulate(plan, AnalyticCosts())
    return artifact.write_artifact(plan, timeline, OrtBackend(), folder)


def compiled(graph: Graph, clusters: int, folder: Path) -> Path:
    """The artifact of a graph."""
    return emitted(planned(graph, clusters), folder)


def run_once(folder: Path, inputs: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    with artifact.load(folder, **options) as model:
        return model.run(inputs)


def reference(graph: Graph, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What ONNX Runtime computes with all optimisations off."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = onnx_ir.to_proto(to_onnx(graph)).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))


def assert_close(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Names, types, shapes, and numbers within the one tolerance of the project."""
    assert list(found) == list(expected)
    for name, right in expected.items():
        found_deviation = deviation(right, found[name])
        assert found_deviation.agrees, f"{name}: {found_deviation.reason}"


def random_inputs(graph: Graph, seed: int = 0, **dims: int) -> dict[str, Any]:
    """Seeded numbers for inputs of type f32, symbols replaced by `dims`."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for value in graph.inputs:
        assert value.type is not None and value.type.shape is not None
        shape = [dim if isinstance(dim, int) else dims[str(dim)] for dim in value.type.shape]
        inputs[value.name] = rng.standard_normal(shape).astype(np.float32)
    return inputs


def tensor(*shape: int | str | None, element: DType = F32) -> Type:
    return Type(element, shape)


def graph_of(*inputs: tuple[str, Type], opset: int = 21) -> Graph:
    return Graph("g", [Value(name, type) for name, type in inputs], opsets={"": opset})


def on_workers(graph: Graph, clusters: Sequence[int]) -> Plan:
    """The plan that runs op n in cluster `clusters[n]`."""
    for op, cluster in zip(graph.ops, clusters, strict=True):
        op.cluster = cluster
    plan = make_plan(graph)
    plan.verify()
    return plan
