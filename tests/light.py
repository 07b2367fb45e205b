"""The nine light models of onnx's wheel with weights that mean something.

There every weight is one repeated value, made by ConstantOfShape: a swapped branch would pass any
comparison. `light_model` folds them and draws them anew, so that every branch matters.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx.backend.test
import onnx_ir
import onnxruntime as ort

from ramiel_ir.ir import Graph, Op, Tensor, Value
from ramiel_ir.laws import verify
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.onnx_writer import to_onnx
from ramiel_ir.pipeline import PassManager
from ramiel_passes.dce import Dce
from ramiel_passes.fold import Fold

FOLDER = Path(onnx.backend.test.__file__).parent / "data" / "light"
LIGHT = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet",
    "squeezenet", "vgg19", "zfnet512",
)  # fmt: skip

_SPREAD = 2.0  # standard deviation of the last scores: far from uniform, far from saturated


def light_model(name: str, seed: int = 0) -> Graph:
    """Light model `name` with seeded random weights.

    Convolutions and matrix products are scaled by fan-in (He et al. 2015), so that activations
    neither vanish nor explode; variances are positive, biases small. What residual sums still let
    grow, the last layer takes back: its weights are scaled until the scores have a fixed spread.
    """
    graph = read_onnx(FOLDER / f"light_{name}.onnx")
    PassManager([Fold(), Dce()]).run(graph)
    numbers = np.random.default_rng(seed)
    for op in graph.ops:
        for index, value in enumerate(op.operands):
            if value is not None and value.weight is not None and value.weight.dtype.text == "f32":
                _replace(value, _draw(op, index, value.weight.shape, numbers))
    _normalise(graph)
    verify(graph)
    return graph


def light_inputs(graph: Graph, seed: int = 0) -> dict[str, Any]:
    """A standard normal image for each input."""
    numbers = np.random.default_rng(seed)
    found = {}
    for value in graph.inputs:
        assert value.type is not None and value.type.is_static
        shape = [dim for dim in value.type.shape or () if isinstance(dim, int)]
        found[value.name] = numbers.standard_normal(shape, np.float32)
    return found


def run_ort(graph: Graph, inputs: dict[str, Any]) -> list[Any]:
    """The outputs by ONNX Runtime with all optimisations off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    model = onnx_ir.to_proto(to_onnx(graph)).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def _replace(value: Value, array: Any) -> None:
    value.weight = Tensor.of(np.ascontiguousarray(array, np.float32))


def _draw(op: Op, index: int, shape: tuple[int, ...], numbers: np.random.Generator) -> Any:
    normal = numbers.standard_normal(shape, np.float32)
    if op.kind in ("Conv", "Gemm", "MatMul") and index == 1:
        across = op.kind == "Conv" or op.attribute("transB", 0)
        fan_in = math.prod(shape[1:]) if across else shape[0]
        return normal * np.float32(math.sqrt(2 / fan_in))
    if op.kind == "Mul" or (op.kind == "BatchNormalization" and index in (1, 4)):
        return numbers.uniform(0.8, 1.25, shape)  # scales and variances
    return normal * np.float32(0.1)  # biases and means


def _normalise(graph: Graph) -> None:
    """Scale the last layer so that the scores before a softmax have the standard `_SPREAD`."""
    last = next(op for op in reversed(graph.ops) if op.kind in ("Conv", "Gemm"))
    outputs = graph.outputs
    graph.set_outputs(last.writes)
    (scores,) = run_ort(graph, light_inputs(graph))
    graph.set_outputs(outputs)
    for value in last.operands[1:]:
        assert value is not None and value.weight is not None
        _replace(value, value.weight.array * np.float32(_SPREAD / scores.std()))
