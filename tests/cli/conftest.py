"""The fixture that calls the command line."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from ramiel_ir import cli
from tests.cli.calls import (
    DONE,
    Cli,
    Result,
    X,
    fork,
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Calls `ramiel-ir` in this process, in a folder that holds fork.onnx and x.npz."""
    monkeypatch.chdir(tmp_path)
    onnx.save(fork(), "fork.onnx")
    np.savez("x.npz", x=X)

    def call(*args: object, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "argv", ["ramiel-ir", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = DONE
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else DONE
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call
