"""What the torch backend emits for every op: past the gate, and as ruff would format it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ramiel_backends.torch.backend import TorchBackend
from ramiel_backends.torch.emit import write_source
from ramiel_ir.costs import AnalyticCosts
from ramiel_ir.errors import RamielError
from ramiel_ir.onnx_reader import read_onnx
from ramiel_ir.pipeline import Context
from ramiel_ir.plan import make_plan, simulate
from tests.conformance.cases import cases

CONFIG = Path(__file__).parents[2] / "pyproject.toml"


def test_every_emitted_source_passes_the_gate_and_is_formatted(tmp_path):
    backend = TorchBackend()
    written = refused = 0
    for case in cases("node"):
        try:
            graph = backend.prepare(read_onnx(case.model), Context(backend="torch"))
            backend.check(graph)
        except RamielError:
            refused += 1  # the conformance run holds these to their reasons
            continue
        plan = make_plan(graph)
        text = write_source(plan, simulate(plan, AnalyticCosts())).text  # raises at the gate
        (tmp_path / f"case_{written}.py").write_text(text)
        written += 1
    assert written > 1800 and refused < 30
    command = [sys.executable, "-m", "ruff", "format", "--check", "--config", str(CONFIG)]
    found = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
