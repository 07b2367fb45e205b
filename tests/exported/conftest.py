"""Every export of every module, for tests of the exports and of what is compiled from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest

from tests.exported.modules import PAIRS, Case, arrays, expected, export

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Export:
    """An exported model, and what PyTorch makes of several inputs."""

    case: Case
    exporter: str
    model: onnx.ModelProto
    samples: tuple[tuple[Arrays, Arrays], ...]
    """Inputs and expected outputs, by name; sizes differ where axes are dynamic."""


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def exported(request: pytest.FixtureRequest) -> Export:
    """One export; a test that takes this runs for all of them."""
    case, exporter = request.param
    model = export(case, exporter)
    samples = [(arrays(case, **size), expected(case, **size)) for size in case.sizes(exporter)]
    return Export(case, exporter, model, tuple(samples))
