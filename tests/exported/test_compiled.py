"""Exports, compiled for two workers by both backends, compute what their modules do."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ramiel_ir
from ramiel_ir.compare import deviation
from ramiel_ir.driver import SIMPLIFY
from ramiel_ir.errors import ModelError, UsageError
from ramiel_ir.interpret import interpret
from tests.exported.cases import CASES, DYNAMO, Case, arrays, built

PASSES = f"{SIMPLIFY},cluster,merge{{max-clusters=2}}"

CHAINS = ("conditional", "quantized", "scripted")
"""Modules without branches, once what depends on constants only is folded."""


def agree(reference: dict[str, np.ndarray], outputs: dict[str, Any]) -> None:
    """All outputs are there, and within the tolerance."""
    assert list(outputs) == list(reference)
    for name, wanted in reference.items():
        seen = deviation(wanted, outputs[name])
        assert seen.agrees, f"{name}: {seen.reason}"


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_a_compiled_export_computes_what_its_module_does(exported, backend, tmp_path):
    folder = tmp_path / "out"
    done = ramiel_ir.compile(exported.model, folder, backend=backend, passes=PASSES, workers=2)
    assert len(done.plan.workers) == (1 if exported.case.name in CHAINS else 2)
    if exported.case.axes(exported.exporter):
        sizes = {tuple(x.shape for x in inputs.values()) for inputs, _ in exported.samples}
        assert len(sizes) > 1
    with ramiel_ir.load(folder, isolation="thread") as model:
        for inputs, reference in exported.samples:
            agree(reference, model.run(inputs, timeout=60.0))


def case(name: str) -> Case:
    (found,) = (case for case in CASES if case.name == name)
    return found


def in_order(folder: Path, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs in order, from inputs in order: the exporter chose the names."""
    manifest = json.loads((folder / "manifest.json").read_text())
    names = [value["name"] for value in manifest["inputs"]]
    with ramiel_ir.load(folder, isolation="thread") as model:
        return list(model.run(dict(zip(names, inputs, strict=True)), timeout=60.0).values())


def computed(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> dict[str, np.ndarray]:
    """What PyTorch computes; the outputs are numbered."""
    with torch.no_grad():
        results = module(*inputs)
    results = results if isinstance(results, tuple) else (results,)
    return {str(number): result.numpy() for number, result in enumerate(results)}


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_compile_takes_a_module_and_example_inputs(backend, tmp_path):
    mlp = case("branched-mlp")
    module, folder = built(mlp), tmp_path / "out"
    done = ramiel_ir.compile(
        module, folder, backend=backend, passes=PASSES, workers=2, example_inputs=mlp.inputs()
    )
    assert len(done.plan.workers) == 2
    inputs = mlp.inputs(seed=3)
    outputs = in_order(folder, *(value.numpy() for value in inputs))
    agree(computed(module, inputs), dict(zip("0", outputs, strict=True)))


def test_read_takes_keyword_inputs_and_dynamic_shapes():
    towers = case("two-towers")
    module, dynamic = built(towers), torch.export.Dim.DYNAMIC
    graph = ramiel_ir.read(
        module,
        dict(zip(towers.input_names, towers.inputs(), strict=True)),
        dynamic_shapes={"images": {0: dynamic}, "texts": {0: dynamic, 1: dynamic}},
    )
    assert [value.name for value in graph.inputs] == list(towers.input_names)
    assert [value.type.is_static for value in graph.inputs] == [False, False]
    for size in towers.sizes(DYNAMO):
        outputs = interpret(graph, arrays(towers, **size))
        agree(
            computed(module, towers.inputs(**size)), dict(zip("01", outputs.values(), strict=True))
        )


def test_a_module_that_only_tracing_exports_is_traced(caplog, tmp_path):
    scripted = case("scripted")
    inputs = scripted.inputs()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        module = torch.jit.script(built(scripted))
    with caplog.at_level("WARNING", "ramiel_ir"):
        ramiel_ir.compile(module, tmp_path / "out", workers=1, example_inputs=inputs)
    assert "tracing the module instead" in caplog.text
    outputs = in_order(tmp_path / "out", *(value.numpy() for value in inputs))
    agree(computed(module, inputs), dict(zip("0", outputs, strict=True)))


def test_a_module_without_example_inputs_is_refused():
    with pytest.raises(UsageError, match="needs example inputs"):
        ramiel_ir.read(torch.nn.Linear(2, 2))


def test_a_module_that_nothing_exports_is_refused_with_both_reasons():
    class Unsteady(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("no export of me")

    with pytest.raises(ModelError, match=r"dynamo: .*; tracing: no export of me"):
        ramiel_ir.read(Unsteady(), (torch.ones(2),))


@pytest.mark.parametrize("fits", [True, False])
def test_an_export_leaves_the_modules_modes_as_they_were(fits):
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    module.train()
    module[0].eval()
    inputs = (torch.ones(1, 2 if fits else 3),)
    if fits:
        kinds = [op.kind for op in ramiel_ir.read(module, inputs).ops]
        assert "Dropout" not in kinds
    else:
        with pytest.raises(ModelError, match="cannot export"):
            ramiel_ir.read(module, inputs)
    assert [part.training for part in module.modules()] == [True, False, True]
