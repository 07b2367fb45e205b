"""Every export of every module, for tests of the exports and of what is compiled from them."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.exported.cases import PAIRS, Case, arrays, expected, export

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Export:
    """An exported model, and what PyTorch makes of several inputs."""

    case: Case
    exporter: str
    model: onnx.ModelProto
    samples: tuple[tuple[Arrays, Arrays], ...]
    """Inputs and expected outputs, by name; sizes differ where axes are dynamic."""


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for exports, which the processes of one test run share: exporting takes seconds."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "exports"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def exported(request: pytest.FixtureRequest, exports: Path) -> Export:
    """One export; a test that takes this runs for all of them."""
    case, exporter = request.param
    path = exports / f"{case}-{exporter}.onnx"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.is_file():
            onnx.save(export(case, exporter), path)
    samples = [(arrays(case, **size), expected(case, **size)) for size in case.sizes(exporter)]
    return Export(case, exporter, onnx.load(path), tuple(samples))
