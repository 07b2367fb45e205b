"""Whole models agree with ONNX Runtime without optimisations, on any number of workers."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import onnx.backend.test
import pytest

import ramiel_models
from ramiel_backends.ort.sessions import FusedGraph
from ramiel_ir.ir import Graph, Tensor
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.pipeline import PassManager
from tests.backends.ort.helpers import (
    assert_close,
    compiled,
    context,
    emitted,
    on_workers,
    planned,
    random_inputs,
    reference,
    run_once,
)

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


@cache
def zoo_model(name: str, image_size: int) -> Graph:
    return read_onnx(ramiel_models.build(name, image_size=image_size))


@cache
def light_model(name: str) -> Graph:
    """A model of the onnx package whose weights, all of one value, are replaced by random ones."""
    graph = read_onnx(LIGHT / f"light_{name}.onnx")
    PassManager.parse("fold,dce", context(1)).run(graph)
    rng = np.random.default_rng(0)
    for value in graph.weights:
        assert value.weight is not None
        shape = value.weight.shape
        if value.weight.dtype.text != "f32":
            continue
        if len(shape) < 2:
            array = rng.uniform(0.5, 1.5, shape)
        else:
            array = rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
        value.weight = Tensor.of(array.astype(np.float32))
    return graph


@pytest.mark.parametrize("clusters", [1, 2, 4])
@pytest.mark.parametrize("name", ["squeezenet", "googlenet"])
def test_zoo(name: str, clusters: int, tmp_path: Path) -> None:
    graph = zoo_model(name, 64)
    inputs = random_inputs(graph)
    folder = compiled(graph.clone(), clusters, tmp_path / "out")
    assert_close(run_once(folder, inputs), reference(graph, inputs))
    assert (folder / "segments").is_dir() == (clusters > 1)


@pytest.mark.parametrize("name", ["shufflenet", "squeezenet"])
def test_light(name: str, tmp_path: Path) -> None:
    graph = light_model(name)
    inputs = random_inputs(graph)
    expected = reference(graph, inputs)
    folder = compiled(graph.clone(), 2, tmp_path / "out")
    assert_close(run_once(folder, inputs), expected)


def test_unfused_segments(tmp_path: Path) -> None:
    graph = zoo_model("squeezenet", 64).clone()
    inputs = random_inputs(graph)
    expected = reference(graph, inputs)
    passes = "cluster,merge{max-clusters=3}"
    PassManager.parse(passes, context(3)).run(graph)
    plan = on_workers(graph, [op.cluster or 0 for op in graph.ops])
    folder = emitted(plan, tmp_path / "out")
    assert not (folder / "segments" / "host.json").exists()
    assert_close(run_once(folder, inputs), expected)


@pytest.mark.parametrize("seed", range(2))
def test_any_split_of_the_fused_graph(seed: int, tmp_path: Path) -> None:
    """Random clusters put every kind of value, blocked layouts too, on the way between workers."""
    graph = zoo_model("googlenet", 64)
    inputs = random_inputs(graph)
    fused = planned(graph.clone(), 2).graph
    assert isinstance(fused, FusedGraph)
    rng = np.random.default_rng(seed)
    plan = on_workers(fused, [int(rng.integers(3)) for _ in fused.ops])
    assert_close(run_once(emitted(plan, tmp_path / "out"), inputs), reference(graph, inputs))


def test_types_of_the_fused_graph_are_known() -> None:
    graph = planned(zoo_model("squeezenet", 64).clone(), 2).graph
    assert any(op.domain == "com.microsoft.nchwc" for op in graph.ops)
    for value in (value for op in graph.ops for value in op.writes):
        assert value.type is not None and value.type.is_static, value


def test_a_weight_is_stored_once(tmp_path: Path) -> None:
    graph = zoo_model("squeezenet", 64).clone()
    for op in graph.ops:
        op.cluster = 0
    size = sum(value.type.nbytes or 0 for value in graph.weights if value.type is not None)
    shared = max(graph.weights, key=lambda value: value.type.nbytes or 0 if value.type else 0)
    (user,) = shared.users()
    # Another op on the other worker reads the largest weight too.
    extra = graph.add("Relu", [shared], "extra", shared.type)
    graph.set_outputs([*graph.outputs, extra])
    extra.op.cluster = 1
    folder = emitted(on_workers(graph, [op.cluster or 0 for op in graph.ops]), tmp_path / "out")
    assert user.cluster == 0
    stored = (folder / "segments" / "weights.data").stat().st_size
    assert stored < size + 4096 * len(graph.weights)


def test_process_isolation(tmp_path: Path) -> None:
    graph = zoo_model("squeezenet", 64)
    inputs = random_inputs(graph)
    folder = compiled(graph.clone(), 2, tmp_path / "out")
    assert_close(run_once(folder, inputs, isolation="process"), reference(graph, inputs))
