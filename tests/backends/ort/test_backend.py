"""The ort backend's promises: standing alone, other machines, what it refuses, how it cuts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ramiel_models
from ramiel_backends.ort.backend import OrtBackend
from ramiel_backends.ort.fusion import cut, join_segments
from ramiel_backends.ort.identifiers import Identifiers
from ramiel_backends.ort.sessions import FusedGraph, newest_opset
from ramiel_ir import artifact
from ramiel_ir.costs import AnalyticCosts, MessageCosts
from ramiel_ir.errors import ArtifactError, UnsupportedOpError
from ramiel_ir.ir import Graph, Op, Tensor, Value
from ramiel_ir.laws import difference
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.pipeline import PassManager
from ramiel_ir.plan import make_plan, simulate
from tests.backends.ort.helpers import (
    assert_close,
    compiled,
    context,
    emitted,
    graph_of,
    planned,
    random_inputs,
    reference,
    run_once,
    tensor,
)


@pytest.fixture(scope="module")
def squeezenet() -> Graph:
    return read_onnx(ramiel_models.build("squeezenet", image_size=64))


@pytest.fixture
def folder(squeezenet: Graph, tmp_path: Path) -> Path:
    """A hardware-specific artifact of two workers."""
    return compiled(squeezenet.clone(), 2, tmp_path / "out")


_ALONE = """
import sys

sys.modules["ramiel_ir"] = sys.modules["ramiel_backends"] = sys.modules["torch"] = None
sys.path.insert(0, sys.argv[1])
import numpy
import runtime

inputs = dict(numpy.load(sys.argv[2]))
with runtime.load(sys.argv[1]) as model:
    numpy.savez(sys.argv[3], **model.run(inputs))
"""


def test_it_runs_without_us(squeezenet: Graph, folder: Path, tmp_path: Path) -> None:
    inputs = random_inputs(squeezenet)
    np.savez(tmp_path / "x.npz", **inputs)
    files = [str(path) for path in (folder, tmp_path / "x.npz", tmp_path / "y.npz")]
    subprocess.run([sys.executable, "-c", _ALONE, *files], check=True, cwd=tmp_path)
    assert_close(dict(np.load(tmp_path / "y.npz")), reference(squeezenet, inputs))


@pytest.mark.parametrize(
    "change",
    [{"machine": "riscv64"}, {"features": ["avx9"]}, {"onnxruntime": "1.0.0"}],
    ids=lambda change: next(iter(change)),
)
def test_other_machines_run_the_portable_model(
    change: dict[str, object],
    squeezenet: Graph,
    folder: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    _change_host(folder, change)
    for segment in (folder / "segments").glob("*.onnx"):
        segment.write_bytes(b"never read")
    inputs = random_inputs(squeezenet)
    with artifact.load(folder) as model:
        for _ in range(2):
            assert_close(model.run(inputs), reference(squeezenet, inputs))
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("note: ") and next(iter(change)) in line


def _change_host(folder: Path, change: dict[str, object]) -> None:
    path = folder / "segments" / "host.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_without_a_portable_model_other_machines_refuse(folder: Path) -> None:
    _change_host(folder, {"machine": "riscv64"})
    source = (folder / "model.py").read_text().replace("PORTABLE = portable\n", "")
    (folder / "model.py").write_text(source)
    with pytest.raises(ArtifactError, match="compile it again"):
        artifact.load(folder)


def test_damage_is_noticed(folder: Path) -> None:
    path = folder / "segments" / "weights.data"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"weights\.data"):
        artifact.load(folder)


def test_two_models_at_once(squeezenet: Graph, folder: Path, tmp_path: Path) -> None:
    graph = graph_of(("x", tensor(4)))
    graph.set_outputs([graph.add("Neg", [graph.inputs[0]], "y", tensor(4))])
    other = compiled(graph.clone(), 1, tmp_path / "other")
    inputs, x = random_inputs(squeezenet), {"x": np.ones(4, np.float32)}
    expected = reference(squeezenet, inputs)
    with (
        artifact.load(folder) as first,
        artifact.load(other) as second,
        artifact.load(folder) as third,
    ):
        for model in (first, third, first):
            assert_close(model.run(inputs), expected)
            assert second.run(x)["y"].tolist() == [-1.0] * 4


def test_the_same_model_gives_the_same_files(squeezenet: Graph, tmp_path: Path) -> None:
    left, right = (compiled(squeezenet.clone(), 2, tmp_path / name) for name in "ab")
    names = sorted(path.relative_to(left) for path in left.rglob("*") if path.is_file())
    for name in names:
        assert (left / name).read_bytes() == (right / name).read_bytes(), name


def test_prepare_leaves_the_graph_alone(squeezenet: Graph) -> None:
    graph = squeezenet.clone()
    prepared = OrtBackend().prepare(graph, context(2))
    assert difference(graph, squeezenet) is None
    assert isinstance(prepared, FusedGraph)
    assert difference(prepared.portable, squeezenet) is None
    copy = prepared.clone()
    assert difference(copy, prepared) is None and copy.portable is prepared.portable
    alone = OrtBackend().prepare(graph, context(1))
    assert difference(alone, squeezenet) is None


def test_what_onnxruntime_cannot_run_is_named() -> None:
    graph = graph_of(("x", tensor(4)))
    y, z = Value("y", tensor(4)), Value("z", tensor(4))
    graph.append(Op("Frobnicate", graph.inputs, [y], domain="somebody"))
    graph.append(Op("Frobnicate", [y], [z], domain="somebody"))
    graph.set_outputs([z])
    prepared = OrtBackend().prepare(graph, context(2))
    with pytest.raises(UnsupportedOpError, match=r"somebody\.Frobnicate × 2 .*the first is %y"):
        OrtBackend().check(prepared)


def test_newer_opsets_are_lowered_where_nothing_changed(tmp_path: Path) -> None:
    graph = graph_of(("x", tensor(4)), opset=newest_opset() + 1)
    graph.set_outputs([graph.add("Neg", [graph.inputs[0]], "y", tensor(4))])
    folder = compiled(graph, 1, tmp_path / "out")
    assert run_once(folder, {"x": np.ones(4, np.float32)})["y"].tolist() == [-1.0] * 4


def test_segments_join_without_a_cycle_or_a_loss(squeezenet: Graph) -> None:
    rng = np.random.default_rng(0)
    fused = planned(squeezenet.clone(), 2).graph
    costs = AnalyticCosts(messages=MessageCosts(segment=200.0))
    saved = 0
    for _ in range(10):
        for op in fused.ops:
            op.cluster = int(rng.integers(3))
        plan = make_plan(fused)
        joined = join_segments(plan, costs)
        joined.verify()
        assert simulate(joined, costs).makespan <= simulate(plan, costs).makespan
        saved += sum(map(len, map(cut, plan.workers))) - sum(map(len, map(cut, joined.workers)))
    assert saved > 0


def test_a_joined_worker_is_one_segment(tmp_path: Path) -> None:
    """Where nobody waits for the other, there is nothing to cut."""
    graph = graph_of(("x", tensor(4)))
    ends = [graph.add("Neg", [graph.inputs[0]], f"y{n}", tensor(4)) for n in range(2)]
    ends = [graph.add("Abs", [end], f"z{n}", tensor(4)) for n, end in enumerate(ends)]
    graph.set_outputs(ends)
    for op, cluster in zip(graph.ops, (0, 1, 0, 1), strict=True):
        op.cluster = cluster
    folder = emitted(make_plan(graph), tmp_path / "out")
    assert len(list((folder / "segments").glob("*.onnx"))) == 2


def test_identifiers() -> None:
    names = Identifiers(("port",))
    hints = ["port", "a.b", "a/b", "A b", "1", "", "ﬁ", "lambda", "list", "x" * 99, "a_b_1"]
    found = [names.fresh(hint) for hint in hints]
    assert found[:7] == ["port_1", "a_b", "a_b_1", "a_b_2", "v_1", "v", "v_2"]
    assert len(set(found)) == len(found)
    assert all(name.isidentifier() and name.isascii() and len(name) < 50 for name in found)


@pytest.mark.parametrize("split", ["sequential", "cluster,merge{max-clusters=2}"])
def test_outputs_that_turn_out_constant_are_not_computed(split: str, tmp_path: Path) -> None:
    """The portable graph still has ops for them; the manifest does not."""
    graph = graph_of(("x", tensor(1, 8, 6, 6)))
    kernels = np.ones((8, 8, 3, 3), np.float32)
    x, weight = graph.inputs[0], graph.add_weight("w", Tensor.of(kernels))
    convolved = [graph.add("Conv", [x, weight], name, tensor(1, 8, 4, 4)) for name in ("y", "z")]
    constant = graph.add("Neg", [weight], "c", tensor(8, 8, 3, 3))
    graph.set_outputs([*convolved, constant])
    plan_context = context(2)
    prepared = OrtBackend().prepare(graph, plan_context)
    PassManager.parse(f"fold,dce,{split}", plan_context).run(prepared)
    folder = emitted(make_plan(prepared), tmp_path / "out")
    if (folder / "segments" / "host.json").exists():
        _change_host(folder, {"machine": "riscv64"})
    found = run_once(folder, random_inputs(graph), isolation="process")
    assert list(found) == ["y", "z", "c"] and (found["c"] == -1).all()
