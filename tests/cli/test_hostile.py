"""Models whose names try to become code, paths or control characters."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.cli.calls import (
    DONE,
    QUICK,
    UNSUPPORTED,
    Cli,
    X,
    expected,
    fork,
    model,
    python,
    refuses,
)

HOSTILE = {
    "code": ('");import os#', "{x}", "%s", "'''", 'a"""', "\\"),
    "keywords": ("class", "None", "print", "weights", "port", "run"),
    "collisions": ("a.b", "a_b", "a b", "a-b", "a_b_2", "a:b"),
    "lines": ("a\nimport os", "a\rimport os", "a\u2028b", "\x0c", "\x1b[2J", "a\r\n"),
    "letters": ("\u210c", "H", "\uff48", "é", "e\u0301", "名前"),
    "paths": ("../../x", "/etc/passwd", "~", ".", "model.py", "CON"),
}


@pytest.mark.parametrize("backend", ["torch", "ort"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_names_become_correct_programs(run: Cli, kind: str, backend: str) -> None:
    names = HOSTILE[kind]
    onnx.save(fork(names, label=names[1]), "hostile.onnx")
    made = run(
        "compile", "hostile.onnx", "-o", "out", f"--backend={backend}", "--passes=cluster",
        "--workers=2",
    )  # fmt: skip
    assert made.code == DONE, made.err
    np.savez("in.npz", **{names[0]: X}) if "/" not in names[0] else np.save("in.npy", X)
    source = "in.npz" if "/" not in names[0] else "in.npy"
    ran = run("run", "out", f"--inputs={source}", "--isolation=thread")
    assert ran.code == DONE, ran.err
    assert all(letter.isprintable() or letter == "\n" for letter in ran.out)
    assert f"{expected()[0, 0]:.3f}"[:4] in ran.out
    _is_plain(Path("out/model.py").read_text(encoding="utf-8"))
    checked = run("compare", "hostile.onnx", f"--backends={backend}", QUICK, "--isolation=thread")
    assert checked.code == DONE, checked


def _is_plain(source: str) -> None:
    """The source imports what we import and nothing the model says."""
    tree = ast.parse(source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    imported = {alias.name for node in imports for alias in node.names}
    assert imported <= {"torch", "torch.nn.functional", "numpy", "math", "runtime"}
    comments = [line.partition("#")[2] for line in source.splitlines() if "port" not in line]
    assert not any("import" in comment for comment in comments)


def test_hostile_names_print_as_ir_and_read_back(run: Cli) -> None:
    for names in HOSTILE.values():
        text = run("opt", "-", stdin=fork(names, label=names[1]).SerializeToString()).out
        assert run("opt", "-", stdin=text.encode()).out == text


def test_errors_do_not_pass_on_control_characters(run: Cli) -> None:
    nodes = [helper.make_node("Nothing\x1b[2J", ["x"], ["\x1b[2Jy"])]
    onnx.save(model(nodes, y="\x1b[2Jy"), "odd.onnx")
    result = run("compile", "odd.onnx", "-o", "out")
    refuses(result, UNSUPPORTED)
    assert "\x1b" not in result.err
    assert "\x1b" not in run("inspect", "odd.onnx").out
    warned = python("-m", "ramiel_ir", "bench", "odd.onnx", "--no-peers")
    assert warned.returncode == UNSUPPORTED
    assert warned.stderr.count("takes no part") == 2
    assert "\x1b" not in warned.stderr
