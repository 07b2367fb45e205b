"""SqueezeNet's model.py is a committed golden file: pytest --update-golden writes it anew."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ramiel_backends.torch.backend import TorchBackend
from ramiel_ir import artifact
from ramiel_ir.costs import AnalyticCosts
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.pipeline import Context, PassManager
from ramiel_ir.plan import Plan, make_plan, simulate
from ramiel_models import build
from tests.backends.torch.helpers import lint, reference

GOLDEN = Path(__file__).parent / "golden" / "squeezenet.py"
PASSES = "fold,dce,cluster,merge{max-clusters=2}"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """SqueezeNet on two workers: the plan and the artifact's folder."""
    context = Context(costs=AnalyticCosts())
    backend = TorchBackend()
    graph = backend.prepare(read_onnx(build("squeezenet")), context)
    PassManager.parse(PASSES, context).run(graph)
    backend.check(graph)
    plan = make_plan(graph)
    folder = tmp_path_factory.mktemp("squeezenet") / "out"
    artifact.write_artifact(plan, simulate(plan, context.costs), backend, folder)
    return plan, folder


def test_golden_file(compiled: tuple[Plan, Path], update_golden: bool) -> None:
    text = (compiled[1] / "model.py").read_text()
    if update_golden:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "pytest --update-golden accepts the difference"


def test_it_reads_well(compiled: tuple[Plan, Path]) -> None:
    path = compiled[1] / "model.py"
    lint(path)
    text = path.read_text()
    assert max(map(len, text.splitlines())) <= 100
    for number in range(2, 10):
        assert f"fire{number}_expand3x3_conv = F.conv2d(" in text
        assert f"fire{number}_concat = torch.cat(" in text
    assert re.search(r"port\.send\(\d+, fire5_squeeze_relu\)  # to worker 1", text)
    ops = re.findall(r"^        \w+ = (?!port)", text, re.MULTILINE)
    assert len(ops) == len(compiled[0].graph.ops)


def test_it_computes_squeezenet_with_ramiel_ir_uninstalled_and_after_an_edit(
    compiled: tuple[Plan, Path], tmp_path: Path
) -> None:
    out = shutil.copytree(compiled[1], tmp_path / "out")
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    np.savez(tmp_path / "x.npz", image=image)
    expected = reference(build("squeezenet"), {"image": image})["probabilities"]
    np.testing.assert_allclose(_run(out, tmp_path), expected, rtol=1e-3, atol=1e-5)
    model = out / "model.py"
    text = model.read_text()
    last = text[text.index("        probabilities = ") :].splitlines()[0]
    model.write_text(text.replace(last, f"{last}\n        probabilities = probabilities * 2"))
    np.testing.assert_allclose(_run(out, tmp_path), 2 * expected, rtol=1e-3, atol=1e-5)


def _run(folder: Path, scratch: Path) -> np.ndarray:
    """The artifact's output in a Python that finds nothing of this repository."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(('ramiel_ir', 'ramiel_backends')))\n"
    (scratch / "sitecustomize.py").write_text(blocked)
    command = [sys.executable, str(folder / "model.py"), "--isolation", "thread"]
    command += ["--inputs", "x.npz", "--outputs", "y.npz"]
    done = subprocess.run(
        command,
        cwd=scratch,
        env={**os.environ, "PYTHONPATH": str(scratch)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return np.load(scratch / "y.npz")["probabilities"]
