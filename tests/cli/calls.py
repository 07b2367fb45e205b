"""What the tests of the command line share: models, results of calls, exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DONE, FAILED, USAGE, UNSUPPORTED = 0, 1, 2, 3
SAMPLES = "--passes=cluster,hypercluster{samples=3,switched=true}"
QUICK = "--passes=cluster"  # the default pipeline searches longer than these models are worth

WEIGHT = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
X = np.array([[0.5, -1.0, 2.0, -0.25]], np.float32)

FORK_NAMES = ("x", "hidden", "left", "right", "y", "w")


def fork(names: Sequence[str] = FORK_NAMES, label: str = "fork") -> onnx.ModelProto:
    """y = relu(h) + sigmoid(h) with h = x · w: two branches."""
    x, hidden, left, right, y, w = names
    nodes = [
        helper.make_node("MatMul", [x, w], [hidden], name=label),
        helper.make_node("Relu", [hidden], [left], name=label),
        helper.make_node("Sigmoid", [hidden], [right], name=f"{label}2"),
        helper.make_node("Add", [left, right], [y], name=y),
    ]
    return model(nodes, x, y, {w: WEIGHT}, label)


def model(
    nodes: Sequence[onnx.NodeProto],
    x: str = "x",
    y: str = "y",
    weights: dict[str, Any] | None = None,
    name: str = "made",
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model of one input and one output, f32[1,4] each; nothing is checked."""
    values = [helper.make_tensor_value_info(v, TensorProto.FLOAT, [1, 4]) for v in (x, y)]
    tensors = [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, name, values[:1], values[1:], tensors)
    opsets = [helper.make_opsetid("", 21), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def expected(x: Any = X) -> Any:
    hidden = x @ WEIGHT
    return np.maximum(hidden, 0) + 1 / (1 + np.exp(-hidden))


@dataclass(frozen=True)
class Result:
    """What a call left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Result]


def refuses(result: Result, code: int, *fragments: str) -> None:
    """One clear error, nothing on stdout, no traceback."""
    assert result.code == code, result
    assert result.out == ""
    assert "Traceback" not in result.err
    assert sum(line.lower().startswith("error: ") for line in result.err.splitlines()) == 1, result
    for fragment in fragments:
        assert fragment in result.err


def python(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60)
