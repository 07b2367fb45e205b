"""Activations that exporters spell out become PyTorch's own, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ramiel_backends.torch.backend import TorchBackend
from ramiel_backends.torch.fusion import fuse_activations
from ramiel_ir.ir import DType, Graph, Op, Type, Value
from ramiel_ir.laws import verify
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.pipeline import Context
from tests.backends.torch.helpers import check, parse

X = {"x": np.linspace(-6, 6, 24, dtype=np.float32).reshape(2, 3, 4)}
ROOT, HALF, ONE = "1.4142135381698608", "0.5", "1.0"


def model_of(lines: str, result: str = "float[2,3,4] y") -> str:
    """A model over x whose lines make y; the constants that a GELU takes have names."""
    constants = "".join(
        f"{name} = Constant <value_float = {value}> ()\n"
        for name, value in (("root", ROOT), ("half", HALF), ("one", ONE), ("inverse", "0.70710677"))
    )
    return f"g (float[2,3,4] x) => ({result}) {{\n{constants}{lines}\n}}"


@pytest.mark.parametrize("product", ["x, s", "s, x"])
def test_silu(product: str, tmp_path: Path) -> None:
    text = check(parse(model_of(f"s = Sigmoid(x)\ny = Mul({product})")), tmp_path, X)
    assert "F.silu(x)" in text and "sigmoid" not in text


@pytest.mark.parametrize(
    "lines",
    [
        "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
        "d = Mul(inverse, x) e = Erf(d) a = Add(one, e) m = Mul(a, half) y = Mul(m, x)",
        "d = Div(x, root) e = Erf(d) a = Add(e, one) h = Mul(half, x) y = Mul(h, a)",
        "h = Mul(x, half) d = Div(x, root) e = Erf(d) a = Add(e, one) y = Mul(a, h)",
    ],
)
def test_gelu(lines: str, tmp_path: Path) -> None:
    text = check(parse(model_of(lines.replace(") ", ")\n"))), tmp_path, X)
    assert "F.gelu(x)" in text and "erf" not in text


@pytest.mark.parametrize(
    "lines",
    [
        "s = Sigmoid(x) n = Neg(x) y = Mul(n, s)",
        "s = Sigmoid(x) y = Mul(s, s)",
        "s = Sigmoid(x) m = Mul(x, s) y = Add(m, s)",
        "s = Sigmoid(x) y = Div(x, s)",
        "d = Div(x, one) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
        "d = Div(x, root) e = Erf(d) a = Add(e, half) m = Mul(x, a) y = Mul(m, half)",
        "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, one)",
        "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(d, a) y = Mul(m, half)",
        "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Div(x, a) y = Mul(m, half)",
        "d = Div(x, root) e = Erf(d) a = Add(e, one) y = Mul(x, a)",
        "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(a, half) y = Div(half, m)",
        "d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) h = Mul(m, half) y = Add(h, a)",
    ],
)
def test_what_only_looks_like_one_stays(lines: str, tmp_path: Path) -> None:
    text = check(parse(model_of(lines.replace(") ", ")\n"))), tmp_path, X)
    assert "silu" not in text and "gelu" not in text


def test_a_result_in_between_that_is_an_output_stays() -> None:
    model = parse(model_of("s = Sigmoid(x)\ny = Mul(x, s)", "float[2,3,4] y, float[2,3,4] s"))
    graph = TorchBackend().prepare(read_onnx(model), Context())
    assert [op.kind for op in graph.ops] == ["Sigmoid", "Mul"]


def test_activations_after_each_other_and_in_regions(tmp_path: Path) -> None:
    model = parse(
        """g (float[2,3,4] x, bool c) => (float[2,3,4] y) {
          s = Sigmoid(x)
          m = Mul(s, x)
          t = Sigmoid(m)
          n = Mul(m, t)
          y = If (c) <
            then_branch = a () => (float[2,3,4] p) { q = Sigmoid(n)
              p = Mul(n, q) },
            else_branch = b () => (float[2,3,4] r) { r = Identity(n) }
          >
        }"""
    )
    graph = TorchBackend().prepare(read_onnx(model), Context())
    verify(graph)
    assert [op.kind for op in graph.walk()].count("QuickGelu") == 3
    for condition in (True, False):
        check(model, tmp_path / str(condition), {**X, "c": np.array(condition)})


def test_ops_without_results_are_no_activation() -> None:
    graph = Graph("g", [Value("x", Type(DType.F32, (4,)))], opsets={"": 21})
    graph.append(Op("Sigmoid", graph.inputs, [None]))
    s = graph.add("Sigmoid", graph.inputs, "s", graph.inputs[0].type)
    graph.append(Op("Mul", [graph.inputs[0], s], [None]))
    fuse_activations(graph)
    assert [op.kind for op in graph.ops] == ["Sigmoid", "Sigmoid", "Mul"]


def test_a_constant_of_a_higher_rank_keeps_its_product() -> None:
    model = parse(
        """g (float[4] x) => (float[1,4] y) {
          root = Constant <value_float = 1.4142135381698608> ()
          one = Constant <value_float = 1.0> ()
          half = Constant <value = float[1,1] {0.5}> ()
          d = Div(x, root)
          e = Erf(d)
          a = Add(e, one)
          m = Mul(x, a)
          y = Mul(m, half)
        }"""
    )
    graph = TorchBackend().prepare(read_onnx(model), Context())
    assert "Gelu" not in [op.kind for op in graph.ops]
