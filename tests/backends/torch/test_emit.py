"""What model.py holds beyond expressions, and the files beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ramiel_backends import sources
from ramiel_backends.torch import emit as emit_module
from ramiel_backends.torch import gate
from ramiel_backends.torch.backend import TorchBackend
from ramiel_ir import artifact
from ramiel_ir.errors import UnsupportedOpError
from ramiel_ir.ir import Names, Tensor
from ramiel_ir.laws import verify
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.pipeline import Context
from tests.backends.torch.helpers import assert_same, check, emit, parse, reference, run

CHAIN = """g (float[64,64] x) => (float[64,64] y) {
    a = Relu(x)
    b = Neg(a)
    c = Exp(b)
    y = Add(a, c)
}"""
X = np.linspace(-1, 1, 64 * 64, dtype=np.float32).reshape(64, 64)


def test_a_sequential_plan_reads_straight(tmp_path: Path) -> None:
    text = check(parse(CHAIN), tmp_path, {"x": X})
    assert text[text.index("    def run") : text.index("    return run")].split("\n")[1:-2] == [
        '        x = port.input("x")',
        "        a = F.relu(x)",
        "        b = -a",
        "        c = torch.exp(b)",
        "        del b",
        "        y = a + c",
        '        port.output("y", y)',
    ]


def test_messages_are_sent_once_and_named(tmp_path: Path) -> None:
    text = emit(parse(CHAIN), tmp_path / "a", 2)
    assert "        port.send(0, a)  # to worker 1\n" in text
    assert "        c = port.receive(2)  # from worker 0\n" in text
    assert "    To worker 1: a, c\n    From worker 1: b\n" in text
    assert text.count("port.send") == text.count("port.receive") == 3
    assert "# Segment 1 of " in text


def test_results_that_nobody_reads(tmp_path: Path) -> None:
    model = parse("""g (float[6] x) => (float[2] y) {
        y, b, c = Split<num_outputs=3>(x)
        d = Neg(c)
    }""")
    text = check(model, tmp_path, {"x": np.arange(6, dtype=np.float32)})
    assert "y, _, c = " in text and "_ = -c" in text


def test_outputs_that_no_op_computes(tmp_path: Path) -> None:
    graph = read_onnx(parse("g (float[2] x) => (float[2] y) { y = Neg(x) }"))
    weight = graph.add_weight("the.weight", Tensor.of(np.array([1, 2], np.float32)))
    graph.set_outputs([*graph.outputs, graph.inputs[0], weight])
    verify(graph)
    text = emit(graph, tmp_path / "a")
    assert text.count("port.output") == 1
    found = run(tmp_path / "a", {"x": np.array([3, 4], np.float32)})
    assert [list(value) for value in found.values()] == [[-3, -4], [3, 4], [1, 2]]


def test_a_model_without_ops(tmp_path: Path) -> None:
    graph = read_onnx(parse("g (float[2] x) => (float[2] y) { y = Neg(x) }"))
    graph.set_outputs([graph.inputs[0]])
    graph.erase(*graph.ops)
    assert "WORKERS = []" in emit(graph, tmp_path / "a")


def test_samples(tmp_path: Path) -> None:
    model = parse(CHAIN)
    text = emit(model, tmp_path / "a", 2, samples=3)
    assert 'x_s1 = port.input("x", 1)' in text and 'port.output("y", y_s2, 2)' in text
    given = [{"x": X + i} for i in range(3)]
    for found, inputs in zip(run(tmp_path / "a", given), given, strict=True):
        assert_same(found, reference(model, inputs))


def test_long_names_and_many_messages_stay_in_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emit_module, "SMALL", -1)
    names = [f"layer{i}/a_rather_long_scope/with_more_of_it/op" for i in range(60)]
    lines = [f"{a} = Neg({b})" for a, b in zip(names[1:], names, strict=False)]
    body = "\n".join(lines).replace("/", "_")
    first, last = (names[i].replace("/", "_") for i in (0, -1))
    model = parse(f"g (float[2] {first}) => (float[2] {last}) {{ {body} }}")
    check(model, tmp_path, {first: np.array([1, 2], np.float32)})


def test_only_what_is_used_is_copied(tmp_path: Path) -> None:
    emit(parse(CHAIN), tmp_path / "plain")
    assert not (tmp_path / "plain" / "onnx_ops").exists()
    assert not (tmp_path / "plain" / "weights.safetensors").exists()
    model = parse("""g (float[1,1,4,4] x) => (float[1,1,2,2] y, int64[1,1,2,2] i) {
        y, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)
    }""")
    text = emit(model, tmp_path / "pool")
    assert "from onnx_ops import nn\n" in text
    copied = {path.name for path in (tmp_path / "pool" / "onnx_ops").iterdir()}
    assert {"__init__.py", "nn.py"} <= copied and "recurrent.py" not in copied
    given = {"x": np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)}
    assert_same(run(tmp_path / "pool", given), reference(model, given))


def test_two_artifacts_in_one_process_keep_their_own_libraries(tmp_path: Path) -> None:
    model = parse("""g (float[1,1,4,4] x) => (float[1,1,2,2] y, int64[1,1,2,2] i) {
        y, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)
    }""")
    given = {"x": np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)}
    for name in ("a", "b"):
        emit(model, tmp_path / name)
    library = tmp_path / "b" / "onnx_ops" / "nn.py"
    library.write_text(library.read_text() + "\n\ndef max_pool(x, **_):\n    return x, x\n")
    with (
        artifact.load(tmp_path / "a", isolation="thread") as one,
        artifact.load(tmp_path / "b", isolation="thread") as other,
    ):
        assert other.run(given)["y"].shape == (1, 1, 4, 4)
        assert one.run(given)["y"].shape == (1, 1, 2, 2)


def test_every_unsupported_op_is_named(tmp_path: Path) -> None:
    graph = read_onnx(parse(CHAIN))
    graph.ops[0].kind, graph.ops[1].kind, graph.ops[2].kind = "Odd", "Odd", "Stranger"
    with pytest.raises(UnsupportedOpError, match=r"Odd × 2 .*Stranger × 1 .*the first is %a"):
        TorchBackend().check(graph)


def test_prepare_expands_functions_in_place() -> None:
    graph = read_onnx(parse(CHAIN))
    op = graph.ops[1]
    body = read_onnx(parse("f (float[64,64] a) => (float[64,64] b) { t = Abs(a) b = Neg(t) }"))
    op.cluster = 3
    made = graph.splice(op, body, Names(graph))
    verify(graph)
    assert [inner.kind for inner in graph.ops] == ["Relu", "Abs", "Neg", "Exp", "Add"]
    assert [inner.cluster for inner in made] == [3, 3]
    assert made[-1].results[0] is graph.ops[3].operands[0] and made[-1].results[0].name == "b"
    assert TorchBackend().prepare(graph, Context()) is not graph


def test_splice_of_results_that_are_operands_and_twins() -> None:
    graph = read_onnx(
        parse("g (float[6] x) => (float[2] y, float[2] z) { y, z = Split<num_outputs=2>(x) }")
    )
    source = read_onnx(parse("f (float[6] x) => (float[6] q) { q = Abs(x) }"))
    source.set_outputs([source.outputs[0], source.outputs[0]])
    graph.splice(graph.ops[0], source, Names(graph))
    verify(graph)
    assert [value.name for value in graph.outputs] == ["y", "z"]
    assert [op.kind for op in graph.ops] == ["Abs", "Identity"]


def test_an_import_line_that_is_too_long_is_wrapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LIBRARY", "onnx_ops" + "x" * 78)
    monkeypatch.setattr(gate, "check_source", lambda text, libraries: None)
    model = parse("""g (float[1,1,4,4] x) => (float[1,1,2,2] y, int64[1,1,2,2] i) {
        y, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)
    }""")
    assert "import (\n    nn,\n)\n" in emit(model, tmp_path / "a")
