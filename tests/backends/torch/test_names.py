"""Names: cleaned, unique, never Python's own; hostile ones do no harm."""

from __future__ import annotations

import ast
import builtins
import keyword
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramiel_backends.torch.names import HINT_LENGTH, Namespace, clean
from tests.backends.torch.helpers import assert_same, emit, reference, run

HOSTILE = (
    '");import os#',
    "class",
    "match",
    "print",
    "torch",
    "port",
    "worker_0",
    "a.b",
    "a_b",
    "A_B",
    "new\nline",
    "carriage\rreturn",
    "ﬁ",  # a ligature that NFKC turns into the next one
    "fi",
    "x" * 300,
    "x" * 299 + "y",
    "words " * 60,
    " ",
    "_",
    "__class__",
    "l",
    "{0}",
    "%s",
    '"""',
    "\\",
    "0",
    "ключ",
    "\u2028",
)


@given(st.lists(st.text(max_size=60), max_size=20))
def test_every_name_is_an_identifier_of_its_own(texts: list[str]) -> None:
    space = Namespace(["taken"])
    found = [space.name(text) for text in texts]
    assert len(set(found)) == len(found)
    for name in found:
        assert name.isidentifier() and name.isascii() and name == name.lower()
        assert not keyword.iskeyword(name) and not keyword.issoftkeyword(name)
        assert not hasattr(builtins, name) and name not in ("torch", "port", "taken", "_", "l")
    again = Namespace(["taken"])
    assert [again.name(text) for text in texts] == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/features/3/squeeze/Conv_output_0", "features_3_squeeze_conv"),
        ("fire2.expand1x1.relu", "fire2_expand1x1_relu"),
        ("123", "v123"),
        ("", "value"),
        ("/encoder/layer.0/attention/self/query/MatMul", "layer_0_attention_self_query_matmul"),
    ],
)
def test_hints_keep_what_tells(text: str, expected: str) -> None:
    assert clean(text) == expected
    assert len(clean(text)) <= HINT_LENGTH


def test_hostile_names_do_no_harm(tmp_path: Path) -> None:
    """A chain of ops through all hostile names, some of them inputs, outputs and weights."""
    f32 = onnx.TensorProto.FLOAT
    info = [oh.make_tensor_value_info(name, f32, [2, 3]) for name in HOSTILE]
    nodes, last = [], HOSTILE[0]
    for index, name in enumerate(HOSTILE[1:]):
        nodes.append(oh.make_node("Add", [last, f"w {index}\n"], [name], name=name))
        last = name
    weights = [
        oh.make_tensor(f"w {index}\n", f32, [3], [index, 1, 2]) for index in range(len(nodes))
    ]
    graph = oh.make_graph(nodes, '"""\nimport os', info[:1], info[1:], weights)
    model = oh.make_model(graph, ir_version=10, opset_imports=[oh.make_opsetid("", 21)])
    feeds = {HOSTILE[0]: np.ones((2, 3), np.float32)}
    for workers in (1, 3):
        text = emit(model, tmp_path / str(workers), workers)
        assert text.isascii()
        names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        assert "os" not in names
        assert_same(run(tmp_path / str(workers), feeds), reference(model, feeds))


def test_model_text_stays_out_of_comments_and_docstrings(tmp_path: Path) -> None:
    """The model's own spellings appear in literals only."""
    f32 = onnx.TensorProto.FLOAT
    x, y = (oh.make_tensor_value_info(name, f32, [2]) for name in ("In Put", "Out\rPut"))
    graph = oh.make_graph([oh.make_node("Neg", ["In Put"], ["Out\rPut"])], "Gr\raph", [x], [y])
    text = emit(oh.make_model(graph, ir_version=10), tmp_path / "a")
    assert '= port.input("In Put")' in text
    assert 'port.output("Out\\rPut", out_put)' in text
    assert "gr_aph: 1 op" in text and "\r" not in text
