"""Nine real architectures through both backends at 1, 2 and 4 workers, against the reference."""

from __future__ import annotations

from typing import Any

import pytest

from ramiel_ir.compare import Reference, check
from ramiel_ir.driver import make_context, plan_model
from ramiel_ir.ir import Graph
from tests.light import LIGHT, light_inputs, light_model

WORKERS = (1, 2, 4)
CHAINS = ("bvlc_alexnet", "densenet121", "vgg19", "zfnet512")
"""The models without branches worth a second worker."""


@pytest.fixture(scope="module", params=LIGHT)
def model(request) -> tuple[str, Graph, dict[str, Any], Reference, dict[str, Any]]:
    graph = light_model(request.param)
    inputs = light_inputs(graph)
    reference = Reference(graph)
    return request.param, graph, inputs, reference, reference.run(inputs)


@pytest.mark.parametrize("backend", ["torch", "ort"])
def test_agrees_at_every_number_of_workers(backend, model):
    name, graph, inputs, reference, expected = model
    used = []
    for workers in WORKERS:
        pipeline = f"fold,dce,absorb,cluster,merge{{max-clusters={workers}}},clone"
        context = make_context(workers=workers, backend=backend)
        done = plan_model(graph, backend=backend, passes=pipeline, context=context)
        found = check(done, reference, [inputs], [expected], isolation="thread")
        assert found.agrees, f"{workers} workers: {found.first}"
        used.append(found.used_workers)
    assert name in CHAINS or used[1] == 2
    if name.startswith("inception"):
        assert used[2] > 2
