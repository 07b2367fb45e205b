"""Every model of the zoo, small, through both backends on two workers, against the reference."""

from __future__ import annotations

from typing import Any

import pytest

import ramiel_models
from ramiel_ir.compare import compare
from ramiel_ir.driver import SIMPLIFY

WORKERS = 2
PASSES = f"{SIMPLIFY},cluster,merge{{max-clusters={WORKERS}}},clone,refine{{budget=2000}}"
"""The parallel plan with a short search."""

SMALL: dict[str, dict[str, Any]] = {
    "squeezenet": {"image_size": 48},
    "googlenet": {"image_size": 48},
    "inception-v3": {"image_size": 107},
    "inception-v4": {"image_size": 107},
    "resnet50": {"image_size": 48},
    "densenet121": {"image_size": 48},
    "nasnet-mobile": {"image_size": 48},
    "nasnet-large": {"image_size": 48},
    "mobilenet-v3-small": {"image_size": 48},
    "shufflenet-v2": {"image_size": 48},
    "hrnet-w18-small": {"image_size": 64},
    "retinanet": {"image_size": 128},
    "yolov5n": {"image_size": 64},
    "yolov5s": {"image_size": 64},
    "bert-base": {"sequence_length": 5},
    "bert-small": {"sequence_length": 5},
    "dlrm": {"batch": 3, "bag_size": 2, "max_rows": 100},
    "bilstm": {"sequence_length": 5},
    "clip-tiny": {"image_size": 32, "sequence_length": 6, "texts": 2},
}
"""Builder options at which the model computes little; its graph is that of the full size."""

CHAINS = ("densenet121", "mobilenet-v3-small")
"""Models that hardly branch; the passes may put them on one worker."""

IN_PROCESSES = ("nasnet-mobile", "bilstm")
"""Models that run in worker processes here; the others run in threads, which start sooner."""

LARGE = {"nasnet-large": "torch", "bert-base": "ort", "inception-v4": "torch", "yolov5s": "ort"}
"""Models whose weights take long to write: one backend each, smaller relatives take both."""


def test_every_model_is_listed() -> None:
    assert SMALL.keys() == ramiel_models.MODELS.keys()


@pytest.mark.parametrize("name", SMALL)
def test_backends_agree_with_the_reference_on_two_workers(name: str) -> None:
    backends = (LARGE[name],) if name in LARGE else ("torch", "ort")
    found = compare(
        ramiel_models.build(name, **SMALL[name]),
        backends=backends,
        workers=(WORKERS,),
        passes=PASSES,
        isolation="process" if name in IN_PROCESSES else "thread",
    )
    assert len(found) == len(backends)
    for one in found:
        assert one.agrees, f"{one.backend}: {one.seen} {one.first}"
        assert one.used_workers == WORKERS or name in CHAINS, one.backend
