"""The plugins of docs/writing-a-pass.md and docs/writing-a-backend.md do what these pages say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.plugins.helpers import DOCS, Shell, files_of, install, shell_with

WEIGHT = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)


def _save(path: Path, nodes: list[onnx.NodeProto], x: str = "x", y: str = "y") -> Path:
    values = [helper.make_tensor_value_info(v, TensorProto.FLOAT, [4, 4]) for v in (x, y)]
    tensors = [numpy_helper.from_array(WEIGHT, "w")]
    graph = helper.make_graph(nodes, "made", values[:1], values[1:], tensors)
    opsets = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def _fork(path: Path, names: tuple[str, ...] = ("x", "h", "left", "right", "y")) -> Path:
    x, hidden, left, right, y = names
    nodes = [
        helper.make_node("MatMul", [x, "w"], [hidden]),
        helper.make_node("Relu", [hidden], [left]),
        helper.make_node("Sigmoid", [hidden], [right]),
        helper.make_node("Add", [left, right], [y]),
    ]
    return _save(path, nodes, x, y)


def _expected(x: np.ndarray) -> np.ndarray:
    hidden = x @ WEIGHT
    return np.maximum(hidden, 0) + 1 / (1 + np.exp(-hidden))


# The passes ---------------------------------------------------------------------------------------


def test_the_plugin_passes_its_own_tests(shell: Shell, plugins: Path, tmp_path: Path) -> None:
    tests = plugins / "cancel" / "tests"
    shell("pytest", "-q", "-p", "no:cacheprovider", tests, cwd=tmp_path)
    case = tests / "cancel.ir"
    passes = "--passes=cancel-transposes,dce"
    output = shell("ramiel_ir", "opt", passes, case, cwd=tmp_path).stdout
    (tmp_path / "output.ir").write_text(output)
    shell("filecheck", case, "--input-file", tmp_path / "output.ir", cwd=tmp_path)


def test_passes_are_listed_with_their_distribution(shell: Shell, tmp_path: Path) -> None:
    listed = shell("ramiel_ir", "opt", "--list-passes", cwd=tmp_path).stdout
    assert "cancel-transposes  (ramiel-cancel)\n    Let who reads" in listed
    assert "    identities=false\n" in listed
    assert "interleave  (ramiel-cancel)\n" in listed
    assert "cluster  (ramiel-ir)\n" in listed


def test_pass_options_and_reasons(shell: Shell, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["i"]),
        helper.make_node("Transpose", ["i"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[1, 0]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[1, 0]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    model = _save(tmp_path / "pairs.onnx", nodes)

    def opt(passes: str) -> subprocess.CompletedProcess[str]:
        return shell("ramiel_ir", "opt", f"--passes={passes}", "--timing", model, cwd=tmp_path)

    plain = opt("cancel-transposes,dce")
    assert plain.stdout.count("Transpose") == 1  # an absent perm is not matched with a given one
    assert "cancel-transposes: changed" in plain.stderr
    assert "Identity" not in opt("cancel-transposes{identities=true},dce").stdout
    assert "unchanged (no two transposes cancel)" in opt(",".join(["cancel-transposes"] * 2)).stderr


def test_plan_pass_makes_artifacts_of_several_samples(shell: Shell, tmp_path: Path) -> None:
    model = _fork(tmp_path / "fork.onnx")
    passes = "cluster,merge{max-clusters=2},interleave{samples=4}"
    for backend in ("ort", "numpy"):
        out = tmp_path / backend
        arguments = (f"--passes={passes}", f"--backend={backend}", "-o", out)
        shell("ramiel_ir", "compile", model, *arguments, cwd=tmp_path)
        x = np.random.default_rng(1).standard_normal((4, 4, 4)).astype(np.float32)
        np.savez(tmp_path / "x.npz", x=x)
        files = ("--inputs", tmp_path / "x.npz", "--outputs", tmp_path / "y.npz")
        command = [sys.executable, out / "model.py", *files, "--isolation", "thread"]
        subprocess.run(command, check=True, timeout=60, cwd=tmp_path)
        found = np.load(tmp_path / "y.npz")["y"]
        np.testing.assert_allclose(found, np.stack([_expected(s) for s in x]), rtol=1e-5)
    refused = shell("ramiel_ir", "opt", "--passes=interleave", model, cwd=tmp_path, code=2)
    assert "interleave works on plans" in refused.stderr


def test_two_distributions_with_one_name_are_named(tmp_path: Path) -> None:
    files = files_of("writing-a-pass.md")
    twin = {
        name.replace("cancel/", "twin/").replace("ramiel_cancel", "ramiel_twin"): text.replace(
            "ramiel-cancel", "ramiel-twin"
        ).replace("ramiel_cancel", "ramiel_twin")
        for name, text in files.items()
    }
    shell = shell_with(install(files | twin, tmp_path))
    done = shell("ramiel_ir", "opt", "--list-passes", cwd=tmp_path, code=2)
    assert done.stdout == ""
    assert "ramiel-cancel" in done.stderr
    assert "ramiel-twin" in done.stderr
    assert "both provide 'cancel-transposes'" in done.stderr
    assert "Traceback" not in done.stderr


# The backend --------------------------------------------------------------------------------------


def test_backend_agrees_with_the_reference(shell: Shell, tmp_path: Path) -> None:
    model = _fork(tmp_path / "fork.onnx")
    options = ("--workers=1,2,3", "--passes=cluster", "--json")
    done = shell("ramiel_ir", "compare", model, "--backends=numpy,ort", *options, cwd=tmp_path)
    rows = json.loads(done.stdout)
    assert [(row["backend"], row["agrees"]) for row in rows] == [
        *[("numpy", True)] * 3,
        *[("ort", True)] * 3,
    ]
    assert rows[1]["used_workers"] == 2


def test_backend_writes_what_the_document_shows(shell: Shell, tmp_path: Path) -> None:
    model = _fork(tmp_path / "fork.onnx")
    options = ("--backend=numpy", "--workers=2", "--passes=cluster", "-o", "out")
    shell("ramiel_ir", "compile", model, *options, cwd=tmp_path)
    text = (tmp_path / "out" / "model.py").read_text()
    shown = (DOCS / "writing-a-backend.md").read_text(encoding="utf-8")
    assert f"```python\n{text}```" in shown, text


def test_backend_has_a_row_for_every_op_it_lists(shell: Shell, tmp_path: Path) -> None:
    listed = json.loads(shell("ramiel_ir", "ops", "--backend=numpy", "--json", cwd=tmp_path).stdout)
    nodes, last = [], "x"
    for number, kind in enumerate(listed):
        operands = [last, "w"] if kind in ("Add", "MatMul", "Mul", "Sub") else [last]
        last = f"v{number}"
        nodes.append(helper.make_node(kind, operands, [last]))
    nodes[-1].output[0] = "y"
    model = _save(tmp_path / "all.onnx", nodes)
    arguments = ("--backends=numpy", "--passes=cluster")
    shell("ramiel_ir", "compare", model, *arguments, cwd=tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ('");import os#', "class", "a.b", "a_b", "y\rimport os"),
        ("a\nb", "{0}", "%s", "v0_0", "w0"),
    ],
    ids=["code", "format"],
)
def test_backend_bears_hostile_names(shell: Shell, tmp_path: Path, names: tuple[str, ...]) -> None:
    model = _fork(tmp_path / "hostile.onnx", names)
    arguments = ("--backends=numpy", "--passes=cluster")
    shell("ramiel_ir", "compare", model, *arguments, cwd=tmp_path)


def test_backend_refuses_before_it_writes(shell: Shell, tmp_path: Path) -> None:
    nodes = [helper.make_node("Sin", ["x"], ["s"]), helper.make_node("Cos", ["s"], ["y"])]
    model = _save(tmp_path / "waves.onnx", nodes)
    arguments = (model, "--backend=numpy", "-o", "out")
    done = shell("ramiel_ir", "compile", *arguments, cwd=tmp_path, code=3)
    assert "Cos × 1 (there is no row for it), Sin × 1" in done.stderr
    assert not (tmp_path / "out").exists()
