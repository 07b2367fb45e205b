"""The gate lets generated files through, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ramiel_backends.torch import families, gate, layout
from ramiel_backends.torch.table import Site, literal
from ramiel_ir.ir import Attribute, Op, Value

FAMILIES = Path(families.__file__).parent

GOOD = '''"""tiny: 1 op on 1 worker."""

import torch
import torch.nn.functional as F
from onnx_ops import nn


def worker_0(weights):
    """Worker 0: 1 op."""
    w = weights["w"]

    def run(port):
        x = port.input("x")
        y = F.relu(torch.linalg.det(x) + w)
        for step in range(3):
            if bool(y):
                break
            y, _ = nn.max_pool(y, kernel=(3,), dtype=torch.float32)
        del x
        port.output("y", y)

    return run


WORKERS = [worker_0]

if __name__ == "__main__":
    import runtime

    runtime.main(__file__)
'''


def test_generated_code_passes() -> None:
    gate.check_source(GOOD, ["nn"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import torch\n", "import torch\nimport os\n"),
        ("import torch\n", "import torch as os\n"),
        ("from onnx_ops import nn", "from onnx_ops import other"),
        ("from onnx_ops import nn", "from onnx_ops import nn as torch"),
        ("from onnx_ops import nn", "from os import nn"),
        ("from onnx_ops import nn", "from .onnx_ops import nn"),
        ("import runtime", "import runtime, os"),
        ("runtime.main(__file__)", "runtime.main('x')"),
        ("WORKERS = [worker_0]", "WORKERS = [worker_0, print]"),
        ("WORKERS = [worker_0]", "print(1)\nWORKERS = [worker_0]"),
        ("def worker_0(weights):", "def worker_0(weights, x=print(1)):"),
        ("def worker_0(weights):", "@print\ndef worker_0(weights):"),
        ("def run(port):", "def run(port: print(1)):"),
        ("def run(port):", "async def run(port):"),
        ("return run", "return print"),
        ('w = weights["w"]', 'w = __import__("os")'),
        ('w = weights["w"]', 'w = weights.__class__["w"]'),
        ('w = weights["w"]', "w = open('x')"),
        ('w = weights["w"]', "w = [x for x in weights]"),
        ('w = weights["w"]', "w = lambda: 1"),
        ('w = weights["w"]', "w = (v := 1)"),
        ('w = weights["w"]', 'w = f"{weights}"'),
        ('w = weights["w"]', "torch = 1"),
        ('w = weights["w"]', "weights.w = 1"),
        ('w = weights["w"]', 'weights["w"] = 1'),
        ('w = weights["w"]', "import os"),
        ('w = weights["w"]', "global x"),
        ("F.relu(", "eval("),
        ("F.relu(", "getattr(x, 'y')("),
        ("F.relu(", "torch.load("),
        ("F.relu(", "torch.hub.load("),
        ("F.relu(", "torch.serialization.torch("),
        ("F.relu(", "torch.overrides.anything("),
        ("F.relu(", "torch.set_num_threads("),
        ("F.relu(", "x.numpy().dump("),
        ("F.relu(", "x.storage("),
        ("F.relu(", "nn.common.torch.x.load("),
        ("F.relu(", "unknown("),
        ("kernel=(3,)", "**x"),
        ("del x", "with x: pass"),
        ("del x", "while True: import os"),
        ("del x", "assert x"),
        ("del x", "x: print(1) = 2"),
        ("del x", "'\u00e9'"),
        ("del x", "class A: pass"),
        ("del x", "try:\n            pass\n        finally:\n            pass"),
        ('"""tiny: 1 op on 1 worker."""\n', "1\n"),
        ("y = F", "y = ="),
    ],
)
def test_anything_else_is_refused(old: str, new: str) -> None:
    assert old in GOOD
    with pytest.raises(gate.GateError):
        gate.check_source(GOOD.replace(old, new, 1), ["nn"])


def test_expressions() -> None:
    gate.check_expression(layout.parse("a + b[0]"), ["a", "b"])
    with pytest.raises(gate.GateError, match="name 'c'"):
        gate.check_expression(layout.parse("a + c"), ["a", "b"])


def test_the_gate_knows_what_the_op_table_calls() -> None:
    """Rows that no test emits must not fail at their first use."""
    called: set[str] = set()
    for path in FAMILIES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                called |= set(re.findall(r"(?<=[\w)\]}])\.([a-z]\w*)\(", node.value))
    assert len(called) > 100
    for name in called:
        gate.check_expression(layout.parse(f"x.{name}"), ["x"])


def test_model_text_is_a_literal_wherever_it_is_put() -> None:
    """Ops without a schema are not judged before rows see their attributes."""
    text = 'x.dump("y")'
    op = Op("Op", [], [Value("y")], {"a": Attribute("string", text)}, domain="other")
    op.attributes["b"] = Attribute("strings", [text])
    site = Site(op, (), 1)
    one, many = site.attribute("a"), site.attribute("b")
    assert one == text and list(many) == [text]
    for source in (f"{one}", f"{one:>3}", str(one), f"{many[0]}", literal(one)):
        assert ast.literal_eval(source) == text
